//! The AVX2 kernel: vectors of 8 outputs of four inputs each, two of them across a strip.
//!
//! Without VNNI, `vpmaddubsw` multiplies unsigned weights by signed activations into sums of 16
//! bits, which saturate. So a format may add up only as many products there as fit its bits, before
//! `vpmaddwd` widens them to 32 bits.

use std::arch::asm;
use std::arch::x86_64::{
    __m256, __m256i, _mm256_and_si256, _mm256_cvtepi32_ps, _mm256_fmadd_ps, _mm256_fnmadd_ps,
    _mm256_loadu_ps, _mm256_loadu_si256, _mm256_mul_ps, _mm256_set1_epi16, _mm256_set1_epi32, _mm256_set1_ps,
    _mm256_setzero_ps, _mm256_setzero_si256, _mm256_slli_epi32, _mm256_srli_epi16, _mm256_storeu_ps,
};

use super::activations::ActivationChunk;
use super::format::Format;
use super::geometry::{BLOCK_QUADS, QUAD, QUAD_BYTES};
use super::tile::Tile;
use super::unpack::prefetch_ahead;
use crate::kernels::matrix::STRIP;

/// Unrolls a loop of eight turns. The compiler unrolls by its own estimate, and leaving a loop of
/// eight turns costs a misprediction.
macro_rules! unrolled {
    ($name:ident in 0..8, $body:block) => {
        unrolled!(@ $name $body 0 1 2 3 4 5 6 7)
    };
    (@ $name:ident $body:block $($index:literal)*) => {
        $({
            const $name: usize = $index;
            $body
        })*
    };
}

/// Largest number of rows of a tile: 4 × 2 registers of integer totals or of 16-bit sums, of 16.
/// The sums in f32 are touched once a block and may be spilled.
pub(super) const ROWS: usize = 4;
/// Vectors across a strip.
const STRIP_VECTORS: usize = 2;

type Sums<const R: usize> = [[__m256; STRIP_VECTORS]; R];
type Totals<const R: usize> = [[__m256i; STRIP_VECTORS]; R];

/// Sums a tile of at most [`ROWS`] rows; see [`Tile`].
#[target_feature(enable = "avx2,fma")]
pub(super) fn sum(tile: &Tile<'_>) {
    match tile.rows.len() {
        1 => by_format::<1>(tile),
        2 => by_format::<2>(tile),
        3 => by_format::<3>(tile),
        _ => by_format::<ROWS>(tile),
    }
}

#[target_feature(enable = "avx2,fma")]
fn by_format<const R: usize>(tile: &Tile<'_>) {
    match tile.format {
        Format::Q4_0 => bytes::<R, 8, 8, 3, false>(tile),
        Format::Q5_0 => bytes::<R, 8, 4, 4, false>(tile),
        Format::Q6K => bytes::<R, 4, 2, 5, false>(tile),
        Format::Q8_0 if tile.is_alone => words::<R, true>(tile),
        Format::Q8_0 => words::<R, false>(tile),
        Format::Q5_1 | Format::Q5K => bytes::<R, 8, 4, 0, true>(tile),
        _ => bytes::<R, 8, 8, 0, true>(tile),
    }
}

