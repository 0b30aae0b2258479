//! ModernBERT on any device of candle, without padding.
//!
//! Warner et al. 2024 (arXiv:2412.13663): pre-norm layers, rotary position embeddings, gated
//! feed-forward networks, and attention that is global in some layers and local in the others. The
//! reference is transformers' `ModernBertModel` in eager attention, float32.

use candle_core::{D, DType, Device, Result, Tensor};
use candle_nn::{LayerNorm, Linear, Module, rotary_emb};

use super::backbone::{Backbone, compute_error};
use super::candle::{Positions, Run, attention, equal_lengths, in_length_order};
use crate::models::ComputeError;
use crate::models::checkpoint::activation::Activation;
use crate::models::checkpoint::encoder_config::EncoderConfig;
use crate::models::checkpoint::modernbert_config::ModernBertConfig;
use crate::models::weights::Weights;

/// An encoder with its weights on a device.
pub(crate) struct ModernBertEncoder {
    device: Device,
    token_embeddings: Tensor,
    norm: LayerNorm,
    local_rope: Rope,
    global_rope: Rope,
    layers: Vec<Layer>,
    final_norm: LayerNorm,
}

impl ModernBertEncoder {
    /// Reads the weights, tensor by tensor.
    ///
    /// # Errors
    /// Names the tensor that is missing or has another shape.
    pub(crate) fn load(
        config: &EncoderConfig,
        modern: &ModernBertConfig,
        weights: &mut Weights,
    ) -> anyhow::Result<Self> {
        let hidden = config.hidden_size;
        let token_embeddings =
            weights.encoder("embeddings.tok_embeddings.weight", &[config.vocab_size, hidden])?;
        let device = token_embeddings.device().clone();
        let norm = layer_norm(weights, "embeddings.norm", hidden, modern.norm_eps)?;
        let layers = (0..config.num_hidden_layers)
            .map(|index| Layer::load(config, modern, weights, index))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let head_size = hidden / config.num_attention_heads;
        let rope =
            |global| Rope::new(modern.rope_theta(global), head_size, config.max_position_embeddings, &device);
        Ok(Self {
            local_rope: rope(false)?,
            global_rope: rope(true)?,
            final_norm: layer_norm(weights, "final_norm", hidden, modern.norm_eps)?,
            device,
            token_embeddings,
            norm,
            layers,
        })
    }

    /// Hidden states of rows that are sorted by length.
    fn sorted(&self, rows: &[&[u32]]) -> Result<Tensor> {
        let runs = equal_lengths(rows.iter().map(|row| row.len()));
        let ids: Vec<u32> = rows.concat();
        let count = ids.len();
        let tokens = self.token_embeddings.index_select(&Tensor::from_vec(ids, count, &self.device)?, 0)?;
        let mut hidden = self.norm.forward(&tokens)?;
        for layer in &self.layers {
            let rope = if layer.window.is_some() { &self.local_rope } else { &self.global_rope };
            hidden = layer.forward(&hidden, &runs, rope)?;
        }
        self.final_norm.forward(&hidden)
    }
}

impl Backbone for ModernBertEncoder {
    fn hidden(&self, rows: &[&[u32]]) -> std::result::Result<Tensor, ComputeError> {
        self.device.with_context(|| in_length_order(rows, |rows| self.sorted(rows))).map_err(compute_error)
    }
}

/// Cosines and sines of rotary position embeddings, positions × half a head. Su et al. 2021
/// (arXiv:2104.09864).
struct Rope {
    cos: Tensor,
    sin: Tensor,
}

impl Rope {
    fn new(theta: f64, head_size: usize, positions: usize, device: &Device) -> Result<Self> {
        let frequencies: Vec<f32> = (0..head_size)
            .step_by(2)
            .map(|column| 1.0 / (theta as f32).powf(column as f32 / head_size as f32))
            .collect();
        let frequencies = Tensor::new(frequencies.as_slice(), device)?.unsqueeze(0)?;
        let positions = Tensor::arange(0, positions as u32, device)?.to_dtype(DType::F32)?.unsqueeze(1)?;
        let angles = positions.broadcast_mul(&frequencies)?;
        Ok(Self { cos: angles.cos()?, sin: angles.sin()? })
    }
}

