//! Encoders: a backbone that turns token ids into hidden states, and a head that turns these into
//! answers.
//!
//! Devlin et al. 2019 (arXiv:1810.04805), Conneau et al. 2020 (arXiv:1911.02116) and Warner et al.
//! 2024 (arXiv:2412.13663). The reference is transformers' `BertModel`, `XLMRobertaModel` and
//! `ModernBertModel` in eager attention, float32, which `tests/goldens` compares against.
//!
//! | backbone | serves | why |
//! |---|---|---|
//! | `cpu` | BERT, XLM-RoBERTa and DistilBERT on the CPU | own kernels: no padding, packed, bf16 |
//! | `gpu` | the same on a GPU | own kernels, vectors pooled on the device |
//! | `candle` | shapes that the CUDA kernels do not support, on a GPU | any shape, f32 |
//! | `candle` | MPNet on any device | our kernels have no bias on attention |
//! | `modernbert` | ModernBERT on any device | by candle: our kernels have no RoPE and no windows |
//! | `library` | the other architectures on any device | by candle-transformers |

pub(crate) mod backbone;
pub(crate) mod candle;
pub(crate) mod cpu;
pub(crate) mod gpu;
pub(crate) mod library;
mod lookup;
pub(crate) mod modernbert;
mod position_bias;

use super::checkpoint::architecture::Architecture;
use super::checkpoint::encoder_config::EncoderConfig;
use super::heads::Head;
use super::weights::Weights;
use super::{ComputeError, Extras, Model, RowOutput};
use crate::device::Precision;
use backbone::{Backbone, compute_error};
use candle::CandleEncoder;
use cpu::CpuEncoder;
use library::LibraryEncoder;
use modernbert::ModernBertEncoder;

/// An encoder with its weights on a device.
pub(crate) struct Encoder {
    backbone: Box<dyn Backbone>,
    head: Head,
}

impl Encoder {
    /// Loads the backbone onto the device of `weights`.
    ///
    /// # Errors
    /// Names the tensor that is missing or has another shape than the configuration says.
    pub(crate) fn load(
        config: &EncoderConfig,
        weights: &mut Weights,
        precision: Precision,
        head: Head,
    ) -> anyhow::Result<Self> {
        let backbone: Box<dyn Backbone> = match (&config.modern, &config.library) {
            (Some(modern), _) => Box::new(ModernBertEncoder::load(config, modern, weights)?),
            (None, Some(library)) => Box::new(LibraryEncoder::load(config, library, weights)?),
            (None, None) if config.architecture == Architecture::MpNet => {
                Box::new(CandleEncoder::load(config, weights)?)
            }
            (None, None) if weights.device().is_cpu() => {
                Box::new(CpuEncoder::load(config, weights, precision)?)
            }
            (None, None) => load_on_gpu(config, weights, precision)?,
        };
        Ok(Self { backbone, head })
    }

    /// Bytes that this many weights take in memory.
    pub(crate) fn weight_bytes(&self, parameters: u64) -> u64 {
        self.backbone.weight_bytes(parameters)
    }
}

/// Our own kernels if they support the shape of the network, else candle in f32.
fn load_on_gpu(
    config: &EncoderConfig,
    weights: &mut Weights,
    precision: Precision,
) -> anyhow::Result<Box<dyn Backbone>> {
    #[cfg(feature = "cuda")]
    if gpu::supports(config) {
        let device = weights.device().as_cuda_device()?;
        let gpu = crate::kernels::cuda::CudaGpu::new(device, precision.element())?;
        return Ok(Box::new(gpu::GpuEncoder::load(gpu, config, weights)?));
    }
    tracing::warn!(?precision, "no CUDA kernels for a network of this shape, computing in f32 by candle");
    Ok(Box::new(CandleEncoder::load(config, weights)?))
}

impl Model for Encoder {
    fn run(&self, rows: &[&[u32]], extras: Extras) -> Result<Vec<RowOutput>, ComputeError> {
        // Backbones are promised at least one row.
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        // Vectors that the device has pooled save the copy of all hidden states to the host.
        if let Some((head, pooling)) = self.head.pools_only(extras)
            && let Some(vectors) = self.backbone.pooled(rows, pooling)?
        {
            return head.outputs_of_pooled(vectors).map_err(compute_error);
        }
        let hidden = self.backbone.hidden(rows)?;
        self.head.outputs(&hidden, rows.iter().map(|row| row.len()), extras).map_err(compute_error)
    }
}
