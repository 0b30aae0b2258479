//! `config.json` of a decoder as transformers writes it, old and new names.
//!
//! Nothing of this type leaves the parent module: families, defaults and contradictions are
//! resolved into a [`super::DecoderConfig`].

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::Value;

use crate::kernels::paged::AttentionShape;
use crate::models::checkpoint::activation::Activation;
use crate::models::checkpoint::json::{check_range, or_default};
use crate::models::decoder::family::{Family, LayerKind};
use crate::models::decoder::rope::{Rope, RopeHead, RopeParameters};

/// Upper limit on `max_position_embeddings` and on the context that YaRN makes of it. Not tuned:
/// far above any model, and positions stay exact as f64 and fit into 32 bits.
const MAX_POSITIONS: usize = 1 << 28;
/// RoPE base of transformers' configurations by default; Gemma 3 has another one for global layers.
const ROPE_THETA: f64 = 10_000.0;
const GEMMA3_ROPE_THETA: f64 = 1_000_000.0;
/// Period of global layers in Gemma 3; `sliding_window_pattern` of transformers'
/// `Gemma3TextConfig`.
const GEMMA3_PATTERN: usize = 6;

/// The keys of `config.json` that a decoder needs; others are ignored.
#[derive(Debug, Deserialize)]
pub(super) struct HuggingFaceConfig {
    pub(super) model_type: String,
    pub(super) hidden_size: usize,
    pub(super) intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    pub(super) vocab_size: usize,
    max_position_embeddings: usize,
    #[serde(default = "default_rms_norm_eps")]
    pub(super) rms_norm_eps: f64,
    pub(super) hidden_act: Option<Activation>,
    pub(super) hidden_activation: Option<Activation>,
    pub(super) tie_word_embeddings: Option<bool>,
    pub(super) attention_bias: Option<bool>,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) mlp_bias: bool,
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
    pub(super) query_pre_attn_scalar: Option<f64>,
    final_logit_softcapping: Option<f64>,
    attn_logit_softcapping: Option<f64>,
}

fn default_rms_norm_eps() -> f64 {
    1e-6
}

/// RoPE of both kinds of layers, and the context that results.
pub(super) struct Ropes {
    pub(super) global: Rope,
    pub(super) local: Rope,
    pub(super) context: usize,
}

impl HuggingFaceConfig {
    /// Bounds all numbers and refuses what the decoders do not compute.
    pub(super) fn check(&self) -> Result<()> {
        // Far above any published model, and products of two of them stay in 64 bits.
        for (key, value, max) in [
            ("hidden_size", self.hidden_size, 1 << 17),
            ("intermediate_size", self.intermediate_size, 1 << 21),
            ("num_hidden_layers", self.num_hidden_layers, 1 << 12),
            ("num_attention_heads", self.num_attention_heads, 1 << 12),
            ("num_key_value_heads", self.num_key_value_heads.unwrap_or(1), 1 << 12),
            ("head_dim", self.head_dim.unwrap_or(2), 1 << 12),
            ("vocab_size", self.vocab_size, 1 << 24),
            ("max_position_embeddings", self.max_position_embeddings, MAX_POSITIONS),
        ] {
            check_range(key, value, max)?;
        }
        for (key, value) in [
            ("final_logit_softcapping", self.final_logit_softcapping),
            ("attn_logit_softcapping", self.attn_logit_softcapping),
        ] {
            // Gemma 2 has them; without, its logits would be wrong and still look plausible.
            ensure!(value.is_none(), "{key} is not supported");
        }
        Ok(())
    }

    pub(super) fn heads(&self) -> Result<AttentionShape> {
        let queries = self.num_attention_heads;
        let shared = self.num_key_value_heads.unwrap_or(queries);
        // Both are divided by below.
        ensure!(queries > 0, "invalid num_attention_heads 0: expected a positive number");
        ensure!(shared > 0, "invalid num_key_value_heads 0: expected a positive number");
        ensure!(
            queries.is_multiple_of(shared),
            "invalid num_attention_heads {queries}: expected a multiple of num_key_value_heads {shared}"
        );
        let size = self.head_dim.unwrap_or(self.hidden_size / queries);
        ensure!(size > 0 && size.is_multiple_of(2), "invalid head_dim {size}: expected an even number");
        Ok(AttentionShape { kv_heads: shared, group: queries / shared, size })
    }

