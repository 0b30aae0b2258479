//! y = x·Wᵀ + b with what follows it; the counterpart of [`super::super::gemm`] for quantised
//! weights.

use std::cell::RefCell;
use std::ops::Range;

use super::super::gemm::{After, Epilogue, cut, finish, groups, part};
use super::super::isa::{Isa, Kind, by_isa};
use super::super::matrix::{Matrix, STRIP};
use super::super::parallel::{self, Shared};
use super::format::Format;
use super::panels::Panels;
use super::portable;
use super::rows::{Part, Rows, quantise};
use super::unpack::{Chunk, fetch, whole_bytes};
use super::{BLOCKS, LINE, QUADS, decode};
#[cfg(target_arch = "x86_64")]
use super::{avx2, vnni};

/// Rows of a task at most; a chunk of them stays in the second-level cache while the weights pass
/// by.
const ROWS: usize = 128;
/// Rows up to which a strip is read from beginning to end, as memory likes it best.
const FEW: usize = 16;
/// Strips that take turns at a chunk of the rows: their weights and one tile of rows fit into the
/// first-level cache.
const TURNS: usize = 4;

thread_local! {
    static UNPACKED: RefCell<Box<[Chunk; TURNS]>> = RefCell::default();
}

/// Whether another layer can stand behind one of so many outputs in [`multiply`].
pub(crate) fn has_whole_strips(outputs: usize) -> bool {
    outputs.is_multiple_of(STRIP)
}

/// `out` = epilogue(x·Wᵀ + b), on the threads of the current pool, where the outputs of `layers`
/// stand side by side.
///
/// # Panics
/// Where the shapes of the operands do not agree, or a layer that is not the last has no whole
/// strips of outputs.
pub(crate) fn multiply(isa: Isa, x: &Rows, layers: &[Panels], epilogue: Epilogue<'_>, out: &mut Matrix) {
    let outputs = layers.iter().map(Panels::outputs).sum();
    if let Epilogue::Residual(residual) = epilogue {
        assert_eq!((residual.rows(), residual.width()), (x.rows(), outputs), "residual");
    }
    out.resize(x.rows(), outputs);
    let (stride, out) = (out.stride(), Shared::new(out.data_mut()));
    let mut first = 0;
    for weights in layers {
        assert_eq!(x.width(), weights.inputs(), "inputs of the layer");
        assert!(has_whole_strips(first), "whole strips before the layer");
        let product = Product { isa, unit: Unit::of(isa), x, weights, epilogue, out, stride, first };
        let blocks = cut(x.rows(), ROWS);
        let shares = groups(blocks, weights.strips());
        parallel::each(blocks * shares, |task| {
            let rows = part(x.rows(), blocks, task / shares);
            product.block(rows, part(weights.strips(), shares, task % shares));
        });
        first += weights.outputs();
    }
}

/// Whether these instructions give the same bits as plain Rust, for small products in every format.
pub(crate) fn check(isa: Isa) -> bool {
    const INPUTS: usize = 512;
    const OUTPUTS: usize = 24;
    let x: Vec<f32> = (0..9 * INPUTS).map(|index| (index * 37 % 101) as f32 / 50.0 - 1.0).collect();
    let mut rows = Rows::default();
    quantise(isa, &Matrix::from_rows(&x, INPUTS), &mut rows);
    Format::ALL.into_iter().filter(|format| format.is_quantised()).all(|format| {
        let bytes = INPUTS / format.block_length() * format.block_bytes() * OUTPUTS;
        // Bits 6 of all bytes are zero, so that no half is infinite.
        let bytes: Vec<u8> = (0..bytes).map(|index| (index * 89 % 251) as u8 & 0xBF).collect();
        let product = |isa: Isa| {
            let panels = Panels::of(format, INPUTS, OUTPUTS, &bytes, None).ok()?;
            let mut out = Matrix::default();
            multiply(isa, &rows, &[panels], Epilogue::Bias, &mut out);
            Some((0..out.rows()).flat_map(|row| out.row(row).to_vec()).map(f32::to_bits).collect::<Vec<_>>())
        };
        product(isa).is_some_and(|bits| product(Isa::available()[0]) == Some(bits))
    })
}

/// Which kernel sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Vnni,
}

impl Unit {
    fn of(isa: Isa) -> Self {
        match isa.kind() {
            Kind::Portable => Self::Portable,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 if vnni::detected() => Self::Vnni,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 | Kind::Avx512 => Self::Avx2,
        }
    }

