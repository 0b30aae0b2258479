//! The small files of a published model: `config.json` and what sentence-transformers puts beside it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{Pooling, Task};

/// Reads a JSON file of the model directory; the error names the file.
pub(super) fn read_json<T: DeserializeOwned>(dir: &Path, name: &str) -> Result<T> {
    let path = dir.join(name);
    let text =
        fs::read_to_string(&path).with_context(|| format!("{name}: cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{name}: not the JSON that was expected"))
}

fn read_optional<T: DeserializeOwned>(dir: &Path, name: &str) -> Result<Option<T>> {
    if dir.join(name).exists() { read_json(dir, name).map(Some) } else { Ok(None) }
}

/// The activation between the two halves of a feed-forward block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
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
pub struct EncoderConfig {
    /// Which family the checkpoint belongs to.
    pub model_type: String,
    #[serde(default)]
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
    /// Rows of the token type table.
    #[serde(default = "one")]
    pub type_vocab_size: usize,
    #[serde(default)]
    pad_token_id: Option<usize>,
    #[serde(default)]
    position_embedding_type: Option<String>,
    #[serde(default)]
    id2label: BTreeMap<String, String>,
}

fn gelu() -> Activation {
    Activation::Gelu
}

fn default_eps() -> f64 {
    1e-12
}

fn one() -> usize {
    1
}

impl EncoderConfig {
    /// Reads and checks `config.json`.
    ///
    /// # Errors
    /// Names the key and what is allowed.
    pub fn read(dir: &Path) -> Result<Self> {
        let config: Self = read_json(dir, "config.json")?;
        config.check().context("config.json")?;
        Ok(config)
    }

    fn check(&self) -> Result<()> {
        self.family()?;
        self.task()?;
        for (key, value) in [
            ("hidden_size", self.hidden_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("intermediate_size", self.intermediate_size),
            ("vocab_size", self.vocab_size),
            ("type_vocab_size", self.type_vocab_size),
        ] {
            ensure!(value > 0, "{key} is 0, it must be positive");
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
        if let Some(kind) = &self.position_embedding_type {
            ensure!(kind == "absolute", "position_embedding_type is \"{kind}\", allowed is \"absolute\"");
        }
        Ok(())
    }

    /// "bert" or "xlm-roberta": how positions are counted and what the tensors are called.
    ///
    /// # Errors
    /// On any other model type.
    pub fn family(&self) -> Result<&'static str> {
        match self.model_type.as_str() {
            "bert" => Ok("bert"),
            "xlm-roberta" | "roberta" | "camembert" => Ok("xlm-roberta"),
            other => {
                bail!(
                    "model_type is \"{other}\", allowed are \"bert\", \"xlm-roberta\", \"roberta\" and \"camembert\""
                )
            }
        }
    }

    /// What the checkpoint's head is for. A masked-language head is ignored: its encoder embeds.
    ///
    /// # Errors
    /// On heads that this server does not serve.
    pub fn task(&self) -> Result<Task> {
        let Some(architecture) = self.architectures.first() else { return Ok(Task::Embedding) };
        if architecture.ends_with("ForTokenClassification") {
            ensure!(self.id2label.len() > 1, "id2label has fewer than two labels");
            return Ok(Task::TokenClassification);
        }
        if architecture.ends_with("Model") || architecture.ends_with("ForMaskedLM") {
            return Ok(Task::Embedding);
        }
        bail!(
            "architectures names {architecture}, allowed are an encoder (…Model, …ForMaskedLM) or …ForTokenClassification"
        )
    }

    /// Index of a text's first token in the position table: RoBERTa counts from the padding id + 1.
    pub fn first_position(&self) -> usize {
        match self.model_type.as_str() {
            "bert" => 0,
            _ => self.pad_token_id.unwrap_or(1) + 1,
        }
    }

    /// Tokens that the position table has room for.
    pub fn max_tokens(&self) -> usize {
        self.max_position_embeddings - self.first_position()
    }

    /// Labels in the order of the logits.
    ///
    /// # Errors
    /// Where `id2label` is not numbered 0, 1, 2, …
    pub fn labels(&self) -> Result<Vec<String>> {
        (0..self.id2label.len())
            .map(|id| {
                let label = self.id2label.get(&id.to_string());
                label.cloned().with_context(|| format!("config.json: id2label has no label {id}"))
            })
            .collect()
    }
}

#[derive(Debug, Deserialize)]
struct Module {
    path: String,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Debug, Default, Deserialize)]
