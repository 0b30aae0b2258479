//! Sources of the GPU kernels, put together from `cuda/*.cu` as they are compiled.
//!
//! All that is PTX is in `ptx.cu`, the first part, so that tests can put a C++ header in its place
//! and run the kernels on a CPU.

use crate::kernels::math::Activation;

/// The part with inline PTX.
const PTX: &str = include_str!("../cuda/ptx.cu");
const ELEMENT: &str = include_str!("../cuda/element.cu");
const ACTIVATION: &str = include_str!("../cuda/activation.cu");
const LAYERS: &str = include_str!("../cuda/layers.cu");
const ONLINE: &str = include_str!("../cuda/online.cu");
const ATTENTION: &str = include_str!("../cuda/attention.cu");
const DECODER: &str = include_str!("../cuda/decoder.cu");
const PRODUCT: &str = include_str!("../cuda/product.cu");

/// Kernels that are compiled together, and the macros that they need besides ELEMENT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Embedding, layer norm, activation and pooling of an encoder: ACTIVATION and WIDTH.
    Layers,
    /// Attention of an encoder: HEADS and HEAD.
    Attention,
    /// Embedding, norms, RoPE, gates and paged attention of a decoder: ACTIVATION, KV_HEADS, GROUP,
    /// HEAD and SCORE_SCALE.
    Decoder,
    /// GEMV and thin GEMM, and dequantisation: ACTIVATION, BITS, SECOND and OFFSET.
    Product,
}

impl Source {
    /// The text that follows `ptx.cu`, or what stands in for it.
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

/// The number of an activation in `cuda/activation.cu`.
pub(crate) fn activation_number(activation: Activation) -> usize {
    match activation {
        Activation::Gelu => 0,
        Activation::GeluTanh => 1,
        Activation::Relu => 2,
        Activation::Silu => 3,
    }
}
