//! Embed through the gRPC server in this process, from several connections over loopback.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use observatory_inference::shutdown::Stop;
use observatory_inference::{Server, config};
use observatory_proto::inference::v1 as pb;
use pb::embedding_service_client::EmbeddingServiceClient;
use tonic::transport::Channel;

use crate::{ModelArgs, texts};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The texts.
    #[arg(long)]
    texts: PathBuf,
    /// Seconds to measure.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Texts of a call.
    #[arg(long, default_value_t = 256)]
    per_call: usize,
    /// Calls that are always under way.
    #[arg(long, default_value_t = 64)]
    calls: usize,
    /// Connections that carry them.
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// More flags for the server.
    #[arg(last = true)]
    flags: Vec<String>,
}

pub(crate) fn run(of: &ModelArgs, args: &Args) {
    let texts = texts(&args.texts);
    let requests: Arc<Vec<Vec<String>>> = Arc::new(texts.chunks(args.per_call).map(<[_]>::to_vec).collect());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let stop = Stop::default();
        let (server, address) = start(of, args, &stop).await;
        let mut clients = Vec::new();
        for _ in 0..args.connections {
            // Room for whole answers: the default of 64 KiB takes a round trip for every few vectors.
            let endpoint = Channel::from_shared(address.clone()).unwrap();
            let endpoint = endpoint.initial_stream_window_size(4 << 20).initial_connection_window_size(64 << 20);
            let channel = endpoint.connect().await.unwrap();
            clients.push(EmbeddingServiceClient::new(channel).max_decoding_message_size(256 << 20));
        }
        let mut first = clients[0].clone();
        let call = || pb::EmbedRequest { settings: None, texts: vec!["a".to_owned()] };
        while first.embed(call()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let served = Arc::new(AtomicU64::new(0));
        let finish = Instant::now() + Duration::from_secs_f64(args.seconds + 1.0);
        let lines: Vec<_> = (0..args.calls)
            .map(|line| {
                let (requests, served) = (Arc::clone(&requests), Arc::clone(&served));
                let mut client = clients[line % clients.len()].clone();
                tokio::spawn(async move {
                    let mut index = line;
                    while Instant::now() < finish {
                        let texts = requests[index % requests.len()].clone();
                        let count = texts.len();
                        let answer = client.embed(pb::EmbedRequest { settings: None, texts }).await.unwrap();
                        assert!(answer.into_inner().items.iter().all(|item| item.ok));
                        served.fetch_add(count as u64, Ordering::Relaxed);
                        index += 7;
                    }
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (begun, before) = (Instant::now(), served.load(Ordering::Relaxed));
        tokio::time::sleep(Duration::from_secs_f64(args.seconds)).await;
        let (time, count) = (begun.elapsed(), served.load(Ordering::Relaxed) - before);
        futures::future::join_all(lines).await.into_iter().for_each(|line| line.unwrap());
        println!(
            "| {} through gRPC | {:?} {} | {} calls of {} texts under way | {:.0} texts/s |",
            args.texts.file_stem().unwrap().display(),
            of.precision,
            args.flags.join(" "),
            args.calls,
            args.per_call,
            count as f64 / time.as_secs_f64(),
        );
        stop.drain.cancel();
        server.await.unwrap();
    });
}

async fn start(of: &ModelArgs, args: &Args, stop: &Stop) -> (tokio::task::JoinHandle<()>, String) {
    let free = "127.0.0.1:0".to_owned();
    let precision = format!("{:?}", of.precision).to_lowercase();
    let flags = [
        ["--listen", &free],
        ["--metrics-listen", &free],
        ["--device", &of.device],
        ["--precision", &precision],
        ["--vector-cache-mib", "0"],
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
