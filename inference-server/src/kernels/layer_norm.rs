//! Layer normalisation (Ba et al. 2016, arXiv:1607.06450).
//!
//! Two passes over a row, mean then variance, with partial sums in a fixed number of lanes.

use super::isa::{Isa, by_isa};
use super::math::{LANES, fma, sum_lanes};
use super::matrix::Matrix;
use super::parallel;

/// Weights of one layer normalisation.
#[derive(Debug, Clone)]
pub(crate) struct LayerNorm {
    /// Scale of each column, γ.
    pub scale: Vec<f32>,
    /// Shift of each column, β.
    pub shift: Vec<f32>,
    /// ε, added to the variance.
    pub epsilon: f32,
}

impl LayerNorm {
    /// Normalises every row of `x` into `out`, on the threads of the current pool.
    pub(crate) fn apply(&self, isa: Isa, x: &Matrix, out: &mut Matrix) {
        out.resize(x.rows(), x.width());
        parallel::each_row(out, |index, row| {
            row.copy_from_slice(x.row(index));
            self.apply_row(isa, row);
        });
    }

    /// Normalises one row in place.
    pub(crate) fn apply_row(&self, isa: Isa, row: &mut [f32]) {
        by_isa!(isa, normalise(row: &mut [f32] = row, norm: &LayerNorm = self));
    }
}

#[inline(always)]
fn normalise<const FMA: bool>(row: &mut [f32], norm: &LayerNorm) {
    let count = row.len() as f32;
    // Two passes: in E[x²] − E[x]², a difference of large numbers, the variance would be lost.
    let mut lanes = [0.0f32; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane += x;
        }
    }
    let mean = (sum_lanes(lanes) + rest.iter().sum::<f32>()) / count;
    let mut lanes = [0.0f32; LANES];
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane = fma::<FMA>(x - mean, x - mean, *lane);
        }
    }
    let squares = sum_lanes(lanes) + rest.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>();
    let factor = 1.0 / (squares / count + norm.epsilon).sqrt();
    for ((x, scale), shift) in row.iter_mut().zip(&norm.scale).zip(&norm.shift) {
        *x = fma::<FMA>((*x - mean) * factor, *scale, *shift);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn exact(row: &[f32], norm: &LayerNorm) -> Vec<f64> {
        let count = row.len() as f64;
        let mean = row.iter().map(|x| f64::from(*x)).sum::<f64>() / count;
        let variance = row.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / count;
        let factor = 1.0 / (variance + f64::from(norm.epsilon)).sqrt();
        let affine = norm.scale.iter().zip(&norm.shift);
        row.iter()
            .zip(affine)
            .map(|(x, (scale, shift))| {
                (f64::from(*x) - mean) * factor * f64::from(*scale) + f64::from(*shift)
            })
            .collect()
    }

    proptest! {
        #[test]
        fn rows_are_near_those_of_f64(
            columns in prop::collection::vec((-4.0f32..4.0, -2.0f32..2.0, -1.0f32..1.0), 1..130)
        ) {
            let row: Vec<f32> = columns.iter().map(|column| column.0).collect();
            let scale = columns.iter().map(|column| column.1).collect();
            let shift = columns.iter().map(|column| column.2).collect();
            let norm = LayerNorm { scale, shift, epsilon: 1e-5 };
            let x = Matrix::from_rows(&row, row.len());
            for isa in Isa::available() {
                let mut out = Matrix::default();
                norm.apply(isa, &x, &mut out);
                for (got, expected) in out.row(0).iter().zip(exact(&row, &norm)) {
                    prop_assert!((f64::from(*got) - expected).abs() < 2e-5, "{:?}: {} {}", isa, got, expected);
                }
            }
        }
    }
}
