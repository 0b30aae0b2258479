//! exp, erf and the activations, in f32 and without branches, so that loops over them become vector
//! instructions.

/// Activation between the halves of a feed-forward block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// x·Φ(x) by the error function.
    Gelu,
    /// The approximation of `Gelu` by tanh.
    GeluTanh,
    /// max(0, x).
    Relu,
    /// x·σ(x).
    Silu,
}

/// a·b + c, rounded once where that is one instruction.
#[inline(always)]
pub(super) fn fma<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

#[inline(always)]
fn horner<const FMA: bool, const N: usize>(x: f32, coefficients: [f32; N]) -> f32 {
    let mut sum = coefficients[0];
    for coefficient in &coefficients[1..] {
        sum = fma::<FMA>(sum, x, *coefficient);
    }
    sum
}

/// e^x within 2e-7 of its value between -87 and 88, beyond which it stays at those ends; NaN stays
/// NaN.
///
/// Cody and Waite's reduction to |r| ≤ ln(2)/2, then the polynomial of Cephes' expf (Moshier).
#[inline(always)]
pub(super) fn exp<const FMA: bool>(x: f32) -> f32 {
    // 1.5·2²³: adding it leaves the nearest integer in the low bits of the sum.
    const ROUND: f32 = 12_582_912.0;
    let x = if x < -87.0 { -87.0 } else { x };
    let x = if x > 88.0 { 88.0 } else { x };
    let shifted = fma::<FMA>(x, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = fma::<FMA>(n, -0.693_359_4, x);
    let r = fma::<FMA>(n, 2.121_944_4e-4, r);
    let p = horner::<FMA, 6>(
        r,
        [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5],
    );
    let p = fma::<FMA>(p, r * r, r) + 1.0;
    let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23;
    p * f32::from_bits(exponent)
}

/// The error function within 1.2e-7: Juffa's two polynomials, the outer one in the exponent of e.
#[inline(always)]
pub(super) fn erf<const FMA: bool>(x: f32) -> f32 {
    let t = x.abs();
    let s = x * x;
    let high = fma::<FMA>(-1.728_534_7e-5, t, 3.831_971_3e-4);
    let low = fma::<FMA>(-3.883_964_4e-3, t, 2.425_462_2e-2);
    let outer = fma::<FMA>(high, s, low);
    let outer = fma::<FMA>(outer, t, -1.067_778_8e-1);
    let outer = fma::<FMA>(outer, t, -6.348_467e-1);
    let outer = fma::<FMA>(outer, t, -1.287_175_1e-1);
    let outer = fma::<FMA>(outer, t, -t);
    let outer = (1.0 - exp::<FMA>(outer)).copysign(x);
    let inner = horner::<FMA, 6>(
        s,
        [-5.967_617e-4, 4.991_194_2e-3, -2.676_813_5e-2, 1.128_199_25e-1, -3.761_253_4e-1, 1.283_791_7e-1],
    );
    let inner = fma::<FMA>(inner, x, x);
    if t > 0.927_734_4 { outer } else { inner }
}

#[inline(always)]
fn logistic<const FMA: bool>(x: f32) -> f32 {
    1.0 / (1.0 + exp::<FMA>(-x))
}

/// Applies an activation to values.
#[inline(always)]
pub(super) fn activate<const FMA: bool>(activation: Activation, values: &mut [f32]) {
    match activation {
        Activation::Gelu => {
            for x in values {
                let half = 0.5 * *x;
                *x = fma::<FMA>(half, erf::<FMA>(*x * std::f32::consts::FRAC_1_SQRT_2), half);
            }
        }
        Activation::GeluTanh => {
            // 0.5·(1 + tanh(u)) = σ(2u) with u = √(2/π)·(x + 0.044715·x³).
            const TWICE: f32 = 1.595_769_2;
            for x in values {
                let cubic = fma::<FMA>(*x * *x, 0.044_715 * *x, *x);
                *x *= logistic::<FMA>(TWICE * cubic);
            }
        }
        Activation::Relu => {
            for x in values {
                *x = if *x < 0.0 { 0.0 } else { *x };
            }
        }
        Activation::Silu => {
            for x in values {
                *x *= logistic::<FMA>(*x);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::isa::{Isa, by_isa};
    use super::*;

    /// erf by its series of positive terms, to full f64.
    pub(crate) fn erf64(x: f64) -> f64 {
        if x.abs() > 6.0 {
            return x.signum();
        }
        let mut term = x;
        let mut sum = x;
        for n in 1..400 {
            term *= 2.0 * x * x / f64::from(2 * n + 1);
            sum += term;
        }
        sum * (-x * x).exp() * std::f64::consts::FRAC_2_SQRT_PI
    }

    fn exact(activation: Activation, x: f64) -> f64 {
        match activation {
            Activation::Gelu => 0.5 * x * (1.0 + erf64(x / std::f64::consts::SQRT_2)),
            Activation::GeluTanh => {
                0.5 * x * (1.0 + (0.797_884_560_802_865_4 * (x + 0.044_715 * x * x * x)).tanh())
            }
            Activation::Relu => x.max(0.0),
            Activation::Silu => x / (1.0 + (-x).exp()),
        }
    }

    #[inline(always)]
    fn exp_all<const FMA: bool>(values: &mut [f32]) {
        values.iter_mut().for_each(|x| *x = exp::<FMA>(*x));
    }

    #[inline(always)]
    fn erf_all<const FMA: bool>(values: &mut [f32]) {
        values.iter_mut().for_each(|x| *x = erf::<FMA>(*x));
    }

    fn grid(from: i32, to: i32) -> Vec<f32> {
        (from * 997..to * 997).map(|step| step as f32 / 997.0).collect()
    }

    #[test]
    fn exp_is_near_that_of_f64() {
        for isa in Isa::available() {
            let inputs = grid(-87, 88);
            let mut values = inputs.clone();
            by_isa!(isa, exp_all(values: &mut [f32] = &mut values));
            for (x, got) in inputs.iter().zip(&values) {
                let expected = f64::from(*x).exp();
                let error = (f64::from(*got) - expected).abs() / expected;
                assert!(error <= 2e-7, "{isa:?} exp({x}): {error}");
            }
        }
    }

    #[test]
    fn exp_at_the_ends() {
        for (x, low, high) in
            [(-1e30, 0.0, 2e-38), (-100.0, 0.0, 2e-38), (100.0, 1e38, 2e38), (0.0, 1.0, 1.0)]
        {
            let got = exp::<false>(x);
            assert!((low..=high).contains(&got), "exp({x}) = {got}");
        }
        assert!(exp::<false>(f32::NAN).is_nan());
    }

    #[test]
    fn erf_is_near_that_of_f64() {
        for isa in Isa::available() {
            let inputs = grid(-7, 7);
            let mut values = inputs.clone();
            by_isa!(isa, erf_all(values: &mut [f32] = &mut values));
            for (x, got) in inputs.iter().zip(&values) {
                let error = (f64::from(*got) - erf64(f64::from(*x))).abs();
                assert!(error <= 1.2e-7, "{isa:?} erf({x}): {error}");
            }
        }
    }

    #[test]
    fn activations_are_near_those_of_f64() {
        for isa in Isa::available() {
            for which in [Activation::Gelu, Activation::GeluTanh, Activation::Relu, Activation::Silu] {
                let inputs = grid(-12, 12);
                let mut values = inputs.clone();
                by_isa!(isa, activate(which: Activation = which, values: &mut [f32] = &mut values));
                for (x, got) in inputs.iter().zip(&values) {
                    let expected = exact(which, f64::from(*x));
                    let error = (f64::from(*got) - expected).abs();
                    let allowed = 1.5e-7 * f64::from(x.abs().max(1.0));
                    assert!(error <= allowed, "{isa:?} {which:?}({x}): {got}, off by {error}");
                }
            }
        }
    }
}
