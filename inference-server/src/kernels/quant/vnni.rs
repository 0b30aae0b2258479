//! The AVX-512 VNNI kernel: vectors of 16 outputs of four inputs each.
//!
//! `vpdpbusd` multiplies unsigned weights by signed activations and adds the products of a quad to
//! a lane of 32 bits, without saturation. So formats differ by their offset only, which is where
//! the sums start: −offset · Σ activations.

use std::arch::x86_64::{
    __m512, __m512i, _mm512_cvtepi32_ps, _mm512_dpbusd_epi32, _mm512_fmadd_ps, _mm512_fnmadd_ps,
    _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mul_ps, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps,
    _mm512_slli_epi32, _mm512_storeu_ps,
};

use super::activations::ActivationChunk;
use super::format::Format;
use super::geometry::{BLOCK_QUADS, QUAD, QUAD_BYTES};
use super::tile::Tile;
use super::unpack::prefetch_ahead;
use crate::kernels::matrix::STRIP;

/// Largest number of rows of a tile: 8 registers of sums and 8 of integer totals leave half of the
/// 32 for weights, activations and scales.
pub(super) const ROWS: usize = 8;
/// The offset of Q8_0 is 2 to this power. Its weights are read from the packed bytes.
const WHOLE_BYTES: u32 = 7;

/// Returns true if the processor has VNNI, given that it has the AVX-512 features of
/// [`crate::kernels::isa::Isa`].
pub(super) fn detected() -> bool {
    is_x86_feature_detected!("avx512vnni")
}

/// Sums a tile of at most [`ROWS`] rows; see [`Tile`].
#[target_feature(enable = "avx512f,avx512vnni")]
pub(super) fn sum(tile: &Tile<'_>) {
    match tile.rows.len() {
        1 => by_format::<1>(tile),
        2 => by_format::<2>(tile),
        3 => by_format::<3>(tile),
        4 => by_format::<4>(tile),
        5 => by_format::<5>(tile),
        6 => by_format::<6>(tile),
        7 => by_format::<7>(tile),
        _ => by_format::<ROWS>(tile),
    }
}

#[target_feature(enable = "avx512f,avx512vnni")]
fn by_format<const R: usize>(tile: &Tile<'_>) {
    match tile.format {
        Format::Q4_0 => bytes::<R, 8, 3, false>(tile),
        Format::Q5_0 => bytes::<R, 8, 4, false>(tile),
        Format::Q6K => bytes::<R, 4, 5, false>(tile),
        Format::Q8_0 => bytes::<R, 8, WHOLE_BYTES, false>(tile),
        _ => bytes::<R, 8, 0, true>(tile),
    }
}

/// Sums a tile of weights of which `GROUP` quads share a scale. From each weight 2^`SHIFT` is
/// subtracted or, with `MINIMA`, the minimum of its block.
#[target_feature(enable = "avx512f,avx512vnni")]
fn bytes<const R: usize, const GROUP: usize, const SHIFT: u32, const MINIMA: bool>(tile: &Tile<'_>) {
    let chunks: &[ActivationChunk; R] = tile.rows.first_chunk().expect("as many rows");
    let mut sums = [_mm512_setzero_ps(); R];
    if !tile.is_first {
        for (row, sum) in sums.iter_mut().enumerate() {
            *sum = floats(&tile.start(row));
        }
    }
    // Integer sums start again with every scale, as they are exact only within one.
    let groups = tile.quants.as_chunks::<GROUP>().0;
    for (index, (scales, lines)) in tile.scales.iter().zip(groups).enumerate() {
        let block = index * GROUP / BLOCK_QUADS;
        let mut totals = [_mm512_set1_epi32(0); R];
        if !MINIMA {
            for (total, chunk) in totals.iter_mut().zip(chunks) {
                let negated = if GROUP == BLOCK_QUADS {
                    chunk.negated_sums[block]
                } else {
                    chunk.negated_half_sums[index]
                };
                *total = _mm512_slli_epi32::<SHIFT>(_mm512_set1_epi32(negated));
            }
        }
        for (offset, line) in lines.iter().enumerate() {
            if SHIFT == WHOLE_BYTES && tile.is_alone {
                prefetch_ahead(line);
            }
            let weights = load_line(line);
            for (total, chunk) in totals.iter_mut().zip(chunks) {
                let x = quad(&chunk.bytes, (index * GROUP + offset) * QUAD);
                *total = _mm512_dpbusd_epi32(*total, weights, x);
            }
        }
        let scales = floats(scales);
        for ((sum, total), chunk) in sums.iter_mut().zip(totals).zip(chunks) {
            let scale = _mm512_mul_ps(scales, _mm512_set1_ps(chunk.scales[block]));
            *sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(total), scale, *sum);
            if MINIMA {
                let minima = floats(&tile.minima[block]);
                *sum = _mm512_fnmadd_ps(minima, _mm512_set1_ps(chunk.scaled_sums[block]), *sum);
            }
        }
    }
    for (row, sum) in sums.into_iter().enumerate() {
        let mut values = [0.0; STRIP];
        #[allow(unsafe_code, reason = "a vector is stored through a pointer")]
        // SAFETY: `values` is the 16 floats of a vector, and `storeu` needs no alignment.
        unsafe {
            _mm512_storeu_ps(values.as_mut_ptr(), sum);
        }
        tile.store(row, &values);
    }
}

#[target_feature(enable = "avx512f,avx512vnni")]
#[inline]
fn floats(values: &[f32; STRIP]) -> __m512 {
    #[allow(unsafe_code, reason = "a vector is loaded through a pointer")]
    // SAFETY: `values` is the 16 floats of a vector, and `loadu` needs no alignment.
    unsafe {
        _mm512_loadu_ps(values.as_ptr())
    }
}

#[target_feature(enable = "avx512f,avx512vnni")]
#[inline]
fn load_line(line: &[u8; QUAD_BYTES]) -> __m512i {
    #[allow(unsafe_code, reason = "a vector is loaded through a pointer")]
    // SAFETY: `line` is the 64 bytes of a vector, and `loadu` needs no alignment.
    unsafe {
        _mm512_loadu_si512(line.as_ptr().cast())
    }
}

/// Broadcasts four activations from `at` on to every lane.
#[target_feature(enable = "avx512f,avx512vnni")]
#[inline]
fn quad<const N: usize>(values: &[i8; N], at: usize) -> __m512i {
    #[allow(unsafe_code, reason = "four bytes are read as one number")]
    // SAFETY: `at` is four times the index of a quad of the tile, and `DotKernel::sum` asserts that
    // a tile has no more quads than a chunk of activations, N / 4. So all four bytes are inside.
    let four = unsafe { values.as_ptr().add(at).cast::<i32>().read_unaligned() };
    _mm512_set1_epi32(four)
}
