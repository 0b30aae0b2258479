//! Exact matching of many phrases over folded words.
//!
//! A trie of word ids: every phrase that stands in the text on word boundaries is found, shorter
//! ones inside longer ones included; [`longest`] then chooses. (An automaton over characters with
//! leftmost-longest semantics followed by a boundary filter loses matches.)

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::tokens::Tokens;

/// Degree to which a phrase may vary in the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Inflection {
    /// The words as they are: names of products.
    Exact,
    /// Singular and plural.
    Number,
    /// Number, and the gender of participles and adjectives: phrases of several words.
    Agreement,
}

/// A phrase found in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Match {
    /// First word.
    pub first: usize,
    /// One past the last word.
    pub end: usize,
    /// The value that the phrase was inserted with.
    pub payload: u32,
}

/// Phrases to be found.
#[derive(Debug)]
pub(crate) struct Trie {
    // One map for each inflection, since a word has another stem in each.
    words: [HashMap<Box<str>, u32, Fast>; 3],
    next_word: u32,
    edges: HashMap<(u32, u32), u32, Fast>,
    // Per node the head of a list in `links`; 0 is the empty list.
    heads: Vec<u32>,
    links: Vec<(u32, u32)>,
}

/// First node, and the word that stands for a break; both are given out by nobody else.
const ROOT: u32 = 0;
const BREAK: u32 = 0;

impl Default for Trie {
    fn default() -> Self {
        Self {
            words: Default::default(),
            next_word: BREAK + 1,
            edges: HashMap::default(),
            heads: vec![0],
            links: vec![(0, 0)],
        }
    }
}

impl Trie {
    /// Adds a phrase; one without words is ignored. The same phrase may carry several payloads.
    pub(crate) fn insert(&mut self, phrase: &str, inflection: Inflection, payload: u32) {
        self.insert_tokens(&Tokens::new(phrase), inflection, payload);
    }

    /// [`Trie::insert`] of a phrase whose words are at hand.
    pub(crate) fn insert_tokens(&mut self, tokens: &Tokens<'_>, inflection: Inflection, payload: u32) {
        if tokens.is_empty() {
            return;
        }
        let mut node = ROOT;
        for (index, token) in tokens.items().iter().enumerate() {
            if index > 0 && token.break_before {
                node = self.step(node, BREAK);
            }
            let word = self.word(tokens.folded(index), inflection);
            node = self.step(node, word);
        }
        let head = self.heads[node as usize];
        self.heads[node as usize] = self.links.len() as u32;
        self.links.push((payload, head));
    }

    fn word(&mut self, folded: &str, inflection: Inflection) -> u32 {
        let stem = stem(folded, inflection);
        let words = &mut self.words[inflection as usize];
        if let Some(id) = words.get(stem) {
            return *id;
        }
        let id = self.next_word;
        self.next_word += 1;
        words.insert(stem.into(), id);
        id
    }

    fn step(&mut self, node: u32, word: u32) -> u32 {
        let fresh = self.heads.len() as u32;
        let next = *self.edges.entry((node, word)).or_insert(fresh);
        if next == fresh {
            self.heads.push(0);
        }
        next
    }

    /// Every phrase in the text, sorted by place and payload.
    pub(crate) fn find(&self, tokens: &Tokens<'_>) -> Vec<Match> {
        let ids: Vec<[Option<u32>; 3]> =
            (0..tokens.len()).map(|index| self.ids(tokens.folded(index))).collect();
        let mut found = Vec::new();
        let (mut states, mut next) = (Vec::new(), Vec::new());
        // From every word: phrases may begin inside of others.
        for first in 0..ids.len() {
            states.clear();
            states.push(ROOT);
            for (index, word_ids) in ids.iter().enumerate().skip(first) {
                // A phrase goes over a break only where it has one itself.
                if index > first && tokens.items()[index].break_before {
                    self.advance(&states, &[Some(BREAK)], &mut next);
                    std::mem::swap(&mut states, &mut next);
                }
                self.advance(&states, word_ids, &mut next);
                // Every payload of a place, since several entries may share a form; the caller
                // chooses.
                std::mem::swap(&mut states, &mut next);
                if states.is_empty() {
                    break;
                }
                self.collect(&states, (first, index + 1), &mut found);
            }
        }
        // A phrase may be reached through several inflections at once.
        found.sort_unstable();
        found.dedup();
        found
    }

    fn ids(&self, folded: &str) -> [Option<u32>; 3] {
        [Inflection::Exact, Inflection::Number, Inflection::Agreement]
            .map(|inflection| self.words[inflection as usize].get(stem(folded, inflection)).copied())
    }

    fn advance(&self, states: &[u32], words: &[Option<u32>], next: &mut Vec<u32>) {
        next.clear();
        for state in states {
            next.extend(words.iter().flatten().filter_map(|word| self.edges.get(&(*state, *word))));
        }
    }

    fn collect(&self, states: &[u32], (first, end): (usize, usize), found: &mut Vec<Match>) {
        for state in states {
            let mut link = self.heads[*state as usize];
            while link != 0 {
                let (payload, rest) = self.links[link as usize];
                found.push(Match { first, end, payload });
                link = rest;
            }
        }
    }
}

