//! What a loaded model is and can do.

pub(crate) mod checkpoint;
pub(crate) mod decoder;
pub(crate) mod encoder;
pub(crate) mod gguf;
pub(crate) mod heads;
pub(crate) mod load_progress;
pub(crate) mod sentence_transformers;
pub(crate) mod weights;

use std::collections::BTreeMap;

use serde::Deserialize;

/// What a model can be asked for.
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

    /// The task in words, as used in messages and labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Embedding => "embedding",
            Self::TokenClassification => "token classification",
            Self::Ranking => "ranking",
            Self::Generation => "generation",
        }
    }
}

/// How a text's token vectors become one. Special tokens count, as in sentence-transformers.
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
    /// The sum over the tokens, divided by the root of their number.
    #[serde(rename = "mean_sqrt_len_tokens")]
    MeanSqrtLen,
    /// The mean weighted with 1, 2, 3, … from the first token on.
    WeightedMean,
}

impl Pooling {
    /// The name on the wire.
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

/// What is known about a model once its files have been read.
#[derive(Debug, Clone)]
pub struct ModelInfo {
    /// `organisation/name`, its place in the store.
    pub name: String,
    /// SHA-256 over the digests of the files that decide its answers, hexadecimal.
    pub revision: String,
    /// What it can be asked for.
    pub task: Task,
    /// "bert", "xlm-roberta", "modernbert", or the family of a decoder.
    pub architecture: &'static str,
    /// Tokens it reads at most, special tokens included.
    pub max_input_tokens: usize,
    /// Length of an embedding; 0 where it makes none.
    pub dimensions: usize,
    /// How it pools; `None` where it makes no embedding.
    pub pooling: Option<Pooling>,
    /// Shorter lengths that its embeddings were trained to be cut to, ascending; empty where its
    /// package names none.
    pub matryoshka: Vec<usize>,
    /// Whether it weighs tokens too ([`Extras::sparse`]).
    pub sparse: bool,
    /// Length of a token's vector ([`Extras::multi_vector`]); 0 where it makes none.
    pub multi_vector_dimensions: usize,
    /// Whether its vectors are divided by their L2 norm unless a request says otherwise.
    pub normalize: bool,
    /// Prompt name to the text put before an input.
    pub prompts: BTreeMap<String, String>,
    /// The prompt used where a request names none.
    pub default_prompt: Option<String>,
    /// Label of each class, in the order of the logits; empty where it labels nothing.
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

/// What to compute beside a row's vector, in the same pass. A model without the head for it leaves
/// it out.
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

/// What a model makes of one row.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RowOutput {
    /// The pooled vector, not normalised; a token classifier's tokens × labels logits, row-major; a
    /// text classifier's logits.
    pub values: Vec<f32>,
    /// One weight per token where [`Extras::sparse`] asked for it.
    pub sparse: Vec<f32>,
    /// Tokens × width, row-major, where [`Extras::multi_vector`] asked for it.
    pub multi_vector: Vec<f32>,
}

impl From<Vec<f32>> for RowOutput {
    fn from(values: Vec<f32>) -> Self {
        Self { values, ..Self::default() }
    }
}

/// A network on a device.
pub trait Model: Send + Sync {
    /// One output per row of token ids (special tokens included, no padding), which does not depend
    /// on the other rows. Outputs may carry more than `extras` asks for.
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
