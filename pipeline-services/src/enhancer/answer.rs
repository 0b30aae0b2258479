//! From a model's answer to enhanced skills: what is usable is taken, the rest is left to the
//! rules.
//!
//! A model may rename, fold and rate the mentions it was given, and infer skills with a reason. It
//! cannot add a mention: whatever counts as explicit stands in the advertisement. Nor can an
//! advertisement make it print what it likes: a new name shares a word with what it renames or is
//! one that lexicon or taxonomy know, and an inferred skill is one that they know.

use serde::Deserialize;

use super::rules;
use crate::{
    domain::skill::{EnhancedSkill, Maker, Mention, SkillKind},
    lexicon::Lexicon,
    taxonomy::Taxonomy,
    text::fold::fold,
};

/// Longest label, in characters: longer ones are sentences. Not tuned.
pub(super) const LABEL_CHARACTERS: usize = 80;
/// Longest reason, in characters: a choice, two sentences.
pub(super) const REASON_CHARACTERS: usize = 300;
/// Inferences of one posting at most; more are guesses. The number is a choice.
pub(super) const IMPLICIT: usize = 12;

#[derive(Debug, Default, Deserialize)]
// Either list may be missing: what is there is used.
#[serde(default)]
struct Answer {
    skills: Vec<Named>,
    implicit: Vec<Inferred>,
}

#[derive(Debug, Deserialize)]
struct Named {
    mention: usize,
    label: String,
    // Endpoints that do not obey the schema leave nulls out.
    #[serde(default)]
    same_as: Option<usize>,
    kind: SkillKind,
    confidence: f32,
}

#[derive(Debug, Deserialize)]
struct Inferred {
    label: String,
    kind: SkillKind,
    confidence: f32,
    reason: String,
}

/// The knowledge that the rules and the model share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Knowledge<'a> {
    /// The active taxonomy.
    pub(super) taxonomy: Option<&'a Taxonomy>,
    /// Our own entries.
    pub(super) lexicon: &'a Lexicon,
}

impl Knowledge<'_> {
    /// Returns whether lexicon or taxonomy know a skill of this name.
    fn names(&self, label: &str) -> bool {
        let entry = self.lexicon.find(label);
        entry.is_some() || rules::concept(label, entry, self.taxonomy).is_some()
    }
}

/// Returns whether a label has a word of the mention, or begins one as an abbreviation does.
fn renames(label: &str, mention: &Mention) -> bool {
    let own: Vec<String> = [words(&mention.surface), words(&mention.label)].concat();
    words(label).iter().any(|word| {
        own.iter()
            // Below four letters words begin alike by chance.
            .any(|other| word == other || (word.len().min(other.len()) >= 4 && shares_stem(word, other)))
    })
}

