//! Causal attention over keys and values that lie in blocks (Kwon et al. 2023, arXiv:2309.06180),
//! for pieces of texts of any lengths that are packed one after the other.
//!
//! Query heads that share keys are computed together. What a query attends to is summed block by
//! block in the order of the text, so its context is the same bits whichever blocks hold it and
//! whatever else is computed with it.

use std::cell::RefCell;
use std::ops::Range;

use super::gemm::tile::{ROWS, Size, Tile};
use super::isa::{Isa, by_isa};
use super::math::exp;
use super::matrix::{Line, Matrix, PANEL, STRIP};
use super::norm::total;
use super::parallel::{self, Shared};

/// Tokens of a block.
pub(crate) const BLOCK: usize = 32;

/// Heads of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Heads of keys and values.
    pub shared: usize,
    /// Query heads for each of them.
    pub group: usize,
    /// Columns of each head.
    pub size: usize,
}

impl Shape {
    /// Columns of all query heads.
    pub fn queries(self) -> usize {
        self.shared * self.group * self.size
    }

    /// Columns of all heads of keys, or of values.
    pub fn keys(self) -> usize {
        self.shared * self.size
    }

    /// Columns of a head of values, filled up to whole tiles.
    fn wide(self) -> usize {
        self.size.next_multiple_of(PANEL)
    }

    /// Floats of a block's keys and values of one head.
    fn head_floats(self) -> usize {
        BLOCK * (self.size + self.wide())
    }

    /// Bytes of a block.
    pub fn block_bytes(self) -> usize {
        self.shared * self.head_floats() * size_of::<f32>()
    }
}

/// Keys and values of one layer, and how queries see them.
///
/// A block holds for each head its keys, transposed, in strips of 16 tokens, and its values in
/// strips of 16 columns.
#[derive(Debug)]
pub(crate) struct Pages {
    shape: Shape,
    view: View,
    blocks: Vec<Vec<Line>>,
}

impl Pages {
    /// No blocks yet.
    pub(crate) fn new(shape: Shape, view: View) -> Self {
        Self { shape, view, blocks: Vec::new() }
    }

    /// Takes memory for the blocks with numbers below `count`.
    pub(crate) fn reserve(&mut self, count: usize) {
        let floats = self.shape.shared * self.shape.head_floats();
        while self.blocks.len() < count {
            self.blocks.push(Line::zeros(floats));
        }
    }

    /// Stores a token's keys and values of all heads in a place of a block.
    pub(crate) fn write(&mut self, block: u32, place: usize, keys: &[f32], values: &[f32]) {
        let Shape { size, .. } = self.shape;
        let floats = Line::floats_mut(&mut self.blocks[block as usize]);
        let heads = floats.chunks_exact_mut(self.shape.head_floats());
        for ((head, key), value) in heads.zip(keys.chunks_exact(size)).zip(values.chunks_exact(size)) {
            let (stored_keys, stored_values) = head.split_at_mut(BLOCK * size);
            let strip = &mut stored_keys[place / STRIP * STRIP * size..][..STRIP * size];
            for (line, x) in strip.as_chunks_mut::<STRIP>().0.iter_mut().zip(key) {
                line[place % STRIP] = *x;
            }
            for (strip, part) in stored_values.chunks_exact_mut(BLOCK * STRIP).zip(value.chunks(STRIP)) {
                strip[place * STRIP..][..part.len()].copy_from_slice(part);
            }
        }
    }

    fn head(&self, block: u32, head: usize) -> (&[f32], &[f32]) {
        let floats = self.shape.head_floats();
        Line::floats(&self.blocks[block as usize])[head * floats..][..floats]
            .split_at(BLOCK * self.shape.size)
    }
}

/// A piece of a text: some of its tokens, whose keys and values are stored already, as are those
/// before.
#[derive(Debug, Clone)]
pub(crate) struct Piece<'a> {
    /// Its rows of the batch.
    pub rows: Range<usize>,
    /// Place of its first token in the text.
    pub start: usize,
    /// Blocks of the text, in order.
    pub blocks: &'a [u32],
}

/// How much a query sees, and how sharply.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct View {
    /// Factor of the scores.
    pub scale: f32,
    /// Tokens that a query sees at most, itself included; `None` sees all before it.
    pub window: Option<usize>,
}

