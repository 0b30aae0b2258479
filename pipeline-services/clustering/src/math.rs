//! The exponential, the logarithm and powers in 64 bits, by series only.
//!
//! The standard library passes these on to the platform's mathematics library. glibc chooses
//! between builds with and without fused multiply-add when a program starts, and their last
//! bits differ; a layout of some hundred epochs makes another map of that bit. The series here
//! are plain additions and multiplications, which every processor rounds in the same way.

use std::f64::consts::{LN_2, LOG2_E};

/// The upper bits of ln 2, so that a small whole number times it is exact, and the rest: the split
/// of fdlibm (`ln2_hi` and `ln2_lo`).
const LN_2_HIGH: f64 = 0.693_147_180_369_123_8;
const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;

/// e^x with a relative error below 4e-16; 0 below -700 and infinite above 700.
pub(crate) fn exp(x: f64) -> f64 {
    // Beyond 709.8 the result overflows, and below -708.4 the exponent has no bits left: the shift
    // at the end would wrap around.
    if x < -700.0 {
        return 0.0;
    }
    if x > 700.0 {
        return f64::INFINITY;
    }
    let whole = (x * LOG2_E).round();
    let rest = (x - whole * LN_2_HIGH) - whole * LN_2_LOW;
    // Taylor's series; |rest| <= 0.347 leaves an error below 1e-17 after the 13th power.
    let series = (1..=13).rev().fold(1.0, |sum, n| 1.0 + sum * rest / f64::from(n));
    series * f64::from_bits(((whole as i64 + 1023) as u64) << 52)
}

/// ln x for normal x above 0, with an error below 4e-16 of the larger of 1 and the result.
pub(crate) fn ln(x: f64) -> f64 {
    // The bits of the root of 1/2: subtracted first, they make the exponent change there and not at
    // 1, where the logarithm of a number just below would be the difference of two large ones.
    const SQRT_HALF_BITS: u64 = 0x3FE6_A09E_667F_3BCD;
    let bits = x.to_bits().wrapping_sub(SQRT_HALF_BITS);
    let exponent = (bits as i64 >> 52) as f64;
    let mantissa = f64::from_bits((bits & 0x000F_FFFF_FFFF_FFFF).wrapping_add(SQRT_HALF_BITS));
    // The area hyperbolic tangent on a mantissa in [sqrt(1/2), sqrt(2)): |s| < 0.172.
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let z = s * s;
    let series = (0..12).rev().fold(0.0, |sum, n| sum * z + 1.0 / f64::from(2 * n + 1));
    exponent * LN_2_HIGH + (2.0 * s * series + exponent * LN_2_LOW)
}

/// The base-2 logarithm, from [`ln`].
pub(crate) fn log2(x: f64) -> f64 {
    ln(x) / LN_2
}

/// x^p for x at or above 0; 0 to any power is 0.
pub(crate) fn pow(x: f64, p: f64) -> f64 {
    if x > 0.0 { exp(p * ln(x)) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_follow_the_library() {
        for i in -6990..6990 {
            let x = f64::from(i) * 0.1 + 0.01;
            assert!((exp(x) / x.exp() - 1.0).abs() < 4e-16, "exp({x})");
        }
        let mut x = 1e-300;
        while x < 1e300 {
            assert!((ln(x) - x.ln()).abs() <= 4e-16 * x.ln().abs().max(1.0), "ln({x})");
            x *= 1.0137;
        }
        for p in [0.1, 0.79, 1.0, 1.79, 3.3] {
            for i in 1..3000 {
                let x = f64::from(i) * 1e-3;
                assert!((pow(x, p) / x.powf(p) - 1.0).abs() < 5e-15, "{x}^{p}");
            }
        }
    }

    #[test]
    fn ends_of_the_range_are_kept() {
        assert_eq!((exp(0.0), ln(1.0), pow(0.0, 0.5), log2(8.0)), (1.0, 0.0, 0.0, 3.0));
        assert_eq!((exp(-1e9), exp(1e9), exp(f64::NEG_INFINITY)), (0.0, f64::INFINITY, 0.0));
    }
}
