//! Architectures of encoders: which `config.json` asks for which, and its keys by one set of names.
//!
//! A `model_type` alone does not tell: JinaBERT is published as `bert`, and a decoder is an
//! embedding model if a sentence-transformers package is around it. Families that are close to one
//! of these and not computed are refused by name, with what is lacking.

use anyhow::{Result, bail, ensure};
use serde_json::{Map, Value, json};

use crate::models::Task;
use crate::models::decoder::family::model_types;

/// Architectures by what distinguishes their networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Architecture {
    /// Absolute positions, and token types.
    #[default]
    Bert,
    /// BERT whose positions are counted from the padding id + 1: XLM-RoBERTa, RoBERTa, CamemBERT.
    Roberta,
    /// Rotary positions, local and global attention.
    ModernBert,
    /// BERT without token types, by other names of tensors.
    DistilBert,
    /// BERT without token types, with a bias on attention by distance.
    MpNet,
    /// Attention by content and by distance; version 3 has the same network.
    DebertaV2,
    /// BERT with rotary positions and SwiGLU.
    NomicBert,
    /// BERT with ALiBi in place of positions, and a gated GELU.
    JinaBert,
    /// BERT with rotary positions and a gated GELU: `new` of Alibaba, GTE in version 1.5 and later.
    Gte,
    /// A decoder whose last token is the embedding.
    Qwen2,
    /// Qwen 2 with norms of queries and keys.
    Qwen3,
    /// Qwen 2 without biases.
    Mistral,
}

/// Each `model_type` and its architecture.
const MODEL_TYPES: [(&str, Architecture); 14] = [
    ("bert", Architecture::Bert),
    ("xlm-roberta", Architecture::Roberta),
    ("roberta", Architecture::Roberta),
    ("camembert", Architecture::Roberta),
    ("modernbert", Architecture::ModernBert),
    ("distilbert", Architecture::DistilBert),
    ("mpnet", Architecture::MpNet),
    ("deberta-v2", Architecture::DebertaV2),
    ("nomic_bert", Architecture::NomicBert),
    ("new", Architecture::Gte),
    ("gte", Architecture::Gte),
    ("qwen2", Architecture::Qwen2),
    ("qwen3", Architecture::Qwen3),
    ("mistral", Architecture::Mistral),
];

/// Prefixes of class names and their model types, for configurations written before transformers
/// had `model_type`.
const CLASSES: [(&str, &str); 6] = [
    ("XLMRoberta", "xlm-roberta"),
    ("Roberta", "roberta"),
    ("Camembert", "camembert"),
    ("ModernBert", "modernbert"),
    ("DistilBert", "distilbert"),
    ("Bert", "bert"),
];

/// Why EmbeddingGemma is not computed.
const GEMMA: &str = "EmbeddingGemma attends in both directions, and candle-transformers' Gemma 3 is \
                     causal and returns logits of the last token alone";
/// Why the other decoders with a sentence-transformers package are not computed.
const DECODER: &str =
    "of the decoders, qwen2, qwen3 and mistral are computed as embedding models (modules.json)";
/// Families that people ask for, and what is lacking.
const REFUSED: [(&str, &str); 7] = [
    ("gemma3_text", GEMMA),
    ("gemma3", GEMMA),
    ("llama", DECODER),
    ("phi3", DECODER),
    ("deberta", "of DeBERTa, candle-transformers has versions 2 and 3 (deberta-v2) alone"),
    ("jina_embeddings_v3", "candle-transformers has no adapters for tasks, which jina-embeddings-v3 needs"),
    ("eurobert", "candle-transformers has no EuroBERT"),
];

