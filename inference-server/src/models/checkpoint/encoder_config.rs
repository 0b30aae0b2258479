//! `config.json` of an encoder: BERT, XLM-RoBERTa and relatives, ModernBERT.
//!
//! Field names are those of transformers. A configuration that was read is checked: its numbers are
//! bounded, its `model_type` and its head are ones that this server computes.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::activation::Activation;
use super::json::{check_range, or_default, read_json};
use super::modernbert_config::ModernBertConfig;
use crate::models::Task;
use crate::models::decoder::family::model_types;

/// The keys of `config.json` that an encoder needs; others are ignored.
#[derive(Debug, Clone, Deserialize)]
pub struct EncoderConfig {
    /// Family of the checkpoint, as transformers names it.
    #[serde(default, deserialize_with = "or_default")]
    pub model_type: String,
    #[serde(default, deserialize_with = "or_default")]
    architectures: Vec<String>,
    /// Width of a token vector.
    pub hidden_size: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Attention heads of each layer.
    pub num_attention_heads: usize,
    /// Width between the halves of the feed-forward network.
    pub intermediate_size: usize,
    /// Activation between the halves.
    #[serde(default = "gelu")]
    pub(crate) hidden_act: Activation,
    /// Added to the variance by the layer norms.
    #[serde(default = "default_eps")]
    pub layer_norm_eps: f64,
    /// Rows of the position embeddings.
    pub max_position_embeddings: usize,
    /// Rows of the token embeddings.
    pub vocab_size: usize,
    /// Rows of the token type embeddings; 0 if the checkpoint has none.
    #[serde(default = "default_type_vocab_size")]
    pub type_vocab_size: usize,
    #[serde(default)]
    pad_token_id: Option<usize>,
    #[serde(default)]
    position_embedding_type: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    id2label: BTreeMap<String, String>,
    /// Keys of ModernBERT alone; `None` for the other families.
    #[serde(skip)]
    pub(crate) modern: Option<ModernBertConfig>,
    #[serde(default, deserialize_with = "or_default")]
    matryoshka_dimensions: Vec<usize>,
}

fn gelu() -> Activation {
    Activation::Gelu
}

fn default_eps() -> f64 {
    1e-12
}

fn default_type_vocab_size() -> usize {
    2
}

/// Prefixes of architectures and their model types, for configurations written before transformers
/// had `model_type`.
const ARCHITECTURES: [(&str, &str); 5] = [
    ("XLMRoberta", "xlm-roberta"),
    ("Roberta", "roberta"),
    ("Camembert", "camembert"),
    ("ModernBert", "modernbert"),
    ("Bert", "bert"),
];
/// Suffixes of architectures without a head for a task: their encoder embeds. Heads of pre-training
/// are ignored.
const EMBEDDING_HEADS: [&str; 4] = ["Model", "ForMaskedLM", "ForPreTraining", "ForNextSentencePrediction"];
/// Upper limit on `max_position_embeddings`, far above the 8,192 of published encoders.
const MAX_POSITIONS: usize = 1 << 18;

impl EncoderConfig {
    /// Reads and checks `config.json`.
    ///
    /// # Errors
    /// Names the key, its value and what was expected.
    pub fn read(dir: &Path) -> Result<Self> {
        let mut config: Self = read_json(dir, "config.json")?;
        // The earliest published BERTs have an architecture and no model type.
        if config.model_type.is_empty()
            && let Some(architecture) = config.architectures.first()
            && let Some((_, found)) = ARCHITECTURES.iter().find(|(name, _)| architecture.starts_with(name))
        {
            config.model_type = (*found).to_owned();
        }
        if config.model_type == "modernbert" {
            config.modern = Some(read_json(dir, "config.json")?);
        }
        config.check().context("config.json")?;
        Ok(config)
    }

