//! The phrases by which advertisements introduce skills, from `patterns.toml`.
//!
//! The file is checked whole when it is read; a name or a value that is not allowed is an error
//! with its key.

use std::path::{Path, PathBuf};

use regex::Regex;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::{
    lexicon::CATEGORIES,
    text::{
        tokens,
        trie::{Inflection, Trie},
    },
};

/// Sections an advertisement may have, besides `title` and `body`.
pub(crate) const SECTIONS: [&str; 6] =
    ["requirements", "responsibilities", "benefits", "conditions", "about", "legal"];

/// Words of its sentence that a rule reaches where it names no number: a long sentence. Not tuned.
const REACH: usize = 60;

/// The kinds of things that a word may still name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
// From least to most: where two rules meet, the larger one holds.
pub(super) enum Mask {
    /// Anything.
    #[default]
    Open,
    /// Products, languages and certificates; a field of knowledge is a degree or a sector here.
    Fields,
    /// Nothing.
    All,
}

const BUILT_IN: &str = include_str!("../../lexicon/patterns.toml");

/// A mistake in a pattern file.
#[derive(Debug, thiserror::Error)]
pub enum PatternsError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no TOML of the expected shape.
    #[error("{file}: {problem}")]
    Syntax {
        /// File name.
        file: String,
        /// The parser's words, with line and column.
        problem: String,
    },
    /// A value is not allowed.
    #[error("{file}: {key}: {problem}")]
    Value {
        /// File name.
        file: String,
        /// Key of the value.
        key: String,
        /// The mistake, and the values that are allowed.
        problem: String,
    },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Source {
    section: Vec<SectionSource>,
    cue: Vec<CueSource>,
    clause: ClauseSource,
    #[serde(default)]
    unasked: Vec<UnaskedSource>,
    asking: PhrasesSource,
    company: PhrasesSource,
    ordinary: OrdinarySource,
    spelling: SpellingSource,
    context: ContextSource,
    standard: StandardSource,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SectionSource {
    name: String,
    cues: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CueSource {
    category: String,
    confidence: f32,
    phrases: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClauseSource {
    ends: Vec<String>,
    joins: Vec<String>,
    leading: Vec<String>,
    never: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct UnaskedSource {
    name: String,
    mask: MaskSource,
    #[serde(default)]
    before: Vec<String>,
    #[serde(default)]
    closed: Vec<String>,
    #[serde(default)]
    after: Vec<String>,
    #[serde(default)]
    sentences: Vec<String>,
    #[serde(default)]
    stops: Vec<String>,
    words: Option<usize>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum MaskSource {
    Fields,
    All,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PhrasesSource {
    phrases: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OrdinarySource {
    phrases: Vec<String>,
    words: Vec<String>,
    before: Vec<String>,
    after: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SpellingSource {
    names: Vec<String>,
    words: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ContextSource {
    before: Vec<String>,
    words: usize,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StandardSource {
    bodies: Vec<String>,
}

/// A phrase that introduces skills, and their sort.
#[derive(Debug, Clone)]
pub(super) struct Cue {
    pub(super) category: String,
    pub(super) confidence: f32,
}

/// Words that end an introduced skill, and those that it may not be.
#[derive(Debug)]
pub(super) struct Clause {
    pub(super) ends: Vec<String>,
    pub(super) joins: Vec<String>,
    pub(super) leading: Vec<String>,
    pub(super) never: Vec<String>,
}

/// A rule for what is not asked for; its phrases stand in [`Patterns::unasked_phrases`].
#[derive(Debug)]
pub(super) struct Unasked {
    pub(super) mask: Mask,
    /// Number of words of its sentence that a phrase reaches.
    pub(super) words: usize,
}

/// The part that a phrase plays in a rule.
#[derive(Debug, Clone, Copy)]
pub(super) enum Role {
    /// Masks what follows it.
    Before,
    /// Begins like a phrase of [`Role::Before`], says all by itself and masks nothing.
    Closed,
    /// Masks what stands before it.
    After,
    /// Masks the sentence it stands in.
    Sentence,
    /// Ends a mask.
    Stop,
}

impl Role {
    pub(super) const ALL: [Self; 5] = [Self::Before, Self::Closed, Self::After, Self::Sentence, Self::Stop];
}

/// Words that are names of products and words of a language.
#[derive(Debug)]
pub(super) struct Ordinary {
    /// Phrases in which a name means something else ("responsable de").
    pub(super) phrases: Trie,
    /// Names that are words of English too.
    pub(super) words: Vec<String>,
    /// Neighbours that show the English word is meant: words directly before it.
    pub(super) before: Vec<String>,
    /// Words directly after it.
    pub(super) after: Vec<String>,
}

/// Words and how far they reach.
#[derive(Debug)]
pub(super) struct Reach {
    pub(super) phrases: Trie,
    pub(super) words: usize,
}

/// Compiled phrases.
#[derive(Debug)]
pub struct Patterns {
    pub(super) headings: Trie,
    pub(super) cues: Vec<Cue>,
    pub(super) introductions: Trie,
    pub(super) clause: Clause,
    pub(super) unasked: Vec<Unasked>,
    /// The phrases of all rules; the payload is the rule's place times the number of roles, and the
    /// role.
    pub(super) unasked_phrases: Trie,
    pub(super) asking: Trie,
    pub(super) company: Trie,
    pub(super) ordinary: Ordinary,
    /// Names whose typing errors are mended, and words that look like one.
    pub(super) misspelt: Vec<String>,
    pub(super) spelt: Vec<String>,
    pub(super) context: Reach,
    pub(super) standard: Regex,
    digest: String,
}

impl Patterns {
    /// The phrases that ship.
    ///
    /// # Errors
    /// If the shipped file is inconsistent; a test keeps that from happening.
    pub fn built_in() -> Result<Self, PatternsError> {
        Self::parse("patterns.toml", BUILT_IN)
    }

    /// The phrases of `patterns.toml` in a lexicon directory, or the shipped ones where it holds
    /// none.
    ///
    /// # Errors
    /// If the file cannot be read or a value is not allowed; the error names file and key.
    pub fn from_dir(dir: &Path) -> Result<Self, PatternsError> {
        let path = dir.join("patterns.toml");
        // A directory may replace the lexicon alone.
        if !path.exists() {
            return Self::built_in();
        }
        match std::fs::read_to_string(&path) {
            Ok(text) => Self::parse(&path.display().to_string(), &text),
            Err(source) => Err(PatternsError::Read { path, source }),
        }
    }

    fn parse(file: &str, text: &str) -> Result<Self, PatternsError> {
        let source: Source = toml::from_str(text).map_err(|error| PatternsError::Syntax {
            file: file.to_owned(),
            // The parser's message ends in a line break.
            problem: error.to_string().trim_end().to_owned(),
        })?;
        check(file, &source)?;
        let (introductions, cues) = introductions(&source.cue);
        Ok(Self {
            headings: headings(&source.section),
            cues,
            introductions,
            clause: Clause {
                ends: folded(&source.clause.ends),
                joins: folded(&source.clause.joins),
                leading: folded(&source.clause.leading),
                never: folded(&source.clause.never),
            },
            unasked: source.unasked.iter().map(UnaskedSource::rule).collect(),
            unasked_phrases: unasked_phrases(&source.unasked),
            asking: trie(&source.asking.phrases),
            company: trie(&source.company.phrases),
            ordinary: Ordinary {
                phrases: exact(&source.ordinary.phrases),
                words: folded(&source.ordinary.words),
                before: folded(&source.ordinary.before),
                after: folded(&source.ordinary.after),
            },
            misspelt: folded(&source.spelling.names),
            spelt: folded(&source.spelling.words),
            context: Reach { phrases: trie(&source.context.before), words: source.context.words },
            standard: standard(file, &source.standard.bodies)?,
            // Of the bytes: a comment that changes costs an extraction, and no rule changes
            // unnoticed.
            digest: hex::encode(Sha256::digest(text)),
        })
    }

    /// SHA-256 of the file, hexadecimal.
    pub fn digest(&self) -> &str {
        &self.digest
    }
}

fn check(file: &str, source: &Source) -> Result<(), PatternsError> {
    for section in &source.section {
        if !SECTIONS.contains(&section.name.as_str()) {
            let allowed = SECTIONS.join(", ");
            return Err(wrong(file, "section.name", format!("`{}` is not one of {allowed}", section.name)));
        }
    }
    for cue in &source.cue {
        if !CATEGORIES.contains(&cue.category.as_str()) {
            let allowed = CATEGORIES.join(", ");
            return Err(wrong(file, "cue.category", format!("`{}` is not one of {allowed}", cue.category)));
        }
        // Written so that NaN, which TOML allows, is refused too.
        if !(cue.confidence > 0.0 && cue.confidence <= 1.0) {
            return Err(wrong(
                file,
                "cue.confidence",
                format!("{} is not above 0 and at most 1", cue.confidence),
            ));
        }
    }
    for rule in &source.unasked {
        // `closed` and `stops` only limit what the others mask.
        if [&rule.before, &rule.after, &rule.sentences].iter().all(|phrases| phrases.is_empty()) {
            let problem = format!("`{}` needs phrases in before, after or sentences", rule.name);
            return Err(wrong(file, "unasked", problem));
        }
    }
    match source.standard.bodies.is_empty() {
        true => Err(wrong(file, "standard.bodies", "must name at least one body".to_owned())),
        false => Ok(()),
    }
}

fn wrong(file: &str, key: &str, problem: String) -> PatternsError {
    PatternsError::Value { file: file.to_owned(), key: key.to_owned(), problem }
}

fn folded(words: &[String]) -> Vec<String> {
    words.iter().map(|word| tokens::key(word)).collect()
}

fn trie(phrases: &[String]) -> Trie {
    inflected(phrases, Inflection::Agreement)
}

fn exact(phrases: &[String]) -> Trie {
    inflected(phrases, Inflection::Exact)
}

fn inflected(phrases: &[String], inflection: Inflection) -> Trie {
    let mut trie = Trie::default();
    phrases.iter().for_each(|phrase| trie.insert(phrase, inflection, 0));
    trie
}

/// The cues of sections; the payload is the place in [`SECTIONS`].
fn headings(sections: &[SectionSource]) -> Trie {
    let mut headings = Trie::default();
    for section in sections {
        // `check` has refused every unknown name.
        let id = SECTIONS.iter().position(|name| *name == section.name).unwrap_or_default();
        section.cues.iter().for_each(|cue| headings.insert(cue, Inflection::Exact, id as u32));
    }
    headings
}

/// The phrases that introduce skills; the payload is the place of the cue.
fn introductions(sources: &[CueSource]) -> (Trie, Vec<Cue>) {
    let (mut introductions, mut cues) = (Trie::default(), Vec::new());
    for cue in sources {
        for phrase in &cue.phrases {
            introductions.insert(phrase, Inflection::Exact, cues.len() as u32);
        }
        cues.push(Cue { category: cue.category.clone(), confidence: cue.confidence });
    }
    (introductions, cues)
}

/// The pattern of a standard by its number ("ISO 9001", "IEC 62443-3").
fn standard(file: &str, bodies: &[String]) -> Result<Regex, PatternsError> {
    let bodies: Vec<String> = bodies.iter().map(|body| regex::escape(body)).collect();
    let pattern = format!(r"(?i)\b({})[ -]?(\d{{2,6}}(?:-\d{{1,4}})?)\b", bodies.join("|"));
    Regex::new(&pattern).map_err(|error| wrong(file, "standard.bodies", error.to_string()))
}

impl UnaskedSource {
    fn rule(&self) -> Unasked {
        let mask = match self.mask {
            MaskSource::Fields => Mask::Fields,
            MaskSource::All => Mask::All,
        };
        Unasked { mask, words: self.words.unwrap_or(REACH) }
    }

    fn phrases(&self, role: Role) -> &[String] {
        match role {
            Role::Before => &self.before,
            Role::Closed => &self.closed,
            Role::After => &self.after,
            Role::Sentence => &self.sentences,
            Role::Stop => &self.stops,
        }
    }
}

fn unasked_phrases(rules: &[UnaskedSource]) -> Trie {
    let mut trie = Trie::default();
    // Rule and role share the payload, so that one pass over the text finds the phrases of all
    // rules.
    for (place, rule) in rules.iter().enumerate() {
        for role in Role::ALL {
            let payload = (place * Role::ALL.len()) as u32 + role as u32;
            rule.phrases(role).iter().for_each(|phrase| trie.insert(phrase, Inflection::Agreement, payload));
        }
    }
    trie
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_phrases_are_consistent() {
        assert_eq!(Patterns::built_in().unwrap().digest().len(), 64);
    }

    #[test]
    fn errors_name_the_key_and_what_is_allowed() {
        for (from, to, expected) in [
            ("name = \"legal\"", "name = \"law\"", "section.name: `law` is not one of requirements"),
            ("confidence = 0.6", "confidence = 6", "cue.confidence: 6 is not above 0 and at most 1"),
            ("category = \"tool\"", "category = \"toy\"", "cue.category: `toy` is not one of technology"),
            ("words = 3", "words = 3\nwrods = 6", "unknown field `wrods`"),
        ] {
            let text = BUILT_IN.replacen(from, to, 1);
            let found = Patterns::parse("own.toml", &text).unwrap_err().to_string();
            assert!(found.contains("own.toml") && found.contains(expected), "{found}");
        }
    }
}