/// Keys of DistilBERT by the names of BERT.
const DISTILBERT_KEYS: [(&str, &str); 5] = [
    ("dim", "hidden_size"),
    ("n_layers", "num_hidden_layers"),
    ("n_heads", "num_attention_heads"),
    ("hidden_dim", "intermediate_size"),
    ("activation", "hidden_act"),
];
/// Keys of NomicBERT by the names of BERT.
const NOMIC_KEYS: [(&str, &str); 6] = [
    ("n_embd", "hidden_size"),
    ("n_layer", "num_hidden_layers"),
    ("n_head", "num_attention_heads"),
    ("n_inner", "intermediate_size"),
    ("n_positions", "max_position_embeddings"),
    ("layer_norm_epsilon", "layer_norm_eps"),
];
/// Keys of decoders by the names of BERT.
const DECODER_KEYS: [(&str, &str); 1] = [("rms_norm_eps", "layer_norm_eps")];

/// Parts of BERT's tensor names and what DistilBERT has in their place, in the order to apply them.
const DISTILBERT_NAMES: [(&str, &str); 9] = [
    ("encoder.layer.", "transformer.layer."),
    ("attention.self.query", "attention.q_lin"),
    ("attention.self.key", "attention.k_lin"),
    ("attention.self.value", "attention.v_lin"),
    // Before `output.dense`, which is a part of this name.
    ("attention.output.dense", "attention.out_lin"),
    ("attention.output.LayerNorm", "sa_layer_norm"),
    ("intermediate.dense", "ffn.lin1"),
    ("output.dense", "ffn.lin2"),
    ("output.LayerNorm", "output_layer_norm"),
];
/// The same for MPNet.
const MPNET_NAMES: [(&str, &str); 5] = [
    ("attention.self.query", "attention.attn.q"),
    ("attention.self.key", "attention.attn.k"),
    ("attention.self.value", "attention.attn.v"),
    ("attention.output.dense", "attention.attn.o"),
    ("attention.output.LayerNorm", "attention.LayerNorm"),
];

impl Architecture {
    /// The architecture that a `config.json` asks for.
    ///
    /// # Errors
    /// Names the model type, and what is lacking or what was expected.
    pub(crate) fn of(config: &Map<String, Value>) -> Result<Self> {
        let text = |key: &str| config.get(key).and_then(Value::as_str).unwrap_or_default();
        let class = config.get("architectures").and_then(|all| all.get(0)).and_then(Value::as_str);
        let class = class.unwrap_or_default();
        // First, because the `model_type` of JinaBERT is `bert`.
        if class.starts_with("JinaBert") || text("position_embedding_type") == "alibi" {
            return Ok(Self::JinaBert);
        }
        // The earliest published BERTs have a class and no model type.
        let model_type = match text("model_type") {
            "" => CLASSES.iter().find(|(start, _)| class.starts_with(start)).map_or("", |(_, kind)| *kind),
            kind => kind,
        };
        ensure!(
            !model_type.is_empty(),
            "not the JSON that was expected: no model_type, and no known class in architectures"
        );
        if let Some((_, found)) = MODEL_TYPES.iter().find(|(kind, _)| *kind == model_type) {
            return Ok(*found);
        }
        if let Some((_, lacking)) = REFUSED.iter().find(|(kind, _)| *kind == model_type) {
            bail!("invalid model_type `{model_type}` for an encoder: {lacking}");
        }
        let expected = MODEL_TYPES.map(|(kind, _)| kind).join(", ");
        bail!(
            "invalid model_type `{model_type}`: expected {expected} for an encoder, or {} for a decoder",
            model_types()
        )
    }

