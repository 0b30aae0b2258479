//! softmax(QKᵀ·s)·V over rows of any lengths that are packed one after the other: no padding, no
//! mask.
//!
//! Each head of each row is computed on its own, a few queries at a time against all keys of the
//! row; scores never leave the first-level cache for texts of usual length.

use std::cell::RefCell;
use std::ops::Range;

use super::gemm::part;
use super::gemm::tile::{ROWS, Size, Tile};
use super::isa::{Isa, by_isa};
use super::math::exp;
use super::matrix::{Line, Matrix, STRIP};
use super::norm::total;
use super::parallel::{self, Shared};

/// How many heads there are, and how wide each is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Heads {
    /// Their number.
    pub count: usize,
    /// Columns of each.
    pub size: usize,
}

/// Buffers of one thread.
#[derive(Default)]
struct Scratch {
    keys: Vec<Line>,
    values: Vec<Line>,
    scores: Vec<Line>,
    context: Vec<Line>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Attention of every text over itself.
///
/// `qkv` holds queries, keys and values side by side, each `heads` wide; `texts` are its texts'
/// rows, not overlapping.
pub(crate) fn attend(isa: Isa, qkv: &Matrix, texts: &[Range<usize>], heads: Heads, out: &mut Matrix) {
    let width = heads.count * heads.size;
    assert_eq!(qkv.width(), 3 * width, "queries, keys and values");
    assert!(texts.iter().all(|text| text.end <= qkv.rows()), "texts lie inside the batch");
    assert!(texts.windows(2).all(|pair| pair[0].end <= pair[1].start), "texts do not overlap");
    out.resize(qkv.rows(), width);
    let stride = out.stride();
    let shared = Shared::new(out.data_mut());
    parallel::each_light(texts.len() * heads.count, |task| {
        let (text, head) = (&texts[task / heads.count], task % heads.count);
        SCRATCH.with_borrow_mut(|scratch| {
            let job = Job { isa, qkv, rows: text.clone(), head, heads };
            job.pack(scratch);
            job.run(scratch, shared, stride);
        });
    });
}

/// One head of one text.
struct Job<'a> {
    isa: Isa,
    qkv: &'a Matrix,
    rows: Range<usize>,
    head: usize,
    heads: Heads,
}

