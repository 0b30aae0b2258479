//! Warm-up: forward passes of growing batches before a model becomes ready.
//!
//! The first pass at a batch size is slow: kernels are chosen, buffers allocated, libraries loaded.
//! After the warm-up no request pays for that, and admission knows the model's speed.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

use super::loaded::{LoadedModel, Network};
use crate::models::{ComputeError, Extras, Model};
use crate::text::tokenizer::TextTokenizer;

/// Tokens of the first batch. Not tuned: few enough to be fast on any device.
const FIRST_BATCH: usize = 64;
/// Time of a batch from which on no larger one is tried. Not tuned: with sizes that double, and two
/// passes of each, the warm-up of a slow device stays in the order of 0.1 s.
const SLOW_BATCH: Duration = Duration::from_millis(30);
/// Lengths of the rows, in turn: attention takes other kernels for long rows than for short ones.
/// Not tuned: one length for each of those kernels.
const ROW_LENGTHS: [usize; 3] = [16, 48, 256];

/// Measured speed of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Tokens of the batch.
    pub tokens: usize,
    /// Time that its forward pass took.
    pub elapsed: Duration,
}

/// Warms the model up with batches of up to `max_tokens` tokens. Returns the pace of the last
/// batch; `None` for a language model, whose engine measures its own pace.
///
/// # Errors
/// If a forward pass fails.
pub fn warm_up(model: &LoadedModel, max_tokens: usize) -> Result<Option<Pace>> {
    match &model.network {
        Network::Decoder(generator) => generator.warm_up().map(|()| None),
        Network::Encoder(_) => warm_up_encoder(model, max_tokens).map(Some),
    }
}

/// Doubles the batch until `max_tokens` or until a batch is slow.
fn warm_up_encoder(model: &LoadedModel, max_tokens: usize) -> Result<Pace> {
    let ids = sample(&model.tokenizer)?;
    let longest = model.info.max_input_tokens;
    let mut tokens = FIRST_BATCH.min(max_tokens);
    let mut pace: Option<Pace> = None;
    loop {
        let rows = rows(&ids, tokens, longest);
        let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
        match time(model, &rows) {
            Ok(elapsed) => pace = Some(Pace { tokens, elapsed }),
            // The queue halves batches that do not fit, so the model can be served all the same.
            Err(ComputeError::OutOfMemory(_)) if pace.is_some() => break,
            Err(error) => return Err(anyhow!("warm-up with {tokens} tokens: {error}")),
        }
        // The largest batch is measured last, so that its pace is the one admission begins with.
        if tokens == max_tokens || pace.is_some_and(|pace| pace.elapsed > SLOW_BATCH) {
            break;
        }
        tokens = (2 * tokens).min(max_tokens);
    }
    pace.context("warm-up: nothing was computed")
}

/// Token ids of a short text, special tokens included.
fn sample(tokenizer: &TextTokenizer) -> Result<Vec<u32>> {
    let encoded = tokenizer.tokens("a", true).map_err(|error| anyhow!("tokenizer.json: warm-up: {error}"))?;
    let ids = encoded.get_ids().to_vec();
    ensure!(!ids.is_empty(), "tokenizer.json: warm-up: a text without tokens");
    Ok(ids)
}

/// Rows of `tokens` ids together, none longer than `longest`.
fn rows(ids: &[u32], tokens: usize, longest: usize) -> Vec<Vec<u32>> {
    let mut rows = Vec::new();
    let mut left = tokens;
    for length in ROW_LENGTHS.into_iter().cycle() {
        if left == 0 {
            break;
        }
        // Never padded: the batch has exactly `tokens` ids.
        let length = length.min(longest).min(left);
        rows.push(ids.iter().copied().cycle().take(length).collect());
        left -= length;
    }
    rows
}

/// Time of the second of two passes; the first one pays for allocations and choices of kernels.
fn time(model: &LoadedModel, rows: &[&[u32]]) -> Result<Duration, ComputeError> {
    model.network.run(rows, Extras::default())?;
    let started = Instant::now();
    model.network.run(rows, Extras::default())?;
    Ok(started.elapsed())
}
