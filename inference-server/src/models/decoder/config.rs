//! `config.json` of a published language model, as far as a decoder needs it.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use super::rotation::{Head, Rope, Rotation};
use crate::kernels::math::Activation;
use crate::kernels::paged::AttentionShape;
use crate::models::checkpoint::{self, read_json};
use crate::models::encoder::cpu;
use crate::models::gguf::{Architecture, Gguf, Scaling};

/// Families of decoders, by what sets their layers apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Biases on queries, keys and values.
    Qwen2,
    /// Norms of queries and keys.
    Qwen3,
    /// Llama and Mistral.
    Llama,
    /// Norms around both halves, and attention that is local in most layers.
    Gemma3,
    /// Fused projections.
    Phi3,
}

impl Family {
    /// The name in listings.
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

/// What sets one layer apart from another of the same model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// Tokens that a query sees at most; `None` sees all.
    pub window: Option<usize>,
    /// Whether it rotates as the layers with a window do.
    pub local: bool,
}

/// A checked `config.json`.
#[derive(Debug, Clone)]
pub struct DecoderConfig {
    /// Which family the checkpoint belongs to.
    pub family: Family,
    /// Width of a token's state.
    pub hidden: usize,
    /// Width between the halves of a feed-forward block.
    pub inner: usize,
    /// Heads.
    pub heads: AttentionShape,
    /// Factor of attention scores.
    pub score_scale: f32,
    /// Rows of the token table.
    pub vocabulary: usize,
    /// Tokens of a text, prompt included.
    pub context: usize,
    /// Added to the mean square by the norms.
    pub epsilon: f32,
    /// Activation of the gate.
    pub activation: Activation,
    /// Whether the head is the token table.
    pub tied: bool,
    /// Whether queries, keys and values have biases.
    pub qkv_bias: bool,
    /// Whether the output of attention has a bias.
    pub output_bias: bool,
    /// Whether the feed-forward block has biases.
    pub mlp_bias: bool,
    /// Rotation of layers that see all.
    pub rotation: Rotation,
    /// Rotation of layers with a window.
    pub local_rotation: Rotation,
    /// The layers.
    pub layers: Vec<Kind>,
}

#[derive(Debug, Deserialize)]
struct File {
    model_type: String,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    vocab_size: usize,
    max_position_embeddings: usize,
    #[serde(default = "small")]
    rms_norm_eps: f64,
    hidden_act: Option<checkpoint::Activation>,
    hidden_activation: Option<checkpoint::Activation>,
    tie_word_embeddings: Option<bool>,
    attention_bias: Option<bool>,
    #[serde(default, deserialize_with = "checkpoint::or_default")]
    mlp_bias: bool,
    rope_theta: Option<f64>,
    rope_local_base_freq: Option<f64>,
    rope_scaling: Option<Value>,
    rope_parameters: Option<Value>,
    partial_rotary_factor: Option<f64>,
    use_sliding_window: Option<bool>,
    sliding_window: Option<usize>,
    max_window_layers: Option<usize>,
    sliding_window_pattern: Option<usize>,
    layer_types: Option<Vec<String>>,
    query_pre_attn_scalar: Option<f64>,
    final_logit_softcapping: Option<f64>,
    attn_logit_softcapping: Option<f64>,
}

fn small() -> f64 {
    1e-6
}

/// The tensor of a GGUF file that divides the frequencies of Llama 3.1 and later.
const FREQUENCIES: &str = "rope_freqs.weight";

/// Tokens of a text at most.
const MOST_POSITIONS: usize = 1 << 28;

/// What transformers takes for a Gemma 3 whose file does not say: the published ones of 4 billion
/// weights and more say little.
fn gemma3() -> Value {
    json!({
        "vocab_size": 262_208, "hidden_size": 2_304, "intermediate_size": 9_216, "num_hidden_layers": 26,
        "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "max_position_embeddings": 131_072,
        "query_pre_attn_scalar": 256, "sliding_window": 4_096,
    })
}