/// Chooses non-overlapping items: longer before shorter, then earlier before later. An item is
/// given up only for a chosen one that it overlaps. `span` gives an item's half-open range of
/// words.
pub(crate) fn longest<T>(mut items: Vec<T>, span: impl Fn(&T) -> (usize, usize)) -> Vec<T> {
    items.sort_by_key(|item| {
        let (first, end) = span(item);
        (std::cmp::Reverse(end - first), first)
    });
    let size = items.iter().map(|item| span(item).1).max().unwrap_or(0);
    // A mark for each word, so that no item is compared with another.
    let mut taken = vec![false; size];
    items.retain(|item| {
        let (first, end) = span(item);
        let free = !taken[first..end].contains(&true);
        if free {
            taken[first..end].fill(true);
        }
        free
    });
    items.sort_by_key(|item| span(item).0);
    items
}

/// The part of a folded word that its inflections share.
fn stem(word: &str, inflection: Inflection) -> &str {
    match inflection {
        Inflection::Exact => word,
        Inflection::Number => singular(word),
        Inflection::Agreement => genderless(singular(word)),
    }
}

/// Plural endings off, the same for Spanish and English: `operaciones` and `operacion`, `databases`
/// and `database` meet.
fn singular(word: &str) -> &str {
    let keeps_s = ["ss", "us", "is"].iter().any(|ending| word.ends_with(ending));
    let word =
        if word.len() >= 4 && word.ends_with('s') && !keeps_s { &word[..word.len() - 1] } else { word };
    if word.len() >= 5 && word.ends_with('e') { &word[..word.len() - 1] } else { word }
}

/// The final vowel of participles and adjectives off: `orientado`, `orientada`.
fn genderless(word: &str) -> &str {
    const ENDINGS: [&str; 9] = ["ad", "id", "iv", "ic", "os", "ari", "ori", "an", "ent"];
    let gendered = word.len() >= 6
        && word
            .strip_suffix(['a', 'o'])
            .is_some_and(|rest| ENDINGS.iter().any(|ending| rest.ends_with(ending)));
    if gendered { &word[..word.len() - 1] } else { word }
}

/// Hash of short keys by rotate and multiply; the keys are our own phrases, so no attacker chooses
/// them.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RotateMultiply(u64);

type Fast = BuildHasherDefault<RotateMultiply>;

impl RotateMultiply {
    const fn add(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(5) ^ value).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
}

impl Hasher for RotateMultiply {
    fn finish(&self) -> u64 {
        // The table takes the low bits, the product mixes best into the high ones.
        self.0 ^ (self.0 >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut padded = [0; 8];
            padded[..chunk.len()].copy_from_slice(chunk);
            self.add(u64::from_le_bytes(padded));
        }
    }

    fn write_u32(&mut self, value: u32) {
        self.add(u64::from(value));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn trie(phrases: &[(&str, Inflection)]) -> Trie {
        let mut trie = Trie::default();
        for (index, (phrase, inflection)) in phrases.iter().enumerate() {
            trie.insert(phrase, *inflection, index as u32);
        }
        trie
    }

    fn spans(trie: &Trie, text: &str) -> Vec<String> {
        let tokens = Tokens::new(text);
        longest(trie.find(&tokens), |found| (found.first, found.end))
            .iter()
            .map(|found| tokens.span(found.first, found.end).to_owned())
            .collect()
    }

    #[test]
    fn finds_inflected_phrases() {
        use Inflection::{Agreement, Exact, Number};
        for (phrase, inflection, text, expected) in [
            ("base de datos", Agreement, "Bases de Datos y SQL", true),
            ("orientación a resultados", Agreement, "orientacion al resultado", false),
            ("metodología ágil", Agreement, "metodologías ágiles", true),
            ("orientado a resultados", Agreement, "persona orientada a resultados", true),
            ("teams", Exact, "work in a team", false),
            ("calderas", Number, "una caldera", true),
            ("mecánica", Number, "perfil mecánico", false),
            ("database", Number, "databases", true),
            ("machine learning", Exact, "machine, learning", false),
            ("machine learning", Exact, "Machine-Learning", true),
            ("compras, ventas", Exact, "compras, ventas", true),
        ] {
            assert_eq!(
                !spans(&trie(&[(phrase, inflection)]), text).is_empty(),
                expected,
                "{phrase} in {text}"
            );
        }
    }

    #[test]
    fn longer_wins_and_disjoint_shorter_stays() {
        use Inflection::Exact;
        let trie = trie(&[("sql", Exact), ("sql server", Exact), ("server", Exact), ("power bi", Exact)]);
        assert_eq!(
            spans(&trie, "SQL Server, SQL y server con Power BI"),
            ["SQL Server", "SQL", "server", "Power BI"]
        );
    }

    proptest! {
        // Against the definition: a phrase matches where its words stand in a row without a break.
        #[test]
        fn equals_the_naive_search(
            phrases in prop::collection::vec("[abc]( [abc]){0,2}", 1..6),
            text in "[abc]([ ,][abc]){0,12}",
        ) {
            let mut trie = Trie::default();
            phrases.iter().enumerate().for_each(|(id, phrase)| trie.insert(phrase, Inflection::Exact, id as u32));
            let tokens = Tokens::new(&text);
            let mut expected = Vec::new();
            for (payload, phrase) in phrases.iter().enumerate() {
                let length = phrase.split(' ').count();
                for first in 0..(tokens.len() + 1).saturating_sub(length) {
                    if tokens.span(first, first + length) == phrase {
                        expected.push(Match { first, end: first + length, payload: payload as u32 });
                    }
                }
            }
            expected.sort_unstable();
            prop_assert_eq!(trie.find(&tokens), expected);
        }
    }
}
