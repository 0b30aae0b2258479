//! Vectors of 64 bytes, 16 outputs of four inputs each, and one instruction for their products
//! (AVX-512 VNNI).
//!
//! The instruction multiplies weights without sign by activations with it and adds in 32 bits, so
//! every format is the same to it but for its offset, and the integers are those of the other
//! kernels.

use std::arch::x86_64::{
    __m512, __m512i, _mm512_cvtepi32_ps, _mm512_dpbusd_epi32, _mm512_fmadd_ps, _mm512_fnmadd_ps,
    _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mul_ps, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps,
    _mm512_slli_epi32, _mm512_storeu_ps,
};

use super::super::matrix::STRIP;
use super::format::Format;
use super::product::Tile;
use super::rows::Part;
use super::unpack::fetch;
use super::{LINE, QUAD, QUADS};

/// Rows of a tile at most.
pub(super) const ROWS: usize = 8;
/// 2 to this power is taken from each weight of 8 bits; they are multiplied where they lie.
const WHOLE_BYTES: u32 = 7;

/// Whether the processor has these instructions beside those of the AVX-512 kind.
pub(super) fn detected() -> bool {
    is_x86_feature_detected!("avx512vnni")
}

/// The sums of a tile of at most [`ROWS`] rows; see [`Tile`].
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

/// `GROUP` quads share a scale, and from each weight 2^`SHIFT` is taken or, with `MINIMA`, from all
/// of a group the minimum.
#[target_feature(enable = "avx512f,avx512vnni")]
fn bytes<const R: usize, const GROUP: usize, const SHIFT: u32, const MINIMA: bool>(tile: &Tile<'_>) {
    let parts: &[Part; R] = tile.rows.first_chunk().expect("as many rows");
    let mut sums = [_mm512_setzero_ps(); R];
    if !tile.first {
        for (row, sum) in sums.iter_mut().enumerate() {
            *sum = floats(&tile.start(row));
        }
    }
    let groups = tile.quants.as_chunks::<GROUP>().0;
    for (index, (scales, lines)) in tile.scales.iter().zip(groups).enumerate() {
        let block = index * GROUP / QUADS;
        let mut totals = [_mm512_set1_epi32(0); R];
        if !MINIMA {
            for (total, part) in totals.iter_mut().zip(parts) {
                let taken = if GROUP == QUADS { part.sums[block] } else { part.halves[index] };
                *total = _mm512_slli_epi32::<SHIFT>(_mm512_set1_epi32(taken));
            }
        }
        for (offset, line) in lines.iter().enumerate() {
            if SHIFT == WHOLE_BYTES && tile.alone {
                fetch(line);
            }
            let weights = line_of(line);
            for (total, part) in totals.iter_mut().zip(parts) {
                let x = quad(&part.bytes, (index * GROUP + offset) * QUAD);
                *total = _mm512_dpbusd_epi32(*total, weights, x);
            }
        }
        let scales = floats(scales);
        for ((sum, total), part) in sums.iter_mut().zip(totals).zip(parts) {
            let scale = _mm512_mul_ps(scales, _mm512_set1_ps(part.scales[block]));
            *sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(total), scale, *sum);
            if MINIMA {
                let minima = floats(&tile.minima[block]);
                *sum = _mm512_fnmadd_ps(minima, _mm512_set1_ps(part.products[block]), *sum);
            }
        }
    }
    for (row, sum) in sums.into_iter().enumerate() {
        let mut values = [0.0; STRIP];
        #[allow(unsafe_code, reason = "a vector is stored through a pointer")]
        // SAFETY: `values` has room for the 16 numbers of a vector, which need no alignment.
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
    // SAFETY: the 16 numbers of a vector, which need no alignment.
    unsafe {
        _mm512_loadu_ps(values.as_ptr())
    }
}

#[target_feature(enable = "avx512f,avx512vnni")]
#[inline]
fn line_of(line: &[u8; LINE]) -> __m512i {
    #[allow(unsafe_code, reason = "a vector is loaded through a pointer")]
    // SAFETY: the 64 bytes of a vector, which need no alignment.
    unsafe {
        _mm512_loadu_si512(line.as_ptr().cast())
    }
}

/// Four activations from `at` on, in every lane.
#[target_feature(enable = "avx512f,avx512vnni")]
#[inline]
fn quad<const N: usize>(values: &[i8; N], at: usize) -> __m512i {
    #[allow(unsafe_code, reason = "four bytes are read as one number")]
    // SAFETY: tiles have no more quads than their parts, see `Tile`, so all four are inside.
    let four = unsafe { values.as_ptr().add(at).cast::<i32>().read_unaligned() };
    _mm512_set1_epi32(four)
}
