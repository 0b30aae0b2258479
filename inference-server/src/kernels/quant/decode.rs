//! Quantisation blocks as they are in a file: ggml-quants.c's `dequantize_row_*` in two steps,
//! integers and scales.
//!
//! Both steps are lossless; [`Format::dequantise`] puts them together for tensors that are needed
//! as numbers.

use super::format::Format;
use super::geometry::{BLOCK, CHUNK};

/// The scales of a block: its f16 factors, and the small integers of the K formats.
///
/// A weight is `factor · q − minimum`. In the K formats both are multiplied by the integers of the
/// weight's 16 or 32 neighbours.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct BlockScales {
    /// Factor of the integers, ggml's `d`, as the bits of an f16.
    pub(super) factor: u16,
    /// The minimum, or the factor of the minima, ggml's `dmin`, as the bits of an f16. Q4_1 and
    /// Q5_1 store its negative, `m`.
    pub(super) minimum: u16,
    /// Integer scales of 32 weights each or, in Q6_K, of 16 (signed, as their bits).
    pub(super) factors: [u8; 16],
    /// Integer minima.
    pub(super) minima: [u8; 8],
}

/// Converts a finite f16.
///
/// By integer arithmetic that vectorises without F16C, and without subnormal numbers on the way,
/// which cost some processors 100 cycles and more each.
#[inline(always)]
pub(super) fn half(bits: u16) -> f32 {
    // 2^-14, the smallest normal f16; 127 − 15 = 112 is the difference of the exponents' biases.
    const LEAST: u32 = 113 << 23;
    let magnitude = u32::from(bits & 0x7FFF) << 13;
    let normal = f32::from_bits(magnitude + (112 << 23));
    let subnormal = f32::from_bits(magnitude + LEAST) - f32::from_bits(LEAST);
    let value = if bits & 0x7C00 == 0 { subnormal } else { normal };
    f32::from_bits(value.to_bits() | u32::from(bits & 0x8000) << 16)
}

/// Returns true if an f16 is neither infinite nor NaN.
pub(super) fn is_finite(bits: u16) -> bool {
    bits & 0x7C00 != 0x7C00
}

/// Two little-endian bytes.
fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// The scales of a block of a quantised format.
pub(super) fn scales(format: Format, block: &[u8]) -> BlockScales {
    let mut scales = BlockScales::default();
    match format {
        Format::Q4_1 | Format::Q5_1 => {
            scales.factor = word(block, 0);
            // The sign is flipped, so that all formats subtract their minimum.
            scales.minimum = word(block, 2) ^ 0x8000;
        }
        Format::Q4K | Format::Q5K => {
            scales.factor = word(block, 0);
            scales.minimum = word(block, 2);
            let packed = &block[4..16];
            for index in 0..8 {
                let (factor, minimum) = six_bits(packed, index);
                scales.factors[index] = factor;
                scales.minima[index] = minimum;
            }
        }
        Format::Q6K => {
            scales.factors.copy_from_slice(&block[192..208]);
            scales.factor = word(block, 208);
        }
        _ => scales.factor = word(block, 0),
    }
    scales
}

/// One of the eight scales and minima of 6 bits in 12 bytes (ggml's `get_scale_min_k4`).
fn six_bits(packed: &[u8], index: usize) -> (u8, u8) {
    if index < 4 {
        (packed[index] & 63, packed[index + 4] & 63)
    } else {
        let low = packed[index + 4];
        (low & 15 | packed[index - 4] >> 6 << 4, low >> 4 | packed[index] >> 6 << 4)
    }
}

/// Reads the integers of a block, as unsigned numbers and in the order of the inputs.
pub(super) fn integers(format: Format, block: &[u8], out: &mut [u8]) {
    match format {
        Format::Q4_0 => nibbles(&block[2..], out),
        Format::Q4_1 => nibbles(&block[4..], out),
        Format::Q5_0 => {
            nibbles(&block[6..], out);
            fifth_bits(&block[2..6], out);
        }
        Format::Q5_1 => {
            nibbles(&block[8..], out);
            fifth_bits(&block[4..8], out);
        }
        // Signed bytes with an offset of 128, so that all formats are unsigned.
        Format::Q8_0 => out.iter_mut().zip(&block[2..]).for_each(|(out, byte)| *out = byte ^ 0x80),
        Format::Q4K => long_nibbles(&block[16..], out),
        Format::Q5K => {
            long_nibbles(&block[48..], out);
            for (index, part) in out.chunks_exact_mut(BLOCK).enumerate() {
                for (out, high) in part.iter_mut().zip(&block[16..48]) {
                    *out |= (high >> index & 1) << 4;
                }
            }
        }
        Format::Q6K => six_bit_integers(block, out),
        Format::F32 | Format::F16 | Format::Bf16 => unreachable!("has no integers"),
    }
}