/// Buffers of one thread.
#[derive(Default)]
struct Scratch {
    queries: Vec<Line>,
    scores: Vec<Line>,
    context: Vec<Line>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Attention of the pieces; the queries of all heads stand in the first columns of `queries`.
pub(crate) fn attend(isa: Isa, queries: &Matrix, pieces: &[Piece<'_>], pages: &Pages, out: &mut Matrix) {
    let shape = pages.shape;
    assert!(queries.width() >= shape.queries(), "queries of all heads");
    assert!(pieces.windows(2).all(|pair| pair[0].rows.end <= pair[1].rows.start), "pieces do not overlap");
    out.resize(queries.rows(), shape.queries());
    let stride = out.stride();
    let shared = Shared::new(out.data_mut());
    let most = Size::of(isa).rows;
    let mut jobs = Vec::new();
    for piece in pieces {
        assert!(piece.rows.end <= queries.rows(), "pieces lie inside the batch");
        assert!(
            (piece.start + piece.rows.len()).div_ceil(BLOCK) <= piece.blocks.len(),
            "every token has a place"
        );
        let pairs = piece.rows.len() * shape.group;
        for head in 0..shape.shared {
            let firsts = (0..pairs).step_by(most);
            jobs.extend(firsts.map(|first| (piece, head, first..(first + most).min(pairs))));
        }
    }
    parallel::each_light(jobs.len(), |index| {
        let (piece, head, pairs) = &jobs[index];
        let job = Job { isa, queries, piece, pages, head: *head, pairs: pairs.clone() };
        SCRATCH.with_borrow_mut(|scratch| job.run(scratch, shared, stride));
    });
}

/// Some queries of a piece that share keys: pairs of a token and one of the heads of its group,
/// token by token.
struct Job<'a> {
    isa: Isa,
    queries: &'a Matrix,
    piece: &'a Piece<'a>,
    pages: &'a Pages,
    head: usize,
    pairs: Range<usize>,
}

impl Job<'_> {
    /// Row of the batch and first column of a pair's query.
    fn place(&self, pair: usize) -> (usize, usize) {
        let Shape { group, size, .. } = self.pages.shape;
        (self.piece.rows.start + pair / group, (self.head * group + pair % group) * size)
    }

    /// Tokens that a pair's query sees.
    fn seen(&self, pair: usize) -> Range<usize> {
        let end = self.piece.start + pair / self.pages.shape.group + 1;
        self.pages.view.window.map_or(0, |window| end.saturating_sub(window))..end
    }

    /// Numbers of the blocks that hold what any of the pairs sees.
    fn blocks(&self) -> Range<usize> {
        let (first, last) = (self.seen(self.pairs.start), self.seen(self.pairs.end - 1));
        first.start / BLOCK..last.end.div_ceil(BLOCK)
    }

    fn run(&self, scratch: &mut Scratch, out: Shared<f32>, out_stride: usize) {
        let Shape { size, .. } = self.pages.shape;
        let wide = self.pages.shape.wide();
        let blocks = self.blocks();
        let stride = blocks.len() * BLOCK + Line::FLOATS;
        Line::reserve(&mut scratch.queries, ROWS * size);
        Line::reserve(&mut scratch.scores, ROWS * stride);
        Line::reserve(&mut scratch.context, ROWS * wide);
        for (row, pair) in self.pairs.clone().enumerate() {
            let (token, column) = self.place(pair);
            let query = &self.queries.row(token)[column..column + size];
            Line::floats_mut(&mut scratch.queries)[row * size..][..size].copy_from_slice(query);
        }
        let mut factors = [0.0f32; ROWS];
        self.weigh(scratch, &blocks, stride, &mut factors);
        self.gather(scratch, &blocks, stride);
        let context = Line::floats(&scratch.context);
        for ((row, pair), factor) in self.pairs.clone().enumerate().zip(factors) {
            let (token, column) = self.place(pair);
            #[allow(unsafe_code, reason = "tasks write disjoint parts of one matrix")]
            // SAFETY: the row lies in `out`, and this task alone writes this head's columns of it.
            let target = unsafe {
                std::slice::from_raw_parts_mut(out.pointer().add(token * out_stride + column), size)
            };
            for (x, value) in target.iter_mut().zip(&context[row * wide..]) {
                *x = value * factor;
            }
        }
    }

