//! From a model's answer to enhanced skills: what is supported by its citation is taken, the rest
//! is counted and left to the rules.
//!
//! A model may rename, fold and rate the mentions it was given, and infer skills with a quotation
//! and a reason. It cannot add a mention: whatever counts as explicit stands in the advertisement.
//! Nor can an advertisement make it print what it likes. A new name shares a word with what it
//! renames, or is known and stands nowhere else; an inferred skill is known, quotes what it follows
//! from, and is not named: what an advertisement tells a model to add, it has to name.

use serde::Deserialize;

use super::{advertisement::Advertisement, rules};
use crate::{
    domain::{
        enhancement::{Rejected, Rejection},
        skill::{Citation, EnhancedSkill, Maker, Mention, SkillKind},
    },
    lexicon::Lexicon,
    taxonomy::Taxonomy,
    text::{fold::fold, tokens},
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
    // Endpoints that do not obey the schema leave things out.
    #[serde(default)]
    text: String,
    label: String,
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
    #[serde(default)]
    quote: String,
    reason: String,
}

/// The skills of a posting by a model, and what of its answer was not taken.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Combined {
    /// In the order of [`rules::enhance`].
    pub(super) skills: Vec<EnhancedSkill>,
    /// Counts.
    pub(super) rejected: Rejected,
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

/// Enhanced skills of a posting by a model's `text`; the rules answer for mentions that the model
/// left out or answered unusably.
///
/// # Errors
/// In one sentence, when the text holds no answer at all.
pub(super) fn combine(text: &str, ad: &Advertisement<'_>, known: Knowledge<'_>) -> Result<Combined, String> {
    let answer: Answer = serde_json::from_str(object(text)).map_err(|error| error.to_string())?;
    let mentions = &ad.mentions;
    let mut rejected = Rejected::new();
    let mut reject = |reason| *rejected.entry(reason).or_default() += 1;
    let mut skills: Vec<EnhancedSkill> =
        mentions.iter().map(|mention| rules::normalised(mention, known.lexicon)).collect();
    let mut same_as = vec![None; mentions.len()];
    for named in answer.skills {
        let index = named.mention;
        // Only backwards: a pair of mentions that point at each other would have no original.
        let original = named.same_as.filter(|other| *other < index);
        match explicit(named, ad, known) {
            Ok(skill) => (skills[index], same_as[index]) = (skill, original),
            Err(reason) => reject(reason),
        }
    }
    for index in 0..skills.len() {
        let Some(original) = same_as[index] else { continue };
        // Earlier ones are settled already, so a chain ends at its first link.
        match folded(&skills[index], &skills[original], (&mentions[index], &mentions[original])) {
            Some(skill) => skills[index] = skill,
            None => reject(Rejection::FoldUnsupported),
        }
    }
    let mut inferred = Vec::new();
    for item in answer.implicit {
        match implicit(item, ad, known) {
            // Counted after the unusable ones, so that nonsense takes no place from good answers.
            Ok(_) if inferred.len() == IMPLICIT => reject(Rejection::TooMany),
            Ok(skill) => inferred.push(skill),
            Err(reason) => reject(reason),
        }
    }
    Ok(Combined { skills: rules::completed(skills, inferred, known.taxonomy, known.lexicon), rejected })
}

/// A skill under the name of the one that it repeats; nothing where the two differ by their words
/// and by their concepts.
fn folded(
    skill: &EnhancedSkill,
    original: &EnhancedSkill,
    (mention, other): (&Mention, &Mention),
) -> Option<EnhancedSkill> {
    let same_concept = mention.uri.is_some() && mention.uri == other.uri;
    let alike = same_concept
        || tokens::key(&skill.normalized_skill) == tokens::key(&original.normalized_skill)
        || renames(&original.normalized_skill, mention);
    alike.then(|| EnhancedSkill {
        original_skill_text: skill.original_skill_text.clone(),
        confidence: skill.confidence,
        citation: skill.citation,
        ..original.clone()
    })
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

/// The skill of a mention, as the model names it.
fn explicit(named: Named, ad: &Advertisement<'_>, known: Knowledge<'_>) -> Result<EnhancedSkill, Rejection> {
    let mention = ad.mentions.get(named.mention).ok_or(Rejection::UnknownMention)?;
    // A model that has lost count names the wrong mention; one that copies its words has not.
    if tokens::key(&named.text) != tokens::key(&mention.surface) {
        return Err(Rejection::CitationDiffers);
    }
    let label = label(&named.label).ok_or(Rejection::LabelUnsupported)?;
    let entry = known.lexicon.find(&label);
    let own = entry.is_some() && entry == known.lexicon.find(&mention.label);
    let elsewhere = || ad.names(&label, entry) || !known.names(&label);
    if !own && !renames(&label, mention) && elsewhere() {
        return Err(Rejection::LabelUnsupported);
    }
    if !(0.0..=1.0).contains(&named.confidence) {
        return Err(Rejection::Confidence);
    }
    // A model that keeps the name keeps the concept that the extractor linked.
    let same = entry.is_some_and(|entry| entry.label == mention.label) || label == mention.label;
    let linked = if same { None } else { rules::concept(&label, entry, known.taxonomy) };
    let (uri, preferred) = match linked {
        _ if same => (mention.uri.clone(), mention.preferred_label.clone()),
        Some(concept) => (Some(concept.uri.clone()), concept.preferred_label("es").map(str::to_owned)),
        None => (None, None),
    };
    Ok(EnhancedSkill {
        original_skill_text: Some(mention.surface.clone()),
        normalized_skill: entry.map_or(label, |entry| entry.label.clone()),
        explicit: true,
        kind: entry.map_or(named.kind, |entry| entry.kind),
        category: entry.map_or_else(|| mention.category.clone(), |entry| entry.category.clone()),
        esco_concept_uri: uri,
        esco_preferred_label: preferred,
        confidence: named.confidence,
        reasoning: None,
        duplicate_of: None,
        maker: Maker::Model,
        citation: Citation::from(mention),
    })
}

/// An inferred skill, if everything that it rests on is there.
fn implicit(
    inferred: Inferred,
    ad: &Advertisement<'_>,
    known: Knowledge<'_>,
) -> Result<EnhancedSkill, Rejection> {
    let label = label(&inferred.label).ok_or(Rejection::UnknownSkill)?;
    let entry = known.lexicon.find(&label);
    let concept = rules::concept(&label, entry, known.taxonomy);
    if entry.is_none() && concept.is_none() {
        return Err(Rejection::UnknownSkill);
    }
    let reason = inferred.reason.split_whitespace().collect::<Vec<_>>().join(" ");
    if reason.is_empty() || reason.chars().count() > REASON_CHARACTERS {
        return Err(Rejection::Reason);
    }
    if !(rules::REPORTED..=1.0).contains(&inferred.confidence) {
        return Err(Rejection::Confidence);
    }
    let citation = ad.quoted(&inferred.quote)?;
    if ad.names(&label, entry) {
        return Err(Rejection::NamedInText);
    }
    // The model is asked for a kind, not for a category; these are the widest of each.
    let soft = if inferred.kind == SkillKind::Soft { "soft" } else { "competence" };
    Ok(EnhancedSkill {
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
        citation,
    })
}

#[cfg(test)]
mod tests;