/// Sums a tile of weights of at most 6 bits, of which `GROUP` quads share a scale. From each weight
/// 2^`SHIFT` is subtracted or, with `MINIMA`, the minimum of its block.
///
/// `STEP` quads are added up in 16 bits, 32,767 at most: a pair of products of 4 bits is at most
/// 2 · 15 · 127 = 3,810, so 8 fit; of 5 bits 7,874, so 4 fit; of 6 bits 16,002, so 2 fit.
#[target_feature(enable = "avx2,fma")]
fn bytes<const R: usize, const GROUP: usize, const STEP: usize, const SHIFT: i32, const MINIMA: bool>(
    tile: &Tile<'_>,
) {
    // An array of known length, so that the loops over rows unroll and sums stay in registers.
    let chunks: &[ActivationChunk; R] = tile.rows.first_chunk().expect("as many rows");
    let ones = _mm256_set1_epi16(1);
    let mut sums: Sums<R> = start(tile);
    let groups = tile.quants.as_chunks::<GROUP>().0;
    for (index, (scales, lines)) in tile.scales.iter().zip(groups).enumerate() {
        let block = index * GROUP / BLOCK_QUADS;
        let mut totals: Totals<R> = [[_mm256_setzero_si256(); STRIP_VECTORS]; R];
        if !MINIMA {
            for (total, chunk) in totals.iter_mut().zip(chunks) {
                let negated = if GROUP == BLOCK_QUADS {
                    chunk.negated_sums[block]
                } else {
                    chunk.negated_half_sums[index]
                };
                *total = [_mm256_slli_epi32::<SHIFT>(_mm256_set1_epi32(negated)); STRIP_VECTORS];
            }
        }
        for (step, lines) in lines.as_chunks::<STEP>().0.iter().enumerate() {
            let at = index * GROUP * QUAD + step * STEP * QUAD;
            let mut short: Totals<R> = [[_mm256_setzero_si256(); STRIP_VECTORS]; R];
            unrolled!(LINE_OF in 0..8, {
                if LINE_OF < STEP {
                    let weights = halves(&lines[LINE_OF]);
                    for (short, chunk) in short.iter_mut().zip(chunks) {
                        let x = quad(&chunk.bytes, at + LINE_OF * QUAD);
                        for (short, weights) in short.iter_mut().zip(weights) {
                            *short = add_products_of_bytes(*short, weights, x);
                        }
                    }
                }
            });
            for (total, short) in totals.as_flattened_mut().iter_mut().zip(short.as_flattened()) {
                *total = add_products_of_words(*total, *short, ones);
            }
        }
        add(&mut sums, &totals, scales, chunks, block);
        if MINIMA {
            let minima = floats(&tile.minima[block]);
            for (sums, chunk) in sums.iter_mut().zip(chunks) {
                let product = _mm256_set1_ps(chunk.scaled_sums[block]);
                for (sum, minimum) in sums.iter_mut().zip(minima) {
                    *sum = _mm256_fnmadd_ps(minimum, product, *sum);
                }
            }
        }
    }
    store(tile, &sums);
}

/// Sums a tile of weights of 8 bits with an offset of 128. Even and odd bytes are widened to 16
/// bits, as a pair of their products would not fit 16 bits. They are read from the packed bytes;
/// with `PREFETCH` these come from memory.
#[target_feature(enable = "avx2,fma")]
fn words<const R: usize, const PREFETCH: bool>(tile: &Tile<'_>) {
    let chunks: &[ActivationChunk; R] = tile.rows.first_chunk().expect("as many rows");
    let low = _mm256_set1_epi16(0xFF);
    let mut sums: Sums<R> = start(tile);
    let blocks = tile.quants.as_chunks::<BLOCK_QUADS>().0;
    for (block, (scales, lines)) in tile.scales.iter().zip(blocks).enumerate() {
        let mut totals: Totals<R> = [[_mm256_setzero_si256(); STRIP_VECTORS]; R];
        for (total, chunk) in totals.iter_mut().zip(chunks) {
            *total = [_mm256_slli_epi32::<7>(_mm256_set1_epi32(chunk.negated_sums[block])); STRIP_VECTORS];
        }
        unrolled!(LINE_OF in 0..8, {
            let line = &lines[LINE_OF];
            let at = block * BLOCK_QUADS * QUAD + LINE_OF * QUAD;
            if PREFETCH {
                prefetch_ahead(line);
            }
            let weights = halves(line);
            // Without a shuffle: the mask and the shift give the even and the odd bytes, and
            // activations are stored in that order.
            let even = weights.map(|weights| _mm256_and_si256(weights, low));
            let odd = weights.map(|weights| _mm256_srli_epi16::<8>(weights));
            for (half, weights) in [even, odd].into_iter().enumerate() {
                for (totals, chunk) in totals.iter_mut().zip(chunks) {
                    let x = pair(&chunk.words, at + 2 * half);
                    for (total, weights) in totals.iter_mut().zip(weights) {
                        *total = add_products_of_words(*total, weights, x);
                    }
                }
            }
        });
        add(&mut sums, &totals, scales, chunks, block);
    }
    store(tile, &sums);
}

/// Two vectors multiplied and pairs of products added to a third, as two instructions that the
/// compiler must not take apart: it would add up products among themselves first, and run out of
/// registers.
macro_rules! multiply_and_add {
    ($multiply:literal, $add:literal, $sum:expr, $x:expr, $y:expr) => {{
        let out;
        #[allow(unsafe_code, reason = "two instructions that are not to be taken apart")]
        // SAFETY: both instructions are of AVX2, which the caller's `target_feature` proves. They
        // work on registers alone and leave memory, stack and flags as they are.
        unsafe {
            asm!(
                concat!($multiply, " {products}, {x}, {y}"),
                concat!($add, " {out}, {sum}, {products}"),
                products = out(ymm_reg) _,
                x = in(ymm_reg) $x,
                y = in(ymm_reg) $y,
                sum = in(ymm_reg) $sum,
                out = lateout(ymm_reg) out,
                options(pure, nomem, nostack, preserves_flags)
            );
        }
        out
    }};
}

