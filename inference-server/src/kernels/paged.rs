//! Paged attention (Kwon et al. 2023, arXiv:2309.06180): causal attention of decoders over a KV
//! cache in blocks, for prefill and decode alike.
//!
//! A step holds pieces of sequences of any lengths, packed one after the other; the block table of
//! a sequence says where its keys and values are. Query heads that share a KV head (grouped-query
//! attention, Ainslie et al. 2023, arXiv:2305.13245) are computed together, so keys are read once
//! for the group. Scores of a register tile are kept for all keys, then a softmax is taken of them:
//! two passes, without online rescaling.
//!
//! Values are summed block by block in the order of the sequence, so a context has the same bits
//! whichever blocks hold it, however the sequence is cut into pieces, and whatever else is in the
//! step.

use std::cell::RefCell;
use std::ops::Range;

use super::gemm::micro_kernel::{MAX_TILE_ROWS, Tile, TileSize};
use super::isa::{Isa, by_isa};
use super::math::{LANES, exp, sum_lanes};
use super::matrix::{CacheLine, Matrix, PANEL, STRIP};
use super::parallel::{self, SyncPtr};

/// Tokens of a KV block. Two strips of 16, so that a block of keys is a whole panel for the widest
/// micro-kernel; vLLM's default is 16.
pub(crate) const BLOCK_TOKENS: usize = 32;

/// Heads of a decoder layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttentionShape {
    /// Number of KV heads.
    pub kv_heads: usize,
    /// Number of query heads that share a KV head.
    pub group: usize,
    /// Columns of a head.
    pub size: usize,
}

impl AttentionShape {
    /// Columns of all query heads.
    pub fn queries(self) -> usize {
        self.kv_heads * self.group * self.size
    }

    /// Columns of the keys of all KV heads, or of their values.
    pub fn keys(self) -> usize {
        self.kv_heads * self.size
    }

    /// Columns of a head of values, rounded up to whole tiles.
    fn padded_size(self) -> usize {
        self.size.next_multiple_of(PANEL)
    }

    /// Floats that a block takes for the keys and values of one KV head.
    fn head_floats(self) -> usize {
        BLOCK_TOKENS * (self.size + self.padded_size())
    }

    /// Bytes of a block of one layer.
    pub fn block_bytes(self) -> usize {
        self.kv_heads * self.head_floats() * size_of::<f32>()
    }
}

/// The KV cache of one layer, in f32, and the parameters of its attention.
///
/// A block holds for each KV head its keys, transposed, in strips of 16 tokens, and its values in
/// strips of 16 columns: the packed operands of the micro-kernel, so that nothing is repacked when
/// they are read. Tokens of a block that were not written yet hold zeros or what an earlier
/// sequence left; they are never multiplied, not even by zero.
#[derive(Debug)]
pub(crate) struct LayerKvCache {
    shape: AttentionShape,
    params: AttentionParams,
    blocks: Vec<Vec<CacheLine>>,
}

impl LayerKvCache {
    /// A cache without blocks.
    pub(crate) fn new(shape: AttentionShape, params: AttentionParams) -> Self {
        Self { shape, params, blocks: Vec::new() }
    }

    /// Allocates the blocks with numbers below `count`.
    pub(crate) fn reserve(&mut self, count: usize) {
        let floats = self.shape.kv_heads * self.shape.head_floats();
        while self.blocks.len() < count {
            self.blocks.push(CacheLine::zeros(floats));
        }
    }

    /// Stores the keys and values of a token, of all KV heads, at a place of a block.
    pub(crate) fn write(&mut self, block: u32, place: usize, keys: &[f32], values: &[f32]) {
        let AttentionShape { size, .. } = self.shape;
        let floats = CacheLine::floats_mut(&mut self.blocks[block as usize]);
        let heads = floats.chunks_exact_mut(self.shape.head_floats());
        for ((head, key), value) in heads.zip(keys.chunks_exact(size)).zip(values.chunks_exact(size)) {
            let (stored_keys, stored_values) = head.split_at_mut(BLOCK_TOKENS * size);
            let strip = &mut stored_keys[place / STRIP * STRIP * size..][..STRIP * size];
            for (line, x) in strip.as_chunks_mut::<STRIP>().0.iter_mut().zip(key) {
                line[place % STRIP] = *x;
            }
            for (strip, part) in stored_values.chunks_exact_mut(BLOCK_TOKENS * STRIP).zip(value.chunks(STRIP))
            {
                strip[place * STRIP..][..part.len()].copy_from_slice(part);
            }
        }
    }

