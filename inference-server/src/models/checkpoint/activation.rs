//! Activation functions by their names in transformers.
//!
//! The arithmetic is not here: kernels have an enumeration of their own, and candle its tensor
//! operations.

use serde::Deserialize;

use crate::kernels::math;

/// Activation between the two halves of a feed-forward network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Activation {
    /// x·Φ(x), by the error function.
    Gelu,
    /// The tanh approximation of GELU. transformers has three names for it.
    #[serde(alias = "gelu_fast", alias = "gelu_pytorch_tanh")]
    GeluNew,
    /// max(0, x).
    Relu,
    /// x·σ(x).
    #[serde(alias = "swish")]
    Silu,
}

impl Activation {
    /// The activation as the kernels name it.
    pub(crate) fn kernel(self) -> math::Activation {
        match self {
            Self::Gelu => math::Activation::Gelu,
            Self::GeluNew => math::Activation::GeluTanh,
            Self::Relu => math::Activation::Relu,
            Self::Silu => math::Activation::Silu,
        }
    }

    /// The activation as candle names it.
    pub(crate) fn library(self) -> candle_nn::Activation {
        match self {
            Self::Gelu => candle_nn::Activation::Gelu,
            Self::GeluNew => candle_nn::Activation::NewGelu,
            Self::Relu => candle_nn::Activation::Relu,
            Self::Silu => candle_nn::Activation::Silu,
        }
    }
}
