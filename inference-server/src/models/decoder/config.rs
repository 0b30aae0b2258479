//! Configuration of a language model, from `config.json` or from a GGUF file.
//!
//! Families differ in a handful of switches; everything else about a decoder is numbers. The
//! metadata of a GGUF file is rewritten as a `config.json`, so that both take the same path and the
//! same checks. A configuration that was read is one that the decoders compute.

mod hugging_face;

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::family::{Family, LayerKind, family, model_types};
use super::rope::Rope;
use crate::kernels::math;
use crate::kernels::paged::AttentionShape;
use crate::models::checkpoint::activation::Activation;
use crate::models::checkpoint::json::read_json;
use crate::models::gguf::Gguf;
use crate::models::gguf::dimensions::{Architecture, Dimensions, RopeScaling};
use hugging_face::HuggingFaceConfig;

/// A checked configuration.
#[derive(Debug, Clone)]
pub struct DecoderConfig {
    /// Family of the checkpoint.
    pub family: Family,
    /// Width of a token's hidden state.
    pub hidden: usize,
    /// Width between the halves of the feed-forward network.
    pub inner: usize,
    /// Attention heads and how they share keys and values.
    pub heads: AttentionShape,
    /// Factor of attention scores.
    pub score_scale: f32,
    /// Rows of the token embeddings.
    pub vocabulary: usize,
    /// Maximum tokens of a sequence, prompt included.
    pub context: usize,
    /// Added to the mean square by the RMS norms.
    pub epsilon: f32,
    /// Activation of the gate.
    pub activation: math::Activation,
    /// True if the token embeddings are the output layer too.
    pub tied_embeddings: bool,
    /// True if queries, keys and values have biases.
    pub qkv_bias: bool,
    /// True if the output projection of attention has a bias.
    pub o_proj_bias: bool,
    /// True if the feed-forward network has biases.
    pub mlp_bias: bool,
    /// RoPE of layers with global attention.
    pub rope: Rope,
    /// RoPE of layers with local attention.
    pub local_rope: Rope,
    /// The layers in order.
    pub layers: Vec<LayerKind>,
}

/// The tensor of a GGUF file whose values divide the frequencies of Llama 3.1 and later.
const ROPE_FACTORS: &str = "rope_freqs.weight";

/// Defaults of transformers' `Gemma3TextConfig`. The published files of 4 billion weights and more
/// leave most of them out.
fn gemma3_defaults() -> Value {
    json!({
        "vocab_size": 262_208, "hidden_size": 2_304, "intermediate_size": 9_216, "num_hidden_layers": 26,
        "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "max_position_embeddings": 131_072,
        "query_pre_attn_scalar": 256, "sliding_window": 4_096,
    })
}

/// A configuration with the keys of its language model at the top, and with Gemma's defaults.
fn completed(mut value: Value) -> Result<Value> {
    // A model that also reads images keeps the settings of its language model apart.
    if let Some(Value::Object(inner)) = value.get("text_config").cloned() {
        let outer = value.as_object_mut().context("not an object")?;
        outer.extend(inner.into_iter().filter(|(key, _)| key != "model_type"));
    }
    if value.get("model_type").and_then(Value::as_str).and_then(family) == Some(Family::Gemma3)
        && let (Some(map), Value::Object(defaults)) = (value.as_object_mut(), gemma3_defaults())
    {
        for (key, default) in defaults {
            map.entry(key).or_insert(default);
        }
    }
    Ok(value)
}

impl DecoderConfig {
    /// Reads and checks `config.json`.
    ///
    /// # Errors
    /// Names the key, its value and what was expected.
    pub fn read(dir: &Path) -> Result<Self> {
        let value: Value = read_json(dir, "config.json")?;
        Self::from_json(value).context("config.json")
    }