    /// The packed keys and values of a KV head in a block.
    fn head(&self, block: u32, head: usize) -> (&[f32], &[f32]) {
        let floats = self.shape.head_floats();
        CacheLine::floats(&self.blocks[block as usize])[head * floats..][..floats]
            .split_at(BLOCK_TOKENS * self.shape.size)
    }
}

/// Some consecutive tokens of a sequence. Their keys and values are in the cache already, as are
/// those of all tokens before them.
#[derive(Debug, Clone)]
pub(crate) struct Piece<'a> {
    /// Rows of the step.
    pub rows: Range<usize>,
    /// Position of the first token in the sequence.
    pub start: usize,
    /// Block table of the sequence.
    pub blocks: &'a [u32],
}

/// Parameters of the attention of one layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct AttentionParams {
    /// Factor of the scores, usually 1/√d.
    pub scale: f32,
    /// Sliding window: the number of tokens that a query attends to, itself included. `None`
    /// attends to all before it.
    pub window: Option<usize>,
}

/// Buffers of a thread, reused between tasks.
#[derive(Default)]
struct Scratch {
    queries: Vec<CacheLine>,
    scores: Vec<CacheLine>,
    context: Vec<CacheLine>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Computes the attention of some pieces over the cache. The queries of all heads are the first
/// columns of a row of `queries`, rotated already.
///
/// # Panics
/// If pieces overlap, lie outside of the step, or have too few blocks.
pub(crate) fn attend(
    isa: Isa,
    queries: &Matrix,
    pieces: &[Piece<'_>],
    cache: &LayerKvCache,
    out: &mut Matrix,
) {
    let shape = cache.shape;
    assert!(queries.width() >= shape.queries(), "queries of all heads");
    assert!(pieces.windows(2).all(|pair| pair[0].rows.end <= pair[1].rows.start), "pieces do not overlap");
    out.resize(queries.rows(), shape.queries());
    let stride = out.stride();
    let out = SyncPtr::new(out.data_mut());
    let most = TileSize::of(isa).rows;
    let mut tasks = Vec::new();
    for piece in pieces {
        assert!(piece.rows.end <= queries.rows(), "pieces lie inside the batch");
        assert!(
            (piece.start + piece.rows.len()).div_ceil(BLOCK_TOKENS) <= piece.blocks.len(),
            "every token has a place in a block"
        );
        let pairs = piece.rows.len() * shape.group;
        for head in 0..shape.kv_heads {
            // Token by token within a tile, so that its queries see almost the same keys.
            let firsts = (0..pairs).step_by(most);
            tasks.extend(firsts.map(|first| (piece, head, first..(first + most).min(pairs))));
        }
    }
    parallel::each_light(tasks.len(), |index| {
        let (piece, head, pairs) = &tasks[index];
        let task = TileTask { isa, queries, piece, cache, head: *head, pairs: pairs.clone() };
        SCRATCH.with_borrow_mut(|scratch| task.run(scratch, out, stride));
    });
}

/// A register tile of queries of a piece that share a KV head: pairs of a token and a query head of
/// the group, token by token.
struct TileTask<'a> {
    isa: Isa,
    queries: &'a Matrix,
    piece: &'a Piece<'a>,
    cache: &'a LayerKvCache,
    /// KV head.
    head: usize,
    pairs: Range<usize>,
}

impl TileTask<'_> {
    /// Row of the step and first column of a pair's query.
    fn place(&self, pair: usize) -> (usize, usize) {
        let AttentionShape { group, size, .. } = self.cache.shape;
        (self.piece.rows.start + pair / group, (self.head * group + pair % group) * size)
    }

    /// Tokens that a pair's query attends to.
    fn seen(&self, pair: usize) -> Range<usize> {
        let end = self.piece.start + pair / self.cache.shape.group + 1;
        self.cache.params.window.map_or(0, |window| end.saturating_sub(window))..end
    }

    /// Tokens of an entry of the block table that a pair's query attends to, counted within it.
    fn seen_in(&self, block: usize, pair: usize) -> Range<usize> {
        let (seen, before) = (self.seen(pair), block * BLOCK_TOKENS);
        let [start, end] = [seen.start, seen.end].map(|at| at.saturating_sub(before).min(BLOCK_TOKENS));
        start..end
    }

    /// Entries of the block table that any of the pairs attends to.
    fn blocks(&self) -> Range<usize> {
        let (first, last) = (self.seen(self.pairs.start), self.seen(self.pairs.end - 1));
        first.start / BLOCK_TOKENS..last.end.div_ceil(BLOCK_TOKENS)
    }

