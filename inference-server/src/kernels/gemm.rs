//! y = x·Wᵀ + b with what follows it, for weights that are packed once.
//!
//! The scheme is that of Goto and van de Geijn (2008), "Anatomy of high-performance matrix multiplication": a block of
//! inputs stays in the second-level cache while the weights pass by in panels of [`PANEL`] columns, the next of them
//! being fetched while one is used. The inner dimension is cut into chunks that depend on its length alone, so an
//! output is the same sum in the same order whatever rows share the call.

pub(super) mod tile;

use std::ops::Range;

use super::isa::{Isa, by_isa};
use super::math::{Activation, activate};
use super::matrix::{Line, Matrix, PANEL};
use super::parallel::{self, Shared};
use tile::{ROWS, Tile};

/// Rows of a block: with a chunk of the inner dimension they and two panels fit a second-level cache of 2 MiB.
const BLOCK: usize = 20 * ROWS;
/// Length of a chunk of the inner dimension at most.
const CHUNK: usize = 896;

/// The weights and bias of a linear layer, packed.
///
/// Panel by panel, then input by input, then the panel's columns; the last panel is filled up with zeros.
#[derive(Debug)]
pub struct Panels {
    lines: Vec<Line>,
    bias: Vec<f32>,
    inputs: usize,
    outputs: usize,
}

/// What is done to x·Wᵀ + b before it is stored.
#[derive(Debug, Clone, Copy)]
pub enum Epilogue<'a> {
    /// Nothing.
    Bias,
    /// An activation.
    Activation(Activation),
    /// The sum with this matrix.
    Residual(&'a Matrix),
}

impl Panels {
    /// Zero weights of a layer from `inputs` to `outputs`.
    pub fn zeros(inputs: usize, outputs: usize) -> Self {
        let columns = outputs.next_multiple_of(PANEL);
        Self { lines: Line::zeros(columns * inputs), bias: vec![0.0; columns], inputs, outputs }
    }

    /// Packs the rows of W (one for each output, row-major) and their biases from output `first` on.
    pub fn pack(&mut self, first: usize, weight: &[f32], bias: &[f32]) {
        let inputs = self.inputs;
        assert_eq!(weight.len(), bias.len() * inputs, "weights are outputs × inputs");
        self.bias[first..first + bias.len()].copy_from_slice(bias);
        let data = Line::floats_mut(&mut self.lines);
        for (offset, row) in weight.chunks_exact(inputs).enumerate() {
            let (panel, column) = ((first + offset) / PANEL, (first + offset) % PANEL);
            let target = &mut data[panel * PANEL * inputs..][..PANEL * inputs];
            for (line, value) in target.chunks_exact_mut(PANEL).zip(row) {
                line[column] = *value;
            }
        }
    }

    /// Length of an input row.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Length of an output row.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    fn count(&self) -> usize {
        self.bias.len() / PANEL
    }

    fn panel(&self, index: usize) -> &[f32] {
        &Line::floats(&self.lines)[index * PANEL * self.inputs..][..PANEL * self.inputs]
    }
}

/// `out` = epilogue(x·Wᵀ + b), on the threads of the current pool.
pub fn multiply(isa: Isa, x: &Matrix, weights: &Panels, epilogue: Epilogue<'_>, out: &mut Matrix) {
    assert_eq!(x.width(), weights.inputs, "inputs of the layer");
    if let Epilogue::Residual(residual) = epilogue {
        assert_eq!((residual.rows(), residual.width()), (x.rows(), weights.outputs), "residual");
    }
    out.resize(x.rows(), weights.outputs);
    let blocks = cut(x.rows(), BLOCK);
    let groups = groups(blocks, weights.count());
    let stride = out.stride();
    let shared = Shared::new(out.data_mut());
    let product = Product { isa, x, weights, epilogue, out: shared, stride };
    parallel::each(blocks * groups, |task| {
        product.block(part(x.rows(), blocks, task / groups), part(weights.count(), groups, task % groups));
    });
}

