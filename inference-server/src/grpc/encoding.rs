//! Encodings of a vector on the wire: f32, binary16, bfloat16, int8 with a scale, and bits.
//!
//! The forms are those of the contract (`VectorEncoding` in `embedding.proto`).

use half::{bf16, f16};
use observatory_proto::inference::v1 as pb;

use super::settings::unknown_number;
use crate::error::Error;

/// The encoding that a request asks for.
#[derive(Debug, Clone, Copy)]
pub(super) struct VectorEncoding(pb::VectorEncoding);

impl VectorEncoding {
    /// # Errors
    /// [`Error::InvalidValue`] for a number that the contract does not know.
    pub(super) fn decode(value: i32) -> Result<Self, Error> {
        match pb::VectorEncoding::try_from(value) {
            // proto3 sends an unset field as Unspecified; resolved once, so that nobody asks again.
            Ok(pb::VectorEncoding::Unspecified) => Ok(Self(pb::VectorEncoding::F32)),
            Ok(encoding) => Ok(Self(encoding)),
            Err(_) => Err(unknown_number("settings.encoding", value, "0 to 5 (see VectorEncoding)")),
        }
    }

    /// Bytes of a vector with this many dimensions.
    pub(super) fn row_bytes(self, dimensions: usize) -> usize {
        match self.0 {
            pb::VectorEncoding::Unspecified | pb::VectorEncoding::F32 => dimensions * 4,
            pb::VectorEncoding::F16 | pb::VectorEncoding::Bf16 => dimensions * 2,
            pb::VectorEncoding::Int8 => dimensions,
            pb::VectorEncoding::Binary => dimensions.div_ceil(8),
        }
    }

    /// True for encodings whose rows need a scale to be decoded.
    pub(super) fn has_scales(self) -> bool {
        self.0 == pb::VectorEncoding::Int8
    }

    /// Writes a vector of finite numbers into its row and returns its scale, which is 1 if the
    /// encoding has none.
    pub(super) fn write(self, vector: &[f32], row: &mut [u8]) -> f32 {
        match self.0 {
            pb::VectorEncoding::Unspecified | pb::VectorEncoding::F32 => {
                fill(row, vector, |value| value.to_le_bytes());
            }
            pb::VectorEncoding::F16 => fill(row, vector, |value| f16::from_f32(value).to_le_bytes()),
            pb::VectorEncoding::Bf16 => fill(row, vector, |value| bf16::from_f32(value).to_le_bytes()),
            pb::VectorEncoding::Int8 => return write_int8(vector, row),
            pb::VectorEncoding::Binary => {
                // The first dimension is the highest bit, as in numpy's `packbits`, which
                // sentence-transformers packs with.
                for (byte, values) in row.iter_mut().zip(vector.chunks(8)) {
                    let bits = values.iter().enumerate().map(|(place, x)| u8::from(*x > 0.0) << (7 - place));
                    *byte = bits.sum();
                }
            }
        }
        1.0
    }
}

/// Symmetric quantisation to ±127 steps of the scale that is returned.
fn write_int8(vector: &[f32], row: &mut [u8]) -> f32 {
    let scale = vector.iter().fold(0.0, |largest: f32, value| largest.max(value.abs())) / 127.0;
    // The scale is 0 for a vector of zeros, and of numbers so small that their 127th part
    // underflows.
    fill(row, vector, |value| {
        // Ties to even, as numpy rounds, so that callers can reproduce the bytes.
        let steps = if scale > 0.0 { (value / scale).round_ties_even() } else { 0.0 };
        (steps as i8).to_le_bytes()
    });
    scale
}

fn fill<const N: usize>(row: &mut [u8], vector: &[f32], bytes: impl Fn(f32) -> [u8; N]) {
    for (place, value) in row.chunks_exact_mut(N).zip(vector) {
        place.copy_from_slice(&bytes(*value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes and scale of a vector that is sent as it is.
    #[track_caller]
    fn check(encoding: pb::VectorEncoding, vector: &[f32], expected: &[u8], scale: f32) {
        let encoding = VectorEncoding(encoding);
        let mut row = vec![0; encoding.row_bytes(vector.len())];
        assert_eq!(encoding.write(vector, &mut row), scale);
        assert_eq!(row, expected, "{encoding:?}");
    }

    #[test]
    fn encodings_are_the_published_ones() {
        use pb::VectorEncoding::{Bf16, Binary, F16, F32, Int8};
        check(F32, &[1.0, -2.0], &[0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0], 1.0);
        // 1 + 2^-11 lies half-way between two binary16 numbers, and 1 + 2^-8 between two bf16 ones:
        // to the even one.
        check(F16, &[1.000_488_3, -2.0, 70_000.0], &[0, 0x3c, 0, 0xc0, 0, 0x7c], 1.0);
        check(Bf16, &[1.003_906_3, 1.011_718_8], &[0x80, 0x3f, 0x82, 0x3f], 1.0);
        check(Int8, &[0.5, -1.27, 0.006, 0.0], &[50, 129, 1, 0], 0.01);
        check(Int8, &[0.0, 0.0], &[0, 0], 0.0);
        // numpy.packbits([1, 0, 1, 0, 0, 0, 0, 0, 1]) is [160, 128].
        check(Binary, &[0.1, -0.1, 3.0, 0.0, -1.0, -1.0, -1.0, -1.0, 1e-9], &[160, 128], 1.0);
    }
}
