//! The index: wordings by their words, their roots and their letters.
//!
//! Built once and only read afterwards. A wording takes some 80 bytes: its text is not kept, since
//! the taxonomy has it.

use std::collections::HashMap;

use crate::{
    hashing::{self, TRIPLES},
    roots::{is_stop_word, root, whole_root, words},
};

/// What a wording is to its concept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// The preferred label of a language.
    Preferred,
    /// A phrase of ours.
    Phrase,
    /// An alternative label, which taxonomies also use for narrower and neighbouring things.
    Alternative,
}

/// A name of a concept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wording<'text> {
    /// Number of the concept, the caller's.
    pub concept: u32,
    /// Number of the wording, the caller's; several may share one.
    pub label: u32,
    /// The text.
    pub text: &'text str,
    /// What it is to the concept.
    pub source: Source,
}

/// A concept that a text may mean.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// Number of the concept.
    pub concept: u32,
    /// Number of its wording that is most like the text.
    pub label: u32,
    /// How much it is like the text, 0..1.
    pub score: f32,
}

/// Share of a score that the letters decide, the words deciding the rest. Of five shares tried on
/// the development part of the marked advertisements, the best top-1 and top-5.
const LETTERS: f32 = 0.5;
/// What an alternative label loses, so that it comes after a preferred one that fits as well. Tried
/// like [`LETTERS`], as is the next.
const ALTERNATIVE: f32 = 0.05;
/// What a concept gains for further wordings that are like the text.
const SUPPORT: f32 = 0.1;
/// Wordings as like as the text itself that give the whole of [`SUPPORT`]. Not tuned: a concept has
/// a handful of wordings.
const WITNESSES: f32 = 3.0;

#[derive(Debug)]
struct Entry {
    concept: u32,
    label: u32,
    source: Source,
    roots: (u32, u32),
    triples: (u32, u32),
    root_norm: f32,
    triple_norm: f32,
}

/// Wordings of concepts.
#[derive(Debug, Default)]
pub struct Index {
    ids: HashMap<Box<str>, u32>,
    // Inverse document frequencies of roots and of hashed triples.
    root_rarity: Vec<f32>,
    triple_rarity: Vec<f32>,
    entries: Vec<Entry>,
    // Roots and triples of all entries, one after the other.
    roots: Vec<u32>,
    triples: Vec<u16>,
    // Places of entries by the hash of their words, and of their roots, sorted.
    by_words: Vec<(u64, u32)>,
    by_roots: Vec<(u64, u32)>,
}

