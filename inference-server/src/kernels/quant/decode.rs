//! Blocks as they lie in a file.

use super::format::Format;
use super::{BLOCK, CHUNK};

/// The scales of a block: factors as the bits of a half, and the small integers of the K formats.
///
/// A weight is `factor · q - minimum`, both times the integers of its part of the block where there
/// are any.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Scales {
    /// Factor of the integers.
    pub(super) factor: u16,
    /// Factor of the minima; the Q4_1 and Q5_1 formats store its negative.
    pub(super) minimum: u16,
    /// Integer factors, for 32 weights each or, in Q6_K, for 16 (signed, as their bits).
    pub(super) factors: [u8; 16],
    /// Integer minima.
    pub(super) minima: [u8; 8],
}

/// What is taken from each integer of a format that has no minima.
pub(super) fn offset(format: Format) -> u8 {
    match format {
        Format::Q4_0 => 8,
        Format::Q5_0 => 16,
        Format::Q6K => 32,
        Format::Q8_0 => 128,
        _ => 0,
    }
}

/// The number that the bits of a half stand for, where it is finite.
///
/// Without subnormal numbers on the way, which some processors are slow at.
#[inline(always)]
pub(super) fn half(bits: u16) -> f32 {
    const LEAST: u32 = 113 << 23;
    let magnitude = u32::from(bits & 0x7FFF) << 13;
    let normal = f32::from_bits(magnitude + (112 << 23));
    let subnormal = f32::from_bits(magnitude + LEAST) - f32::from_bits(LEAST);
    let value = if bits & 0x7C00 == 0 { subnormal } else { normal };
    f32::from_bits(value.to_bits() | u32::from(bits & 0x8000) << 16)
}

/// Whether a half is neither infinite nor missing.
pub(super) fn is_finite(bits: u16) -> bool {
    bits & 0x7C00 != 0x7C00
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// The scales of a block of a quantised format.
pub(super) fn scales(format: Format, block: &[u8]) -> Scales {
    let mut scales = Scales::default();
    match format {
        Format::Q4_1 | Format::Q5_1 => {
            scales.factor = word(block, 0);
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

/// One of the eight factors and minima that lie in 12 bytes (`get_scale_min_k4` of ggml).
fn six_bits(packed: &[u8], index: usize) -> (u8, u8) {
    if index < 4 {
        (packed[index] & 63, packed[index + 4] & 63)
    } else {
        let low = packed[index + 4];
        (low & 15 | packed[index - 4] >> 6 << 4, low >> 4 | packed[index] >> 6 << 4)
    }
}

/// The integers of a block, none below zero, in the order of the inputs.
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
        Format::Q6K => six(block, out),
        Format::F32 | Format::F16 | Format::Bf16 => unreachable!("has no integers"),
    }
}

/// The lower halves of 16 bytes, then the upper ones.
fn nibbles(bytes: &[u8], out: &mut [u8]) {
    let (low, high) = out.split_at_mut(BLOCK / 2);
    for ((low, high), byte) in low.iter_mut().zip(high).zip(bytes) {
        (*low, *high) = (byte & 15, byte >> 4);
    }
}

fn fifth_bits(bytes: &[u8], out: &mut [u8]) {
    for (index, out) in out.iter_mut().enumerate() {
        *out |= (bytes[index / 8] >> (index % 8) & 1) << 4;
    }
}

/// The lower halves of 32 bytes, then the upper ones, four times.
fn long_nibbles(bytes: &[u8], out: &mut [u8]) {
    for (part, bytes) in out.chunks_exact_mut(2 * BLOCK).zip(bytes.chunks_exact(BLOCK)) {
        let (low, high) = part.split_at_mut(BLOCK);
        for ((low, high), byte) in low.iter_mut().zip(high).zip(bytes) {
            (*low, *high) = (byte & 15, byte >> 4);
        }
    }
}

fn six(block: &[u8], out: &mut [u8]) {
    for (half, out) in out.chunks_exact_mut(CHUNK / 2).enumerate() {
        let (low, high) = (&block[half * 64..][..64], &block[128 + half * 32..][..32]);
        for (index, out) in out.iter_mut().enumerate() {
            let byte = low[index % 64];
            let nibble = if index < 64 { byte & 15 } else { byte >> 4 };
            *out = nibble | (high[index % 32] >> (index / 32 * 2) & 3) << 4;
        }
    }
}

/// The numbers of one block.
pub(super) fn dequantise(format: Format, block: &[u8], out: &mut [f32]) {
    match format {
        Format::F32 => out[0] = f32::from_le_bytes([block[0], block[1], block[2], block[3]]),
        Format::F16 => out[0] = any_half(word(block, 0)),
        Format::Bf16 => out[0] = f32::from_bits(u32::from(word(block, 0)) << 16),
        _ => {
            let mut integers = [0; CHUNK];
            self::integers(format, block, &mut integers[..out.len()]);
            let scales = scales(format, block);
            let offset = i32::from(offset(format));
            for (index, (out, q)) in out.iter_mut().zip(integers).enumerate() {
                let (factor, minimum) = scales.at(format, index);
                *out = factor * (i32::from(q) - offset) as f32 - minimum;
            }
        }
    }
}

fn any_half(bits: u16) -> f32 {
    if is_finite(bits) {
        half(bits)
    } else {
        f32::from_bits(0x7F80_0000 | u32::from(bits & 0x8000) << 16 | u32::from(bits & 0x3FF) << 13)
    }
}

impl Scales {
    /// Factor and minimum of the weight at this place of the block.
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

/// Scales for each 32 weights.
pub(super) fn scales_of_block(format: Format) -> usize {
    if format == Format::Q6K { 2 } else { 1 }
}

/// The power of two that [`offset`] is, for formats that have one.
pub(super) fn shift(format: Format) -> u32 {
    u32::from(offset(format)).checked_ilog2().unwrap_or_default()
}