/// Model types of `config.json` that are decoders.
const TYPES: [(&str, Family); 7] = [
    ("qwen2", Family::Qwen2),
    ("qwen3", Family::Qwen3),
    ("llama", Family::Llama),
    ("mistral", Family::Llama),
    ("gemma3_text", Family::Gemma3),
    ("gemma3", Family::Gemma3),
    ("phi3", Family::Phi3),
];

/// The family of a model type, or `None` where it is no decoder that this server knows.
pub(crate) fn family(model_type: &str) -> Option<Family> {
    TYPES.iter().find(|(name, _)| *name == model_type).map(|(_, family)| *family)
}

/// The model types that are decoders, in words.
pub(crate) fn model_types() -> String {
    let quoted: Vec<String> = TYPES.iter().map(|(name, _)| format!("\"{name}\"")).collect();
    quoted.join(", ")
}

impl DecoderConfig {
    /// Reads and checks `config.json`.
    ///
    /// # Errors
    /// Names the key and what is allowed.
    pub fn read(dir: &Path) -> Result<Self> {
        let value: Value = read_json(dir, "config.json")?;
        Self::from_json(value).context("config.json")
    }

    /// What a GGUF file says, put as a `config.json` and checked like one.
    ///
    /// # Errors
    /// Names the key and what is allowed.
    pub fn from_gguf(file: &Gguf) -> Result<Self> {
        let found = file.dimensions()?;
        let scaling = match found.rope_scaling {
            Scaling::None => Value::Null,
            Scaling::Linear(factor) => json!({"rope_type": "linear", "factor": factor}),
            // llama.cpp sharpens by the factor whatever else the file asks for.
            Scaling::Yarn { factor, original, attention } => json!({
                "rope_type": "yarn", "factor": factor, "original_max_position_embeddings": original,
                "attention_factor": attention.unwrap_or(1.0) * (1.0 + 0.1 * factor.max(1.0).ln()),
            }),
        };
        let gemma = found.architecture == Architecture::Gemma3;
        // As llama.cpp has it: the largest Gemma 3 alone scales by the width shared out among the
        // heads.
        let scalar = if found.blocks == 62 { found.hidden / found.heads } else { found.head_width };
        let mut config = Self::from_json(json!({
            "model_type": if gemma { "gemma3_text" } else { found.architecture.name() },
            "hidden_size": found.hidden,
            "intermediate_size": found.feed_forward,
            "num_hidden_layers": found.blocks,
            "num_attention_heads": found.heads,
            "num_key_value_heads": found.kv_heads,
            "head_dim": found.head_width,
            "vocab_size": found.vocabulary,
            "max_position_embeddings": found.context,
            "rms_norm_eps": found.norm_epsilon,
            "rope_theta": found.rope_base,
            "rope_local_base_freq": found.window_rope_base,
            "rope_scaling": scaling,
            "sliding_window": found.window,
            "sliding_window_pattern": found.window_pattern,
            "query_pre_attn_scalar": scalar,
        }))?;
        let has = |name: &str| file.tensor(name).is_some();
        config.tied = !has("output.weight");
        config.qkv_bias = has("blk.0.attn_q.bias");
        config.output_bias = has("blk.0.attn_output.bias");
        config.mlp_bias = has("blk.0.ffn_up.bias");
        if has(FREQUENCIES) {
            let factors = file.floats(FREQUENCIES, &[config.rotation.frequencies.len()])?;
            for rotation in [&mut config.rotation, &mut config.local_rotation] {
                rotation.frequencies.iter_mut().zip(&factors).for_each(|(x, factor)| *x /= factor);
            }
        }
        Ok(config)
    }