    /// Computes the contexts of all pairs and stores them.
    fn run(&self, scratch: &mut Scratch, out: SyncPtr<f32>, out_stride: usize) {
        let AttentionShape { size, .. } = self.cache.shape;
        let padded = self.cache.shape.padded_size();
        let blocks = self.blocks();
        let stride = blocks.len() * BLOCK_TOKENS + CacheLine::FLOATS;
        CacheLine::reserve(&mut scratch.queries, MAX_TILE_ROWS * size);
        CacheLine::reserve(&mut scratch.scores, MAX_TILE_ROWS * stride);
        CacheLine::reserve(&mut scratch.context, MAX_TILE_ROWS * padded);
        for (row, pair) in self.pairs.clone().enumerate() {
            let (token, column) = self.place(pair);
            let query = &self.queries.row(token)[column..column + size];
            CacheLine::floats_mut(&mut scratch.queries)[row * size..][..size].copy_from_slice(query);
        }
        let mut factors = [0.0f32; MAX_TILE_ROWS];
        self.softmax_weights(scratch, &blocks, stride, &mut factors);
        self.weighted_values(scratch, &blocks, stride);
        let context = CacheLine::floats(&scratch.context);
        for ((row, pair), factor) in self.pairs.clone().enumerate().zip(factors) {
            let (token, column) = self.place(pair);
            #[allow(unsafe_code, reason = "tasks write disjoint parts of one matrix")]
            // SAFETY: `out` has a row for each row of `queries` and columns for all query heads.
            // Pieces do not overlap, and a pair is in one task, so no other task accesses this
            // query head's columns of this row.
            let target = unsafe {
                std::slice::from_raw_parts_mut(out.pointer().add(token * out_stride + column), size)
            };
            for (x, value) in target.iter_mut().zip(&context[row * padded..]) {
                *x = value * factor;
            }
        }
    }

    /// Computes e^(score - max) of every pair for all tokens of the blocks, 0 for those that are
    /// masked, and the inverses of their sums.
    fn softmax_weights(
        &self,
        scratch: &mut Scratch,
        blocks: &Range<usize>,
        stride: usize,
        factors: &mut [f32; MAX_TILE_ROWS],
    ) {
        let size = self.cache.shape.size;
        let queries = CacheLine::floats(&scratch.queries);
        let scores = CacheLine::floats_mut(&mut scratch.scores);
        for (index, block) in blocks.clone().enumerate() {
            let (keys, _) = self.cache.head(self.piece.blocks[block], self.head);
            for column in (0..BLOCK_TOKENS).step_by(TileSize::of(self.isa).columns) {
                let tile = Tile {
                    inputs: queries.as_ptr(),
                    input_stride: size,
                    weights: keys[column * size..].as_ptr(),
                    strip_stride: STRIP * size,
                    depth: size,
                    out: scores[index * BLOCK_TOKENS + column..].as_mut_ptr(),
                    out_stride: stride,
                    accumulate: false,
                    prefetch: keys.as_ptr(),
                    prefetch_step: 0,
                };
                #[allow(unsafe_code, reason = "the micro-kernel works on raw pointers")]
                // SAFETY: `pairs.len()` rows of `size` floats were copied into the scratch, a block
                // holds `size` lines for each of its strips of keys, and `scores` has room for
                // MAX_TILE_ROWS rows of `stride` floats. The scratch belongs to this thread.
                unsafe {
                    tile.run(self.isa, self.pairs.len());
                }
            }
        }
        for ((row, pair), factor) in self.pairs.clone().enumerate().zip(factors) {
            let seen = self.seen(pair);
            let seen = seen.start - blocks.start * BLOCK_TOKENS..seen.end - blocks.start * BLOCK_TOKENS;
            let row = &mut scores[row * stride..][..blocks.len() * BLOCK_TOKENS];
            let mut sum = 0.0;
            by_isa!(self.isa, softmax(row: &mut [f32] = row, seen: Range<usize> = seen,
                scale: f32 = self.cache.params.scale, sum: &mut f32 = &mut sum));
            // The sum is at least 1, as the largest score has weight 1.
            *factor = 1.0 / sum;
        }
    }

