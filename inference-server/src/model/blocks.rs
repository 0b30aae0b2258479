//! The blocks of BERT and XLM-RoBERTa on any device that candle knows, without padding.
//!
//! Rows are packed one after the other: everything but attention works on all tokens at once, and attention on runs of
//! rows of equal length. So no arithmetic is spent on padding, no mask exists, and a row's output cannot depend on its
//! mates beyond rounding of the matrix products.

use candle_core::{D, Device, Result, Tensor};
use candle_nn::{LayerNorm, Linear, Module, ops::softmax_last_dim};

use super::encoder::Backbone;
use super::files::{Activation, EncoderConfig};
use super::weights::Weights;
use super::{ComputeError, SECOND_TEXT};

/// The blocks with their weights on a device.
pub struct Blocks {
    device: Device,
    first_position: usize,
    words: Tensor,
    /// Position table with the embedding of token type 0 added, and behind it with that of type 1.
    positions: Tensor,
    /// Where the positions of type 1 begin.
    second_text: usize,
    norm: LayerNorm,
    layers: Vec<Layer>,
}

/// Rows of equal length, side by side in the packed batch.
struct Run {
    start: usize,
    rows: usize,
    length: usize,
}

impl Blocks {
    /// Reads the weights of the encoder.
    ///
    /// # Errors
    /// Names the tensor that is missing or misshapen.
    pub fn load(config: &EncoderConfig, weights: &mut Weights) -> anyhow::Result<Self> {
        let hidden = config.hidden_size;
        let words = weights.encoder("embeddings.word_embeddings.weight", &[config.vocab_size, hidden])?;
        let positions = weights
            .encoder("embeddings.position_embeddings.weight", &[config.max_position_embeddings, hidden])?;
        let positions = if config.type_vocab_size == 0 {
            positions
        } else {
            let shape = [config.type_vocab_size, hidden];
            let types = weights.encoder("embeddings.token_type_embeddings.weight", &shape)?;
            let of_type = |kind: usize| positions.broadcast_add(&types.narrow(0, kind, 1)?);
            let kinds = (0..config.type_vocab_size.min(2)).map(of_type).collect::<Result<Vec<_>>>()?;
            Tensor::cat(&kinds, 0)?
        };
        let norm = layer_norm(weights, "embeddings.LayerNorm", config)?;
        let layers = (0..config.num_hidden_layers)
            .map(|index| Layer::load(config, weights, &format!("encoder.layer.{index}")))
            .collect::<anyhow::Result<Vec<_>>>()?;
        Ok(Self {
            device: words.device().clone(),
            first_position: config.first_position(),
            words,
            positions,
            second_text: config.max_position_embeddings,
            norm,
            layers,
        })
    }

    /// Hidden states of rows that are sorted by length.
    fn sorted(&self, rows: &[&[u32]]) -> Result<Tensor> {
        let runs = equal_lengths(rows.iter().map(|row| row.len()));
        let ids: Vec<u32> = rows.iter().flat_map(|row| row.iter().map(|id| id & !SECOND_TEXT)).collect();
        let count = ids.len();
        let place = |(place, id): (usize, &u32)| {
            let kind = if id & SECOND_TEXT == 0 { 0 } else { self.second_text };
            (kind + self.first_position + place) as u32
        };
        let places: Vec<u32> = rows.iter().flat_map(|row| row.iter().enumerate().map(place)).collect();
        let words = self.words.index_select(&Tensor::from_vec(ids, count, &self.device)?, 0)?;
        let positions = self.positions.index_select(&Tensor::from_vec(places, count, &self.device)?, 0)?;
        let mut hidden = self.norm.forward(&(words + positions)?)?;
        for layer in &self.layers {
            hidden = layer.forward(&hidden, &runs)?;
        }
        Ok(hidden)
    }

    fn forward(&self, rows: &[&[u32]]) -> Result<Tensor> {
        if rows.is_sorted_by_key(|row| row.len()) {
            return self.sorted(rows);
        }
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by_key(|&row| rows[row].len());
        let hidden = self.sorted(&order.iter().map(|&row| rows[row]).collect::<Vec<_>>())?;
        let mut parts: Vec<(usize, Tensor)> = Vec::with_capacity(rows.len());
        let mut start = 0;
        for row in order {
            parts.push((row, hidden.narrow(0, start, rows[row].len())?));
            start += rows[row].len();
        }
        parts.sort_unstable_by_key(|(row, _)| *row);
        Tensor::cat(&parts.into_iter().map(|(_, part)| part).collect::<Vec<_>>(), 0)
    }
}

