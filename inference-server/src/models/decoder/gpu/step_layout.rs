//! Layout of a step's inputs: which tokens, at which positions, in which KV blocks.
//!
//! Decode rows come first, then prefill rows. Everything is one list of 32-bit words, so that a
//! step needs a single upload: four counts (rows, decode rows, rows with logits, unused); token
//! ids, positions, starts of block tables, and rows with logits (each as many words as the capacity
//! in rows); tiles of prefill rows (four words each); and the block tables.

use crate::kernels::gpu::Address;
use crate::kernels::paged::BLOCK_TOKENS;
use crate::models::decoder::StepPiece;

/// Queries of a tile of prefill rows; `QUERIES` of `cuda/decoder.cu`.
const QUERIES: usize = 64;
/// Words of the counts.
const COUNTS: usize = 4;

/// Inputs of a step in the layout that kernels read.
#[derive(Debug, Default)]
pub(super) struct StepLayout {
    words: Vec<u32>,
    /// Rows that the fixed part of the layout has space for.
    pub(super) capacity: usize,
    /// Rows of the step, decode and prefill.
    pub(super) rows: usize,
    pub(super) decode_rows: usize,
    /// Rows with logits.
    pub(super) logit_rows: usize,
    /// Tiles of prefill rows.
    pub(super) tiles: usize,
    /// Tokens of the longest sequence, up to the last one of the step.
    pub(super) longest: usize,
}

/// Device addresses of the parts of a layout.
#[derive(Debug, Clone, Copy)]
pub(super) struct DeviceOffsets {
    /// Number of rows.
    pub(super) row_count: Address,
    /// Number of decode rows.
    pub(super) decode_count: Address,
    /// Number of rows with logits.
    pub(super) logit_count: Address,
    /// Token id of each row.
    pub(super) token_ids: Address,
    /// Position of each row in its sequence.
    pub(super) positions: Address,
    /// Start of each row's block table, counted in words from `block_tables`.
    pub(super) table_starts: Address,
    /// Rows with logits.
    pub(super) logit_rows: Address,
    /// Tiles of prefill rows: first row, rows, position of the first, start of its block table.
    pub(super) tiles: Address,
    /// The block tables.
    pub(super) block_tables: Address,
}

/// Prefill tokens of a piece; they come before those to decode.
fn prefill_tokens(piece: &StepPiece<'_>) -> usize {
    piece.prompt.saturating_sub(piece.start).min(piece.tokens.len())
}

/// Tiles of the prefill tokens of a piece, whose rows begin at `first`: first row, rows, position
/// of the first, start of the block table.
fn prefill_tiles(piece: &StepPiece<'_>, first: usize, table_start: u32) -> impl Iterator<Item = [u32; 4]> {
    let (prefill, start) = (prefill_tokens(piece), piece.start);
    (0..prefill).step_by(QUERIES).map(move |offset| {
        let count = QUERIES.min(prefill - offset);
        [(first + offset) as u32, count as u32, (start + offset) as u32, table_start]
    })
}

