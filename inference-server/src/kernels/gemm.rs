//! GEMM in f32, y = x·Wᵀ + b, with weights that are packed once and a fused epilogue.
//!
//! The scheme is that of Goto and van de Geijn (2008), "Anatomy of high-performance matrix
//! multiplication", and of BLIS (Van Zee and van de Geijn 2015): weights are packed into
//! micro-panels of [`STRIP`] columns, loops around the micro-kernel block the operands for the
//! caches, and the micro-kernel keeps a register tile of sums. A block of activations stays in L2
//! while the packed weights stream by, the next strip being prefetched while one is used.
//!
//! The inner dimension is cut into chunks that depend on its length alone, so an output is the same
//! sum in the same order whatever rows share the call.

pub(super) mod micro_kernel;

use std::ops::Range;

use super::huge_pages::WeightBuffer;
use super::isa::{Isa, by_isa};
use super::math::{Activation, activate};
use super::matrix::{CacheLine, Matrix, PANEL, STRIP};
use super::parallel::{self, SyncPtr, piece, pieces};
use micro_kernel::{Tile, TileSize};

/// Cache blocking of a product, in BLIS's letters.
struct CacheBlocking {
    /// Largest number of rows of a task; with `kc` of their columns they stay in L2.
    mc: usize,
    /// Largest length of a chunk of the inner dimension.
    kc: usize,
}

impl CacheBlocking {
    fn of(isa: Isa) -> Self {
        let TileSize { rows, columns } = TileSize::of(isa);
        if columns > STRIP {
            // AVX-512: 280 rows × 896 floats are 1 MB, half of an L2 of 2 MiB (Sapphire Rapids).
            // The strips of weights are too long for L1 (2 × 56 KiB) and stream from L2.
            Self { mc: 20 * rows, kc: 896 }
        } else {
            // AVX2: 192 rows × 256 floats are 192 KiB, which fits even an L2 of 256 KiB (Haswell).
            // A chunk of a strip is 16 KiB and stays in L1 for all rows of the block.
            Self { mc: 32 * rows, kc: 256 }
        }
    }
}

/// Weights and bias of a linear layer, packed.
///
/// Strip by strip of 16 outputs, then input by input, then the strip's outputs: one cache line for
/// each step of the inner dimension. Outputs that fill up the last panel are zero.
#[derive(Debug)]
pub(crate) struct Panels {
    lines: WeightBuffer,
    bias: Vec<f32>,
    inputs: usize,
    outputs: usize,
}

/// Operation applied to x·Wᵀ + b while the results are in cache.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Epilogue<'a> {
    /// Nothing more.
    Bias,
    /// An activation.
    Activation(Activation),
    /// The sum with a matrix of the shape of the result.
    Residual(&'a Matrix),
}

impl Panels {
    /// Zero weights of a layer from `inputs` to `outputs`.
    ///
    /// # Panics
    /// If the size overflows.
    pub(crate) fn zeros(inputs: usize, outputs: usize) -> Self {
        let columns = outputs.checked_next_multiple_of(PANEL);
        let floats = columns.and_then(|columns| columns.checked_mul(inputs));
        let bytes = floats.and_then(|floats| floats.checked_mul(size_of::<f32>()));
        let (Some(columns), Some(bytes)) = (columns, bytes) else {
            panic!("a layer of {inputs} inputs and {outputs} outputs exceeds the address space");
        };
        Self { lines: WeightBuffer::zeros(bytes), bias: vec![0.0; columns], inputs, outputs }
    }

    /// Packs rows of W (outputs × inputs, row-major) and their biases from output `first` on.
    pub(crate) fn pack(&mut self, first: usize, weight: &[f32], bias: &[f32]) {
        let inputs = self.inputs;
        assert_eq!(weight.len(), bias.len() * inputs, "weights are outputs × inputs");
        self.bias[first..first + bias.len()].copy_from_slice(bias);
        let data = CacheLine::floats_mut(&mut self.lines);
        for (offset, row) in weight.chunks_exact(inputs).enumerate() {
            let (strip, column) = ((first + offset) / STRIP, (first + offset) % STRIP);
            let target = &mut data[strip * STRIP * inputs..][..STRIP * inputs];
            for (line, value) in target.as_chunks_mut::<STRIP>().0.iter_mut().zip(row) {
                line[column] = *value;
            }
        }
    }

