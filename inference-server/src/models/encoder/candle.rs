//! BERT, its relatives and MPNet on any device of candle, without padding; and the attention that
//! ModernBERT shares with them.
//!
//! Rows are packed one after the other: everything but attention works on all tokens at once, and
//! attention on runs of rows of equal length. So nothing is spent on padding, there is no mask, and
//! a row's output depends on the other rows only by the rounding of matrix products.

use std::ops::Range;

use candle_core::{D, Device, Result, Tensor};
use candle_nn::{LayerNorm, Linear, Module, ops::softmax_last_dim};

use super::backbone::{Backbone, compute_error};
use super::position_bias::PositionBias;
use crate::models::ComputeError;
use crate::models::checkpoint::activation::Activation;
use crate::models::checkpoint::encoder_config::EncoderConfig;
use crate::models::weights::Weights;
use crate::text::tokenizer::SECOND_TEXT;

/// Attention scores that are in memory at once, 128 MiB in f32; one query may exceed it alone.
/// The scores of a text of 8,192 tokens with 12 heads would take 3 GiB otherwise.
const MAX_SCORES: usize = 32 << 20;

/// An encoder with its weights on a device.
pub(crate) struct CandleEncoder {
    device: Device,
    first_position: usize,
    token_embeddings: Tensor,
    /// Position embeddings with those of token type 0 added, followed by the same with type 1.
    positions: Tensor,
    /// First row of the positions of token type 1.
    second_text: usize,
    norm: LayerNorm,
    layers: Vec<Layer>,
    /// What MPNet adds to attention scores.
    bias: Option<PositionBias>,
}

/// Neighbouring rows of equal length in the packed batch.
pub(crate) struct Run {
    start: usize,
    rows: usize,
    length: usize,
}

impl CandleEncoder {
    /// Reads the weights, tensor by tensor.
    ///
    /// # Errors
    /// Names the tensor that is missing or has another shape.
    pub(crate) fn load(config: &EncoderConfig, weights: &mut Weights) -> anyhow::Result<Self> {
        let hidden = config.hidden_size;
        let token_embeddings =
            weights.encoder("embeddings.word_embeddings.weight", &[config.vocab_size, hidden])?;
        let positions = weights
            .encoder("embeddings.position_embeddings.weight", &[config.max_position_embeddings, hidden])?;
        let positions = if config.type_vocab_size == 0 {
            positions
        } else {
            let shape = [config.type_vocab_size, hidden];
            let types = weights.encoder("embeddings.token_type_embeddings.weight", &shape)?;
            let mut kinds = Vec::new();
            // Token ids carry one bit for the type, so a third type is never looked up.
            for kind in 0..config.type_vocab_size.min(2) {
                kinds.push(positions.broadcast_add(&types.narrow(0, kind, 1)?)?);
            }
            Tensor::cat(&kinds, 0)?
        };
        let norm = layer_norm(weights, "embeddings.LayerNorm", config)?;
        let layers = (0..config.num_hidden_layers)
            .map(|index| Layer::load(config, weights, &format!("encoder.layer.{index}")))
            .collect::<anyhow::Result<Vec<_>>>()?;
        Ok(Self {
            bias: PositionBias::load(config, weights)?,
            device: token_embeddings.device().clone(),
            first_position: config.first_position(),
            token_embeddings,
            positions,
            second_text: config.max_position_embeddings,
            norm,
            layers,
        })
    }

