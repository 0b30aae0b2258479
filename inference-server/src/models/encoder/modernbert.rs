//! The blocks of ModernBERT on any device that candle knows, without padding.
//!
//! Warner et al. 2024 (arXiv:2412.13663): norms before the blocks, rotary positions, gated
//! feed-forward networks, and attention to the whole text in some layers and to a window in the
//! others. The reference is transformers' `ModernBertModel` in eager attention, float32.

use candle_core::{D, DType, Device, Result, Tensor};
use candle_nn::rotary_emb::rope;
use candle_nn::{LayerNorm, Linear, Module};
use serde::Deserialize;

use crate::models::ComputeError;
use crate::models::checkpoint::{Activation, EncoderConfig};
use crate::models::encoder::candle::{Run, attention, equal_lengths, in_length_order};
use crate::models::encoder::{Backbone, compute_error};
use crate::models::weights::Weights;

const GLOBAL: &str = "full_attention";
const LOCAL: &str = "sliding_attention";

/// What `config.json` says of ModernBERT beside what it says of every encoder.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ModernSettings {
    #[serde(default = "gelu")]
    hidden_activation: Activation,
    #[serde(default = "default_eps")]
    norm_eps: f64,
    #[serde(default = "default_window")]
    local_attention: usize,
    #[serde(default = "default_every")]
    global_attn_every_n_layers: usize,
    layer_types: Option<Vec<String>>,
    #[serde(default)]
    rope_parameters: Option<RopePair>,
    global_rope_theta: Option<f64>,
    local_rope_theta: Option<f64>,
    #[serde(default)]
    classifier_pooling: ClassifierPooling,
    #[serde(default = "gelu")]
    classifier_activation: Activation,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct RopePair {
    full_attention: Option<Rope>,
    sliding_attention: Option<Rope>,
}

#[derive(Debug, Clone, Deserialize)]
struct Rope {
    rope_theta: Option<f64>,
    rope_type: Option<String>,
}

/// Which vector a text classifier looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ClassifierPooling {
    #[default]
    Cls,
    Mean,
}

fn gelu() -> Activation {
    Activation::Gelu
}

fn default_eps() -> f64 {
    1e-5
}

fn default_window() -> usize {
    128
}

fn default_every() -> usize {
    3
}

impl ModernSettings {
    /// Checks what only this family has.
    ///
    /// # Errors
    /// Names the key and what is allowed.
    pub(crate) fn check(&self, layers: usize) -> anyhow::Result<()> {
        anyhow::ensure!(
            self.global_attn_every_n_layers > 0,
            "global_attn_every_n_layers is 0, it must be positive"
        );
        crate::models::checkpoint::check_number("local_attention", self.local_attention, 1 << 18)?;
        if let Some(types) = &self.layer_types {
            anyhow::ensure!(
                types.len() == layers && types.iter().all(|kind| kind == GLOBAL || kind == LOCAL),
                "layer_types must name {GLOBAL} or {LOCAL} for each of {layers} layers"
            );
        }
        let ropes =
            self.rope_parameters.iter().flat_map(|pair| [&pair.full_attention, &pair.sliding_attention]);
        for kind in ropes.flatten().filter_map(|rope| rope.rope_type.as_deref()) {
            anyhow::ensure!(kind == "default", "rope_type is \"{kind}\", allowed is \"default\"");
        }
        Ok(())
    }

    fn is_global(&self, layer: usize) -> bool {
        match &self.layer_types {
            Some(types) => types[layer] == GLOBAL,
            None => layer.is_multiple_of(self.global_attn_every_n_layers),
        }
    }

    fn theta(&self, global: bool) -> f64 {
        let pair = self.rope_parameters.clone().unwrap_or_default();
        let (rope, older, default) = if global {
            (pair.full_attention, self.global_rope_theta, 160_000.0)
        } else {
            (pair.sliding_attention, self.local_rope_theta, 10_000.0)
        };
        rope.and_then(|rope| rope.rope_theta).or(older).unwrap_or(default)
    }

    pub(crate) fn norm_eps(&self) -> f64 {
        self.norm_eps
    }

    pub(crate) fn classifier(&self) -> (ClassifierPooling, Activation) {
        (self.classifier_pooling, self.classifier_activation)
    }
}

/// The blocks with their weights on a device.
pub(crate) struct ModernBertEncoder {
    device: Device,
    words: Tensor,
    norm: LayerNorm,
    /// Rotations of the local layers and of the global ones.
    rotations: [Rotation; 2],
    layers: Vec<Layer>,
    final_norm: LayerNorm,
}

impl ModernBertEncoder {
    /// Reads the weights of the encoder.
    ///
    /// # Errors
    /// Names the tensor that is missing or misshapen.
    pub(crate) fn load(
        config: &EncoderConfig,
        settings: &ModernSettings,
        weights: &mut Weights,
    ) -> anyhow::Result<Self> {
        let hidden = config.hidden_size;
        let words = weights.encoder("embeddings.tok_embeddings.weight", &[config.vocab_size, hidden])?;
        let device = words.device().clone();
        let norm = norm(weights, "embeddings.norm", hidden, settings.norm_eps)?;
        let layers = (0..config.num_hidden_layers)
            .map(|index| Layer::load(config, settings, weights, index))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let head_size = hidden / config.num_attention_heads;
        let rotation = |global| {
            Rotation::new(settings.theta(global), head_size, config.max_position_embeddings, &device)
        };
        Ok(Self {
            rotations: [rotation(false)?, rotation(true)?],
            final_norm: self::norm(weights, "final_norm", hidden, settings.norm_eps)?,
            device,
            words,
            norm,
            layers,
        })
    }

