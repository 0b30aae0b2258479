//! From a wording to concepts: the one it names, or a ranking of those it may mean.
//!
//! Skills are looked up among their labels and the phrases that ship, occupations among their
//! labels; all of it in memory. A ranking also takes what else speaks for a concept: how near its
//! labels' vectors are, and for an occupation how likely its unit group is. Each of them may make a
//! concept likely by itself, so that without vectors the order is that of the names.

use std::collections::{HashMap, HashSet};

use observatory_linking::{Candidate, Index, Source as Naming, Wording, phrases};
use observatory_occupations::Coder;

use super::{FALSE_FRIENDS, Taxonomy, occupation::genders};
use crate::{
    domain::taxonomy::{Concept, ConceptKind},
    lexicon::Titles,
    text::tokens,
};

/// Number that stands for every phrase among the numbers of a concept's labels.
const PHRASE: u32 = u32::MAX;

/// Score from which the best concept counts as right where a caller wants no doubtful ones: in the
/// development part of the marked advertisements two of three skills at this score and above it are
/// linked right.
const CLEAR: f32 = 0.84;

/// Share of what the names of an occupation leave open that the likelihood of its unit group of
/// ISCO-08 decides. Of six shares from 0.3 to 0.8 the best reciprocal rank on the development half
/// of the titles of MELO.
const GROUP: f32 = 0.4;
/// What remains of the score of a group of ISCO: a title means one less often than the occupations
/// in it. Of nine factors from 0.5 to 1 the best reciprocal rank on the development half of MELO.
const ISCO: f32 = 0.95;
/// The likeliest unit groups, whose occupations are ranked even where none of their names is like
/// the title. Not tuned.
const GROUPS: usize = 3;
/// Occupations of CUOC, out of 677, by whose unit groups those of ESCO are ranked. Not tuned: the
/// score of the last ones is next to nothing.
const CODES: usize = 200;
/// Names or concepts among which the unit groups change the order. Not tuned: callers ask for a
/// hundred.
const POOL: usize = 1_000;

/// By what occupations are ranked, apart from their own names.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Occupations<'extractor> {
    /// Our own titles, by which an occupation may be clear.
    pub titles: &'extractor Titles,
    /// Says how likely the unit groups are.
    pub coder: &'extractor Coder,
}

/// How near concepts are by vectors, 0..1, by their URIs: 1 for a label that means the same, 0 for
/// those that are no nearer than some hundred others.
pub(crate) type Nearness = HashMap<String, f32>;

/// What is looked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sought<'text> {
    /// Skills or occupations.
    pub kind: ConceptKind,
    /// A wording, a sentence or the title of a job.
    pub text: &'text str,
    /// The concepts near to it; empty where no vectors are compared.
    pub near: &'text Nearness,
}

/// A concept that a text may mean.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Linked<'taxonomy> {
    /// The concept.
    pub concept: &'taxonomy Concept,
    /// Its label that is like the text, if it is one of the taxonomy.
    pub label: Option<&'taxonomy str>,
    /// 0..1.
    pub score: f32,
}

impl Taxonomy {
    /// Indexes the labels of the skills and the phrases that ship for them.
    pub(super) fn skill_wordings(&self) -> Index {
        let phrases = phrases::shipped();
        let phrases = phrases.iter().filter_map(|(uri, texts)| Some((*self.by_uri.get(uri)?, texts)));
        let phrases = phrases.flat_map(|(concept, texts)| {
            let wording = move |text| Wording { concept, label: PHRASE, text, source: Naming::Phrase };
            texts.iter().map(|text| text.as_str()).map(wording)
        });
        Index::new(self.labels(ConceptKind::Skill).chain(phrases))
    }

    /// Indexes the labels of the occupations and of ISCO's groups, both genders of those that name
    /// two.
    fn occupation_wordings(&self) -> &Index {
        self.occupation_wordings.get_or_init(|| {
            let named: Vec<(Wording<'_>, Vec<String>)> = self
                .labels(ConceptKind::Occupation)
                .chain(self.labels(ConceptKind::Group))
                .map(|wording| (wording, genders(wording.text)))
                .collect();
            let both = named
                .iter()
                .flat_map(|(wording, genders)| genders.iter().map(|text| Wording { text, ..*wording }));
            Index::new(both)
        })
    }

    fn labels(&self, kind: ConceptKind) -> impl Iterator<Item = Wording<'_>> {
        let concepts = self.concepts.iter().zip(0..).filter(move |(concept, _)| concept.kind == kind);
        concepts.flat_map(|(concept, id)| {
            concept.labels.iter().zip(0..).map(move |(label, position)| {
                let source = if label.preferred { Naming::Preferred } else { Naming::Alternative };
                Wording { concept: id, label: position, text: &label.text, source }
            })
        })
    }

    /// The one skill concept that a wording names, in any form of its words: by a preferred label,
    /// else by a phrase that ships. Nothing where several concepts bear it, and nothing by an
    /// alternative label alone, as for [`Taxonomy::named`].
    pub fn link(&self, wording: &str) -> Option<&Concept> {
        if FALSE_FRIENDS.contains(&tokens::key(wording).as_str()) {
            return None;
        }
        let same = self.wordings.same(wording);
        let strongest = same.iter().map(|(_, source)| *source).min()?;
        let mut bearers = same.iter().filter(|(_, source)| *source == strongest);
        let (id, _) = bearers.next()?;
        let clear = strongest != Naming::Alternative && bearers.next().is_none();
        clear.then(|| &self.concepts[*id as usize])
    }

