//! Candidates for mentions: names of the lexicon and the taxonomy where they stand, and what speaks
//! for them.

use std::collections::{HashMap, HashSet};

use super::{NerEntity, candidate::Candidate, scope::Scope, sorted};
use crate::{
    domain::skill::{Method, SkillKind},
    lexicon::{Entry, Lexicon},
    taxonomy::{Found, Taxonomy},
    text::{
        tokens::{self, Tokens},
        trie::{Inflection, Match, Trie},
    },
};

/// Confidence of a name of the lexicon: unambiguous, and counted only for its context. These four
/// are choices that rank the sources.
pub(super) const NAMED: f32 = 0.9;
const NAMED_BY_CONTEXT: f32 = 0.7;
/// Confidence of a taxonomy label: preferred and alternative.
const PREFERRED: f32 = 0.75;
const ALTERNATIVE: f32 = 0.65;

/// The names to look for.
#[derive(Debug)]
pub(super) struct Source {
    entries: Vec<Entry>,
    uris: Vec<Option<String>>,
    // The entry that stands for a concept.
    by_uri: HashMap<String, usize>,
    forms: Vec<(u32, u32)>,
    trie: Trie,
}

impl Source {
    pub(super) fn new(lexicon: &Lexicon, taxonomy: Option<&Taxonomy>) -> Self {
        let entries = lexicon.entries().to_vec();
        let uris: Vec<Option<String>> = entries.iter().map(|entry| entry.concept_uri(taxonomy)).collect();
        let by_uri = by_uri(&entries, &uris, taxonomy);
        let (mut trie, mut forms) = (Trie::default(), Vec::new());
        for (index, entry) in entries.iter().enumerate() {
            for (position, form) in entry.forms.iter().enumerate() {
                trie.insert(&form.text, inflection(entry, position), forms.len() as u32);
                forms.push((index as u32, position as u32));
            }
        }
        Self { entries, uris, by_uri, forms, trie }
    }

    /// Names of the lexicon and labels of the taxonomy in a text.
    pub(super) fn candidates(
        &self,
        tokens: &Tokens<'_>,
        scope: &Scope<'_>,
        taxonomy: Option<&Taxonomy>,
    ) -> Vec<Candidate> {
        let (mut sure, open) = self.names(tokens, scope);
        let longest = sure.iter().map(|candidate| candidate.end - candidate.first).max().unwrap_or(0);
        // By the sure names alone: two ambiguous ones must not vouch for each other.
        let vouched: Vec<Candidate> =
            open.into_iter().filter(|candidate| scope.vouches(candidate, &sure, longest)).collect();
        sure.extend(vouched);
        let concepts: Vec<Candidate> =
            taxonomy.into_iter().flat_map(|taxonomy| self.labels(taxonomy, tokens)).collect();
        let names: HashSet<(usize, usize)> =
            sure.iter().map(|candidate| (candidate.first, candidate.end)).collect();
        // After the vouched names: a span that the lexicon already has needs no further proof.
        for candidate in concepts {
            // A label of one word, often an ordinary one, needs the lexicon or a word such as
            // "conocimientos".
            let (first, end) = (candidate.first, candidate.end);
            if scope.open(first, end, &candidate.category)
                && (end - first > 1 || scope.cued(first) || names.contains(&(first, end)))
            {
                sure.push(candidate);
            }
        }
        sure.retain(|candidate| !scope.is_heading(candidate.first, candidate.end));
        sure
    }

    /// Names of the lexicon: those that are sure by themselves, and those that need other evidence.
    fn names(&self, tokens: &Tokens<'_>, scope: &Scope<'_>) -> (Vec<Candidate>, Vec<Candidate>) {
        let (mut sure, mut open) = (Vec::new(), Vec::new());
        for found in self.trie.find(tokens) {
            let (entry, form) = self.forms[found.payload as usize];
            let form = &self.entries[entry as usize].forms[form as usize];
            if form.case && tokens.span(found.first, found.end) != form.text {
                continue;
            }
            if scope.is_ordinary(tokens, found.first, found.end) {
                continue;
            }
            // In a sentence of capitals a name's case proves nothing.
            let context = form.context || (form.case && scope.in_capitals(found.first));
            let confidence = if context { NAMED_BY_CONTEXT } else { NAMED };
            let candidate = self.candidate(entry as usize, (found.first, found.end), confidence);
            // Before it can vouch for others: what is negated proves nothing.
            if !scope.open(found.first, found.end, &candidate.category) {
                continue;
            }
            if context { open.push(candidate) } else { sure.push(candidate) }
        }
        (sure, open)
    }

