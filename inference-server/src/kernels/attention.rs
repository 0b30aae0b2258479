//! Attention of encoders, softmax(QKᵀ/√d)·V, over texts of any lengths that are packed one after
//! the other: no padding, no mask.
//!
//! Each head of each text is a task. It packs the head's keys and values into strips, then takes a
//! register tile of queries at a time against all keys: scores by the GEMM's micro-kernel, a
//! softmax over whole rows, and the weighted values by the micro-kernel again. The scores of a tile
//! stay in cache (14 queries × 512 keys are 28 KiB), as in FlashAttention (Dao et al. 2022); with
//! all keys at hand, no online rescaling is needed.

use std::cell::RefCell;
use std::ops::Range;

use super::gemm::micro_kernel::{MAX_TILE_ROWS, Tile, TileSize};
use super::isa::{Isa, by_isa};
use super::math::{LANES, exp, sum_lanes};
use super::matrix::{CacheLine, Matrix, STRIP};
use super::parallel::{self, SyncPtr, piece, pieces};

/// Number and size of the heads of an encoder layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Heads {
    /// Number of heads.
    pub count: usize,
    /// Columns of a head.
    pub size: usize,
}

/// Buffers of a thread, reused between tasks.
#[derive(Default)]
struct Scratch {
    keys: Vec<CacheLine>,
    values: Vec<CacheLine>,
    scores: Vec<CacheLine>,
    context: Vec<CacheLine>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Computes the attention of every text over itself.
///
/// A row of `qkv` is the queries, keys and values of a token, each `heads` wide; `texts` are the
/// rows of each text, ascending.
///
/// # Panics
/// If the shapes do not agree, or texts overlap or lie outside of `qkv`.
pub(crate) fn attend(isa: Isa, qkv: &Matrix, texts: &[Range<usize>], heads: Heads, out: &mut Matrix) {
    let width = heads.count * heads.size;
    assert_eq!(qkv.width(), 3 * width, "queries, keys and values");
    assert!(texts.iter().all(|text| text.end <= qkv.rows()), "texts lie inside the batch");
    assert!(texts.windows(2).all(|pair| pair[0].end <= pair[1].start), "texts do not overlap");
    out.resize(qkv.rows(), width);
    let stride = out.stride();
    // Heads of a row are written by different tasks, which Rust's borrows of rows cannot express.
    let out = SyncPtr::new(out.data_mut());
    parallel::each_light(texts.len() * heads.count, |task| {
        let (text, head) = (&texts[task / heads.count], task % heads.count);
        SCRATCH.with_borrow_mut(|scratch| {
            let task = HeadTask { isa, qkv, rows: text.clone(), head, heads };
            task.pack(scratch);
            task.run(scratch, out, stride);
        });
    });
}

/// One head of one text.
struct HeadTask<'a> {
    isa: Isa,
    qkv: &'a Matrix,
    rows: Range<usize>,
    head: usize,
    heads: Heads,
}

