//! Activation quantisation: rows of f32 to 8 bits, in blocks of 32 with a scale.
//!
//! As ggml's Q8_0 and Q8_1, with the scale in f32 instead of f16 and the sums of integers that
//! offsets and minima of the weights need. The rounding is the same on every instruction set.

use super::geometry::{BLOCK, CHUNK, CHUNK_BLOCKS, QUAD};
use crate::kernels::isa::{Isa, by_isa};
use crate::kernels::matrix::Matrix;
use crate::kernels::parallel;

/// Largest integer, as in ggml's Q8_0: the scale of a block is its largest magnitude divided by
/// this.
const LARGEST: f32 = 127.0;
/// A block whose magnitudes are all at most this becomes zero. The inverse of its scale would
/// overflow from 3.7e-37 down; this is far above, and far below any activation that matters.
const LEAST: f32 = 1e-30;

/// A chunk of one row, quantised.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct ActivationChunk {
    /// Integers from −127 to 127.
    pub(super) bytes: [i8; CHUNK],
    /// The same integers, of each quad first the even ones, then the odd ones: what AVX2 multiplies
    /// with the even and odd bytes of 8-bit weights.
    pub(super) words: [i16; CHUNK],
    /// Scale of each block.
    pub(super) scales: [f32; CHUNK_BLOCKS],
    /// Scale of each block times the sum of its integers: what a minimum is multiplied by.
    pub(super) scaled_sums: [f32; CHUNK_BLOCKS],
    /// Sum of the integers of each block, negated: what the offset of the weights is multiplied by.
    pub(super) negated_sums: [i32; CHUNK_BLOCKS],
    /// The same for half blocks, whose scales differ in Q6_K.
    pub(super) negated_half_sums: [i32; 2 * CHUNK_BLOCKS],
}

impl ActivationChunk {
    const ZERO: Self = Self {
        bytes: [0; CHUNK],
        words: [0; CHUNK],
        scales: [0.0; CHUNK_BLOCKS],
        scaled_sums: [0.0; CHUNK_BLOCKS],
        negated_sums: [0; CHUNK_BLOCKS],
        negated_half_sums: [0; 2 * CHUNK_BLOCKS],
    };
}

/// Quantised activations of a batch, reused between forward passes.
///
/// Chunk by chunk of 256 columns, then row by row, which is the order in which products read them.
#[derive(Debug, Default)]
pub(crate) struct QuantisedRows {
    chunks: Vec<ActivationChunk>,
    rows: usize,
    width: usize,
}

impl QuantisedRows {
    /// Changes the shape; rows are unspecified afterwards.
    fn resize(&mut self, rows: usize, width: usize) {
        assert!(width.is_multiple_of(BLOCK), "whole blocks of activations");
        (self.rows, self.width) = (rows, width);
        let wanted = rows * width.div_ceil(CHUNK);
        if self.chunks.len() < wanted {
            self.chunks.resize(wanted, ActivationChunk::ZERO);
        }
    }

    /// Number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// A chunk of all rows.
    #[inline]
    pub(super) fn chunk(&self, index: usize) -> &[ActivationChunk] {
        &self.chunks[index * self.rows..][..self.rows]
    }

    /// A row, dequantised.
    #[cfg(test)]
    pub(crate) fn row(&self, index: usize) -> Vec<f32> {
        assert!(index < self.rows, "a row");
        let at = |column: usize| {
            let chunk = &self.chunk(column / CHUNK)[index];
            chunk.scales[column % CHUNK / BLOCK] * f32::from(chunk.bytes[column % CHUNK])
        };
        (0..self.width).map(at).collect()
    }
}

/// Quantises every row of `x` into `rows`, on the threads of the current pool.
///
/// # Panics
/// If the width is not a multiple of 32.
pub(crate) fn quantise(isa: Isa, x: &Matrix, rows: &mut QuantisedRows) {
    rows.resize(x.rows(), x.width());
    let count = x.rows().max(1);
    let used = x.rows() * x.width().div_ceil(CHUNK);
    parallel::each_chunk(&mut rows.chunks[..used], count, |index, chunks| {
        by_isa!(isa, quantise_chunk(x: &Matrix = x, index: usize = index,
            chunks: &mut [ActivationChunk] = chunks));
    });
}

/// Quantises a chunk of all rows. `FMA` is there for [`by_isa`] only: a fused multiply-add would
/// round otherwise.
#[inline(always)]
fn quantise_chunk<const FMA: bool>(x: &Matrix, index: usize, chunks: &mut [ActivationChunk]) {
    for (row, chunk) in chunks.iter_mut().enumerate() {
        let values = &x.row(row)[index * CHUNK..];
        for (block, values) in values.as_chunks::<BLOCK>().0.iter().take(CHUNK_BLOCKS).enumerate() {
            quantise_block(values, block, chunk);
        }
    }
}

