//! The micro-kernel of the f32 GEMM: a few rows times one or two strips of packed weights.
//!
//! The sums of a register tile stay in registers over the whole chunk of the inner dimension, and
//! are written once. Attention uses the same micro-kernel, with keys or values as the packed
//! operand.

use super::super::isa::{Isa, Kind};
use super::super::matrix::STRIP;

/// Steps of the inner dimension for each turn of the AVX2 loop, which reads four lines of weights
/// and prefetches one: up to 32 tiles of a block share the lines of the next strip.
const UNROLLED: usize = 4;

/// Largest number of rows of a tile on any instruction set.
pub(in super::super) const MAX_TILE_ROWS: usize = 14;

/// Largest register tile, in BLIS's letters MR × NR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct TileSize {
    /// Rows, MR.
    pub(in super::super) rows: usize,
    /// Columns, NR: one or two strips.
    pub(in super::super) columns: usize,
}

impl TileSize {
    /// The size for an instruction set: as many sums as there are vector registers for.
    pub(in super::super) fn of(isa: Isa) -> Self {
        match isa.kind() {
            // 14 × 2 registers of sums, 2 of weights and 1 broadcast input are 31 of 32.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => Self { rows: MAX_TILE_ROWS, columns: 2 * STRIP },
            // 6 × 2 registers of sums, 2 of weights and 1 broadcast input are 15 of 16.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => Self { rows: 6, columns: STRIP },
            // Not tuned; the sums of a row are 4 registers of SSE2 or NEON.
            Kind::Portable => Self { rows: 6, columns: STRIP },
        }
    }
}

/// The operands of a tile: `out` (+)= inputs · weights.
#[derive(Clone, Copy)]
pub(in super::super) struct Tile {
    /// First input of the first row.
    pub(in super::super) inputs: *const f32,
    /// Floats from one row to the next.
    pub(in super::super) input_stride: usize,
    /// `depth` × [`STRIP`] packed weights, on a cache line.
    pub(in super::super) weights: *const f32,
    /// Floats from the weights of one strip to those of the next.
    pub(in super::super) strip_stride: usize,
    /// Length of the sums.
    pub(in super::super) depth: usize,
    /// First output of the first row.
    pub(in super::super) out: *mut f32,
    /// Floats from one row to the next.
    pub(in super::super) out_stride: usize,
    /// Adds to what `out` holds instead of overwriting it.
    pub(in super::super) accumulate: bool,
    /// First float to prefetch into L2 meanwhile; need not be a valid address.
    pub(in super::super) prefetch: *const f32,
    /// Floats prefetched for each step of the sums (AVX-512). The unrolled AVX2 loop prefetches a
    /// line for each turn instead.
    pub(in super::super) prefetch_step: usize,
}

/// Calls `$kernel::<rows>` for a number of rows known at run time.
macro_rules! by_rows {
    ($rows:expr, $kernel:ident, $tile:expr) => {
        match $rows {
            1 => $kernel::<1>($tile),
            2 => $kernel::<2>($tile),
            3 => $kernel::<3>($tile),
            4 => $kernel::<4>($tile),
            5 => $kernel::<5>($tile),
            6 => $kernel::<6>($tile),
            7 => $kernel::<7>($tile),
            8 => $kernel::<8>($tile),
            9 => $kernel::<9>($tile),
            10 => $kernel::<10>($tile),
            11 => $kernel::<11>($tile),
            12 => $kernel::<12>($tile),
            13 => $kernel::<13>($tile),
            _ => $kernel::<MAX_TILE_ROWS>($tile),
        }
    };
}

