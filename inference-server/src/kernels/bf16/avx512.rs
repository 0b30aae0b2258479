//! AVX-512 BF16: dot products of pairs, on processors without AMX (Cooper Lake, Zen 4).
//!
//! `vdpbf16ps` multiplies a broadcast pair of activations by the pairs of 16 outputs, which is one
//! line of a tile of weights.

#![cfg(target_arch = "x86_64")]

use std::arch::x86_64::{
    __m512bh, __m512i, _mm512_dpbf16_ps, _mm512_load_si512, _mm512_set1_epi32, _mm512_setzero_ps,
    _mm512_storeu_ps,
};

use super::tile::{PANEL_TILES, PanelSums, TILE_DEPTH, TILE_ROWS, TileData};

/// Rows whose sums are in registers together: 8 × 2 of sums and 2 of weights are 18 of 32
/// registers. Half of a tile, so that a pass is within one group.
const ROWS: usize = 8;

/// `sums` = activations · weights for the groups of rows in `x`; see [`PanelSums`].
#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) fn sum(x: &[&[TileData]], weights: &[TileData], sums: &mut PanelSums) {
    for (index, lines) in sums.0[..x.len() * TILE_ROWS].chunks_exact_mut(ROWS).enumerate() {
        let (group, first) = (index * ROWS / TILE_ROWS, index * ROWS % TILE_ROWS);
        let mut registers = [[_mm512_setzero_ps(); PANEL_TILES]; ROWS];
        for (activations, weights) in x[group].iter().zip(weights.chunks_exact(PANEL_TILES)) {
            let rows = &activations.0[first * TILE_DEPTH..][..ROWS * TILE_DEPTH];
            for pair in 0..TILE_DEPTH / 2 {
                let lines = [0, 1].map(|across| vector(&weights[across], pair));
                for (row, registers) in registers.iter_mut().enumerate() {
                    let at = row * TILE_DEPTH + 2 * pair;
                    // The pair as one number, as the instruction multiplies pairs and adds both
                    // products.
                    let both = u32::from(rows[at]) | u32::from(rows[at + 1]) << 16;
                    let both = bits(_mm512_set1_epi32(both.cast_signed()));
                    for (register, line) in registers.iter_mut().zip(lines) {
                        *register = _mm512_dpbf16_ps(*register, both, line);
                    }
                }
            }
        }
        for (line, registers) in lines.iter_mut().zip(registers) {
            for (part, register) in line.as_chunks_mut::<TILE_ROWS>().0.iter_mut().zip(registers) {
                #[allow(unsafe_code, reason = "a vector is stored through a pointer")]
                // SAFETY: `part` is a reference to exactly the 16 floats of a vector, and `storeu`
                // needs no alignment.
                unsafe {
                    _mm512_storeu_ps(part.as_mut_ptr(), register);
                }
            }
        }
    }
}

/// One line of a tile.
#[target_feature(enable = "avx512f,avx512bf16")]
fn vector(tile: &TileData, line: usize) -> __m512bh {
    let line = &tile.0[line * TILE_DEPTH..][..TILE_DEPTH];
    #[allow(unsafe_code, reason = "a vector is loaded through a pointer")]
    // SAFETY: the slice is 32 numbers, so 64 bytes, and begins at a multiple of 64 bytes of a
    // `TileData`, which is aligned to 64.
    bits(unsafe { _mm512_load_si512(line.as_ptr().cast()) })
}

/// The same bits as pairs of bf16.
#[target_feature(enable = "avx512f,avx512bf16")]
fn bits(vector: __m512i) -> __m512bh {
    #[allow(unsafe_code, reason = "the standard library has no other way between the two types")]
    // SAFETY: both types are 512 bits, and every pattern of bits is a value of them.
    unsafe {
        std::mem::transmute(vector)
    }
}