impl Index {
    /// Indexes wordings; one without a word is left out.
    pub fn new<'text>(wordings: impl IntoIterator<Item = Wording<'text>>) -> Self {
        let mut index = Self::default();
        for wording in wordings {
            index.add(&wording);
        }
        index.weigh();
        index
    }

    fn add(&mut self, wording: &Wording<'_>) {
        let words = words(wording.text);
        if words.is_empty() {
            return;
        }
        let place = self.entries.len() as u32;
        self.by_words.push((hashing::of_words(&words), place));
        self.by_roots.push((hashing::of_roots(&roots_of(&words, whole_root)), place));
        let first_root = self.roots.len() as u32;
        for root in roots_of(&words, root) {
            let fresh = self.ids.len() as u32;
            let id = *self.ids.entry(root.into_boxed_str()).or_insert(fresh);
            if !self.roots[first_root as usize..].contains(&id) {
                self.roots.push(id);
            }
        }
        let first_triple = self.triples.len() as u32;
        self.triples.extend(hashing::triples(&words));
        self.entries.push(Entry {
            concept: wording.concept,
            label: wording.label,
            source: wording.source,
            roots: (first_root, self.roots.len() as u32),
            triples: (first_triple, self.triples.len() as u32),
            root_norm: 0.0,
            triple_norm: 0.0,
        });
    }

    /// Computes what needs every wording: rarities and norms.
    fn weigh(&mut self) {
        let mut root_counts = vec![0_u32; self.ids.len()];
        self.roots.iter().for_each(|root| root_counts[*root as usize] += 1);
        let mut triple_counts = vec![0_u32; TRIPLES];
        self.triples.iter().for_each(|triple| triple_counts[usize::from(*triple)] += 1);
        let total = self.entries.len();
        self.root_rarity = root_counts.into_iter().map(|count| rarity(total, count)).collect();
        self.triple_rarity = triple_counts.into_iter().map(|count| rarity(total, count)).collect();
        for entry in &mut self.entries {
            let roots = slice(&self.roots, entry.roots);
            entry.root_norm = norm(roots.iter().map(|id| self.root_rarity[*id as usize]));
            let triples = slice(&self.triples, entry.triples);
            entry.triple_norm = norm(triples.iter().map(|id| self.triple_rarity[usize::from(*id)]));
        }
        self.by_words.sort_unstable();
        self.by_roots.sort_unstable();
        self.by_words.shrink_to_fit();
        self.by_roots.shrink_to_fit();
        self.entries.shrink_to_fit();
        self.roots.shrink_to_fit();
        self.triples.shrink_to_fit();
    }

    /// Concepts one of whose wordings has the words of the text or, where there are none, its
    /// roots; each with its strongest source, in the order of their numbers.
    pub fn same(&self, text: &str) -> Vec<(u32, Source)> {
        let words = words(text);
        if words.is_empty() {
            return Vec::new();
        }
        let mut found = self.concepts(&self.by_words, hashing::of_words(&words));
        if found.is_empty() {
            found = self.concepts(&self.by_roots, hashing::of_roots(&roots_of(&words, whole_root)));
        }
        found.sort_unstable();
        found.dedup_by_key(|(concept, _)| *concept);
        found
    }

    fn concepts(&self, places: &[(u64, u32)], key: u64) -> Vec<(u32, Source)> {
        let first = places.partition_point(|(other, _)| *other < key);
        places[first..]
            .iter()
            .take_while(|(other, _)| *other == key)
            .map(|(_, place)| &self.entries[*place as usize])
            .map(|entry| (entry.concept, entry.source))
            .collect()
    }

    /// The concepts that are most like the text, `top` of them at most. Compares every wording:
    /// some milliseconds for 200,000.
    pub fn rank(&self, text: &str, top: usize) -> Vec<Candidate> {
        let mut best: HashMap<u32, (Candidate, f32)> = HashMap::new();
        self.compare(text, |entry, likeness| {
            let fresh = Candidate { concept: entry.concept, label: entry.label, score: likeness };
            let (candidate, support) = best.entry(entry.concept).or_insert((fresh, 0.0));
            // Squares, so that three wordings half alike do not outweigh one that is the same.
            *support += likeness * likeness;
            if likeness > candidate.score {
                *candidate = fresh;
            }
        });
        let supported = best.into_values().map(|(candidate, support)| {
            let gain = SUPPORT * (support / WITNESSES).min(1.0);
            Candidate { score: (candidate.score + gain) / (1.0 + SUPPORT), ..candidate }
        });
        best_of(supported.collect(), top)
    }

    /// The wordings that are most like the text, `top` of them at most: a concept comes once for
    /// each of its labels.
    pub fn rank_wordings(&self, text: &str, top: usize) -> Vec<Candidate> {
        let mut all = Vec::new();
        self.compare(text, |entry, likeness| {
            all.push(Candidate { concept: entry.concept, label: entry.label, score: likeness });
        });
        best_of(all, top)
    }

    /// Calls `take` with every wording that shares letters with the text and how much it is like
    /// it, 0..1.
    fn compare(&self, text: &str, mut take: impl FnMut(&Entry, f32)) {
        let words = words(text);
        let roots = roots_of(&words, root);
        let mut wanted_roots = vec![0.0; self.ids.len()];
        // An unknown root is as rare as one of a single wording.
        let unknown = rarity(self.entries.len(), 1);
        let mut mass = 0.0;
        for root in &roots {
            let id = self.ids.get(root.as_str()).map(|id| *id as usize);
            let weight = id.map_or(unknown, |id| self.root_rarity[id]);
            mass += weight * weight;
            if let Some(id) = id {
                wanted_roots[id] = weight * weight;
            }
        }
        let mut wanted_triples = vec![0.0; TRIPLES];
        let triples = hashing::triples(&words);
        for triple in &triples {
            wanted_triples[usize::from(*triple)] = self.triple_rarity[usize::from(*triple)].powi(2);
        }
        let root_norm = mass.sqrt();
        let triple_norm = norm(triples.iter().map(|id| self.triple_rarity[usize::from(*id)]));
        for entry in &self.entries {
            let triples = slice(&self.triples, entry.triples);
            let letters: f32 = triples.iter().map(|id| wanted_triples[usize::from(*id)]).sum();
            if letters > 0.0 {
                let roots = slice(&self.roots, entry.roots);
                let words: f32 = roots.iter().map(|id| wanted_roots[*id as usize]).sum();
                let alike = (1.0 - LETTERS) * words / (root_norm * entry.root_norm)
                    + LETTERS * letters / (triple_norm * entry.triple_norm);
                let discount = if entry.source == Source::Alternative { ALTERNATIVE } else { 0.0 };
                take(entry, (alike - discount).clamp(0.0, 1.0));
            }
        }
    }
}

