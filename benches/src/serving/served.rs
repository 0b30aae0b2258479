//! A server in this process.
//!
//! It is configured by the flags that an operator would pass, on free ports of the loopback
//! address.

use std::path::Path;

use clap::Parser;
use observatory_inference::Stop;
use observatory_inference::{Server, config};
use tokio::task::JoinHandle;
use tonic::transport::Channel;

/// Serves a store on the CPU, without remembering vectors, until `stop` drains it.
pub(crate) async fn start(store: &Path, stop: &Stop) -> (JoinHandle<()>, Channel) {
    let free = "127.0.0.1:0";
    let flags = ["serving", "--listen", free, "--metrics-listen", free, "--device", "cpu"];
    // Callers of a bench are patient.
    let more =
        ["--max-queue-seconds", "600", "--embedding-cache-mib", "0", "--models-dir", store.to_str().unwrap()];
    let config = config::Args::parse_from(flags.into_iter().chain(more)).check().unwrap();
    let server = Server::bind(&config).await.unwrap();
    let address = format!("http://{}", server.grpc_addr().unwrap());
    let stop = stop.clone();
    let running = tokio::spawn(async move {
        server.run(stop).await.unwrap();
    });
    (running, Channel::from_shared(address).unwrap().connect().await.unwrap())
}

/// The middle one.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