    /// Name in listings.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bert => "bert",
            Self::Roberta => "xlm-roberta",
            Self::ModernBert => "modernbert",
            Self::DistilBert => "distilbert",
            Self::MpNet => "mpnet",
            Self::DebertaV2 => "deberta-v2",
            Self::NomicBert => "nomic-bert",
            Self::JinaBert => "jina-bert",
            Self::Gte => "gte",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::Mistral => "mistral",
        }
    }

    /// Returns true for a decoder that embeds.
    pub(crate) fn is_decoder(self) -> bool {
        matches!(self, Self::Qwen2 | Self::Qwen3 | Self::Mistral)
    }

    /// Returns true if the head of this task is computed.
    pub(crate) fn computes(self, task: Task) -> bool {
        let heads = matches!(
            self,
            Self::Bert | Self::Roberta | Self::ModernBert | Self::DistilBert | Self::DebertaV2
        );
        task == Task::Embedding || heads
    }

    /// Name of the tensor with the token embeddings, without the prefix of a checkpoint.
    pub(crate) fn token_embeddings(self) -> &'static str {
        match self {
            Self::ModernBert => "embeddings.tok_embeddings.weight",
            Self::Qwen2 | Self::Qwen3 | Self::Mistral => "embed_tokens.weight",
            _ => "embeddings.word_embeddings.weight",
        }
    }

    /// Parts of BERT's tensor names and what this architecture has in their place.
    pub(crate) fn tensor_names(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::DistilBert => &DISTILBERT_NAMES,
            Self::MpNet => &MPNET_NAMES,
            _ => &[],
        }
    }

    /// Gives the keys of `config` the names that BERT has, and fills in the defaults that are not
    /// BERT's. A key that has BERT's name already stays.
    pub(crate) fn unify(self, config: &mut Map<String, Value>) {
        let keys: &[(&str, &str)] = match self {
            Self::DistilBert => &DISTILBERT_KEYS,
            Self::NomicBert => &NOMIC_KEYS,
            Self::Qwen2 | Self::Qwen3 | Self::Mistral => &DECODER_KEYS,
            _ => &[],
        };
        let defaults: &[(&str, Value)] = match self {
            Self::DistilBert | Self::MpNet => &[("type_vocab_size", json!(0))],
            Self::DebertaV2 => &[("type_vocab_size", json!(0)), ("layer_norm_eps", json!(1e-7))],
            Self::Qwen2 | Self::Qwen3 | Self::Mistral => {
                &[("type_vocab_size", json!(0)), ("layer_norm_eps", json!(1e-6))]
            }
            _ => &[],
        };
        for (own, common) in keys {
            if let Some(value) = config.get(*own).cloned() {
                config.entry(*common).or_insert(value);
            }
        }
        for (key, value) in defaults {
            config.entry(*key).or_insert_with(|| value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(config: Value, expected: Result<Architecture, &str>) {
        let map = config.as_object().unwrap();
        match (Architecture::of(map), expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{config}"),
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (found, expected) => panic!("{config}: {found:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn architectures_are_told_apart_and_refused_by_name() {
        check(json!({"model_type": "bert"}), Ok(Architecture::Bert));
        check(
            json!({"model_type": "bert", "architectures": ["JinaBertForMaskedLM"]}),
            Ok(Architecture::JinaBert),
        );
        check(json!({"model_type": "bert", "position_embedding_type": "alibi"}), Ok(Architecture::JinaBert));
        check(json!({"architectures": ["DistilBertModel"]}), Ok(Architecture::DistilBert));
        check(json!({"model_type": "new", "architectures": "not a list"}), Ok(Architecture::Gte));
        check(
            json!({"model_type": "gemma3_text"}),
            Err("`gemma3_text` for an encoder: EmbeddingGemma attends"),
        );
        check(json!({"model_type": "llama"}), Err("qwen2, qwen3 and mistral are computed"));
        check(json!({"model_type": "deberta"}), Err("versions 2 and 3"));
        check(json!({"model_type": 5}), Err("no model_type, and no known class"));
    }

    #[test]
    fn keys_get_the_names_of_bert() {
        let mut config = json!({"n_embd": 8, "n_layer": 2, "num_hidden_layers": 3});
        Architecture::NomicBert.unify(config.as_object_mut().unwrap());
        assert_eq!((&config["hidden_size"], &config["num_hidden_layers"]), (&json!(8), &json!(3)));
        let mut config = json!({"type_vocab_size": 2});
        Architecture::DebertaV2.unify(config.as_object_mut().unwrap());
        assert_eq!((&config["type_vocab_size"], &config["layer_norm_eps"]), (&json!(2), &json!(1e-7)));
    }
}