    /// Rows of a tile at most.
    fn rows(self) -> usize {
        match self {
            Self::Portable => ROWS,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => avx2::ROWS,
            #[cfg(target_arch = "x86_64")]
            Self::Vnni => vnni::ROWS,
        }
    }

    fn sum(self, tile: &Tile<'_>) {
        assert!(tile.is_whole(), "a tile beyond its rows or weights");
        match self {
            Self::Portable => portable::sum(tile),
            #[cfg(target_arch = "x86_64")]
            #[allow(unsafe_code, reason = "the machine has the instructions, see below")]
            // SAFETY: an `Isa` that this unit was made of exists only where the machine has these
            // instructions.
            Self::Avx2 => unsafe { avx2::sum(tile) },
            #[cfg(target_arch = "x86_64")]
            #[allow(unsafe_code, reason = "the machine has the instructions, see below")]
            // SAFETY: as above, and `Unit::of` has found the others.
            Self::Vnni => unsafe { vnni::sum(tile) },
        }
    }
}

/// A few rows times an unpacked chunk of a strip: `out` (+)= x · weights.
///
/// The rows' parts are of the same chunk, which has as many quads as there are lines in `quants`.
pub(super) struct Tile<'a> {
    pub(super) format: Format,
    /// Integers, quad by quad.
    pub(super) quants: &'a [[u8; LINE]],
    /// Scales of blocks or half blocks.
    pub(super) scales: &'a [[f32; STRIP]],
    /// Minima of blocks, with no meaning in formats that have none.
    pub(super) minima: &'a [[f32; STRIP]],
    pub(super) rows: &'a [Part],
    /// Whether no other rows are multiplied by this chunk, so that what it fetches is on its way
    /// from memory.
    pub(super) alone: bool,
    /// Whether the sums begin with zero instead of with what stands in `out`.
    pub(super) first: bool,
    /// First output of the first row.
    out: *mut f32,
    /// Floats from one row to the next.
    stride: usize,
}

impl Tile<'_> {
    fn is_whole(&self) -> bool {
        let blocks = self.quants.len() / QUADS;
        (1..=BLOCKS).contains(&blocks)
            && self.quants.len() == blocks * QUADS
            && self.scales.len() == blocks * decode::scales_of_block(self.format)
            && self.minima.len() == blocks
    }

    /// Sums that a row begins with.
    #[inline]
    pub(super) fn start(&self, row: usize) -> [f32; STRIP] {
        assert!(row < self.rows.len(), "a row of the tile");
        if self.first {
            return [0.0; STRIP];
        }
        #[allow(unsafe_code, reason = "the tile is part of a matrix that other tasks write too")]
        // SAFETY: `Product::tiles` has made `out` point at as many rows of this task's columns.
        unsafe {
            *self.out.add(row * self.stride).cast()
        }
    }

    /// Stores the sums of a row.
    #[inline]
    pub(super) fn store(&self, row: usize, sums: &[f32; STRIP]) {
        assert!(row < self.rows.len(), "a row of the tile");
        #[allow(unsafe_code, reason = "the tile is part of a matrix that other tasks write too")]
        // SAFETY: as in `start`; nobody else reads or writes these columns of these rows meanwhile.
        unsafe {
            *self.out.add(row * self.stride).cast() = *sums;
        }
    }
}

struct Product<'a> {
    isa: Isa,
    unit: Unit,
    x: &'a Rows,
    weights: &'a Panels,
    epilogue: Epilogue<'a>,
    out: Shared<f32>,
    stride: usize,
    /// Column of the layer's first output.
    first: usize,
}

