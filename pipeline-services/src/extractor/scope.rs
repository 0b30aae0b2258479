//! What surrounds the words of a field: sections, sentences, and what speaks for or against a name.
//!
//! It judges names and finds none: candidates ask it whether a word may name a skill where it
//! stands.

use super::{
    candidate::Candidate,
    masks,
    patterns::{Mask, Patterns},
    sections::Sections,
};
use crate::{
    domain::{posting::Field, skill::SkillKind},
    text::{sentences::sentences, tokens::Tokens},
};

/// Words to either side in which another technology vouches for an ambiguous name. Not tuned: about
/// a line of a list.
const NEIGHBOURS: usize = 8;

/// The surroundings of every word of one field.
pub(super) struct Scope<'a> {
    pub(super) patterns: &'a Patterns,
    field: Field,
    sections: Sections,
    // The number of each word's sentence, ascending.
    sentence: Vec<u32>,
    // Whether each word's sentence is set in capitals.
    capitals: Vec<bool>,
    masks: Vec<Mask>,
    cued: Vec<bool>,
}

impl<'a> Scope<'a> {
    pub(super) fn new(field: Field, tokens: &Tokens<'_>, patterns: &'a Patterns) -> Self {
        let mut sentence = vec![0; tokens.len()];
        let mut capitals = vec![false; tokens.len()];
        for (id, range) in sentences(tokens.text()).iter().enumerate() {
            let (first, end) = (tokens.first_from(range.start), tokens.first_from(range.end));
            sentence[first..end].fill(id as u32);
            capitals[first..end].fill(is_set_in_capitals(&tokens.text()[range.clone()]));
        }
        let mut cued = vec![false; tokens.len()];
        for found in patterns.context.phrases.find(tokens) {
            let end = (found.end + patterns.context.words).min(tokens.len());
            cued[found.end..end].fill(true);
        }
        let sections = Sections::new(tokens, &sentence, patterns);
        let masks = masks::masks(tokens, &sentence, patterns);
        Self { patterns, field, sections, sentence, capitals, masks, cued }
    }

