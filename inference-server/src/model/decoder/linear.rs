//! The linear layers of a decoder, in whatever form their weights are held.

use anyhow::Result;

use crate::kernels::gemm::{self, Epilogue};
use crate::kernels::isa::Isa;
use crate::kernels::matrix::Matrix;
use crate::model::weights::Weights;

/// Weights of a linear layer.
pub(super) enum Linear {
    F32(gemm::Panels),
}

impl Linear {
    /// Parts of the checkpoint with so many outputs each, one after the other.
    pub(super) fn load(
        weights: &mut Weights,
        parts: &[(String, usize)],
        inputs: usize,
        bias: bool,
    ) -> Result<Self> {
        let mut panels = gemm::Panels::zeros(inputs, parts.iter().map(|(_, outputs)| outputs).sum());
        let mut first = 0;
        for (name, outputs) in parts {
            let matrix = weights.encoder(&format!("{name}.weight"), &[*outputs, inputs])?;
            let matrix: Vec<f32> = matrix.flatten_all()?.to_vec1()?;
            let bias = if bias {
                weights.encoder(&format!("{name}.bias"), &[*outputs])?.to_vec1()?
            } else {
                vec![0.0; *outputs]
            };
            panels.pack(first, &matrix, &bias);
            first += outputs;
        }
        Ok(Self::F32(panels))
    }

    /// A head: the tensor of exactly this name, without a bias.
    pub(super) fn head(weights: &mut Weights, name: &str, inputs: usize, outputs: usize) -> Result<Self> {
        let matrix: Vec<f32> = weights.head(name, &[outputs, inputs])?.flatten_all()?.to_vec1()?;
        let mut panels = gemm::Panels::zeros(inputs, outputs);
        panels.pack(0, &matrix, &vec![0.0; outputs]);
        Ok(Self::F32(panels))
    }

    /// `out` = epilogue(x·Wᵀ + b).
    pub(super) fn multiply(&self, isa: Isa, x: &Matrix, epilogue: Epilogue<'_>, out: &mut Matrix) {
        match self {
            Self::F32(panels) => gemm::multiply(isa, x, panels, epilogue, out),
        }
    }

    /// The weights of one output.
    pub(super) fn row(&self, output: usize, row: &mut [f32]) {
        match self {
            Self::F32(panels) => panels.row(output, row),
        }
    }

    /// Bytes in memory.
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::F32(panels) => (panels.inputs() * panels.outputs() * size_of::<f32>()) as u64,
        }
    }
}
