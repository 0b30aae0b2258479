//! Layout of a packed batch of an encoder on a GPU: token ids, and the tiles of its attention.
//!
//! A tile is the work of one thread block per head. Short texts share a tile of four slots of 16
//! rows, so that no block is launched for a few tokens; a longer text is cut into tiles of its
//! queries, each of which visits all keys of the text. See `cuda/attention.cu` for what a block
//! does with a tile. The other texts of a batch decide only which tile and slot a text gets, not
//! how it is computed.

/// Largest number of tokens of a short text: the rows of a tile, and KEYS of `cuda/online.cu`.
const SHORT: usize = 64;
/// Rows of a slot: those of one warp's `mma.m16n8k16`.
const SLOT: usize = 16;
/// Slots of a tile: the warps of a thread block.
const SLOTS: usize = 4;

/// Queries of a longer text in one tile, for heads of this size; QUERIES of `cuda/attention.cu`.
pub fn queries(head: usize) -> usize {
    // Wide heads leave registers for one block of 16 queries per warp instead of two.
    if head <= 64 { 128 } else { 64 }
}

/// The words of a batch, as they are copied to the device: every part begins on a multiple of 16
/// bytes, so that kernels read slots and tiles as vectors.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tiles {
    words: Vec<u32>,
    tokens: usize,
    texts: usize,
    short: usize,
    long: usize,
}

/// Offsets of the parts, in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts {
    /// Row of each token in the token embeddings.
    pub ids: usize,
    /// Row of each token in the position embeddings.
    pub places: usize,
    /// First token of each text, then the number of tokens.
    pub starts: usize,
    /// Two words for each slot of the tiles of short texts.
    pub slots: usize,
    /// Four words for each tile of the longer texts.
    pub tiles: usize,
}

impl Tiles {
    /// Lays out texts of these lengths, none of them empty. `rows` are the rows of each token in
    /// the token and position embeddings; `queries` is that of [`queries`].
    pub fn cut(rows: impl Iterator<Item = (u32, u32)>, lengths: &[usize], queries: usize) -> Self {
        let tokens: usize = lengths.iter().sum();
        let (ids, places): (Vec<u32>, Vec<u32>) = rows.unzip();
        let (mut slots, mut tiles) = (Vec::new(), Vec::new());
        let mut starts = Vec::with_capacity(lengths.len() + 1);
        let mut start = 0;
        for &length in lengths {
            starts.push(start as u32);
            if length <= SHORT {
                share(&mut slots, start, length);
            } else {
                let firsts = (0..length).step_by(queries);
                tiles.extend(firsts.flat_map(|first| [start as u32, length as u32, first as u32, 0]));
            }
            start += length;
        }
        starts.push(start as u32);
        fill(&mut slots);
        let (short, long) = (slots.len() / (2 * SLOTS), tiles.len() / 4);
        let mut words = Vec::new();
        // In the order of `parts`, which computes the offsets again.
        for part in [ids, places, starts, slots, tiles] {
            words.extend(part);
            words.resize(words.len().next_multiple_of(4), 0);
        }
        Self { words, tokens, texts: lengths.len(), short, long }
    }

    /// All parts, in the order of `Parts`.
    pub fn words(&self) -> &[u32] {
        &self.words
    }

    /// Number of tokens.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Number of texts.
    pub fn texts(&self) -> usize {
        self.texts
    }

    /// Number of tiles of short texts.
    pub fn short(&self) -> usize {
        self.short
    }

    /// Number of tiles of longer texts.
    pub fn long(&self) -> usize {
        self.long
    }

    /// Offsets of the parts.
    pub fn parts(&self) -> Parts {
        let mut at = 0;
        let mut next = |length: usize| {
            at += length.next_multiple_of(4);
            at - length.next_multiple_of(4)
        };
        Parts {
            ids: next(self.tokens),
            places: next(self.tokens),
            starts: next(self.texts + 1),
            slots: next(self.short * SLOTS * 2),
            tiles: next(self.long * 4),
        }
    }
}

/// Gives a short text consecutive slots of one tile.
fn share(slots: &mut Vec<u32>, start: usize, length: usize) {
    let wanted = length.div_ceil(SLOT);
    // A text must not span two tiles: the block of one does not see the keys of the other.
    if slots.len() / 2 % SLOTS + wanted > SLOTS {
        fill(slots);
    }
    let first_key = slots.len() / 2 % SLOTS * SLOT;
    for row in (0..length).step_by(SLOT) {
        let rows = SLOT.min(length - row);
        slots.extend([(start + row) as u32, (rows | first_key << 8 | length << 16) as u32]);
    }
}

