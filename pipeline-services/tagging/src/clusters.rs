//! Clusters of words by meaning, in three grains.
//!
//! Words that the marked advertisements lack share a cluster with some that they have.

use std::collections::HashMap;

use crate::{features::Hash, model::ModelError, words::Words};

/// Clusters of words; 0 is no cluster.
#[derive(Debug, Clone, Default)]
pub struct Clusters {
    by_word: HashMap<u32, [u16; 3]>,
}

impl Clusters {
    /// Reads lines of a folded word and its coarse, middle and fine cluster, tab-separated, each
    /// counted from 0.
    ///
    /// # Errors
    /// If a line is something else.
    pub fn parse(table: &str) -> Result<Self, ModelError> {
        let mut found = Self::default();
        for (index, line) in table.lines().enumerate() {
            let (word, clusters) = parse_line(line).ok_or(ModelError::Clusters { line: index + 1 })?;
            // As the tagger will meet it, if it is one word for it.
            let words = Words::new(word);
            if words.len() == 1 {
                found.insert(words.hash(0).short(), clusters);
            }
        }
        Ok(found)
    }

    /// Puts a word, by its hash, into its clusters.
    pub(crate) fn insert(&mut self, word: u32, clusters: [u16; 3]) {
        self.by_word.insert(word, clusters);
    }

    /// The clusters of a word, zeros for an unknown one.
    pub(crate) fn of(&self, word: Hash) -> [u16; 3] {
        self.by_word.get(&word.short()).copied().unwrap_or_default()
    }

    /// Hashes of the words and their clusters, in order.
    pub(crate) fn entries(&self) -> Vec<(u32, [u16; 3])> {
        let mut entries: Vec<_> = self.by_word.iter().map(|(word, clusters)| (*word, *clusters)).collect();
        entries.sort_unstable();
        entries
    }
}

fn parse_line(line: &str) -> Option<(&str, [u16; 3])> {
    let (word, numbers) = line.split_once('\t')?;
    let numbers: Option<Vec<u16>> =
        numbers.split('\t').map(|number| number.parse::<u16>().ok()?.checked_add(1)).collect();
    Some((word, numbers?.try_into().ok()?))
}
