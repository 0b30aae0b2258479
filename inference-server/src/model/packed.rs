//! The blocks of BERT and XLM-RoBERTa on the CPU, by our own kernels.
//!
//! Texts are packed one after the other, weights are laid out for the matrix product while they are read, and the
//! buffers of a forward pass are kept for the next. A text's hidden states are the same bits whatever shares its batch
//! and however many threads work.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use anyhow::Result;
use candle_core::{CpuStorage, Device, Storage, Tensor};

use super::encoder::{Backbone, compute_error};
use super::files::{self, EncoderConfig};
use super::weights::Weights;
use super::{ComputeError, SECOND_TEXT};
use crate::kernels::attention::{Heads, attend};
use crate::kernels::embedding::{Placed, Tables, embed};
use crate::kernels::gemm::{Epilogue, Panels, multiply};
use crate::kernels::isa::Isa;
use crate::kernels::math::Activation;
use crate::kernels::matrix::Matrix;
use crate::kernels::norm::Norm;

/// The blocks with their packed weights.
pub struct Packed {
    isa: Isa,
    heads: Heads,
    places: Places,
    /// Left where it was read: the table of words is most of a multilingual model.
    words: Tensor,
    /// Position table with the embedding of token type 0 added, and behind it with that of type 1.
    positions: Vec<f32>,
    norm: Norm,
    layers: Vec<Layer>,
    /// Buffers of earlier forward passes, one for each that ran at the same time.
    buffers: Mutex<Vec<Buffers>>,
}

/// The tables of an encoder as far as a token's place in them goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Places {
    /// Rows of the table of words.
    pub(super) words: usize,
    /// Position of a text's first token.
    pub(super) first_position: usize,
    /// Rows of the position table; there the positions of token type 1 begin.
    pub(super) positions: usize,
    /// Whether there is a token type 1.
    pub(super) two_types: bool,
}

impl Places {
    /// Where each token stands, checked against the tables.
    pub(super) fn of(&self, rows: &[&[u32]]) -> Result<Vec<Placed>, ComputeError> {
        let room = self.positions - self.first_position;
        let mut places = Vec::with_capacity(rows.iter().map(|row| row.len()).sum());
        for row in rows {
            if row.len() > room {
                return Err(ComputeError::Failed(format!(
                    "a text of {} tokens, the position table has room for {room}",
                    row.len()
                )));
            }
            for (place, &id) in row.iter().enumerate() {
                let token = id & !SECOND_TEXT;
                let second = self.two_types && id & SECOND_TEXT != 0;
                let behind = if second { self.positions } else { 0 };
                if token as usize >= self.words {
                    return Err(ComputeError::Failed(format!(
                        "token id {token} is outside of the table of {} words",
                        self.words
                    )));
                }
                places.push(Placed { token: token as usize, position: behind + self.first_position + place });
            }
        }
        Ok(places)
    }
}

#[derive(Default)]
struct Buffers {
    hidden: Matrix,
    wide: Matrix,
    context: Matrix,
    sum: Matrix,
}

struct Layer {
    qkv: Panels,
    attended: Panels,
    attention_norm: Norm,
    up: Panels,
    activation: Activation,
    down: Panels,
    output_norm: Norm,
}

impl Packed {
    /// Reads the weights of the encoder, tensor by tensor.
    ///
    /// # Errors
    /// Names the tensor that is missing or misshapen.
    pub fn load(config: &EncoderConfig, weights: &mut Weights) -> Result<Self> {
        let hidden = config.hidden_size;
        let words = weights.encoder("embeddings.word_embeddings.weight", &[config.vocab_size, hidden])?;
        let rows = config.max_position_embeddings;
        let mut positions = values(weights, "embeddings.position_embeddings.weight", &[rows, hidden])?;
        if config.type_vocab_size > 0 {
            let shape = [config.type_vocab_size, hidden];
            let types = values(weights, "embeddings.token_type_embeddings.weight", &shape)?;
            positions = types.chunks_exact(hidden).take(2).flat_map(|kind| typed(&positions, kind)).collect();
        }
        let norm = norm(weights, "embeddings.LayerNorm", config)?;
        let layers = (0..config.num_hidden_layers)
            .map(|index| Layer::load(config, weights, &format!("encoder.layer.{index}")))
            .collect::<Result<Vec<_>>>()?;
        let count = config.num_attention_heads;
        Ok(Self {
            isa: Isa::detect(),
            heads: Heads { count, size: hidden / count },
            places: Places {
                words: config.vocab_size,
                first_position: config.first_position(),
                positions: rows,
                two_types: config.type_vocab_size > 1,
            },
            words,
            positions,
            norm,
            layers,
            buffers: Mutex::default(),
        })
    }