/// Fills the last tile up with empty slots.
fn fill(slots: &mut Vec<u32>) {
    slots.resize(slots.len().next_multiple_of(2 * SLOTS), 0);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut(lengths: &[usize], queries: usize) -> Tiles {
        let tokens = lengths.iter().sum::<usize>() as u32;
        Tiles::cut((0..tokens).map(|token| (token, token + 7)), lengths, queries)
    }

    /// Rows, first key and keys of each slot of the short tiles.
    fn slots(lengths: &[usize]) -> Vec<[u32; 4]> {
        let tiles = cut(lengths, 128);
        let words = &tiles.words()[tiles.parts().slots..][..tiles.short() * SLOTS * 2];
        words.chunks(2).map(|slot| [slot[0], slot[1] & 255, slot[1] >> 8 & 255, slot[1] >> 16]).collect()
    }

    const EMPTY: [u32; 4] = [0; 4];

    #[test]
    fn short_texts_share_tiles() {
        let check = |lengths: &[usize], expected: &[[u32; 4]]| assert_eq!(slots(lengths), expected);
        check(&[], &[]);
        check(&[1], &[[0, 1, 0, 1], EMPTY, EMPTY, EMPTY]);
        check(&[16, 3, 16, 2], &[[0, 16, 0, 16], [16, 3, 16, 3], [19, 16, 32, 16], [35, 2, 48, 2]]);
        let two = [[0, 16, 0, 33], [16, 16, 0, 33], [32, 1, 0, 33], EMPTY];
        check(&[33, 17], &[two, [[33, 16, 0, 17], [49, 1, 0, 17], EMPTY, EMPTY]].concat());
        check(&[64, 200], &[[0, 16, 0, 64], [16, 16, 0, 64], [32, 16, 0, 64], [48, 16, 0, 64]]);
    }

    #[test]
    fn longer_texts_are_cut() {
        let tiles = cut(&[5, 65, 300], 128);
        let words = &tiles.words()[tiles.parts().tiles..][..4 * tiles.long()];
        let expected = [[5, 65, 0, 0], [70, 300, 0, 0], [70, 300, 128, 0], [70, 300, 256, 0]];
        assert_eq!(words, expected.concat());
        assert_eq!(cut(&[65], queries(128)).long(), 2);
    }

    proptest! {
        #[test]
        fn every_query_once_with_all_its_keys(lengths in prop::collection::vec(1_usize..400, 0..40), wide: bool) {
            let step = queries(if wide { 128 } else { 64 });
            let tiles = cut(&lengths, step);
            let (parts, words) = (tiles.parts(), tiles.words());
            let tokens = tiles.tokens();
            prop_assert!((0..tokens).all(|token| words[parts.ids + token] == token as u32));
            prop_assert!((0..tokens).all(|token| words[parts.places + token] == token as u32 + 7));
            let starts = &words[parts.starts..][..=tiles.texts()];
            let text = |token: usize| starts.partition_point(|start| *start as usize <= token) - 1;
            let range = |token: usize| (starts[text(token)] as usize, starts[text(token) + 1] as usize);
            let mut seen = vec![0; tokens];
            for (index, slot) in words[parts.slots..][..tiles.short() * SLOTS * 2].chunks(2).enumerate() {
                let (token, rows, first_key, keys) =
                    (slot[0] as usize, (slot[1] & 255) as usize, (slot[1] >> 8 & 255) as usize, (slot[1] >> 16) as usize);
                for (row, times) in seen.iter_mut().enumerate().skip(token).take(rows) {
                    *times += 1;
                    let (start, end) = range(row);
                    // The text's rows begin at row `first_key` of its tile.
                    prop_assert_eq!(token - start, index % SLOTS * SLOT - first_key);
                    prop_assert_eq!(keys, end - start);
                    prop_assert!(first_key + keys <= SLOT * SLOTS);
                }
            }
            for tile in words[parts.tiles..][..tiles.long() * 4].chunks(4) {
                let (start, length, first) = (tile[0] as usize, tile[1] as usize, tile[2] as usize);
                for query in first..length.min(first + step) {
                    seen[start + query] += 1;
                    prop_assert_eq!(range(start + query), (start, start + length));
                }
            }
            prop_assert!(seen.iter().all(|times| *times == 1));
            prop_assert!([parts.places, parts.starts, parts.slots, parts.tiles].iter().all(|at| at % 4 == 0));
        }
    }
}