    fn from_json(mut value: Value) -> Result<Self> {
        // A model that also reads images keeps its language model's settings apart.
        if let Some(Value::Object(inner)) = value.get("text_config").cloned() {
            let outer = value.as_object_mut().context("not an object")?;
            outer.extend(inner.into_iter().filter(|(key, _)| key != "model_type"));
        }
        if value.get("model_type").and_then(Value::as_str).and_then(family) == Some(Family::Gemma3)
            && let (Some(map), Value::Object(defaults)) = (value.as_object_mut(), gemma3())
        {
            for (key, default) in defaults {
                map.entry(key).or_insert(default);
            }
        }
        let file: File = serde_json::from_value(value).context("not what was expected of a decoder")?;
        let family = family(&file.model_type).with_context(|| {
            format!("model_type is \"{}\", allowed are {}", file.model_type, model_types())
        })?;
        file.check()?;
        let heads = file.heads()?;
        let layers = file.layers(family)?;
        let (rotation, local_rotation, context) = file.rotations(family, heads.size)?;
        let activation = file.hidden_activation.or(file.hidden_act);
        let biased = file.attention_bias.unwrap_or(family == Family::Qwen2);
        let scale = file.query_pre_attn_scalar.filter(|_| family == Family::Gemma3);
        Ok(Self {
            family,
            hidden: file.hidden_size,
            inner: file.intermediate_size,
            heads,
            score_scale: (1.0 / scale.unwrap_or(heads.size as f64).sqrt()) as f32,
            vocabulary: file.vocab_size,
            context,
            epsilon: file.rms_norm_eps as f32,
            activation: cpu::activation(activation.unwrap_or(match family {
                Family::Gemma3 => checkpoint::Activation::GeluNew,
                _ => checkpoint::Activation::Silu,
            })),
            tied: file.tie_word_embeddings.unwrap_or(family == Family::Gemma3),
            qkv_bias: biased,
            output_bias: biased && family != Family::Qwen2,
            mlp_bias: file.mlp_bias,
            rotation,
            local_rotation,
            layers,
        })
    }
}

impl File {
    fn check(&self) -> Result<()> {
        for (key, value, most) in [
            ("hidden_size", self.hidden_size, 1 << 17),
            ("intermediate_size", self.intermediate_size, 1 << 21),
            ("num_hidden_layers", self.num_hidden_layers, 1 << 12),
            ("num_attention_heads", self.num_attention_heads, 1 << 12),
            ("num_key_value_heads", self.num_key_value_heads.unwrap_or(1), 1 << 12),
            ("head_dim", self.head_dim.unwrap_or(2), 1 << 12),
            ("vocab_size", self.vocab_size, 1 << 24),
            ("max_position_embeddings", self.max_position_embeddings, MOST_POSITIONS),
        ] {
            checkpoint::check_number(key, value, most)?;
        }
        for (key, value) in [
            ("final_logit_softcapping", self.final_logit_softcapping),
            ("attn_logit_softcapping", self.attn_logit_softcapping),
        ] {
            ensure!(value.is_none(), "{key} is set, which this server does not compute");
        }
        Ok(())
    }

    fn heads(&self) -> Result<AttentionShape> {
        let queries = self.num_attention_heads;
        let kv_heads = self.num_key_value_heads.unwrap_or(queries);
        ensure!(
            queries.is_multiple_of(kv_heads),
            "num_attention_heads {queries} is not a multiple of num_key_value_heads {kv_heads}"
        );
        let size = self.head_dim.unwrap_or(self.hidden_size / queries);
        ensure!(size > 0 && size.is_multiple_of(2), "head_dim is {size}, it must be even");
        Ok(AttentionShape { kv_heads, group: queries / kv_heads, size })
    }

    /// A window of 0 or of the whole context is none.
    fn window(&self) -> Option<usize> {
        self.sliding_window.filter(|window| (1..self.max_position_embeddings).contains(window))
    }