    /// e^(score - largest) of every pair for all tokens of the blocks, 0 for those it does not see,
    /// and the inverse of their sum.
    fn weigh(&self, scratch: &mut Scratch, blocks: &Range<usize>, stride: usize, factors: &mut [f32; ROWS]) {
        let size = self.pages.shape.size;
        let queries = Line::floats(&scratch.queries);
        let scores = Line::floats_mut(&mut scratch.scores);
        for (index, block) in blocks.clone().enumerate() {
            let (keys, _) = self.pages.head(self.piece.blocks[block], self.head);
            for column in (0..BLOCK).step_by(Size::of(self.isa).columns) {
                let tile = Tile {
                    inputs: queries.as_ptr(),
                    input_stride: size,
                    weights: keys[column * size..].as_ptr(),
                    strip_stride: STRIP * size,
                    depth: size,
                    out: scores[index * BLOCK + column..].as_mut_ptr(),
                    out_stride: stride,
                    accumulate: false,
                    ahead: keys.as_ptr(),
                    ahead_step: 0,
                };
                #[allow(unsafe_code, reason = "tiles work on raw pointers")]
                // SAFETY: so many rows of `size` floats were copied, and `scores` has ROWS rows of
                // `stride` floats.
                unsafe {
                    tile.run(self.isa, self.pairs.len());
                }
            }
        }
        for ((row, pair), factor) in self.pairs.clone().enumerate().zip(factors) {
            let seen = self.seen(pair);
            let seen = seen.start - blocks.start * BLOCK..seen.end - blocks.start * BLOCK;
            let row = &mut scores[row * stride..][..blocks.len() * BLOCK];
            let mut sum = 0.0;
            by_isa!(self.isa, soften(row: &mut [f32] = row, seen: Range<usize> = seen,
                scale: f32 = self.pages.view.scale, sum: &mut f32 = &mut sum));
            *factor = 1.0 / sum;
        }
    }

    /// The weighted sums of the values.
    fn gather(&self, scratch: &mut Scratch, blocks: &Range<usize>, stride: usize) {
        let wide = self.pages.shape.wide();
        let scores = Line::floats(&scratch.scores);
        let context = Line::floats_mut(&mut scratch.context);
        for (index, block) in blocks.clone().enumerate() {
            let (_, values) = self.pages.head(self.piece.blocks[block], self.head);
            for column in (0..wide).step_by(Size::of(self.isa).columns) {
                let tile = Tile {
                    inputs: scores[index * BLOCK..].as_ptr(),
                    input_stride: stride,
                    weights: values[column * BLOCK..].as_ptr(),
                    strip_stride: STRIP * BLOCK,
                    depth: BLOCK,
                    out: context[column..].as_mut_ptr(),
                    out_stride: wide,
                    accumulate: index > 0,
                    ahead: values.as_ptr(),
                    ahead_step: 0,
                };
                #[allow(unsafe_code, reason = "tiles work on raw pointers")]
                // SAFETY: `scores` holds a row of weights for each pair, `context` ROWS rows of
                // `wide` floats.
                unsafe {
                    tile.run(self.isa, self.pairs.len());
                }
            }
        }
    }
}

