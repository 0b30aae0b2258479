//! Candidates for mentions: names of the lexicon and the taxonomy where they stand, and what speaks for them.

use std::collections::HashMap;

use super::{NerEntity, patterns::Patterns, sections::Sections, sorted};
use crate::{
    domain::{
        posting::Field,
        skill::{Method, SkillKind},
    },
    lexicon::{Entry, Lexicon},
    taxonomy::Taxonomy,
    text::{
        sentences::sentences,
        tokens::Tokens,
        trie::{Inflection, Trie},
    },
};

/// A span of words that may be a mention.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) first: usize,
    pub(super) end: usize,
    /// `None`: the concept's preferred label.
    pub(super) label: Option<String>,
    pub(super) kind: SkillKind,
    pub(super) category: String,
    pub(super) methods: Vec<Method>,
    pub(super) confidence: f32,
    pub(super) uri: Option<String>,
}

/// Confidence of a name of the lexicon: unambiguous, and counted only for its context.
const NAMED: f32 = 0.9;
const NAMED_BY_CONTEXT: f32 = 0.7;
/// Confidence of a taxonomy label: preferred and alternative.
const PREFERRED: f32 = 0.75;
const ALTERNATIVE: f32 = 0.65;
/// Words to either side in which another technology vouches for an ambiguous name.
const NEIGHBOURS: usize = 8;

/// The names to look for.
#[derive(Debug)]
pub(super) struct Source {
    entries: Vec<Entry>,
    uris: Vec<Option<String>>,
    forms: Vec<(u32, u32)>,
    trie: Trie,
}

impl Source {
    pub(super) fn new(lexicon: &Lexicon, taxonomy: Option<&Taxonomy>) -> Self {
        let entries = lexicon.entries().to_vec();
        let uris = entries.iter().map(|entry| uri(entry, taxonomy)).collect();
        let (mut trie, mut forms) = (Trie::default(), Vec::new());
        for (index, entry) in entries.iter().enumerate() {
            for (position, form) in entry.forms.iter().enumerate() {
                let several = form.text.split([' ', '-', '/']).count() > 1;
                let inflection = match (entry.is_name() || form.case, several) {
                    (true, _) => Inflection::Exact,
                    (false, true) => Inflection::Agreement,
                    (false, false) => Inflection::Number,
                };
                trie.insert(&form.text, inflection, forms.len() as u32);
                forms.push((index as u32, position as u32));
            }
        }
        Self { entries, uris, forms, trie }
    }

    /// Names of the lexicon and labels of the taxonomy in a text.
    pub(super) fn candidates(
        &self,
        tokens: &Tokens<'_>,
        scope: &Scope<'_>,
        taxonomy: Option<&Taxonomy>,
    ) -> Vec<Candidate> {
        let (mut sure, mut open) = (Vec::new(), Vec::new());
        for found in self.trie.find(tokens) {
            let (entry, form) = self.forms[found.payload as usize];
            let form = &self.entries[entry as usize].forms[form as usize];
            if form.case && tokens.span(found.first, found.end) != form.text {
                continue;
            }
            let confidence = if form.context { NAMED_BY_CONTEXT } else { NAMED };
            let candidate = self.candidate(entry as usize, (found.first, found.end), confidence);
            if form.context { open.push(candidate) } else { sure.push(candidate) }
        }
        let vouched: Vec<Candidate> =
            open.into_iter().filter(|candidate| scope.vouches(candidate, &sure)).collect();
        sure.extend(vouched);
        let concepts: Vec<Candidate> =
            taxonomy.into_iter().flat_map(|taxonomy| labels(taxonomy, tokens)).collect();
        let named = |span: (usize, usize)| sure.iter().any(|other| (other.first, other.end) == span);
        let credible = |candidate: &Candidate| {
            // A label of one word, often an ordinary one, needs the lexicon or a word such as "conocimientos".
            let (first, end) = (candidate.first, candidate.end);
            end - first > 1 || scope.cued(first) || named((first, end))
        };
        let concepts: Vec<Candidate> = concepts.into_iter().filter(credible).collect();
        sure.extend(concepts);
        sure.retain(|candidate| !scope.is_heading(candidate.first, candidate.end));
        sure
    }