impl HeadTask<'_> {
    /// First column of the head's queries (0), keys (1) or values (2) in a row of `qkv`.
    fn column(&self, which: usize) -> usize {
        (which * self.heads.count + self.head) * self.heads.size
    }

    /// Packs keys (transposed) and values into strips, filled up with zeros to whole tiles.
    fn pack(&self, scratch: &mut Scratch) {
        let (length, size) = (self.rows.len(), self.heads.size);
        let key_floats = self.padded(length) * size;
        let value_floats = self.padded(size) * length;
        CacheLine::reserve(&mut scratch.keys, key_floats);
        CacheLine::reserve(&mut scratch.values, value_floats);
        CacheLine::reserve(&mut scratch.scores, MAX_TILE_ROWS * self.score_stride());
        CacheLine::reserve(&mut scratch.context, MAX_TILE_ROWS * self.padded(size));
        let keys = &mut CacheLine::floats_mut(&mut scratch.keys)[..key_floats];
        let values = &mut CacheLine::floats_mut(&mut scratch.values)[..value_floats];
        // The last strip has columns for tokens that are not there; what an earlier text left would
        // be multiplied.
        keys[length / STRIP * STRIP * size..].fill(0.0);
        let (key, value) = (self.column(1), self.column(2));
        for (index, row) in self.rows.clone().enumerate() {
            let row = self.qkv.row(row);
            let strip = &mut keys[index / STRIP * STRIP * size..][..STRIP * size];
            for (line, x) in strip.as_chunks_mut::<STRIP>().0.iter_mut().zip(&row[key..key + size]) {
                line[index % STRIP] = *x;
            }
            let parts = row[value..value + size].chunks(STRIP).chain(std::iter::repeat(&[][..]));
            for (strip, part) in (0..self.padded(size) / STRIP).zip(parts) {
                let line = &mut values[(strip * length + index) * STRIP..][..STRIP];
                line[..part.len()].copy_from_slice(part);
                line[part.len()..].fill(0.0);
            }
        }
    }

    /// Columns, rounded up to whole tiles.
    fn padded(&self, columns: usize) -> usize {
        columns.next_multiple_of(TileSize::of(self.isa).columns)
    }

    /// Floats from the scores of one query to those of the next. A line more than needed, so that
    /// rows do not lie a multiple of 4 KiB apart, where they would compete for one set of L1.
    fn score_stride(&self) -> usize {
        self.padded(self.rows.len()) + CacheLine::FLOATS
    }

    /// Computes all queries of the head, a tile at a time, and stores their contexts.
    fn run(&self, scratch: &mut Scratch, out: SyncPtr<f32>, out_stride: usize) {
        let length = self.rows.len();
        let tiles = pieces(length, TileSize::of(self.isa).rows);
        for index in 0..tiles {
            let queries = piece(length, tiles, index);
            let first = self.rows.start + queries.start;
            let sums = self.softmax_weights(scratch, first, queries.len());
            self.weighted_values(scratch, queries.len());
            let context = CacheLine::floats(&scratch.context);
            let wide = self.padded(self.heads.size);
            for (row, sum) in sums[..queries.len()].iter().enumerate() {
                let at = (first + row) * out_stride + self.head * self.heads.size;
                #[allow(unsafe_code, reason = "tasks write disjoint parts of one matrix")]
                // SAFETY: `out` has a row for each row of `qkv` and columns for all heads, so the
                // range is inside. Texts do not overlap, so no other task accesses this head's
                // columns of this text's rows.
                let target =
                    unsafe { std::slice::from_raw_parts_mut(out.pointer().add(at), self.heads.size) };
                // The context is normalised instead of the weights, of which there are more.
                let factor = 1.0 / sum;
                for (x, value) in target.iter_mut().zip(&context[row * wide..]) {
                    *x = value * factor;
                }
            }
        }
    }

    /// Computes e^(score - max) of some queries against all keys, and returns each query's sum.
    fn softmax_weights(&self, scratch: &mut Scratch, first: usize, rows: usize) -> [f32; MAX_TILE_ROWS] {
        let (length, size) = (self.rows.len(), self.heads.size);
        let stride = self.score_stride();
        let keys = CacheLine::floats(&scratch.keys);
        let scores = CacheLine::floats_mut(&mut scratch.scores);
        let inputs = &self.qkv.data()[first * self.qkv.stride() + self.column(0)..];
        for column in (0..length).step_by(TileSize::of(self.isa).columns) {
            let weights = &keys[column * size..];
            let tile = Tile {
                inputs: inputs.as_ptr(),
                input_stride: self.qkv.stride(),
                weights: weights.as_ptr(),
                strip_stride: STRIP * size,
                depth: size,
                out: scores[column..].as_mut_ptr(),
                out_stride: stride,
                // Heads are short, so one pass over the depth gives the whole sum.
                accumulate: false,
                prefetch: weights.as_ptr(),
                prefetch_step: 0,
            };
            #[allow(unsafe_code, reason = "the micro-kernel works on raw pointers")]
            // SAFETY: `rows` rows of `qkv` exist from `first` on. `pack` made strips of `size`
            // lines for all columns, zeros included, and room for MAX_TILE_ROWS rows of `stride`
            // scores. The scratch belongs to this thread.
            unsafe {
                tile.run(self.isa, rows);
            }
        }
        let mut sums = [0.0; MAX_TILE_ROWS];
        let scale = 1.0 / (size as f32).sqrt();
        by_isa!(self.isa, softmax(scores: &mut [f32] = &mut scores[..rows * stride], stride: usize = stride,
            length: usize = length, scale: f32 = scale, sums: &mut [f32; MAX_TILE_ROWS] = &mut sums));
        sums
    }

    /// Multiplies the weights by the values.
    fn weighted_values(&self, scratch: &mut Scratch, rows: usize) {
        let length = self.rows.len();
        let wide = self.padded(self.heads.size);
        let (scores, values) = (CacheLine::floats(&scratch.scores), CacheLine::floats(&scratch.values));
        let context = CacheLine::floats_mut(&mut scratch.context);
        for column in (0..wide).step_by(TileSize::of(self.isa).columns) {
            let weights = &values[column * length..];
            let tile = Tile {
                inputs: scores.as_ptr(),
                input_stride: self.score_stride(),
                weights: weights.as_ptr(),
                strip_stride: STRIP * length,
                depth: length,
                out: context[column..].as_mut_ptr(),
                out_stride: wide,
                accumulate: false,
                prefetch: weights.as_ptr(),
                prefetch_step: 0,
            };
            #[allow(unsafe_code, reason = "the micro-kernel works on raw pointers")]
            // SAFETY: `scores` holds `rows` rows of `length` weights, the strips of values `length`
            // lines each, and `context` has room for MAX_TILE_ROWS rows of `wide` floats. The
            // scratch belongs to this thread.
            unsafe {
                tile.run(self.isa, rows);
            }
        }
    }
}

