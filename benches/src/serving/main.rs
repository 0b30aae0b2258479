//! Figures of the serving path: what gRPC costs on top of the forward pass, what overload does to
//! the server, and how fast a language model writes.
//!
//! `cargo run --release --manifest-path benches/Cargo.toml --bin serving -- overhead` prints a
//! table, and so do `overload` (which wants the bin `inference-server` of this package next to it)
//! and `generation`. Each figure is a ratio within one run, over loopback, on models with random
//! weights; the time and the calls in flight are bounded.

#![allow(clippy::unwrap_used, reason = "a bench ends where something is not as it should be")]

mod generation;
mod llama;
mod overhead;
mod overload;
mod served;
mod store;
mod writer;

use clap::{Parser, Subcommand};

#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Embed of 64 texts of 16 tokens against the forward pass of the same rows, in this process.
    Overhead(overhead::Args),
    /// The server on one core, several times more calls than it can serve from another.
    Overload(overload::Args),
    /// A language model that reads, writes, and writes for many at once; compared with llama.cpp if
    /// it is given.
    Generation(generation::Args),
}

fn main() {
    match Args::parse().what {
        What::Overhead(args) => overhead::run(&args),
        What::Overload(args) => overload::run(&args),
        What::Generation(args) => generation::run(&args),
    }
}
