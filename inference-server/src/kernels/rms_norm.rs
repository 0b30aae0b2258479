//! RMSNorm, root mean square normalisation (Zhang and Sennrich 2019, arXiv:1910.07467).
//!
//! The norm of decoders: of hidden states, and of the query and key heads of Qwen3 and Gemma 3.

use super::isa::{Isa, by_isa};
use super::math::{LANES, fma, sum_lanes};
use super::matrix::Matrix;
use super::parallel;

/// Weights of one normalisation.
#[derive(Debug, Clone)]
pub(crate) struct RmsNorm {
    /// Scale of each column.
    pub scale: Vec<f32>,
    /// ε, added to the mean of the squares.
    pub epsilon: f32,
}

impl RmsNorm {
    /// Normalises every row of `x` into `out`, on the threads of the current pool.
    pub(crate) fn apply(&self, isa: Isa, x: &Matrix, out: &mut Matrix) {
        out.resize(x.rows(), x.width());
        parallel::each_row(out, |index, row| {
            row.copy_from_slice(x.row(index));
            self.apply_row(isa, row);
        });
    }

    /// Normalises the rows of `x` in place and adds them to those of `sum`.
    pub(crate) fn add(&self, isa: Isa, x: &mut Matrix, sum: &mut Matrix) {
        assert_eq!((x.rows(), x.width()), (sum.rows(), sum.width()), "residual");
        // In place: what is normalised is scratch space, and no buffer is needed.
        parallel::each_row(x, |_, row| self.apply_row(isa, row));
        parallel::each_row(sum, |index, row| {
            for (total, term) in row.iter_mut().zip(x.row(index)) {
                *total += term;
            }
        });
    }

    /// Normalises one row in place.
    pub(crate) fn apply_row(&self, isa: Isa, row: &mut [f32]) {
        by_isa!(isa, normalise(row: &mut [f32] = row, norm: &RmsNorm = self));
    }
}

#[inline(always)]
fn normalise<const FMA: bool>(row: &mut [f32], norm: &RmsNorm) {
    let mut lanes = [0.0f32; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane = fma::<FMA>(*x, *x, *lane);
        }
    }
    let squares = sum_lanes(lanes) + rest.iter().map(|x| x * x).sum::<f32>();
    let factor = 1.0 / (squares / row.len() as f32 + norm.epsilon).sqrt();
    for (x, scale) in row.iter_mut().zip(&norm.scale) {
        *x = *x * factor * scale;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rows_are_near_those_of_f64(columns in prop::collection::vec((-4.0f32..4.0, -2.0f32..2.0), 1..130)) {
            let (row, scale): (Vec<f32>, Vec<f32>) = columns.into_iter().unzip();
            let squares: f64 = row.iter().map(|x| f64::from(*x).powi(2)).sum();
            let factor = 1.0 / (squares / row.len() as f64 + 1e-6).sqrt();
            let exact: Vec<f64> =
                row.iter().zip(&scale).map(|(x, scale)| f64::from(*x) * factor * f64::from(*scale)).collect();
            let norm = RmsNorm { scale, epsilon: 1e-6 };
            let x = Matrix::from_rows(&row, row.len());
            for isa in Isa::available() {
                let (mut out, mut sum, mut again) =
                    (Matrix::default(), Matrix::from_rows(&row, row.len()), Matrix::from_rows(&row, row.len()));
                norm.apply(isa, &x, &mut out);
                norm.add(isa, &mut again, &mut sum);
                for (column, expected) in exact.iter().enumerate() {
                    let (got, added) = (f64::from(out.row(0)[column]), f64::from(sum.row(0)[column]));
                    prop_assert!((got - expected).abs() < 1e-5, "{:?}: {} {}", isa, got, expected);
                    prop_assert!((added - expected - f64::from(row[column])).abs() < 1e-5);
                }
            }
        }
    }
}
