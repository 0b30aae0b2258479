//! Unpacking: a packed chunk of weights to bytes and scales in f32, and the layout of packed
//! chunks.
//!
//! The loops are simple enough to become vector instructions of any instruction set, see
//! [`by_isa`].

use std::ops::Range;

use super::decode::half;
use super::format::Format;
use super::geometry::{BLOCK, BLOCK_QUADS, CHUNK_BLOCKS, QUAD, QUAD_BYTES};
use crate::kernels::isa::{Isa, by_isa};
use crate::kernels::matrix::STRIP;

/// Offsets of the parts of a packed chunk of a strip.
///
/// First come the scales. Then, block by block, the lower bits of the integers: in formats of 8
/// bits whole bytes, quad by quad and in each quad output by output; in the others the first half
/// of a block's quads in the lower nibbles, the second half in the upper ones. Last, block by
/// block, the higher bits: a byte for each place in a quad, which holds bit 4 of all quads, or two
/// bytes, which hold bits 4 and 5 of four quads each.
#[derive(Debug, Clone, Copy)]
pub(super) struct ChunkLayout {
    /// Number of blocks.
    pub(super) blocks: usize,
    /// Bytes of the scales, which come first.
    pub(super) head: usize,
    /// Bytes of a block's lower bits.
    pub(super) low: usize,
    /// Bytes of a block's higher bits.
    pub(super) high: usize,
}

impl ChunkLayout {
    /// The layout of a chunk of `blocks` blocks.
    pub(super) fn new(format: Format, blocks: usize) -> Self {
        let head = match format {
            Format::Q4_1 | Format::Q5_1 => 4 * blocks,
            Format::Q4K | Format::Q5K => 2 + 2 + 2 * CHUNK_BLOCKS,
            Format::Q6K => 2 + 2 * CHUNK_BLOCKS,
            _ => 2 * blocks,
        };
        let whole = BLOCK_QUADS * QUAD_BYTES;
        let (low, high) = match format {
            Format::Q8_0 => (whole, 0),
            Format::Q5_0 | Format::Q5_1 | Format::Q5K => (whole / 2, whole / 8),
            Format::Q6K => (whole / 2, whole / 4),
            _ => (whole / 2, 0),
        };
        Self { blocks, head: head * STRIP, low, high }
    }

    /// Bytes of the chunk.
    pub(super) fn bytes(self) -> usize {
        self.head + self.blocks * (self.low + self.high)
    }

    /// The lower bits of a block.
    pub(super) fn low(self, block: usize) -> Range<usize> {
        let start = self.head + block * self.low;
        start..start + self.low
    }

    /// The higher bits of a block.
    pub(super) fn high(self, block: usize) -> Range<usize> {
        let start = self.head + self.blocks * self.low + block * self.high;
        start..start + self.high
    }
}

/// A chunk of a strip, unpacked.
#[repr(C, align(64))]
pub(super) struct UnpackedChunk {
    /// Integers, quad by quad, in each quad output by output. Products do not unpack those of Q8_0,
    /// which are bytes already.
    pub(super) quants: [[u8; QUAD_BYTES]; CHUNK_BLOCKS * BLOCK_QUADS],
    /// Scales of blocks or, in Q6_K, of half blocks.
    pub(super) scales: [[f32; STRIP]; 2 * CHUNK_BLOCKS],
    /// Minima of blocks, in formats that have them.
    pub(super) minima: [[f32; STRIP]; CHUNK_BLOCKS],
}

impl Default for UnpackedChunk {
    fn default() -> Self {
        Self {
            quants: [[0; QUAD_BYTES]; CHUNK_BLOCKS * BLOCK_QUADS],
            scales: [[0.0; STRIP]; 2 * CHUNK_BLOCKS],
            minima: [[0.0; STRIP]; CHUNK_BLOCKS],
        }
    }
}

impl UnpackedChunk {
    /// Unpacks everything.
    pub(super) fn unpack(&mut self, format: Format, bytes: &[u8], layout: ChunkLayout) {
        self.unpack_for_product(Isa::detect(), format, bytes, layout);
        if format == Format::Q8_0 {
            self.quants[..layout.blocks * BLOCK_QUADS].copy_from_slice(whole_bytes(bytes, layout));
        }
    }

    /// Unpacks all but what a product reads from the packed bytes.
    #[inline]
    pub(super) fn unpack_for_product(&mut self, isa: Isa, format: Format, bytes: &[u8], layout: ChunkLayout) {
        by_isa!(isa, unpack(chunk: &mut UnpackedChunk = self, format: Format = format, bytes: &[u8] = bytes,
            layout: ChunkLayout = layout));
    }

    /// Dequantises the weights of one output.
    pub(super) fn dequantise(&self, format: Format, lane: usize, out: &mut [f32]) {
        let part = if format == Format::Q6K { BLOCK / 2 } else { BLOCK };
        let offset = i32::from(format.offset());
        for (input, out) in out.iter_mut().enumerate() {
            let q = self.quants[input / QUAD][lane * QUAD + input % QUAD];
            let minimum = if format.has_minima() { self.minima[input / BLOCK][lane] } else { 0.0 };
            *out = self.scales[input / part][lane] * (i32::from(q) - offset) as f32 - minimum;
        }
    }
}

/// The integers of a packed chunk of Q8_0.
pub(super) fn whole_bytes(bytes: &[u8], layout: ChunkLayout) -> &[[u8; QUAD_BYTES]] {
    bytes[layout.head..].as_chunks().0
}