/// Adds products of bytes, in pairs, to sums of 16 bits.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn add_products_of_bytes(sum: __m256i, unsigned: __m256i, signed: __m256i) -> __m256i {
    multiply_and_add!("vpmaddubsw", "vpaddw", sum, unsigned, signed)
}

/// Adds products of 16 bits, in pairs, to sums of 32 bits.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn add_products_of_words(sum: __m256i, x: __m256i, y: __m256i) -> __m256i {
    multiply_and_add!("vpmaddwd", "vpaddd", sum, x, y)
}

/// Adds the integer totals of a block or half block, times the scales of weights and activations,
/// to the sums.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn add<const R: usize>(
    sums: &mut Sums<R>,
    totals: &Totals<R>,
    scales: &[f32; STRIP],
    chunks: &[ActivationChunk; R],
    block: usize,
) {
    let scales = floats(scales);
    for ((sums, totals), chunk) in sums.iter_mut().zip(totals).zip(chunks) {
        let x = _mm256_set1_ps(chunk.scales[block]);
        for ((sum, total), scale) in sums.iter_mut().zip(totals).zip(scales) {
            *sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(*total), _mm256_mul_ps(scale, x), *sum);
        }
    }
}

/// The sums that the rows of a tile begin with.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn start<const R: usize>(tile: &Tile<'_>) -> Sums<R> {
    let mut sums = [[_mm256_setzero_ps(); STRIP_VECTORS]; R];
    if !tile.is_first {
        for (row, sums) in sums.iter_mut().enumerate() {
            *sums = floats(&tile.start(row));
        }
    }
    sums
}

/// Stores the sums of a tile.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn store<const R: usize>(tile: &Tile<'_>, sums: &Sums<R>) {
    for (row, sums) in sums.iter().enumerate() {
        let mut values = [0.0; STRIP];
        for (out, sum) in values.as_chunks_mut::<8>().0.iter_mut().zip(sums) {
            #[allow(unsafe_code, reason = "a vector is stored through a pointer")]
            // SAFETY: `out` is the 8 floats of a vector, and `storeu` needs no alignment.
            unsafe {
                _mm256_storeu_ps(out.as_mut_ptr(), *sum);
            }
        }
        tile.store(row, &values);
    }
}

#[target_feature(enable = "avx2,fma")]
#[inline]
fn floats(values: &[f32; STRIP]) -> [__m256; STRIP_VECTORS] {
    let [low, high] = values.as_chunks::<8>().0 else { unreachable!("two vectors") };
    #[allow(unsafe_code, reason = "a vector is loaded through a pointer")]
    // SAFETY: each half is the 8 floats of a vector, and `loadu` needs no alignment.
    unsafe {
        [_mm256_loadu_ps(low.as_ptr()), _mm256_loadu_ps(high.as_ptr())]
    }
}

#[target_feature(enable = "avx2,fma")]
#[inline]
fn halves(line: &[u8; QUAD_BYTES]) -> [__m256i; STRIP_VECTORS] {
    let [low, high] = line.as_chunks::<32>().0 else { unreachable!("two vectors") };
    #[allow(unsafe_code, reason = "a vector is loaded through a pointer")]
    // SAFETY: each half is the 32 bytes of a vector, and `loadu` needs no alignment.
    unsafe {
        [_mm256_loadu_si256(low.as_ptr().cast()), _mm256_loadu_si256(high.as_ptr().cast())]
    }
}

/// Broadcasts four activations from `at` on to every lane.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn quad<const N: usize>(values: &[i8; N], at: usize) -> __m256i {
    #[allow(unsafe_code, reason = "four bytes are read as one number")]
    // SAFETY: `at` is four times the index of a quad of the tile, and `DotKernel::sum` asserts that
    // a tile has no more quads than a chunk of activations, N / 4. So all four bytes are inside.
    let four = unsafe { values.as_ptr().add(at).cast::<i32>().read_unaligned() };
    _mm256_set1_epi32(four)
}

/// Broadcasts two activations from `at` on to every lane.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn pair<const N: usize>(values: &[i16; N], at: usize) -> __m256i {
    #[allow(unsafe_code, reason = "two words are read as one number")]
    // SAFETY: as in `quad`, for two of the chunk's N words.
    let two = unsafe { values.as_ptr().add(at).cast::<i32>().read_unaligned() };
    _mm256_set1_epi32(two)
}
