//! Vectors of 32 bytes: 8 outputs of four inputs each.

use std::arch::asm;
use std::arch::x86_64::{
    __m256, __m256i, _mm256_and_si256, _mm256_cvtepi32_ps, _mm256_fmadd_ps, _mm256_fnmadd_ps,
    _mm256_loadu_ps, _mm256_loadu_si256, _mm256_mul_ps, _mm256_set1_epi16, _mm256_set1_epi32, _mm256_set1_ps,
    _mm256_setzero_ps, _mm256_setzero_si256, _mm256_slli_epi32, _mm256_srli_epi16, _mm256_storeu_ps,
};

use super::super::matrix::STRIP;
use super::format::Format;
use super::product::Tile;
use super::rows::Part;
use super::unpack::fetch;
use super::{LINE, QUAD, QUADS};

/// A loop that is written out: the compiler decides by its own counts whether it does so, and a
/// loop of eight rounds is left at a misprediction.
macro_rules! each {
    ($name:ident in 0..8, $body:block) => {
        each!(@ $name $body 0 1 2 3 4 5 6 7)
    };
    (@ $name:ident $body:block $($index:literal)*) => {
        $({
            const $name: usize = $index;
            $body
        })*
    };
}

/// Rows of a tile at most.
pub(super) const ROWS: usize = 4;
/// Vectors across a strip.
const ACROSS: usize = 2;

type Sums<const R: usize> = [[__m256; ACROSS]; R];
type Totals<const R: usize> = [[__m256i; ACROSS]; R];

/// The sums of a tile of at most [`ROWS`] rows; see [`Tile`].
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
        Format::Q8_0 if tile.alone => words::<R, true>(tile),
        Format::Q8_0 => words::<R, false>(tile),
        Format::Q5_1 | Format::Q5K => bytes::<R, 8, 4, 0, true>(tile),
        _ => bytes::<R, 8, 8, 0, true>(tile),
    }
}