impl Job<'_> {
    /// Column of the head's queries (0), keys (1) or values (2).
    fn column(&self, which: usize) -> usize {
        (which * self.heads.count + self.head) * self.heads.size
    }

    /// Keys transposed and values, both in strips; what fills them up is zero.
    fn pack(&self, scratch: &mut Scratch) {
        let (length, size) = (self.rows.len(), self.heads.size);
        let key_floats = self.whole(length) * size;
        let value_floats = self.whole(size) * length;
        Line::reserve(&mut scratch.keys, key_floats);
        Line::reserve(&mut scratch.values, value_floats);
        Line::reserve(&mut scratch.scores, ROWS * self.score_stride());
        Line::reserve(&mut scratch.context, ROWS * self.whole(size));
        let keys = &mut Line::floats_mut(&mut scratch.keys)[..key_floats];
        let values = &mut Line::floats_mut(&mut scratch.values)[..value_floats];
        keys[length / STRIP * STRIP * size..].fill(0.0);
        let (key, value) = (self.column(1), self.column(2));
        for (index, row) in self.rows.clone().enumerate() {
            let row = self.qkv.row(row);
            let strip = &mut keys[index / STRIP * STRIP * size..][..STRIP * size];
            for (line, x) in strip.as_chunks_mut::<STRIP>().0.iter_mut().zip(&row[key..key + size]) {
                line[index % STRIP] = *x;
            }
            let parts = row[value..value + size].chunks(STRIP).chain(std::iter::repeat(&[][..]));
            for (strip, part) in (0..self.whole(size) / STRIP).zip(parts) {
                let line = &mut values[(strip * length + index) * STRIP..][..STRIP];
                line[..part.len()].copy_from_slice(part);
                line[part.len()..].fill(0.0);
            }
        }
    }

    /// Columns of whole tiles that hold this many.
    fn whole(&self, columns: usize) -> usize {
        columns.next_multiple_of(Size::of(self.isa).columns)
    }

    fn score_stride(&self) -> usize {
        self.whole(self.rows.len()) + Line::FLOATS
    }

    fn run(&self, scratch: &mut Scratch, out: Shared<f32>, out_stride: usize) {
        let length = self.rows.len();
        let tiles = length.div_ceil(Size::of(self.isa).rows);
        for index in 0..tiles {
            let queries = part(length, tiles, index);
            let first = self.rows.start + queries.start;
            let sums = self.weigh(scratch, first, queries.len());
            self.gather(scratch, queries.len());
            let context = Line::floats(&scratch.context);
            let wide = self.whole(self.heads.size);
            for (row, sum) in sums[..queries.len()].iter().enumerate() {
                let at = (first + row) * out_stride + self.head * self.heads.size;
                #[allow(unsafe_code, reason = "tasks write disjoint parts of one matrix")]
                // SAFETY: the row lies in `out`, and this task alone writes this head's columns of
                // this text's rows.
                let target =
                    unsafe { std::slice::from_raw_parts_mut(out.pointer().add(at), self.heads.size) };
                let factor = 1.0 / sum;
                for (x, value) in target.iter_mut().zip(&context[row * wide..]) {
                    *x = value * factor;
                }
            }
        }
    }

    /// e^(score - largest) for some queries against all keys, and each query's sum of them.
    fn weigh(&self, scratch: &mut Scratch, first: usize, rows: usize) -> [f32; ROWS] {
        let (length, size) = (self.rows.len(), self.heads.size);
        let stride = self.score_stride();
        let keys = Line::floats(&scratch.keys);
        let scores = Line::floats_mut(&mut scratch.scores);
        let inputs = &self.qkv.data()[first * self.qkv.stride() + self.column(0)..];
        for column in (0..length).step_by(Size::of(self.isa).columns) {
            let weights = &keys[column * size..];
            let tile = Tile {
                inputs: inputs.as_ptr(),
                input_stride: self.qkv.stride(),
                weights: weights.as_ptr(),
                strip_stride: STRIP * size,
                depth: size,
                out: scores[column..].as_mut_ptr(),
                out_stride: stride,
                accumulate: false,
                ahead: weights.as_ptr(),
                ahead_step: 0,
            };
            #[allow(unsafe_code, reason = "tiles work on raw pointers")]
            // SAFETY: `rows` queries from `first` on exist, and `scores` has ROWS rows of `stride`
            // floats.
            unsafe {
                tile.run(self.isa, rows);
            }
        }
        let mut sums = [0.0; ROWS];
        let scale = 1.0 / (size as f32).sqrt();
        by_isa!(self.isa, soften(scores: &mut [f32] = &mut scores[..rows * stride], stride: usize = stride,
            length: usize = length, scale: f32 = scale, sums: &mut [f32; ROWS] = &mut sums));
        sums
    }

    /// The weighted sums of the values.
    fn gather(&self, scratch: &mut Scratch, rows: usize) {
        let length = self.rows.len();
        let wide = self.whole(self.heads.size);
        let (scores, values) = (Line::floats(&scratch.scores), Line::floats(&scratch.values));
        let context = Line::floats_mut(&mut scratch.context);
        for column in (0..wide).step_by(Size::of(self.isa).columns) {
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
                ahead: weights.as_ptr(),
                ahead_step: 0,
            };
            #[allow(unsafe_code, reason = "tiles work on raw pointers")]
            // SAFETY: `scores` holds `rows` rows of `length` weights, `context` ROWS rows of `wide`
            // floats.
            unsafe {
                tile.run(self.isa, rows);
            }
        }
    }
}

/// The numerators of a softmax over the first `length` scores of each row, and their sums.
#[inline(always)]
fn soften<const FMA: bool>(
    scores: &mut [f32],
    stride: usize,
    length: usize,
    scale: f32,
    sums: &mut [f32; ROWS],
) {
    for (row, sum) in scores.chunks_exact_mut(stride).zip(sums) {
        let row = &mut row[..length];
        let largest = largest(row) * scale;
        let mut lanes = [0.0f32; Line::FLOATS];
        let (chunks, rest) = row.as_chunks_mut::<{ Line::FLOATS }>();
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
        *sum = total(lanes);
    }
}

#[inline(always)]
fn largest(row: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; Line::FLOATS];
    let (chunks, rest) = row.as_chunks::<{ Line::FLOATS }>();
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
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
