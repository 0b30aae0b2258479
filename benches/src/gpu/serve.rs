//! Embed through the gRPC server in this process, from several connections over loopback.
//!
//! Server and clients have runtimes of their own, so that processor time can be split by the
//! names of threads.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use observatory_inference::Stop;
use observatory_inference::{Server, config};
use observatory_proto::inference::v1 as pb;
use pb::embedding_service_client::EmbeddingServiceClient;
use tokio::runtime::{Builder, Runtime};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::{ModelArgs, texts};

/// Flags of the serving bench.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The texts.
    #[arg(long)]
    texts: PathBuf,
    /// Seconds to measure for each.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Texts of a call.
    #[arg(long, value_delimiter = ',', default_value = "256")]
    per_call: Vec<usize>,
    /// How vectors come back: f32, f16, bf16, int8 or binary.
    #[arg(long, value_delimiter = ',', default_value = "f32")]
    encodings: Vec<String>,
    /// Texts that are always under way.
    #[arg(long, default_value_t = 16_384)]
    under_way: usize,
    /// Connections that carry them.
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// More flags for the server.
    #[arg(last = true)]
    flags: Vec<String>,
}

type Client = EmbeddingServiceClient<Channel>;

/// What the clients ask for, and what they count.
struct Load {
    requests: Vec<Vec<String>>,
    encoding: i32,
    finish: Instant,
    /// Texts answered.
    served: AtomicU64,
    /// Calls refused and asked again.
    refused: AtomicU64,
}

/// Runs the bench and prints its table.
pub(crate) fn run(of: &ModelArgs, args: &Args) {
    let texts = texts(&args.texts);
    let (server, client) = (runtime("grpc"), runtime("client"));
    let stop = Stop::default();
    let (running, address) = server.block_on(start(of, args, &stop));
    client.block_on(async {
        let clients = connect(&address, args.connections).await;
        let mut first = clients[0].clone();
        let call = || pb::EmbedRequest { settings: None, texts: vec!["a".to_owned()] };
        while first.embed(call()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        for per_call in &args.per_call {
            for encoding in &args.encodings {
                measure(of, args, &clients, &texts, (*per_call, encoding)).await;
            }
        }
    });
    stop.drain.cancel();
    server.block_on(running).unwrap();
}

fn runtime(name: &str) -> Runtime {
    Builder::new_multi_thread().thread_name(name).enable_all().build().unwrap()
}

async fn connect(address: &str, count: usize) -> Vec<Client> {
    let mut clients = Vec::new();
    for _ in 0..count {
        // Room for whole answers: the default of 64 KiB takes a round trip for every few vectors.
        let endpoint = Channel::from_shared(address.to_owned()).unwrap();
        let endpoint = endpoint.initial_stream_window_size(4 << 20).initial_connection_window_size(64 << 20);
        let channel = endpoint.connect().await.unwrap();
        clients.push(EmbeddingServiceClient::new(channel).max_decoding_message_size(256 << 20));
    }
    clients
}

/// A second to warm up, then the seconds that count.
async fn measure(
    of: &ModelArgs,
    args: &Args,
    clients: &[Client],
    texts: &[String],
    (per_call, encoding): (usize, &str),
) {
    let name = format!("VECTOR_ENCODING_{}", encoding.to_uppercase());
    let load = Arc::new(Load {
        requests: texts.chunks(per_call).map(<[_]>::to_vec).collect(),
        encoding: pb::VectorEncoding::from_str_name(&name).unwrap().into(),
        finish: Instant::now() + Duration::from_secs_f64(args.seconds + 1.0),
        served: AtomicU64::new(0),
        refused: AtomicU64::new(0),
    });
    let calls = args.under_way.div_ceil(per_call);
    let line =
        |line: usize| tokio::spawn(ask(Arc::clone(&load), clients[line % clients.len()].clone(), line));
    let lines: Vec<_> = (0..calls).map(line).collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (begun, before, worked) = (Instant::now(), load.served.load(Ordering::Relaxed), processor_times());
    tokio::time::sleep(Duration::from_secs_f64(args.seconds)).await;
    let (time, count) = (begun.elapsed().as_secs_f64(), load.served.load(Ordering::Relaxed) - before);
    let cores = |(name, ticks): (String, f64)| {
        format!("{name} {:.1}", (ticks - worked.get(&name).unwrap_or(&0.0)) / time)
    };
    let cores: Vec<String> =
        processor_times().into_iter().map(cores).filter(|text| !text.ends_with(" 0.0")).collect();
    futures::future::join_all(lines).await.into_iter().for_each(|line| line.unwrap());
    println!(
        "| {} through gRPC | {:?} {} | {calls} calls of {per_call} texts under way on {} connections | vectors in {encoding} | {:.0} texts/s | refused {} | cores: {} |",
        args.texts.file_stem().unwrap().display(),
        of.precision,
        args.flags.join(" "),
        clients.len(),
        count as f64 / time,
        load.refused.load(Ordering::Relaxed),
        cores.join(", "),
    );
}

/// One call after the other; a call that is refused waits as long as the server says.
async fn ask(load: Arc<Load>, mut client: Client, line: usize) {
    let mut index = line;
    while Instant::now() < load.finish {
        let texts = load.requests[index % load.requests.len()].clone();
        let count = texts.len();
        let settings = Some(pb::EmbedSettings { encoding: load.encoding, ..pb::EmbedSettings::default() });
        match client.embed(pb::EmbedRequest { settings, texts }).await {
            Ok(answer) => {
                assert!(answer.into_inner().items.iter().all(|item| item.ok));
                load.served.fetch_add(count as u64, Ordering::Relaxed);
                index += 7;
            }
            Err(status) => {
                load.refused.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(retry_after(&status)).await;
            }
        }
    }
}

/// The server's hint; any other status ends the bench.
fn retry_after(status: &Status) -> Duration {
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    status.get_error_details().retry_info().and_then(|info| info.retry_delay).unwrap()
}

/// Processor seconds of this process's threads, by name without its number; see proc_pid_stat(5).
fn processor_times() -> BTreeMap<String, f64> {
    let mut times = BTreeMap::new();
    let threads = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    for stat in threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("stat")).ok()) {
        let (name, rest) = stat.split_once('(').and_then(|(_, rest)| rest.rsplit_once(')')).unwrap();
        let name = name.trim_end_matches(|letter: char| letter.is_ascii_digit() || letter == '-');
        let ticks: u64 =
            rest.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum();
        // USER_HZ is 100 on every architecture in use.
        *times.entry(name.to_owned()).or_default() += ticks as f64 / 100.0;
    }
    times
}

async fn start(of: &ModelArgs, args: &Args, stop: &Stop) -> (tokio::task::JoinHandle<()>, String) {
    let free = "127.0.0.1:0".to_owned();
    let precision = format!("{:?}", of.precision).to_lowercase();
    let flags = [
        ["--listen", &free],
        ["--metrics-listen", &free],
        ["--device", &of.device],
        ["--precision", &precision],
        ["--embedding-cache-mib", "0"],
        ["--models-dir", of.store.to_str().unwrap()],
    ];
    let flags = flags.concat().into_iter().map(str::to_owned).chain(args.flags.iter().cloned());
    let config = config::Args::parse_from(std::iter::once("serve".to_owned()).chain(flags)).check().unwrap();
    let server = Server::bind(&config).await.unwrap();
    let address = format!("http://{}", server.grpc_addr().unwrap());
    let stop = stop.clone();
    let running = tokio::spawn(async move {
        server.run(stop).await.unwrap();
    });
    (running, address)
}
