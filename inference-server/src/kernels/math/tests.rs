//! exp, erf and the activations against f64, on every instruction set of the machine.
//!
//! The references are computed in f64; each test states the greatest error it allows.

use super::*;
use crate::kernels::isa::{Isa, by_isa};

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
    for (x, low, high) in [(-1e30, 0.0, 2e-38), (-100.0, 0.0, 2e-38), (100.0, 1e38, 2e38), (0.0, 1.0, 1.0)] {
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