impl StepLayout {
    /// Lays out the pieces of a step. `capacity` maps the number of rows, and whether any are
    /// prefill rows, to the rows that the layout has space for.
    ///
    /// Rows with logits are listed in the order of their pieces.
    pub(super) fn new(pieces: &[StepPiece<'_>], capacity: impl FnOnce(usize, bool) -> usize) -> Self {
        let rows: usize = pieces.iter().map(|piece| piece.tokens.len()).sum();
        let prefill_rows: usize = pieces.iter().map(prefill_tokens).sum();
        let capacity = capacity(rows, prefill_rows > 0);
        let mut layout = Self { rows, decode_rows: rows - prefill_rows, capacity, ..Self::default() };
        // Rows beyond those of the step stay zero: kernels stop at the counts and do not read them.
        layout.words = vec![0; COUNTS + 4 * capacity];
        // Rows are numbered in two runs, so that each kind of product has its rows in one range.
        let (mut next_decode, mut next_prefill, mut table_start) = (0, layout.decode_rows, 0);
        let mut tiles: Vec<[u32; 4]> = Vec::new();
        for piece in pieces {
            let (first_prefill, prefill) = (next_prefill, prefill_tokens(piece));
            let mut last = 0;
            for (offset, token) in piece.tokens.iter().enumerate() {
                let next = if offset < prefill { &mut next_prefill } else { &mut next_decode };
                last = *next;
                *next += 1;
                // A piece may cross the end of its prompt: after a preemption, prompt and generated
                // tokens are computed again together.
                let row = [*token, (piece.start + offset) as u32, table_start];
                for (part, word) in row.into_iter().enumerate() {
                    layout.words[COUNTS + part * capacity + last] = word;
                }
            }
            tiles.extend(prefill_tiles(piece, first_prefill, table_start));
            if piece.logits {
                layout.words[COUNTS + 3 * capacity + layout.logit_rows] = last as u32;
                layout.logit_rows += 1;
            }
            let end = piece.start + piece.tokens.len();
            layout.longest = layout.longest.max(end);
            table_start += end.div_ceil(BLOCK_TOKENS) as u32;
        }
        let counts = [layout.rows as u32, layout.decode_rows as u32, layout.logit_rows as u32];
        layout.words[..3].copy_from_slice(&counts);
        layout.tiles = tiles.len();
        // Tiles and block tables have no fixed length: they follow the part that recordings rely
        // on.
        layout.words.extend(tiles.as_flattened());
        for piece in pieces {
            let end = piece.start + piece.tokens.len();
            layout.words.extend(&piece.blocks[..end.div_ceil(BLOCK_TOKENS)]);
        }
        layout
    }

    /// The layout as it is uploaded.
    pub(super) fn bytes(&self) -> Vec<u8> {
        self.words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// Addresses of the parts once the layout is at `base`.
    pub(super) fn offsets(&self, base: Address) -> DeviceOffsets {
        let parts = std::array::from_fn(|part| word(base, COUNTS + part * self.capacity));
        let [token_ids, positions, table_starts, logit_rows, tiles] = parts;
        DeviceOffsets {
            row_count: base,
            decode_count: word(base, 1),
            logit_count: word(base, 2),
            token_ids,
            positions,
            table_starts,
            logit_rows,
            tiles,
            block_tables: word(base, COUNTS + 4 * (self.capacity + self.tiles)),
        }
    }
}

/// Address of a word of the layout at `base`.
fn word(base: Address, index: usize) -> Address {
    base + (index * size_of::<u32>()) as Address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_rows_come_before_those_of_prompts() {
        let pieces = [
            StepPiece { tokens: &[5, 6, 7], start: 31, blocks: &[9, 8, 1], prompt: 33, logits: true },
            StepPiece { tokens: &[4], start: 2, blocks: &[7], prompt: 1, logits: true },
            StepPiece { tokens: &[3, 2], start: 0, blocks: &[6], prompt: 9, logits: false },
        ];
        let layout = StepLayout::new(&pieces, |rows, prefill| {
            assert!(prefill);
            rows.next_multiple_of(8)
        });
        assert_eq!((layout.rows, layout.decode_rows, layout.logit_rows), (6, 2, 2));
        assert_eq!((layout.tiles, layout.longest), (2, 34));
        let part = |index: usize, count: usize| &layout.words[4 + 8 * index..][..count];
        assert_eq!(layout.words[..4], [6, 2, 2, 0]);
        assert_eq!(part(0, 6), [7, 4, 5, 6, 3, 2], "token ids");
        assert_eq!(part(1, 6), [33, 2, 31, 32, 0, 1], "positions");
        assert_eq!(part(2, 6), [0, 2, 0, 0, 3, 3], "starts of block tables");
        assert_eq!(part(3, 2), [0, 1], "rows with logits");
        assert_eq!(part(4, 12), [2, 2, 31, 0, 4, 2, 0, 3, 9, 8, 7, 6], "tiles and block tables");
        let offsets = layout.offsets(1_000);
        assert_eq!((offsets.tiles, offsets.block_tables), (1_000 + 4 * 36, 1_000 + 4 * 44));
    }
}
