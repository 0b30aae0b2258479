//! `config.json` of an encoder.
//!
//! Field names are those of transformers' BERT, which other families have by other names
//! (`architecture`). A configuration that was read is checked: its numbers are bounded, its
//! architecture and its head are ones that this server computes.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::Value;

use super::activation::Activation;
use super::architecture::Architecture;
use super::json::{MAX_POSITIONS, check_range, or_default, read_json};
use super::library_config::{LibraryConfig, Sizes};
use super::modernbert_config::ModernBertConfig;
use crate::models::Task;

/// The keys of `config.json` that an encoder needs; others are ignored.
#[derive(Debug, Clone, Deserialize)]
pub struct EncoderConfig {
    /// Architecture of the network.
    #[serde(skip)]
    pub(crate) architecture: Architecture,
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
    /// Keys for candle-transformers; `None` for architectures that this crate computes by itself.
    #[serde(skip)]
    pub(crate) library: Option<LibraryConfig>,
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

/// Suffixes of architectures without a head for a task: their encoder embeds. Heads of pre-training
/// are ignored.
const EMBEDDING_HEADS: [&str; 4] = ["Model", "ForMaskedLM", "ForPreTraining", "ForNextSentencePrediction"];
/// Position of the first token in MPNet, whose padding id is fixed.
const MPNET_FIRST_POSITION: usize = 2;

impl EncoderConfig {
    /// Reads and checks `config.json`.
    ///
    /// # Errors
    /// Names the key, its value and what was expected.
    pub fn read(dir: &Path) -> Result<Self> {
        let value = read_json(dir, "config.json")?;
        Self::from_json(value).context("config.json")
    }

    fn from_json(mut value: Value) -> Result<Self> {
        let map = value.as_object_mut().context("not an object")?;
        let architecture = Architecture::of(map)?;
        architecture.unify(map);
        let malformed = "not the JSON that was expected";
        let mut config: Self = serde_json::from_value(value.clone()).context(malformed)?;
        config.architecture = architecture;
        if architecture == Architecture::ModernBert {
            config.modern = Some(serde_json::from_value(value.clone()).context(malformed)?);
        }
        config.check()?;
        config.library = LibraryConfig::of(&config.sizes(), &value)?;
        Ok(config)
    }

    fn check(&self) -> Result<()> {
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
        ensure!(
            (0.0..=1.0).contains(&self.layer_norm_eps),
            "invalid layer_norm_eps {}: expected 0 to 1",
            self.layer_norm_eps
        );
        if let Some(modern) = &self.modern {
            modern.check(self.num_hidden_layers)?;
        }
        let expected = match self.architecture {
            Architecture::JinaBert => "alibi",
            Architecture::Gte => "rope",
            _ => "absolute",
        };
        if let Some(kind) = &self.position_embedding_type {
            ensure!(kind == expected, "invalid position_embedding_type `{kind}`: expected {expected}");
        }
        Ok(())
    }

    fn sizes(&self) -> Sizes {
        Sizes {
            architecture: self.architecture,
            vocab_size: self.vocab_size,
            hidden_size: self.hidden_size,
            num_hidden_layers: self.num_hidden_layers,
            num_attention_heads: self.num_attention_heads,
            intermediate_size: self.intermediate_size,
            max_position_embeddings: self.max_position_embeddings,
            type_vocab_size: self.type_vocab_size,
            layer_norm_eps: self.layer_norm_eps,
            hidden_act: self.hidden_act,
        }
    }

    /// Task of the checkpoint's head.
    ///
    /// # Errors
    /// If this server does not compute the head.
    pub(crate) fn task(&self) -> Result<Task> {
        let task = self.task_of_head()?;
        ensure!(
            self.architecture.computes(task),
            "invalid architecture `{}`: expected an embedding model, as no other head of {} is computed",
            self.architectures.first().map_or("", String::as_str),
            self.architecture.name()
        );
        Ok(task)
    }

    fn task_of_head(&self) -> Result<Task> {
        let Some(class) = self.architectures.first() else { return Ok(Task::Embedding) };
        if class.ends_with("ForTokenClassification") {
            ensure!(self.id2label.len() > 1, "invalid id2label: expected two labels or more");
            return Ok(Task::TokenClassification);
        }
        if class.ends_with("ForSequenceClassification") {
            // Several classes give no single score by which documents could be ranked.
            let labels = self.id2label.len();
            ensure!(labels == 1, "invalid id2label with {labels} labels: expected one for {class}");
            return Ok(Task::Ranking);
        }
        // A decoder that embeds was trained as a language model, whose head is ignored.
        let generates = self.architecture.is_decoder() && class.ends_with("ForCausalLM");
        if generates || EMBEDDING_HEADS.iter().any(|head| class.ends_with(head)) {
            return Ok(Task::Embedding);
        }
        bail!(
            "invalid architecture `{class}`: expected …{}, …ForTokenClassification or …ForSequenceClassification",
            EMBEDDING_HEADS.join(", …")
        )
    }

    /// Returns true if the second text of a pair has token type 1.
    pub(crate) fn has_pair_types(&self) -> bool {
        matches!(self.architecture, Architecture::Bert | Architecture::DebertaV2) && self.type_vocab_size > 1
    }

    /// Position of a text's first token: RoBERTa counts from the padding id + 1.
    pub(crate) fn first_position(&self) -> usize {
        match self.architecture {
            Architecture::Roberta => self.pad_token_id.unwrap_or(1) + 1,
            Architecture::MpNet => MPNET_FIRST_POSITION,
            _ => 0,
        }
    }

    /// Length of the longest text that the network computes, in tokens: what its positions cover,
    /// or fewer where candle-transformers would need too much memory.
    pub(crate) fn max_tokens(&self) -> usize {
        match &self.library {
            Some(library) => library.positions,
            None => self.max_position_embeddings - self.first_position(),
        }
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
                // By number: in the order of the keys, which are texts, 10 would come before 2.
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
                    assert_eq!((config.architecture.name(), config.max_tokens()), (family, tokens));
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