#[inline(always)]
fn quantise_block(values: &[f32; BLOCK], block: usize, chunk: &mut ActivationChunk) {
    // 1.5·2²³: adding it leaves the nearest integer in the low bits of the sum.
    const ROUND: f32 = 12_582_912.0;
    // The bits of magnitudes are ordered as the magnitudes, with infinity and NaN last: a block
    // that holds one has it as its scale, so that it reaches the result.
    let most = values.iter().fold(0, |most, value| most.max(value.to_bits() & 0x7FFF_FFFF));
    let most = f32::from_bits(most);
    let inverse = if most > LEAST { LARGEST / most } else { 0.0 };
    let mut integers = [0; BLOCK];
    for (integer, value) in integers.iter_mut().zip(values) {
        // Not fused, so that every instruction set rounds alike.
        let shifted = value * inverse + ROUND;
        *integer = shifted.to_bits().wrapping_sub(ROUND.to_bits()).cast_signed().clamp(-127, 127);
    }
    let at = block * BLOCK;
    for (byte, integer) in chunk.bytes[at..at + BLOCK].iter_mut().zip(integers) {
        *byte = integer as i8;
    }
    let words = chunk.words[at..at + BLOCK].as_chunks_mut::<QUAD>().0;
    for (words, quad) in words.iter_mut().zip(integers.as_chunks::<QUAD>().0) {
        *words = [quad[0] as i16, quad[2] as i16, quad[1] as i16, quad[3] as i16];
    }
    let halves = [0, 1].map(|half| integers[half * BLOCK / 2..][..BLOCK / 2].iter().sum::<i32>());
    let (scale, sum) = (most / LARGEST, halves[0] + halves[1]);
    chunk.scales[block] = scale;
    chunk.scaled_sums[block] = scale * sum as f32;
    // Negated here, once for a row, instead of in every product.
    chunk.negated_sums[block] = -sum;
    chunk.negated_half_sums[2 * block] = -halves[0];
    chunk.negated_half_sums[2 * block + 1] = -halves[1];
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quantised(isa: Isa, values: &[f32], width: usize) -> QuantisedRows {
        let mut rows = QuantisedRows::default();
        quantise(isa, &Matrix::from_rows(values, width), &mut rows);
        rows
    }

    #[test]
    fn rows_are_within_half_a_step() {
        let values: Vec<f32> = (0..3 * 288).map(|index| (index as f32 * 0.37).sin() * index as f32).collect();
        for isa in Isa::available() {
            let rows = quantised(isa, &values, 288);
            for (row, expected) in values.chunks(288).enumerate() {
                for (got, expected) in rows.row(row).chunks(BLOCK).zip(expected.chunks(BLOCK)) {
                    let most = expected.iter().fold(0.0f32, |most, x| most.max(x.abs()));
                    let near = |(a, b): (&f32, &f32)| (a - b).abs() <= most / LARGEST * 0.5001;
                    assert!(got.iter().zip(expected).all(near), "{isa:?} {row}");
                }
            }
        }
    }

    #[test]
    fn every_instruction_set_rounds_alike() {
        let values: Vec<f32> = (0..512).map(|index| (index as f32 * 1.7).sin() * 3.0).collect();
        let expected = quantised(Isa::available()[0], &values, 256);
        for isa in Isa::available() {
            let got = quantised(isa, &values, 256);
            for (a, b) in expected.chunks.iter().zip(&got.chunks) {
                assert_eq!((a.bytes, a.words), (b.bytes, b.words));
                assert_eq!((a.scales, a.scaled_sums), (b.scales, b.scaled_sums));
                assert_eq!((a.negated_sums, a.negated_half_sums), (b.negated_sums, b.negated_half_sums));
            }
        }
    }

    #[test]
    fn odd_blocks() {
        fn check(value: f32, expected: f32) {
            let mut values = [0.0; BLOCK];
            values[3] = value;
            for isa in Isa::available() {
                let row = quantised(isa, &values, BLOCK).row(0);
                assert!(
                    row[3] == expected || row[3].is_nan() && expected.is_nan(),
                    "{isa:?} {value}: {}",
                    row[3]
                );
                assert!(row[0] == 0.0 || expected.is_nan(), "{isa:?} {value}: {}", row[0]);
            }
        }
        check(0.0, 0.0);
        check(127.0, 127.0);
        check(-254.0, -254.0);
        check(1e-38, 0.0);
        check(f32::NAN, f32::NAN);
    }

    #[test]
    fn what_is_not_finite_stays_so() {
        for value in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
            let mut values = [1.0; BLOCK];
            values[9] = value;
            for isa in Isa::available() {
                assert!(!quantised(isa, &values, BLOCK).chunks[0].scales[0].is_finite(), "{isa:?} {value}");
            }
        }
    }
}
