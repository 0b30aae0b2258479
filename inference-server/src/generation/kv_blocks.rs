//! The pool of KV blocks and the prefix cache over it.
//!
//! Blocks are counted by the sequences that use them. A full block is registered under a
//! [`PrefixHash`] of all tokens up to its end, so that sequences with a common prefix share its
//! blocks. A registered block that no sequence uses stays in the prefix cache until its memory is
//! needed: least recently used first, and of one sequence the last block first, since a prefix is
//! of use without its continuation but not the other way round.
//!
//! The pool knows numbers of blocks only; their memory belongs to the model.

use std::collections::{BTreeMap, HashMap};

use sha2::{Digest, Sha256};

/// Number of tokens in a KV block; set by the paged attention kernels.
pub(crate) use crate::kernels::paged::BLOCK_TOKENS;

/// Index of a block.
pub(crate) type BlockId = u32;

/// Identity of a full block: a digest of every token of the sequence up to its end.
///
/// SHA-256, not a fast hash: prompts come from strangers, and a collision would let one read
/// another's keys and values. 128 bits of it make an accidental collision negligible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct PrefixHash([u8; 16]);

impl PrefixHash {
    /// Hashes the block of `tokens` that follows the block `parent`. `generated` of the tokens are
    /// kept apart from the same tokens in a prompt.
    pub(crate) fn of(parent: Option<Self>, tokens: &[u32], generated: usize) -> Self {
        let mut digest = Sha256::new();
        // The parent's hash stands for all tokens before, so a block is hashed once and not its
        // whole prefix.
        digest.update(parent.map_or([0; 16], |hash| hash.0));
        tokens.iter().for_each(|token| digest.update(token.to_le_bytes()));
        // Nothing for prompts, so that models that need no distinction share all blocks.
        if generated > 0 {
            digest.update((generated as u64).to_le_bytes());
        }
        let mut hash = [0; 16];
        hash.copy_from_slice(&digest.finalize()[..16]);
        Self(hash)
    }
}

/// All KV blocks of an engine.
///
/// Every block below [`BlockPool::high_water`] is in exactly one of three states: used by a
/// sequence (its reference count is above 0), in `free` (no hash), or in `evictable` (with a hash).
#[derive(Debug)]
pub(crate) struct BlockPool {
    /// Per block allocated so far, the number of sequences that use it.
    ref_counts: Vec<u32>,
    /// Per block allocated so far, its entry in `by_hash`.
    hashes: Vec<Option<PrefixHash>>,
    capacity: usize,
    /// Unused blocks without a hash.
    free: Vec<BlockId>,
    by_hash: HashMap<PrefixHash, BlockId>,
    /// Unused blocks with a hash, by the time of their release.
    evictable: BTreeMap<u64, BlockId>,
    /// Per block, its key in `evictable`.
    released_at: Vec<u64>,
    /// Number of releases so far; makes the keys of `evictable` unique.
    clock: u64,
}