/// The numerators of a softmax over the scores in `seen`, zero elsewhere, and their sum.
#[inline(always)]
fn soften<const FMA: bool>(row: &mut [f32], seen: Range<usize>, scale: f32, sum: &mut f32) {
    row[..seen.start].fill(f32::NEG_INFINITY);
    row[seen.end..].fill(f32::NEG_INFINITY);
    let chunks = row.as_chunks_mut::<{ Line::FLOATS }>().0;
    let mut lanes = [f32::NEG_INFINITY; Line::FLOATS];
    for chunk in chunks.iter() {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane = if *x > *lane { *x } else { *lane };
        }
    }
    let largest =
        lanes.into_iter().fold(f32::NEG_INFINITY, |most, lane| if lane > most { lane } else { most });
    let largest = largest * scale;
    let mut lanes = [0.0f32; Line::FLOATS];
    for chunk in chunks {
        for (x, lane) in chunk.iter_mut().zip(&mut lanes) {
            // `exp` ends above zero, however small its argument.
            *x = if *x > f32::NEG_INFINITY { exp::<FMA>(*x * scale - largest) } else { 0.0 };
            *lane += *x;
        }
    }
    *sum = total(lanes);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kernels::samples::values;

    /// A text's queries, keys and values side by side.
    fn text(shape: Shape, length: usize, seed: u64) -> Matrix {
        let width = shape.queries() + 2 * shape.keys();
        Matrix::from_rows(&values(length * width, seed), width)
    }

    /// Writes the tokens of a text into blocks that are taken from the end.
    fn store(shape: Shape, text: &Matrix, pages: &mut Pages, next: &mut u32) -> Vec<u32> {
        let mut blocks = Vec::new();
        for token in 0..text.rows() {
            if token % BLOCK == 0 {
                *next -= 1;
                blocks.push(*next);
            }
            let row = &text.row(token)[shape.queries()..];
            pages.write(blocks[token / BLOCK], token % BLOCK, &row[..shape.keys()], &row[shape.keys()..]);
        }
        blocks
    }

    fn exact(shape: Shape, text: &Matrix, token: usize, head: usize, view: View) -> Vec<f64> {
        let size = shape.size;
        let shared = shape.queries() + head / shape.group * size;
        let query = &text.row(token)[head * size..][..size];
        let first = view.window.map_or(0, |window| (token + 1).saturating_sub(window));
        let score = |other: usize| {
            let key = &text.row(other)[shared..][..size];
            let dot: f64 = query.iter().zip(key).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
            (dot * f64::from(view.scale)).exp()
        };
        let weights: Vec<f64> = (first..=token).map(score).collect();
        let sum: f64 = weights.iter().sum();
        let column = |column: usize| {
            let value = |other: usize| f64::from(text.row(other)[shared + shape.keys() + column]);
            (first..=token).zip(&weights).map(|(other, weight)| value(other) * weight).sum::<f64>() / sum
        };
        (0..size).map(column).collect()
    }

    #[test]
    fn contexts_are_near_those_of_f64() {
        for (shape, window) in [
            (Shape { shared: 1, group: 1, size: 16 }, None),
            (Shape { shared: 2, group: 7, size: 64 }, None),
            (Shape { shared: 2, group: 2, size: 20 }, Some(8)),
            (Shape { shared: 1, group: 3, size: 32 }, Some(33)),
        ] {
            let view = View { scale: 0.3, window };
            for length in [1, 5, 32, 33, 100] {
                let text = text(shape, length, 7);
                let mut pages = Pages::new(shape, view);
                pages.reserve(8);
                let blocks = store(shape, &text, &mut pages, &mut 8);
                let piece = Piece { rows: 0..length, start: 0, blocks: &blocks };
                for isa in Isa::available() {
                    let mut out = Matrix::default();
                    attend(isa, &text, std::slice::from_ref(&piece), &pages, &mut out);
                    for (token, head) in
                        (0..length).flat_map(|t| (0..shape.shared * shape.group).map(move |h| (t, h)))
                    {
                        let got = &out.row(token)[head * shape.size..][..shape.size];
                        for (got, expected) in got.iter().zip(exact(shape, &text, token, head, view)) {
                            let error = (f64::from(*got) - expected).abs();
                            assert!(error < 3e-6, "{isa:?} {shape:?} {length} {token} {head}: {error}");
                        }
                    }
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// However a text is cut into pieces, wherever its blocks lie and whatever is computed
        /// beside it.
        #[test]
        fn contexts_are_the_same_bits_in_any_company(
            length in 1usize..120, cuts in prop::collection::vec(1usize..40, 1..8),
            beside in 1usize..50, window in prop::option::of(1usize..60), threads in 1usize..4
        ) {
            let shape = Shape { shared: 2, group: 3, size: 32 };
            let view = View { scale: 0.2, window };
            let (text, other) = (text(shape, length, 1), text(shape, beside, 2));
            let mut pages = Pages::new(shape, view);
            pages.reserve(16);
            let (first, mut next) = (store(shape, &text, &mut pages, &mut 4), 16);
            let beside_blocks = store(shape, &other, &mut pages, &mut next);
            let again = store(shape, &text, &mut pages, &mut next);
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            for isa in Isa::available() {
                let mut whole = Matrix::default();
                let piece = Piece { rows: 0..length, start: 0, blocks: &first };
                attend(isa, &text, &[piece], &pages, &mut whole);
                let (mut start, mut cuts) = (0, cuts.iter().cycle());
                while start < length {
                    let count = (*cuts.next().unwrap()).min(length - start);
                    let width = text.width();
                    let rows: Vec<f32> = (0..beside).flat_map(|row| other.row(row))
                        .chain((start..start + count).flat_map(|row| text.row(row))).copied().collect();
                    let batch = Matrix::from_rows(&rows, width);
                    let pieces = [
                        Piece { rows: 0..beside, start: 0, blocks: &beside_blocks },
                        Piece { rows: beside..beside + count, start, blocks: &again },
                    ];
                    let mut out = Matrix::default();
                    pool.install(|| attend(isa, &batch, &pieces, &pages, &mut out));
                    for row in 0..count {
                        prop_assert_eq!(out.row(beside + row), whole.row(start + row));
                    }
                    start += count;
                }
            }
        }
    }
}
