//! What everything but the forward pass costs: HTTP/2, protobuf, tokenizing, the queue, the copy of
//! the vectors.

use std::path::Path;
use std::time::{Duration, Instant};

use observatory_inference::Stop;
use observatory_inference::testing::device;
use observatory_inference::testing::device::DeviceChoice;
use observatory_inference::testing::models::{Extras, Model};
use observatory_inference::testing::registry::load;
use observatory_inference::testing::text::Truncation;
use observatory_proto::inference::v1 as pb;
use pb::embedding_service_client::EmbeddingServiceClient;
use tokio::task::JoinHandle;
use tonic::transport::Channel;

use crate::served::{self, median};
use crate::store::{self, MODEL, Random, Shape};

/// Flags of the overhead bench.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Size of the model.
    #[arg(long, value_enum, default_value = "base")]
    shape: Shape,
    /// Pairs of measurements.
    #[arg(long, default_value_t = 11)]
    rounds: usize,
}

/// Time on the clock, and of all threads of this process on a CPU.
#[derive(Clone, Copy)]
struct Spent {
    wall: Duration,
    cpu: Duration,
}

fn spent<T>(work: impl FnOnce() -> T) -> (T, Spent) {
    let (clock, cpu) = (Instant::now(), cpu_time());
    let value = work();
    (value, Spent { wall: clock.elapsed(), cpu: cpu_time() - cpu })
}

fn cpu_time() -> Duration {
    // A sum over threads in nanoseconds; those that ended are not in it, and none ends while the
    // figures are taken.
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    let of = |thread: std::io::Result<std::fs::DirEntry>| {
        let text = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    };
    Duration::from_nanos(threads.filter_map(of).sum())
}

/// Runs the bench and prints its table.
pub(crate) fn run(args: &Args) {
    let store = store::store(args.shape);
    let tokenizer = store::tokenizer(store.path());
    let open = device::open(DeviceChoice::Cpu).unwrap();
    let direct = load(store.path(), MODEL, &open).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _guard = runtime.enter();
    let stop = Stop::default();
    let (server, mut client) = runtime.block_on(serve(store.path(), &stop));

    let mut random = Random(7);
    let (mut forward, mut called) = (Vec::new(), Vec::new());
    for round in 0..=args.rounds {
        let texts = store::texts(&tokenizer, &mut random, 16, 64);
        let encode = |text: &String| tokenizer.encode("", "", text, Truncation::Right).unwrap().ids;
        let rows: Vec<Vec<u32>> = texts.iter().map(encode).collect();
        let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
        let (outputs, alone) = spent(|| direct.network.run(&rows, Extras::default()).unwrap());
        let request = pb::EmbedRequest { settings: None, texts };
        let (answer, through) = spent(|| runtime.block_on(client.embed(request)).unwrap().into_inner());
        assert_eq!((outputs.len(), answer.items.len()), (64, 64));
        // The first round warms up.
        if round > 0 {
            forward.push(alone);
            called.push(through);
        }
    }
    report(args, &forward, &called);
    stop.drain.cancel();
    runtime.block_on(server).unwrap();
}

async fn serve(store: &Path, stop: &Stop) -> (JoinHandle<()>, EmbeddingServiceClient<Channel>) {
    let (running, channel) = served::start(store, stop).await;
    let mut client = EmbeddingServiceClient::new(channel).max_decoding_message_size(64 << 20);
    let request = || pb::EmbedRequest { settings: None, texts: vec!["a".to_owned()] };
    while client.embed(request()).await.is_err() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    (running, client)
}

fn report(args: &Args, forward: &[Spent], called: &[Spent]) {
    let of = |spent: &[Spent], what: fn(&Spent) -> Duration| {
        median(spent.iter().map(|spent| what(spent).as_secs_f64() * 1e3).collect())
    };
    let ratio = |what: fn(&Spent) -> Duration| {
        let pairs = called.iter().zip(forward);
        median(pairs.map(|(c, f)| what(c).as_secs_f64() / what(f).as_secs_f64()).collect())
    };
    println!(
        "| Embed of 64 texts of 16 tokens, {:?}, {} pairs | forward pass | through gRPC | overhead |",
        args.shape, args.rounds
    );
    println!("|---|---|---|---|");
    for (name, what) in [("wall", (|s| s.wall) as fn(&Spent) -> Duration), ("CPU", |s| s.cpu)] {
        let (alone, through) = (of(forward, what), of(called, what));
        println!(
            "| {name} ms (medians) | {alone:.2} | {through:.2} | {:+.1} % |",
            (ratio(what) - 1.0) * 100.0
        );
    }
}