    fn candidate(&self, index: usize, (first, end): (usize, usize), confidence: f32) -> Candidate {
        let entry = &self.entries[index];
        Candidate {
            first,
            end,
            label: Some(entry.label.clone()),
            kind: entry.kind,
            category: entry.category.clone(),
            methods: vec![Method::Lexicon],
            confidence,
            uri: self.uris[index].clone(),
        }
    }
}

/// The concept an entry stands for: stated, or found under its label or a form of it.
fn uri(entry: &Entry, taxonomy: Option<&Taxonomy>) -> Option<String> {
    if entry.uri.is_some() {
        return entry.uri.clone();
    }
    let taxonomy = taxonomy?;
    let product = entry.is_name();
    let forms = entry.forms.iter().enumerate().filter(|(position, form)| *position == 0 || !form.context);
    forms
        .filter_map(
            |(_, form)| if product { taxonomy.product(&form.text) } else { taxonomy.skill(&form.text) },
        )
        .map(|concept| concept.uri.clone())
        .next()
}

fn labels(taxonomy: &Taxonomy, tokens: &Tokens<'_>) -> Vec<Candidate> {
    let found = taxonomy.find(tokens).into_iter();
    found
        .map(|found| Candidate {
            first: found.first,
            end: found.end,
            label: None,
            kind: SkillKind::Hard,
            category: if found.concept.class == "knowledge" { "knowledge" } else { "competence" }.to_owned(),
            methods: vec![Method::Taxonomy],
            confidence: if found.preferred { PREFERRED } else { ALTERNATIVE },
            uri: Some(found.concept.uri.clone()),
        })
        .collect()
}

/// The words a tagger marked, grown to whole words.
pub(super) fn tagged(tokens: &Tokens<'_>, entity: &NerEntity) -> Option<Candidate> {
    let inside =
        |token: &crate::text::tokens::Token| token.start_char < entity.end && token.end_char > entity.start;
    let first = tokens.items().iter().position(inside)?;
    let end = first + tokens.items()[first..].iter().take_while(|token| inside(token)).count();
    let knowledge = entity.label.eq_ignore_ascii_case("knowledge");
    Some(Candidate {
        first,
        end,
        label: Some(tokens.span(first, end).to_owned()),
        kind: SkillKind::Hard,
        category: if knowledge { "knowledge" } else { "competence" }.to_owned(),
        methods: vec![Method::Ner],
        confidence: entity.score.clamp(0.0, 1.0),
        uri: None,
    })
}

/// Folds candidates of one span into the surest, which keeps its name and gains the others' methods, their
/// concept if it has none, and a little confidence for each further method.
pub(super) fn merge(mut all: Vec<Candidate>) -> Vec<Candidate> {
    all.sort_by(|left, right| {
        let key = |candidate: &Candidate| (candidate.first, candidate.end);
        key(left)
            .cmp(&key(right))
            .then_with(|| right.confidence.total_cmp(&left.confidence))
            .then_with(|| left.label.cmp(&right.label))
            .then_with(|| left.uri.cmp(&right.uri))
    });
    let mut merged: Vec<Candidate> = Vec::with_capacity(all.len());
    for candidate in all {
        match merged.last_mut() {
            Some(best) if (best.first, best.end) == (candidate.first, candidate.end) => {
                let fresh = candidate.methods.iter().any(|method| !best.methods.contains(method));
                if fresh {
                    best.confidence = (best.confidence + 0.05).min(1.0);
                }
                best.methods.extend(candidate.methods);
                best.methods = sorted(std::mem::take(&mut best.methods));
                best.uri = best.uri.take().or(candidate.uri);
            }
            _ => merged.push(candidate),
        }
    }
    merged
}

