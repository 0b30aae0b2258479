//! GEMM of quantised weights, y = x·Wᵀ + b with a fused epilogue; the counterpart of
//! [`crate::kernels::gemm`].
//!
//! A task unpacks a chunk of weights into L1 and multiplies all its rows by it, so that unpacking
//! is paid once for up to 128 rows. With few rows (decode: GEMV and thin GEMM) the product is bound
//! by reading the weights, and a strip is read from beginning to end. The integer sums are exact,
//! so the order of unpacking does not matter to the result.

use std::cell::RefCell;
use std::ops::Range;

use super::activations::{QuantisedRows, quantise};
use super::format::Format;
use super::geometry::BLOCK_QUADS;
use super::panels::Panels;
use super::portable;
use super::tile::{OutputTile, Tile};
use super::unpack::{UnpackedChunk, prefetch_ahead, whole_bytes};
#[cfg(target_arch = "x86_64")]
use super::{avx2, vnni};
use crate::kernels::gemm::{Epilogue, TileEpilogue, apply_epilogue};
use crate::kernels::isa::{Isa, Kind, by_isa};
use crate::kernels::matrix::{Matrix, STRIP};
use crate::kernels::parallel::{self, SyncPtr, piece, pieces};

/// Largest number of rows of a task (MC). A chunk of them takes 120 KiB (960 bytes each) and stays
/// in an L2 of 256 KiB while the weights stream by.
const TASK_ROWS: usize = 128;
/// Largest number of rows for which a strip is read from beginning to end: the product waits for
/// memory then, and one sequential stream suits the hardware prefetcher best. No record of other
/// values tried.
const STREAMED_ROWS: usize = 16;
/// Strips that are unpacked together and take turns at each tile of rows: 4 × 5.5 KiB of weights
/// and a tile of 8 rows (7.5 KiB) fit an L1 of 32 KiB. 8 strips, tried first, do not.
const STRIPS_TOGETHER: usize = 4;

thread_local! {
    static UNPACKED: RefCell<Box<[UnpackedChunk; STRIPS_TOGETHER]>> = RefCell::default();
}

/// Returns true if a layer with this number of outputs may be followed by another in [`multiply`].
pub(crate) fn has_whole_strips(outputs: usize) -> bool {
    outputs.is_multiple_of(STRIP)
}

/// `out` = epilogue(x·Wᵀ + b), on the threads of the current pool. The outputs of `layers` are
/// columns side by side: projections of one input whose weights differ in format.
///
/// # Panics
/// If the shapes of the operands do not agree, or a layer but the last has outputs that are no
/// whole strips.
pub(crate) fn multiply(
    isa: Isa,
    x: &QuantisedRows,
    layers: &[Panels],
    epilogue: Epilogue<'_>,
    out: &mut Matrix,
) {
    let outputs = layers.iter().map(Panels::outputs).sum();
    if let Epilogue::Residual(residual) = epilogue {
        assert_eq!((residual.rows(), residual.width()), (x.rows(), outputs), "residual");
    }
    out.resize(x.rows(), outputs);
    let (stride, out) = (out.stride(), SyncPtr::new(out.data_mut()));
    let kernel = DotKernel::of(isa);
    // One layer after the other: each has its own format, hence its own kernel.
    let mut first = 0;
    for weights in layers {
        assert_eq!(x.width(), weights.inputs(), "inputs of the layer");
        assert!(has_whole_strips(first), "whole strips before the layer");
        let product = Product { isa, kernel, x, weights, epilogue, out, stride, first };
        parallel::each_block(x.rows(), TASK_ROWS, weights.strips(), |rows, strips| {
            product.block(rows, strips);
        });
        first += weights.outputs();
    }
}

/// Checks that an instruction set gives the same bits as plain Rust, for small products in every
/// format. Called when a model is loaded.
pub(crate) fn check(isa: Isa) -> bool {
    const INPUTS: usize = 512;
    const OUTPUTS: usize = 24;
    // More rows than a tile of any kernel.
    let x: Vec<f32> = (0..9 * INPUTS).map(|index| (index * 37 % 101) as f32 / 50.0 - 1.0).collect();
    let mut rows = QuantisedRows::default();
    quantise(isa, &Matrix::from_rows(&x, INPUTS), &mut rows);
    Format::ALL.into_iter().filter(|format| format.is_quantised()).all(|format| {
        let bytes = INPUTS / format.block_length() * format.block_bytes() * OUTPUTS;
        // Bit 6 of every byte is zero, so that no f16 is infinite or NaN.
        let bytes: Vec<u8> = (0..bytes).map(|index| (index * 89 % 251) as u8 & 0xBF).collect();
        let Ok(panels) = Panels::of(format, INPUTS, OUTPUTS, &bytes, None) else { return false };
        let panels = [panels];
        product_bits(isa, &rows, &panels) == product_bits(Isa::available()[0], &rows, &panels)
    })
}

/// The bits of a product, which comparisons of floats would not tell apart.
fn product_bits(isa: Isa, x: &QuantisedRows, layers: &[Panels]) -> Vec<u32> {
    let mut out = Matrix::default();
    multiply(isa, x, layers, Epilogue::Bias, &mut out);
    (0..out.rows()).flat_map(|row| out.row(row)).map(|value| value.to_bits()).collect()
}

/// The kernel that sums a tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DotKernel {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Vnni,
}