    /// Copies the weights of one output, unpacked, into `row`.
    pub(crate) fn row(&self, output: usize, row: &mut [f32]) {
        let strip = &self.packed_from(output / STRIP * STRIP)[..STRIP * self.inputs];
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

    /// Packed weights from a column on, which must begin a strip.
    fn packed_from(&self, column: usize) -> &[f32] {
        &CacheLine::floats(&self.lines)[column * self.inputs..]
    }
}

/// `out` = epilogue(x·Wᵀ + b), on the threads of the current pool.
///
/// # Panics
/// If the shapes of the operands do not agree.
pub(crate) fn multiply(isa: Isa, x: &Matrix, weights: &Panels, epilogue: Epilogue<'_>, out: &mut Matrix) {
    assert_eq!(x.width(), weights.inputs, "inputs of the layer");
    if let Epilogue::Residual(residual) = epilogue {
        assert_eq!((residual.rows(), residual.width()), (x.rows(), weights.outputs), "residual");
    }
    out.resize(x.rows(), weights.outputs);
    let stride = out.stride();
    let product = Product { isa, x, weights, epilogue, out: SyncPtr::new(out.data_mut()), stride };
    let mc = CacheBlocking::of(isa).mc;
    parallel::each_block(x.rows(), mc, weights.count(), |rows, panels| product.block(rows, panels));
}

struct Product<'a> {
    isa: Isa,
    x: &'a Matrix,
    weights: &'a Panels,
    epilogue: Epilogue<'a>,
    out: SyncPtr<f32>,
    stride: usize,
}

impl Product<'_> {
    /// Computes the outputs of some rows and panels; no two tasks share any.
    fn block(&self, rows: Range<usize>, panels: Range<usize>) {
        let depth = self.weights.inputs;
        // Even pieces, so that the last chunk is not a short one that spends its time on loading
        // and storing sums.
        let chunks = pieces(depth, CacheBlocking::of(self.isa).kc);
        let columns = TileSize::of(self.isa).columns;
        // Chunks outermost: the activations of a chunk stay in L2 for all panels of the task.
        for chunk in 0..chunks {
            let span = piece(depth, chunks, chunk);
            let chunk = DepthChunk { span, is_first: chunk == 0, is_last: chunk + 1 == chunks };
            for column in (panels.start * PANEL..panels.end * PANEL).step_by(columns) {
                self.tiles(rows.clone(), column, &chunk);
            }
        }
    }

    /// Multiplies all rows of a block by one or two strips, a register tile at a time.
    #[allow(unsafe_code, reason = "tasks write disjoint parts of one matrix")]
    fn tiles(&self, rows: Range<usize>, column: usize, chunk: &DepthChunk) {
        let (depth, span) = (self.weights.inputs, &chunk.span);
        let TileSize { rows: most, columns } = TileSize::of(self.isa);
        let weights = &self.weights.packed_from(column)[span.start * STRIP..];
        // The same chunk of the next strips. A wrapping pointer, as it may point past the last
        // panel: prefetching never faults.
        let next = weights.as_ptr().wrapping_add(columns * depth);
        let tiles = pieces(rows.len(), most);
        // Each tile prefetches its share of the next strips.
        let share = (columns * span.len()).div_ceil(tiles);
        for index in 0..tiles {
            let tile_rows = piece(rows.len(), tiles, index);
            let first = rows.start + tile_rows.start;
            // SAFETY: `first` is a row of `out`, which has as many rows as x. Its rows have room
            // for whole panels, and `column` lies in one. So the address is inside the buffer.
            let out = unsafe { self.out.pointer().add(first * self.stride + column) };
            let tile = Tile {
                inputs: self.x.data()[first * self.x.stride() + span.start..].as_ptr(),
                input_stride: self.x.stride(),
                weights: weights.as_ptr(),
                strip_stride: depth * STRIP,
                depth: span.len(),
                out,
                out_stride: self.stride,
                accumulate: !chunk.is_first,
                prefetch: next.wrapping_add(share * index),
                prefetch_step: share.div_ceil(span.len()),
            };
            // SAFETY: `tile_rows` rows of x and of `out` begin at these pointers. The strips hold
            // `depth` lines each, of which `span` are within this chunk, and lines are aligned. No
            // other task writes these rows of these panels, see `block`.
            unsafe { tile.run(self.isa, tile_rows.len()) };
            if chunk.is_last {
                self.finish(first, tile_rows.len(), column, out);
            }
        }
    }

    /// Applies the epilogue to a tile whose sums are complete.
    fn finish(&self, first: usize, rows: usize, column: usize, out: *mut f32) {
        let bias = &self.weights.bias[column..][..TileSize::of(self.isa).columns];
        let epilogue = TileEpilogue::new(self.epilogue, first, column);
        let stride = self.stride;
        by_isa!(self.isa, apply_epilogue(out: *mut f32 = out, stride: usize = stride, rows: usize = rows,
            bias: &[f32] = bias, epilogue: TileEpilogue<'_> = epilogue));
    }
}

/// A chunk of the inner dimension.
struct DepthChunk {
    span: Range<usize>,
    is_first: bool,
    is_last: bool,
}

/// An [`Epilogue`] at the place of a tile.
#[derive(Clone, Copy)]
pub(super) enum TileEpilogue<'a> {
    /// The bias only.
    Bias,
    /// An activation.
    Activation(Activation),
    /// The sum with another matrix.
    Residual {
        /// Its values from the tile's first row and column on.
        values: &'a [f32],
        /// Floats from one of its rows to the next.
        stride: usize,
    },
}

