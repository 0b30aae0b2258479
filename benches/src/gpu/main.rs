//! Models on a GPU: equality of the encoder with a reference, the speed of its forward passes,
//! strings per second through gRPC, and steps of a language model.
//!
//! `scripts/bench-gpu` makes a model of the shape of multilingual-e5-base with random weights, and
//! runs this and sentence-transformers on the same texts. Texts are files of one text a line.

#![allow(clippy::unwrap_used, reason = "a bench ends where something is not as it should be")]

mod compare;
mod forward;
mod serve;
#[cfg(feature = "cuda")]
mod write;

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};
use observatory_inference::testing::device;
use observatory_inference::testing::device::{DeviceChoice, Precision};
use observatory_inference::testing::registry::LoadedModel;
use observatory_inference::testing::registry::load;
use observatory_inference::testing::text::Truncation;

#[derive(Parser)]
struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(subcommand)]
    what: What,
}

/// Which model, where.
#[derive(clap::Args)]
pub(crate) struct ModelArgs {
    /// The model store.
    #[arg(long)]
    store: PathBuf,
    /// Name of the model there.
    #[arg(long, default_value = "bench/e5-base")]
    model: String,
    /// cpu, cuda or cuda:N.
    #[arg(long, default_value = "cuda")]
    device: String,
    /// How it holds weights and activations.
    #[arg(long, value_enum, default_value = "auto")]
    precision: Precision,
}

#[derive(Subcommand)]
enum What {
    /// The vectors against those of a reference, and of each text alone against those in company.
    Compare(compare::Args),
    /// Forward passes in this process.
    Forward(forward::Args),
    /// Embed through the gRPC server, over loopback.
    Serve(serve::Args),
    /// Steps of a language model in this process.
    #[cfg(feature = "cuda")]
    Write(write::Args),
}

impl ModelArgs {
    fn load(&self) -> LoadedModel {
        let choice: DeviceChoice = self.device.parse().unwrap();
        let device = device::open(choice).unwrap().with_precision(self.precision).unwrap();
        load(&self.store, &self.model, &device).unwrap()
    }
}

/// Lines of a file.
fn texts(file: &Path) -> Vec<String> {
    fs::read_to_string(file).unwrap().lines().map(str::to_owned).collect()
}

/// Token ids of each text.
fn rows(model: &LoadedModel, texts: &[String]) -> Vec<Vec<u32>> {
    let encode = |text: &String| model.tokenizer.encode("", "", text, Truncation::Right).unwrap().ids;
    texts.iter().map(encode).collect()
}

fn main() {
    let args = Args::parse();
    observatory_inference::telemetry::init();
    match &args.what {
        What::Compare(what) => compare::run(&args.model, what),
        What::Forward(what) => forward::run(&args.model, what),
        What::Serve(what) => serve::run(&args.model, what),
        #[cfg(feature = "cuda")]
        What::Write(what) => write::run(&args.model, what),
    }
}