    /// Labels of the taxonomy; a concept that an entry of the lexicon stands for bears the entry's
    /// name.
    fn labels(&self, taxonomy: &Taxonomy, tokens: &Tokens<'_>) -> Vec<Candidate> {
        taxonomy.find(tokens).into_iter().map(|found| self.label(&found)).collect()
    }

    fn label(&self, found: &Found<'_>) -> Candidate {
        let confidence = if found.preferred { PREFERRED } else { ALTERNATIVE };
        let span = (found.first, found.end);
        let methods = vec![Method::Taxonomy];
        if let Some(index) = self.by_uri.get(&found.concept.uri) {
            return Candidate { methods, ..self.candidate(*index, span, confidence) };
        }
        let is_knowledge = found.concept.class == "knowledge";
        Candidate {
            first: span.0,
            end: span.1,
            label: None,
            kind: SkillKind::Hard,
            category: if is_knowledge { "knowledge" } else { "competence" }.to_owned(),
            mark: None,
            partial: false,
            methods,
            confidence,
            uri: Some(found.concept.uri.clone()),
        }
    }

    /// A candidate of the tagger's with the concept that all of its words name, which is closer
    /// than that of a name that is a part of them ("mantenimiento de bases de datos") or has them
    /// among its forms. Its own concept goes where it is a part and the words name none.
    pub(super) fn linked(&self, candidate: Candidate, surface: &str, taxonomy: &Taxonomy) -> Candidate {
        let unnamed = candidate.methods == [Method::Tagger];
        // Products stand among the phrases of what they are used for.
        let product = matches!(candidate.category.as_str(), "technology" | "tool");
        let label = candidate.label.as_deref().unwrap_or_default();
        if product || !unnamed && tokens::key(label) == tokens::key(surface) {
            return candidate;
        }
        let Some(concept) = taxonomy.link(surface) else {
            let uri = candidate.uri.clone().filter(|_| !candidate.partial);
            return Candidate { uri, ..candidate };
        };
        if candidate.uri.as_ref() == Some(&concept.uri) {
            return candidate;
        }
        let methods = sorted(candidate.methods.iter().copied().chain([Method::Taxonomy]).collect());
        let linked = Candidate { uri: Some(concept.uri.clone()), methods, ..candidate };
        match self.by_uri.get(&concept.uri).map(|index| &self.entries[*index]) {
            Some(entry) => Candidate {
                label: Some(entry.label.clone()),
                kind: entry.kind,
                category: entry.category.clone(),
                ..linked
            },
            None => Candidate { label: None, ..linked },
        }
    }

    fn candidate(&self, index: usize, (first, end): (usize, usize), confidence: f32) -> Candidate {
        let entry = &self.entries[index];
        Candidate {
            first,
            end,
            label: Some(entry.label.clone()),
            kind: entry.kind,
            category: entry.category.clone(),
            mark: None,
            partial: false,
            methods: vec![Method::Lexicon],
            confidence,
            uri: self.uris[index].clone(),
        }
    }
}

/// Variation of a form of an entry that counts in the text.
fn inflection(entry: &Entry, position: usize) -> Inflection {
    let form = &entry.forms[position];
    // Parted as `Tokens` parts: hyphens and slashes stand between words of one phrase.
    let several = form.text.split([' ', '-', '/']).count() > 1;
    // The name of an attitude has no plural: "responsabilidades" are duties.
    let attitude = position == 0 && entry.kind == SkillKind::Soft;
    match (entry.is_name() || form.case, several) {
        (true, _) => Inflection::Exact,
        (false, true) => Inflection::Agreement,
        (false, false) if attitude => Inflection::Exact,
        (false, false) => Inflection::Number,
    }
}

