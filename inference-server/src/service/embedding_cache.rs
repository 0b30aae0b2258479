//! The embedding cache: vectors of texts embedded before, by a hash of all that decides them.
//!
//! Vectors are kept as the model made them, before they are cut and normalised, so that an answer
//! from the cache is the one the model would give. Evicts the least recently used entries.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sha2::{Digest, Sha256};

use crate::text::tokenizer::Truncation;

/// Bytes of an entry in addition to its vector: twice the key of 32 bytes, use and counts, `Arc`
/// and `Vec`, and the slack of the two maps, rounded up. An estimate, not measured.
const OVERHEAD: usize = 160;

/// The vector of a text, and how the text was tokenized.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Embedded {
    /// The pooled vector, neither cut nor normalised.
    pub vector: Vec<f32>,
    /// Tokens read, special tokens included.
    pub tokens: u32,
    /// True if tokens were cut off.
    pub truncated: bool,
    /// Token outputs, if asked for; such an answer is not cached.
    pub token_outputs: Option<Box<TokenOutputs>>,
}

/// Weights and vectors of a text's tokens; see [`crate::models::RowOutput`].
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TokenOutputs {
    /// The tokens read, special tokens included.
    pub ids: Vec<u32>,
    /// One weight for each token, or none.
    pub sparse: Vec<f32>,
    /// Tokens × width, or none.
    pub multi_vector: Vec<f32>,
}

/// SHA-256 over all that decides a vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key([u8; 32]);

/// Hash state of what the keys of a request have in common.
#[derive(Debug, Clone)]
pub(crate) struct Keys(Sha256);

impl Keys {
    /// Keys of texts embedded by this revision of a model behind this prompt.
    pub(crate) fn new(revision: &str, prompt: &str, truncation: Truncation) -> Self {
        // A cryptographic hash: texts come from strangers, and a collision would answer one with
        // the vector of another.
        let mut hash = Sha256::new();
        for part in [revision, prompt] {
            // The length keeps "ab" + "c" and "a" + "bc" apart.
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        // A text that was cut on the left has another vector than one cut on the right.
        hash.update([truncation as u8]);
        Self(hash)
    }

    /// The key of one text.
    pub(crate) fn key(&self, text: &str) -> Key {
        Key(self.0.clone().chain_update(text).finalize().into())
    }
}

struct Entry {
    value: Arc<Embedded>,
    used: u64,
}

#[derive(Default)]
struct State {
    entries: HashMap<Key, Entry>,
    by_use: BTreeMap<u64, Key>,
    bytes: usize,
    clock: u64,
}

impl State {
    fn evict_oldest(&mut self) {
        if let Some((_, key)) = self.by_use.pop_first()
            && let Some(entry) = self.entries.remove(&key)
        {
            self.bytes -= weight(&entry.value);
        }
    }
}

/// The cache; a budget of 0 bytes turns it off.
pub(crate) struct EmbeddingCache {
    budget: usize,
    state: Mutex<State>,
}

fn weight(value: &Embedded) -> usize {
    value.vector.len() * size_of::<f32>() + OVERHEAD
}

impl EmbeddingCache {
    /// Holds at most `budget` bytes.
    pub(crate) fn new(budget: usize) -> Self {
        Self { budget, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True if the cache has room for anything.
    pub(crate) fn is_on(&self) -> bool {
        self.budget > 0
    }

    /// Bytes held.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.state().bytes
    }

    /// The vector of the text with this key.
    pub(crate) fn get(&self, key: &Key) -> Option<Arc<Embedded>> {
        let mut state = self.state();
        let State { entries, by_use, clock, .. } = &mut *state;
        let entry = entries.get_mut(key)?;
        // A counter instead of a time: it is unique, so that it can be the key of `by_use`.
        *clock += 1;
        by_use.remove(&entry.used);
        by_use.insert(*clock, *key);
        entry.used = *clock;
        Some(Arc::clone(&entry.value))
    }

    /// Caches a vector, evicting the least recently used ones.
    pub(crate) fn insert(&self, key: Key, value: Arc<Embedded>) {
        let bytes = weight(&value);
        // Otherwise it would evict all others and then itself.
        if bytes > self.budget {
            return;
        }
        let mut state = self.state();
        state.clock += 1;
        let used = state.clock;
        if let Some(old) = state.entries.insert(key, Entry { value, used }) {
            state.by_use.remove(&old.used);
            state.bytes -= weight(&old.value);
        }
        state.by_use.insert(used, key);
        state.bytes += bytes;
        while state.bytes > self.budget {
            state.evict_oldest();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(x: f32, length: usize) -> Arc<Embedded> {
        Arc::new(Embedded { vector: vec![x; length], tokens: 1, truncated: false, token_outputs: None })
    }

    #[test]
    fn keys_differ_where_a_vector_may() {
        let key = |revision: &str, prompt: &str, truncation, text: &str| {
            Keys::new(revision, prompt, truncation).key(text)
        };
        let base = key("r", "p", Truncation::Right, "t");
        assert_eq!(base, key("r", "p", Truncation::Right, "t"));
        for other in [
            key("s", "p", Truncation::Right, "t"),
            key("r", "", Truncation::Right, "pt"),
            key("rp", "", Truncation::Right, "t"),
            key("r", "p", Truncation::Left, "t"),
            key("r", "p", Truncation::Right, "T"),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn the_least_recently_used_go() {
        let keys = Keys::new("r", "", Truncation::Right);
        let room = 2 * weight(&value(0.0, 8)) + 8;
        let cache = EmbeddingCache::new(room);
        cache.insert(keys.key("a"), value(1.0, 8));
        cache.insert(keys.key("b"), value(2.0, 8));
        assert_eq!(cache.get(&keys.key("a")), Some(value(1.0, 8)));
        cache.insert(keys.key("c"), value(3.0, 8));
        let held = ["a", "b", "c"].map(|text| cache.get(&keys.key(text)).is_some());
        assert_eq!(held, [true, false, true]);
        cache.insert(keys.key("c"), value(4.0, 10));
        assert_eq!(cache.get(&keys.key("c")), Some(value(4.0, 10)));
        assert_eq!(cache.bytes(), room);
        cache.insert(keys.key("d"), value(5.0, 10_000));
        assert_eq!((cache.get(&keys.key("d")), cache.bytes()), (None, room));
    }

    #[test]
    fn without_room_nothing_is_kept() {
        let keys = Keys::new("r", "", Truncation::Right);
        let cache = EmbeddingCache::new(0);
        cache.insert(keys.key("a"), value(1.0, 1));
        assert!(!cache.is_on() && cache.get(&keys.key("a")).is_none());
    }
}
