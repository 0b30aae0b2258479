//! The linear layers of a decoder, in whatever form their weights are held.

use crate::kernels::gemm::{self, Epilogue};
use crate::kernels::isa::Isa;
use crate::kernels::matrix::Matrix;
use crate::kernels::quant;

/// Weights of a linear layer.
pub(super) enum Linear {
    F32(gemm::Panels),
    /// Layers of the same inputs, whose outputs stand side by side, each in its own format.
    Quantised(Vec<quant::Panels>),
}

/// What multiplies.
pub(super) struct Arithmetic {
    pub(super) isa: Isa,
    /// Activations of the layer at hand, rounded; reused.
    rounded: quant::QuantisedRows,
}

impl Arithmetic {
    /// With the best instructions of this machine.
    pub(super) fn detect() -> Self {
        Self { isa: Isa::detect(), rounded: quant::QuantisedRows::default() }
    }
}

impl Linear {
    /// `out` = epilogue(x·Wᵀ + b).
    pub(super) fn multiply(
        &self,
        arithmetic: &mut Arithmetic,
        x: &Matrix,
        epilogue: Epilogue<'_>,
        out: &mut Matrix,
    ) {
        let Arithmetic { isa, rounded } = arithmetic;
        match self {
            Self::F32(panels) => gemm::multiply(*isa, x, panels, epilogue, out),
            Self::Quantised(layers) => {
                quant::quantise(*isa, x, rounded);
                quant::multiply(*isa, rounded, layers, epilogue, out);
            }
        }
    }

    /// The weights of one output; the layer is not several side by side.
    pub(super) fn row(&self, output: usize, row: &mut [f32]) {
        match self {
            Self::F32(panels) => panels.row(output, row),
            Self::Quantised(layers) => layers[0].dequantise_row(output, row),
        }
    }

    /// Bytes in memory.
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::F32(panels) => (panels.inputs() * panels.outputs() * size_of::<f32>()) as u64,
            Self::Quantised(layers) => layers.iter().map(|layer| layer.bytes() as u64).sum(),
        }
    }
}
