//! Products of bf16 numbers with sums in f32: the matrix unit of newer x86 processors.
//!
//! bf16 is f32 cut to 8 bits of significand (Intel 2018, "BFLOAT16 - Hardware Numerics
//! Definition"). Weights are narrowed once, activations where a product takes them; sums,
//! normalisation, attention and the residual stream stay f32. Both operands lie in blocks that a
//! tile register takes whole, so the instructions differ and the layout does not: `amx` works on
//! tiles, `avx512` on vectors of pairs, and `portable` shows on every machine what they compute.

mod amx;
mod avx512;
mod blocks;
mod portable;
mod product;
mod unit;

pub(crate) use blocks::{Panels, Rows, narrow_rows};
pub(crate) use product::{check, multiply, multiply_narrow};
pub use unit::Unit;

/// The nearest bf16, ties to even; NaN stays NaN.
#[inline(always)]
fn narrow(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7FFF + (bits >> 16 & 1)) >> 16;
    let kept = if x.is_nan() { bits >> 16 | 0x40 } else { rounded };
    kept as u16
}

/// The same number as f32.
#[inline(always)]
fn widen(x: u16) -> f32 {
    f32::from_bits(u32::from(x) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn narrowing_rounds_to_the_nearest() {
        fn check(x: f32, expected: f32) {
            assert_eq!(widen(narrow(x)), expected, "{x}");
        }
        check(0.0, 0.0);
        check(1.0, 1.0);
        check(-3.140_625, -3.140_625);
        // 1 + 2⁻⁸ lies between 1 and 1 + 2⁻⁷: to the even one, as does 1 + 3·2⁻⁸.
        check(1.0 + 1.0 / 256.0, 1.0);
        check(1.0 + 3.0 / 256.0, 1.015_625);
        check(1.003_906_4, 1.007_812_5);
        check(f32::MAX, f32::INFINITY);
        check(f32::NEG_INFINITY, f32::NEG_INFINITY);
        assert!(widen(narrow(f32::NAN)).is_nan());
        assert!(widen(narrow(f32::from_bits(0x7F80_0001))).is_nan());
    }
}
