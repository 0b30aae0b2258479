//! The operands of a quantised kernel, shared by the dispatcher and the instruction sets.
//!
//! It is the one place through which kernels touch the result matrix.

use super::activations::ActivationChunk;
use super::format::Format;
use super::geometry::{BLOCK_QUADS, CHUNK_BLOCKS, QUAD_BYTES};
use crate::kernels::matrix::STRIP;

/// The operands of a kernel, a few rows times a chunk of a strip: `out` (+)= x · weights.
///
/// All rows are of the same chunk of activations, which has as many quads as there are lines in
/// `quants`.
pub(super) struct Tile<'a> {
    /// Format of the weights.
    pub(super) format: Format,
    /// Integers, quad by quad, in each quad output by output.
    pub(super) quants: &'a [[u8; QUAD_BYTES]],
    /// Scales of blocks or, in Q6_K, half blocks.
    pub(super) scales: &'a [[f32; STRIP]],
    /// Minima of blocks, unspecified in formats without.
    pub(super) minima: &'a [[f32; STRIP]],
    /// Activations.
    pub(super) rows: &'a [ActivationChunk],
    /// True if no other rows are multiplied by this chunk, so that its weights come from memory and
    /// are worth prefetching.
    pub(super) is_alone: bool,
    /// True if the sums begin with zero instead of with what `out` holds.
    pub(super) is_first: bool,
    /// The sums, as many rows as `rows`.
    pub(super) out: OutputTile,
}

/// 16 columns of some rows of the result.
pub(super) struct OutputTile {
    /// First output of the first row.
    first: *mut f32,
    /// Floats from one row to the next.
    stride: usize,
}

impl OutputTile {
    /// The columns from `first` on, in rows that are `stride` floats apart.
    ///
    /// # Safety
    /// `first` must point at 16 initialised floats in each of as many rows as the [`Tile`] that
    /// gets this has, and nothing else may access them while that tile exists.
    #[allow(unsafe_code, reason = "the promise that the methods of `Tile` rely on")]
    pub(super) unsafe fn new(first: *mut f32, stride: usize) -> Self {
        Self { first, stride }
    }
}

impl Tile<'_> {
    /// Returns true if the operands are of one size, which the kernels rely on.
    pub(super) fn is_whole(&self) -> bool {
        let blocks = self.quants.len() / BLOCK_QUADS;
        (1..=CHUNK_BLOCKS).contains(&blocks)
            && self.quants.len() == blocks * BLOCK_QUADS
            && self.scales.len() == blocks * self.format.scales_per_block()
            && self.minima.len() == blocks
    }

    /// The sums that a row begins with.
    #[inline]
    pub(super) fn start(&self, row: usize) -> [f32; STRIP] {
        assert!(row < self.rows.len(), "a row of the tile");
        if self.is_first {
            return [0.0; STRIP];
        }
        #[allow(unsafe_code, reason = "the tile is part of a matrix that other tasks write too")]
        // SAFETY: `row` is one of `rows`, for each of which `OutputTile::new` was promised 16
        // initialised floats that nothing else accesses.
        unsafe {
            *self.out.first.add(row * self.out.stride).cast()
        }
    }

    /// Stores the sums of a row.
    #[inline]
    pub(super) fn store(&self, row: usize, sums: &[f32; STRIP]) {
        assert!(row < self.rows.len(), "a row of the tile");
        #[allow(unsafe_code, reason = "the tile is part of a matrix that other tasks write too")]
        // SAFETY: as in `start`.
        unsafe {
            *self.out.first.add(row * self.out.stride).cast() = *sums;
        }
    }
}
