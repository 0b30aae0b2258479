//! The two vectorised inner loops: blocked dot products and the power function.
//!
//! Everything is written over arrays of eight lanes. The wide build of a loop uses AVX2 but
//! never fused multiply-add: a fused step rounds once instead of twice, and then two machines
//! would draw two different maps from the same data.

use std::sync::atomic::{AtomicBool, Ordering};

/// Lanes per step, the 32-bit numbers of a register of AVX2; rows are padded to a multiple of it.
pub(crate) const LANES: usize = 8;
/// Query rows per tile. Not tuned: with two candidate rows there are eight sums, half of AVX2's
/// sixteen registers, and the rows take the other half.
pub(crate) const TILE_ROWS: usize = 4;
/// Candidate rows per tile; see [`TILE_ROWS`].
pub(crate) const TILE_COLUMNS: usize = 2;

/// Dot products of `TILE_ROWS` query rows with `TILE_COLUMNS` candidate rows, all of `width`
/// values, `width` a multiple of [`LANES`].
#[inline(always)]
pub(crate) fn tile(queries: &[f32], candidates: &[f32], width: usize) -> [[f32; TILE_COLUMNS]; TILE_ROWS] {
    let mut sums = [[[0.0_f32; LANES]; TILE_COLUMNS]; TILE_ROWS];
    let (q0, rest) = queries.split_at(width);
    let (q1, rest) = rest.split_at(width);
    let (q2, q3) = rest.split_at(width);
    let (c0, c1) = candidates.split_at(width);
    let q = [q0, q1, q2, q3].map(|r| r.as_chunks::<LANES>().0);
    let (c0, c1) = (c0.as_chunks::<LANES>().0, c1.as_chunks::<LANES>().0);
    let steps = c0.len();
    let (c1, q) = (&c1[..steps], q.map(|r| &r[..steps]));
    for s in 0..steps {
        for (row, sums) in q.iter().zip(&mut sums) {
            for l in 0..LANES {
                sums[0][l] += row[s][l] * c0[s][l];
                sums[1][l] += row[s][l] * c1[s][l];
            }
        }
    }
    sums.map(|row| row.map(|lanes| lanes.iter().sum()))
}

/// `x` to the power `p` in every lane, for positive finite normal `x`; zero and denormals give
/// a finite value of no meaning. Relative error below 4e-6 for |p log2 x| <= 64, by series only:
/// no call into the platform's mathematics library, whose last bit differs between platforms.
#[inline(always)]
pub(crate) fn pow(x: [f32; LANES], p: f32) -> [f32; LANES] {
    let mut out = [0.0; LANES];
    for l in 0..LANES {
        out[l] = exp2(log2(x[l]) * p);
    }
    out
}

/// log2 by the series of the area hyperbolic tangent on a mantissa in [sqrt(1/2), sqrt(2)).
#[inline(always)]
fn log2(x: f32) -> f32 {
    // As in [`crate::math::ln`], in 32 bits.
    const SQRT_HALF_BITS: u32 = 0x3F35_04F3;
    let bits = x.to_bits().wrapping_sub(SQRT_HALF_BITS);
    let exponent = (bits as i32 >> 23) as f32;
    let mantissa = f32::from_bits((bits & 0x007F_FFFF).wrapping_add(SQRT_HALF_BITS));
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let z = s * s;
    const TWO_OVER_LN2: f32 = 2.885_39;
    let series = 1.0 + z * (1.0 / 3.0 + z * (0.2 + z * (1.0 / 7.0)));
    exponent + TWO_OVER_LN2 * s * series
}

/// 2^y by Taylor's series on a fraction in [-1/2, 1/2]; the exponent is clamped well
/// inside what an `f32` can hold, so that products with the result stay finite.
#[inline(always)]
fn exp2(y: f32) -> f32 {
    // Adding and subtracting 1.5 * 2^23 rounds to the nearest integer without a library call.
    const ROUND: f32 = 12_582_912.0;
    let y = y.clamp(-100.0, 100.0);
    let rounded = y + ROUND;
    let f = (y - (rounded - ROUND)) * std::f32::consts::LN_2;
    let series = 1.0
        + f * (1.0 + f * (0.5 + f * (1.0 / 6.0 + f * (1.0 / 24.0 + f * (1.0 / 120.0 + f * (1.0 / 720.0))))));
    // The integer sits in the low bits of the rounded number; the subtraction keeps only it.
    let whole = rounded.to_bits().wrapping_sub(ROUND.to_bits());
    let scale = f32::from_bits(whole.wrapping_add(127) << 23);
    series * scale
}

static BASE_ONLY: AtomicBool = AtomicBool::new(false);

/// Keeps all loops of this process to the base instruction set, or lets them be wide again.
/// Changes no result, only the time it takes: tests use it to prove the former.
#[doc(hidden)]
pub fn use_base_instructions(only: bool) {
    BASE_ONLY.store(only, Ordering::Relaxed);
}

/// Returns true if the processor has AVX2 and it may be used.
#[cfg(target_arch = "x86_64")]
pub(crate) fn has_avx2() -> bool {
    !BASE_ONLY.load(Ordering::Relaxed) && std::is_x86_feature_detected!("avx2")
}

/// Defines `$name`, which runs `$body` (an `#[inline(always)]` generic function) compiled for
/// AVX2 where the processor has it, and compiled for the base instruction set elsewhere.
macro_rules! wide {
    ($(#[$meta:meta])* fn $name:ident $(<const $d:ident: usize>)? ($($arg:ident: $type:ty),* $(,)?) = $body:path) => {
        $(#[$meta])*
        fn $name $(<const $d: usize>)? ($($arg: $type),*) {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2")]
                fn with_avx2 $(<const $d: usize>)? ($($arg: $type),*) {
                    $body($($arg),*);
                }
                if crate::simd::has_avx2() {
                    #[allow(unsafe_code, reason = "calling a function compiled for AVX2")]
                    // SAFETY: the only requirement is that the processor has AVX2, checked above.
                    return unsafe { with_avx2($($arg),*) };
                }
            }
            $body($($arg),*);
        }
    };
}

pub(crate) use wide;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tile_is_eight_dot_products() {
        let width = 24;
        let value = |i: usize| ((i * 37 % 101) as f32 - 50.0) / 16.0;
        let queries: Vec<f32> = (0..TILE_ROWS * width).map(value).collect();
        let candidates: Vec<f32> = (0..TILE_COLUMNS * width).map(|i| value(i + 5)).collect();
        let found = tile(&queries, &candidates, width);
        for r in 0..TILE_ROWS {
            for c in 0..TILE_COLUMNS {
                let expected: f32 =
                    (0..width).map(|k| queries[r * width + k] * candidates[c * width + k]).sum();
                assert!((found[r][c] - expected).abs() < 1e-2, "{r},{c}: {} {expected}", found[r][c]);
            }
        }
    }

    #[test]
    fn pow_follows_the_library() {
        for p in [-1.7_f32, -0.105, 0.5, 0.895, 1.0, 1.9] {
            let mut x = 1e-9_f32;
            while x < 1e9 {
                let found = f64::from(pow([x; LANES], p)[3]);
                let expected = f64::from(x).powf(f64::from(p));
                assert!((found / expected - 1.0).abs() < 4e-6, "{x}^{p} = {found}, expected {expected}");
                x *= 1.37;
            }
        }
    }

    #[test]
    fn pow_of_zero_is_finite() {
        assert!(pow([0.0; LANES], -0.1).iter().all(|v| v.is_finite()));
    }
}