/// The entry that stands for each concept: the one that is linked to it or, of several, the one
/// that the taxonomy calls it by.
fn by_uri(entries: &[Entry], uris: &[Option<String>], taxonomy: Option<&Taxonomy>) -> HashMap<String, usize> {
    let mut linked: HashMap<&String, Vec<usize>> = HashMap::new();
    for (index, uri) in uris.iter().enumerate() {
        if let Some(uri) = uri {
            linked.entry(uri).or_default().push(index);
        }
    }
    let named = |index: &usize, uri: &str| {
        let concept = taxonomy.and_then(|taxonomy| taxonomy.named(&entries[*index].label));
        concept.is_some_and(|concept| concept.uri == uri)
    };
    let standing = |(uri, several): (&String, Vec<usize>)| match several[..] {
        [index] => Some((uri.clone(), index)),
        _ => several.iter().find(|index| named(index, uri)).map(|index| (uri.clone(), *index)),
    };
    linked.into_iter().filter_map(standing).collect()
}

/// Meaning of a stretch of words: a skill, or an ordinary phrase that only looks like one.
pub(super) enum Named {
    Skill(Candidate),
    Ordinary(Match),
}

impl Named {
    /// First word and one past the last.
    pub(super) fn span(&self) -> (usize, usize) {
        match self {
            Self::Skill(candidate) => (candidate.first, candidate.end),
            Self::Ordinary(found) => (found.first, found.end),
        }
    }

    pub(super) fn skill(self) -> Option<Candidate> {
        match self {
            Self::Skill(candidate) => Some(candidate),
            Self::Ordinary(_) => None,
        }
    }
}

/// Candidates and the ordinary phrases that compete with them for their words.
pub(super) fn named(candidates: Vec<Candidate>, ordinary: &[Match]) -> Vec<Named> {
    let ordinary = ordinary.iter().copied().map(Named::Ordinary);
    ordinary.chain(candidates.into_iter().map(Named::Skill)).collect()
}

/// The words that these code points are part of.
pub(super) fn covering(tokens: &Tokens<'_>, start: u32, end: u32) -> Option<(usize, usize)> {
    let first = tokens.items().partition_point(|token| token.end_char <= start);
    let end = tokens.items().partition_point(|token| token.start_char < end);
    (first < end).then_some((first, end))
}

/// The words a served tagger marked, grown to whole words.
pub(super) fn tagged(tokens: &Tokens<'_>, entity: &NerEntity) -> Option<Candidate> {
    let (first, end) = covering(tokens, entity.start, entity.end)?;
    let knowledge = entity.label.eq_ignore_ascii_case("knowledge");
    Some(Candidate {
        first,
        end,
        label: Some(tokens.span(first, end).to_owned()),
        kind: SkillKind::Hard,
        category: if knowledge { "knowledge" } else { "competence" }.to_owned(),
        mark: None,
        partial: false,
        methods: vec![Method::Ner],
        // A served model's score need not be a probability.
        confidence: entity.score.clamp(0.0, 1.0),
        uri: None,
    })
}

/// Folds candidates of one span into the surest, which keeps its name and its concept and gains the
/// others' methods and a little confidence for each further one. Only a name that nothing else
/// knows takes over another's concept.
pub(super) fn merge(mut all: Vec<Candidate>) -> Vec<Candidate> {
    // Down to label and concept, so that the order of the sources decides nothing.
    all.sort_by(|left, right| {
        (left.first, left.end)
            .cmp(&(right.first, right.end))
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
                    // Not tuned: agreement lifts a find among its like and never to the next
                    // source.
                    best.confidence = (best.confidence + 0.05).min(1.0);
                }
                // An entry of the lexicon has its concept, or none because none means the same.
                if !best.methods.contains(&Method::Lexicon) {
                    best.uri = best.uri.take().or(candidate.uri);
                }
                best.methods.extend(candidate.methods);
                best.methods = sorted(std::mem::take(&mut best.methods));
            }
            _ => merged.push(candidate),
        }
    }
    merged
}

#[cfg(test)]
mod tests;