    fn layers(&self, family: Family) -> Result<Vec<Kind>> {
        let window = self.window();
        let full = Kind { window: None, local: false };
        let local = Kind { window, local: true };
        let uses = self.use_sliding_window.unwrap_or(family == Family::Llama || family == Family::Phi3);
        let count = self.num_hidden_layers;
        if let Some(types) = &self.layer_types {
            ensure!(types.len() == count, "layer_types has {} entries for {count} layers", types.len());
            return types
                .iter()
                .map(|kind| match kind.as_str() {
                    "full_attention" => Ok(full),
                    "sliding_attention" => Ok(local),
                    other => {
                        bail!("layer_types has \"{other}\", allowed are full_attention and sliding_attention")
                    }
                })
                .collect();
        }
        let is_local = |index: usize| match family {
            Family::Gemma3 => !(index + 1).is_multiple_of(self.sliding_window_pattern.unwrap_or(6)),
            Family::Qwen2 | Family::Qwen3 => uses && index >= self.max_window_layers.unwrap_or(0),
            Family::Llama | Family::Phi3 => uses,
        };
        Ok((0..count).map(|index| if is_local(index) { local } else { full }).collect())
    }

    /// Of layers that see all, and of those with a window; and the tokens of a text.
    fn rotations(&self, family: Family, size: usize) -> Result<(Rotation, Rotation, usize)> {
        let default = if family == Family::Gemma3 { 1_000_000.0 } else { 10_000.0 };
        let read = |value: Option<&Value>| -> Result<Rope> {
            let Some(mut value) = value.filter(|value| !value.is_null()).cloned() else {
                return Ok(Rope::default());
            };
            // transformers writes the old name beside the new one, which counts.
            if let Some(map) = value.as_object_mut()
                && map.get("rope_type").is_some_and(|kind| !kind.is_null())
            {
                map.remove("type");
            } else if let Some(map) = value.as_object_mut() {
                map.remove("rope_type");
            }
            serde_json::from_value(value).context("rope_parameters")
        };
        let parameters = self.rope_parameters.as_ref().or(self.rope_scaling.as_ref());
        let by_type = |name: &str| self.rope_parameters.as_ref().and_then(|all| all.get(name));
        let (all, local) = match (by_type("full_attention"), by_type("sliding_attention")) {
            (None, None) => (read(parameters)?, None),
            (all, local) => (read(all)?, Some(read(local)?)),
        };
        let context = self.max_position_embeddings;
        let head = |base| Head { base, size, partial: self.partial_rotary_factor, context };
        let rotation = all.rotation(head(self.rope_theta.unwrap_or(default)))?;
        let local = match local {
            Some(rope) => rope.rotation(head(10_000.0))?,
            None if family == Family::Gemma3 => {
                Rope::default().rotation(head(self.rope_local_base_freq.unwrap_or(10_000.0)))?
            }
            None => rotation.clone(),
        };
        let context = all.context(context);
        checkpoint::check_number("max_position_embeddings by its factor", context, MOST_POSITIONS)?;
        Ok((rotation, local, context))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Value {
        json!({
            "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 8, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 16, "vocab_size": 9,
            "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "hidden_act": "silu"
        })
    }

    fn with(change: &Value) -> Result<DecoderConfig> {
        let mut value = config();
        for (key, new) in change.as_object().unwrap() {
            value[key] = new.clone();
        }
        DecoderConfig::from_json(value)
    }

    #[test]
    fn configs_are_checked() {
        fn check(change: Value, part: &str) {
            let error = format!("{:#}", with(&change).unwrap_err());
            assert!(error.contains(part), "{error}");
        }
        check(json!({"model_type": "mamba"}), "model_type is \"mamba\", allowed are \"qwen2\"");
        check(
            json!({"num_key_value_heads": 3}),
            "num_attention_heads 4 is not a multiple of num_key_value_heads 3",
        );
        check(json!({"vocab_size": 0}), "vocab_size is 0");
        check(json!({"head_dim": 3}), "head_dim is 3");
        check(json!({"hidden_act": "mish"}), "mish");
        check(
            json!({"rope_scaling": {"rope_type": "longrope", "factor": 4.0}}),
            "rope type \"longrope\" is not served",
        );
        check(
            json!({"rope_scaling": {"rope_type": "llama3", "factor": 4.0}}),
            "original_max_position_embeddings",
        );
        check(json!({"layer_types": ["full_attention"]}), "layer_types has 1 entries for 2 layers");
        check(json!({"final_logit_softcapping": 30.0}), "final_logit_softcapping is set");
    }

    #[test]
    fn families_differ() {
        let qwen = with(&json!({"model_type": "qwen2", "sliding_window": null})).unwrap();
        assert!(qwen.qkv_bias && !qwen.output_bias && !qwen.tied);
        assert_eq!(qwen.heads, AttentionShape { kv_heads: 2, group: 2, size: 2 });
        assert!(qwen.layers.iter().all(|layer| layer.window.is_none()));
        let mistral = with(&json!({"model_type": "mistral", "sliding_window": 8})).unwrap();
        assert!(mistral.layers.iter().all(|layer| layer.window == Some(8)));
        let gemma = with(&json!({
            "model_type": "gemma3_text", "sliding_window": 8, "query_pre_attn_scalar": 16, "head_dim": 4,
            "sliding_window_pattern": 2, "hidden_act": null, "hidden_activation": "gelu_pytorch_tanh"
        }))
        .unwrap();
        assert!(gemma.tied && gemma.score_scale == 0.25 && gemma.activation == Activation::GeluTanh);
        assert_eq!(gemma.layers.iter().map(|layer| layer.window).collect::<Vec<_>>(), [Some(8), None]);
        assert!(gemma.rotation.frequencies[1] < gemma.local_rotation.frequencies[1]);
        let nested =
            json!({"model_type": "gemma3", "text_config": {"model_type": "gemma3_text", "hidden_size": 16}});
        assert_eq!(with(&nested).unwrap().hidden, 16);
    }

    /// As google/gemma-3-4b-it has it.
    #[test]
    fn what_a_gemma3_does_not_say_is_known() {
        let published = json!({
            "architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3", "eos_token_id": [1, 106],
            "text_config": {
                "hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text", "num_hidden_layers": 34,
                "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "sliding_window": 1024
            },
            "vision_config": {"hidden_size": 1152, "num_attention_heads": 16, "num_hidden_layers": 27}
        });
        let config = DecoderConfig::from_json(published).unwrap();
        assert_eq!((config.vocabulary, config.hidden, config.layers.len()), (262_208, 2_560, 34));
        assert_eq!(config.heads, AttentionShape { kv_heads: 4, group: 2, size: 256 });
        assert_eq!((config.context, config.score_scale, config.tied), (131_072, 1.0 / 16.0, true));
        assert_eq!(config.layers.iter().filter(|layer| layer.window == Some(1_024)).count(), 29);
    }

    #[test]
    fn numbers_that_no_model_has_are_refused() {
        for key in [
            "hidden_size",
            "intermediate_size",
            "num_hidden_layers",
            "num_attention_heads",
            "num_key_value_heads",
            "head_dim",
            "vocab_size",
            "max_position_embeddings",
        ] {
            for value in [0, 1_u64 << 40, 1 << 61, u64::MAX] {
                let error = format!("{:#}", with(&json!({key: value})).unwrap_err());
                assert!(error.contains(key) && error.contains("allowed are 1 to"), "{error}");
            }
        }
        let yarn = json!({"rope_scaling": {"type": "yarn", "factor": 1e30}});
        assert!(format!("{:#}", with(&yarn).unwrap_err()).contains("by its factor"));
    }

    #[test]
    fn old_and_new_names_of_rope_settings_mean_the_same() {
        let old = json!({"rope_theta": 500.0, "rope_scaling": {"type": "linear", "factor": 2.0}});
        let new = json!({"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 500.0}});
        let (old, new) = (with(&old).unwrap(), with(&new).unwrap());
        assert_eq!(old.rotation, new.rotation);
        assert_eq!(old.rotation.frequencies[0], 0.5);
        let both = |kind: Value| json!({"rope_theta": 500.0, "rope_scaling": {"type": "linear", "rope_type": kind, "factor": 2.0}});
        assert_eq!(with(&both(json!("linear"))).unwrap().rotation, old.rotation);
        assert_eq!(with(&both(Value::Null)).unwrap().rotation, old.rotation);
        assert_ne!(with(&both(json!("default"))).unwrap().rotation, old.rotation);
    }
}
