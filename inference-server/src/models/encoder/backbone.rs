//! The interface of backbones: token ids in, hidden states out.
//!
//! A backbone knows no task. Its output for a row does not depend on the rest of the
//! batch, so that batching is invisible to callers.

use candle_core::Tensor;

use crate::models::{ComputeError, Pooling};

/// Turns rows of token ids into hidden states.
pub trait Backbone: Send + Sync {
    /// Hidden states, tokens × width in f32, the rows one after the other in the given order. There
    /// is at least one row, and every row has at least one id. An id
    /// with the bit `text::tokenizer::SECOND_TEXT` is of token type 1; models with a
    /// single type are never given one.
    ///
    /// # Errors
    /// See [`ComputeError`].
    fn hidden(&self, rows: &[&[u32]]) -> Result<Tensor, ComputeError>;

    /// One vector per row, not normalised; `None` if the backbone leaves pooling to the head.
    ///
    /// # Errors
    /// See [`ComputeError`].
    fn pooled(&self, _rows: &[&[u32]], _pooling: Pooling) -> Result<Option<Vec<Vec<f32>>>, ComputeError> {
        Ok(None)
    }

    /// Bytes that a model of this many weights takes in memory.
    fn weight_bytes(&self, parameters: u64) -> u64 {
        parameters * size_of::<f32>() as u64
    }
}

/// Classifies an error of candle, which passes the driver's message on as text only.
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
