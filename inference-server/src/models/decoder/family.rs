//! Families of decoders and the kinds of layers that they have.
//!
//! A family is a set of switches: biases, norms, fused projections, local attention. Several values
//! of `model_type` may belong to one.

/// Families of decoders, by what distinguishes their layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Biases on queries, keys and values.
    Qwen2,
    /// Norms of queries and keys.
    Qwen3,
    /// Llama and Mistral.
    Llama,
    /// Norms before and after both halves of a layer, and local attention in most layers.
    Gemma3,
    /// Fused projections.
    Phi3,
}

impl Family {
    /// Name in listings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::Llama => "llama",
            Self::Gemma3 => "gemma3",
            Self::Phi3 => "phi3",
        }
    }
}

/// Attention of one layer, in which layers of a model may differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerKind {
    /// Maximum keys that a query attends to, its own included; `None` for all.
    pub window: Option<usize>,
    /// True if the layer takes `DecoderConfig::local_rope`.
    pub local: bool,
}

/// `model_type` of the decoders.
const MODEL_TYPES: [(&str, Family); 7] = [
    ("qwen2", Family::Qwen2),
    ("qwen3", Family::Qwen3),
    ("llama", Family::Llama),
    // Mistral differs by its sliding window only, which is a setting of layers.
    ("mistral", Family::Llama),
    ("gemma3_text", Family::Gemma3),
    ("gemma3", Family::Gemma3),
    ("phi3", Family::Phi3),
];

/// The family of a model type; `None` if it is not a decoder that this server computes.
pub(crate) fn family(model_type: &str) -> Option<Family> {
    MODEL_TYPES.iter().find(|(name, _)| *name == model_type).map(|(_, family)| *family)
}

/// The model types of decoders, for messages.
pub(crate) fn model_types() -> String {
    MODEL_TYPES.map(|(name, _)| name).join(", ")
}