/// The best in order; of equal ones those with the lower numbers.
fn best_of(mut all: Vec<Candidate>, top: usize) -> Vec<Candidate> {
    let order = |left: &Candidate, right: &Candidate| {
        let by_score = right.score.total_cmp(&left.score);
        by_score.then((left.concept, left.label).cmp(&(right.concept, right.label)))
    };
    if top < all.len() {
        all.select_nth_unstable_by(top, order);
        all.truncate(top);
    }
    all.sort_unstable_by(order);
    all
}

/// Roots of the words that mean something; of all where none does.
fn roots_of(words: &[String], root: fn(&str) -> String) -> Vec<String> {
    let telling: Vec<String> =
        words.iter().filter(|word| !is_stop_word(word)).map(|word| root(word)).collect();
    if telling.is_empty() { words.iter().map(|word| root(word)).collect() } else { telling }
}

/// Inverse document frequency, at least 1, so that a word of every wording counts, too.
fn rarity(total: usize, count: u32) -> f32 {
    1.0 + (total.max(1) as f32 / count.max(1) as f32).ln()
}

fn norm(weights: impl Iterator<Item = f32>) -> f32 {
    weights.map(|weight| weight * weight).sum::<f32>().sqrt()
}

fn slice<T>(all: &[T], (first, end): (u32, u32)) -> &[T] {
    &all[first as usize..end as usize]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WORDINGS: [(u32, &str, Source); 7] = [
        (1, "atención al cliente", Source::Phrase),
        (1, "servicio al cliente", Source::Preferred),
        (2, "gestionar bases de datos", Source::Preferred),
        (2, "manage databases", Source::Preferred),
        (3, "diseñar bases de datos", Source::Preferred),
        (4, "C++", Source::Preferred),
        (5, "gestión de bases de datos", Source::Alternative),
    ];

    fn index() -> Index {
        let wording = |(label, (concept, text, source)): (usize, &(u32, &'static str, Source))| Wording {
            concept: *concept,
            label: label as u32,
            text,
            source: *source,
        };
        Index::new(WORDINGS.iter().enumerate().map(wording))
    }

    #[test]
    fn the_same_wording_in_another_form_is_found() {
        let index = index();
        for (text, expected) in [
            ("Atención al Cliente", &[(1, Source::Phrase)][..]),
            ("atender clientes", &[(1, Source::Phrase)]),
            ("gestión de bases de datos", &[(5, Source::Alternative)]),
            ("gestionando la base de datos", &[(2, Source::Preferred), (5, Source::Alternative)]),
            ("c++", &[(4, Source::Preferred)]),
            ("C", &[]),
            ("", &[]),
            ("de la", &[]),
        ] {
            assert_eq!(index.same(text), expected, "{text}");
        }
    }

    #[test]
    fn ranks_by_words_and_letters() {
        let index = index();
        let first = |text| index.rank(text, 10).first().map(|candidate| candidate.concept);
        assert_eq!(first("diseño de la base de datos"), Some(3));
        assert_eq!(first("atensión al clinte"), Some(1));
        assert_eq!(first("managing a database"), Some(2));
        assert_eq!(first("xyzzy"), None);
        assert_eq!(index.rank("bases de datos", 2).len(), 2);
        assert!(Index::new([]).rank("bases de datos", 2).is_empty());
        let wordings = index.rank_wordings("bases de datos", 10);
        assert_eq!(wordings.iter().filter(|candidate| candidate.concept == 2).count(), 2);
    }

    proptest! {
        #[test]
        fn every_text_has_an_answer(text in "\\PC{0,60}") {
            let index = index();
            let ranked = index.rank(&text, 3);
            prop_assert!(ranked.iter().all(|candidate| (0.0..=1.0).contains(&candidate.score)));
            prop_assert!(ranked.is_sorted_by(|left, right| left.score >= right.score));
            index.same(&text);
        }
    }
}
