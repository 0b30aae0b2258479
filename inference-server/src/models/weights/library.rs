//! Weights as candle-transformers asks for them: by name and shape, through candle's `VarBuilder`.
//!
//! Everything is read through [`Weights`], so that a missing tensor or a wrong shape is named,
//! nothing is allocated by a configuration alone, and every weight is counted.

use std::sync::{Mutex, PoisonError};

use candle_core::{DType, Device, Error, Result, Shape, Tensor};
use candle_nn::Init;
use candle_nn::var_builder::{SimpleBackend, VarBuilder};

use super::Weights;

/// How candle-transformers names tensors, where a checkpoint names them otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct LibraryNames {
    /// Prefix that it puts before every name; checkpoints have it or not.
    pub(crate) prefix: &'static str,
    /// Ends of the names of tensors that are zeros if the checkpoint lacks them.
    pub(crate) zeros: &'static [&'static str],
}

/// The tensors of `weights` for candle-transformers.
pub(crate) fn library_weights<'a>(weights: &'a mut Weights, names: LibraryNames) -> VarBuilder<'a> {
    let device = weights.device().clone();
    let reader = Reader { weights: Mutex::new(weights), names };
    VarBuilder::from_backend(Box::new(reader), DType::F32, device)
}

struct Reader<'a> {
    /// candle reads through a shared reference.
    weights: Mutex<&'a mut Weights>,
    names: LibraryNames,
}

impl Reader<'_> {
    fn own_name<'n>(&self, name: &'n str) -> &'n str {
        // candle-transformers asks with a prefix of its own; `Weights` adds that of the checkpoint.
        name.strip_prefix(self.names.prefix).unwrap_or(name)
    }

    fn read(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let name = self.own_name(name);
        let mut weights = self.weights.lock().unwrap_or_else(PoisonError::into_inner);
        if !weights.encoder_has(name) && self.names.zeros.iter().any(|end| name.ends_with(end)) {
            return Tensor::zeros(shape, DType::F32, weights.device());
        }
        weights.encoder(name, shape).map_err(|error| Error::Msg(format!("{error:#}")))
    }
}

impl SimpleBackend for Reader<'_> {
    fn get(&self, shape: Shape, name: &str, _: Init, _: DType, _: &Device) -> Result<Tensor> {
        self.read(name, shape.dims())
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        Err(Error::Msg(format!("tensor {name} was asked for without a shape")))
    }

    fn contains_tensor(&self, name: &str) -> bool {
        let weights = self.weights.lock().unwrap_or_else(PoisonError::into_inner);
        weights.encoder_has(self.own_name(name))
    }
}