struct PoolingConfig {
    word_embedding_dimension: Option<usize>,
    embedding_dimension: Option<usize>,
    pooling_mode: Option<String>,
    #[serde(default)]
    pooling_mode_cls_token: bool,
    #[serde(default)]
    pooling_mode_mean_tokens: bool,
    #[serde(default)]
    pooling_mode_max_tokens: bool,
    #[serde(default)]
    pooling_mode_mean_sqrt_len_tokens: bool,
    #[serde(default)]
    pooling_mode_weightedmean_tokens: bool,
    #[serde(default)]
    pooling_mode_lasttoken: bool,
    #[serde(default = "yes")]
    include_prompt: bool,
}

fn yes() -> bool {
    true
}

#[derive(Debug, Default, Deserialize)]
struct PromptConfig {
    #[serde(default)]
    prompts: BTreeMap<String, Option<String>>,
    default_prompt_name: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct SentenceConfig {
    max_seq_length: Option<usize>,
    #[serde(default)]
    do_lower_case: bool,
}

/// How a sentence-transformers package uses its encoder.
#[derive(Debug, Clone, PartialEq)]
pub struct SentenceSettings {
    /// How tokens become one vector; mean where nothing is said.
    pub pooling: Pooling,
    /// Whether a Normalize module follows; true where the package has no `modules.json`.
    pub normalize: bool,
    /// The package's own limit on tokens.
    pub max_seq_length: Option<usize>,
    /// Lower-case a text before tokenising it.
    pub lowercase: bool,
    /// Prompt name to text.
    pub prompts: BTreeMap<String, String>,
    /// Prompt used where none is named.
    pub default_prompt: Option<String>,
}

impl SentenceSettings {
    /// Reads the files beside `config.json`, all of them optional; `name` decides about e5's prompts.
    ///
    /// # Errors
    /// Where a file is malformed or asks for what this server does not compute.
    pub fn read(dir: &Path, name: &str, hidden_size: usize) -> Result<Self> {
        let modules: Option<Vec<Module>> = read_optional(dir, "modules.json")?;
        let pooling_dir = modules
            .iter()
            .flatten()
            .find(|module| short_kind(&module.kind) == "Pooling")
            .map_or("1_Pooling", |module| module.path.as_str());
        let pooling = read_optional::<PoolingConfig>(dir, &format!("{pooling_dir}/config.json"))?
            .map(|config| pooling_of(&config, hidden_size))
            .transpose()
            .with_context(|| format!("{pooling_dir}/config.json"))?;
        let normalize = match &modules {
            None => true,
            Some(modules) => check_modules(modules)?,
        };
        let sentence: SentenceConfig = read_optional(dir, "sentence_bert_config.json")?.unwrap_or_default();
        let (prompts, default_prompt) = prompts_of(dir, name)?;
        Ok(Self {
            pooling: pooling.unwrap_or(Pooling::Mean),
            normalize,
            max_seq_length: sentence.max_seq_length,
            lowercase: sentence.do_lower_case,
            prompts,
            default_prompt,
        })
    }
}

fn short_kind(kind: &str) -> &str {
    kind.rsplit('.').next().unwrap_or(kind)
}

/// Whether the modules end in Normalize; refuses modules that would change the vector.
fn check_modules(modules: &[Module]) -> Result<bool> {
    for module in modules {
        let kind = short_kind(&module.kind);
        ensure!(
            matches!(kind, "Transformer" | "Pooling" | "Normalize"),
            "modules.json: module {} is not served; allowed are Transformer, Pooling and Normalize",
            module.kind
        );
    }
    Ok(modules.iter().any(|module| short_kind(&module.kind) == "Normalize"))
}

fn pooling_of(config: &PoolingConfig, hidden_size: usize) -> Result<Pooling> {
    if let Some(size) = config.word_embedding_dimension.or(config.embedding_dimension) {
        ensure!(size == hidden_size, "the dimension is {size}, config.json says hidden_size {hidden_size}");
    }
    ensure!(config.include_prompt, "include_prompt is false, allowed is true");
    let named = config.pooling_mode.as_deref();
    let modes = [
        ("cls", config.pooling_mode_cls_token),
        ("mean", config.pooling_mode_mean_tokens),
        ("max", config.pooling_mode_max_tokens),
        ("mean_sqrt_len", config.pooling_mode_mean_sqrt_len_tokens),
        ("weightedmean", config.pooling_mode_weightedmean_tokens),
        ("lasttoken", config.pooling_mode_lasttoken),
    ];
    let mut chosen: Vec<&str> = modes.iter().filter(|(_, on)| *on).map(|(mode, _)| *mode).collect();
    chosen.extend(named);
    match chosen.as_slice() {
        ["cls"] => Ok(Pooling::Cls),
        ["mean"] => Ok(Pooling::Mean),
        _ => bail!("the pooling is {chosen:?}, allowed is one of \"mean\" and \"cls\""),
    }
}

/// Prompts of `config_sentence_transformers.json`, and those every e5 model was trained with (its card:
/// "query: " and "passage: " before each text, in all languages) where the package leaves them out.
fn prompts_of(dir: &Path, name: &str) -> Result<(BTreeMap<String, String>, Option<String>)> {
    let file = "config_sentence_transformers.json";
    let config: PromptConfig = read_optional(dir, file)?.unwrap_or_default();
    let mut prompts: BTreeMap<String, String> =
        config.prompts.into_iter().filter_map(|(name, text)| Some((name, text?))).collect();
    let base = name.rsplit('/').next().unwrap_or(name);
    let is_e5 = base.split('-').any(|part| part == "e5") && !base.contains("instruct");
    if is_e5 {
        for prompt in ["query", "passage"] {
            prompts.entry(prompt.to_owned()).or_insert_with(|| format!("{prompt}: "));
        }
    }
    if let Some(default) = &config.default_prompt_name {
        ensure!(
            prompts.contains_key(default),
            "{file}: default_prompt_name is \"{default}\", which is not among its prompts"
        );
    }
    Ok((prompts, config.default_prompt_name))
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
        check(json!({"max_position_embeddings": 3}), Err("leaves no room"));
        check(json!({"position_embedding_type": "relative_key"}), Err("allowed is \"absolute\""));
        check(
            json!({"architectures": ["XLMRobertaForSequenceClassification"]}),
            Err("SequenceClassification"),
        );
        check(json!({"architectures": ["XLMRobertaForTokenClassification"]}), Err("fewer than two labels"));
    }

