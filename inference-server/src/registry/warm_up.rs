//! What a model computes before it answers: the kernels of every size of batch are chosen, and its
//! speed is known.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use crate::models::{ComputeError, Extras, Model};
use crate::registry::loaded::{LoadedModel, Network};
use crate::text::tokenizer::TextTokenizer;

/// Tokens of the first batch.
const FIRST: usize = 64;
/// A device that needs longer for a batch is not given a larger one: loading would take a notable
/// time.
const SLOW: Duration = Duration::from_millis(30);
/// Lengths of the texts in turn, so that attention is computed both for short and for longer ones.
const LENGTHS: [usize; 3] = [16, 48, 256];

/// How fast a model was in a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Tokens of the batch.
    pub tokens: usize,
    /// Time for it.
    pub elapsed: Duration,
}

/// Computes batches of doubling size, up to `tokens` or to what the device is slow at, and gives
/// the pace of the last. A model that writes text measures its pace itself, and there is none to
/// tell.
///
/// # Errors
/// If the model does not compute.
pub fn warm_up(model: &LoadedModel, tokens: usize) -> Result<Option<Pace>> {
    match &model.network {
        Network::Decoder(generator) => generator.warm_up().map(|()| None),
        Network::Encoder(_) => warm_up_rows(model, tokens).map(Some),
    }
}

/// Computes batches of doubling size, up to `tokens` or to what the device is slow at, each twice;
/// the pace of the last.
///
/// # Errors
/// If the model does not compute.
fn warm_up_rows(model: &LoadedModel, tokens: usize) -> Result<Pace> {
    let ids = sample(&model.tokenizer)?;
    let longest = model.info.max_input_tokens;
    let mut size = FIRST.min(tokens);
    let mut pace: Option<Pace> = None;
    loop {
        let rows = rows(&ids, size, longest);
        let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
        match time(model, &rows) {
            Ok(elapsed) => pace = Some(Pace { tokens: size, elapsed }),
            // Batches that do not fit are halved when they come; see `queue`.
            Err(ComputeError::OutOfMemory(_)) if pace.is_some() => break,
            Err(error) => return Err(anyhow!("warm-up with {size} tokens: {error}")),
        }
        if size == tokens || pace.is_some_and(|pace| pace.elapsed > SLOW) {
            break;
        }
        size = (2 * size).min(tokens);
    }
    pace.context("warm-up: nothing was computed")
}

/// Ids of a text, special tokens included.
fn sample(tokenizer: &TextTokenizer) -> Result<Vec<u32>> {
    let encoded = tokenizer.tokens("a", true).map_err(|error| anyhow!("tokenizer.json: warm-up: {error}"))?;
    let ids = encoded.get_ids().to_vec();
    anyhow::ensure!(!ids.is_empty(), "tokenizer.json: warm-up: a text without tokens");
    Ok(ids)
}

/// Rows of `tokens` ids together, none longer than `longest`.
fn rows(ids: &[u32], tokens: usize, longest: usize) -> Vec<Vec<u32>> {
    let mut rows = Vec::new();
    let mut left = tokens;
    for length in LENGTHS.into_iter().cycle() {
        if left == 0 {
            break;
        }
        let length = length.min(longest).min(left);
        rows.push(ids.iter().copied().cycle().take(length).collect());
        left -= length;
    }
    rows
}

/// Time of the second of two passes; what the first prepares is left out.
fn time(model: &LoadedModel, rows: &[&[u32]]) -> Result<Duration, ComputeError> {
    model.network.run(rows, Extras::default())?;
    let started = Instant::now();
    model.network.run(rows, Extras::default())?;
    Ok(started.elapsed())
}
