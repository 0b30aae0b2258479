//! GEMM in bf16, y = x·Wᵀ + b with a fused epilogue; the counterpart of [`crate::kernels::gemm`].
//!
//! An output is summed over all inputs in registers, whatever rows share the call. Results are f32,
//! or rounded at once to bf16 for the next product, which saves a pass over the wide activations of
//! a feed-forward block.

use std::ops::Range;

use super::panels::Panels;
use super::rows::{Bf16Rows, narrow_line, narrow_rows};
use super::tile::{GROUPS_TOGETHER, PanelSums, TILE_DEPTH, TILE_ROWS, TileData};
use super::unit::Unit;
use crate::kernels::gemm::{Epilogue, TileEpilogue, apply_epilogue};
use crate::kernels::isa::{Isa, by_isa};
use crate::kernels::matrix::{Matrix, PANEL};
use crate::kernels::parallel::{self, SyncPtr};

/// Largest number of groups of rows of a task (MC). 256 rows of 768 inputs are 384 KiB of bf16, of
/// 3,072 inputs 1.5 MiB: they stay in an L2 of 2 MiB (Sapphire Rapids) while the weights stream by.
const TASK_GROUPS: usize = 16;

/// `out` = epilogue(x·Wᵀ + b), on the threads of the current pool.
///
/// # Panics
/// If the shapes of the operands do not agree.
pub(crate) fn multiply(unit: Unit, x: &Bf16Rows, weights: &Panels, epilogue: Epilogue<'_>, out: &mut Matrix) {
    out.resize(x.rows(), weights.outputs());
    let stride = out.stride();
    let target = Target::F32 { out: SyncPtr::new(out.data_mut()), stride };
    Product { unit, x, weights, epilogue, target }.run();
}

/// Like [`multiply`], with the result rounded to bf16 for the next product.
///
/// # Panics
/// If the shapes of the operands do not agree.
pub(crate) fn multiply_narrow(
    unit: Unit,
    x: &Bf16Rows,
    weights: &Panels,
    epilogue: Epilogue<'_>,
    out: &mut Bf16Rows,
) {
    out.resize(x.rows(), weights.outputs());
    let depth_tiles = out.depth_tiles();
    let target = Target::Bf16 { out: SyncPtr::new(out.tiles_mut()), depth_tiles };
    Product { unit, x, weights, epilogue, target }.run();
}

/// Checks that an instruction set gives the sums of plain Rust to within 1e-4, for one product that
/// uses every register. Called when a model is loaded.
pub(crate) fn check(unit: Unit) -> bool {
    // A pair of full groups, and a half-empty one by itself.
    const ROWS: usize = 40;
    const INPUTS: usize = 96;
    let mut weights = Panels::zeros(INPUTS, PANEL);
    weights.pack(0, &numbers(INPUTS * PANEL), &numbers(PANEL));
    let mut x = Bf16Rows::default();
    narrow_rows(Isa::detect(), &Matrix::from_rows(&numbers(ROWS * INPUTS), INPUTS), &mut x);
    let [expected, got] = [Unit::portable(), unit].map(|unit| {
        let mut out = Matrix::default();
        multiply(unit, &x, &weights, Epilogue::Bias, &mut out);
        out
    });
    (0..ROWS).all(|row| expected.row(row).iter().zip(got.row(row)).all(|(a, b)| (a - b).abs() < 1e-4))
}

/// Numbers from -1 to 1 that repeat only after 101, a prime, so that no two rows are alike.
fn numbers(count: usize) -> Vec<f32> {
    (0..count).map(|index| (index * 37 % 101) as f32 / 50.0 - 1.0).collect()
}

/// Destination of the results.
#[derive(Clone, Copy)]
enum Target {
    /// A matrix, whose rows are `stride` floats apart.
    F32 { out: SyncPtr<f32>, stride: usize },
    /// Rows of bf16, of `depth_tiles` tiles for each group.
    Bf16 { out: SyncPtr<TileData>, depth_tiles: usize },
}