    /// Hidden states of rows that are sorted by length.
    fn sorted(&self, rows: &[&[u32]]) -> Result<Tensor> {
        let runs = equal_lengths(rows.iter().map(|row| row.len()));
        // The highest bit marks the type and is not part of the id.
        let ids: Vec<u32> = rows.iter().flat_map(|row| row.iter().map(|id| id & !SECOND_TEXT)).collect();
        let count = ids.len();
        // Ids of models with one token type never have the bit, so they take the first copy.
        let mut positions = Vec::with_capacity(count);
        for row in rows {
            for (index, id) in row.iter().enumerate() {
                let copy = if id & SECOND_TEXT == 0 { 0 } else { self.second_text };
                positions.push((copy + self.first_position + index) as u32);
            }
        }
        let tokens = self.token_embeddings.index_select(&Tensor::from_vec(ids, count, &self.device)?, 0)?;
        let positions = self.positions.index_select(&Tensor::from_vec(positions, count, &self.device)?, 0)?;
        let mut hidden = self.norm.forward(&(tokens + positions)?)?;
        let positions = self.bias.as_ref().map_or(Positions::Free, Positions::Bias);
        for layer in &self.layers {
            hidden = layer.forward(&hidden, &runs, positions)?;
        }
        Ok(hidden)
    }
}

impl Backbone for CandleEncoder {
    fn hidden(&self, rows: &[&[u32]]) -> std::result::Result<Tensor, ComputeError> {
        self.device.with_context(|| in_length_order(rows, |rows| self.sorted(rows))).map_err(compute_error)
    }
}

/// Hidden states in the order of `rows`, computed by `sorted`, which takes rows by ascending
/// length.
pub(crate) fn in_length_order(
    rows: &[&[u32]],
    sorted: impl FnOnce(&[&[u32]]) -> Result<Tensor>,
) -> Result<Tensor> {
    if rows.is_sorted_by_key(|row| row.len()) {
        return sorted(rows);
    }
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(|&row| rows[row].len());
    let hidden = sorted(&order.iter().map(|&row| rows[row]).collect::<Vec<_>>())?;
    let mut parts: Vec<(usize, Tensor)> = Vec::with_capacity(rows.len());
    let mut start = 0;
    for row in order {
        parts.push((row, hidden.narrow(0, start, rows[row].len())?));
        start += rows[row].len();
    }
    parts.sort_unstable_by_key(|(row, _)| *row);
    Tensor::cat(&parts.into_iter().map(|(_, part)| part).collect::<Vec<_>>(), 0)
}