#[inline(always)]
fn unpack<const FMA: bool>(chunk: &mut UnpackedChunk, format: Format, bytes: &[u8], layout: ChunkLayout) {
    let (head, rest) = bytes.split_at(layout.head);
    prefetch_ahead(head);
    unpack_scales(chunk, format, head, layout.blocks);
    if format == Format::Q8_0 {
        return;
    }
    let (low, high) = rest.split_at(layout.blocks * layout.low);
    let blocks = chunk.quants.as_chunks_mut::<BLOCK_QUADS>().0;
    for (block, low) in blocks.iter_mut().zip(low.as_chunks::<{ BLOCK_QUADS / 2 * QUAD_BYTES }>().0) {
        prefetch_ahead(low);
        low_bits(block, low);
    }
    match format {
        Format::Q5_0 | Format::Q5_1 | Format::Q5K => {
            for (block, high) in blocks.iter_mut().zip(high.as_chunks::<QUAD_BYTES>().0) {
                prefetch_ahead(high);
                fifth_bits(block, high);
            }
        }
        Format::Q6K => {
            for (block, high) in blocks.iter_mut().zip(high.as_chunks::<{ 2 * QUAD_BYTES }>().0) {
                prefetch_ahead(high);
                fifth_and_sixth_bits(block, high);
            }
        }
        _ => {}
    }
}

/// Bytes between what is read and what is prefetched: about the latency of memory times the
/// bandwidth of a core (100 ns at 20 to 40 GB/s are 2 to 4 kB).
const AHEAD: usize = 4096;

/// Prefetches what follows packed bytes that are read now.
#[inline(always)]
pub(super) fn prefetch_ahead(bytes: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    for line in (0..bytes.len()).step_by(QUAD_BYTES) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        #[allow(unsafe_code, reason = "an intrinsic that takes a pointer")]
        // SAFETY: the instruction never faults, whatever the address; past the last strip it has no
        // effect.
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(bytes.as_ptr().wrapping_add(AHEAD + line).cast());
        }
    }
}

/// Unpacks the lower four bits of a block.
#[inline(always)]
fn low_bits(block: &mut [[u8; QUAD_BYTES]; BLOCK_QUADS], low: &[u8; BLOCK_QUADS / 2 * QUAD_BYTES]) {
    let (first, second) = block.as_flattened_mut().split_at_mut(BLOCK_QUADS / 2 * QUAD_BYTES);
    for ((first, second), low) in first.iter_mut().zip(second).zip(low) {
        *first = low & 15;
        *second = low >> 4;
    }
}

/// Adds bit 4 to the integers of a block.
#[inline(always)]
fn fifth_bits(block: &mut [[u8; QUAD_BYTES]; BLOCK_QUADS], high: &[u8; QUAD_BYTES]) {
    for (quad, line) in block.iter_mut().enumerate() {
        for (value, high) in line.iter_mut().zip(high) {
            *value |= (high >> quad & 1) << 4;
        }
    }
}

/// Adds bits 4 and 5 to the integers of a block.
#[inline(always)]
fn fifth_and_sixth_bits(block: &mut [[u8; QUAD_BYTES]; BLOCK_QUADS], high: &[u8; 2 * QUAD_BYTES]) {
    for (lines, high) in block.as_chunks_mut::<4>().0.iter_mut().zip(high.as_chunks::<QUAD_BYTES>().0) {
        for (quad, line) in lines.iter_mut().enumerate() {
            for (value, high) in line.iter_mut().zip(high) {
                *value |= (high >> (2 * quad) & 3) << 4;
            }
        }
    }
}

/// An f16 for each output of a strip.
type Halves = [u8; 2 * STRIP];

#[inline(always)]
fn halves(bytes: &Halves) -> [f32; STRIP] {
    let mut out = [0.0; STRIP];
    for (out, pair) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
        *out = half(u16::from_le_bytes(*pair));
    }
    out
}

/// Unpacks scales and minima: the products of f16 factors and integers in the K formats.
#[inline(always)]
fn unpack_scales(chunk: &mut UnpackedChunk, format: Format, head: &[u8], blocks: usize) {
    let words = head.as_chunks::<{ 2 * STRIP }>().0;
    match format {
        Format::Q4K | Format::Q5K => {
            let (factor, minimum) = (halves(&words[0]), halves(&words[1]));
            let bytes = head[2 * size_of::<Halves>()..].as_chunks::<STRIP>().0;
            let (factors, minima) = bytes.split_at(CHUNK_BLOCKS);
            for (out, factors) in chunk.scales.iter_mut().zip(factors) {
                for (lane, out) in out.iter_mut().enumerate() {
                    *out = factor[lane] * f32::from(factors[lane]);
                }
            }
            for (out, minima) in chunk.minima.iter_mut().zip(minima) {
                for (lane, out) in out.iter_mut().enumerate() {
                    *out = minimum[lane] * f32::from(minima[lane]);
                }
            }
        }
        Format::Q6K => {
            let factor = halves(&words[0]);
            let factors = head[size_of::<Halves>()..].as_chunks::<STRIP>().0;
            for (out, factors) in chunk.scales.iter_mut().zip(factors) {
                for (lane, out) in out.iter_mut().enumerate() {
                    *out = factor[lane] * f32::from(factors[lane].cast_signed());
                }
            }
        }
        _ => {
            let (factors, minima) = words.split_at(blocks);
            chunk.scales.iter_mut().zip(factors).for_each(|(out, halves)| *out = self::halves(halves));
            // Without minima there are no words left, and the loop has no turns.
            chunk.minima.iter_mut().zip(minima).for_each(|(out, halves)| *out = self::halves(halves));
        }
    }
}
