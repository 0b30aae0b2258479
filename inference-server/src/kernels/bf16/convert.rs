//! Conversion between f32 and bf16, with the rounding of the hardware's instructions.
//!
//! A bf16 is the upper half of an f32: its sign, its 8 bits of exponent, and 7 of its 23 bits of
//! fraction.

/// Rounds to the nearest bf16, ties to even; NaN stays NaN.
#[inline(always)]
pub(super) fn narrow(x: f32) -> u16 {
    let bits = x.to_bits();
    // Half a unit of the last place that is kept, less one if that place is even; a carry into the
    // exponent is the right result, infinity included.
    let rounded = bits.wrapping_add(0x7FFF + (bits >> 16 & 1)) >> 16;
    // A payload in the lower half only would become that of infinity, so the NaN is made quiet.
    let kept = if x.is_nan() { bits >> 16 | 0x40 } else { rounded };
    kept as u16
}

/// Converts to f32, exactly.
#[inline(always)]
pub(super) fn widen(x: u16) -> f32 {
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