/// Runs of equal lengths; `lengths` are those of the rows in the packed batch.
pub(crate) fn equal_lengths(lengths: impl Iterator<Item = usize>) -> Vec<Run> {
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

impl Run {
    /// Queries, keys and values of the run, each rows × heads × length × head size.
    pub(crate) fn heads_of(&self, qkv: &Tensor, heads: usize) -> Result<[Tensor; 3]> {
        let width = qkv.dim(D::Minus1)? / 3;
        let parts = qkv
            .narrow(0, self.start, self.rows * self.length)?
            .reshape((self.rows, self.length, 3, heads, width / heads))?
            .permute((2, 0, 3, 1, 4))?;
        let part = |index| parts.get(index)?.contiguous();
        Ok([part(0)?, part(1)?, part(2)?])
    }

    /// Inverse of [`Run::heads_of`] for one of them: tokens × width.
    pub(crate) fn joined(&self, context: &Tensor) -> Result<Tensor> {
        let (rows, heads, length, size) = context.dims4()?;
        context.transpose(1, 2)?.reshape((rows * length, heads * size))
    }
}

/// What attention adds to its scores by the positions of queries and keys.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Positions<'a> {
    /// Nothing.
    Free,
    /// Minus infinity for keys that are farther away than this to either side.
    Window(usize),
    /// A learned number for each distance and head.
    Bias(&'a PositionBias),
}

/// softmax(QKᵀ/√d)·V for each row of a run.
///
/// Queries of long rows are computed in pieces, so that the length × length scores are never in
/// memory at once.
pub(crate) fn attention(
    query: &Tensor,
    key: &Tensor,
    value: &Tensor,
    positions: Positions<'_>,
) -> Result<Tensor> {
    let window = if let Positions::Window(window) = positions { Some(window) } else { None };
    let (rows, heads, length, size) = query.dims4()?;
    // Queries are scaled and not scores, of which a long text has far more.
    let query = (query * (1.0 / (size as f64).sqrt()))?;
    let piece = (MAX_SCORES / (rows * heads * length)).clamp(1, length);
    let mut parts = Vec::new();
    for start in (0..length).step_by(piece) {
        let count = piece.min(length - start);
        // Keys that no query of the piece can see are not multiplied at all.
        let first = window.map_or(0, |window| start.saturating_sub(window));
        let end = window.map_or(length, |window| (start + count + window).min(length));
        let keys = key.narrow(2, first, end - first)?.contiguous()?;
        let mut scores = query.narrow(2, start, count)?.contiguous()?.matmul(&keys.t()?)?;
        // A short range is inside of every query's window and needs no mask.
        if let Some(window) = window.filter(|window| end - first > window + 1) {
            let mask = band(start..start + count, first..end, window, query.device())?;
            scores = scores.broadcast_add(&mask)?;
        }
        if let Positions::Bias(bias) = positions {
            scores =
                scores.broadcast_add(&bias.scores(start..start + count, first..end, query.device())?)?;
        }
        let values = value.narrow(2, first, end - first)?.contiguous()?;
        parts.push(softmax_last_dim(&scores)?.matmul(&values)?);
    }
    // A single piece needs no copy.
    if parts.len() == 1 { Ok(parts.remove(0)) } else { Tensor::cat(&parts, 2) }
}

/// Mask of a window, queries × keys: 0 inside, minus infinity outside.
fn band(queries: Range<usize>, keys: Range<usize>, window: usize, device: &Device) -> Result<Tensor> {
    let shape = (queries.len(), keys.len());
    let mut values = Vec::with_capacity(queries.len() * keys.len());
    for query in queries {
        for key in keys.clone() {
            values.push(if query.abs_diff(key) <= window { 0.0 } else { f32::NEG_INFINITY });
        }
    }
    Tensor::from_vec(values, shape, device)
}

/// Attention and a feed-forward network, each followed by the residual and a layer norm.
struct Layer {
    heads: usize,
    /// Query, key and value projections stacked, so that one product computes all three.
    qkv: Linear,
    o_proj: Linear,
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
        Ok(Self {
            heads: config.num_attention_heads,
            qkv: Linear::new(Tensor::cat(&kernels, 0)?, Some(Tensor::cat(&biases, 0)?)),
            o_proj: linear(weights, &format!("{at}.attention.output.dense"), hidden, hidden)?,
            attention_norm: layer_norm(weights, &format!("{at}.attention.output.LayerNorm"), config)?,
            up: linear(weights, &format!("{at}.intermediate.dense"), hidden, inner)?,
            activation: config.hidden_act,
            down: linear(weights, &format!("{at}.output.dense"), inner, hidden)?,
            output_norm: layer_norm(weights, &format!("{at}.output.LayerNorm"), config)?,
        })
    }

    fn forward(&self, hidden: &Tensor, runs: &[Run], positions: Positions<'_>) -> Result<Tensor> {
        let qkv = self.qkv.forward(hidden)?;
        let contexts =
            runs.iter().map(|run| self.attend(&qkv, run, positions)).collect::<Result<Vec<_>>>()?;
        let context = self.o_proj.forward(&Tensor::cat(&contexts, 0)?)?;
        let hidden = self.attention_norm.forward(&(context + hidden)?)?;
        let inner = self.activation.apply(&self.up.forward(&hidden)?)?;
        self.output_norm.forward(&(self.down.forward(&inner)? + hidden)?)
    }

    fn attend(&self, qkv: &Tensor, run: &Run, positions: Positions<'_>) -> Result<Tensor> {
        let [query, key, value] = run.heads_of(qkv, self.heads)?;
        run.joined(&attention(&query, &key, &value, positions)?)
    }
}

impl Activation {
    /// Applies the activation to every value.
    ///
    /// # Errors
    /// If the device fails.
    pub(crate) fn apply(self, inner: &Tensor) -> Result<Tensor> {
        match self {
            Self::Gelu => inner.gelu_erf(),
            Self::GeluNew => inner.gelu(),
            Self::Relu => inner.relu(),
            Self::Silu => inner.silu(),
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
