//! Phrases that no comment, message or document may hold: word-for-word translations, and words
//! that the glossary replaced.
//!
//! The list is `phrases.txt`, one phrase a line. `scripts/house-figures` counts by the same list.

use crate::rust::{is_word, line_of};

const LIST: &str = include_str!("phrases.txt");

/// The phrases, in lower case.
fn listed() -> impl Iterator<Item = &'static str> {
    LIST.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// Phrases of the list in a text.
pub(crate) fn found(text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    let mut wrong = Vec::new();
    for phrase in listed() {
        for (at, _) in lower.match_indices(phrase) {
            let before = lower[..at].chars().next_back().is_some_and(is_word);
            let after = lower[at + phrase.len()..].chars().next().is_some_and(is_word);
            if !before && !after {
                wrong.push(format!("line {}: \"{phrase}\"", line_of(&lower, at)));
            }
        }
    }
    wrong
}

#[test]
fn listed_phrases_are_found() {
    let phrase = listed().next().expect("a phrase");
    assert_eq!(found(&format!("a\n// this {phrase}, that")), [format!("line 2: \"{phrase}\"")]);
    assert_eq!(found("plain English"), Vec::<String>::new());
}