struct Layer {
    heads: usize,
    /// Tokens to either side that a token attends to; `None` for the whole text.
    window: Option<usize>,
    /// `None` in the first layer, whose input the embeddings' norm has normalised.
    attention_norm: Option<LayerNorm>,
    qkv: Linear,
    o_proj: Linear,
    mlp_norm: LayerNorm,
    gate_up: Linear,
    activation: Activation,
    down: Linear,
}

impl Layer {
    fn load(
        config: &EncoderConfig,
        modern: &ModernBertConfig,
        weights: &mut Weights,
        index: usize,
    ) -> anyhow::Result<Self> {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let at = format!("layers.{index}");
        let attention_norm =
            (index > 0).then(|| layer_norm(weights, &format!("{at}.attn_norm"), hidden, modern.norm_eps));
        Ok(Self {
            heads: config.num_attention_heads,
            // The configuration counts both sides together.
            window: (!modern.is_global(index)).then_some(modern.local_attention / 2),
            attention_norm: attention_norm.transpose()?,
            qkv: linear(weights, &format!("{at}.attn.Wqkv"), hidden, 3 * hidden)?,
            o_proj: linear(weights, &format!("{at}.attn.Wo"), hidden, hidden)?,
            mlp_norm: layer_norm(weights, &format!("{at}.mlp_norm"), hidden, modern.norm_eps)?,
            gate_up: linear(weights, &format!("{at}.mlp.Wi"), hidden, 2 * inner)?,
            activation: modern.hidden_activation,
            down: linear(weights, &format!("{at}.mlp.Wo"), inner, hidden)?,
        })
    }

    fn forward(&self, hidden: &Tensor, runs: &[Run], rope: &Rope) -> Result<Tensor> {
        let normed = match &self.attention_norm {
            Some(norm) => norm.forward(hidden)?,
            None => hidden.clone(),
        };
        let qkv = self.qkv.forward(&normed)?;
        let contexts = runs.iter().map(|run| self.attend(&qkv, run, rope)).collect::<Result<Vec<_>>>()?;
        let hidden = (hidden + self.o_proj.forward(&Tensor::cat(&contexts, 0)?)?)?;
        let inner = self.gate_up.forward(&self.mlp_norm.forward(&hidden)?)?;
        let halves = inner.chunk(2, D::Minus1)?;
        let gated = (self.activation.apply(&halves[0])? * &halves[1])?;
        hidden + self.down.forward(&gated)?
    }

    fn attend(&self, qkv: &Tensor, run: &Run, rope: &Rope) -> Result<Tensor> {
        let [query, key, value] = run.heads_of(qkv, self.heads)?;
        let query = rotary_emb::rope(&query, &rope.cos, &rope.sin)?;
        let key = rotary_emb::rope(&key, &rope.cos, &rope.sin)?;
        let positions = self.window.map_or(Positions::Free, Positions::Window);
        run.joined(&attention(&query, &key, &value, positions)?)
    }
}

/// A linear layer, with a bias if the checkpoint has one.
fn linear(weights: &mut Weights, at: &str, from: usize, to: usize) -> anyhow::Result<Linear> {
    let weight = weights.encoder(&format!("{at}.weight"), &[to, from])?;
    let bias = format!("{at}.bias");
    let bias = weights.encoder_has(&bias).then(|| weights.encoder(&bias, &[to])).transpose()?;
    Ok(Linear::new(weight, bias))
}

/// A layer norm, with a bias if the checkpoint has one.
fn layer_norm(weights: &mut Weights, at: &str, hidden: usize, eps: f64) -> anyhow::Result<LayerNorm> {
    let weight = weights.encoder(&format!("{at}.weight"), &[hidden])?;
    let bias = format!("{at}.bias");
    // candle has a fused kernel for layer norms with a bias only, so zeros are faster than none.
    let bias =
        if weights.encoder_has(&bias) { weights.encoder(&bias, &[hidden])? } else { weight.zeros_like()? };
    Ok(LayerNorm::new(weight, bias, eps))
}
