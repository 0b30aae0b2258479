//! exp, erf, the activations and sums over lanes, in f32 and without branches, so that LLVM turns
//! loops over them into vector instructions.
//!
//! Every function is generic over `FMA`, see [`by_isa`](super::isa::by_isa): results of instruction
//! sets with and without a fused multiply-add differ by rounding.

/// Activation of a feed-forward block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// GELU, x·Φ(x), by the error function (Hendrycks and Gimpel 2016, arXiv:1606.08415).
    Gelu,
    /// The approximation of GELU by tanh, from the same paper.
    GeluTanh,
    /// ReLU, max(0, x).
    Relu,
    /// SiLU, also called swish, x·σ(x).
    Silu,
}

/// a·b + c, rounded once if `FMA`.
#[inline(always)]
pub(super) fn fma<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// A polynomial by Horner's scheme, highest coefficient first.
#[inline(always)]
fn horner<const FMA: bool, const N: usize>(x: f32, coefficients: [f32; N]) -> f32 {
    let mut sum = coefficients[0];
    for coefficient in &coefficients[1..] {
        sum = fma::<FMA>(sum, x, *coefficient);
    }
    sum
}

/// e^x with a relative error of at most 2e-7 for x from -87 to 88, beyond which it keeps the value
/// at that end; NaN stays NaN.
///
/// Cody and Waite's reduction to |r| ≤ ln(2)/2, then the polynomial of expf in Cephes (Moshier
/// 1992), whose coefficients these are.
#[inline(always)]
pub(super) fn exp<const FMA: bool>(x: f32) -> f32 {
    // 1.5·2²³: adding it leaves the nearest integer in the low bits of the sum.
    const ROUND: f32 = 12_582_912.0;
    // Comparisons, not `clamp`: they pass NaN on, and 2^n below stays a normal number.
    let x = if x < -87.0 { -87.0 } else { x };
    let x = if x > 88.0 { 88.0 } else { x };
    let shifted = fma::<FMA>(x, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    // ln(2) in two parts, the first of few bits, so that n times it is exact.
    let r = fma::<FMA>(n, -0.693_359_4, x);
    let r = fma::<FMA>(n, 2.121_944_4e-4, r);
    let p = horner::<FMA, 6>(
        r,
        [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5],
    );
    // The 1 is added last: it is the largest term.
    let p = fma::<FMA>(p, r * r, r) + 1.0;
    let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23;
    p * f32::from_bits(exponent)
}

/// erf with an absolute error of at most 1.2e-7.
///
/// The two polynomials of N. Juffa's `my_erff`: near zero one in x², further out one in the
/// exponent of e. Both are evaluated and one is selected, as a branch would prevent vector
/// instructions.
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

/// The logistic function σ(x).
#[inline(always)]
fn logistic<const FMA: bool>(x: f32) -> f32 {
    1.0 / (1.0 + exp::<FMA>(-x))
}

/// Applies an activation in place.
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
                // A comparison, so that NaN stays NaN.
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

/// Lanes of a sum over a row: the floats of an AVX-512 vector. Narrower instruction sets keep as
/// many partial sums, so that a sum has the same order on every machine.
pub(super) const LANES: usize = 16;

/// The sum of all lanes, by halves.
#[inline(always)]
pub(super) fn sum_lanes(mut lanes: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
        half /= 2;
    }
    lanes[0]
}

#[cfg(test)]
mod tests;
