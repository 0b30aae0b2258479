//! The blocks of BERT and XLM-RoBERTa on the CPU, by our own kernels.
//!
//! Texts are packed one after the other, weights are laid out for the matrix product while they are
//! read, and the buffers of a forward pass are kept for the next. A text's hidden states are the
//! same bits whatever shares its batch and however many threads work.

mod layer;

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use candle_core::{CpuStorage, Device, Storage, Tensor};

use crate::device::Precision;
use crate::kernels::attention::Heads;
use crate::kernels::bf16::{self, Unit};
use crate::kernels::embedding::{Placed, Tables, embed};
use crate::kernels::gemm::Panels;
use crate::kernels::isa::Isa;
use crate::kernels::layer_norm::LayerNorm;
use crate::kernels::math::Activation;
use crate::kernels::matrix::Matrix;
use crate::models::ComputeError;
use crate::models::checkpoint::{self, EncoderConfig};
use crate::models::encoder::{Backbone, compute_error};
use crate::models::weights::Weights;
use crate::text::tokenizer::SECOND_TEXT;
use layer::Layer;

/// The blocks with their packed weights.
pub(crate) struct Packed {
    isa: Isa,
    heads: Heads,
    places: Places,
    /// Left where it was read: the table of words is most of a multilingual model.
    words: Tensor,
    /// Position table with the embedding of token type 0 added, and behind it with that of type 1.
    positions: Vec<f32>,
    norm: LayerNorm,
    layers: Layers,
    /// Buffers of earlier forward passes, one for each that ran at the same time.
    buffers: Mutex<Vec<Buffers>>,
}

/// The tables of an encoder as far as a token's place in them goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Places {
    /// Rows of the table of words.
    pub(crate) words: usize,
    /// Position of a text's first token.
    pub(crate) first_position: usize,
    /// Rows of the position table; there the positions of token type 1 begin.
    pub(crate) positions: usize,
    /// Whether there is a token type 1.
    pub(crate) two_types: bool,
}