    #[test]
    fn sentence_settings_follow_the_package() {
        fn module(kind: &str, path: &str) -> serde_json::Value {
            json!({"idx": 0, "name": "0", "path": path, "type": format!("sentence_transformers.models.{kind}")})
        }
        let bare = SentenceSettings::read(with_files(&[]).path(), "org/plain", 8).unwrap();
        assert_eq!((bare.pooling, bare.normalize, bare.max_seq_length), (Pooling::Mean, true, None));
        assert!(bare.prompts.is_empty());

        let dir = with_files(&[
            ("modules.json", json!([module("Transformer", ""), module("Pooling", "1_Pooling")])),
            ("1_Pooling/config.json", json!({"word_embedding_dimension": 8, "pooling_mode_cls_token": true})),
            ("sentence_bert_config.json", json!({"max_seq_length": 128, "do_lower_case": true})),
            (
                "config_sentence_transformers.json",
                json!({"prompts": {"q": "ask "}, "default_prompt_name": "q"}),
            ),
        ]);
        let settings = SentenceSettings::read(dir.path(), "org/plain", 8).unwrap();
        let expected = SentenceSettings {
            pooling: Pooling::Cls,
            normalize: false,
            max_seq_length: Some(128),
            lowercase: true,
            prompts: BTreeMap::from([("q".to_owned(), "ask ".to_owned())]),
            default_prompt: Some("q".to_owned()),
        };
        assert_eq!(settings, expected);
        let error = SentenceSettings::read(dir.path(), "org/plain", 9).unwrap_err();
        assert!(format!("{error:#}").contains("the dimension is 8"), "{error:#}");
    }

    #[test]
    fn unserved_packages_are_refused() {
        fn check(files: &[(&str, serde_json::Value)], part: &str) {
            let error = SentenceSettings::read(with_files(files).path(), "org/plain", 8).unwrap_err();
            assert!(format!("{error:#}").contains(part), "{error:#}");
        }
        let dense = json!([{"path": "2_Dense", "type": "sentence_transformers.models.Dense"}]);
        check(&[("modules.json", dense)], "module sentence_transformers.models.Dense is not served");
        let max = json!({"pooling_mode_max_tokens": true, "pooling_mode_mean_tokens": true});
        check(&[("1_Pooling/config.json", max)], "allowed is one of");
        check(&[("1_Pooling/config.json", json!({"include_prompt": false}))], "include_prompt");
        check(
            &[("config_sentence_transformers.json", json!({"default_prompt_name": "q"}))],
            "default_prompt_name",
        );
    }

    #[test]
    fn e5_models_bring_their_prompts() {
        fn check(name: &str, expected: usize) {
            let settings = SentenceSettings::read(with_files(&[]).path(), name, 8).unwrap();
            assert_eq!(settings.prompts.len(), expected, "{name}");
        }
        check("intfloat/multilingual-e5-base", 2);
        check("intfloat/e5-small-v2", 2);
        check("intfloat/multilingual-e5-large-instruct", 0);
        check("org/bge-m3", 0);
    }
}
