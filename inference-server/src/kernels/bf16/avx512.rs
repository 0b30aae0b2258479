//! Dot products of pairs in vectors (AVX-512 BF16), where there is no matrix unit.

#![cfg(target_arch = "x86_64")]

use std::arch::x86_64::{
    __m512bh, __m512i, _mm512_dpbf16_ps, _mm512_load_si512, _mm512_set1_epi32, _mm512_setzero_ps,
    _mm512_storeu_ps,
};

use super::blocks::{ACROSS, Block, DEPTH, SIDE};
use super::product::Sums;

/// Rows whose sums are in registers together: 8 × 2 sums, two of weights.
const ROWS: usize = 8;

/// `sums` = activations · weights for the groups of rows in `x`; see [`Sums`].
#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) fn sum(x: &[&[Block]], weights: &[Block], sums: &mut Sums) {
    for (index, lines) in sums.0[..x.len() * SIDE].chunks_exact_mut(ROWS).enumerate() {
        let (group, first) = (index * ROWS / SIDE, index * ROWS % SIDE);
        let mut registers = [[_mm512_setzero_ps(); ACROSS]; ROWS];
        for (activations, weights) in x[group].iter().zip(weights.chunks_exact(ACROSS)) {
            let rows = &activations.0[first * DEPTH..][..ROWS * DEPTH];
            for pair in 0..DEPTH / 2 {
                let lines = [0, 1].map(|across| vector(&weights[across], pair));
                for (row, registers) in registers.iter_mut().enumerate() {
                    let at = row * DEPTH + 2 * pair;
                    let both = u32::from(rows[at]) | u32::from(rows[at + 1]) << 16;
                    let both = bits(_mm512_set1_epi32(both.cast_signed()));
                    for (register, line) in registers.iter_mut().zip(lines) {
                        *register = _mm512_dpbf16_ps(*register, both, line);
                    }
                }
            }
        }
        for (line, registers) in lines.iter_mut().zip(registers) {
            for (part, register) in line.as_chunks_mut::<SIDE>().0.iter_mut().zip(registers) {
                #[allow(unsafe_code, reason = "a vector is stored through a pointer")]
                // SAFETY: `part` has room for the 16 numbers of a vector, which need no alignment.
                unsafe {
                    _mm512_storeu_ps(part.as_mut_ptr(), register);
                }
            }
        }
    }
}

/// One line of a block.
#[target_feature(enable = "avx512f,avx512bf16")]
fn vector(block: &Block, line: usize) -> __m512bh {
    let line = &block.0[line * DEPTH..][..DEPTH];
    #[allow(unsafe_code, reason = "a vector is loaded through a pointer")]
    // SAFETY: the line is 64 bytes long and, in a block, aligned to as many.
    bits(unsafe { _mm512_load_si512(line.as_ptr().cast()) })
}

/// The same bits as pairs of bf16.
#[target_feature(enable = "avx512f,avx512bf16")]
fn bits(vector: __m512i) -> __m512bh {
    #[allow(unsafe_code, reason = "the standard library has no other way between the two types")]
    // SAFETY: both are 512 bits of which every pattern is a value.
    unsafe {
        std::mem::transmute(vector)
    }
}
