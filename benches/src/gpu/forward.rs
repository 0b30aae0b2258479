//! Forward passes in this process: texts and arithmetic per second.
//!
//! No gRPC, tokenizer or queue: what is left is the device's own speed.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use observatory_inference::testing::models::{Extras, Model};
use observatory_inference::testing::registry::LoadedModel;

use crate::{ModelArgs, rows, texts};

/// Flags of the forward-pass bench.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Files of texts.
    #[arg(long, value_delimiter = ',')]
    texts: Vec<PathBuf>,
    /// Texts of each file at most.
    #[arg(long, default_value_t = usize::MAX)]
    most: usize,
    /// Tokens of one forward pass.
    #[arg(long, value_delimiter = ',', default_value = "16384")]
    batch_tokens: Vec<usize>,
    /// Seconds for each.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
}

/// Layers and width of the model, for counting operations.
const LAYERS: f64 = 12.0;
const WIDTH: f64 = 768.0;

/// Operations for a text: the products of the layers, and attention.
fn operations(length: usize) -> f64 {
    let length = length as f64;
    LAYERS * (24.0 * WIDTH * WIDTH * length + 4.0 * WIDTH * length * length)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Runs the bench and prints its table.
pub(crate) fn run(of: &ModelArgs, args: &Args) {
    let model = of.load();
    for file in &args.texts {
        let mut rows = rows(&model, &texts(file));
        rows.truncate(args.most);
        rows.sort_by_key(Vec::len);
        for &tokens in &args.batch_tokens {
            let time = measure(&model, &batches(&rows, tokens), args.seconds);
            let total: usize = rows.iter().map(Vec::len).sum();
            let work: f64 = rows.iter().map(|row| operations(row.len())).sum();
            println!(
                "| {} | {:?} | at most {tokens} tokens a pass | {:.0} texts/s | {:.0} tokens/s | {:.1} TFLOP/s | {:.3} ms a pass |",
                file.file_stem().unwrap().display(),
                of.precision,
                rows.len() as f64 / time,
                total as f64 / time,
                work / time / 1e12,
                time * 1e3 / batches(&rows, tokens).len() as f64,
            );
        }
    }
}

/// Batches as the server's batcher makes them: of neighbours in length.
fn batches(rows: &[Vec<u32>], tokens: usize) -> Vec<Vec<&[u32]>> {
    let mut batches: Vec<Vec<&[u32]>> = vec![Vec::new()];
    let mut held = 0;
    for row in rows {
        if held + row.len() > tokens && held > 0 {
            batches.push(Vec::new());
            held = 0;
        }
        held += row.len();
        batches.last_mut().unwrap().push(row);
    }
    batches
}

/// Median seconds for all batches, after a round that warms up.
fn measure(model: &LoadedModel, batches: &[Vec<&[u32]>], seconds: f64) -> f64 {
    let round = || {
        let started = Instant::now();
        for batch in batches {
            assert_eq!(model.network.run(batch, Extras::default()).unwrap().len(), batch.len());
        }
        started.elapsed().as_secs_f64()
    };
    round();
    let (started, mut times) = (Instant::now(), Vec::new());
    while started.elapsed() < Duration::from_secs_f64(seconds) || times.len() < 3 {
        times.push(round());
    }
    median(times)
}