    /// Rewrites the metadata of a GGUF file as a `config.json` and checks it.
    ///
    /// # Errors
    /// Names the key, its value and what was expected.
    pub fn from_gguf(file: &Gguf) -> Result<Self> {
        let mut config = Self::from_json(as_json(&file.dimensions()?))?;
        // The metadata says nothing about these: a tensor that is there is used, as in llama.cpp.
        config.tied_embeddings = !file.has("output.weight");
        config.qkv_bias = file.has("blk.0.attn_q.bias");
        config.o_proj_bias = file.has("blk.0.attn_output.bias");
        config.mlp_bias = file.has("blk.0.ffn_up.bias");
        if file.has(ROPE_FACTORS) {
            let factors = file.floats(ROPE_FACTORS, &[config.rope.frequencies.len()])?;
            for rope in [&mut config.rope, &mut config.local_rope] {
                rope.frequencies.iter_mut().zip(&factors).for_each(|(x, factor)| *x /= factor);
            }
        }
        Ok(config)
    }

    fn from_json(value: Value) -> Result<Self> {
        let file: HuggingFaceConfig =
            serde_json::from_value(completed(value)?).context("not the configuration of a decoder")?;
        let family = family(&file.model_type).with_context(|| {
            format!("invalid model_type `{}`: expected {}", file.model_type, model_types())
        })?;
        file.check()?;
        let heads = file.heads()?;
        let layers = file.layers(family)?;
        let ropes = file.ropes(family, heads.size)?;
        // Families differ where the key is left out, as their configuration classes do in
        // transformers.
        let default_activation =
            if family == Family::Gemma3 { Activation::GeluNew } else { Activation::Silu };
        let activation = file.hidden_activation.or(file.hidden_act).unwrap_or(default_activation);
        let biased = file.attention_bias.unwrap_or(family == Family::Qwen2);
        let scale = file.query_pre_attn_scalar.filter(|_| family == Family::Gemma3);
        Ok(Self {
            family,
            hidden: file.hidden_size,
            inner: file.intermediate_size,
            heads,
            // Gemma scales by a number of its own, which in its 27B is not the size of a head.
            score_scale: (1.0 / scale.unwrap_or(heads.size as f64).sqrt()) as f32,
            vocabulary: file.vocab_size,
            context: ropes.context,
            epsilon: file.rms_norm_eps as f32,
            activation: activation.kernel(),
            tied_embeddings: file.tie_word_embeddings.unwrap_or(family == Family::Gemma3),
            qkv_bias: biased,
            // Qwen 2 has biases on queries, keys and values alone.
            o_proj_bias: biased && family != Family::Qwen2,
            mlp_bias: file.mlp_bias,
            rope: ropes.global,
            local_rope: ropes.local,
            layers,
        })
    }
}

/// The dimensions of a GGUF file by the keys of `config.json`.
fn as_json(dimensions: &Dimensions) -> Value {
    let scaling = match dimensions.rope_scaling {
        RopeScaling::None => Value::Null,
        RopeScaling::Linear(factor) => json!({"rope_type": "linear", "factor": factor}),
        // llama.cpp multiplies YaRN's own attention factor with that of the file.
        RopeScaling::Yarn { factor, original_context, attention_factor } => json!({
            "rope_type": "yarn", "factor": factor, "original_max_position_embeddings": original_context,
            "attention_factor": attention_factor.unwrap_or(1.0) * (1.0 + 0.1 * factor.max(1.0).ln()),
        }),
    };
    let gemma = dimensions.architecture == Architecture::Gemma3;
    // As in llama.cpp: Gemma 3 27B, the one with 62 layers, scales scores by the hidden width per
    // head instead of the size of a head.
    let scalar =
        if dimensions.layers == 62 { dimensions.hidden / dimensions.heads } else { dimensions.head_size };
    json!({
        "model_type": if gemma { "gemma3_text" } else { dimensions.architecture.name() },
        "hidden_size": dimensions.hidden,
        "intermediate_size": dimensions.feed_forward,
        "num_hidden_layers": dimensions.layers,
        "num_attention_heads": dimensions.heads,
        "num_key_value_heads": dimensions.kv_heads,
        "head_dim": dimensions.head_size,
        "vocab_size": dimensions.vocabulary,
        "max_position_embeddings": dimensions.context,
        "rms_norm_eps": dimensions.norm_epsilon,
        "rope_theta": dimensions.rope_theta,
        "rope_local_base_freq": dimensions.local_rope_theta,
        "rope_scaling": scaling,
        "sliding_window": dimensions.window,
        "sliding_window_pattern": dimensions.window_pattern,
        "query_pre_attn_scalar": scalar,
    })
}

#[cfg(test)]
mod tests;
