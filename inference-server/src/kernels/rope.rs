//! RoPE, rotary position embedding (Su et al. 2021, arXiv:2104.09864).
//!
//! Column i of a head is paired with column i + d/2, as in GPT-NeoX and transformers; the paper
//! pairs neighbours instead. Checkpoints of llama.cpp that have neighbours are reordered when they
//! are read.

use super::isa::{Isa, by_isa};
use super::matrix::Matrix;
use super::parallel;

/// Cosines and sines of the tokens of a batch.
///
/// As in transformers, an angle is the product of position and frequency in f32, so that goldens
/// agree at large positions too.
#[derive(Debug, Default)]
pub(crate) struct Angles {
    /// Tokens × head size: the cosines of half a head, then its sines.
    table: Matrix,
}

impl Angles {
    /// Computes the cosines and sines of tokens at these positions for the frequencies of half a
    /// head, all multiplied by `scale`.
    pub(crate) fn fill(&mut self, positions: &[u32], frequencies: &[f32], scale: f32) {
        let half = frequencies.len();
        self.table.resize(positions.len(), 2 * half);
        parallel::each_row(&mut self.table, |index, row| {
            let (cosines, sines) = row.split_at_mut(half);
            for ((frequency, cosine), sine) in frequencies.iter().zip(cosines).zip(sines) {
                // The sine in f64: the rounding of the angle, which transformers has too, is then
                // the only error at large positions.
                let angle = f64::from(positions[index] as f32 * frequency);
                *cosine = angle.cos() as f32 * scale;
                *sine = angle.sin() as f32 * scale;
            }
        });
    }

    /// The cosines of half a head, then its sines, of the token `index`.
    pub(crate) fn row(&self, index: usize) -> &[f32] {
        self.table.row(index)
    }

    /// Rotates a head of the token `index` in place; columns behind the rotated ones are unchanged
    /// (partial rotary embedding).
    pub(crate) fn rotate(&self, isa: Isa, index: usize, head: &mut [f32]) {
        let row = self.row(index);
        let half = row.len() / 2;
        let (cosines, sines) = row.split_at(half);
        by_isa!(isa, rotate_halves(head: &mut [f32] = &mut head[..2 * half], cosines: &[f32] = cosines,
            sines: &[f32] = sines));
    }
}

#[inline(always)]
fn rotate_halves<const FMA: bool>(head: &mut [f32], cosines: &[f32], sines: &[f32]) {
    let (low, high) = head.split_at_mut(cosines.len());
    for (((x, y), cosine), sine) in low.iter_mut().zip(high).zip(cosines).zip(sines) {
        // No fused multiply-add: transformers rounds twice, and so does every instruction set here.
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
