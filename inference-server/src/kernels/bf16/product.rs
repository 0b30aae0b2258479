//! y = x·Wᵀ + b with what follows it; the counterpart of [`super::super::gemm`] for bf16.
//!
//! An output is summed over all inputs in registers, whatever rows share the call.

use std::ops::Range;

use super::super::gemm::{After, Epilogue, cut, finish, groups, part};
use super::super::isa::{Isa, by_isa};
use super::super::matrix::{Matrix, PANEL};
use super::super::parallel::{self, Shared};
use super::blocks::{Block, DEPTH, Panels, Rows, SIDE, narrow_line, narrow_rows};
use super::unit::Unit;

/// Groups of rows whose activations stay in a second-level cache of 2 MiB while the weights pass
/// by.
const GROUPS: usize = 16;
/// Groups of rows whose sums are in registers together.
const TOGETHER: usize = 2;

/// Sums of [`TOGETHER`] groups of rows and one panel.
#[repr(C, align(64))]
pub(super) struct Sums(pub(super) [[f32; PANEL]; TOGETHER * SIDE]);

/// `out` = epilogue(x·Wᵀ + b), on the threads of the current pool.
pub(crate) fn multiply(unit: Unit, x: &Rows, weights: &Panels, epilogue: Epilogue<'_>, out: &mut Matrix) {
    out.resize(x.rows(), weights.outputs());
    let stride = out.stride();
    let target = Target::Full(Shared::new(out.data_mut()), stride);
    Product { unit, x, weights, epilogue, target }.run();
}

/// As [`multiply`], with the result narrowed for the next product.
pub(crate) fn multiply_narrow(
    unit: Unit,
    x: &Rows,
    weights: &Panels,
    epilogue: Epilogue<'_>,
    out: &mut Rows,
) {
    out.resize(x.rows(), weights.outputs());
    let deep = out.deep();
    let target = Target::Narrow(Shared::new(out.blocks_mut()), deep);
    Product { unit, x, weights, epilogue, target }.run();
}

/// Whether these instructions give the sums that plain Rust does, for one product that uses every
/// register.
pub(crate) fn check(unit: Unit) -> bool {
    const ROWS: usize = 40;
    const INPUTS: usize = 96;
    let value = |index: usize| (index * 37 % 101) as f32 / 50.0 - 1.0;
    let list = |count: usize| (0..count).map(value).collect::<Vec<f32>>();
    let mut weights = Panels::zeros(INPUTS, PANEL);
    weights.pack(0, &list(INPUTS * PANEL), &list(PANEL));
    let mut x = Rows::default();
    narrow_rows(Isa::detect(), &Matrix::from_rows(&list(ROWS * INPUTS), INPUTS), &mut x);
    let product = |unit: Unit| {
        let mut out = Matrix::default();
        multiply(unit, &x, &weights, Epilogue::Bias, &mut out);
        out
    };
    let (expected, got) = (product(Unit::portable()), product(unit));
    (0..ROWS).all(|row| expected.row(row).iter().zip(got.row(row)).all(|(a, b)| (a - b).abs() < 1e-4))
}

/// Where results go.
#[derive(Clone, Copy)]
enum Target {
    /// A matrix, and the floats from one row to the next.
    Full(Shared<f32>, usize),
    /// Blocks, and how many lie along a row.
    Narrow(Shared<Block>, usize),
}

struct Product<'a> {
    unit: Unit,
    x: &'a Rows,
    weights: &'a Panels,
    epilogue: Epilogue<'a>,
    target: Target,
}