/// Weights of at most 6 bits; `GROUP` quads share a scale, and from each weight 2^`SHIFT` is taken
/// or, with `MINIMA`, from all of a group the minimum. The products of `STEP` quads fit into 16
/// bits: two of weights of 4 bits are at most 2·15·127, and 8 such sums fit; of 5 bits 4, of 6 bits
/// 2.
#[target_feature(enable = "avx2,fma")]
fn bytes<const R: usize, const GROUP: usize, const STEP: usize, const SHIFT: i32, const MINIMA: bool>(
    tile: &Tile<'_>,
) {
    let parts: &[Part; R] = tile.rows.first_chunk().expect("as many rows");
    let ones = _mm256_set1_epi16(1);
    let mut sums: Sums<R> = start(tile);
    let groups = tile.quants.as_chunks::<GROUP>().0;
    for (index, (scales, lines)) in tile.scales.iter().zip(groups).enumerate() {
        let block = index * GROUP / QUADS;
        let mut totals: Totals<R> = [[_mm256_setzero_si256(); ACROSS]; R];
        if !MINIMA {
            for (total, part) in totals.iter_mut().zip(parts) {
                let taken = if GROUP == QUADS { part.sums[block] } else { part.halves[index] };
                *total = [_mm256_slli_epi32::<SHIFT>(_mm256_set1_epi32(taken)); ACROSS];
            }
        }
        for (step, lines) in lines.as_chunks::<STEP>().0.iter().enumerate() {
            let at = index * GROUP * QUAD + step * STEP * QUAD;
            let mut short: Totals<R> = [[_mm256_setzero_si256(); ACROSS]; R];
            each!(LINE_OF in 0..8, {
                if LINE_OF < STEP {
                    let weights = halves(&lines[LINE_OF]);
                    for (short, part) in short.iter_mut().zip(parts) {
                        let x = quad(&part.bytes, at + LINE_OF * QUAD);
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
        add(&mut sums, &totals, scales, parts, block);
        if MINIMA {
            let minima = floats(&tile.minima[block]);
            for (sums, part) in sums.iter_mut().zip(parts) {
                let product = _mm256_set1_ps(part.products[block]);
                for (sum, minimum) in sums.iter_mut().zip(minima) {
                    *sum = _mm256_fnmadd_ps(minimum, product, *sum);
                }
            }
        }
    }
    store(tile, &sums);
}

/// Weights of 8 bits, 128 taken from each, in products of 16 bits: those of 8 would not fit. They
/// are multiplied where they lie; with `FETCH` they come from memory.
#[target_feature(enable = "avx2,fma")]
fn words<const R: usize, const FETCH: bool>(tile: &Tile<'_>) {
    let parts: &[Part; R] = tile.rows.first_chunk().expect("as many rows");
    let low = _mm256_set1_epi16(0xFF);
    let mut sums: Sums<R> = start(tile);
    let blocks = tile.quants.as_chunks::<QUADS>().0;
    for (block, (scales, lines)) in tile.scales.iter().zip(blocks).enumerate() {
        let mut totals: Totals<R> = [[_mm256_setzero_si256(); ACROSS]; R];
        for (total, part) in totals.iter_mut().zip(parts) {
            *total = [_mm256_slli_epi32::<7>(_mm256_set1_epi32(part.sums[block])); ACROSS];
        }
        each!(LINE_OF in 0..8, {
            let line = &lines[LINE_OF];
            let at = block * QUADS * QUAD + LINE_OF * QUAD;
            if FETCH {
                fetch(line);
            }
            let weights = halves(line);
            let even = weights.map(|weights| _mm256_and_si256(weights, low));
            let odd = weights.map(|weights| _mm256_srli_epi16::<8>(weights));
            for (half, weights) in [even, odd].into_iter().enumerate() {
                for (totals, part) in totals.iter_mut().zip(parts) {
                    let x = pair(&part.words, at + 2 * half);
                    for (total, weights) in totals.iter_mut().zip(weights) {
                        *total = add_products_of_words(*total, weights, x);
                    }
                }
            }
        });
        add(&mut sums, &totals, scales, parts, block);
    }
    store(tile, &sums);
}

/// Products of bytes, two and two added up, added to words. In assembly, as the compiler would
/// otherwise add up products among themselves first, for which there are not enough registers.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn add_products_of_bytes(sum: __m256i, unsigned: __m256i, signed: __m256i) -> __m256i {
    let out;
    #[allow(unsafe_code, reason = "two instructions that are not to be taken apart")]
    // SAFETY: both work on registers alone, and the caller has shown that the machine has them.
    unsafe {
        asm!(
            "vpmaddubsw {products}, {unsigned}, {signed}",
            "vpaddw {out}, {sum}, {products}",
            products = out(ymm_reg) _,
            unsigned = in(ymm_reg) unsigned,
            signed = in(ymm_reg) signed,
            sum = in(ymm_reg) sum,
            out = lateout(ymm_reg) out,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    out
}

/// Products of words, two and two added up, added to numbers of 32 bits; in assembly as above.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn add_products_of_words(sum: __m256i, x: __m256i, y: __m256i) -> __m256i {
    let out;
    #[allow(unsafe_code, reason = "two instructions that are not to be taken apart")]
    // SAFETY: as above.
    unsafe {
        asm!(
            "vpmaddwd {products}, {x}, {y}",
            "vpaddd {out}, {sum}, {products}",
            products = out(ymm_reg) _,
            x = in(ymm_reg) x,
            y = in(ymm_reg) y,
            sum = in(ymm_reg) sum,
            out = lateout(ymm_reg) out,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    out
}

/// Adds the totals of a block or half block times the scales of the weights and of the activations.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn add<const R: usize>(
    sums: &mut Sums<R>,
    totals: &Totals<R>,
    scales: &[f32; STRIP],
    parts: &[Part; R],
    block: usize,
) {
    let scales = floats(scales);
    for ((sums, totals), part) in sums.iter_mut().zip(totals).zip(parts) {
        let x = _mm256_set1_ps(part.scales[block]);
        for ((sum, total), scale) in sums.iter_mut().zip(totals).zip(scales) {
            *sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(*total), _mm256_mul_ps(scale, x), *sum);
        }
    }
}

#[target_feature(enable = "avx2,fma")]
#[inline]
fn start<const R: usize>(tile: &Tile<'_>) -> Sums<R> {
    let mut sums = [[_mm256_setzero_ps(); ACROSS]; R];
    if !tile.first {
        for (row, sums) in sums.iter_mut().enumerate() {
            *sums = floats(&tile.start(row));
        }
    }
    sums
}

#[target_feature(enable = "avx2,fma")]
#[inline]
fn store<const R: usize>(tile: &Tile<'_>, sums: &Sums<R>) {
    for (row, sums) in sums.iter().enumerate() {
        let mut values = [0.0; STRIP];
        for (out, sum) in values.as_chunks_mut::<8>().0.iter_mut().zip(sums) {
            #[allow(unsafe_code, reason = "a vector is stored through a pointer")]
            // SAFETY: `out` has room for the 8 numbers of a vector, which need no alignment.
            unsafe {
                _mm256_storeu_ps(out.as_mut_ptr(), *sum);
            }
        }
        tile.store(row, &values);
    }
}

#[target_feature(enable = "avx2,fma")]
#[inline]
fn floats(values: &[f32; STRIP]) -> [__m256; ACROSS] {
    let [low, high] = values.as_chunks::<8>().0 else { unreachable!("two vectors") };
    #[allow(unsafe_code, reason = "a vector is loaded through a pointer")]
    // SAFETY: each half has the 8 numbers of a vector, which need no alignment.
    unsafe {
        [_mm256_loadu_ps(low.as_ptr()), _mm256_loadu_ps(high.as_ptr())]
    }
}

#[target_feature(enable = "avx2,fma")]
#[inline]
fn halves(line: &[u8; LINE]) -> [__m256i; ACROSS] {
    let [low, high] = line.as_chunks::<32>().0 else { unreachable!("two vectors") };
    #[allow(unsafe_code, reason = "a vector is loaded through a pointer")]
    // SAFETY: each half has the 32 bytes of a vector, which need no alignment.
    unsafe {
        [_mm256_loadu_si256(low.as_ptr().cast()), _mm256_loadu_si256(high.as_ptr().cast())]
    }
}

/// Four activations from `at` on, in every lane.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn quad<const N: usize>(values: &[i8; N], at: usize) -> __m256i {
    #[allow(unsafe_code, reason = "four bytes are read as one number")]
    // SAFETY: tiles have no more quads than their parts, see `Tile`, so all four are inside.
    let four = unsafe { values.as_ptr().add(at).cast::<i32>().read_unaligned() };
    _mm256_set1_epi32(four)
}

/// Two activations from `at` on, in every lane.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn pair<const N: usize>(values: &[i16; N], at: usize) -> __m256i {
    #[allow(unsafe_code, reason = "two words are read as one number")]
    // SAFETY: as in `quad`.
    let two = unsafe { values.as_ptr().add(at).cast::<i32>().read_unaligned() };
    _mm256_set1_epi32(two)
}
