//! Which block holds what: the blocks of keys and values, counted by who uses them, and found again
//! by their tokens.
//!
//! A full block has a name that follows from all tokens up to its end, so equal beginnings of texts
//! share blocks. Blocks that nobody uses keep their names until the memory is needed, the ends of
//! texts and what was used longest ago first.

use std::collections::{BTreeMap, HashMap};

use sha2::{Digest, Sha256};

/// Tokens of a block.
pub(crate) const BLOCK_TOKENS: usize = crate::kernels::paged::BLOCK_TOKENS;

/// Number of a block.
pub(crate) type Block = u32;

/// Name of a full block: a digest of every token of the text up to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Name([u8; 16]);

impl Name {
    /// The name of the block that holds `tokens` behind the block `before`; `written` of them are
    /// told apart from the same tokens in a prompt.
    pub(crate) fn of(before: Option<Self>, tokens: &[u32], written: usize) -> Self {
        let mut hash = Sha256::new();
        hash.update(before.map_or([0; 16], |name| name.0));
        tokens.iter().for_each(|token| hash.update(token.to_le_bytes()));
        if written > 0 {
            hash.update((written as u64).to_le_bytes());
        }
        let mut name = [0; 16];
        name.copy_from_slice(&hash.finalize()[..16]);
        Self(name)
    }
}

/// All blocks there may be.
#[derive(Debug)]
pub(crate) struct Blocks {
    /// How many texts use each block handed out so far.
    uses: Vec<u32>,
    names: Vec<Option<Name>>,
    capacity: usize,
    /// Blocks without a name that nobody uses.
    free: Vec<Block>,
    known: HashMap<Name, Block>,
    /// Named blocks that nobody uses, by when they were given back.
    idle: BTreeMap<u64, Block>,
    given_back: Vec<u64>,
    clock: u64,
}

impl Blocks {
    /// So many blocks, none in use.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            uses: Vec::new(),
            names: Vec::new(),
            capacity,
            free: Vec::new(),
            known: HashMap::new(),
            idle: BTreeMap::new(),
            given_back: Vec::new(),
            clock: 0,
        }
    }

    /// How many there may be.
    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// How many nobody uses.
    pub(crate) fn available(&self) -> usize {
        self.capacity - self.uses.len() + self.free.len() + self.idle.len()
    }

    /// How many were ever handed out: their numbers lie below.
    pub(crate) fn touched(&self) -> usize {
        self.uses.len()
    }

    /// A block for one text, or `None` where all are in use.
    pub(crate) fn take(&mut self) -> Option<Block> {
        let block = self.free.pop().or_else(|| self.fresh()).or_else(|| self.forget())?;
        self.uses[block as usize] = 1;
        Some(block)
    }

    fn fresh(&mut self) -> Option<Block> {
        let next = self.uses.len();
        if next == self.capacity {
            return None;
        }
        self.uses.push(0);
        self.names.push(None);
        self.given_back.push(0);
        Block::try_from(next).ok()
    }

    /// The named block that was given back first loses its name.
    fn forget(&mut self) -> Option<Block> {
        let (_, block) = self.idle.pop_first()?;
        if let Some(name) = self.names[block as usize].take() {
            self.known.remove(&name);
        }
        Some(block)
    }

    /// The block of that name for one more text.
    pub(crate) fn share(&mut self, name: Name) -> Option<Block> {
        let block = *self.known.get(&name)?;
        let uses = &mut self.uses[block as usize];
        if *uses == 0 {
            self.idle.remove(&self.given_back[block as usize]);
        }
        *uses += 1;
        Some(block)
    }

    /// Names a full block, unless another has the name.
    pub(crate) fn publish(&mut self, block: Block, name: Name) {
        if self.names[block as usize].is_none() && !self.known.contains_key(&name) {
            self.names[block as usize] = Some(name);
            self.known.insert(name, block);
        }
    }

    /// Gives back the blocks of a text.
    pub(crate) fn release(&mut self, blocks: &mut Vec<Block>) {
        for block in blocks.drain(..).rev() {
            let index = block as usize;
            self.uses[index] -= 1;
            if self.uses[index] > 0 {
                continue;
            }
            if self.names[index].is_some() {
                self.clock += 1;
                self.given_back[index] = self.clock;
                self.idle.insert(self.clock, block);
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
    fn names_follow_from_all_tokens_before() {
        let first = Name::of(None, &[1, 2], 0);
        assert_eq!(first, Name::of(None, &[1, 2], 0));
        assert_ne!(first, Name::of(None, &[2, 1], 0));
        assert_ne!(first, Name::of(None, &[1, 2], 1));
        assert_ne!(Name::of(Some(first), &[3], 0), Name::of(None, &[3], 0));
    }

    #[test]
    fn ends_of_texts_are_forgotten_first() {
        let mut blocks = Blocks::new(3);
        let mut text: Vec<Block> = (0..3).map(|_| blocks.take().unwrap()).collect();
        assert_eq!(blocks.take(), None);
        let names: Vec<Name> = (0..3).map(|token| Name::of(None, &[token], 0)).collect();
        for (block, name) in text.iter().zip(&names) {
            blocks.publish(*block, *name);
        }
        blocks.release(&mut text);
        assert_eq!(blocks.available(), 3);
        assert_eq!(blocks.take(), Some(2));
        assert_eq!(blocks.share(names[2]), None);
        assert_eq!(blocks.share(names[0]), Some(0));
        assert_eq!(blocks.available(), 1);
    }

    proptest! {
        /// No block is handed out twice, and every one comes back.
        #[test]
        fn every_block_has_its_users(capacity in 1usize..9, acts in prop::collection::vec((0u32..4, 0u32..6), 0..200)) {
            let mut blocks = Blocks::new(capacity);
            let mut texts: Vec<Vec<Block>> = Vec::new();
            for (act, which) in acts {
                let name = Name::of(None, &[which], 0);
                match act {
                    0 => {
                        let used: Vec<Block> = texts.concat();
                        match blocks.take() {
                            Some(block) => {
                                prop_assert!(!used.contains(&block));
                                texts.push(vec![block]);
                            }
                            None => prop_assert_eq!(blocks.available(), 0),
                        }
                    }
                    1 => texts.extend(blocks.share(name).map(|block| vec![block])),
                    2 => {
                        if let Some(text) = texts.last() {
                            blocks.publish(text[0], name);
                        }
                    }
                    _ => {
                        if !texts.is_empty() {
                            let index = which as usize % texts.len();
                            blocks.release(&mut texts.swap_remove(index));
                        }
                    }
                }
                let mut used: Vec<Block> = texts.concat();
                used.sort_unstable();
                used.dedup();
                prop_assert_eq!(blocks.available(), capacity - used.len());
                prop_assert!(used.iter().all(|block| (*block as usize) < blocks.touched()));
            }
            texts.iter_mut().for_each(|text| blocks.release(text));
            prop_assert_eq!(blocks.available(), capacity);
        }
    }
}