struct Product<'a> {
    unit: Unit,
    x: &'a Bf16Rows,
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
        parallel::each_block(x.groups(), TASK_GROUPS, weights.count(), |groups, panels| {
            self.block(groups, panels);
        });
    }

    /// Computes the outputs of some groups of rows and some panels; no two tasks share any.
    fn block(&self, groups: Range<usize>, panels: Range<usize>) {
        // For the task and not for the process: AMX registers belong to a thread, and rayon chooses
        // it.
        let unit = self.unit.enter();
        let mut sums = PanelSums([[0.0; PANEL]; GROUPS_TOGETHER * TILE_ROWS]);
        for panel in panels {
            let weights = self.weights.panel(panel);
            for group in groups.clone().step_by(GROUPS_TOGETHER) {
                // The second group is named even where there is none, and cut off below: no branch
                // in the loop.
                let x = [group, (group + 1).min(groups.end - 1)].map(|group| self.x.group(group));
                unit.sum(&x[..(groups.end - group).min(GROUPS_TOGETHER)], weights, &mut sums);
                self.finish(group, groups.end, panel, &mut sums);
            }
        }
    }

    /// Applies bias and epilogue to the sums of the groups from `group` on, and stores them.
    fn finish(&self, group: usize, end: usize, panel: usize, sums: &mut PanelSums) {
        let first = group * TILE_ROWS;
        let rows = self.x.rows().min(end * TILE_ROWS).min(first + GROUPS_TOGETHER * TILE_ROWS) - first;
        let epilogue = TileEpilogue::new(self.epilogue, first, panel * PANEL);
        let bias = self.weights.bias(panel);
        let place = match self.target {
            Target::F32 { out, stride } => {
                Place::F32 { out: out.pointer().wrapping_add(first * stride + panel * PANEL), stride }
            }
            Target::Bf16 { out, depth_tiles } => {
                Place::Bf16 { out: out.pointer().wrapping_add(group * depth_tiles + panel), depth_tiles }
            }
        };
        by_isa!(Isa::detect(), store(sums: &mut PanelSums = sums, rows: usize = rows,
            bias: &[f32; PANEL] = bias, epilogue: TileEpilogue<'_> = epilogue, place: Place = place));
    }
}

// A panel of results is exactly one tile of activations of the next product.
const _: () = assert!(TILE_DEPTH == PANEL);

/// Address of the first result of some rows and a panel.
#[derive(Clone, Copy)]
enum Place {
    F32 { out: *mut f32, stride: usize },
    Bf16 { out: *mut TileData, depth_tiles: usize },
}

#[inline(always)]
fn store<const FMA: bool>(
    sums: &mut PanelSums,
    rows: usize,
    bias: &[f32; PANEL],
    epilogue: TileEpilogue<'_>,
    place: Place,
) {
    apply_epilogue::<FMA>(sums.0.as_mut_ptr().cast(), PANEL, rows, bias, epilogue);
    for (row, values) in sums.0[..rows].iter().enumerate() {
        #[allow(unsafe_code, reason = "tasks write disjoint parts of one buffer")]
        // SAFETY: `finish` made `place` the address of this panel in rows that exist: a matrix has
        // room for whole panels, and rows of bf16 have a tile for each panel, with a line for each
        // of its TILE_ROWS rows. The caller's task alone writes these rows of this panel, see
        // `Product::block`.
        unsafe {
            match place {
                Place::F32 { out, stride } => *out.add(row * stride).cast::<[f32; PANEL]>() = *values,
                Place::Bf16 { out, depth_tiles } => {
                    let tile = out.add(row / TILE_ROWS * depth_tiles);
                    let line = tile.cast::<[u16; TILE_DEPTH]>().add(row % TILE_ROWS);
                    narrow_line::<FMA>(values, &mut *line);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::convert::{narrow, widen};
    use super::*;
    use crate::kernels::math::Activation;
    use crate::kernels::samples::values;

    fn packed(inputs: usize, outputs: usize) -> (Panels, Vec<f32>, Vec<f32>) {
        let (weight, bias) = (values(inputs * outputs, 1), values(outputs, 2));
        let mut panels = Panels::zeros(inputs, outputs);
        let half = outputs / 2;
        panels.pack(0, &weight[..half * inputs], &bias[..half]);
        panels.pack(half, &weight[half * inputs..], &bias[half..]);
        (panels, weight, bias)
    }

    fn narrowed(x: &Matrix) -> Bf16Rows {
        let mut rows = Bf16Rows::default();
        narrow_rows(Isa::detect(), x, &mut rows);
        rows
    }

    /// The sum in f64 of the rounded operands, so that only the rounding of sums is left.
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
                let (mut full, mut short) = (Matrix::default(), Bf16Rows::default());
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