    /// Name of the section of a word; titles and requirement lists are sections of their own.
    pub(super) fn section(&self, index: usize) -> &'static str {
        match self.field {
            Field::Title => "title",
            Field::Description => self.sections.at(index),
            Field::Requirements => "requirements",
        }
    }

    /// The trust that a section's text asks for a skill of this kind, 0..1: employers praise
    /// themselves in the words they ask for. The figures are choices, not tuned.
    pub(super) fn trust(&self, index: usize, kind: SkillKind) -> f32 {
        match (self.section(index), kind) {
            ("benefits" | "legal", _) | ("about" | "conditions", SkillKind::Soft) => 0.3,
            ("about", SkillKind::Hard) => 0.6,
            ("conditions", SkillKind::Hard) => 0.8,
            _ => 1.0,
        }
    }

    /// Returns whether these words are part of a heading.
    pub(super) fn is_heading(&self, first: usize, end: usize) -> bool {
        self.field == Field::Description && self.sections.is_heading(first, end)
    }

    /// Returns true if both words stand in one sentence; a place past the last word is in none.
    pub(super) fn same_sentence(&self, word: usize, place: usize) -> bool {
        self.sentence.get(place) == Some(&self.sentence[word])
    }

    /// Returns whether these words may name a skill of this category: nothing that is negated or
    /// offered does, and a field of knowledge does not where degrees are listed.
    pub(super) fn open(&self, first: usize, end: usize, category: &str) -> bool {
        let mask = self.masks[first..end].iter().max().copied().unwrap_or_default();
        // A title names the job; what stands there as a field of work is part of its name
        // ("Ejecutivo de ventas").
        let job = self.field == Field::Title && !self.cued[first];
        match if job { mask.max(Mask::Fields) } else { mask } {
            Mask::Open => true,
            Mask::Fields => !matches!(category, "knowledge" | "competence" | "method"),
            Mask::All => false,
        }
    }

    /// Returns whether these words are negated, offered, or said of the employer or the law. Of
    /// what the tagger marked there, one in five was right; where degrees are listed, two in three.
    pub(super) fn is_aside(&self, first: usize, end: usize) -> bool {
        let taken_back = self.masks[first..end].contains(&Mask::All);
        taken_back || matches!(self.section(first), "benefits" | "about" | "legal")
    }

    /// Returns whether a word such as "lenguaje" or "conocimientos" stands shortly before.
    pub(super) fn cued(&self, index: usize) -> bool {
        self.cued[index]
    }

    /// Returns whether a name's capitals say nothing: in a sentence that is set in capitals every
    /// word has them.
    pub(super) fn in_capitals(&self, index: usize) -> bool {
        self.capitals[index]
    }

    /// Returns whether a name is an English word here ("ability to react quickly", "excel at
    /// sales"): in small letters or at the beginning of a sentence, next to a word that no product
    /// stands next to.
    pub(super) fn is_ordinary(&self, tokens: &Tokens<'_>, first: usize, end: usize) -> bool {
        let ordinary = &self.patterns.ordinary;
        if end - first != 1 || !is_among(&ordinary.words, tokens.folded(first)) {
            return false;
        }
        // A neighbour across punctuation says nothing about the word.
        let previous = first
            .checked_sub(1)
            .filter(|index| self.same_sentence(first, *index) && !tokens.items()[first].break_before);
        let next = Some(end)
            .filter(|index| self.same_sentence(first, *index) && !tokens.items()[*index].break_before);
        let capital = tokens.surface(first).starts_with(char::is_uppercase) && previous.is_some();
        let marked = previous.is_some_and(|index| is_among(&ordinary.before, tokens.folded(index)))
            || next.is_some_and(|index| is_among(&ordinary.after, tokens.folded(index)));
        marked && (!capital || self.in_capitals(first))
    }

    /// Returns whether an ambiguous name is meant as a skill: a word such as "lenguaje" stands
    /// shortly before it, or in its sentence near it another name of its sort; attitudes and fields
    /// of knowledge count where requirements are listed, too. `sure` stands in the order of the
    /// words, none longer than `longest`.
    pub(super) fn vouches(&self, candidate: &Candidate, sure: &[Candidate], longest: usize) -> bool {
        let named = is_technical(candidate);
        // Only names near enough are looked at: a text that repeats one name would be compared with
        // itself otherwise.
        let from = sure.partition_point(|other| other.first + longest + NEIGHBOURS < candidate.first);
        let mut around = sure[from..].iter().take_while(|other| other.first <= candidate.end + NEIGHBOURS);
        let asked = !named && self.section(candidate.first) == "requirements";
        asked || self.cued(candidate.first) || around.any(|other| self.is_near(candidate, other))
    }

    /// Returns whether another name of its sort stands near it in its sentence.
    fn is_near(&self, candidate: &Candidate, other: &Candidate) -> bool {
        let gap = other.first.saturating_sub(candidate.end).max(candidate.first.saturating_sub(other.end));
        // A longer name cannot vouch for a part of itself.
        let overlaps = other.first < candidate.end && candidate.first < other.end;
        let alike = match candidate.kind {
            SkillKind::Soft => other.kind == SkillKind::Soft,
            SkillKind::Hard => is_technical(candidate) && is_technical(other),
        };
        alike && !overlaps && gap <= NEIGHBOURS && self.same_sentence(other.first, candidate.first)
    }
}

fn is_among(list: &[String], word: &str) -> bool {
    list.iter().any(|other| other == word)
}

fn is_technical(candidate: &Candidate) -> bool {
    matches!(candidate.category.as_str(), "technology" | "tool")
}

/// More capital than small letters, and enough of them to be no single acronym.
fn is_set_in_capitals(sentence: &str) -> bool {
    let (capital, small) = sentence.chars().fold((0_usize, 0_usize), |(capital, small), character| {
        (capital + usize::from(character.is_uppercase()), small + usize::from(character.is_lowercase()))
    });
    // Not tuned: an acronym or two do not reach it, a shouted line does.
    capital >= 12 && capital > 3 * small
}