impl DotKernel {
    fn of(isa: Isa) -> Self {
        match isa.kind() {
            Kind::Portable => Self::Portable,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 if vnni::detected() => Self::Vnni,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 | Kind::Avx512 => Self::Avx2,
        }
    }

    /// Largest number of rows of a tile.
    fn rows(self) -> usize {
        match self {
            Self::Portable => TASK_ROWS,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => avx2::ROWS,
            #[cfg(target_arch = "x86_64")]
            Self::Vnni => vnni::ROWS,
        }
    }

    fn sum(self, tile: &Tile<'_>) {
        assert!(tile.is_whole(), "operands of one size");
        match self {
            Self::Portable => portable::sum(tile),
            #[cfg(target_arch = "x86_64")]
            #[allow(unsafe_code, reason = "the machine has the instructions, see below")]
            // SAFETY: `of` makes this kind from an `Isa` that proves AVX2 and FMA, as AVX-512 does
            // too.
            Self::Avx2 => unsafe { avx2::sum(tile) },
            #[cfg(target_arch = "x86_64")]
            #[allow(unsafe_code, reason = "the machine has the instructions, see below")]
            // SAFETY: `of` makes this kind from an `Isa` that proves AVX-512, after VNNI was
            // detected.
            Self::Vnni => unsafe { vnni::sum(tile) },
        }
    }
}

struct Product<'a> {
    isa: Isa,
    kernel: DotKernel,
    x: &'a QuantisedRows,
    weights: &'a Panels,
    epilogue: Epilogue<'a>,
    out: SyncPtr<f32>,
    stride: usize,
    /// Column of the layer's first output.
    first: usize,
}

impl Product<'_> {
    /// Computes the outputs of some rows and strips; no two tasks share any.
    fn block(&self, rows: Range<usize>, strips: Range<usize>) {
        let together = if rows.len() > STREAMED_ROWS { STRIPS_TOGETHER } else { 1 };
        UNPACKED.with_borrow_mut(|unpacked| {
            for first in strips.clone().step_by(together) {
                let strips = first..(first + together).min(strips.end);
                for index in 0..self.weights.chunks() {
                    self.unpack(strips.clone(), index, rows.len(), unpacked);
                    self.chunk(&rows, strips.clone(), index, unpacked);
                }
                // After all chunks, as the epilogue is not linear.
                strips.for_each(|strip| self.finish(&rows, strip));
            }
        });
    }

    /// Unpacks a chunk of some strips.
    fn unpack(
        &self,
        strips: Range<usize>,
        index: usize,
        rows: usize,
        unpacked: &mut [UnpackedChunk; STRIPS_TOGETHER],
    ) {
        let format = self.weights.format();
        for (strip, unpacked) in strips.zip(unpacked) {
            let (bytes, layout) = self.weights.chunk(strip, index);
            unpacked.unpack_for_product(self.isa, format, bytes, layout);
            // Q8_0 is not unpacked, which would have prefetched it; a single tile prefetches it
            // itself.
            if format == Format::Q8_0 && rows > self.kernel.rows() {
                prefetch_ahead(bytes);
            }
        }
    }

    /// Multiplies a chunk of all rows by the same chunk of some strips, which stay in L1.
    fn chunk(
        &self,
        rows: &Range<usize>,
        strips: Range<usize>,
        index: usize,
        unpacked: &[UnpackedChunk; STRIPS_TOGETHER],
    ) {
        let format = self.weights.format();
        let tiles = pieces(rows.len(), self.kernel.rows());
        let activations = &self.x.chunk(index)[rows.clone()];
        for tile in 0..tiles {
            let tile_rows = piece(rows.len(), tiles, tile);
            for (strip, unpacked) in strips.clone().zip(unpacked) {
                let (bytes, layout) = self.weights.chunk(strip, index);
                let first = self.place(rows.start + tile_rows.start, strip);
                #[allow(unsafe_code, reason = "tasks write disjoint parts of one matrix")]
                // SAFETY: `first` is the address of this strip's columns in the first of
                // `tile_rows`, which exist in `out`; its rows have room for whole panels, so for
                // whole strips. No other task has these rows of this strip, see `block`, and this
                // one has one tile at a time.
                let out = unsafe { OutputTile::new(first, self.stride) };
                self.kernel.sum(&Tile {
                    format,
                    quants: match format {
                        Format::Q8_0 => whole_bytes(bytes, layout),
                        _ => &unpacked.quants[..layout.blocks * BLOCK_QUADS],
                    },
                    scales: &unpacked.scales[..layout.blocks * format.scales_per_block()],
                    minima: &unpacked.minima[..layout.blocks],
                    rows: &activations[tile_rows.clone()],
                    is_alone: tiles == 1,
                    is_first: index == 0,
                    out,
                });
            }
        }
    }

    /// Address of a strip's first output in a row.
    fn place(&self, row: usize, strip: usize) -> *mut f32 {
        self.out.pointer().wrapping_add(row * self.stride + self.first + strip * STRIP)
    }

    /// Applies bias and epilogue to the outputs of a strip, whose sums are complete.
    fn finish(&self, rows: &Range<usize>, strip: usize) {
        let epilogue = TileEpilogue::new(self.epilogue, rows.start, self.first + strip * STRIP);
        by_isa!(self.isa, apply_epilogue(out: *mut f32 = self.place(rows.start, strip),
            stride: usize = self.stride, rows: usize = rows.len(), bias: &[f32] = self.weights.bias(strip),
            epilogue: TileEpilogue<'_> = epilogue));
    }
}

#[cfg(test)]
mod tests;
