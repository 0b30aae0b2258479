//! Typing errors in names that advertisements use often ("exel", "microsft office", "phyton").
//!
//! Words glued together are parted first. A word is mended only if exactly one name is near it and
//! it is not a known word itself; places and surfaces stay those of the text.

use std::collections::{HashMap, HashSet};

use crate::text::tokens::Tokens;

/// Letters of the shortest word that may be a misspelt name. Not tuned: of shorter words too many
/// are one letter apart.
const LETTERS: usize = 4;

/// Names and the errors that are taken for them: one letter wrong, missing, doubled or too much,
/// two neighbours exchanged, or all the letters in another order between the first and the last.
/// The first letter stands, and a word that differs in its last letter alone is an inflection.
#[derive(Debug, Default)]
pub(super) struct Spelling {
    names: Vec<String>,
    // Every name without one of its letters, and whole.
    by_deletion: HashMap<String, Vec<u32>>,
    by_letters: HashMap<String, Vec<u32>>,
    words: HashSet<String>,
    /// Letters of the longest name.
    longest: usize,
}

impl Spelling {
    /// Takes errors in `names`; `words` are right as they stand.
    pub(super) fn new(names: &[String], words: impl IntoIterator<Item = String>) -> Self {
        let mut spelling = Self { words: words.into_iter().collect(), ..Self::default() };
        for name in names {
            let id = spelling.names.len() as u32;
            // Words that are one edit apart share a form with a letter less, so names are looked up
            // and not compared one by one.
            for shorter in deletions(name).chain([name.clone()]) {
                spelling.by_deletion.entry(shorter).or_default().push(id);
            }
            spelling.by_letters.entry(letters(name)).or_default().push(id);
            // A name is never an error in another one.
            spelling.words.insert(name.clone());
            spelling.longest = spelling.longest.max(name.chars().count());
            spelling.names.push(name.clone());
        }
        spelling
    }

    /// A text's words, glued ones parted and errors mended; the places stay those of the text.
    pub(super) fn mend(&self, tokens: &mut Tokens<'_>) {
        tokens.part_glued(|word| self.words.contains(word));
        tokens.respell(|word| self.name(word));
    }

    /// The one name that a misspelt word stands for.
    fn name(&self, word: &str) -> Option<&str> {
        let count = word.chars().count();
        if count < LETTERS || self.words.contains(word) || !word.chars().all(char::is_alphabetic) {
            return None;
        }
        // Only then: a name may have doubled letters of its own ("access").
        self.nearest(word).or_else(|| self.nearest(&undoubled(word)))
    }

    fn nearest(&self, word: &str) -> Option<&str> {
        // One letter too much is the most; a word of thousands would be copied once for each of
        // them.
        if word.chars().count() > self.longest + 1 {
            return None;
        }
        let keys = deletions(word).chain([word.to_owned()]);
        let near = keys.filter_map(|key| self.by_deletion.get(&key)).flatten();
        // Words with a common form may be two edits apart.
        let near = near.filter(|id| is_slip(word, &self.names[**id as usize]));
        let jumbled = self.by_letters.get(&letters(word)).into_iter().flatten();
        let jumbled = jumbled.filter(|id| is_jumbled(word, &self.names[**id as usize]));
        let mut found = near.chain(jumbled);
        // Two names equally near are no answer.
        let first = *found.next()?;
        found.all(|other| *other == first).then(|| self.names[first as usize].as_str())
    }
}

fn deletions(word: &str) -> impl Iterator<Item = String> {
    word.char_indices().map(|(at, letter)| [&word[..at], &word[at + letter.len_utf8()..]].concat())
}

/// A word without doubled letters ("exell").
fn undoubled(word: &str) -> String {
    let mut letters: Vec<char> = word.chars().collect();
    letters.dedup();
    letters.into_iter().collect()
}

fn letters(word: &str) -> String {
    let mut letters: Vec<char> = word.chars().collect();
    letters.sort_unstable();
    letters.into_iter().collect()
}

/// One edit, neither in the first letter nor only in the last.
fn is_slip(word: &str, name: &str) -> bool {
    let (word, name): (Vec<char>, Vec<char>) = (word.chars().collect(), name.chars().collect());
    let common = word.iter().zip(&name).take_while(|(left, right)| left == right).count();
    let (left, right) = (&word[common..], &name[common..]);
    let one_edit = match (left, right) {
        ([_, rest @ ..], longer) if rest == longer => true,
        (longer, [_, rest @ ..]) if rest == longer => true,
        ([_, left @ ..], [_, right @ ..]) if left == right => true,
        ([a, b, left @ ..], [c, d, right @ ..]) => a == d && b == c && left == right,
        _ => false,
    };
    let inflected = left.len() <= 1 && right.len() <= 1;
    one_edit && common > 0 && !inflected
}

fn is_jumbled(word: &str, name: &str) -> bool {
    word.chars().next() == name.chars().next() && word.chars().next_back() == name.chars().next_back()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extractor::Patterns;

    #[test]
    fn mends_slips_and_leaves_words() {
        let patterns = Patterns::built_in().unwrap();
        let spelling = Spelling::new(&patterns.misspelt, patterns.spelt.iter().cloned());
        for (text, expected) in [
            ("Exell avanzado y exel", "excel avanzado y excel"),
            ("phyton", "python"),
            ("microsft office, paquete officce", "microsoft office paquete office"),
            ("liderasgo, proactividd, trabajo en equpo", "liderazgo proactividad trabajo en equipo"),
            ("cociliaciones y recpeción", "conciliaciones y recepcion"),
            ("firma, filma, officer, excels, excl", "firma filma officer excels excl"),
            ("organizando la organización", "organizando la organizacion"),
            ("contable", "contable"),
            ("xcel", "xcel"),
            ("presenciaLiderasgo", "presencia liderazgo"),
            ("c++ 2024", "c++ 2024"),
            ("", ""),
        ] {
            let mut tokens = Tokens::new(text);
            spelling.mend(&mut tokens);
            assert_eq!(tokens.key(), expected);
        }
    }
}
