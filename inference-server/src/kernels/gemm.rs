//! y = x·Wᵀ + b with what follows it, for weights that are packed once.
//!
//! The scheme is that of Goto and van de Geijn (2008), "Anatomy of high-performance matrix
//! multiplication": a block of inputs stays in the second-level cache while the weights pass by in
//! strips of 16 columns, the next of them being fetched while one is used. The inner dimension is
//! cut into chunks that depend on its length alone, so an output is the same sum in the same order
//! whatever rows share the call.

pub(super) mod tile;

use std::ops::Range;

use super::isa::{Isa, by_isa};
use super::lines::Lines;
use super::math::{Activation, activate};
use super::matrix::{Line, Matrix, PANEL, STRIP};
use super::parallel::{self, Shared};
use tile::{Size, Tile};

/// How a product is cut up for the caches.
struct Cut {
    /// Rows of a block at most; a chunk of them stays in the second-level cache.
    block: usize,
    /// Length of a chunk of the inner dimension at most.
    chunk: usize,
}

impl Cut {
    fn of(isa: Isa) -> Self {
        let Size { rows, columns } = Size::of(isa);
        // With two strips at a time the processor has a second-level cache of 1 to 2 MiB, which
        // weights and inputs stream from; with one, of 256 KiB or more, and a chunk of a strip has
        // to stay in the first-level cache.
        if columns > STRIP {
            Self { block: 20 * rows, chunk: 896 }
        } else {
            Self { block: 32 * rows, chunk: 256 }
        }
    }
}

/// The weights and bias of a linear layer, packed.
///
/// Strip by strip, then input by input, then the strip's columns; the last panel is filled up with
/// zeros.
#[derive(Debug)]
pub(crate) struct Panels {
    lines: Lines,
    bias: Vec<f32>,
    inputs: usize,
    outputs: usize,
}

/// What is done to x·Wᵀ + b before it is stored.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Epilogue<'a> {
    /// Nothing.
    Bias,
    /// An activation.
    Activation(Activation),
    /// The sum with this matrix.
    Residual(&'a Matrix),
}

impl Panels {
    /// Zero weights of a layer from `inputs` to `outputs`.
    ///
    /// # Panics
    /// When the size overflows.
    pub(crate) fn zeros(inputs: usize, outputs: usize) -> Self {
        let columns = outputs.checked_next_multiple_of(PANEL);
        let floats = columns.and_then(|columns| columns.checked_mul(inputs));
        let bytes = floats.and_then(|floats| floats.checked_mul(size_of::<f32>()));
        let (Some(columns), Some(bytes)) = (columns, bytes) else {
            panic!("a layer from {inputs} to {outputs} fits into no memory");
        };
        Self { lines: Lines::zeros(bytes), bias: vec![0.0; columns], inputs, outputs }
    }

    /// Packs the rows of W (one for each output, row-major) and their biases from output `first`
    /// on.
    pub(crate) fn pack(&mut self, first: usize, weight: &[f32], bias: &[f32]) {
        let inputs = self.inputs;
        assert_eq!(weight.len(), bias.len() * inputs, "weights are outputs × inputs");
        self.bias[first..first + bias.len()].copy_from_slice(bias);
        let data = Line::floats_mut(&mut self.lines);
        for (offset, row) in weight.chunks_exact(inputs).enumerate() {
            let (strip, column) = ((first + offset) / STRIP, (first + offset) % STRIP);
            let target = &mut data[strip * STRIP * inputs..][..STRIP * inputs];
            for (line, value) in target.as_chunks_mut::<STRIP>().0.iter_mut().zip(row) {
                line[column] = *value;
            }
        }
    }

    /// The weights of one output.
    pub(crate) fn row(&self, output: usize, row: &mut [f32]) {
        let strip = &self.from(output / STRIP * STRIP)[..STRIP * self.inputs];
        for (x, line) in row.iter_mut().zip(strip.as_chunks::<STRIP>().0) {
            *x = line[output % STRIP];
        }
    }

    /// Length of an input row.
    pub(crate) fn inputs(&self) -> usize {
        self.inputs
    }

    /// Length of an output row.
    pub(crate) fn outputs(&self) -> usize {
        self.outputs
    }

    fn count(&self) -> usize {
        self.bias.len() / PANEL
    }

    /// The weights from a column on, which must begin a strip.
    fn from(&self, column: usize) -> &[f32] {
        &Line::floats(&self.lines)[column * self.inputs..]
    }
}

/// `out` = epilogue(x·Wᵀ + b), on the threads of the current pool.
pub(crate) fn multiply(isa: Isa, x: &Matrix, weights: &Panels, epilogue: Epilogue<'_>, out: &mut Matrix) {
    assert_eq!(x.width(), weights.inputs, "inputs of the layer");
    if let Epilogue::Residual(residual) = epilogue {
        assert_eq!((residual.rows(), residual.width()), (x.rows(), weights.outputs), "residual");
    }
    out.resize(x.rows(), weights.outputs);
    let blocks = cut(x.rows(), Cut::of(isa).block);
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
pub(super) fn groups(blocks: usize, panels: usize) -> usize {
    let threads = parallel::threads();
    if threads == 1 { 1 } else { (4 * threads).div_ceil(blocks.max(1)).min(panels) }
}

struct Product<'a> {
    isa: Isa,
    x: &'a Matrix,
    weights: &'a Panels,
    epilogue: Epilogue<'a>,
    out: Shared<f32>,
    stride: usize,
}

