//! Language models: the decoders of Qwen, Llama, Mistral, Gemma 3 and Phi 3, on the CPU and on a
//! GPU.
//!
//! A step computes pieces of many sequences, packed one after the other: whole prompts, parts of
//! them (prefill), or the last token of a running sequence (decode). Keys and values are kept in KV
//! blocks that the caller assigns. The logits of a sequence are the same bits however its prompt
//! was cut into pieces and whatever shares the step.
//!
//! `config` and `source` read a model, `cpu` and `gpu` compute it. Reference: transformers in eager
//! attention, float32, to 1e-4 in the logits.

pub(crate) mod config;
pub(crate) mod cpu;
pub(crate) mod family;
pub(crate) mod gpu;
pub(crate) mod rope;
pub(crate) mod source;

use super::ComputeError;
use crate::kernels::matrix::Matrix;
use crate::kernels::paged::BLOCK_TOKENS;
use config::DecoderConfig;

/// The tokens of one sequence that a step computes.
#[derive(Debug, Clone)]
pub struct StepPiece<'a> {
    /// Token ids, at least one.
    pub tokens: &'a [u32],
    /// Position of the first of them in the sequence. All earlier keys and values are in the
    /// blocks.
    pub start: usize,
    /// Block table: KV blocks of the sequence in order, up to the last of `tokens`.
    pub blocks: &'a [u32],
    /// Length of the prompt; tokens from this position on were generated.
    pub prompt: usize,
    /// True to compute logits after the last of `tokens`.
    pub logits: bool,
}

/// A language model on a device.
pub trait LanguageModel: Send {
    /// Allocates the KV cache: blocks with numbers below `count`.
    ///
    /// # Errors
    /// [`ComputeError::OutOfMemory`].
    fn reserve(&mut self, count: usize) -> Result<(), ComputeError>;

    /// One forward pass over the pieces, each of another sequence. Returns logits, rows ×
    /// vocabulary, with a row for each piece that has `logits` set, in their order.
    ///
    /// # Errors
    /// See [`ComputeError`].
    fn step(&mut self, pieces: &[StepPiece<'_>]) -> Result<&Matrix, ComputeError>;

    /// Bytes of a KV block in all layers.
    fn block_bytes(&self) -> usize;

    /// Bytes of the weights.
    fn weight_bytes(&self) -> u64;

    /// Returns true if keys and values of a token differ in their last bits between prefill and
    /// decode, so that cached blocks of one must not be reused for the other.
    fn prefill_kv_differs(&self) -> bool {
        false
    }

    /// Returns true if steps leave the CPU idle, so that it can do other work meanwhile.
    fn runs_off_cpu(&self) -> bool {
        false
    }
}

/// Checks that a model of this shape can compute a piece.
fn check(config: &DecoderConfig, piece: &StepPiece<'_>) -> Result<(), ComputeError> {
    let (vocabulary, context) = (config.vocabulary, config.context);
    let end = piece.start + piece.tokens.len();
    let fault = if piece.tokens.is_empty() {
        "a piece without tokens".to_owned()
    // Kernels index the embeddings and the cache unchecked on a GPU, so nothing out of range may
    // reach them.
    } else if let Some(id) = piece.tokens.iter().find(|id| **id as usize >= vocabulary) {
        format!("token id {id} exceeds the {vocabulary} token embeddings")
    } else if end > context {
        format!("a sequence of {end} tokens exceeds the context of {context}")
    } else if piece.blocks.len() < end.div_ceil(BLOCK_TOKENS) {
        format!("{} KV blocks for {end} tokens", piece.blocks.len())
    } else {
        return Ok(());
    };
    Err(ComputeError::Failed(fault))
}
