//! Keys of `config.json` that only ModernBERT has.
//!
//! Layers alternate between global and local attention, each kind with a RoPE base of its own.
//! Defaults are those of transformers' `ModernBertConfig`.

use anyhow::{Result, ensure};
use serde::Deserialize;

use super::activation::Activation;
use super::json::check_range;

/// Layer types as transformers names them.
const GLOBAL: &str = "full_attention";
const LOCAL: &str = "sliding_attention";

/// The keys of `config.json` that are specific to ModernBERT.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ModernBertConfig {
    /// Activation of the gate.
    #[serde(default = "gelu")]
    pub(crate) hidden_activation: Activation,
    /// Added to the variance by the layer norms.
    #[serde(default = "default_norm_eps")]
    pub(crate) norm_eps: f64,
    /// Width of the window of local layers in tokens, both sides together.
    #[serde(default = "default_window")]
    pub(crate) local_attention: usize,
    #[serde(default = "default_global_period")]
    global_attn_every_n_layers: usize,
    layer_types: Option<Vec<String>>,
    #[serde(default)]
    rope_parameters: Option<RopeParameters>,
    global_rope_theta: Option<f64>,
    local_rope_theta: Option<f64>,
    /// Vector that a sequence classifier takes.
    #[serde(default)]
    pub(crate) classifier_pooling: ClassifierPooling,
    /// Activation of the prediction head.
    #[serde(default = "gelu")]
    pub(crate) classifier_activation: Activation,
}

/// RoPE settings by layer type, as newer versions of transformers write them.
#[derive(Debug, Clone, Default, Deserialize)]
struct RopeParameters {
    full_attention: Option<Rope>,
    sliding_attention: Option<Rope>,
}

#[derive(Debug, Clone, Deserialize)]
struct Rope {
    rope_theta: Option<f64>,
    rope_type: Option<String>,
}

/// Vector that a sequence classifier takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ClassifierPooling {
    /// That of the first token.
    #[default]
    Cls,
    /// The mean over all tokens.
    Mean,
}

fn gelu() -> Activation {
    Activation::Gelu
}

fn default_norm_eps() -> f64 {
    1e-5
}

fn default_window() -> usize {
    128
}

fn default_global_period() -> usize {
    3
}

impl ModernBertConfig {
    /// Checks the keys of this family for a network of `layers` layers.
    ///
    /// # Errors
    /// Names the key, its value and what was expected.
    pub(crate) fn check(&self, layers: usize) -> Result<()> {
        ensure!(
            self.global_attn_every_n_layers > 0,
            "invalid global_attn_every_n_layers 0: expected a positive number"
        );
        check_range("local_attention", self.local_attention, 1 << 18)?;
        if let Some(types) = &self.layer_types {
            ensure!(
                types.len() == layers && types.iter().all(|kind| kind == GLOBAL || kind == LOCAL),
                "invalid layer_types: expected {GLOBAL} or {LOCAL} for each of {layers} layers"
            );
        }
        let ropes =
            self.rope_parameters.iter().flat_map(|pair| [&pair.full_attention, &pair.sliding_attention]);
        for kind in ropes.flatten().filter_map(|rope| rope.rope_type.as_deref()) {
            ensure!(kind == "default", "invalid rope_type `{kind}`: expected default");
        }
        Ok(())
    }

    /// Returns true if a layer attends to the whole text.
    pub(crate) fn is_global(&self, layer: usize) -> bool {
        match &self.layer_types {
            Some(types) => types[layer] == GLOBAL,
            None => layer.is_multiple_of(self.global_attn_every_n_layers),
        }
    }

    /// RoPE base of the global or the local layers.
    pub(crate) fn rope_theta(&self, global: bool) -> f64 {
        let parameters = self.rope_parameters.clone().unwrap_or_default();
        let (rope, older, default) = if global {
            (parameters.full_attention, self.global_rope_theta, 160_000.0)
        } else {
            (parameters.sliding_attention, self.local_rope_theta, 10_000.0)
        };
        rope.and_then(|rope| rope.rope_theta).or(older).unwrap_or(default)
    }
}