    /// Hidden states of rows that are sorted by length.
    fn sorted(&self, rows: &[&[u32]]) -> Result<Tensor> {
        let runs = equal_lengths(rows.iter().map(|row| row.len()));
        let ids: Vec<u32> = rows.concat();
        let count = ids.len();
        let words = self.words.index_select(&Tensor::from_vec(ids, count, &self.device)?, 0)?;
        let mut hidden = self.norm.forward(&words)?;
        for layer in &self.layers {
            hidden = layer.forward(&hidden, &runs, &self.rotations[usize::from(layer.window.is_none())])?;
        }
        self.final_norm.forward(&hidden)
    }
}

impl Backbone for ModernBertEncoder {
    fn hidden(&self, rows: &[&[u32]]) -> std::result::Result<Tensor, ComputeError> {
        let forward = || in_length_order(rows, |rows| self.sorted(rows));
        self.device.with_context(forward).map_err(compute_error)
    }
}

/// Cosines and sines of rotary positions, positions × half of a head. Su et al. 2021
/// (arXiv:2104.09864).
struct Rotation {
    cos: Tensor,
    sin: Tensor,
}

impl Rotation {
    fn new(theta: f64, head_size: usize, positions: usize, device: &Device) -> Result<Self> {
        let frequencies: Vec<f32> = (0..head_size)
            .step_by(2)
            .map(|place| 1.0 / (theta as f32).powf(place as f32 / head_size as f32))
            .collect();
        let frequencies = Tensor::new(frequencies.as_slice(), device)?.unsqueeze(0)?;
        let places = Tensor::arange(0, positions as u32, device)?.to_dtype(DType::F32)?.unsqueeze(1)?;
        let angles = places.broadcast_mul(&frequencies)?;
        Ok(Self { cos: angles.cos()?, sin: angles.sin()? })
    }
}

struct Layer {
    heads: usize,
    /// How far a token sees to either side; `None` for the whole text.
    window: Option<usize>,
    /// Absent in the first layer.
    attention_norm: Option<LayerNorm>,
    qkv: Linear,
    attended: Linear,
    feed_norm: LayerNorm,
    up_and_gate: Linear,
    activation: Activation,
    down: Linear,
}

impl Layer {
    fn load(
        config: &EncoderConfig,
        settings: &ModernSettings,
        weights: &mut Weights,
        index: usize,
    ) -> anyhow::Result<Self> {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let at = format!("layers.{index}");
        let attention_norm =
            (index > 0).then(|| norm(weights, &format!("{at}.attn_norm"), hidden, settings.norm_eps));
        Ok(Self {
            heads: config.num_attention_heads,
            window: (!settings.is_global(index)).then_some(settings.local_attention / 2),
            attention_norm: attention_norm.transpose()?,
            qkv: linear(weights, &format!("{at}.attn.Wqkv"), hidden, 3 * hidden)?,
            attended: linear(weights, &format!("{at}.attn.Wo"), hidden, hidden)?,
            feed_norm: norm(weights, &format!("{at}.mlp_norm"), hidden, settings.norm_eps)?,
            up_and_gate: linear(weights, &format!("{at}.mlp.Wi"), hidden, 2 * inner)?,
            activation: settings.hidden_activation,
            down: linear(weights, &format!("{at}.mlp.Wo"), inner, hidden)?,
        })
    }

    fn forward(&self, hidden: &Tensor, runs: &[Run], rotation: &Rotation) -> Result<Tensor> {
        let normed = match &self.attention_norm {
            Some(norm) => norm.forward(hidden)?,
            None => hidden.clone(),
        };
        let qkv = self.qkv.forward(&normed)?;
        let contexts = runs.iter().map(|run| self.attend(&qkv, run, rotation)).collect::<Result<Vec<_>>>()?;
        let hidden = (hidden + self.attended.forward(&Tensor::cat(&contexts, 0)?)?)?;
        let inner = self.up_and_gate.forward(&self.feed_norm.forward(&hidden)?)?;
        let halves = inner.chunk(2, D::Minus1)?;
        let gated = (self.activation.of(&halves[0])? * &halves[1])?;
        hidden + self.down.forward(&gated)?
    }

    fn attend(&self, qkv: &Tensor, run: &Run, rotation: &Rotation) -> Result<Tensor> {
        let [query, key, value] = run.heads_of(qkv, self.heads)?;
        let query = rope(&query, &rotation.cos, &rotation.sin)?;
        let key = rope(&key, &rotation.cos, &rotation.sin)?;
        run.joined(&attention(&query, &key, &value, self.window)?)
    }
}

/// A linear map, with a bias where the checkpoint has one.
fn linear(weights: &mut Weights, at: &str, from: usize, to: usize) -> anyhow::Result<Linear> {
    let weight = weights.encoder(&format!("{at}.weight"), &[to, from])?;
    let bias = format!("{at}.bias");
    let bias = weights.encoder_has(&bias).then(|| weights.encoder(&bias, &[to])).transpose()?;
    Ok(Linear::new(weight, bias))
}

/// A layer norm, with a bias where the checkpoint has one.
fn norm(weights: &mut Weights, at: &str, hidden: usize, eps: f64) -> anyhow::Result<LayerNorm> {
    let weight = weights.encoder(&format!("{at}.weight"), &[hidden])?;
    let bias = format!("{at}.bias");
    // A bias of zeros takes candle's fused norm, which wants one.
    let bias =
        if weights.encoder_has(&bias) { weights.encoder(&bias, &[hidden])? } else { weight.zeros_like()? };
    Ok(LayerNorm::new(weight, bias, eps))
}