/// What surrounds the words of a field: sections, sentences, and phrases that take a skill back.
pub(super) struct Scope<'a> {
    pub(super) patterns: &'a Patterns,
    field: Field,
    sections: Sections,
    sentence: Vec<u32>,
    negated_until: HashMap<usize, usize>,
    cued: Vec<bool>,
}

impl<'a> Scope<'a> {
    pub(super) fn new(field: Field, tokens: &Tokens<'_>, patterns: &'a Patterns) -> Self {
        let mut sentence = vec![0; tokens.len()];
        for (id, range) in sentences(tokens.text()).iter().enumerate() {
            let (first, end) = (tokens.first_from(range.start), tokens.first_from(range.end));
            sentence[first..end].fill(id as u32);
        }
        let negations = patterns.negation.phrases.find(tokens);
        let negated_until =
            negations.iter().map(|found| (found.end, found.end + patterns.negation.words)).collect();
        let mut cued = vec![false; tokens.len()];
        for found in patterns.context.phrases.find(tokens) {
            let end = (found.end + patterns.context.words).min(tokens.len());
            cued[found.end..end].fill(true);
        }
        let sections = Sections::new(tokens, patterns);
        Self { patterns, field, sections, sentence, negated_until, cued }
    }

    /// Name of the section of a word; titles and requirement lists are sections of their own.
    pub(super) fn section(&self, index: usize) -> &'static str {
        match self.field {
            Field::Title => "title",
            Field::Description => self.sections.at(index),
            Field::Requirements => "requirements",
        }
    }

    /// How far a section's text can be believed to ask for a skill of this kind, 0..1: employers praise
    /// themselves in the words they ask for.
    pub(super) fn trust(&self, index: usize, kind: SkillKind) -> f32 {
        match (self.section(index), kind) {
            ("benefits" | "legal", _) | ("about" | "conditions", SkillKind::Soft) => 0.3,
            ("about", SkillKind::Hard) => 0.6,
            ("conditions", SkillKind::Hard) => 0.8,
            _ => 1.0,
        }
    }

    /// Whether these words are part of a heading.
    pub(super) fn is_heading(&self, first: usize, end: usize) -> bool {
        self.field == Field::Description && self.sections.is_heading(first, end)
    }

    pub(super) fn same_sentence(&self, left: usize, right: usize) -> bool {
        self.sentence[left] == self.sentence[right]
    }

    /// Whether a phrase such as "no se requiere" stands before this word and reaches it.
    pub(super) fn negated(&self, index: usize) -> bool {
        self.negated_until
            .iter()
            .any(|(start, end)| (*start..*end).contains(&index) && self.same_sentence(*start, index))
    }

    /// Whether a word such as "lenguaje" or "conocimientos" stands shortly before.
    pub(super) fn cued(&self, index: usize) -> bool {
        self.cued[index]
    }

    /// Whether an ambiguous name is meant as a skill: a word such as "lenguaje" stands shortly before it, or
    /// in its sentence near it another name of its sort; attitudes and fields of knowledge count where
    /// requirements are listed, too.
    fn vouches(&self, candidate: &Candidate, sure: &[Candidate]) -> bool {
        let technical = |category: &str| matches!(category, "technology" | "tool");
        let named = technical(&candidate.category);
        let near = |other: &Candidate| {
            let gap =
                other.first.saturating_sub(candidate.end).max(candidate.first.saturating_sub(other.end));
            let overlaps = other.first < candidate.end && candidate.first < other.end;
            let alike = match candidate.kind {
                SkillKind::Soft => other.kind == SkillKind::Soft,
                SkillKind::Hard => named && technical(&other.category),
            };
            alike && !overlaps && gap <= NEIGHBOURS && self.same_sentence(other.first, candidate.first)
        };
        let asked = !named && self.section(candidate.first) == "requirements";
        asked || self.cued(candidate.first) || sure.iter().any(near)
    }
}
