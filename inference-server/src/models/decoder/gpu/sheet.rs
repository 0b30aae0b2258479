//! What a step tells the device: which tokens, where they stand, which blocks hold their texts.
//!
//! Rows of written tokens come first, then those of prompts. All of it is one list of words: four
//! counts (rows, written ones, rows whose logits are asked for, nothing), ids, places in the texts,
//! beginnings of the texts' lists of blocks, rows that are asked for (as many words each as there
//! is room for rows), tiles of prompts (four words each), and the lists of blocks.

use crate::kernels::gpu::Address;
use crate::kernels::paged::BLOCK_TOKENS;
use crate::models::decoder::StepPiece;

/// Queries of a tile of prompts; `QUERIES` of `cuda/decoder.cu`.
const QUERIES: usize = 64;
/// Words of the counts.
const COUNTS: usize = 4;

/// A step, laid out.
#[derive(Debug, Default)]
pub(super) struct Sheet {
    words: Vec<u32>,
    room: usize,
    pub(super) rows: usize,
    pub(super) written: usize,
    pub(super) asked: usize,
    pub(super) tiles: usize,
    /// Tokens of the longest text, up to the last of the step.
    pub(super) longest: usize,
}

/// Where the parts of a sheet lie on the device.
#[derive(Debug, Clone, Copy)]
pub(super) struct Places {
    pub(super) rows: Address,
    pub(super) written: Address,
    pub(super) asked: Address,
    pub(super) ids: Address,
    pub(super) positions: Address,
    pub(super) lists: Address,
    pub(super) chosen: Address,
    pub(super) tiles: Address,
    pub(super) blocks: Address,
}

impl Sheet {
    /// Lays out the pieces of a step, with room for as many rows as `room` makes of their number.
    ///
    /// The row that each piece's logits are asked for behind is listed in the pieces' order.
    pub(super) fn of(pieces: &[StepPiece<'_>], room: impl FnOnce(usize, bool) -> usize) -> Self {
        let prompts =
            |piece: &StepPiece<'_>| piece.prompt.saturating_sub(piece.start).min(piece.tokens.len());
        let rows: usize = pieces.iter().map(|piece| piece.tokens.len()).sum();
        let in_prompts: usize = pieces.iter().map(prompts).sum();
        let room = room(rows, in_prompts > 0);
        let mut sheet = Self { rows, written: rows - in_prompts, room, ..Self::default() };
        sheet.words = vec![0; COUNTS + 4 * room];
        let (mut written, mut prompt, mut list) = (0, sheet.written, 0);
        let mut tiles = Vec::new();
        for piece in pieces {
            let (begin, of_prompt) = (prompt, prompts(piece));
            let mut last = 0;
            for (offset, token) in piece.tokens.iter().enumerate() {
                let next = if offset < of_prompt { &mut prompt } else { &mut written };
                last = *next;
                *next += 1;
                let row = [*token, (piece.start + offset) as u32, list];
                for (part, word) in row.into_iter().enumerate() {
                    sheet.words[COUNTS + part * room + last] = word;
                }
            }
            for first in (0..of_prompt).step_by(QUERIES) {
                let count = QUERIES.min(of_prompt - first);
                tiles.extend([(begin + first) as u32, count as u32, (piece.start + first) as u32, list]);
            }
            if piece.logits {
                sheet.words[COUNTS + 3 * room + sheet.asked] = last as u32;
                sheet.asked += 1;
            }
            let end = piece.start + piece.tokens.len();
            sheet.longest = sheet.longest.max(end);
            list += end.div_ceil(BLOCK_TOKENS) as u32;
        }
        sheet.words[..3].copy_from_slice(&[sheet.rows as u32, sheet.written as u32, sheet.asked as u32]);
        sheet.tiles = tiles.len() / 4;
        sheet.words.extend(tiles);
        for piece in pieces {
            let end = piece.start + piece.tokens.len();
            sheet.words.extend(&piece.blocks[..end.div_ceil(BLOCK_TOKENS)]);
        }
        sheet
    }

    /// Rows that there is room for.
    pub(super) fn room(&self) -> usize {
        self.room
    }

    /// Its bytes, as they are uploaded.
    pub(super) fn bytes(&self) -> Vec<u8> {
        self.words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// Where its parts are once it lies at `at`.
    pub(super) fn places(&self, at: Address) -> Places {
        let word = |index: usize| at + (index * size_of::<u32>()) as Address;
        let part = |index: usize| word(COUNTS + index * self.room);
        Places {
            rows: at,
            written: word(1),
            asked: word(2),
            ids: part(0),
            positions: part(1),
            lists: part(2),
            chosen: part(3),
            tiles: part(4),
            blocks: word(COUNTS + 4 * (self.room + self.tiles)),
        }
    }
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
        let sheet = Sheet::of(&pieces, |rows, prompts| {
            assert!(prompts);
            rows.next_multiple_of(8)
        });
        assert_eq!((sheet.rows, sheet.written, sheet.asked, sheet.tiles, sheet.longest), (6, 2, 2, 2, 34));
        let part = |index: usize, count: usize| &sheet.words[4 + 8 * index..][..count];
        assert_eq!(sheet.words[..4], [6, 2, 2, 0]);
        assert_eq!(part(0, 6), [7, 4, 5, 6, 3, 2], "ids");
        assert_eq!(part(1, 6), [33, 2, 31, 32, 0, 1], "positions");
        assert_eq!(part(2, 6), [0, 2, 0, 0, 3, 3], "lists");
        assert_eq!(part(3, 2), [0, 1], "asked");
        assert_eq!(part(4, 12), [2, 2, 31, 0, 4, 2, 0, 3, 9, 8, 7, 6], "tiles and blocks");
        let places = sheet.places(1_000);
        assert_eq!((places.tiles, places.blocks), (1_000 + 4 * 36, 1_000 + 4 * 44));
    }
}
