//! The innermost product: a few rows times one panel, the sums kept in registers.

use super::super::isa::{Isa, Kind};
use super::super::matrix::PANEL;

/// Rows of a tile at most: 14 × 2 vectors of sums, two of weights and one of inputs are 31 of AVX-512's 32 registers.
pub(in super::super) const ROWS: usize = 14;

/// One tile: `out` (+)= inputs · weights.
#[derive(Clone, Copy)]
pub(in super::super) struct Tile {
    /// First input of the first row.
    pub(in super::super) inputs: *const f32,
    /// Floats from one row to the next.
    pub(in super::super) input_stride: usize,
    /// `depth` × [`PANEL`] weights, on a cache line.
    pub(in super::super) weights: *const f32,
    /// Length of the sums.
    pub(in super::super) depth: usize,
    /// First output of the first row.
    pub(in super::super) out: *mut f32,
    /// Floats from one row to the next.
    pub(in super::super) out_stride: usize,
    /// Add to what stands in `out` instead of to zero.
    pub(in super::super) accumulate: bool,
    /// What is fetched into the second-level cache meanwhile; need not be a valid address.
    pub(in super::super) ahead: *const f32,
    /// Floats fetched for each step of the sums.
    pub(in super::super) ahead_step: usize,
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
            _ => $kernel::<ROWS>($tile),
        }
    };
}

impl Tile {
    /// Computes the tile for the first `rows` rows, 1 to [`ROWS`].
    ///
    /// # Safety
    /// That many rows of `depth` inputs and of [`PANEL`] outputs must exist, `weights` hold `depth` lines of
    /// [`PANEL`] floats on a cache line, and nobody else may use the outputs meanwhile.
    #[allow(unsafe_code, reason = "raw pointers into matrices")]
    pub(in super::super) unsafe fn run(&self, isa: Isa, rows: usize) {
        debug_assert!((1..=ROWS).contains(&rows));
        // SAFETY: the caller's promise, and the kind of `isa` proves that the instructions exist.
        unsafe {
            match isa.kind() {
                #[cfg(target_arch = "x86_64")]
                Kind::Avx512 => by_rows!(rows, avx512, self),
                #[cfg(target_arch = "x86_64")]
                Kind::Avx2 => avx2(self, rows),
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
    let mut ahead = tile.ahead;
    // SAFETY: `Tile::run`'s promise; prefetching faults at no address.
    unsafe {
        let mut sums = [[_mm512_setzero_ps(); 2]; R];
        for row in 0..R {
            let at = out.add(row * out_stride);
            _mm_prefetch::<_MM_HINT_ET0>(at.cast());
            _mm_prefetch::<_MM_HINT_ET0>(at.add(16).cast());
        }
        for _ in 0..depth {
            _mm_prefetch::<_MM_HINT_T1>(ahead.cast());
            ahead = ahead.wrapping_add(tile.ahead_step);
            let low = _mm512_load_ps(weights);
            let high = _mm512_load_ps(weights.add(16));
            for (row, sum) in sums.iter_mut().enumerate() {
                let x = _mm512_set1_ps(*inputs.add(row * input_stride));
                sum[0] = _mm512_fmadd_ps(x, low, sum[0]);
                sum[1] = _mm512_fmadd_ps(x, high, sum[1]);
            }
            inputs = inputs.add(1);
            weights = weights.add(PANEL);
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

/// In groups of six rows and halves of the panel: 12 registers of sums, two of weights, one of inputs.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
#[allow(unsafe_code, reason = "raw pointers into matrices")]
unsafe fn avx2(tile: &Tile, rows: usize) {
    for first in (0..rows).step_by(6) {
        let mut part = *tile;
        // SAFETY: `Tile::run`'s promise holds for each part of the tile.
        unsafe {
            part.inputs = tile.inputs.add(first * tile.input_stride);
            part.out = tile.out.add(first * tile.out_stride);
            match rows - first {
                1 => avx2_rows::<1>(&part),
                2 => avx2_rows::<2>(&part),
                3 => avx2_rows::<3>(&part),
                4 => avx2_rows::<4>(&part),
                5 => avx2_rows::<5>(&part),
                _ => avx2_rows::<6>(&part),
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
#[allow(unsafe_code, reason = "raw pointers into matrices")]
unsafe fn avx2_rows<const R: usize>(tile: &Tile) {
    use std::arch::x86_64::{
        _MM_HINT_T1, _mm_prefetch, _mm256_add_ps, _mm256_fmadd_ps, _mm256_load_ps, _mm256_loadu_ps,
        _mm256_set1_ps, _mm256_setzero_ps, _mm256_storeu_ps,
    };
    for half in 0..2 {
        // SAFETY: `Tile::run`'s promise; prefetching faults at no address.
        unsafe {
            let mut inputs = tile.inputs;
            let mut weights = tile.weights.add(half * 16);
            let mut ahead = tile.ahead;
            let out = tile.out.add(half * 16);
            let mut sums = [[_mm256_setzero_ps(); 2]; R];
            for _ in 0..tile.depth {
                _mm_prefetch::<_MM_HINT_T1>(ahead.cast());
                ahead = ahead.wrapping_add(tile.ahead_step);
                let low = _mm256_load_ps(weights);
                let high = _mm256_load_ps(weights.add(8));
                for (row, sum) in sums.iter_mut().enumerate() {
                    let x = _mm256_set1_ps(*inputs.add(row * tile.input_stride));
                    sum[0] = _mm256_fmadd_ps(x, low, sum[0]);
                    sum[1] = _mm256_fmadd_ps(x, high, sum[1]);
                }
                inputs = inputs.add(1);
                weights = weights.add(PANEL);
            }
            for (row, [mut low, mut high]) in sums.into_iter().enumerate() {
                let at = out.add(row * tile.out_stride);
                if tile.accumulate {
                    low = _mm256_add_ps(low, _mm256_loadu_ps(at));
                    high = _mm256_add_ps(high, _mm256_loadu_ps(at.add(8)));
                }
                _mm256_storeu_ps(at, low);
                _mm256_storeu_ps(at.add(8), high);
            }
        }
    }
}

#[allow(unsafe_code, reason = "raw pointers into matrices")]
unsafe fn portable(tile: &Tile, rows: usize) {
    for row in 0..rows {
        // SAFETY: `Tile::run`'s promise.
        let (inputs, weights, out) = unsafe {
            (
                std::slice::from_raw_parts(tile.inputs.add(row * tile.input_stride), tile.depth),
                std::slice::from_raw_parts(tile.weights, tile.depth * PANEL),
                &mut *tile.out.add(row * tile.out_stride).cast::<[f32; PANEL]>(),
            )
        };
        let mut sums = [0.0f32; PANEL];
        for (x, line) in inputs.iter().zip(weights.chunks_exact(PANEL)) {
            for (sum, weight) in sums.iter_mut().zip(line) {
                *sum += x * weight;
            }
        }
        for (value, sum) in out.iter_mut().zip(sums) {
            *value = if tile.accumulate { sum + *value } else { sum };
        }
    }
}
