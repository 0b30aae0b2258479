//! Activations rounded to 8 bits.

use super::super::isa::{Isa, by_isa};
use super::super::matrix::Matrix;
use super::super::parallel;
use super::{BLOCK, BLOCKS, CHUNK, QUAD};

/// Largest integer, as in ggml's Q8_0: the scale of a block is its largest magnitude by this.
const LARGEST: f32 = 127.0;
/// A block of magnitudes below this is zero; the inverse of its scale would be infinite.
const LEAST: f32 = 1e-30;

/// A chunk of one row.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Part {
    /// Integers of ±127.
    pub(super) bytes: [i8; CHUNK],
    /// The same, of each quad first the even ones, then the odd ones.
    pub(super) words: [i16; CHUNK],
    /// Scale of each block.
    pub(super) scales: [f32; BLOCKS],
    /// Scale of each block times the sum of its integers.
    pub(super) products: [f32; BLOCKS],
    /// Sum of the integers of each block, negated: what an offset of all weights is multiplied by.
    pub(super) sums: [i32; BLOCKS],
    /// The same for half blocks.
    pub(super) halves: [i32; 2 * BLOCKS],
}

impl Part {
    const ZERO: Self = Self {
        bytes: [0; CHUNK],
        words: [0; CHUNK],
        scales: [0.0; BLOCKS],
        products: [0.0; BLOCKS],
        sums: [0; BLOCKS],
        halves: [0; 2 * BLOCKS],
    };
}

/// Activations of a batch, each row in blocks of 32 integers of 8 bits with a scale; a buffer that
/// is reused between forward passes.
///
/// Chunk by chunk of 256 columns, then row by row.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    parts: Vec<Part>,
    rows: usize,
    width: usize,
}

impl Rows {
    /// Changes the shape; what the rows hold afterwards is unspecified.
    fn resize(&mut self, rows: usize, width: usize) {
        assert!(width.is_multiple_of(BLOCK), "whole blocks of activations");
        (self.rows, self.width) = (rows, width);
        let wanted = rows * width.div_ceil(CHUNK);
        if self.parts.len() < wanted {
            self.parts.resize(wanted, Part::ZERO);
        }
    }

    /// Number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Columns with meaning.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// One chunk of all rows.
    #[inline]
    pub(super) fn chunk(&self, index: usize) -> &[Part] {
        &self.parts[index * self.rows..][..self.rows]
    }

    /// The numbers that a row was rounded to.
    #[cfg(test)]
    pub(crate) fn row(&self, index: usize) -> Vec<f32> {
        assert!(index < self.rows, "a row");
        let at = |column: usize| {
            let part = &self.chunk(column / CHUNK)[index];
            part.scales[column % CHUNK / BLOCK] * f32::from(part.bytes[column % CHUNK])
        };
        (0..self.width).map(at).collect()
    }
}

/// Rounds every row of `x` into `rows`, on the threads of the current pool.
///
/// # Panics
/// Where the width is no whole number of blocks of 32.
pub(crate) fn quantise(isa: Isa, x: &Matrix, rows: &mut Rows) {
    rows.resize(x.rows(), x.width());
    let count = x.rows().max(1);
    let used = x.rows() * x.width().div_ceil(CHUNK);
    parallel::each_chunk(&mut rows.parts[..used], count, |chunk, parts| {
        by_isa!(isa, quantise_chunk(x: &Matrix = x, chunk: usize = chunk, parts: &mut [Part] = parts));
    });
}

/// The parameter is that of all bodies of [`by_isa`].
#[inline(always)]
fn quantise_chunk<const FMA: bool>(x: &Matrix, chunk: usize, parts: &mut [Part]) {
    for (row, part) in parts.iter_mut().enumerate() {
        let values = &x.row(row)[chunk * CHUNK..];
        for (block, values) in values.as_chunks::<BLOCK>().0.iter().take(BLOCKS).enumerate() {
            quantise_block(values, block, part);
        }
    }
}

#[inline(always)]
fn quantise_block(values: &[f32; BLOCK], block: usize, part: &mut Part) {
    // 1.5·2²³: adding it leaves the nearest integer in the low bits of the sum.
    const ROUND: f32 = 12_582_912.0;
    // The bits of magnitudes are ordered as they are, with infinity and NaN last: a block that
    // holds one keeps it.
    let most = values.iter().fold(0, |most, value| most.max(value.to_bits() & 0x7FFF_FFFF));
    let most = f32::from_bits(most);
    let inverse = if most > LEAST { LARGEST / most } else { 0.0 };
    let mut integers = [0; BLOCK];
    for (integer, value) in integers.iter_mut().zip(values) {
        let shifted = value * inverse + ROUND;
        *integer = shifted.to_bits().wrapping_sub(ROUND.to_bits()).cast_signed().clamp(-127, 127);
    }
    let at = block * BLOCK;
    for (byte, integer) in part.bytes[at..at + BLOCK].iter_mut().zip(integers) {
        *byte = integer as i8;
    }
    let words = part.words[at..at + BLOCK].as_chunks_mut::<QUAD>().0;
    for (words, quad) in words.iter_mut().zip(integers.as_chunks::<QUAD>().0) {
        *words = [quad[0] as i16, quad[2] as i16, quad[1] as i16, quad[3] as i16];
    }
    let halves = [0, 1].map(|half| integers[half * BLOCK / 2..][..BLOCK / 2].iter().sum::<i32>());
    let (scale, sum) = (most / LARGEST, halves[0] + halves[1]);
    part.scales[block] = scale;
    part.products[block] = scale * sum as f32;
    part.sums[block] = -sum;
    part.halves[2 * block] = -halves[0];
    part.halves[2 * block + 1] = -halves[1];
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounded(isa: Isa, values: &[f32], width: usize) -> Rows {
        let mut rows = Rows::default();
        quantise(isa, &Matrix::from_rows(values, width), &mut rows);
        rows
    }

    #[test]
    fn rows_are_within_half_a_step() {
        let values: Vec<f32> = (0..3 * 288).map(|index| (index as f32 * 0.37).sin() * index as f32).collect();
        for isa in Isa::available() {
            let rows = rounded(isa, &values, 288);
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
        let expected = rounded(Isa::available()[0], &values, 256);
        for isa in Isa::available() {
            let got = rounded(isa, &values, 256);
            for (a, b) in expected.parts.iter().zip(&got.parts) {
                assert_eq!((a.bytes, a.words, a.sums, a.halves), (b.bytes, b.words, b.sums, b.halves));
                assert_eq!((a.scales, a.products), (b.scales, b.products));
            }
        }
    }

    #[test]
    fn odd_blocks() {
        fn check(value: f32, expected: f32) {
            let mut values = [0.0; BLOCK];
            values[3] = value;
            for isa in Isa::available() {
                let row = rounded(isa, &values, BLOCK).row(0);
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
                assert!(!rounded(isa, &values, BLOCK).parts[0].scales[0].is_finite(), "{isa:?} {value}");
            }
        }
    }
}