impl Product<'_> {
    /// The outputs of some rows and strips; no two tasks share any.
    fn block(&self, rows: Range<usize>, strips: Range<usize>) {
        let turns = if rows.len() > FEW { TURNS } else { 1 };
        UNPACKED.with_borrow_mut(|unpacked| {
            for first in strips.clone().step_by(turns) {
                let strips = first..(first + turns).min(strips.end);
                for index in 0..self.weights.chunks() {
                    self.chunk(&rows, strips.clone(), index, unpacked);
                }
                strips.for_each(|strip| self.finish(&rows, strip));
            }
        });
    }

    /// A chunk of all rows times those of some strips, which stay in the first-level cache.
    fn chunk(&self, rows: &Range<usize>, strips: Range<usize>, index: usize, unpacked: &mut [Chunk; TURNS]) {
        let format = self.weights.format();
        let tiles = cut(rows.len(), self.unit.rows());
        for (strip, unpacked) in strips.clone().zip(unpacked.iter_mut()) {
            let (bytes, layout) = self.weights.chunk(strip, index);
            unpacked.unpack_for_product(self.isa, format, bytes, layout);
            if format == Format::Q8_0 && tiles > 1 {
                fetch(bytes);
            }
        }
        let parts = &self.x.chunk(index)[rows.clone()];
        for tile in 0..tiles {
            let part = part(rows.len(), tiles, tile);
            for (strip, unpacked) in strips.clone().zip(unpacked.iter()) {
                let (bytes, layout) = self.weights.chunk(strip, index);
                self.unit.sum(&Tile {
                    format,
                    quants: match format {
                        Format::Q8_0 => whole_bytes(bytes, layout),
                        _ => &unpacked.quants[..layout.blocks * QUADS],
                    },
                    scales: &unpacked.scales[..layout.blocks * decode::scales_of_block(format)],
                    minima: &unpacked.minima[..layout.blocks],
                    rows: &parts[part.clone()],
                    alone: tiles == 1,
                    first: index == 0,
                    out: self.place(rows.start + part.start, strip),
                    stride: self.stride,
                });
            }
        }
    }

    /// The outputs of a strip from a row on; rows have room for whole panels, so for whole strips.
    fn place(&self, row: usize, strip: usize) -> *mut f32 {
        self.out.pointer().wrapping_add(row * self.stride + self.first + strip * STRIP)
    }

    fn finish(&self, rows: &Range<usize>, strip: usize) {
        let after = After::new(self.epilogue, rows.start, self.first + strip * STRIP);
        by_isa!(self.isa, finish(out: *mut f32 = self.place(rows.start, strip), stride: usize = self.stride,
            rows: usize = rows.len(), bias: &[f32] = self.weights.bias(strip), after: After<'_> = after));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::super::math::Activation;
    use super::super::samples::{formats, inputs, values, weights};
    use super::*;

    fn rounded(isa: Isa, x: &Matrix) -> Rows {
        let mut rows = Rows::default();
        quantise(isa, x, &mut rows);
        rows
    }

    fn bits(matrix: &Matrix) -> Vec<u32> {
        (0..matrix.rows()).flat_map(|row| matrix.row(row)).map(|value| value.to_bits()).collect()
    }

    fn product(isa: Isa, x: &Rows, panels: &Panels, epilogue: Epilogue<'_>) -> Matrix {
        let mut out = Matrix::default();
        multiply(isa, x, std::slice::from_ref(panels), epilogue, &mut out);
        out
    }

    #[test]
    fn layers_stand_side_by_side() {
        let (q4, q8) = (weights(Format::Q4_0, 64, 48, 1).0, weights(Format::Q8_0, 64, 21, 2).0);
        let bias = values(48, 3);
        let layers = [
            Panels::of(Format::Q4_0, 64, 48, &q4, Some(&bias)).unwrap(),
            Panels::of(Format::Q8_0, 64, 21, &q8, None).unwrap(),
        ];
        let residual = Matrix::from_rows(&values(3 * 69, 4), 69);
        for isa in Isa::available() {
            let x = rounded(isa, &Matrix::from_rows(&values(3 * 64, 5), 64));
            for (epilogue, added) in [(Epilogue::Bias, 0.0), (Epilogue::Residual(&residual), 1.0)] {
                let mut both = Matrix::default();
                multiply(isa, &x, &layers, epilogue, &mut both);
                let alone = layers.each_ref().map(|layer| product(isa, &x, layer, Epilogue::Bias));
                for row in 0..3 {
                    let one_by_one = alone.iter().flat_map(|out| out.row(row));
                    let expected = one_by_one.zip(residual.row(row)).map(|(sum, more)| sum + added * more);
                    let found = both.row(row).iter().zip(expected);
                    assert!(
                        found.clone().count() == 69 && found.into_iter().all(|(a, b)| *a == b),
                        "{isa:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn products_are_near_those_of_f64() {
        for (format, isa) in
            formats().flat_map(|format| Isa::available().into_iter().map(move |isa| (format, isa)))
        {
            for (rows, inputs, outputs) in
                [(1, inputs(format), 5), (3, 256, 16), (18, 512, 70), (140, 256, 33)]
            {
                let (bytes, weight) = weights(format, inputs, outputs, 1);
                let bias = values(outputs, 2);
                let panels = Panels::of(format, inputs, outputs, &bytes, Some(&bias)).unwrap();
                let x = rounded(isa, &Matrix::from_rows(&values(rows * inputs, 3), inputs));
                let residual = Matrix::from_rows(&values(rows * outputs, 4), outputs);
                let out =
                    [Epilogue::Bias, Epilogue::Residual(&residual), Epilogue::Activation(Activation::Relu)]
                        .map(|epilogue| product(isa, &x, &panels, epilogue));
                for row in 0..rows {
                    let numbers = x.row(row);
                    // Minima make the parts of a sum larger than the weights are.
                    let allowed = 4e-7 * numbers.iter().map(|x| f64::from(x.abs())).sum::<f64>();
                    for (column, weight) in weight.iter().enumerate() {
                        let products = numbers.iter().zip(weight).map(|(x, w)| f64::from(*x) * f64::from(*w));
                        let sum = products.sum::<f64>() + f64::from(bias[column]);
                        let expected = [sum, sum + f64::from(residual.row(row)[column]), sum.max(0.0)];
                        for (out, expected) in out.iter().zip(expected) {
                            let error = (f64::from(out.row(row)[column]) - expected).abs();
                            assert!(error < allowed, "{format:?} {isa:?} {rows} {row} {column}: {error}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        for format in formats() {
            let inputs = inputs(format);
            let (bytes, _) = weights(format, inputs, 40, 1);
            let panels = Panels::of(format, inputs, 40, &bytes, None).unwrap();
            for rows in [1, 2, 3, 4, 7, 33] {
                let x = Matrix::from_rows(&values(rows * inputs, 3), inputs);
                let product = |isa| bits(&product(isa, &rounded(isa, &x), &panels, Epilogue::Bias));
                let expected = product(Isa::available()[0]);
                for isa in Isa::available() {
                    assert_eq!(product(isa), expected, "{format:?} {isa:?} {rows}");
                }
            }
        }
    }

    #[test]
    fn the_check_passes_here() {
        Isa::available().into_iter().for_each(|isa| assert!(check(isa), "{isa:?}"));
    }

    /// The largest integers on both sides, which must not overflow the narrow sums.
    #[test]
    fn extremes_do_not_saturate() {
        for (format, fill) in
            formats().flat_map(|format| [(format, 0), (format, 0xFF), (format, 0x80), (format, 0x7F)])
        {
            let mut block = vec![fill; format.block_bytes()];
            // Factors of one.
            let places: &[usize] = match format {
                Format::Q6K => &[208],
                Format::Q4_0 | Format::Q5_0 | Format::Q8_0 => &[0],
                _ => &[0, 2],
            };
            places.iter().for_each(|at| block[*at..at + 2].copy_from_slice(&0x3C00u16.to_le_bytes()));
            let inputs = 256;
            let bytes = block.repeat(inputs / format.block_length() * 16);
            let panels = Panels::of(format, inputs, 16, &bytes, None).unwrap();
            let mut weight = vec![0.0; inputs];
            panels.dequantise_row(3, &mut weight);
            for sign in [1.0, -1.0] {
                let x = Matrix::from_rows(&vec![127.0 * sign; 5 * inputs], inputs);
                let expected = weight.iter().map(|w| f64::from(*w) * 127.0 * f64::from(sign)).sum::<f64>();
                for isa in Isa::available() {
                    let out = product(isa, &rounded(isa, &x), &panels, Epilogue::Bias);
                    let got = f64::from(out.row(4)[3]);
                    assert!(
                        (got - expected).abs() <= 1e-5 * expected.abs().max(1e4),
                        "{format:?} {fill} {isa:?}: {got}, not {expected}"
                    );
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn a_row_does_not_depend_on_the_others(
            rows in 1usize..300, at in 0usize..300, threads in 1usize..4, which in 0usize..8,
        ) {
            let format = formats().nth(which).unwrap();
            let (at, inputs, outputs) = (at % rows, inputs(format), 70);
            let (bytes, _) = weights(format, inputs, outputs, 1);
            let panels = Panels::of(format, inputs, outputs, &bytes, Some(&values(outputs, 2))).unwrap();
            let x = Matrix::from_rows(&values(rows * inputs, 5), inputs);
            let alone = Matrix::from_rows(x.row(at), inputs);
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            // The slow one is the same bits, and tested above.
            let isa = Isa::detect();
            let gelu = Epilogue::Activation(Activation::Gelu);
            let many = pool.install(|| product(isa, &rounded(isa, &x), &panels, gelu));
            let one = product(isa, &rounded(isa, &alone), &panels, gelu);
            prop_assert_eq!(many.row(at), one.row(0));
        }
    }
}