    fn check(&self) -> Result<()> {
        self.family()?;
        self.task()?;
        for (key, value, max) in [
            ("hidden_size", self.hidden_size, 1 << 16),
            ("num_hidden_layers", self.num_hidden_layers, 1 << 12),
            ("num_attention_heads", self.num_attention_heads, 1 << 12),
            ("intermediate_size", self.intermediate_size, 1 << 20),
            ("vocab_size", self.vocab_size, 1 << 24),
            ("max_position_embeddings", self.max_position_embeddings, MAX_POSITIONS),
            // 0 is valid for these two, unlike for the others.
            ("type_vocab_size", self.type_vocab_size.max(1), 1 << 10),
            ("pad_token_id", self.pad_token_id.unwrap_or(1).max(1), MAX_POSITIONS),
        ] {
            check_range(key, value, max)?;
        }
        ensure!(
            self.hidden_size.is_multiple_of(self.num_attention_heads),
            "invalid hidden_size {}: expected a multiple of num_attention_heads {}",
            self.hidden_size,
            self.num_attention_heads
        );
        ensure!(
            // A text has two special tokens at least, so two positions are not enough for one.
            self.max_position_embeddings > self.first_position() + 2,
            "invalid max_position_embeddings {}: expected room for a text",
            self.max_position_embeddings
        );
        if let Some(modern) = &self.modern {
            modern.check(self.num_hidden_layers)?;
        }
        if let Some(kind) = &self.position_embedding_type {
            ensure!(kind == "absolute", "invalid position_embedding_type `{kind}`: expected absolute");
        }
        Ok(())
    }