impl<'a> TileEpilogue<'a> {
    /// The epilogue of a tile that begins at this row and column of the result.
    pub(super) fn new(epilogue: Epilogue<'a>, row: usize, column: usize) -> Self {
        match epilogue {
            Epilogue::Bias => Self::Bias,
            Epilogue::Activation(activation) => Self::Activation(activation),
            Epilogue::Residual(matrix) => {
                let stride = matrix.stride();
                Self::Residual { values: &matrix.data()[row * stride + column..], stride }
            }
        }
    }
}

/// Adds the bias to a tile of `rows` × `bias.len()` sums, and applies the epilogue.
///
/// `out` must point at a tile whose rows are `stride` floats apart and belong to the caller's task.
#[inline(always)]
pub(super) fn apply_epilogue<const FMA: bool>(
    out: *mut f32,
    stride: usize,
    rows: usize,
    bias: &[f32],
    epilogue: TileEpilogue<'_>,
) {
    for row in 0..rows {
        for (strip, bias) in bias.as_chunks::<STRIP>().0.iter().enumerate() {
            let column = strip * STRIP;
            #[allow(unsafe_code, reason = "the tile is part of a matrix that other tasks write too")]
            // SAFETY: all callers pass a tile that they just stored, so these rows and columns
            // exist, and that their task alone writes, see `Product::block` of each kind of
            // product. So the reference is the only one to these 16 floats.
            let values = unsafe { &mut *out.add(row * stride + column).cast::<[f32; STRIP]>() };
            for (value, bias) in values.iter_mut().zip(bias) {
                *value += bias;
            }
            match epilogue {
                TileEpilogue::Bias => {}
                TileEpilogue::Activation(activation) => activate::<FMA>(activation, values),
                TileEpilogue::Residual { values: residual, stride } => {
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
    fn a_layer_that_exceeds_the_address_space_is_refused() {
        for (inputs, outputs) in [(usize::MAX, 1), (1, usize::MAX), (1 << 40, 1 << 40)] {
            let refused = std::panic::catch_unwind(|| Panels::zeros(inputs, outputs)).unwrap_err();
            let said = refused.downcast_ref::<String>().unwrap();
            assert!(said.contains("exceeds the address space"), "{said}");
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