/// Replaces the first `length` scores of each row by the numerators of their softmax, and stores
/// the sums of these, the denominators.
#[inline(always)]
fn softmax<const FMA: bool>(
    scores: &mut [f32],
    stride: usize,
    length: usize,
    scale: f32,
    sums: &mut [f32; MAX_TILE_ROWS],
) {
    for (row, sum) in scores.chunks_exact_mut(stride).zip(sums) {
        let row = &mut row[..length];
        let largest = largest(row) * scale;
        let mut lanes = [0.0f32; LANES];
        let (chunks, rest) = row.as_chunks_mut::<LANES>();
        for chunk in chunks {
            for (x, lane) in chunk.iter_mut().zip(&mut lanes) {
                *x = exp::<FMA>(*x * scale - largest);
                *lane += *x;
            }
        }
        for (x, lane) in rest.iter_mut().zip(&mut lanes) {
            *x = exp::<FMA>(*x * scale - largest);
            *lane += *x;
        }
        *sum = sum_lanes(lanes);
    }
}

/// The largest of some scores, which is subtracted from all so that no exponential overflows.
#[inline(always)]
fn largest(row: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            // Not `f32::max`, whose rule for NaN takes a second instruction.
            *lane = if *x > *lane { *x } else { *lane };
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane = if *x > *lane { *x } else { *lane };
    }
    lanes.into_iter().fold(f32::NEG_INFINITY, |most, lane| if lane > most { lane } else { most })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn batch(lengths: &[usize], heads: Heads, seed: u32) -> (Matrix, Vec<Range<usize>>) {
        let tokens: usize = lengths.iter().sum();
        let width = 3 * heads.count * heads.size;
        let mut state = seed;
        let values: Vec<f32> = (0..tokens * width)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 22) as f32 - 2.0
            })
            .collect();
        let mut start = 0;
        let texts = lengths
            .iter()
            .map(|length| {
                start += length;
                start - length..start
            })
            .collect();
        (Matrix::from_rows(&values, width), texts)
    }

    fn exact(qkv: &Matrix, text: &Range<usize>, query: usize, head: usize, heads: Heads) -> Vec<f64> {
        let size = heads.size;
        let column = |which: usize| (which * heads.count + head) * size;
        let part = |row: usize, which: usize| {
            qkv.row(row)[column(which)..][..size].iter().map(|x| f64::from(*x)).collect::<Vec<f64>>()
        };
        let scale = 1.0 / (size as f64).sqrt();
        let dot =
            |key: usize| part(query, 0).iter().zip(part(key, 1)).map(|(q, k)| q * k).sum::<f64>() * scale;
        let scores: Vec<f64> = text.clone().map(dot).collect();
        let most = scores.iter().copied().fold(f64::MIN, f64::max);
        let weights: Vec<f64> = scores.iter().map(|score| (score - most).exp()).collect();
        let sum: f64 = weights.iter().sum();
        let mut context = vec![0.0; size];
        for (key, weight) in text.clone().zip(weights) {
            context.iter_mut().zip(part(key, 2)).for_each(|(x, value)| *x += weight / sum * value);
        }
        context
    }

    #[test]
    fn contexts_are_near_those_of_f64() {
        for (heads, lengths) in [
            (Heads { count: 2, size: 16 }, vec![1, 5, 33, 14, 2]),
            (Heads { count: 3, size: 64 }, vec![47, 128]),
            (Heads { count: 1, size: 40 }, vec![29]),
        ] {
            let (qkv, texts) = batch(&lengths, heads, 7);
            for isa in Isa::available() {
                let mut out = Matrix::default();
                attend(isa, &qkv, &texts, heads, &mut out);
                for text in &texts {
                    for (row, head) in
                        text.clone().flat_map(|row| (0..heads.count).map(move |head| (row, head)))
                    {
                        let got = &out.row(row)[head * heads.size..][..heads.size];
                        for (got, expected) in got.iter().zip(exact(&qkv, text, row, head, heads)) {
                            let error = (f64::from(*got) - expected).abs();
                            assert!(error < 2e-6, "{isa:?} {heads:?} row {row}: {error}");
                        }
                    }
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn a_text_does_not_depend_on_the_others(lengths in prop::collection::vec(1usize..70, 1..6), at in 0usize..6) {
            let heads = Heads { count: 2, size: 32 };
            let (qkv, texts) = batch(&lengths, heads, 9);
            let text = texts[at % texts.len()].clone();
            let rows: Vec<f32> = text.clone().flat_map(|row| qkv.row(row).to_vec()).collect();
            let alone = Matrix::from_rows(&rows, qkv.width());
            for isa in Isa::available() {
                let (mut many, mut one) = (Matrix::default(), Matrix::default());
                attend(isa, &qkv, &texts, heads, &mut many);
                attend(isa, &alone, std::slice::from_ref(&(0..text.len())), heads, &mut one);
                for (index, row) in text.clone().enumerate() {
                    prop_assert_eq!(many.row(row), one.row(index));
                }
            }
        }
    }
}