    /// "bert", "xlm-roberta" or "modernbert": families differ in how positions are counted and what
    /// tensors are called.
    ///
    /// # Errors
    /// If the model type is another one.
    pub(crate) fn family(&self) -> Result<&'static str> {
        match self.model_type.as_str() {
            "bert" => Ok("bert"),
            "xlm-roberta" | "roberta" | "camembert" => Ok("xlm-roberta"),
            "modernbert" => Ok("modernbert"),
            other => bail!(
                "invalid model_type `{other}`: expected bert, xlm-roberta, roberta, camembert or modernbert for an \
                 encoder, or {} for a decoder",
                model_types()
            ),
        }
    }

    /// Task of the checkpoint's head.
    ///
    /// # Errors
    /// If this server does not compute the head.
    pub(crate) fn task(&self) -> Result<Task> {
        let Some(architecture) = self.architectures.first() else { return Ok(Task::Embedding) };
        if architecture.ends_with("ForTokenClassification") {
            ensure!(self.id2label.len() > 1, "invalid id2label: expected two labels or more");
            return Ok(Task::TokenClassification);
        }
        if architecture.ends_with("ForSequenceClassification") {
            let labels = self.id2label.len();
            ensure!(labels == 1, "invalid id2label with {labels} labels: expected one for {architecture}");
            return Ok(Task::Ranking);
        }
        if EMBEDDING_HEADS.iter().any(|head| architecture.ends_with(head)) {
            return Ok(Task::Embedding);
        }
        bail!(
            "invalid architecture `{architecture}`: expected …{}, …ForTokenClassification or \
             …ForSequenceClassification",
            EMBEDDING_HEADS.join(", …")
        )
    }

    /// Returns true if the second text of a pair has token type 1.
    pub(crate) fn has_pair_types(&self) -> bool {
        self.model_type == "bert" && self.type_vocab_size > 1
    }

    /// Name of the tensor with the token embeddings.
    pub fn token_embeddings(&self) -> &'static str {
        if self.modern.is_some() {
            "embeddings.tok_embeddings.weight"
        } else {
            "embeddings.word_embeddings.weight"
        }
    }

    /// Position of a text's first token: RoBERTa counts from the padding id + 1.
    pub(crate) fn first_position(&self) -> usize {
        match self.model_type.as_str() {
            "bert" | "modernbert" => 0,
            _ => self.pad_token_id.unwrap_or(1) + 1,
        }
    }

    /// Length of the longest text that the position embeddings cover, in tokens.
    pub(crate) fn max_tokens(&self) -> usize {
        self.max_position_embeddings - self.first_position()
    }

    /// Lengths below `dimensions` to which an embedding may be truncated, ascending. Kusupati et
    /// al. 2022 (arXiv:2205.13147).
    pub(crate) fn matryoshka(&self, dimensions: usize) -> Vec<usize> {
        let mut lengths = self.matryoshka_dimensions.clone();
        lengths.retain(|length| (1..dimensions).contains(length));
        lengths.sort_unstable();
        lengths.dedup();
        lengths
    }

    /// Labels in the order of the logits.
    ///
    /// # Errors
    /// If `id2label` is not numbered 0, 1, 2, …
    pub(crate) fn labels(&self) -> Result<Vec<String>> {
        (0..self.id2label.len())
            .map(|id| {
                let label = self.id2label.get(&id.to_string());
                label.cloned().with_context(|| format!("config.json: invalid id2label: no label {id}"))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;

    fn with_files(files: &[(&str, serde_json::Value)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, value) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, value.to_string()).unwrap();
        }
        dir
    }

    fn config() -> serde_json::Value {
        json!({
            "model_type": "xlm-roberta", "architectures": ["XLMRobertaModel"], "hidden_size": 8, "num_hidden_layers": 1,
            "num_attention_heads": 2, "intermediate_size": 16, "max_position_embeddings": 514, "vocab_size": 9,
            "pad_token_id": 1, "some_new_key": {"a": null}
        })
    }

    #[test]
    fn configs_are_read_and_checked() {
        fn check(change: serde_json::Value, expected: Result<(&str, usize), &str>) {
            let mut value = config();
            for (key, new) in change.as_object().unwrap() {
                value[key] = new.clone();
            }
            let dir = with_files(&[("config.json", value)]);
            match (EncoderConfig::read(dir.path()), expected) {
                (Ok(config), Ok((family, tokens))) => {
                    assert_eq!((config.family().unwrap(), config.max_tokens()), (family, tokens));
                }
                (Err(error), Err(part)) => assert!(format!("{error:#}").contains(part), "{error:#}"),
                (got, expected) => panic!("{got:?} instead of {expected:?}"),
            }
        }
        check(json!({}), Ok(("xlm-roberta", 512)));
        check(json!({"model_type": "bert", "pad_token_id": 0}), Ok(("bert", 514)));
        check(json!({"model_type": "roberta"}), Ok(("xlm-roberta", 512)));
        check(json!({"model_type": "t5"}), Err("invalid model_type `t5`"));
        check(json!({"hidden_act": "mish"}), Err("mish"));
        check(
            json!({"hidden_size": 9}),
            Err("invalid hidden_size 9: expected a multiple of num_attention_heads 2"),
        );
        check(json!({"hidden_size": null}), Err("config.json: not the JSON that was expected"));
        check(json!({"num_hidden_layers": 0}), Err("invalid num_hidden_layers 0"));
        for key in [
            "hidden_size",
            "num_hidden_layers",
            "num_attention_heads",
            "intermediate_size",
            "vocab_size",
            "max_position_embeddings",
            "type_vocab_size",
            "pad_token_id",
        ] {
            for value in [1_u64 << 40, 1 << 61, u64::MAX] {
                check(json!({key: value}), Err(key));
            }
        }
        check(
            json!({"architectures": null, "id2label": null, "matryoshka_dimensions": null}),
            Ok(("xlm-roberta", 512)),
        );
        check(json!({"architectures": ["BertForPreTraining"], "model_type": null}), Ok(("bert", 514)));
        check(
            json!({"architectures": ["XLMRobertaForMaskedLM"], "model_type": null}),
            Ok(("xlm-roberta", 512)),
        );
        check(json!({"architectures": ["BertForQuestionAnswering"]}), Err("…ForPreTraining"));
        check(json!({"max_position_embeddings": 3}), Err("expected room for a text"));
        check(json!({"position_embedding_type": "relative_key"}), Err("expected absolute"));
        check(
            json!({"architectures": ["XLMRobertaForSequenceClassification"]}),
            Err("invalid id2label with 0 labels: expected one"),
        );
        check(json!({"architectures": ["XLMRobertaForTokenClassification"]}), Err("expected two labels"));
    }
}
