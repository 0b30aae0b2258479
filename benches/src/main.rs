//! Speed of the inference server's encoder against named peers on this machine; writes
//! `RESULTS.md`.
//!
//! `make bench` runs it. Every figure is a ratio to a peer that works in the same run on the same
//! texts, in turns, for the same result; it is taken of processor time (user + system), so that
//! what else runs on the machine weighs on both sides alike. See `figures.rs` for what is measured
//! and `peers.rs` for how.

#![allow(clippy::unwrap_used, reason = "a bench ends where something is not as it should be")]

mod figures;
mod peers;
mod report;
#[path = "serving/store.rs"]
#[allow(dead_code, reason = "shared with the bench of serving, which uses the rest")]
mod store;
mod worker;
mod workload;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};

use figures::{Bench, Kind};

#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Takes the figures and writes them.
    Run(Run),
    /// One side of a comparison, driven over standard input; started by `run`.
    Worker(worker::Args),
}

/// Where things lie, and how long to measure.
#[derive(clap::Args)]
struct Run {
    /// Folder for the model and the texts; made where it is missing.
    #[arg(long, default_value = "data/bench")]
    data: PathBuf,
    /// A Python that has what `requirements.txt` names.
    #[arg(long, default_value = "data/bench/venv/bin/python")]
    python: PathBuf,
    /// A Python that has what `requirements-llama.txt` names; without it language models have no
    /// peer.
    #[arg(long, default_value = "data/bench/llama/bin/python")]
    llama: PathBuf,
    /// Rounds of each comparison.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Figures to take, all by default; the others stay in the report as they are.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Kind>,
    /// Where the results are written.
    #[arg(long, default_value = "benches/RESULTS.md")]
    out: PathBuf,
}

fn main() -> Result<()> {
    match Args::parse().what {
        What::Worker(args) => worker::serve(&args),
        What::Run(args) => {
            let bench = Bench::prepare(&args.data, &args.python, &args.llama, args.rounds)?;
            for kind in Kind::ALL {
                if args.only.is_empty() || args.only.contains(&kind) {
                    let machine = report::Machine::read();
                    // What was measured is kept even where a later figure fails.
                    report::put(&args.out, &machine, &bench.take(kind)?)?;
                }
            }
            Ok(())
        }
    }
}
