//! Packed weights as bytes and scales in f32.

use super::super::isa::{Isa, by_isa};
use super::super::matrix::STRIP;
use super::decode::{half, offset};
use super::format::Format;
use super::panels::Layout;
use super::{BLOCK, BLOCKS, CHUNK, LINE, QUAD, QUADS};

/// A chunk of a strip, unpacked.
#[repr(C, align(64))]
pub(super) struct Chunk {
    /// Integers, quad by quad, in each quad output by output; not those of Q8_0, which are
    /// multiplied where they lie.
    pub(super) quants: [[u8; LINE]; BLOCKS * QUADS],
    /// Scales of blocks or, in Q6_K, of half blocks.
    pub(super) scales: [[f32; STRIP]; 2 * BLOCKS],
    /// Minima of blocks in the formats that have them.
    pub(super) minima: [[f32; STRIP]; BLOCKS],
}

impl Default for Chunk {
    fn default() -> Self {
        Self {
            quants: [[0; LINE]; BLOCKS * QUADS],
            scales: [[0.0; STRIP]; 2 * BLOCKS],
            minima: [[0.0; STRIP]; BLOCKS],
        }
    }
}

impl Chunk {
    /// Unpacks everything.
    pub(super) fn unpack(&mut self, format: Format, bytes: &[u8], layout: Layout) {
        self.unpack_for_product(Isa::detect(), format, bytes, layout);
        if format == Format::Q8_0 {
            self.quants[..layout.blocks * QUADS].copy_from_slice(whole_bytes(bytes, layout));
        }
    }

    /// Unpacks what a product does not read from the packed bytes.
    #[inline]
    pub(super) fn unpack_for_product(&mut self, isa: Isa, format: Format, bytes: &[u8], layout: Layout) {
        by_isa!(isa, unpack(chunk: &mut Chunk = self, format: Format = format, bytes: &[u8] = bytes,
            layout: Layout = layout));
    }

    /// The weights of one output.
    pub(super) fn dequantise(&self, format: Format, lane: usize, out: &mut [f32]) {
        let part = if format == Format::Q6K { BLOCK / 2 } else { BLOCK };
        let offset = i32::from(offset(format));
        for (input, out) in out.iter_mut().enumerate() {
            let q = self.quants[input / QUAD][lane * QUAD + input % QUAD];
            let minimum = if has_minima(format) { self.minima[input / BLOCK][lane] } else { 0.0 };
            *out = self.scales[input / part][lane] * (i32::from(q) - offset) as f32 - minimum;
        }
    }
}

/// Whether a weight is a multiple of its integer less a minimum.
pub(super) fn has_minima(format: Format) -> bool {
    matches!(format, Format::Q4_1 | Format::Q5_1 | Format::Q4K | Format::Q5K)
}

/// The integers of a packed chunk in a format of 8 bits.
pub(super) fn whole_bytes(bytes: &[u8], layout: Layout) -> &[[u8; LINE]] {
    bytes[layout.head..].as_chunks().0
}

#[inline(always)]
fn unpack<const FMA: bool>(chunk: &mut Chunk, format: Format, bytes: &[u8], layout: Layout) {
    let (head, rest) = bytes.split_at(layout.head);
    fetch(head);
    unpack_scales(chunk, format, head, layout.blocks);
    if format == Format::Q8_0 {
        return;
    }
    let (low, high) = rest.split_at(layout.blocks * layout.low);
    let blocks = chunk.quants.as_chunks_mut::<QUADS>().0;
    for (block, low) in blocks.iter_mut().zip(low.as_chunks::<{ QUADS / 2 * LINE }>().0) {
        fetch(low);
        low_bits(block, low);
    }
    match format {
        Format::Q5_0 | Format::Q5_1 | Format::Q5K => {
            for (block, high) in blocks.iter_mut().zip(high.as_chunks::<LINE>().0) {
                fetch(high);
                fifth_bits(block, high);
            }
        }
        Format::Q6K => {
            for (block, high) in blocks.iter_mut().zip(high.as_chunks::<{ 2 * LINE }>().0) {
                fetch(high);
                fifth_and_sixth_bits(block, high);
            }
        }
        _ => {}
    }
}

/// Bytes between what is read and what is fetched: as far as memory takes to answer.
const AHEAD: usize = 4096;

/// Fetches what lies behind packed bytes that are read.
#[inline(always)]
pub(super) fn fetch(bytes: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    for line in (0..bytes.len()).step_by(LINE) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        #[allow(unsafe_code, reason = "an intrinsic that takes a pointer")]
        // SAFETY: prefetching never faults, and past the last strip it only misses.
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(bytes.as_ptr().wrapping_add(AHEAD + line).cast());
        }
    }
}

#[inline(always)]
fn low_bits(block: &mut [[u8; LINE]; QUADS], low: &[u8; QUADS / 2 * LINE]) {
    let (first, second) = block.as_flattened_mut().split_at_mut(QUADS / 2 * LINE);
    for ((first, second), low) in first.iter_mut().zip(second).zip(low) {
        *first = low & 15;
        *second = low >> 4;
    }
}

#[inline(always)]
fn fifth_bits(block: &mut [[u8; LINE]; QUADS], high: &[u8; LINE]) {
    for (quad, line) in block.iter_mut().enumerate() {
        for (value, high) in line.iter_mut().zip(high) {
            *value |= (high >> quad & 1) << 4;
        }
    }
}

#[inline(always)]
fn fifth_and_sixth_bits(block: &mut [[u8; LINE]; QUADS], high: &[u8; 2 * LINE]) {
    for (lines, high) in block.as_chunks_mut::<4>().0.iter_mut().zip(high.as_chunks::<LINE>().0) {
        for (quad, line) in lines.iter_mut().enumerate() {
            for (value, high) in line.iter_mut().zip(high) {
                *value |= (high >> (2 * quad) & 3) << 4;
            }
        }
    }
}

/// One half for each output.
type Halves = [u8; 2 * STRIP];

#[inline(always)]
fn halves(bytes: &Halves) -> [f32; STRIP] {
    let mut out = [0.0; STRIP];
    for (out, pair) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
        *out = half(u16::from_le_bytes(*pair));
    }
    out
}

#[inline(always)]
fn unpack_scales(chunk: &mut Chunk, format: Format, head: &[u8], blocks: usize) {
    let words = head.as_chunks::<{ 2 * STRIP }>().0;
    match format {
        Format::Q4K | Format::Q5K => {
            let (factor, minimum) = (halves(&words[0]), halves(&words[1]));
            let bytes = head[2 * size_of::<Halves>()..].as_chunks::<STRIP>().0;
            let (factors, minima) = bytes.split_at(BLOCKS);
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
            chunk.minima.iter_mut().zip(minima).for_each(|(out, halves)| *out = self::halves(halves));
        }
    }
}

/// Inputs of a chunk that is not the last.
const _: () = assert!(CHUNK == BLOCKS * QUADS * QUAD);