    /// The concepts of a kind that a text may mean, the likeliest first; with `surface`, every
    /// label of every concept.
    pub(crate) fn ranked(
        &self,
        sought: Sought<'_>,
        occupations: Occupations<'_>,
        top: usize,
        surface: bool,
    ) -> Vec<Linked<'_>> {
        let Sought { kind, text, near } = sought;
        // Twice as many of the labels, since one with two genders comes twice.
        let count = if surface { 2 * top } else { top };
        let index = match kind {
            ConceptKind::Skill => &self.wordings,
            ConceptKind::Occupation => self.occupation_wordings(),
            ConceptKind::Group => return Vec::new(),
        };
        let by_names = kind == ConceptKind::Skill && near.is_empty();
        let pool = if by_names { count } else { count.max(POOL) };
        let mut found = if surface { index.rank_wordings(text, pool) } else { index.rank(text, pool) };
        if kind == ConceptKind::Occupation {
            let (lifts, likely) = self.by_unit_group(text, occupations.coder);
            self.raise(&mut found, surface, &lifts, &likely);
        }
        let near = self.by_vectors(near);
        self.raise(&mut found, surface, &near, &near.keys().copied().collect::<Vec<u32>>());
        if !by_names {
            let is_group = |id: u32| self.concepts[id as usize].kind == ConceptKind::Group;
            found.iter_mut().filter(|one| is_group(one.concept)).for_each(|one| one.score *= ISCO);
            found.sort_by(|left, right| {
                let by_score = right.score.total_cmp(&left.score);
                by_score.then((left.concept, left.label).cmp(&(right.concept, right.label)))
            });
            found.truncate(count);
        }
        if surface {
            let mut seen = HashSet::new();
            let labels = found.iter().filter(|found| seen.insert((found.concept, found.label)));
            return labels
                .map(|found| self.linked(found))
                .filter(|found| found.label.is_some())
                .take(top)
                .collect();
        }
        let mut ranked: Vec<Linked<'_>> = found.iter().map(|found| self.linked(found)).collect();
        if let Some(clear) = self.clear(kind, text, occupations.titles) {
            ranked.retain(|linked| linked.concept.uri != clear.uri);
            let score = ranked.first().map_or(1.0, |linked| linked.score.max(CLEAR));
            ranked.insert(0, Linked { concept: clear, label: None, score });
            ranked.truncate(top);
        }
        ranked
    }

    /// How much the unit groups in which the coder sees a title speak for each occupation, and the
    /// occupations of the likeliest ones. For groups of ISCO it speaks not at all, or they would
    /// stand above their members.
    fn by_unit_group(&self, title: &str, coder: &Coder) -> (HashMap<u32, f32>, Vec<u32>) {
        let mut groups: HashMap<&str, f32> = HashMap::new();
        let mut likeliest: Vec<&str> = Vec::new();
        // Best first: the score of a group is that of its best occupation.
        for code in coder.rank(title, None, CODES) {
            groups.entry(code.isco).or_insert_with(|| {
                likeliest.push(code.isco);
                code.score
            });
        }
        likeliest.truncate(GROUPS);
        let (mut lifts, mut likely) = (HashMap::new(), Vec::new());
        let occupations = self.concepts.iter().zip(0..);
        for (concept, id) in occupations.filter(|(concept, _)| concept.kind == ConceptKind::Occupation) {
            let Some(group) = concept.isco() else { continue };
            // The root makes more of the groups that come after the first.
            lifts.extend(groups.get(group).map(|score| (id, GROUP * score.sqrt())));
            likely.extend(likeliest.contains(&group).then_some(id));
        }
        (lifts, likely)
    }

    /// The concepts of this taxonomy that are near.
    fn by_vectors(&self, near: &Nearness) -> HashMap<u32, f32> {
        let known = |uri: &str| self.by_uri.get(uri).or_else(|| self.groups.get(uri)).copied();
        near.iter().filter_map(|(uri, near)| Some((known(uri)?, *near))).collect()
    }

    /// Raises candidates by what speaks for their concepts apart from their names, a share of what
    /// is left to 1, and adds those concepts of `fresh` that are none yet.
    fn raise(&self, found: &mut Vec<Candidate>, surface: bool, lifts: &HashMap<u32, f32>, fresh: &[u32]) {
        let known: HashSet<(u32, u32)> = found.iter().map(|one| key(one, surface)).collect();
        for id in fresh {
            let labels = if surface { self.concepts[*id as usize].labels.len() as u32 } else { 1 };
            let all = (0..labels).map(|label| Candidate { concept: *id, label, score: 0.0 });
            found.extend(all.filter(|one| !known.contains(&key(one, surface))));
        }
        for one in found {
            one.score += (1.0 - one.score) * lifts.get(&one.concept).copied().unwrap_or_default();
        }
    }

    /// Returns whether the best of a ranking is clearly right.
    pub(crate) fn is_clear(ranked: &[Linked<'_>]) -> bool {
        ranked.first().is_some_and(|best| best.score >= CLEAR)
    }

    /// The concept that a text names outright.
    fn clear(&self, kind: ConceptKind, text: &str, titles: &Titles) -> Option<&Concept> {
        match kind {
            ConceptKind::Skill => self.link(text),
            ConceptKind::Occupation => self.occupation(text, titles).map(|ranked| ranked.concept),
            ConceptKind::Group => None,
        }
    }

    fn linked(&self, found: &Candidate) -> Linked<'_> {
        let concept = &self.concepts[found.concept as usize];
        // A phrase has no place among the labels.
        let label = concept.labels.get(found.label as usize).map(|label| label.text.as_str());
        Linked { concept, label, score: found.score }
    }
}

/// What a candidate of a ranking stands for: a label, or a concept.
fn key(candidate: &Candidate, surface: bool) -> (u32, u32) {
    (candidate.concept, if surface { candidate.label } else { 0 })
}

#[cfg(test)]
mod tests;
