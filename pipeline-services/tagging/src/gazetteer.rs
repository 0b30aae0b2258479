//! Names known beforehand: where they stand in a text, and of which kind they are.
//!
//! A name is kept as the hash of its words without endings and connecting words, so that "licencias
//! para conducir" finds "licencia de conducir" and a hundred thousand names take two megabytes.

use std::collections::HashMap;

use crate::{
    features::Hash,
    labels::Kind,
    words::{Words, stem},
};

/// Names by the hash of their words.
#[derive(Debug, Clone, Default)]
pub struct Gazetteer {
    // Beginnings of names are entries, too, without a kind.
    nodes: HashMap<u64, Option<Kind>>,
}

/// A name in a text, as a half-open range of words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) first: usize,
    pub(crate) end: usize,
    pub(crate) kind: Kind,
}

/// Words that a name may have or lack.
const CONNECTING: [&str; 16] =
    ["de", "del", "la", "el", "los", "las", "en", "a", "al", "con", "para", "y", "e", "o", "por", "the"];

impl Gazetteer {
    /// Adds a name; the kind that a name was first given stays.
    pub fn insert(&mut self, name: &str, kind: Kind) {
        let words = Words::new(name);
        let mut state = Hash::new(0);
        let mut known = false;
        for index in (0..words.len()).filter(|index| !CONNECTING.contains(&words.folded(*index))) {
            state = state.with(Hash::of(stem(words.folded(index))));
            self.nodes.entry(state.value()).or_insert(None);
            known = true;
        }
        if known {
            self.nodes.entry(state.value()).and_modify(|node| *node = node.or(Some(kind)));
        }
    }

    /// The names in a text, apart and in order; the longest that begins at a word is taken.
    pub(crate) fn find(&self, words: &Words<'_>) -> Vec<Found> {
        let mut found = Vec::new();
        let mut first = 0;
        while first < words.len() {
            match self.longest_from(words, first) {
                Some(name) => {
                    first = name.end;
                    found.push(name);
                }
                None => first += 1,
            }
        }
        found
    }

    fn longest_from(&self, words: &Words<'_>, first: usize) -> Option<Found> {
        if CONNECTING.contains(&words.folded(first)) {
            return None;
        }
        let mut state = Hash::new(0);
        let mut longest = None;
        for index in first..words.len() {
            if CONNECTING.contains(&words.folded(index)) {
                continue;
            }
            state = state.with(words.stem_hash(index));
            let Some(node) = self.nodes.get(&state.value()) else { break };
            if let Some(kind) = node {
                longest = Some(Found { first, end: index + 1, kind: *kind });
            }
        }
        longest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_without_endings_and_connecting_words() {
        let mut names = Gazetteer::default();
        names.insert("licencia de conducir", Kind::Licence);
        names.insert("Excel", Kind::Tool);
        names.insert("Excel avanzado", Kind::Knowledge);
        names.insert("de la", Kind::Soft);
        let text = "Licencias para conducir, excel. Excel avanzados de la licencia";
        let words = Words::new(text);
        let found: Vec<_> = names
            .find(&words)
            .into_iter()
            .map(|name| (words.text_of(name.first, name.end), name.kind))
            .collect();
        assert_eq!(
            found,
            [
                ("Licencias para conducir", Kind::Licence),
                ("excel", Kind::Tool),
                ("Excel avanzados", Kind::Knowledge)
            ]
        );
    }
}
