//! Encoders: a backbone that turns token ids into hidden states, and a head that answers.
//!
//! Devlin et al. 2019 (arXiv:1810.04805) and Conneau et al. 2020 (arXiv:1911.02116); the reference
//! is transformers' `BertModel` and `XLMRobertaModel` in eager attention, float32, which
//! `tests/goldens` compares against.

pub(crate) mod candle;
pub(crate) mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
pub(crate) mod modernbert;

use candle_core::Tensor;

use crate::device::Precision;
use crate::models::checkpoint::EncoderConfig;
use crate::models::encoder::candle::Blocks;
use crate::models::encoder::cpu::Packed;
use crate::models::encoder::modernbert::ModernBertEncoder;
use crate::models::heads::{Head, Pooled, TextHead, TokenHead};
use crate::models::weights::Weights;
use crate::models::{ComputeError, Extras, Model, Pooling, RowOutput};

/// DeviceArbiter rows of token ids into hidden states.
pub(crate) trait Backbone: Send + Sync {
    /// Hidden states, tokens × width in f32, the rows one after the other in the order given. A
    /// row's states do not depend on the other rows. An id with
    /// [`crate::text::tokenizer::SECOND_TEXT`] is of token type 1; models of a single type are
    /// never given one.
    ///
    /// # Errors
    /// See [`ComputeError`].
    fn hidden(&self, rows: &[&[u32]]) -> Result<Tensor, ComputeError>;

    /// One vector per row, not normalised, where the backbone pools by itself; `None` where the
    /// head has to.
    ///
    /// # Errors
    /// See [`ComputeError`].
    fn pooled(&self, _rows: &[&[u32]], _pooling: Pooling) -> Result<Option<Vec<Vec<f32>>>, ComputeError> {
        Ok(None)
    }

    /// Bytes in memory where the whole model has this many weights.
    fn weight_bytes(&self, parameters: u64) -> u64 {
        parameters * size_of::<f32>() as u64
    }
}

/// An encoder with its weights on a device.
pub(crate) struct Encoder {
    backbone: Box<dyn Backbone>,
    head: Head,
}

impl Encoder {
    /// Loads an encoder that answers one vector per row.
    ///
    /// # Errors
    /// Names the tensor that is missing or misshapen.
    pub(crate) fn pooled(
        config: &EncoderConfig,
        weights: &mut Weights,
        precision: Precision,
        head: Pooled,
    ) -> anyhow::Result<Self> {
        Self::load(config, weights, precision, Head::Pooled(Box::new(head)))
    }

    /// Loads an encoder with a token-classification head of `labels` classes.
    ///
    /// # Errors
    /// Names the tensor that is missing or misshapen.
    pub(crate) fn labelling(
        config: &EncoderConfig,
        weights: &mut Weights,
        precision: Precision,
        labels: usize,
    ) -> anyhow::Result<Self> {
        let head = TokenHead::load(config, weights, labels)?;
        Self::load(config, weights, precision, Head::Labels(head))
    }

    /// Loads an encoder with a text-classification head of `labels` classes.
    ///
    /// # Errors
    /// Names the tensor that is missing or misshapen.
    pub(crate) fn classifying(
        config: &EncoderConfig,
        weights: &mut Weights,
        precision: Precision,
        labels: usize,
    ) -> anyhow::Result<Self> {
        let head = TextHead::load(config, weights, labels)?;
        Self::load(config, weights, precision, Head::Text(head))
    }

    fn load(
        config: &EncoderConfig,
        weights: &mut Weights,
        precision: Precision,
        head: Head,
    ) -> anyhow::Result<Self> {
        let backbone: Box<dyn Backbone> = match &config.modern {
            Some(settings) => Box::new(ModernBertEncoder::load(config, settings, weights)?),
            None if weights.device().is_cpu() => Box::new(Packed::load(config, weights, precision)?),
            None => on_gpu(config, weights, precision)?,
        };
        Ok(Self { backbone, head })
    }

    /// Bytes of this many weights in memory.
    pub(crate) fn weight_bytes(&self, parameters: u64) -> u64 {
        self.backbone.weight_bytes(parameters)
    }
}

/// Our own kernels where they serve, else candle's in f32.
fn on_gpu(
    config: &EncoderConfig,
    weights: &mut Weights,
    precision: Precision,
) -> anyhow::Result<Box<dyn Backbone>> {
    #[cfg(feature = "cuda")]
    if crate::models::encoder::cuda::CudaEncoder::serves(config) {
        return Ok(Box::new(crate::models::encoder::cuda::CudaEncoder::load(config, weights, precision)?));
    }
    tracing::warn!(?precision, "no kernels for a network of this shape, computing in f32 by candle");
    Ok(Box::new(Blocks::load(config, weights)?))
}

impl Model for Encoder {
    fn run(&self, rows: &[&[u32]], extras: Extras) -> Result<Vec<RowOutput>, ComputeError> {
        if let Some((head, pooling)) = self.head.pools(extras)
            && let Some(vectors) = self.backbone.pooled(rows, pooling)?
        {
            return head.finished(vectors).map_err(compute_error);
        }
        let hidden = self.backbone.hidden(rows)?;
        self.head.outputs(&hidden, rows.iter().map(|row| row.len()), extras).map_err(compute_error)
    }
}

/// What an error of candle means for the batch and the device.
pub(crate) fn compute_error(error: candle_core::Error) -> ComputeError {
    let text = error.to_string();
    let lower = text.to_lowercase();
    if lower.contains("out of memory") || lower.contains("out_of_memory") {
        ComputeError::OutOfMemory(text)
    } else if cfg!(feature = "cuda") && (lower.contains("cuda_error") || lower.contains("drivererror")) {
        ComputeError::DeviceLost(text)
    } else {
        ComputeError::Failed(text)
    }
}
