//! Configuration of a sentence-transformers package: pooling, the modules after it, prompts and
//! limits.
//!
//! All of its files are optional: without them a checkpoint is pooled by the mean and normalised.
//! The reference is sentence-transformers 6.2; what it would do and this server does not is an
//! error.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::json::{or_default, read_json, read_optional};
use crate::models::Pooling;

/// The file that makes a directory a sentence-transformers package.
pub(crate) const MODULES: &str = "modules.json";

/// An entry of `modules.json`.
#[derive(Debug, Deserialize)]
struct ModuleEntry {
    path: String,
    #[serde(rename = "type")]
    kind: String,
}

/// `pooling_mode`: one mode or several to be concatenated.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum PoolingModes {
    One(Pooling),
    Several(Vec<Pooling>),
}

/// `1_Pooling/config.json`.
#[derive(Debug, Default, Deserialize)]
struct PoolingConfig {
    word_embedding_dimension: Option<usize>,
    embedding_dimension: Option<usize>,
    pooling_mode: Option<PoolingModes>,
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

/// `2_Dense/config.json`.
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

/// `config_sentence_transformers.json`.
#[derive(Debug, Default, Deserialize)]
struct PromptConfig {
    #[serde(default, deserialize_with = "or_default")]
    prompts: BTreeMap<String, Option<String>>,
    default_prompt_name: Option<String>,
}

/// `sentence_bert_config.json`.
#[derive(Debug, Default, Deserialize)]
struct SentenceBertConfig {
    max_seq_length: Option<usize>,
    #[serde(default, deserialize_with = "or_default")]
    do_lower_case: bool,
}

/// A module that is applied to the pooled vector.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Module {
    /// A linear layer and an activation.
    Dense {
        /// Directory of its weights (`linear.weight`, `linear.bias`).
        folder: String,
        /// Length of its input.
        inputs: usize,
        /// Length of its output.
        outputs: usize,
        /// True if it has a bias.
        bias: bool,
        /// Applied to each value of the output.
        activation: DenseActivation,
    },
    /// A layer norm with ε = 1e-5.
    LayerNorm {
        /// Directory of its weights (`norm.weight`, `norm.bias`).
        folder: String,
    },
    /// Division by the L2 norm.
    Normalize,
}

/// Activation of a [`Module::Dense`], by the class names of torch.
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

/// Configuration of a sentence-transformers package.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SentenceTransformersConfig {
    /// Pooling; the mean by default.
    pub pooling: Pooling,
    /// Modules after the pooling, in order, without a Normalize at the end.
    pub modules: Vec<Module>,
    /// True if a Normalize module comes last; true if the package has no `modules.json`.
    pub normalize: bool,
    /// Length of the vector after the modules.
    pub dimensions: usize,
    /// The package's own limit on the tokens of a text.
    pub max_seq_length: Option<usize>,
    /// True if texts are lower-cased before tokenisation.
    pub lowercase: bool,
    /// Texts of the prompts by name.
    pub prompts: BTreeMap<String, String>,
    /// Name of the prompt for requests that name none.
    pub default_prompt: Option<String>,
}

impl SentenceTransformersConfig {
    /// Reads the package's files in `dir`. The model's `name` decides whether it is an e5 model,
    /// whose prompts no file mentions.
    ///
    /// # Errors
    /// If a file is malformed or asks for what this server does not compute.
    pub(crate) fn read(dir: &Path, name: &str, hidden_size: usize) -> Result<Self> {
        let listed: Option<Vec<ModuleEntry>> = read_optional(dir, MODULES)?;
        // The folder is mostly `1_Pooling`, but `modules.json` decides.
        let pooling = listed.iter().flatten().find(|module| short_kind(&module.kind) == "Pooling");
        let pooling_dir = pooling.map(folder).transpose()?;
        let pooling_dir = pooling_dir.unwrap_or_else(|| "1_Pooling".to_owned());
        let pooling = read_optional::<PoolingConfig>(dir, &format!("{pooling_dir}/config.json"))?
            .map(|config| pooling_of(&config, hidden_size))
            .transpose()
            .with_context(|| format!("{pooling_dir}/config.json"))?;
        let mut modules = match &listed {
            None => vec![Module::Normalize],
            Some(listed) => modules_of(dir, listed)?,
        };
        // The last Normalize is a setting of the model and not a module: a request may ask for raw
        // vectors.
        let normalize = modules.last() == Some(&Module::Normalize);
        if normalize {
            modules.pop();
        }
        let dimensions = last_dimension(&modules, hidden_size)?;
        let sentence_bert: SentenceBertConfig =
            read_optional(dir, "sentence_bert_config.json")?.unwrap_or_default();
        let (prompts, default_prompt) = prompts_of(dir, name)?;
        Ok(Self {
            pooling: pooling.unwrap_or(Pooling::Mean),
            modules,
            normalize,
            dimensions,
            max_seq_length: sentence_bert.max_seq_length,
            lowercase: sentence_bert.do_lower_case,
            prompts,
            default_prompt,
        })
    }
}

fn short_kind(kind: &str) -> &str {
    kind.rsplit('.').next().unwrap_or(kind)
}

