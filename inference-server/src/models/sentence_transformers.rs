//! What sentence-transformers puts beside a model: pooling, the modules after it, prompts and
//! limits.
//!
//! The reference is sentence-transformers 6.2.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::models::Pooling;
use crate::models::checkpoint::{or_default, read_json, read_optional};

/// An entry of `modules.json`.
#[derive(Debug, Deserialize)]
struct Listed {
    path: String,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Modes {
    One(Pooling),
    Several(Vec<Pooling>),
}

#[derive(Debug, Default, Deserialize)]
struct PoolingConfig {
    word_embedding_dimension: Option<usize>,
    embedding_dimension: Option<usize>,
    pooling_mode: Option<Modes>,
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

#[derive(Debug, Deserialize)]
struct DenseConfig {
    in_features: usize,
    out_features: usize,
    #[serde(default = "yes")]
    bias: bool,
    activation_function: Option<String>,
    module_input_name: Option<String>,
    #[serde(default)]
    use_residual: bool,
}

#[derive(Debug, Default, Deserialize)]
struct PromptConfig {
    #[serde(default, deserialize_with = "or_default")]
    prompts: BTreeMap<String, Option<String>>,
    default_prompt_name: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct SentenceConfig {
    max_seq_length: Option<usize>,
    #[serde(default, deserialize_with = "or_default")]
    do_lower_case: bool,
}

/// A module that works on the pooled vector.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Module {
    /// A linear map and a function of each value of its result.
    Dense {
        /// Folder of its weights (`linear.weight`, `linear.bias`).
        folder: String,
        /// Length of its input.
        inputs: usize,
        /// Length of its result.
        outputs: usize,
        /// Whether it adds a bias.
        bias: bool,
        /// The function.
        activation: DenseActivation,
    },
    /// A layer norm with ε = 1e-5.
    LayerNorm {
        /// Folder of its weights (`norm.weight`, `norm.bias`).
        folder: String,
    },
    /// Division by the L2 norm.
    Normalize,
}

/// The function at the end of a [`Module::Dense`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub(crate) enum DenseActivation {
    /// x.
    Identity,
    /// tanh x.
    #[default]
    Tanh,
    /// x·Φ(x).
    #[serde(rename = "GELU")]
    Gelu,
    /// max(0, x).
    #[serde(rename = "ReLU")]
    Relu,
    /// x·σ(x).
    #[serde(rename = "SiLU")]
    Silu,
    /// σ(x).
    Sigmoid,
}

/// How a sentence-transformers package uses its encoder.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SentenceSettings {
    /// How tokens become one vector; mean where nothing is said.
    pub pooling: Pooling,
    /// What follows the pooling, in order; the last Normalize is `normalize` instead.
    pub modules: Vec<Module>,
    /// Whether a Normalize module comes last; true where the package has no `modules.json`.
    pub normalize: bool,
    /// Length of the vector after the modules.
    pub dimensions: usize,
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
    /// Reads the files beside `config.json`, all of them optional; `name` decides about e5's
    /// prompts.
    ///
    /// # Errors
    /// If a file is malformed or asks for what this server does not compute.
    pub(crate) fn read(dir: &Path, name: &str, hidden_size: usize) -> Result<Self> {
        let listed: Option<Vec<Listed>> = read_optional(dir, "modules.json")?;
        let is_pooling = |module: &&Listed| short_kind(&module.kind) == "Pooling";
        let pooling_dir = listed.iter().flatten().find(is_pooling).map(folder).transpose()?;
        let pooling_dir = pooling_dir.unwrap_or_else(|| "1_Pooling".to_owned());
        let pooling = read_optional::<PoolingConfig>(dir, &format!("{pooling_dir}/config.json"))?
            .map(|config| pooling_of(&config, hidden_size))
            .transpose()
            .with_context(|| format!("{pooling_dir}/config.json"))?;
        let mut modules = match &listed {
            None => vec![Module::Normalize],
            Some(listed) => modules_of(dir, listed)?,
        };
        let normalize = modules.last() == Some(&Module::Normalize);
        if normalize {
            modules.pop();
        }
        let dimensions = last_dimension(&modules, hidden_size)?;
        let sentence: SentenceConfig = read_optional(dir, "sentence_bert_config.json")?.unwrap_or_default();
        let (prompts, default_prompt) = prompts_of(dir, name)?;
        Ok(Self {
            pooling: pooling.unwrap_or(Pooling::Mean),
            modules,
            normalize,
            dimensions,
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

/// The modules behind the transformer and the pooling, which must come first and once.
fn modules_of(dir: &Path, listed: &[Listed]) -> Result<Vec<Module>> {
    let mut modules = Vec::new();
    for (place, module) in listed.iter().enumerate() {
        match (place, short_kind(&module.kind)) {
            (0, "Transformer") | (1, "Pooling") | (2.., "Dropout") => {}
            (2.., "Normalize") => modules.push(Module::Normalize),
            (2.., "LayerNorm") => modules.push(Module::LayerNorm { folder: folder(module)? }),
            (2.., "Dense") => modules.push(dense(dir, module)?),
            _ => bail!(
                "modules.json: module {} at place {place} is not served; allowed are Transformer, then Pooling, then \
                 any of Dense, LayerNorm, Dropout and Normalize",
                module.kind
            ),
        }
    }
    Ok(modules)
}

/// A module's folder, which must not be outside of the package.
fn folder(module: &Listed) -> Result<String> {
    let inside = Path::new(&module.path).components().all(|part| matches!(part, Component::Normal(_)));
    ensure!(inside && !module.path.is_empty(), "modules.json: path {:?} is not a folder name", module.path);
    Ok(module.path.clone())
}

fn dense(dir: &Path, module: &Listed) -> Result<Module> {
    let folder = folder(module)?;
    let file = format!("{folder}/config.json");
    let config: DenseConfig = read_json(dir, &file)?;
    ensure!(!config.use_residual, "{file}: use_residual is true, allowed is false");
    let input = config.module_input_name.as_deref().unwrap_or("sentence_embedding");
    ensure!(
        input == "sentence_embedding",
        "{file}: module_input_name is \"{input}\", allowed is \"sentence_embedding\""
    );
    let activation = match &config.activation_function {
        None => DenseActivation::default(),
        Some(name) => {
            let short = serde::de::value::StrDeserializer::<serde::de::value::Error>::new(short_kind(name));
            DenseActivation::deserialize(short)
                .with_context(|| format!("{file}: activation_function is \"{name}\""))?
        }
    };
    Ok(Module::Dense {
        folder,
        inputs: config.in_features,
        outputs: config.out_features,
        bias: config.bias,
        activation,
    })
}

/// Length of the vector after the modules; each must take what the one before it gives.
fn last_dimension(modules: &[Module], hidden_size: usize) -> Result<usize> {
    let mut width = hidden_size;
    for module in modules {
        if let Module::Dense { folder, inputs, outputs, .. } = module {
            ensure!(
                *inputs == width && *outputs > 0,
                "{folder}/config.json: {inputs} to {outputs} values, but it is given {width}"
            );
            width = *outputs;
        }
    }
    Ok(width)
}

fn pooling_of(config: &PoolingConfig, hidden_size: usize) -> Result<Pooling> {
    if let Some(size) = config.word_embedding_dimension.or(config.embedding_dimension) {
        ensure!(size == hidden_size, "the dimension is {size}, config.json says hidden_size {hidden_size}");
    }
    ensure!(config.include_prompt, "include_prompt is false, allowed is true");
    let modes = [
        (Pooling::Cls, config.pooling_mode_cls_token),
        (Pooling::Max, config.pooling_mode_max_tokens),
        (Pooling::Mean, config.pooling_mode_mean_tokens),
        (Pooling::MeanSqrtLen, config.pooling_mode_mean_sqrt_len_tokens),
        (Pooling::WeightedMean, config.pooling_mode_weightedmean_tokens),
        (Pooling::Last, config.pooling_mode_lasttoken),
    ];
    // The newer key rules where a package has both.
    let chosen: Vec<Pooling> = match &config.pooling_mode {
        Some(Modes::One(mode)) => vec![*mode],
        Some(Modes::Several(modes)) => modes.clone(),
        None => modes.iter().filter(|(_, on)| *on).map(|(mode, _)| *mode).collect(),
    };
    match chosen.as_slice() {
        [] => Ok(Pooling::Mean),
        [mode] => Ok(*mode),
        several => {
            let names: Vec<&str> = several.iter().map(|mode| mode.name()).collect();
            bail!("the pooling is {}, allowed is one at a time", names.join(" and "))
        }
    }
}

/// Prompts of `config_sentence_transformers.json`, and those every e5 model was trained with (its
/// card: "query: " and "passage: " before each text, in all languages) where the package leaves
/// them out.
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
            modules: Vec::new(),
            normalize: false,
            dimensions: 8,
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
        let first = json!([{"path": "2_Dense", "type": "sentence_transformers.models.Dense"}]);
        check(
            &[("modules.json", first)],
            "module sentence_transformers.models.Dense at place 0 is not served",
        );
        let max = json!({"pooling_mode_max_tokens": true, "pooling_mode_mean_tokens": true});
        check(&[("1_Pooling/config.json", max)], "the pooling is max and mean, allowed is one at a time");
        check(&[("1_Pooling/config.json", json!({"pooling_mode": "median"}))], "1_Pooling/config.json");
        check(&[("1_Pooling/config.json", json!({"include_prompt": false}))], "include_prompt");
        check(
            &[("config_sentence_transformers.json", json!({"default_prompt_name": "q"}))],
            "default_prompt_name",
        );
    }

    #[test]
    fn modules_follow_the_pooling() {
        let listed = |kinds: &[&str]| {
            let entry = |(place, kind): (usize, &&str)| json!({"path": format!("{place}_{kind}"), "type": format!("x.{kind}")});
            json!(kinds.iter().enumerate().map(entry).collect::<Vec<_>>())
        };
        let read = |kinds: &[&str], dense: serde_json::Value| {
            let dir = with_files(&[("modules.json", listed(kinds)), ("2_Dense/config.json", dense)]);
            SentenceSettings::read(dir.path(), "org/plain", 8)
        };
        let config = json!({"in_features": 8, "out_features": 3, "activation_function": "torch.nn.modules.activation.GELU"});
        let kinds = ["Transformer", "Pooling", "Dense", "LayerNorm", "Normalize"];
        let settings = read(&kinds, config).unwrap();
        assert_eq!((settings.dimensions, settings.normalize, settings.modules.len()), (3, true, 2));
        let expected = Module::Dense {
            folder: "2_Dense".to_owned(),
            inputs: 8,
            outputs: 3,
            bias: true,
            activation: DenseActivation::Gelu,
        };
        assert_eq!(settings.modules[0], expected);
        let fails = |dense: serde_json::Value, part: &str| {
            let error = format!("{:#}", read(&kinds[..3], dense).unwrap_err());
            assert!(error.contains(part), "{error}");
        };
        fails(
            json!({"in_features": 9, "out_features": 3}),
            "2_Dense/config.json: 9 to 3 values, but it is given 8",
        );
        fails(json!({"in_features": 8}), "2_Dense/config.json");
        let mish = json!({"in_features": 8, "out_features": 3, "activation_function": "torch.nn.Mish"});
        fails(mish, "activation_function is \"torch.nn.Mish\"");
        fails(json!({"in_features": 8, "out_features": 3, "use_residual": true}), "use_residual is true");
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
