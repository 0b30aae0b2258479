//! Several times more calls than the server can serve, for a minute: what is still served, and
//! how fast the rest is refused.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use observatory_proto::inference::v1 as pb;
use pb::embedding_service_client::EmbeddingServiceClient;
use tokio::sync::Semaphore;
use tonic::Code;
use tonic::transport::Channel;

use crate::store::{self, Random, Shape};

/// Texts of one call, and tokens of one text.
const TEXTS: usize = 16;
const TOKENS: usize = 16;
/// Calls in flight at most, over this many connections.
const IN_FLIGHT: usize = 4_096;
const CONNECTIONS: usize = 16;

/// Flags of the overload bench.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Size of the model.
    #[arg(long, value_enum, default_value = "small")]
    shape: Shape,
    /// How long to offer too much.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// How many times too much.
    #[arg(long, default_value_t = 4.0)]
    factor: f64,
    /// The server's core.
    #[arg(long, default_value_t = 0)]
    server_core: usize,
    /// The core of this process.
    #[arg(long, default_value_t = 1)]
    client_core: usize,
    /// The server's program; by default the one built with this.
    #[arg(long)]
    server: Option<PathBuf>,
}

/// The server's process, ended with this.
struct Server {
    child: Child,
    grpc: String,
    metrics: String,
    log: PathBuf,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    fn start(args: &Args, store: &Path) -> Self {
        let built = || std::env::current_exe().unwrap().with_file_name("inference-server");
        let program = args.server.clone().unwrap_or_else(built);
        let (announce, log) = (store.join("announce.json"), store.join("server.log"));
        let child = Command::new("taskset")
            .args(["-c", &args.server_core.to_string()])
            .arg(&program)
            .args(["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", "--device", "cpu"])
            .args(["--embedding-cache-mib", "0", "--models-dir"])
            .arg(store)
            .arg("--announce-file")
            .arg(&announce)
            .stdin(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap_or_else(|error| panic!("taskset {}: {error}", program.display()));
        let started = Instant::now();
        while !announce.exists() {
            assert!(started.elapsed() < Duration::from_secs(60), "the server does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        let text = std::fs::read_to_string(&announce).unwrap();
        let ports: serde_json::Value = serde_json::from_str(&text).unwrap();
        let port = |name: &str| ports[name].as_str().unwrap().to_owned();
        Self { child, grpc: port("grpc"), metrics: port("metrics"), log }
    }

    /// MiB resident.
    fn resident(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
    }

    /// Seconds on the CPU.
    fn cpu(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        // utime and stime, in hundredths of a second on every Linux.
        (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
    }

    /// Upper bound in seconds and count of each bucket of the rejections' histogram, cumulative.
    fn rejections(&self) -> Vec<(f64, u64)> {
        let mut socket = std::net::TcpStream::connect(&self.metrics).unwrap();
        socket.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        socket.read_to_string(&mut text).unwrap();
        let bucket = |line: &str| {
            let rest = line.strip_prefix("observatory_inference_rejection_seconds_bucket{le=\"")?;
            let (bound, count) = rest.split_once("\"} ")?;
            Some((bound.parse().unwrap_or(f64::INFINITY), count.parse().ok()?))
        };
        text.lines().filter_map(bucket).collect()
    }
}

#[derive(Default)]
struct Counts {
    served: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
    unsent: AtomicU64,
}

impl Counts {
    fn count(&self, code: Option<Code>) {
        let counter = match code {
            None => &self.served,
            Some(Code::ResourceExhausted) => &self.refused,
            Some(_) => &self.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn get(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }
}

/// What a phase came to.
struct Phase {
    /// Texts served per second on the clock, and per second of the server on a CPU.
    wall: f64,
    cpu: f64,
}

struct Bench {
    server: Server,
    clients: Vec<EmbeddingServiceClient<Channel>>,
    requests: Vec<Vec<String>>,
    counts: Arc<Counts>,
}

impl Bench {
    async fn call(&self, index: usize) -> impl Future<Output = ()> + use<> {
        let mut client = self.clients[index % self.clients.len()].clone();
        let texts = self.requests[index % self.requests.len()].clone();
        let counts = Arc::clone(&self.counts);
        async move {
            let answer = client.embed(pb::EmbedRequest { settings: None, texts }).await;
            counts.count(answer.err().map(|status| status.code()));
        }
    }

    async fn measure<F: Future<Output = ()>>(&self, offer: F) -> Phase {
        let (started, cpu, served) = (Instant::now(), self.server.cpu(), Counts::get(&self.counts.served));
        offer.await;
        let texts = ((Counts::get(&self.counts.served) - served) * TEXTS as u64) as f64;
        Phase { wall: texts / started.elapsed().as_secs_f64(), cpu: texts / (self.server.cpu() - cpu) }
    }

    /// Always eight calls in flight.
    async fn closed(&self, time: Duration) {
        let until = Instant::now() + time;
        let lines = (0..8).map(|line| async move {
            let mut index = line;
            while Instant::now() < until {
                self.call(index).await.await;
                index += 8;
            }
        });
        futures::future::join_all(lines).await;
    }

    /// Calls at a fixed rate, whatever becomes of them.
    async fn open(&self, calls_per_second: f64, time: Duration) {
        let (room, started) = (Arc::new(Semaphore::new(IN_FLIGHT)), Instant::now());
        let mut tick = tokio::time::interval(Duration::from_secs_f64(1.0 / calls_per_second));
        for index in 0.. {
            tick.tick().await;
            if started.elapsed() >= time {
                return;
            }
            let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
                self.counts.unsent.fetch_add(1, Ordering::Relaxed);
                continue;
            };
            let call = self.call(index).await;
            tokio::spawn(async move {
                call.await;
                drop(permit);
            });
        }
    }
}

/// Runs the bench and prints its table.
pub(crate) fn run(args: &Args) {
    let own = std::process::id().to_string();
    let pinned = Command::new("taskset")
        .args(["-a", "-cp", &args.client_core.to_string(), &own])
        .stdout(Stdio::null())
        .status();
    assert!(pinned.is_ok_and(|status| status.success()), "taskset cannot pin to core {}", args.client_core);
    let store = store::store(args.shape);
    let server = Server::start(args, store.path());
    let tokenizer = store::tokenizer(store.path());
    let mut random = Random(3);
    let requests = (0..64).map(|_| store::texts(&tokenizer, &mut random, TOKENS, TEXTS)).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS {
            let channel = Channel::from_shared(format!("http://{}", server.grpc)).unwrap();
            clients.push(EmbeddingServiceClient::new(channel.connect().await.unwrap()));
        }
        let bench = Bench { server, clients, requests, counts: Arc::default() };
        while Counts::get(&bench.counts.served) == 0 {
            bench.call(0).await.await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        measure(args, &bench).await;
    });
}

async fn measure(args: &Args, bench: &Bench) {
    bench.closed(Duration::from_secs(3)).await;
    let peak = bench.measure(bench.closed(Duration::from_secs(10))).await;
    let (before, resident) = (bench.server.rejections(), bench.server.resident());
    let (failed, refused) = (Counts::get(&bench.counts.failed), Counts::get(&bench.counts.refused));
    let calls = args.factor * peak.wall / TEXTS as f64;
    let overload = bench.measure(bench.open(calls, Duration::from_secs(args.seconds))).await;
    let growth = (bench.server.resident() / resident - 1.0) * 100.0;
    let (bound, count) = percentile(&before, &bench.server.rejections(), 0.99);
    let log = std::fs::read_to_string(&bench.server.log).unwrap();
    println!(
        "| {:?}, {TEXTS} texts of {TOKENS} tokens a call, {} s at {} times the peak | |",
        args.shape, args.seconds, args.factor
    );
    println!("|---|---|");
    println!(
        "| peak, texts per second (per CPU-second of the server) | {:.0} ({:.0}) |",
        peak.wall, peak.cpu
    );
    println!("| goodput under overload | {:.0} ({:.0}) |", overload.wall, overload.cpu);
    println!("| goodput / peak | {:.3} ({:.3}) |", overload.wall / peak.wall, overload.cpu / peak.cpu);
    println!(
        "| calls offered per second; refused; not sent | {calls:.0}; {}; {} |",
        Counts::get(&bench.counts.refused) - refused,
        Counts::get(&bench.counts.unsent)
    );
    println!("| p99 from decoded to refusal sent, {count} refusals | at most {:.2} ms |", bound * 1e3);
    println!(
        "| calls that failed otherwise; panics | {}; {} |",
        Counts::get(&bench.counts.failed) - failed,
        log.matches("panicked").count()
    );
    println!("| resident memory | {resident:.0} MiB {growth:+.1} % |");
}

/// The bound of the bucket in which this share of what came between the two readings ends, and how
/// many came.
fn percentile(before: &[(f64, u64)], after: &[(f64, u64)], share: f64) -> (f64, u64) {
    let grown: Vec<(f64, u64)> = after
        .iter()
        .enumerate()
        .map(|(at, now)| (now.0, now.1 - before.get(at).map_or(0, |b| b.1)))
        .collect();
    let count = grown.last().map_or(0, |last| last.1);
    let wanted = (count as f64 * share).ceil() as u64;
    (grown.iter().find(|bucket| bucket.1 >= wanted).map_or(0.0, |bucket| bucket.0), count)
}