impl Product<'_> {
    /// The outputs of some rows and panels; no two tasks share any.
    fn block(&self, rows: Range<usize>, panels: Range<usize>) {
        let depth = self.weights.inputs;
        let chunks = cut(depth, Cut::of(self.isa).chunk);
        let columns = Size::of(self.isa).columns;
        for chunk in 0..chunks {
            let span = part(depth, chunks, chunk);
            let stage = Stage { span, first: chunk == 0, last: chunk + 1 == chunks };
            for column in (panels.start * PANEL..panels.end * PANEL).step_by(columns) {
                self.tiles(rows.clone(), column, &stage);
            }
        }
    }

    /// All rows of a block times one or two strips.
    #[allow(unsafe_code, reason = "tasks write disjoint parts of one matrix")]
    fn tiles(&self, rows: Range<usize>, column: usize, stage: &Stage) {
        let (depth, span) = (self.weights.inputs, &stage.span);
        let Size { rows: most, columns } = Size::of(self.isa);
        let weights = &self.weights.from(column)[span.start * STRIP..];
        // A wrapping pointer: prefetching never faults, and past the last panel it only misses.
        let next = weights.as_ptr().wrapping_add(columns * depth);
        let tiles = cut(rows.len(), most);
        let share = (columns * span.len()).div_ceil(tiles);
        for index in 0..tiles {
            let part = part(rows.len(), tiles, index);
            let first = rows.start + part.start;
            // SAFETY: the row and the columns are inside `out`, whose rows have room for whole
            // panels.
            let out = unsafe { self.out.pointer().add(first * self.stride + column) };
            let tile = Tile {
                inputs: self.x.data()[first * self.x.stride() + span.start..].as_ptr(),
                input_stride: self.x.stride(),
                weights: weights.as_ptr(),
                strip_stride: depth * STRIP,
                depth: span.len(),
                out,
                out_stride: self.stride,
                accumulate: !stage.first,
                ahead: next.wrapping_add(share * index),
                ahead_step: share.div_ceil(span.len()),
            };
            // SAFETY: `part` rows of x and of out exist from these pointers on, the strips hold as
            // many lines as there are inputs, and this task alone writes this part of `out`.
            unsafe { tile.run(self.isa, part.len()) };
            if stage.last {
                self.finish(first, part.len(), column, out);
            }
        }
    }

    fn finish(&self, first: usize, rows: usize, column: usize, out: *mut f32) {
        let bias = &self.weights.bias[column..][..Size::of(self.isa).columns];
        let after = After::new(self.epilogue, first, column);
        let stride = self.stride;
        by_isa!(self.isa, finish(out: *mut f32 = out, stride: usize = stride, rows: usize = rows,
            bias: &[f32] = bias, after: After<'_> = after));
    }
}

/// A chunk of the inner dimension.
struct Stage {
    span: Range<usize>,
    first: bool,
    last: bool,
}

/// What is done to the sums of some rows and a panel.
#[derive(Clone, Copy)]
pub(super) enum After<'a> {
    /// Only the bias is added.
    Nothing,
    /// An activation.
    Activation(Activation),
    /// The sum with numbers that begin here, and the floats from one of their rows to the next.
    Residual(&'a [f32], usize),
}

impl<'a> After<'a> {
    /// That of an epilogue for results from this row and column on.
    pub(super) fn new(epilogue: Epilogue<'a>, row: usize, column: usize) -> Self {
        match epilogue {
            Epilogue::Bias => Self::Nothing,
            Epilogue::Activation(activation) => Self::Activation(activation),
            Epilogue::Residual(matrix) => {
                Self::Residual(&matrix.data()[row * matrix.stride() + column..], matrix.stride())
            }
        }
    }
}

/// Adds the bias to a tile that was just stored, as wide as there are biases, and does what
/// follows.
#[inline(always)]
pub(super) fn finish<const FMA: bool>(
    out: *mut f32,
    stride: usize,
    rows: usize,
    bias: &[f32],
    after: After<'_>,
) {
    for row in 0..rows {
        for (strip, bias) in bias.as_chunks::<STRIP>().0.iter().enumerate() {
            let column = strip * STRIP;
            #[allow(unsafe_code, reason = "the tile is part of a matrix that other tasks write too")]
            // SAFETY: the caller owns these rows of these columns of the matrix, see
            // `Product::block`.
            let values = unsafe { &mut *out.add(row * stride + column).cast::<[f32; STRIP]>() };
            for (value, bias) in values.iter_mut().zip(bias) {
                *value += bias;
            }
            match after {
                After::Nothing => {}
                After::Activation(activation) => activate::<FMA>(activation, values),
                After::Residual(residual, stride) => {
                    for (value, other) in values.iter_mut().zip(&residual[row * stride + column..][..STRIP]) {
                        *value += other;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kernels::samples::values;

    #[test]
    fn a_layer_that_fits_into_no_memory_is_refused() {
        for (inputs, outputs) in [(usize::MAX, 1), (1, usize::MAX), (1 << 40, 1 << 40)] {
            let refused = std::panic::catch_unwind(|| Panels::zeros(inputs, outputs)).unwrap_err();
            let said = refused.downcast_ref::<String>().unwrap();
            assert!(said.contains("fits into no memory"), "{said}");
        }
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