impl Tile {
    /// Computes the first `rows` rows of the tile, 1 to those of [`TileSize::of`].
    ///
    /// # Panics
    /// If `rows` is out of range.
    ///
    /// # Safety
    /// `rows` rows of `depth` inputs and of [`TileSize::columns`] outputs must exist at the given
    /// strides, each strip must hold `depth` lines of [`STRIP`] floats aligned to a cache line, and
    /// nothing else may access the outputs during the call.
    #[allow(unsafe_code, reason = "raw pointers into matrices")]
    pub(in super::super) unsafe fn run(&self, isa: Isa, rows: usize) {
        assert!((1..=TileSize::of(isa).rows).contains(&rows), "{rows} rows do not fit a register tile");
        // SAFETY: the operands are the caller's promise, of no more rows than the kernels take, as
        // was just checked. The kind of `isa` proves that the processor has the instructions.
        unsafe {
            match isa.kind() {
                #[cfg(target_arch = "x86_64")]
                Kind::Avx512 => by_rows!(rows, avx512, self),
                #[cfg(target_arch = "x86_64")]
                Kind::Avx2 => match rows {
                    1 => avx2::<1>(self),
                    2 => avx2::<2>(self),
                    3 => avx2::<3>(self),
                    4 => avx2::<4>(self),
                    5 => avx2::<5>(self),
                    _ => avx2::<6>(self),
                },
                Kind::Portable => portable(self, rows),
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
#[allow(unsafe_code, reason = "raw pointers into matrices")]
unsafe fn avx512<const R: usize>(tile: &Tile) {
    use std::arch::x86_64::{
        _MM_HINT_ET0, _MM_HINT_T1, _mm_prefetch, _mm512_add_ps, _mm512_fmadd_ps, _mm512_load_ps,
        _mm512_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps,
    };
    let Tile { mut inputs, input_stride, mut weights, depth, out, out_stride, .. } = *tile;
    // Into L2 (T1): L1 is full of the strips in use.
    let mut prefetch = tile.prefetch;
    // SAFETY: `Tile::run` promises R rows of inputs and outputs and aligned weights; prefetching
    // faults at no address.
    unsafe {
        let mut sums = [[_mm512_setzero_ps(); 2]; R];
        // For writing (ET0), as the tile is stored at the end.
        for row in 0..R {
            let at = out.add(row * out_stride);
            _mm_prefetch::<_MM_HINT_ET0>(at.cast());
            _mm_prefetch::<_MM_HINT_ET0>(at.add(16).cast());
        }
        for _ in 0..depth {
            _mm_prefetch::<_MM_HINT_T1>(prefetch.cast());
            prefetch = prefetch.wrapping_add(tile.prefetch_step);
            // Aligned loads: a line of weights is a cache line, and a split load costs twice.
            let low = _mm512_load_ps(weights);
            let high = _mm512_load_ps(weights.add(tile.strip_stride));
            for (row, sum) in sums.iter_mut().enumerate() {
                let x = _mm512_set1_ps(*inputs.add(row * input_stride));
                sum[0] = _mm512_fmadd_ps(x, low, sum[0]);
                sum[1] = _mm512_fmadd_ps(x, high, sum[1]);
            }
            inputs = inputs.add(1);
            weights = weights.add(STRIP);
        }
        for (row, [mut low, mut high]) in sums.into_iter().enumerate() {
            let at = out.add(row * out_stride);
            if tile.accumulate {
                low = _mm512_add_ps(low, _mm512_loadu_ps(at));
                high = _mm512_add_ps(high, _mm512_loadu_ps(at.add(16)));
            }
            _mm512_storeu_ps(at, low);
            _mm512_storeu_ps(at.add(16), high);
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
#[allow(unsafe_code, reason = "raw pointers into matrices")]
unsafe fn avx2<const R: usize>(tile: &Tile) {
    use std::arch::x86_64::{
        _MM_HINT_ET0, _MM_HINT_T1, _mm_prefetch, _mm256_add_ps, _mm256_broadcast_ss, _mm256_fmadd_ps,
        _mm256_load_ps, _mm256_loadu_ps, _mm256_setzero_ps, _mm256_storeu_ps,
    };
    let Tile { mut inputs, input_stride, mut weights, depth, out, out_stride, .. } = *tile;
    let mut prefetch = tile.prefetch;
    // SAFETY: as in `avx512`.
    unsafe {
        let mut sums = [[_mm256_setzero_ps(); 2]; R];
        // The outputs of different rows lie on different pages, which the hardware prefetcher does
        // not cross.
        for row in 0..R {
            _mm_prefetch::<_MM_HINT_ET0>(out.add(row * out_stride).cast());
        }
        let mut step = |inputs: *const f32, weights: *const f32| {
            let low = _mm256_load_ps(weights);
            let high = _mm256_load_ps(weights.add(8));
            for (row, sum) in sums.iter_mut().enumerate() {
                let x = _mm256_broadcast_ss(&*inputs.add(row * input_stride));
                sum[0] = _mm256_fmadd_ps(x, low, sum[0]);
                sum[1] = _mm256_fmadd_ps(x, high, sum[1]);
            }
        };
        for _ in 0..depth / UNROLLED {
            _mm_prefetch::<_MM_HINT_T1>(prefetch.cast());
            prefetch = prefetch.wrapping_add(STRIP);
            for index in 0..UNROLLED {
                step(inputs.add(index), weights.add(index * STRIP));
            }
            inputs = inputs.add(UNROLLED);
            weights = weights.add(UNROLLED * STRIP);
        }
        for index in 0..depth % UNROLLED {
            step(inputs.add(index), weights.add(index * STRIP));
        }
        for (row, [mut low, mut high]) in sums.into_iter().enumerate() {
            let at = out.add(row * out_stride);
            if tile.accumulate {
                low = _mm256_add_ps(low, _mm256_loadu_ps(at));
                high = _mm256_add_ps(high, _mm256_loadu_ps(at.add(8)));
            }
            _mm256_storeu_ps(at, low);
            _mm256_storeu_ps(at.add(8), high);
        }
    }
}

#[allow(unsafe_code, reason = "raw pointers into matrices")]
unsafe fn portable(tile: &Tile, rows: usize) {
    // Row by row, so that the sums of a row are registers on any machine.
    for row in 0..rows {
        // SAFETY: `Tile::run` promises `depth` inputs, one strip of weights, and 16 outputs that
        // nothing else accesses, for each of `rows` rows.
        let (inputs, weights, out) = unsafe {
            (
                std::slice::from_raw_parts(tile.inputs.add(row * tile.input_stride), tile.depth),
                std::slice::from_raw_parts(tile.weights, tile.depth * STRIP),
                &mut *tile.out.add(row * tile.out_stride).cast::<[f32; STRIP]>(),
            )
        };
        let mut sums = [0.0f32; STRIP];
        for (x, line) in inputs.iter().zip(weights.as_chunks::<STRIP>().0) {
            for (sum, weight) in sums.iter_mut().zip(line) {
                *sum += x * weight;
            }
        }
        for (value, sum) in out.iter_mut().zip(sums) {
            *value = if tile.accumulate { sum + *value } else { sum };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;
    use std::ptr::{null, null_mut};

    use super::*;

    #[test]
    #[allow(unsafe_code, reason = "the call that is refused")]
    fn a_tile_of_too_many_rows_is_refused_before_memory_is_touched() {
        for isa in Isa::available() {
            for rows in [0, TileSize::of(isa).rows + 1, usize::MAX] {
                let refused = catch_unwind(|| {
                    let tile = Tile {
                        inputs: null(),
                        input_stride: 0,
                        weights: null(),
                        strip_stride: 0,
                        depth: 1,
                        out: null_mut(),
                        out_stride: 0,
                        accumulate: false,
                        prefetch: null(),
                        prefetch_step: 0,
                    };
                    // SAFETY: never dereferenced, as the number of rows is checked first.
                    unsafe { tile.run(isa, rows) };
                });
                assert!(refused.is_err(), "{isa:?} {rows}");
            }
        }
    }
}