impl Places {
    /// Where each token stands, checked against the tables.
    pub(crate) fn of(&self, rows: &[&[u32]]) -> Result<Vec<Placed>, ComputeError> {
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

/// Activations of a batch; what products in bf16 take lies in the last two.
#[derive(Default)]
struct Buffers {
    hidden: Matrix,
    wide: Matrix,
    context: Matrix,
    sum: Matrix,
    narrow: bf16::Bf16Rows,
    narrow_wide: bf16::Bf16Rows,
}

/// All blocks, in the arithmetic chosen while loading.
enum Layers {
    F32(Vec<Layer<Panels>>),
    Bf16(Unit, Vec<Layer<bf16::Panels>>),
}

impl Packed {
    /// Reads the weights of the encoder, tensor by tensor.
    ///
    /// # Errors
    /// Names the tensor that is missing or misshapen; where bf16 is asked for and this processor
    /// computes nothing in it, or computes something wrong.
    pub(crate) fn load(config: &EncoderConfig, weights: &mut Weights, precision: Precision) -> Result<Self> {
        let unit = match precision {
            Precision::Bf16 => Some(Unit::detect().context("no instructions for bf16")?),
            Precision::Auto | Precision::F32 | Precision::F16 => None,
        };
        Self::load_for(config, weights, unit)
    }

    /// In bf16 by these instructions, else in f32.
    fn load_for(config: &EncoderConfig, weights: &mut Weights, unit: Option<Unit>) -> Result<Self> {
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
        let layers = match unit {
            None => Layers::F32(layer::load_all(config, weights)?),
            Some(unit) => {
                ensure!(bf16::check(unit), "self-test: {} gives wrong sums", unit.name());
                Layers::Bf16(unit, layer::load_all(config, weights)?)
            }
        };
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
        match &self.layers {
            Layers::F32(layers) => {
                layers.iter().for_each(|layer| layer.forward(self.isa, self.heads, texts, buffers));
            }
            Layers::Bf16(unit, layers) => {
                layers.iter().for_each(|layer| layer.forward(*unit, self.heads, texts, buffers));
            }
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

    fn weight_bytes(&self, parameters: u64) -> u64 {
        let saved = match &self.layers {
            Layers::F32(_) => 0,
            Layers::Bf16(_, layers) => layers.iter().map(Layer::bytes_saved).sum(),
        };
        parameters * size_of::<f32>() as u64 - saved
    }
}

/// The positions with the embedding of a token type added to each.
pub(crate) fn typed<'a>(positions: &'a [f32], kind: &'a [f32]) -> impl Iterator<Item = f32> + 'a {
    positions.chunks_exact(kind.len()).flat_map(move |row| row.iter().zip(kind).map(|(x, shared)| x + shared))
}

pub(crate) fn activation(named: checkpoint::Activation) -> Activation {
    match named {
        checkpoint::Activation::Gelu => Activation::Gelu,
        checkpoint::Activation::GeluNew => Activation::GeluTanh,
        checkpoint::Activation::Relu => Activation::Relu,
        checkpoint::Activation::Silu => Activation::Silu,
    }
}

/// A tensor of the encoder as plain numbers.
fn values(weights: &mut Weights, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
    Ok(weights.encoder(name, shape)?.flatten_all()?.to_vec1()?)
}

fn norm(weights: &mut Weights, at: &str, config: &EncoderConfig) -> Result<LayerNorm> {
    let shape = [config.hidden_size];
    Ok(LayerNorm {
        scale: values(weights, &format!("{at}.weight"), &shape)?,
        shift: values(weights, &format!("{at}.bias"), &shape)?,
        epsilon: config.layer_norm_eps as f32,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    const MODELS: [&str; 2] = ["golden/bert", "golden/tiny-e5"];

    fn load(name: &str, unit: Option<Unit>) -> Packed {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/models").join(name);
        let config = EncoderConfig::read(&dir).unwrap();
        let mut weights =
            Weights::open(&dir, config.word_table(), &Device::Cpu, &Default::default()).unwrap();
        Packed::load_for(&config, &mut weights, unit).unwrap()
    }

    fn states(model: &Packed, rows: &[Vec<u32>]) -> Vec<Vec<f32>> {
        let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
        model.hidden(&rows).unwrap().to_vec2().unwrap()
    }

    /// The mean of each row's states, as most models pool.
    fn pooled(model: &Packed, rows: &[Vec<u32>]) -> Vec<Vec<f32>> {
        let mean = |row: &Vec<u32>| {
            let states = states(model, std::slice::from_ref(row));
            (0..states[0].len()).map(|at| states.iter().map(|state| state[at]).sum()).collect()
        };
        rows.iter().map(mean).collect()
    }

    fn cosine(a: &[f32], b: &[f32]) -> f64 {
        let dot =
            |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
        dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
    }

    /// Rows of 1 to 32 tokens that both models know.
    fn rows() -> Vec<Vec<u32>> {
        (1..=32).map(|length| (0..length).map(|at| 5 + (length * 31 + at * 17) % 140).collect()).collect()
    }

    #[test]
    fn bf16_is_near_f32() {
        for name in MODELS {
            let exact = pooled(&load(name, None), &rows());
            for unit in Unit::available() {
                let model = load(name, Some(unit));
                assert!(model.weight_bytes(1 << 20) < 4 << 20);
                for (row, (got, expected)) in pooled(&model, &rows()).iter().zip(&exact).enumerate() {
                    let cosine = cosine(got, expected);
                    assert!(cosine >= 0.9999, "{name} {} row {row}: {cosine}", unit.name());
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        /// The same bits, not only the same vectors.
        #[test]
        fn company_does_not_matter(rows in prop::collection::vec(prop::collection::vec(5u32..145, 1..33), 1..12)) {
            for name in MODELS {
                for unit in Unit::available().into_iter().map(Some).chain([None]) {
                    let model = load(name, unit);
                    let together = states(&model, &rows);
                    let alone: Vec<Vec<f32>> =
                        rows.iter().flat_map(|row| states(&model, std::slice::from_ref(row))).collect();
                    prop_assert_eq!(together, alone);
                }
            }
        }
    }
}
