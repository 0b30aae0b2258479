//! The sources of the kernels, as they are compiled for a device.

use crate::kernels::math::Activation;

/// What is written in PTX; see `cuda/ptx.cu`.
const PTX: &str = include_str!("../cuda/ptx.cu");
const ELEMENT: &str = include_str!("../cuda/element.cu");
const ACTIVATION: &str = include_str!("../cuda/activation.cu");
const LAYERS: &str = include_str!("../cuda/layers.cu");
const ONLINE: &str = include_str!("../cuda/online.cu");
const ATTENTION: &str = include_str!("../cuda/attention.cu");
const DECODER: &str = include_str!("../cuda/decoder.cu");
const PRODUCT: &str = include_str!("../cuda/product.cu");

/// Kernels that are compiled together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Between the products of an encoder: ELEMENT, ACTIVATION and WIDTH are defined.
    Layers,
    /// Attention of an encoder: ELEMENT, HEADS and HEAD.
    Attention,
    /// Between the products of a decoder: ELEMENT, ACTIVATION, SHARED, GROUP, HEAD and SCORE_SCALE.
    Decoder,
    /// Products of few rows: ELEMENT, ACTIVATION, BITS, SECOND and OFFSET.
    Product,
}

impl Source {
    /// The text behind what `ptx.cu` says.
    pub fn body(self) -> String {
        match self {
            Self::Layers => [ELEMENT, ACTIVATION, LAYERS].concat(),
            Self::Attention => [ELEMENT, ONLINE, ATTENTION].concat(),
            Self::Decoder => [ELEMENT, ACTIVATION, ONLINE, DECODER].concat(),
            Self::Product => [ELEMENT, ACTIVATION, PRODUCT].concat(),
        }
    }

    /// The whole text for a CUDA compiler.
    pub fn text(self) -> String {
        PTX.to_owned() + &self.body()
    }
}

/// What ACTIVATION is defined as; see `cuda/activation.cu`.
pub(crate) fn activation_number(activation: Activation) -> usize {
    match activation {
        Activation::Gelu => 0,
        Activation::GeluTanh => 1,
        Activation::Relu => 2,
        Activation::Silu => 3,
    }
}
