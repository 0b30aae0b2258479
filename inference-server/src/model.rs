//! What a loaded model is and can do.

pub mod blocks;
pub mod card;
pub mod encoder;
pub mod files;
pub mod heads;
pub mod load;
pub mod packed;
pub mod registry;
pub mod revision;
pub mod weights;

use std::collections::BTreeMap;

use crate::tokenizer::TextTokenizer;

/// What a model can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Task {
    /// One vector per text.
    Embedding,
    /// One label per token.
    TokenClassification,
}

impl Task {
    /// The task in words, as used in messages and labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Embedding => "embedding",
            Self::TokenClassification => "token classification",
        }
    }
}

/// How a text's token vectors become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// Mean over all tokens, special tokens included, as sentence-transformers computes it.
    Mean,
    /// The vector of the first token.
    Cls,
}

impl Pooling {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Cls => "cls",
        }
    }
}

/// What is known about a model once its files have been read.
#[derive(Debug, Clone)]
pub struct ModelInfo {
    /// `organisation/name`, its place in the store.
    pub name: String,
    /// SHA-256 over the digests of the files that decide its answers, hexadecimal.
    pub revision: String,
    /// What it can be asked for.
    pub task: Task,
    /// "bert" or "xlm-roberta".
    pub architecture: &'static str,
    /// Tokens it reads at most, special tokens included.
    pub max_input_tokens: usize,
    /// Length of an embedding; 0 where it makes none.
    pub dimensions: usize,
    /// How it pools; `None` where it makes no embedding.
    pub pooling: Option<Pooling>,
    /// Whether its vectors are divided by their L2 norm unless a request says otherwise.
    pub normalize: bool,
    /// Prompt name to the text put before an input.
    pub prompts: BTreeMap<String, String>,
    /// The prompt used where a request names none.
    pub default_prompt: Option<String>,
    /// Label of each class, in the order of the logits; empty for embeddings.
    pub labels: Vec<String>,
    /// Languages its card names (BCP 47).
    pub languages: Vec<String>,
    /// Number of weights.
    pub parameters: u64,
    /// Bytes of the weights in memory.
    pub weight_bytes: u64,
    /// "cpu" or "cuda:0".
    pub device: String,
}

/// Why a forward pass failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ComputeError {
    /// The batch did not fit; a smaller one may.
    #[error("out of memory: {0}")]
    OutOfMemory(String),
    /// This batch failed; others may succeed.
    #[error("{0}")]
    Failed(String),
    /// The device is lost until the process restarts.
    #[error("the device failed for good: {0}")]
    DeviceLost(String),
}

/// A network on a device.
pub trait Model: Send + Sync {
    /// One flat output per row of token ids (special tokens included, no padding).
    ///
    /// An embedding model answers one pooled vector of `dimensions` values, not normalised; a token classifier
    /// answers tokens × labels logits, row-major. A row's output does not depend on the other rows.
    ///
    /// # Errors
    /// See [`ComputeError`].
    fn run(&self, rows: &[&[u32]]) -> Result<Vec<Vec<f32>>, ComputeError>;
}

/// A model that is ready to answer.
pub struct LoadedModel {
    /// What it is.
    pub info: ModelInfo,
    /// Its tokenizer.
    pub tokenizer: TextTokenizer,
    /// Its network.
    pub network: Box<dyn Model>,
}

impl std::fmt::Debug for LoadedModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoadedModel").field("info", &self.info).finish_non_exhaustive()
    }
}
