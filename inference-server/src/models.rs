//! Networks: reading checkpoints, loading weights onto a device, computing rows and sequences.
//!
//! `checkpoint`, `gguf` and `weights` read files; `encoder` with `heads` and `decoder` compute.
//! What they return for a row or a sequence does not depend on what else is computed with it. How a
//! model is asked for, and by whom, is not known here.

pub(crate) mod checkpoint;
pub(crate) mod decoder;
pub(crate) mod encoder;
pub(crate) mod gguf;
pub(crate) mod heads;
pub(crate) mod load_progress;
pub(crate) mod weights;

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::kernels::gpu::GpuError;

/// Task of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Task {
    /// One vector per text.
    Embedding,
    /// One label per token.
    TokenClassification,
    /// One score per pair of a query and a document.
    Ranking,
    /// The continuation of a text.
    Generation,
}

impl Task {
    /// Every task.
    pub const ALL: [Self; 4] = [Self::Embedding, Self::TokenClassification, Self::Ranking, Self::Generation];

    /// Name in messages and metric labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Embedding => "embedding",
            Self::TokenClassification => "token classification",
            Self::Ranking => "ranking",
            Self::Generation => "generation",
        }
    }
}

/// Rule by which the vectors of a text's tokens become one; special tokens count, as in
/// sentence-transformers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pooling {
    /// The mean over the tokens.
    Mean,
    /// The vector of the first token.
    Cls,
    /// The vector of the last token.
    #[serde(rename = "lasttoken")]
    Last,
    /// The largest value of each dimension.
    Max,
    /// The sum over the tokens, divided by the square root of their number.
    #[serde(rename = "mean_sqrt_len_tokens")]
    MeanSqrtLen,
    /// The mean, weighted by position: 1 for the first token, 2 for the second, …
    WeightedMean,
}

impl Pooling {
    /// Name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Cls => "cls",
            Self::Last => "last",
            Self::Max => "max",
            Self::MeanSqrtLen => "mean_sqrt_len",
            Self::WeightedMean => "weighted_mean",
        }
    }
}

/// Description of a loaded model.
#[derive(Debug, Clone)]
pub struct ModelInfo {
    /// `organisation/name`, its path in the model store.
    pub name: String,
    /// SHA-256 over the digests of the files that determine its answers, in hexadecimal.
    pub revision: String,
    /// Task that it serves.
    pub task: Task,
    /// Architecture of an encoder, such as "bert", or the family of a language model.
    pub architecture: &'static str,
    /// Maximum tokens of a text, special tokens included.
    pub max_input_tokens: usize,
    /// Length of an embedding; 0 for other tasks.
    pub dimensions: usize,
    /// Pooling of an embedding; `None` for other tasks.
    pub pooling: Option<Pooling>,
    /// Shorter lengths that its embeddings were trained for, ascending; may be empty.
    pub matryoshka: Vec<usize>,
    /// True if it has sparse weights ([`Extras::sparse`]).
    pub sparse: bool,
    /// Length of the vector of a token ([`Extras::multi_vector`]); 0 if it has none.
    pub multi_vector_dimensions: usize,
    /// True if its embeddings are divided by their L2 norm unless a request says otherwise.
    pub normalize: bool,
    /// Prompts by name: texts that are prepended to an input.
    pub prompts: BTreeMap<String, String>,
    /// Name of the prompt for requests that name none.
    pub default_prompt: Option<String>,
    /// Labels in the order of the logits; empty for other tasks than token classification.
    pub labels: Vec<String>,
    /// Languages that its card names (BCP 47).
    pub languages: Vec<String>,
    /// Number of weights.
    pub parameters: u64,
    /// Bytes of the weights in memory.
    pub weight_bytes: u64,
    /// "cpu" or "cuda:0".
    pub device: String,
}

/// Error of a forward pass.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ComputeError {
    /// The batch did not fit into memory; a smaller one may.
    #[error("out of memory: {0}")]
    OutOfMemory(String),
    /// The batch failed; others may succeed.
    #[error("{0}")]
    Failed(String),
    /// The device is lost until the process restarts.
    #[error("the device failed for good: {0}")]
    DeviceLost(String),
}

impl From<GpuError> for ComputeError {
    fn from(error: GpuError) -> Self {
        match error {
            GpuError::OutOfMemory(message) => Self::OutOfMemory(message),
            GpuError::Lost(message) => Self::DeviceLost(message),
            GpuError::Refused(message) => Self::Failed(message),
        }
    }
}

/// Token outputs to be computed in the same pass as the embedding. A model ignores those that it
/// has no head for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Extras {
    /// One weight per token.
    pub sparse: bool,
    /// One vector per token.
    pub multi_vector: bool,
}

impl std::ops::BitOr for Extras {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self { sparse: self.sparse | other.sparse, multi_vector: self.multi_vector | other.multi_vector }
    }
}

/// Output of a model for one row.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RowOutput {
    /// The pooled vector, not normalised; or logits, for a token classifier tokens × labels.
    pub values: Vec<f32>,
    /// One weight per token if [`Extras::sparse`] is set, else empty.
    pub sparse: Vec<f32>,
    /// Tokens × width if [`Extras::multi_vector`] is set, else empty.
    pub multi_vector: Vec<f32>,
}

impl From<Vec<f32>> for RowOutput {
    fn from(values: Vec<f32>) -> Self {
        Self { values, ..Self::default() }
    }
}

/// An encoder on a device.
pub trait Model: Send + Sync {
    /// Computes one output per row of token ids (special tokens included, no padding). An output
    /// does not depend on the other rows, and may contain more than `extras` asks for.
    ///
    /// # Errors
    /// See [`ComputeError`].
    fn run(&self, rows: &[&[u32]], extras: Extras) -> Result<Vec<RowOutput>, ComputeError>;
}

/// A served model as the scheduler sees it: it runs rows and has a name for metrics and logs.
pub trait RowModel: Model + std::fmt::Debug {
    /// `organisation/name`, its place in the store.
    fn name(&self) -> &str;
}
