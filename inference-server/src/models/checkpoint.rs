//! `config.json` of a published model, as far as an encoder needs it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use crate::models::decoder::config::DecoderConfig;
use crate::models::encoder::modernbert::ModernSettings;
use crate::models::gguf::Gguf;
use crate::models::{Task, decoder, weights};

/// Reads a JSON file of the model directory; the error names the file.
pub(crate) fn read_json<T: DeserializeOwned>(dir: &Path, name: &str) -> Result<T> {
    let path = dir.join(name);
    let text =
        fs::read_to_string(&path).with_context(|| format!("{name}: cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{name}: not the JSON that was expected"))
}

pub(crate) fn read_optional<T: DeserializeOwned>(dir: &Path, name: &str) -> Result<Option<T>> {
    if dir.join(name).exists() { read_json(dir, name).map(Some) } else { Ok(None) }
}

/// What is there, or the default where it is left out or `null`.
pub(crate) fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    value: D,
) -> Result<T, D::Error> {
    Option::deserialize(value).map(Option::unwrap_or_default)
}

/// Checks a number of a configuration before anything is computed or allocated by it. The largest
/// that are allowed lie far above what is published, and so low that their products are numbers.
pub(crate) fn check_number(key: &str, value: usize, most: usize) -> Result<()> {
    ensure!((1..=most).contains(&value), "{key} is {value}, allowed are 1 to {most}");
    Ok(())
}

/// What the model of a directory is for, by its GGUF file or its `config.json`.
///
/// # Errors
/// If there are several GGUF files, and as [`EncoderConfig::read`] and [`DecoderConfig::read`].
pub(crate) fn task(dir: &Path) -> Result<Task> {
    if let Some(file) = gguf(dir)? {
        let read = || DecoderConfig::from_gguf(&Gguf::open(&dir.join(&file))?);
        return read().with_context(|| file.clone()).map(|_| Task::Generation);
    }
    if is_decoder(dir)? {
        return DecoderConfig::read(dir).map(|_| Task::Generation);
    }
    EncoderConfig::read(dir)?.task()
}

/// The GGUF file of a directory that has no checkpoint of another kind.
///
/// # Errors
/// If there are several.
pub(crate) fn gguf(dir: &Path) -> Result<Option<String>> {
    if weights::checkpoint(dir).is_some() {
        return Ok(None);
    }
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".gguf") && !name.starts_with('.') {
            names.push(name);
        }
    }
    names.sort_unstable();
    ensure!(names.len() <= 1, "{} are several models; one folder holds one", names.join(", "));
    Ok(names.pop())
}

/// Whether the model writes text: it is in a GGUF file, or `config.json` says so.
///
/// # Errors
/// As [`gguf`], and where there is neither.
pub(crate) fn is_decoder(dir: &Path) -> Result<bool> {
    if gguf(dir)?.is_some() {
        return Ok(true);
    }
    #[derive(Deserialize)]
    struct Kind {
        #[serde(default)]
        model_type: String,
    }
    let kind: Kind = read_json(dir, "config.json")?;
    Ok(decoder::config::family(&kind.model_type).is_some())
}

/// The activation between the two halves of a feed-forward block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Activation {
    /// x·Φ(x) by the error function.
    Gelu,
    /// The tanh approximation of `Gelu`.
    #[serde(alias = "gelu_fast", alias = "gelu_pytorch_tanh")]
    GeluNew,
    /// max(0, x).
    Relu,
    /// x·σ(x).
    #[serde(alias = "swish")]
    Silu,
}

/// `config.json`, as far as an encoder needs it. Unknown keys are ignored.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct EncoderConfig {
    /// Which family the checkpoint belongs to.
    #[serde(default, deserialize_with = "or_default")]
    pub model_type: String,
    #[serde(default, deserialize_with = "or_default")]
    architectures: Vec<String>,
    /// Width of a token vector.
    pub hidden_size: usize,
    /// Number of blocks.
    pub num_hidden_layers: usize,
    /// Heads of each block.
    pub num_attention_heads: usize,
    /// Width between the halves of a feed-forward block.
    pub intermediate_size: usize,
    /// Activation between the halves.
    #[serde(default = "gelu")]
    pub hidden_act: Activation,
    /// Added to the variance by the layer norms.
    #[serde(default = "default_eps")]
    pub layer_norm_eps: f64,
    /// Rows of the position table.
    pub max_position_embeddings: usize,
    /// Rows of the token table.
    pub vocab_size: usize,
    /// Rows of the token type table; 0 where the checkpoint has none.
    #[serde(default = "two")]
    pub type_vocab_size: usize,
    #[serde(default)]
    pad_token_id: Option<usize>,
    #[serde(default)]
    position_embedding_type: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    id2label: BTreeMap<String, String>,
    /// What only ModernBERT has.
    #[serde(skip)]
    pub modern: Option<ModernSettings>,
    #[serde(default, deserialize_with = "or_default")]
    matryoshka_dimensions: Vec<usize>,
}

fn gelu() -> Activation {
    Activation::Gelu
}

fn default_eps() -> f64 {
    1e-12
}

fn two() -> usize {
    2
}

/// Architectures and the model types that they are of, for configurations of before there were
/// model types.
const ARCHITECTURES: [(&str, &str); 5] = [
    ("XLMRoberta", "xlm-roberta"),
    ("Roberta", "roberta"),
    ("Camembert", "camembert"),
    ("ModernBert", "modernbert"),
    ("Bert", "bert"),
];
/// Heads of training, whose encoder embeds.
const TRAINED: [&str; 4] = ["Model", "ForMaskedLM", "ForPreTraining", "ForNextSentencePrediction"];
/// Rows of the position table at most.
const MOST_POSITIONS: usize = 1 << 18;