/// Pieces of at most `most`, as equal as can be.
pub(super) fn cut(length: usize, most: usize) -> usize {
    length.div_ceil(most)
}

/// The piece `index` of `pieces` about equal ones.
pub(super) fn part(length: usize, pieces: usize, index: usize) -> Range<usize> {
    length * index / pieces..length * (index + 1) / pieces
}

/// Groups of panels, so that there are some tasks for each thread.
fn groups(blocks: usize, panels: usize) -> usize {
    let threads = parallel::threads();
    if threads == 1 { 1 } else { (4 * threads).div_ceil(blocks.max(1)).min(panels) }
}

struct Product<'a> {
    isa: Isa,
    x: &'a Matrix,
    weights: &'a Panels,
    epilogue: Epilogue<'a>,
    out: Shared,
    stride: usize,
}

impl Product<'_> {
    /// The outputs of some rows and panels; no two tasks share any.
    #[allow(unsafe_code, reason = "tasks write disjoint parts of one matrix")]
    fn block(&self, rows: Range<usize>, panels: Range<usize>) {
        let depth = self.weights.inputs;
        let chunks = cut(depth, CHUNK);
        let tiles = cut(rows.len(), ROWS);
        for chunk in 0..chunks {
            let span = part(depth, chunks, chunk);
            for panel in panels.clone() {
                let weights = &self.weights.panel(panel)[span.start * PANEL..span.end * PANEL];
                // A wrapping pointer: prefetching never faults, and past the last panel it only misses.
                let next = weights.as_ptr().wrapping_add(depth * PANEL);
                let share = weights.len().div_ceil(tiles);
                for index in 0..tiles {
                    let part = part(rows.len(), tiles, index);
                    let first = rows.start + part.start;
                    // SAFETY: the row and the panel are inside `out`, whose rows have room for whole panels.
                    let out = unsafe { self.out.pointer().add(first * self.stride + panel * PANEL) };
                    let tile = Tile {
                        inputs: self.x.data()[first * self.x.stride() + span.start..].as_ptr(),
                        input_stride: self.x.stride(),
                        weights: weights.as_ptr(),
                        depth: span.len(),
                        out,
                        out_stride: self.stride,
                        accumulate: chunk > 0,
                        ahead: next.wrapping_add(share * index),
                        ahead_step: share.div_ceil(span.len()),
                    };
                    // SAFETY: `part` rows of x and of out exist from these pointers on, the panel holds
                    // `depth` lines, and this task alone writes this part of `out`.
                    unsafe { tile.run(self.isa, part.len()) };
                    if chunk + 1 == chunks {
                        self.finish(first, part.len(), panel, out);
                    }
                }
            }
        }
    }

    fn finish(&self, first: usize, rows: usize, panel: usize, out: *mut f32) {
        let column = panel * PANEL;
        let bias: &[f32; PANEL] = self.weights.bias[column..].first_chunk().expect("a bias for whole panels");
        let after = match self.epilogue {
            Epilogue::Bias => After::Nothing,
            Epilogue::Activation(activation) => After::Activation(activation),
            Epilogue::Residual(matrix) => {
                After::Residual(&matrix.data()[first * matrix.stride() + column..], matrix.stride())
            }
        };
        let stride = self.stride;
        by_isa!(self.isa, finish(out: *mut f32 = out, stride: usize = stride, rows: usize = rows,
            bias: &[f32; PANEL] = bias, after: After<'_> = after));
    }
}

#[derive(Clone, Copy)]
enum After<'a> {
    Nothing,
    Activation(Activation),
    Residual(&'a [f32], usize),
}

/// Adds the bias to a tile that was just stored, and does what follows.
#[inline(always)]
fn finish<const FMA: bool>(out: *mut f32, stride: usize, rows: usize, bias: &[f32; PANEL], after: After<'_>) {
    for row in 0..rows {
        #[allow(unsafe_code, reason = "the tile is part of a matrix that other tasks write too")]
        // SAFETY: the caller owns these rows of this panel of the matrix, see `Product::block`.
        let values = unsafe { &mut *out.add(row * stride).cast::<[f32; PANEL]>() };
        for (value, bias) in values.iter_mut().zip(bias) {
            *value += bias;
        }
        match after {
            After::Nothing => {}
            After::Activation(activation) => activate::<FMA>(activation, values),
            After::Residual(residual, stride) => {
                for (value, other) in values.iter_mut().zip(&residual[row * stride..][..PANEL]) {
                    *value += other;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn values(count: usize, seed: u64) -> Vec<f32> {
        let mut state = seed.wrapping_mul(2).wrapping_add(0x9E37_79B9_7F4A_7C15);
        (0..count)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 40) as f32 / (1 << 23) as f32 - 1.0
            })
            .collect()
    }

    fn packed(inputs: usize, outputs: usize) -> (Panels, Vec<f32>, Vec<f32>) {
        let (weight, bias) = (values(inputs * outputs, 1), values(outputs, 2));
        let mut panels = Panels::zeros(inputs, outputs);
        let half = outputs / 2;
        panels.pack(0, &weight[..half * inputs], &bias[..half]);
        panels.pack(half, &weight[half * inputs..], &bias[half..]);
        (panels, weight, bias)
    }

    fn reference(x: &[f32], weight: &[f32], bias: f32) -> f64 {
        let sum: f64 = x.iter().zip(weight).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
        sum + f64::from(bias)
    }

    #[test]
    fn products_are_near_those_of_f64() {
        for isa in Isa::available() {
            for (rows, inputs, outputs) in [
                (1, 1, 1),
                (3, 8, 5),
                (14, 32, 32),
                (15, 33, 64),
                (29, 100, 70),
                (300, 48, 40),
                (17, 2000, 33),
            ] {
                let (panels, weight, bias) = packed(inputs, outputs);
                let x = Matrix::from_rows(&values(rows * inputs, 3), inputs);
                let residual = Matrix::from_rows(&values(rows * outputs, 4), outputs);
                let mut out = [(); 3].map(|()| Matrix::default());
                multiply(isa, &x, &panels, Epilogue::Bias, &mut out[0]);
                multiply(isa, &x, &panels, Epilogue::Residual(&residual), &mut out[1]);
                multiply(isa, &x, &panels, Epilogue::Activation(Activation::Relu), &mut out[2]);
                for (row, column) in (0..rows).flat_map(|row| (0..outputs).map(move |column| (row, column))) {
                    let sum = reference(x.row(row), &weight[column * inputs..][..inputs], bias[column]);
                    let expected = [sum, sum + f64::from(residual.row(row)[column]), sum.max(0.0)];
                    for (which, expected) in expected.into_iter().enumerate() {
                        let error = (f64::from(out[which].row(row)[column]) - expected).abs();
                        // Rounding grows with the length of the sum.
                        let allowed = 1e-5 + 3e-8 * inputs as f64;
                        assert!(error < allowed, "{isa:?} {rows} {inputs} {outputs} {which}: {error}");
                    }
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn a_row_does_not_depend_on_the_others(rows in 1usize..600, at in 0usize..600, threads in 1usize..4) {
            let (at, inputs, outputs) = (at % rows, 1000, 65);
            let (panels, _, _) = packed(inputs, outputs);
            let x = Matrix::from_rows(&values(rows * inputs, 5), inputs);
            let alone = Matrix::from_rows(x.row(at), inputs);
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            for isa in Isa::available() {
                let (mut many, mut one) = (Matrix::default(), Matrix::default());
                let gelu = Epilogue::Activation(Activation::Gelu);
                pool.install(|| multiply(isa, &x, &panels, gelu, &mut many));
                multiply(isa, &alone, &panels, gelu, &mut one);
                prop_assert_eq!(many.row(at), one.row(0));
            }
        }
    }
}