    /// Multiplies the weights by the values, block by block.
    ///
    /// A weight of zero does not mask a value: zero times infinity is NaN. So values that no pair
    /// sees are left out, and where pairs see different values of which one is not finite, each
    /// pair is computed by itself. Either leaves out terms of zero only, so sums keep their bits.
    fn weighted_values(&self, scratch: &mut Scratch, blocks: &Range<usize>, stride: usize) {
        for (index, block) in blocks.clone().enumerate() {
            let place = BlockPlace { index, block, stride };
            let first = self.seen_in(block, self.pairs.start);
            let last = self.seen_in(block, self.pairs.end - 1);
            // Both ends of the range move with the pair, so these two parts are not seen by all.
            let shared = self.are_finite(block, first.start..last.start)
                && self.are_finite(block, first.end..last.end);
            if shared {
                self.add_values(scratch, place, 0..self.pairs.len(), first.start..last.end);
                continue;
            }
            for (row, pair) in self.pairs.clone().enumerate() {
                self.add_values(scratch, place, row..row + 1, self.seen_in(block, pair));
            }
        }
    }

    /// Returns true if the values of some tokens of a block are finite numbers.
    fn are_finite(&self, block: usize, tokens: Range<usize>) -> bool {
        let (_, values) = self.cache.head(self.piece.blocks[block], self.head);
        let strips = values.chunks_exact(BLOCK_TOKENS * STRIP);
        tokens.is_empty()
            || strips
                .flat_map(|strip| &strip[tokens.start * STRIP..tokens.end * STRIP])
                .all(|x| x.is_finite())
    }

    /// Multiplies the weights of some rows of the tile by the values of some tokens of a block, and
    /// adds the products to their contexts; the first block begins them.
    fn add_values(&self, scratch: &mut Scratch, place: BlockPlace, rows: Range<usize>, tokens: Range<usize>) {
        let BlockPlace { index, block, stride } = place;
        let padded = self.cache.shape.padded_size();
        let scores = CacheLine::floats(&scratch.scores);
        let context = CacheLine::floats_mut(&mut scratch.context);
        let (_, values) = self.cache.head(self.piece.blocks[block], self.head);
        for column in (0..padded).step_by(TileSize::of(self.isa).columns) {
            let tile = Tile {
                inputs: scores[rows.start * stride + index * BLOCK_TOKENS + tokens.start..].as_ptr(),
                input_stride: stride,
                weights: values[column * BLOCK_TOKENS..].as_ptr().wrapping_add(tokens.start * STRIP),
                strip_stride: STRIP * BLOCK_TOKENS,
                depth: tokens.len(),
                out: context[rows.start * padded + column..].as_mut_ptr(),
                out_stride: padded,
                accumulate: index > 0,
                prefetch: values.as_ptr(),
                prefetch_step: 0,
            };
            #[allow(unsafe_code, reason = "the micro-kernel works on raw pointers")]
            // SAFETY: `scores` holds a row of weights for each pair, a block holds BLOCK_TOKENS
            // lines for each of its strips of values, of which `tokens` are some, and `context` has
            // room for MAX_TILE_ROWS rows of `padded` floats. The scratch belongs to this thread.
            unsafe {
                tile.run(self.isa, rows.len());
            }
        }
    }
}

/// A block whose values are added.
#[derive(Clone, Copy)]
struct BlockPlace {
    /// Number among the blocks that the tile attends to.
    index: usize,
    /// Entry of the block table.
    block: usize,
    /// Floats from the weights of one row to those of the next.
    stride: usize,
}

/// Replaces the scores of a row by the numerators of a softmax over those in `seen`, zero
/// elsewhere, and stores their sum, the denominator.
#[inline(always)]
fn softmax<const FMA: bool>(row: &mut [f32], seen: Range<usize>, scale: f32, sum: &mut f32) {
    // Overwritten and not added to: a score of a stale key may be NaN.
    row[..seen.start].fill(f32::NEG_INFINITY);
    row[seen.end..].fill(f32::NEG_INFINITY);
    // No rest: a row is whole blocks, which are whole vectors.
    let chunks = row.as_chunks_mut::<LANES>().0;
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for chunk in chunks.iter() {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane = if *x > *lane { *x } else { *lane };
        }
    }
    let largest =
        lanes.into_iter().fold(f32::NEG_INFINITY, |most, lane| if lane > most { lane } else { most });
    let largest = largest * scale;
    let mut lanes = [0.0f32; LANES];
    for chunk in chunks {
        for (x, lane) in chunk.iter_mut().zip(&mut lanes) {
            // Explicitly zero: `exp` keeps above zero, however small its argument.
            *x = if *x > f32::NEG_INFINITY { exp::<FMA>(*x * scale - largest) } else { 0.0 };
            *lane += *x;
        }
    }
    *sum = sum_lanes(lanes);
}

#[cfg(test)]
mod tests;
