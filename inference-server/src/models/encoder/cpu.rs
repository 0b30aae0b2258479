//! BERT and XLM-RoBERTa on the CPU, by our own kernels.
//!
//! Texts are packed one after the other without padding, weights are laid out for the matrix
//! product while they are read, and the buffers of a forward pass are kept for the next. A text's
//! hidden states are the same bits in every batch and with any number of threads.

mod layer;

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, ensure};
use candle_core::{CpuStorage, DType, Device, Storage, Tensor};

use super::backbone::{Backbone, compute_error};
use super::lookup::{EmbeddingLookup, add_token_type};
use crate::device::Precision;
use crate::kernels::attention::Heads;
use crate::kernels::bf16::{self, Unit};
use crate::kernels::embedding::{Placed, Tables, embed};
use crate::kernels::gemm::Panels;
use crate::kernels::isa::Isa;
use crate::kernels::layer_norm::LayerNorm;
use crate::models::ComputeError;
use crate::models::checkpoint::encoder_config::EncoderConfig;
use crate::models::weights::Weights;
use layer::{Buffers, Layer, layer_norm};

/// An encoder with its packed weights.
pub(crate) struct CpuEncoder {
    isa: Isa,
    heads: Heads,
    lookup: EmbeddingLookup,
    /// Vocabulary × width. Left in the tensor it was read into: in a multilingual model this is
    /// most of the weights, and a copy would double the peak of memory.
    token_embeddings: Tensor,
    /// Position embeddings with those of token type 0 added, followed by the same with type 1.
    positions: Vec<f32>,
    norm: LayerNorm,
    layers: Layers,
    /// Buffers of earlier forward passes, as many as ever ran at the same time.
    buffers: Mutex<Vec<Buffers>>,
}

/// All layers, in the arithmetic chosen while loading.
enum Layers {
    F32(Vec<Layer<Panels>>),
    Bf16(Unit, Vec<Layer<bf16::Panels>>),
}

impl CpuEncoder {
    /// Reads and packs the weights, tensor by tensor.
    ///
    /// # Errors
    /// Names the tensor that is missing or has another shape. Also if bf16 is requested and this
    /// processor has no instructions for it, or they fail their self-test.
    pub(crate) fn load(config: &EncoderConfig, weights: &mut Weights, precision: Precision) -> Result<Self> {
        let unit = match precision {
            Precision::Bf16 => Some(Unit::detect().context("no instructions for bf16")?),
            Precision::Auto | Precision::F32 | Precision::F16 => None,
        };
        Self::load_for(config, weights, unit)
    }

    /// Loads for bf16 on the given unit, or for f32 without one.
    fn load_for(config: &EncoderConfig, weights: &mut Weights, unit: Option<Unit>) -> Result<Self> {
        let hidden = config.hidden_size;
        let token_embeddings =
            weights.encoder("embeddings.word_embeddings.weight", &[config.vocab_size, hidden])?;
        let shape = [config.max_position_embeddings, hidden];
        let mut positions = weights.encoder_values("embeddings.position_embeddings.weight", &shape)?;
        if config.type_vocab_size > 0 {
            let shape = [config.type_vocab_size, hidden];
            let types = weights.encoder_values("embeddings.token_type_embeddings.weight", &shape)?;
            // Token ids carry one bit for the type, so a third type is never looked up.
            let types = types.chunks_exact(hidden).take(2);
            positions = types.flat_map(|kind| add_token_type(&positions, kind)).collect();
        }
        let norm = layer_norm(weights, "embeddings.LayerNorm", config)?;
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
            lookup: EmbeddingLookup::new(config),
            token_embeddings,
            positions,
            norm,
            layers,
            buffers: Mutex::default(),
        })
    }

    fn buffers(&self) -> MutexGuard<'_, Vec<Buffers>> {
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forward(
        &self,
        texts: &[Range<usize>],
        places: &[Placed],
        buffers: &mut Buffers,
    ) -> Result<(), ComputeError> {
        // Borrowed from the tensor's storage, because `to_vec` would copy the table at every pass.
        let (storage, _) = self.token_embeddings.storage_and_layout();
        let Storage::Cpu(CpuStorage::F32(words)) = &*storage else {
            return Err(ComputeError::Failed("the token embeddings are not f32 on the CPU".to_owned()));
        };
        let tables = Tables { words, positions: &self.positions };
        embed(self.isa, tables, &self.norm, places, &mut buffers.hidden);
        match &self.layers {
            Layers::F32(layers) => {
                for layer in layers {
                    layer.forward(self.isa, self.heads, texts, buffers);
                }
            }
            Layers::Bf16(unit, layers) => {
                for layer in layers {
                    layer.forward(*unit, self.heads, texts, buffers);
                }
            }
        }
        Ok(())
    }
}

impl Backbone for CpuEncoder {
    fn hidden(&self, rows: &[&[u32]]) -> Result<Tensor, ComputeError> {
        let width = self.norm.scale.len();
        let places = self.lookup.places(rows)?;
        if places.is_empty() {
            return Tensor::zeros((0, width), DType::F32, &Device::Cpu).map_err(compute_error);
        }
        let mut start = 0;
        let texts: Vec<Range<usize>> = rows
            .iter()
            .map(|row| {
                start += row.len();
                start - row.len()..start
            })
            .collect();
        let mut buffers = self.buffers().pop().unwrap_or_default();
        // Entering the thread pool once for the whole pass saves a hand-over for every kernel.
        rayon::scope(|_| self.forward(&texts, &places, &mut buffers))?;
        let states: Vec<f32> = (0..places.len()).flat_map(|row| buffers.hidden.row(row)).copied().collect();
        self.buffers().push(buffers);
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    const MODELS: [&str; 2] = ["golden/bert", "golden/tiny-e5"];

    fn load(name: &str, unit: Option<Unit>) -> CpuEncoder {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/models").join(name);
        let config = EncoderConfig::read(&dir).unwrap();
        let mut weights = Weights::open_encoder(&dir, &config, &Device::Cpu, &Default::default()).unwrap();
        CpuEncoder::load_for(&config, &mut weights, unit).unwrap()
    }

    fn states(model: &CpuEncoder, rows: &[Vec<u32>]) -> Vec<Vec<f32>> {
        let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
        model.hidden(&rows).unwrap().to_vec2().unwrap()
    }

    /// The sum of each row's states: the mean, up to a factor that the cosine ignores.
    fn pooled(model: &CpuEncoder, rows: &[Vec<u32>]) -> Vec<Vec<f32>> {
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