/// The lower nibbles of 16 bytes, then the upper ones.
fn nibbles(bytes: &[u8], out: &mut [u8]) {
    let (low, high) = out.split_at_mut(BLOCK / 2);
    for ((low, high), byte) in low.iter_mut().zip(high).zip(bytes) {
        (*low, *high) = (byte & 15, byte >> 4);
    }
}

/// Adds bit 4, one bit for each integer.
fn fifth_bits(bytes: &[u8], out: &mut [u8]) {
    for (index, out) in out.iter_mut().enumerate() {
        *out |= (bytes[index / 8] >> (index % 8) & 1) << 4;
    }
}

/// The lower nibbles of 32 bytes, then the upper ones, four times.
fn long_nibbles(bytes: &[u8], out: &mut [u8]) {
    for (part, bytes) in out.chunks_exact_mut(2 * BLOCK).zip(bytes.chunks_exact(BLOCK)) {
        let (low, high) = part.split_at_mut(BLOCK);
        for ((low, high), byte) in low.iter_mut().zip(high).zip(bytes) {
            (*low, *high) = (byte & 15, byte >> 4);
        }
    }
}

/// The integers of Q6_K: nibbles, and two more bits each from a second array.
fn six_bit_integers(block: &[u8], out: &mut [u8]) {
    for (half, out) in out.chunks_exact_mut(CHUNK / 2).enumerate() {
        let (low, high) = (&block[half * 64..][..64], &block[128 + half * 32..][..32]);
        for (index, out) in out.iter_mut().enumerate() {
            let byte = low[index % 64];
            let nibble = if index < 64 { byte & 15 } else { byte >> 4 };
            *out = nibble | (high[index % 32] >> (index / 32 * 2) & 3) << 4;
        }
    }
}

impl Format {
    /// Converts whole blocks to f32.
    ///
    /// # Panics
    /// If `bytes` and `out` are not the same number of whole blocks.
    pub fn dequantise(self, bytes: &[u8], out: &mut [f32]) {
        let (blocks, values) = (bytes.len() / self.block_bytes(), out.len() / self.block_length());
        assert!(
            blocks == values
                && bytes.len().is_multiple_of(self.block_bytes())
                && out.len().is_multiple_of(self.block_length()),
            "whole blocks"
        );
        let blocks = bytes.chunks_exact(self.block_bytes()).zip(out.chunks_exact_mut(self.block_length()));
        blocks.for_each(|(block, out)| dequantise_block(self, block, out));
    }
}

/// Reads the numbers of one block.
fn dequantise_block(format: Format, block: &[u8], out: &mut [f32]) {
    match format {
        Format::F32 => out[0] = f32::from_le_bytes([block[0], block[1], block[2], block[3]]),
        Format::F16 => out[0] = any_half(word(block, 0)),
        Format::Bf16 => out[0] = f32::from_bits(u32::from(word(block, 0)) << 16),
        _ => {
            let mut integers = [0; CHUNK];
            self::integers(format, block, &mut integers[..out.len()]);
            let scales = scales(format, block);
            let offset = i32::from(format.offset());
            for (index, (out, q)) in out.iter_mut().zip(integers).enumerate() {
                let (factor, minimum) = scales.at(format, index);
                *out = factor * (i32::from(q) - offset) as f32 - minimum;
            }
        }
    }
}

/// Converts any f16, infinities and NaN included.
fn any_half(bits: u16) -> f32 {
    if is_finite(bits) {
        half(bits)
    } else {
        f32::from_bits(0x7F80_0000 | u32::from(bits & 0x8000) << 16 | u32::from(bits & 0x3FF) << 13)
    }
}

impl BlockScales {
    /// Scale and minimum of the weight at this index of the block.
    pub(super) fn at(&self, format: Format, index: usize) -> (f32, f32) {
        let (factor, minimum) = (any_half(self.factor), any_half(self.minimum));
        match format {
            Format::Q4K | Format::Q5K => {
                let part = index / BLOCK;
                (factor * f32::from(self.factors[part]), minimum * f32::from(self.minima[part]))
            }
            Format::Q6K => (factor * f32::from(self.factors[index / 16].cast_signed()), 0.0),
            _ => (factor, minimum),
        }
    }
}