impl BlockPool {
    /// Creates a pool of `capacity` blocks, none of them in use.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            ref_counts: Vec::new(),
            hashes: Vec::new(),
            capacity,
            free: Vec::new(),
            by_hash: HashMap::new(),
            evictable: BTreeMap::new(),
            released_at: Vec::new(),
            clock: 0,
        }
    }

    /// Total number of blocks.
    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Number of blocks that no sequence uses.
    pub(crate) fn available(&self) -> usize {
        self.capacity - self.ref_counts.len() + self.free.len() + self.evictable.len()
    }

    /// Number of blocks ever allocated: all of them have ids below it, and a model needs memory for
    /// no more.
    pub(crate) fn high_water(&self) -> usize {
        self.ref_counts.len()
    }

    /// Allocates a block for one sequence; returns `None` if all are in use.
    pub(crate) fn allocate(&mut self) -> Option<BlockId> {
        // Memory that was never touched comes before the prefix cache, which may still be of use.
        let block = self.free.pop().or_else(|| self.extend()).or_else(|| self.evict())?;
        self.ref_counts[block as usize] = 1;
        Some(block)
    }

    /// Raises the high-water mark by one block.
    fn extend(&mut self) -> Option<BlockId> {
        let next = self.ref_counts.len();
        if next == self.capacity {
            return None;
        }
        self.ref_counts.push(0);
        self.hashes.push(None);
        self.released_at.push(0);
        BlockId::try_from(next).ok()
    }

    /// Takes the least recently used block out of the prefix cache.
    fn evict(&mut self) -> Option<BlockId> {
        // The smallest key was released first.
        let (_, block) = self.evictable.pop_first()?;
        if let Some(hash) = self.hashes[block as usize].take() {
            self.by_hash.remove(&hash);
        }
        Some(block)
    }

    /// Looks a block up in the prefix cache and counts one more sequence that uses it.
    pub(crate) fn acquire_cached(&mut self, hash: PrefixHash) -> Option<BlockId> {
        let block = *self.by_hash.get(&hash)?;
        let ref_count = &mut self.ref_counts[block as usize];
        if *ref_count == 0 {
            self.evictable.remove(&self.released_at[block as usize]);
        }
        *ref_count += 1;
        Some(block)
    }

    /// Adds a full block to the prefix cache, unless it or an equal one is there.
    pub(crate) fn register(&mut self, block: BlockId, hash: PrefixHash) {
        // Two sequences may have computed the same block at the same time; the first one stays.
        if self.hashes[block as usize].is_none() && !self.by_hash.contains_key(&hash) {
            self.hashes[block as usize] = Some(hash);
            self.by_hash.insert(hash, block);
        }
    }

    /// Releases the block table of a sequence and empties it.
    pub(crate) fn release(&mut self, blocks: &mut Vec<BlockId>) {
        // Backwards, so that the end of a sequence is evicted before its beginning.
        for block in blocks.drain(..).rev() {
            let index = block as usize;
            self.ref_counts[index] -= 1;
            if self.ref_counts[index] > 0 {
                continue;
            }
            if self.hashes[index].is_some() {
                self.clock += 1;
                self.released_at[index] = self.clock;
                self.evictable.insert(self.clock, block);
            } else {
                self.free.push(block);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hashes_follow_from_all_tokens_before() {
        let first = PrefixHash::of(None, &[1, 2], 0);
        assert_eq!(first, PrefixHash::of(None, &[1, 2], 0));
        assert_ne!(first, PrefixHash::of(None, &[2, 1], 0));
        assert_ne!(first, PrefixHash::of(None, &[1, 2], 1));
        assert_ne!(PrefixHash::of(Some(first), &[3], 0), PrefixHash::of(None, &[3], 0));
    }

    #[test]
    fn ends_of_sequences_are_evicted_first() {
        let mut pool = BlockPool::new(3);
        let mut table: Vec<BlockId> = (0..3).map(|_| pool.allocate().unwrap()).collect();
        assert_eq!(pool.allocate(), None);
        let hashes: Vec<PrefixHash> = (0..3).map(|token| PrefixHash::of(None, &[token], 0)).collect();
        for (block, hash) in table.iter().zip(&hashes) {
            pool.register(*block, *hash);
        }
        pool.release(&mut table);
        assert_eq!(pool.available(), 3);
        assert_eq!(pool.allocate(), Some(2));
        assert_eq!(pool.acquire_cached(hashes[2]), None);
        assert_eq!(pool.acquire_cached(hashes[0]), Some(0));
        assert_eq!(pool.available(), 1);
    }

    proptest! {
        /// No block is allocated twice, and every one comes back.
        #[test]
        fn every_block_has_its_users(capacity in 1usize..9, acts in prop::collection::vec((0u32..4, 0u32..6), 0..200)) {
            let mut pool = BlockPool::new(capacity);
            let mut tables: Vec<Vec<BlockId>> = Vec::new();
            for (act, which) in acts {
                let hash = PrefixHash::of(None, &[which], 0);
                match act {
                    0 => {
                        let used: Vec<BlockId> = tables.concat();
                        match pool.allocate() {
                            Some(block) => {
                                prop_assert!(!used.contains(&block));
                                tables.push(vec![block]);
                            }
                            None => prop_assert_eq!(pool.available(), 0),
                        }
                    }
                    1 => tables.extend(pool.acquire_cached(hash).map(|block| vec![block])),
                    2 => {
                        if let Some(table) = tables.last() {
                            pool.register(table[0], hash);
                        }
                    }
                    _ => {
                        if !tables.is_empty() {
                            let index = which as usize % tables.len();
                            pool.release(&mut tables.swap_remove(index));
                        }
                    }
                }
                let mut used: Vec<BlockId> = tables.concat();
                used.sort_unstable();
                used.dedup();
                prop_assert_eq!(pool.available(), capacity - used.len());
                prop_assert!(used.iter().all(|block| (*block as usize) < pool.high_water()));
            }
            tables.iter_mut().for_each(|table| pool.release(table));
            prop_assert_eq!(pool.available(), capacity);
        }
    }
}