    fn forward(
        &self,
        texts: &[Range<usize>],
        places: &[Placed],
        buffers: &mut Buffers,
    ) -> Result<(), ComputeError> {
        let (storage, _) = self.words.storage_and_layout();
        let Storage::Cpu(CpuStorage::F32(words)) = &*storage else {
            return Err(ComputeError::Failed("the table of words is not f32 on the CPU".to_owned()));
        };
        let tables = Tables { words, positions: &self.positions };
        embed(self.isa, tables, &self.norm, places, &mut buffers.hidden);
        for layer in &self.layers {
            layer.forward(self.isa, self.heads, texts, buffers);
        }
        Ok(())
    }
}

impl Backbone for Packed {
    fn hidden(&self, rows: &[&[u32]]) -> Result<Tensor, ComputeError> {
        let width = self.norm.scale.len();
        let places = self.places.of(rows)?;
        if places.is_empty() {
            return Tensor::zeros((0, width), candle_core::DType::F32, &Device::Cpu).map_err(compute_error);
        }
        let mut start = 0;
        let texts: Vec<Range<usize>> = rows
            .iter()
            .map(|row| {
                start += row.len();
                start - row.len()..start
            })
            .collect();
        let pop = || self.buffers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut buffers = pop().unwrap_or_default();
        // Entering the pool once spares a hand-over between threads for every kernel.
        rayon::scope(|_| self.forward(&texts, &places, &mut buffers))?;
        let states: Vec<f32> = (0..places.len()).flat_map(|row| buffers.hidden.row(row)).copied().collect();
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner).push(buffers);
        Tensor::from_vec(states, (places.len(), width), &Device::Cpu).map_err(compute_error)
    }
}

impl Layer {
    fn load(config: &EncoderConfig, weights: &mut Weights, at: &str) -> Result<Self> {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let mut qkv = Panels::zeros(hidden, 3 * hidden);
        for (index, part) in ["query", "key", "value"].into_iter().enumerate() {
            pack(
                weights,
                &format!("{at}.attention.self.{part}"),
                &mut qkv,
                index * hidden..(index + 1) * hidden,
            )?;
        }
        let mut linear = |name: &str, from: usize, to: usize| {
            let mut panels = Panels::zeros(from, to);
            pack(weights, &format!("{at}.{name}"), &mut panels, 0..to)?;
            anyhow::Ok(panels)
        };
        let attended = linear("attention.output.dense", hidden, hidden)?;
        let up = linear("intermediate.dense", hidden, inner)?;
        let down = linear("output.dense", inner, hidden)?;
        Ok(Self {
            qkv,
            attended,
            attention_norm: norm(weights, &format!("{at}.attention.output.LayerNorm"), config)?,
            up,
            activation: activation(config.hidden_act),
            down,
            output_norm: norm(weights, &format!("{at}.output.LayerNorm"), config)?,
        })
    }

    fn forward(&self, isa: Isa, heads: Heads, texts: &[Range<usize>], buffers: &mut Buffers) {
        let Buffers { hidden, wide, context, sum } = buffers;
        multiply(isa, hidden, &self.qkv, Epilogue::Bias, wide);
        attend(isa, wide, texts, heads, context);
        multiply(isa, context, &self.attended, Epilogue::Residual(hidden), sum);
        self.attention_norm.apply(isa, sum, hidden);
        multiply(isa, hidden, &self.up, Epilogue::Activation(self.activation), wide);
        multiply(isa, wide, &self.down, Epilogue::Residual(hidden), sum);
        self.output_norm.apply(isa, sum, hidden);
    }
}

/// The positions with the embedding of a token type added to each.
pub(super) fn typed<'a>(positions: &'a [f32], kind: &'a [f32]) -> impl Iterator<Item = f32> + 'a {
    positions.chunks_exact(kind.len()).flat_map(move |row| row.iter().zip(kind).map(|(x, shared)| x + shared))
}

pub(super) fn activation(named: files::Activation) -> Activation {
    match named {
        files::Activation::Gelu => Activation::Gelu,
        files::Activation::GeluNew => Activation::GeluTanh,
        files::Activation::Relu => Activation::Relu,
        files::Activation::Silu => Activation::Silu,
    }
}

/// A tensor of the encoder as plain numbers.
fn values(weights: &mut Weights, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
    Ok(weights.encoder(name, shape)?.flatten_all()?.to_vec1()?)
}

fn pack(weights: &mut Weights, at: &str, panels: &mut Panels, outputs: Range<usize>) -> Result<()> {
    let weight = values(weights, &format!("{at}.weight"), &[outputs.len(), panels.inputs()])?;
    let bias = values(weights, &format!("{at}.bias"), &[outputs.len()])?;
    panels.pack(outputs.start, &weight, &bias);
    Ok(())
}

fn norm(weights: &mut Weights, at: &str, config: &EncoderConfig) -> Result<Norm> {
    let shape = [config.hidden_size];
    Ok(Norm {
        scale: values(weights, &format!("{at}.weight"), &shape)?,
        shift: values(weights, &format!("{at}.bias"), &shape)?,
        epsilon: config.layer_norm_eps as f32,
    })
}
