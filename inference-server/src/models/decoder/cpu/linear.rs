//! Linear layers of a decoder on the CPU: f32, or quantised with integer products.
//!
//! Activations of a quantised layer are rounded to ggml's Q8_0 first; the result is
//! the same bits with every instruction set.

use crate::kernels::gemm::{self, Epilogue};
use crate::kernels::isa::Isa;
use crate::kernels::matrix::Matrix;
use crate::kernels::quant;

/// Weights of a linear layer.
pub(in crate::models::decoder) enum Linear {
    F32(gemm::Panels),
    /// Layers with the same inputs whose outputs are concatenated, each in a format of its own.
    Quantised(Vec<quant::Panels>),
}

/// Instruction set and scratch space of products.
pub(in crate::models::decoder) struct Arithmetic {
    pub(in crate::models::decoder) isa: Isa,
    /// Quantised activations of the current layer; reused.
    quantised: quant::QuantisedRows,
}

impl Arithmetic {
    /// Takes the best instruction set of this machine.
    pub(in crate::models::decoder) fn detect() -> Self {
        Self { isa: Isa::detect(), quantised: quant::QuantisedRows::default() }
    }
}

impl Linear {
    /// `out` = epilogue(x·Wᵀ + b).
    pub(in crate::models::decoder) fn multiply(
        &self,
        arithmetic: &mut Arithmetic,
        x: &Matrix,
        epilogue: Epilogue<'_>,
        out: &mut Matrix,
    ) {
        let Arithmetic { isa, quantised } = arithmetic;
        match self {
            Self::F32(panels) => gemm::multiply(*isa, x, panels, epilogue, out),
            Self::Quantised(layers) => {
                // Once for all concatenated layers, which read the same activations.
                quant::quantise(*isa, x, quantised);
                quant::multiply(*isa, quantised, layers, epilogue, out);
            }
        }
    }

    /// Weights of one output, in f32. Must not be called on concatenated layers.
    pub(in crate::models::decoder) fn row(&self, output: usize, row: &mut [f32]) {
        match self {
            Self::F32(panels) => panels.row(output, row),
            Self::Quantised(layers) => layers[0].dequantise_row(output, row),
        }
    }

    /// Bytes in memory.
    pub(in crate::models::decoder) fn bytes(&self) -> u64 {
        match self {
            Self::F32(panels) => (panels.inputs() * panels.outputs() * size_of::<f32>()) as u64,
            Self::Quantised(layers) => layers.iter().map(|layer| layer.bytes() as u64).sum(),
        }
    }
}