impl Product<'_> {
    fn run(&self) {
        let (x, weights) = (self.x, self.weights);
        assert_eq!(x.width(), weights.inputs(), "inputs of the layer");
        if let Epilogue::Residual(residual) = self.epilogue {
            assert_eq!((residual.rows(), residual.width()), (x.rows(), weights.outputs()), "residual");
        }
        let blocks = cut(x.groups(), GROUPS);
        let shares = groups(blocks, weights.count());
        parallel::each(blocks * shares, |task| {
            let rows = part(x.groups(), blocks, task / shares);
            self.block(rows, part(weights.count(), shares, task % shares));
        });
    }

    /// The outputs of some groups of rows and some panels; no two tasks share any.
    fn block(&self, rows: Range<usize>, panels: Range<usize>) {
        let unit = self.unit.enter();
        let mut sums = Sums([[0.0; PANEL]; TOGETHER * SIDE]);
        for panel in panels {
            let weights = self.weights.panel(panel);
            for group in rows.clone().step_by(TOGETHER) {
                let x = [group, (group + 1).min(rows.end - 1)].map(|group| self.x.group(group));
                unit.sum(&x[..(rows.end - group).min(TOGETHER)], weights, &mut sums);
                self.finish(group, rows.end, panel, &mut sums);
            }
        }
    }

    /// Adds the bias to the sums, does what follows and stores them.
    fn finish(&self, group: usize, end: usize, panel: usize, sums: &mut Sums) {
        let first = group * SIDE;
        let rows = self.x.rows().min(end * SIDE).min(first + TOGETHER * SIDE) - first;
        let after = After::new(self.epilogue, first, panel * PANEL);
        let bias = self.weights.bias(panel);
        let place = match self.target {
            Target::Full(out, stride) => {
                Place::Full(out.pointer().wrapping_add(first * stride + panel * PANEL), stride)
            }
            Target::Narrow(out, deep) => {
                Place::Narrow(out.pointer().wrapping_add(group * deep + panel), deep)
            }
        };
        by_isa!(Isa::detect(), store(sums: &mut Sums = sums, rows: usize = rows, bias: &[f32; PANEL] = bias,
            after: After<'_> = after, place: Place = place));
    }
}

/// The first result of some rows and a panel, and the way to the next row, or group of rows.
#[derive(Clone, Copy)]
enum Place {
    Full(*mut f32, usize),
    Narrow(*mut Block, usize),
}

#[inline(always)]
fn store<const FMA: bool>(sums: &mut Sums, rows: usize, bias: &[f32; PANEL], after: After<'_>, place: Place) {
    finish::<FMA>(sums.0.as_mut_ptr().cast(), PANEL, rows, bias, after);
    for (row, values) in sums.0[..rows].iter().enumerate() {
        #[allow(unsafe_code, reason = "tasks write disjoint parts of one buffer")]
        // SAFETY: these rows of this panel lie in the target, whose rows have room for whole
        // panels, and the caller's task alone writes them, see `Product::block`.
        unsafe {
            match place {
                Place::Full(out, stride) => *out.add(row * stride).cast::<[f32; PANEL]>() = *values,
                Place::Narrow(out, deep) => {
                    let line = out.add(row / SIDE * deep).cast::<[u16; DEPTH]>().add(row % SIDE);
                    narrow_line::<FMA>(values, &mut *line);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::super::math::Activation;
    use super::super::{narrow, widen};
    use super::*;
    use crate::kernels::samples::values;

    fn packed(inputs: usize, outputs: usize) -> (Panels, Vec<f32>, Vec<f32>) {
        let (weight, bias) = (values(inputs * outputs, 1), values(outputs, 2));
        let mut panels = Panels::zeros(inputs, outputs);
        let half = outputs / 2;
        panels.pack(0, &weight[..half * inputs], &bias[..half]);
        panels.pack(half, &weight[half * inputs..], &bias[half..]);
        (panels, weight, bias)
    }

    fn narrowed(x: &Matrix) -> Rows {
        let mut rows = Rows::default();
        narrow_rows(Isa::detect(), x, &mut rows);
        rows
    }

    /// Of the narrowed operands, so that only the sums round.
    fn reference(x: &[f32], weight: &[f32], bias: f32) -> f64 {
        let cut = |x: f32| f64::from(widen(narrow(x)));
        x.iter().zip(weight).map(|(x, w)| cut(*x) * cut(*w)).sum::<f64>() + f64::from(bias)
    }

    const SHAPES: [(usize, usize, usize); 7] =
        [(1, 1, 1), (3, 8, 5), (16, 32, 32), (17, 33, 64), (33, 100, 70), (300, 48, 40), (50, 2000, 33)];

    #[test]
    fn products_are_near_those_of_f64() {
        for unit in Unit::available() {
            for (rows, inputs, outputs) in SHAPES {
                let (panels, weight, bias) = packed(inputs, outputs);
                let x = Matrix::from_rows(&values(rows * inputs, 3), inputs);
                let residual = Matrix::from_rows(&values(rows * outputs, 4), outputs);
                let narrow = narrowed(&x);
                let mut out = [(); 3].map(|()| Matrix::default());
                multiply(unit, &narrow, &panels, Epilogue::Bias, &mut out[0]);
                multiply(unit, &narrow, &panels, Epilogue::Residual(&residual), &mut out[1]);
                multiply(unit, &narrow, &panels, Epilogue::Activation(Activation::Relu), &mut out[2]);
                for (row, column) in (0..rows).flat_map(|row| (0..outputs).map(move |column| (row, column))) {
                    let sum = reference(x.row(row), &weight[column * inputs..][..inputs], bias[column]);
                    let expected = [sum, sum + f64::from(residual.row(row)[column]), sum.max(0.0)];
                    for (which, expected) in expected.into_iter().enumerate() {
                        let error = (f64::from(out[which].row(row)[column]) - expected).abs();
                        let allowed = 1e-5 + 1e-7 * inputs as f64;
                        assert!(error < allowed, "{unit:?} {rows} {inputs} {outputs} {which}: {error}");
                    }
                }
            }
        }
    }

    #[test]
    fn narrow_results_are_those_of_the_matrix() {
        for unit in Unit::available() {
            for (rows, inputs, outputs) in SHAPES {
                let (panels, _, _) = packed(inputs, outputs);
                let x = narrowed(&Matrix::from_rows(&values(rows * inputs, 6), inputs));
                let gelu = Epilogue::Activation(Activation::Gelu);
                let (mut full, mut short) = (Matrix::default(), Rows::default());
                multiply(unit, &x, &panels, gelu, &mut full);
                multiply_narrow(unit, &x, &panels, gelu, &mut short);
                let full = narrowed(&full);
                for row in 0..rows {
                    assert_eq!(short.row(row), full.row(row), "{unit:?} {rows} {inputs} {outputs}");
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn a_row_does_not_depend_on_the_others(rows in 1usize..600, at in 0usize..600, threads in 1usize..4) {
            let (at, inputs, outputs) = (at % rows, 200, 65);
            let (panels, _, _) = packed(inputs, outputs);
            let x = Matrix::from_rows(&values(rows * inputs, 5), inputs);
            let alone = narrowed(&Matrix::from_rows(x.row(at), inputs));
            let x = narrowed(&x);
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            for unit in Unit::available() {
                let (mut many, mut one) = (Matrix::default(), Matrix::default());
                let gelu = Epilogue::Activation(Activation::Gelu);
                pool.install(|| multiply(unit, &x, &panels, gelu, &mut many));
                multiply(unit, &alone, &panels, gelu, &mut one);
                prop_assert_eq!(many.row(at), one.row(0));
            }
        }
    }
}