fn words(text: &str) -> Vec<String> {
    let folded = fold(text);
    // C, C++ and C# are three skills.
    let words = folded.split(|c: char| !(c.is_alphanumeric() || matches!(c, '+' | '#')));
    words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// Inflections differ at their ends. Two thirds in common is a choice, not tuned.
fn shares_stem(left: &str, right: &str) -> bool {
    let common = left.chars().zip(right.chars()).take_while(|(a, b)| a == b).count();
    common * 3 >= 2 * left.chars().count().min(right.chars().count())
}

/// Enhanced skills of a posting by a model's `text`, in the order of [`rules::enhance`]; the rules
/// answer for mentions that the model left out or answered unusably.
///
/// # Errors
/// In one sentence, when the text holds no answer at all.
pub(super) fn combine(
    text: &str,
    mentions: &[Mention],
    known: Knowledge<'_>,
) -> Result<Vec<EnhancedSkill>, String> {
    let answer: Answer = serde_json::from_str(object(text)).map_err(|error| error.to_string())?;
    let mut skills: Vec<EnhancedSkill> =
        mentions.iter().map(|mention| rules::normalised(mention, known.lexicon)).collect();
    let mut same_as = vec![None; mentions.len()];
    for named in answer.skills {
        // Models invent numbers that no mention has.
        let Some(mention) = mentions.get(named.mention) else { continue };
        let Some(label) = label(&named.label).filter(|label| known.names(label) || renames(label, mention))
        else {
            continue;
        };
        if !(0.0..=1.0).contains(&named.confidence) {
            continue;
        }
        // Only backwards: a pair of mentions that point at each other would have no original.
        same_as[named.mention] = named.same_as.filter(|other| *other < named.mention);
        skills[named.mention] = explicit(mention, label, (named.kind, named.confidence), known);
    }
    for index in 0..skills.len() {
        // Earlier ones are settled already, so a chain ends at its first link.
        if let Some(original) = same_as[index] {
            let original = skills[original].clone();
            let skill = &mut skills[index];
            skill.normalized_skill = original.normalized_skill;
            skill.esco_concept_uri = original.esco_concept_uri;
            skill.esco_preferred_label = original.esco_preferred_label;
            (skill.kind, skill.category) = (original.kind, original.category);
        }
    }
    let inferred = answer.implicit.into_iter().filter_map(|inferred| implicit(inferred, known));
    // Cut after the unusable ones are gone, so that nonsense takes no place from good answers.
    let inferred = inferred.take(IMPLICIT).collect();
    Ok(rules::completed(skills, inferred, known.taxonomy, known.lexicon))
}

/// The outermost object: models put fences and friendly words around it.
fn object(text: &str) -> &str {
    match (text.find('{'), text.rfind('}')) {
        (Some(first), Some(last)) if first < last => &text[first..=last],
        _ => text,
    }
}

/// A label as it is stored, or `None` where it is none.
fn label(text: &str) -> Option<String> {
    let label = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let fits = label.chars().count() <= LABEL_CHARACTERS
        && label.chars().any(char::is_alphanumeric)
        && !label.chars().any(char::is_control);
    fits.then_some(label)
}

fn explicit(
    mention: &Mention,
    label: String,
    (kind, confidence): (SkillKind, f32),
    known: Knowledge<'_>,
) -> EnhancedSkill {
    let entry = known.lexicon.find(&label);
    // A model that keeps the name keeps the concept that the extractor linked.
    let same = entry.is_some_and(|entry| entry.label == mention.label) || label == mention.label;
    let linked = if same { None } else { rules::concept(&label, entry, known.taxonomy) };
    let (uri, preferred) = match linked {
        _ if same => (mention.uri.clone(), mention.preferred_label.clone()),
        Some(concept) => (Some(concept.uri.clone()), concept.preferred_label("es").map(str::to_owned)),
        None => (None, None),
    };
    EnhancedSkill {
        original_skill_text: Some(mention.surface.clone()),
        normalized_skill: entry.map_or(label, |entry| entry.label.clone()),
        explicit: true,
        kind: entry.map_or(kind, |entry| entry.kind),
        category: entry.map_or_else(|| mention.category.clone(), |entry| entry.category.clone()),
        esco_concept_uri: uri,
        esco_preferred_label: preferred,
        confidence,
        reasoning: None,
        duplicate_of: None,
        maker: Maker::Model,
    }
}

fn implicit(inferred: Inferred, known: Knowledge<'_>) -> Option<EnhancedSkill> {
    let label = label(&inferred.label)?;
    let reason = inferred.reason.split_whitespace().collect::<Vec<_>>().join(" ");
    let sure = (rules::REPORTED..=1.0).contains(&inferred.confidence);
    if reason.is_empty() || reason.chars().count() > REASON_CHARACTERS || !sure {
        return None;
    }
    let entry = known.lexicon.find(&label);
    let concept = rules::concept(&label, entry, known.taxonomy);
    if entry.is_none() && concept.is_none() {
        return None;
    }
    // The model is asked for a kind, not for a category; these are the widest of each.
    let soft = if inferred.kind == SkillKind::Soft { "soft" } else { "competence" };
    Some(EnhancedSkill {
        original_skill_text: None,
        normalized_skill: entry.map_or(label, |entry| entry.label.clone()),
        explicit: false,
        kind: entry.map_or(inferred.kind, |entry| entry.kind),
        category: entry.map_or_else(|| soft.to_owned(), |entry| entry.category.clone()),
        esco_concept_uri: concept.map(|concept| concept.uri.clone()),
        esco_preferred_label: concept.and_then(|concept| concept.preferred_label("es")).map(str::to_owned),
        confidence: inferred.confidence,
        reasoning: Some(reason),
        duplicate_of: None,
        maker: Maker::Model,
    })
}

#[cfg(test)]
mod tests;