    /// The sliding window; `None` also for one of 0 or of the whole context.
    fn window(&self) -> Option<usize> {
        // Checkpoints name a window even where it cuts nothing; kernels are faster without one.
        self.sliding_window.filter(|window| (1..self.max_position_embeddings).contains(window))
    }

    pub(super) fn layers(&self, family: Family) -> Result<Vec<LayerKind>> {
        let global = LayerKind { window: None, local: false };
        let local = LayerKind { window: self.window(), local: true };
        let count = self.num_hidden_layers;
        let mut layers = Vec::new();
        let Some(types) = &self.layer_types else {
            for index in 0..count {
                layers.push(if self.is_local(family, index) { local } else { global });
            }
            return Ok(layers);
        };
        ensure!(types.len() == count, "invalid layer_types of length {}: expected {count}", types.len());
        for kind in types {
            layers.push(match kind.as_str() {
                "full_attention" => global,
                "sliding_attention" => local,
                other => {
                    bail!("invalid layer type `{other}`: expected full_attention or sliding_attention")
                }
            });
        }
        Ok(layers)
    }

    /// Returns true if a layer is local in files written before transformers had `layer_types`.
    fn is_local(&self, family: Family, index: usize) -> bool {
        let windowed = self.use_sliding_window;
        match family {
            Family::Gemma3 => {
                !(index + 1).is_multiple_of(self.sliding_window_pattern.unwrap_or(GEMMA3_PATTERN))
            }
            Family::Qwen2 | Family::Qwen3 => {
                windowed.unwrap_or(false) && index >= self.max_window_layers.unwrap_or(0)
            }
            Family::Llama | Family::Phi3 => windowed.unwrap_or(true),
        }
    }

    /// RoPE of one kind of layer, in files that have it by kind (transformers 5).
    fn rope_of(&self, kind: &str) -> Option<&Value> {
        self.rope_parameters.as_ref()?.get(kind)
    }

    pub(super) fn ropes(&self, family: Family, head_size: usize) -> Result<Ropes> {
        let (global, local) = match (self.rope_of("full_attention"), self.rope_of("sliding_attention")) {
            (None, None) => {
                (rope_parameters(self.rope_parameters.as_ref().or(self.rope_scaling.as_ref()))?, None)
            }
            (global, local) => (rope_parameters(global)?, Some(rope_parameters(local)?)),
        };
        let trained = self.max_position_embeddings;
        let head = RopeHead {
            theta: ROPE_THETA,
            size: head_size,
            partial_rotary_factor: self.partial_rotary_factor,
            context: trained,
        };
        let theta = if family == Family::Gemma3 { GEMMA3_ROPE_THETA } else { ROPE_THETA };
        let global_rope = global.rope(RopeHead { theta: self.rope_theta.unwrap_or(theta), ..head })?;
        let local_rope = match local {
            Some(local) => local.rope(head)?,
            None if family == Family::Gemma3 => {
                // Gemma 3 scales global layers only: local ones never look beyond their window.
                let theta = self.rope_local_base_freq.unwrap_or(ROPE_THETA);
                RopeParameters::default().rope(RopeHead { theta, ..head })?
            }
            None => global_rope.clone(),
        };
        let context = global.context(trained);
        check_range("max_position_embeddings by its factor", context, MAX_POSITIONS)?;
        Ok(Ropes { global: global_rope, local: local_rope, context })
    }
}

/// Reads RoPE parameters; without any, positions are not scaled.
fn rope_parameters(value: Option<&Value>) -> Result<RopeParameters> {
    let Some(mut value) = value.filter(|value| !value.is_null()).cloned() else {
        return Ok(RopeParameters::default());
    };
    // transformers writes the old name `type` next to `rope_type`, which takes precedence. serde
    // would reject the duplicate.
    if let Some(map) = value.as_object_mut() {
        let newer = map.get("rope_type").is_some_and(|kind| !kind.is_null());
        map.remove(if newer { "type" } else { "rope_type" });
    }
    serde_json::from_value(value).context("rope_parameters")
}
