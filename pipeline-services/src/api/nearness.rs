//! Whether what a search finds is near at all.
//!
//! Every text has a nearest skill, and cosines of one model are not those of another:
//! multilingual-e5-small gives strings of random letters .84 to .92 to the nearest of 1,618 skills,
//! and wordings of skills .89 and more. So the same model embeds some such strings with each
//! query. A query is near something when a skill comes nearer than the nearest of them did, or
//! shares a word with it; what is nearer than they are on average is listed then. With it, of 210
//! other strings of random letters 91 % were near nothing, of 50 wordings of skills 49 were near
//! one (2026-11-30); with e5-small-skills 58 of 60, and 30 of 30 (2026-12-01).

use crate::{store::embeddings::Hit, text::tokens::Tokens};

/// Number of strings. Not tuned: enough for a mean and a highest, and few to embed.
const STRINGS: u64 = 24;
/// Letters at the beginning that make two words one for this purpose: "soldar", "soldadura". Not
/// tuned.
const STEM: usize = 4;

/// Cosines that strings without meaning reach under a model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scale {
    mean: f64,
    highest: f64,
}

impl Scale {
    /// Of the cosine of each string to the skill nearest to it; nothing is far where there is none.
    pub(super) fn of(scores: &[f64]) -> Self {
        if scores.is_empty() {
            // Below every cosine: with nothing to compare with, every hit is near.
            return Self { mean: -1.0, highest: -1.0 };
        }
        let mean = scores.iter().sum::<f64>() / scores.len() as f64;
        Self { mean, highest: scores.iter().copied().fold(-1.0, f64::max) }
    }

    /// The cosine that alone makes a skill near.
    pub(super) fn floor(self) -> f64 {
        self.highest
    }

    /// The hits that are near `text`.
    pub(super) fn near(self, text: &str, hits: Vec<Hit>) -> Vec<Hit> {
        if !hits.iter().any(|hit| hit.score > self.highest || share_a_word(text, &hit.skill)) {
            return Vec::new();
        }
        hits.into_iter().filter(|hit| hit.score > self.mean || share_a_word(text, &hit.skill)).collect()
    }
}

/// Returns whether a word of one text begins like a word of the other, or is one, however short.
fn share_a_word(text: &str, skill: &str) -> bool {
    let (text, skill) = (Tokens::new(text), Tokens::new(skill));
    let (ours, theirs) = (words(&text), words(&skill));
    ours.iter().any(|ours| {
        theirs.iter().any(|theirs| match (stem(ours), stem(theirs)) {
            (Some(a), Some(b)) => a == b,
            // A short word of a longer text ("de", "a") says nothing by itself.
            _ => ours == theirs && text.len() == 1,
        })
    })
}

/// The beginning of a word that is longer than it.
fn stem(word: &str) -> Option<&str> {
    word.char_indices().nth(STEM).map(|(end, _)| &word[..end])
}

fn words(tokens: &Tokens<'_>) -> Vec<String> {
    (0..tokens.len()).map(|index| tokens.folded(index).to_owned()).collect()
}

/// Always the same strings, so that their vectors are remembered: one word of 4 to 14 letters,
/// every third time two.
pub(super) fn meaningless() -> Vec<String> {
    let mut letters = Letters(0x0B5E);
    let mut texts = Vec::new();
    for index in 0..STRINGS {
        texts.push(match index % 3 {
            2 => format!("{} {}", letters.word(5), letters.word(7)),
            _ => letters.word(4 + index % 11),
        });
    }
    texts
}

/// Letters in an order that looks random: Knuth's linear congruential generator (MMIX), whose high
/// bits are good enough for that.
struct Letters(u64);

impl Letters {
    fn letter(&mut self) -> char {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'a' + ((self.0 >> 33) % 26) as u8)
    }

    fn word(&mut self, length: u64) -> String {
        (0..length).map(|_| self.letter()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn hits(scores: &[(&str, f64)]) -> Vec<Hit> {
        let hit =
            |(skill, score): &(&str, f64)| Hit { skill: (*skill).to_owned(), score: *score, job_count: 1 };
        scores.iter().map(hit).collect()
    }

    #[test]
    fn near_is_nearer_than_random_letters_or_a_name() {
        let scale = Scale::of(&[0.86, 0.88, 0.90]);
        let check = |text: &str, found: &[(&str, f64)], expected: &[&str]| {
            let near = scale.near(text, hits(found));
            assert_eq!(near.iter().map(|hit| hit.skill.as_str()).collect::<Vec<_>>(), expected, "{text}");
        };
        check("qwertyuiop", &[("RabbitMQ", 0.873), ("ActiveMQ", 0.865)], &[]);
        check(
            "análisis de datos",
            &[("Análisis de datos", 0.93), ("Big Data", 0.89), ("Nómina", 0.87)],
            &["Análisis de datos", "Big Data"],
        );
        check("soldar", &[("Soldadura", 0.891), ("SOLID", 0.89), ("Mig", 0.85)], &["Soldadura", "SOLID"]);
        check("zx de asdf", &[("Manejo de caja", 0.87)], &[]);
        check("R", &[("R", 0.80), ("SAP", 0.79)], &["R"]);
        assert_eq!(Scale::of(&[]).near("x", hits(&[("y", 0.1)])).len(), 1);
        assert_eq!(scale.floor(), 0.90);
    }

    #[test]
    fn meaningless_strings_are_the_same_every_time_and_all_different() {
        let first = meaningless();
        assert_eq!(first, meaningless());
        assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), STRINGS as usize);
        for text in &first {
            assert!(text.chars().all(|c| c.is_ascii_lowercase() || c == ' '), "{text}");
            assert!((4..=14).contains(&text.len()), "{text}");
        }
    }
}