impl EncoderConfig {
    /// Reads and checks `config.json`.
    ///
    /// # Errors
    /// Names the key and what is allowed.
    pub(crate) fn read(dir: &Path) -> Result<Self> {
        let mut config: Self = read_json(dir, "config.json")?;
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
        for (key, value, most) in [
            ("hidden_size", self.hidden_size, 1 << 16),
            ("num_hidden_layers", self.num_hidden_layers, 1 << 12),
            ("num_attention_heads", self.num_attention_heads, 1 << 12),
            ("intermediate_size", self.intermediate_size, 1 << 20),
            ("vocab_size", self.vocab_size, 1 << 24),
            ("max_position_embeddings", self.max_position_embeddings, MOST_POSITIONS),
            ("type_vocab_size", self.type_vocab_size.max(1), 1 << 10),
            ("pad_token_id", self.pad_token_id.unwrap_or(1).max(1), MOST_POSITIONS),
        ] {
            check_number(key, value, most)?;
        }
        ensure!(
            self.hidden_size.is_multiple_of(self.num_attention_heads),
            "hidden_size {} is not a multiple of num_attention_heads {}",
            self.hidden_size,
            self.num_attention_heads
        );
        ensure!(
            self.max_position_embeddings > self.first_position() + 2,
            "max_position_embeddings {} leaves no room for a text",
            self.max_position_embeddings
        );
        if let Some(modern) = &self.modern {
            modern.check(self.num_hidden_layers)?;
        }
        if let Some(kind) = &self.position_embedding_type {
            ensure!(kind == "absolute", "position_embedding_type is \"{kind}\", allowed is \"absolute\"");
        }
        Ok(())
    }

    /// "bert", "xlm-roberta" or "modernbert": how positions are counted and what the tensors are
    /// called.
    ///
    /// # Errors
    /// On any other model type.
    pub(crate) fn family(&self) -> Result<&'static str> {
        match self.model_type.as_str() {
            "bert" => Ok("bert"),
            "xlm-roberta" | "roberta" | "camembert" => Ok("xlm-roberta"),
            "modernbert" => Ok("modernbert"),
            other => bail!(
                "model_type is \"{other}\", allowed are \"bert\", \"xlm-roberta\", \"roberta\", \"camembert\" and \
                 \"modernbert\" for encoders and {} for decoders",
                decoder::config::model_types()
            ),
        }
    }

    /// What the checkpoint's head is for. A masked-language head is ignored: its encoder embeds.
    ///
    /// # Errors
    /// On heads that this server does not serve.
    pub(crate) fn task(&self) -> Result<Task> {
        let Some(architecture) = self.architectures.first() else { return Ok(Task::Embedding) };
        if architecture.ends_with("ForTokenClassification") {
            ensure!(self.id2label.len() > 1, "id2label has fewer than two labels");
            return Ok(Task::TokenClassification);
        }
        if architecture.ends_with("ForSequenceClassification") {
            let labels = self.id2label.len();
            ensure!(labels == 1, "id2label has {labels} labels, a ranking model ({architecture}) has one");
            return Ok(Task::Ranking);
        }
        if TRAINED.iter().any(|head| architecture.ends_with(head)) {
            return Ok(Task::Embedding);
        }
        bail!(
            "architectures names {architecture}, allowed are an encoder (…{}), …ForTokenClassification and \
             …ForSequenceClassification",
            TRAINED.join(", …")
        )
    }

    /// Whether the tokens of a pair's second text are of another type than the first's.
    pub(crate) fn has_pair_types(&self) -> bool {
        self.model_type == "bert" && self.type_vocab_size > 1
    }

    /// The encoder's table of token vectors.
    pub(crate) fn word_table(&self) -> &'static str {
        if self.modern.is_some() {
            "embeddings.tok_embeddings.weight"
        } else {
            "embeddings.word_embeddings.weight"
        }
    }

    /// Index of a text's first token in the position table: RoBERTa counts from the padding id + 1.
    pub(crate) fn first_position(&self) -> usize {
        match self.model_type.as_str() {
            "bert" | "modernbert" => 0,
            _ => self.pad_token_id.unwrap_or(1) + 1,
        }
    }

    /// Tokens that the position table has room for.
    pub(crate) fn max_tokens(&self) -> usize {
        self.max_position_embeddings - self.first_position()
    }

    /// Lengths below `dimensions` that an embedding may be cut to, ascending, as the model's
    /// authors trained it.
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
                label.cloned().with_context(|| format!("config.json: id2label has no label {id}"))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
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
        check(json!({"model_type": "t5"}), Err("model_type is \"t5\""));
        check(json!({"hidden_act": "mish"}), Err("mish"));
        check(json!({"hidden_size": 9}), Err("hidden_size 9 is not a multiple of num_attention_heads 2"));
        check(json!({"hidden_size": null}), Err("config.json: not the JSON that was expected"));
        check(json!({"num_hidden_layers": 0}), Err("num_hidden_layers is 0"));
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
        check(json!({"max_position_embeddings": 3}), Err("leaves no room"));
        check(json!({"position_embedding_type": "relative_key"}), Err("allowed is \"absolute\""));
        check(
            json!({"architectures": ["XLMRobertaForSequenceClassification"]}),
            Err("id2label has 0 labels, a ranking model"),
        );
        check(json!({"architectures": ["XLMRobertaForTokenClassification"]}), Err("fewer than two labels"));
    }
}
