//! Gated linear units of feed-forward blocks, act(gate) · up (Shazeer 2020, arXiv:2002.05202):
//! SwiGLU with SiLU (Llama, Qwen, Phi), GeGLU with GELU (Gemma).
//!
//! Gate and up projections come from one GEMM side by side, so that activations are read once.

use super::isa::{Isa, by_isa};
use super::math::{Activation, activate};
use super::matrix::Matrix;
use super::parallel;

/// `out` = act(gate) · up, where each row of `wide` is the gate followed by up.
pub(crate) fn gate(isa: Isa, activation: Activation, wide: &Matrix, out: &mut Matrix) {
    let width = wide.width() / 2;
    out.resize(wide.rows(), width);
    parallel::each_row(out, |index, row| {
        let (gate, up) = wide.row(index).split_at(width);
        // Activated in the destination: `wide` is shared, and its row is read once.
        row.copy_from_slice(gate);
        by_isa!(isa, product(row: &mut [f32] = row, up: &[f32] = up, activation: Activation = activation));
    });
}

#[inline(always)]
fn product<const FMA: bool>(row: &mut [f32], up: &[f32], activation: Activation) {
    activate::<FMA>(activation, row);
    for (x, factor) in row.iter_mut().zip(up) {
        *x *= factor;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_multiply() {
        let wide = Matrix::from_rows(&[-1.0, 2.0, 3.0, 4.0], 4);
        for isa in Isa::available() {
            let mut out = Matrix::default();
            gate(isa, Activation::Relu, &wide, &mut out);
            assert_eq!(out.row(0), [0.0, 8.0]);
            gate(isa, Activation::Silu, &wide, &mut out);
            let silu = |x: f64| x / (1.0 + (-x).exp());
            let expected = [silu(-1.0) * 3.0, silu(2.0) * 4.0];
            assert!(out.row(0).iter().zip(expected).all(|(x, e)| (f64::from(*x) - e).abs() < 1e-6));
        }
    }
}