impl Backbone for Blocks {
    fn hidden(&self, rows: &[&[u32]]) -> std::result::Result<Tensor, ComputeError> {
        self.device.with_context(|| self.forward(rows)).map_err(super::encoder::compute_error)
    }
}

fn equal_lengths(lengths: impl Iterator<Item = usize>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let mut start = 0;
    for length in lengths {
        match runs.last_mut() {
            Some(run) if run.length == length => run.rows += 1,
            _ => runs.push(Run { start, rows: 1, length }),
        }
        start += length;
    }
    runs
}

/// One block: attention and a feed-forward network, each with a residual and a layer norm after it.
struct Layer {
    heads: usize,
    scale: f64,
    /// Query, key and value projections stacked, so that one product makes all three.
    qkv: Linear,
    attended: Linear,
    attention_norm: LayerNorm,
    up: Linear,
    activation: Activation,
    down: Linear,
    output_norm: LayerNorm,
}

impl Layer {
    fn load(config: &EncoderConfig, weights: &mut Weights, at: &str) -> anyhow::Result<Self> {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let mut kernels = Vec::new();
        let mut biases = Vec::new();
        for part in ["query", "key", "value"] {
            let name = format!("{at}.attention.self.{part}");
            kernels.push(weights.encoder(&format!("{name}.weight"), &[hidden, hidden])?);
            biases.push(weights.encoder(&format!("{name}.bias"), &[hidden])?);
        }
        let head_size = hidden / config.num_attention_heads;
        Ok(Self {
            heads: config.num_attention_heads,
            scale: 1.0 / (head_size as f64).sqrt(),
            qkv: Linear::new(Tensor::cat(&kernels, 0)?, Some(Tensor::cat(&biases, 0)?)),
            attended: linear(weights, &format!("{at}.attention.output.dense"), hidden, hidden)?,
            attention_norm: layer_norm(weights, &format!("{at}.attention.output.LayerNorm"), config)?,
            up: linear(weights, &format!("{at}.intermediate.dense"), hidden, inner)?,
            activation: config.hidden_act,
            down: linear(weights, &format!("{at}.output.dense"), inner, hidden)?,
            output_norm: layer_norm(weights, &format!("{at}.output.LayerNorm"), config)?,
        })
    }

    fn forward(&self, hidden: &Tensor, runs: &[Run]) -> Result<Tensor> {
        let qkv = self.qkv.forward(hidden)?;
        let contexts = runs.iter().map(|run| self.attend(&qkv, run)).collect::<Result<Vec<_>>>()?;
        let context = self.attended.forward(&Tensor::cat(&contexts, 0)?)?;
        let hidden = self.attention_norm.forward(&(context + hidden)?)?;
        let inner = self.activate(&self.up.forward(&hidden)?)?;
        self.output_norm.forward(&(self.down.forward(&inner)? + hidden)?)
    }

    /// softmax(QKᵀ/√d)·V for the rows of one run, each row on its own.
    fn attend(&self, qkv: &Tensor, run: &Run) -> Result<Tensor> {
        let width = qkv.dim(D::Minus1)? / 3;
        let parts = qkv
            .narrow(0, run.start, run.rows * run.length)?
            .reshape((run.rows, run.length, 3, self.heads, width / self.heads))?
            .permute((2, 0, 3, 1, 4))?;
        let query = (parts.get(0)? * self.scale)?.contiguous()?;
        let key = parts.get(1)?.contiguous()?;
        let value = parts.get(2)?.contiguous()?;
        let weights = softmax_last_dim(&query.matmul(&key.t()?)?)?;
        weights.matmul(&value)?.transpose(1, 2)?.reshape((run.rows * run.length, width))
    }

    fn activate(&self, inner: &Tensor) -> Result<Tensor> {
        match self.activation {
            Activation::Gelu => inner.gelu_erf(),
            Activation::GeluNew => inner.gelu(),
            Activation::Relu => inner.relu(),
            Activation::Silu => inner.silu(),
        }
    }
}

fn linear(weights: &mut Weights, at: &str, from: usize, to: usize) -> anyhow::Result<Linear> {
    let weight = weights.encoder(&format!("{at}.weight"), &[to, from])?;
    let bias = weights.encoder(&format!("{at}.bias"), &[to])?;
    Ok(Linear::new(weight, Some(bias)))
}

fn layer_norm(weights: &mut Weights, at: &str, config: &EncoderConfig) -> anyhow::Result<LayerNorm> {
    let weight = weights.encoder(&format!("{at}.weight"), &[config.hidden_size])?;
    let bias = weights.encoder(&format!("{at}.bias"), &[config.hidden_size])?;
    Ok(LayerNorm::new(weight, bias, config.layer_norm_eps))
}