/// The modules after the transformer and the pooling, which must come first and once.
fn modules_of(dir: &Path, listed: &[ModuleEntry]) -> Result<Vec<Module>> {
    let mut modules = Vec::new();
    for (index, module) in listed.iter().enumerate() {
        match (index, short_kind(&module.kind)) {
            // Dropout does nothing outside of training.
            (0, "Transformer") | (1, "Pooling") | (2.., "Dropout") => {}
            (2.., "Normalize") => modules.push(Module::Normalize),
            (2.., "LayerNorm") => modules.push(Module::LayerNorm { folder: folder(module)? }),
            (2.., "Dense") => modules.push(dense(dir, module)?),
            _ => bail!(
                "modules.json: invalid module `{}` at index {index}: expected Transformer, then Pooling, then any of \
                 Dense, LayerNorm, Dropout and Normalize",
                module.kind
            ),
        }
    }
    Ok(modules)
}

/// Directory of a module, which must be inside of the package.
fn folder(module: &ModuleEntry) -> Result<String> {
    let inside = Path::new(&module.path).components().all(|part| matches!(part, Component::Normal(_)));
    ensure!(
        inside && !module.path.is_empty(),
        "modules.json: invalid path {:?}: expected a folder of the package",
        module.path
    );
    Ok(module.path.clone())
}

fn dense(dir: &Path, module: &ModuleEntry) -> Result<Module> {
    let folder = folder(module)?;
    let file = format!("{folder}/config.json");
    let config: DenseConfig = read_json(dir, &file)?;
    ensure!(!config.use_residual, "{file}: invalid use_residual true: expected false");
    let input = config.module_input_name.as_deref().unwrap_or("sentence_embedding");
    ensure!(
        input == "sentence_embedding",
        "{file}: invalid module_input_name `{input}`: expected sentence_embedding"
    );
    let activation = match &config.activation_function {
        // Tanh, as sentence-transformers has it for a Dense without an activation.
        None => DenseActivation::default(),
        Some(name) => {
            // By serde, so that the names are only in the attributes of the enumeration.
            let short = serde::de::value::StrDeserializer::<serde::de::value::Error>::new(short_kind(name));
            DenseActivation::deserialize(short)
                .with_context(|| format!("{file}: invalid activation_function `{name}`"))?
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

/// Length of the vector after the modules; each must take what the one before it returns.
fn last_dimension(modules: &[Module], hidden_size: usize) -> Result<usize> {
    let mut width = hidden_size;
    for module in modules {
        if let Module::Dense { folder, inputs, outputs, .. } = module {
            ensure!(
                *inputs == width && *outputs > 0,
                "{folder}/config.json: invalid in_features {inputs}, out_features {outputs}: its input has {width} values"
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
    ensure!(config.include_prompt, "invalid include_prompt false: expected true");
    let modes = [
        (Pooling::Cls, config.pooling_mode_cls_token),
        (Pooling::Max, config.pooling_mode_max_tokens),
        (Pooling::Mean, config.pooling_mode_mean_tokens),
        (Pooling::MeanSqrtLen, config.pooling_mode_mean_sqrt_len_tokens),
        (Pooling::WeightedMean, config.pooling_mode_weightedmean_tokens),
        (Pooling::Last, config.pooling_mode_lasttoken),
    ];
    // The newer key takes precedence if a package has both.
    let chosen: Vec<Pooling> = match &config.pooling_mode {
        Some(PoolingModes::One(mode)) => vec![*mode],
        Some(PoolingModes::Several(modes)) => modes.clone(),
        None => modes.iter().filter(|(_, on)| *on).map(|(mode, _)| *mode).collect(),
    };
    match chosen.as_slice() {
        [] => Ok(Pooling::Mean),
        [mode] => Ok(*mode),
        several => {
            let names: Vec<&str> = several.iter().map(|mode| mode.name()).collect();
            bail!("invalid pooling `{}`: expected one mode", names.join(" and "))
        }
    }
}

/// Prompts of `config_sentence_transformers.json`. e5 models were trained with "query: " and
/// "passage: " before every text, as their cards say; these are added if the package lacks them.
fn prompts_of(dir: &Path, name: &str) -> Result<(BTreeMap<String, String>, Option<String>)> {
    let file = "config_sentence_transformers.json";
    let config: PromptConfig = read_optional(dir, file)?.unwrap_or_default();
    let mut prompts: BTreeMap<String, String> =
        config.prompts.into_iter().filter_map(|(name, text)| Some((name, text?))).collect();
    let base = name.rsplit('/').next().unwrap_or(name);
    // By name: nothing in the files of an e5 model tells it apart.
    // The instruct models take a description of the task instead of these words.
    let is_e5 = base.split('-').any(|part| part == "e5") && !base.contains("instruct");
    if is_e5 {
        for prompt in ["query", "passage"] {
            prompts.entry(prompt.to_owned()).or_insert_with(|| format!("{prompt}: "));
        }
    }
    if let Some(default) = &config.default_prompt_name {
        ensure!(
            prompts.contains_key(default),
            "{file}: invalid default_prompt_name `{default}`: expected one of its prompts"
        );
    }
    Ok((prompts, config.default_prompt_name))
}

#[cfg(test)]
mod tests;
