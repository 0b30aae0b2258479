//! Rotary position embedding (Su et al. 2021, arXiv:2104.09864), the halves of a head rotated
//! against each other.

use super::isa::{Isa, by_isa};
use super::matrix::Matrix;
use super::parallel;

/// Sines and cosines of the tokens of a batch.
///
/// As transformers has them: angles are products in f32, so a token's angle is the same however far
/// the text goes.
#[derive(Debug, Default)]
pub(crate) struct Angles {
    /// A row for each token: cosines of half a head, then its sines.
    table: Matrix,
}

impl Angles {
    /// Those of tokens at these positions; `frequencies` are those of half a head, and all results
    /// are scaled.
    pub(crate) fn fill(&mut self, positions: &[u32], frequencies: &[f32], scale: f32) {
        let half = frequencies.len();
        self.table.resize(positions.len(), 2 * half);
        parallel::each_row(&mut self.table, |index, row| {
            let (cosines, sines) = row.split_at_mut(half);
            for ((frequency, cosine), sine) in frequencies.iter().zip(cosines).zip(sines) {
                let angle = f64::from(positions[index] as f32 * frequency);
                *cosine = angle.cos() as f32 * scale;
                *sine = angle.sin() as f32 * scale;
            }
        });
    }

    /// Cosines of half a head, then its sines, of the token `index`.
    pub(crate) fn row(&self, index: usize) -> &[f32] {
        self.table.row(index)
    }

    /// Rotates a head of the token `index` where it stands; what lies behind the rotated halves
    /// stays.
    pub(crate) fn rotate(&self, isa: Isa, index: usize, head: &mut [f32]) {
        let row = self.row(index);
        let half = row.len() / 2;
        let (cosines, sines) = row.split_at(half);
        by_isa!(isa, turn(head: &mut [f32] = &mut head[..2 * half], cosines: &[f32] = cosines,
            sines: &[f32] = sines));
    }
}

#[inline(always)]
fn turn<const FMA: bool>(head: &mut [f32], cosines: &[f32], sines: &[f32]) {
    let (low, high) = head.split_at_mut(cosines.len());
    for (((x, y), cosine), sine) in low.iter_mut().zip(high).zip(cosines).zip(sines) {
        // Two roundings each on every machine: a fused one would be another number.
        let (first, second) = (*x * cosine - *y * sine, *y * cosine + *x * sine);
        (*x, *y) = (first, second);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_rotated() {
        let mut angles = Angles::default();
        angles.fill(&[0, 3, 100_000], &[1.0, 0.5], 1.0);
        for isa in Isa::available() {
            for (index, position) in [(0, 0.0f64), (1, 3.0), (2, 100_000.0)] {
                let mut head = [1.0f32, 2.0, 3.0, 4.0, 5.0];
                angles.rotate(isa, index, &mut head);
                for (pair, frequency) in [(0, 1.0), (1, 0.5)] {
                    let (sine, cosine) = (position * frequency).sin_cos();
                    let (x, y) = (1.0 + pair as f64, 3.0 + pair as f64);
                    let expected = [x * cosine - y * sine, y * cosine + x * sine];
                    let got = [head[pair], head[pair + 2]].map(f64::from);
                    assert!(
                        got.iter().zip(expected).all(|(got, x)| (got - x).abs() < 1e-5),
                        "{got:?} {expected:?}"
                    );
                }
                assert_eq!(head[4], 5.0);
            }
        }
    }
}
