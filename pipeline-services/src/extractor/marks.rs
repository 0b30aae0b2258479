//! The shipped tagger as a source of mentions, and how its marks become one with the names of the
//! other sources.
//!
//! The tagger has read whole advertisements and knows where a skill begins and ends and which place
//! it has; the lexicon and the taxonomy know what it is called. So a mark keeps its words and takes
//! over the name that stands in it.

use observatory_tagging::{BUILT_IN, Gazetteer, Kind, ModelError, Tag, Tagger};

use super::{
    candidate::Candidate,
    candidates::{NAMED, covering},
    phrases::LETTERS,
    sorted,
};
use crate::{
    domain::skill::{Method, SkillKind},
    lexicon::{Entry, Lexicon},
    text::tokens::Tokens,
};

/// Correction of the tagger's probability, on the scale of its logarithm of odds: offset and slope
/// of a logistic regression of right marks in 120 real advertisements (docs/ACCURACY.md), since it
/// has learned from written ones and is too sure of both what it takes and what it doubts.
const CALIBRATION: (f32, f32) = (0.1, 0.77);
/// Words from which on a text says where it asks for something. In fewer, such as a list of
/// programs, the tagger has nothing to go by and names stand by themselves. Not tuned:
/// advertisements have hundreds of words.
const SHORT: usize = 25;
/// Least overlap, intersection over union in words, of a mark and a name that mean the same: more
/// than half, so that a name of one word does not stand for a mark of two.
const SAME: f32 = 0.51;

/// Reads a model that was trained with the names of this lexicon.
pub(super) fn built_in(lexicon: &Lexicon) -> Result<Tagger, ModelError> {
    Tagger::new(BUILT_IN, names(lexicon))
}

/// The names that the tagger knows of: every form of the lexicon, ambiguous ones included, since
/// it weighs them by what stands around.
pub fn names(lexicon: &Lexicon) -> Gazetteer {
    let mut names = Gazetteer::default();
    for entry in lexicon.entries() {
        let kind = kind(entry);
        entry.forms.iter().for_each(|form| names.insert(&form.text, kind));
    }
    names
}

fn kind(entry: &Entry) -> Kind {
    match entry.category.as_str() {
        "technology" | "tool" => Kind::Tool,
        "competence" => Kind::Ability,
        "certification" | "licence" => Kind::Licence,
        "language" => Kind::Language,
        "soft" => Kind::Soft,
        _ => Kind::Knowledge,
    }
}

/// Category of a skill that only the tagger knows.
const fn category(kind: Kind) -> &'static str {
    match kind {
        Kind::Tool => "tool",
        Kind::Knowledge => "knowledge",
        Kind::Ability => "competence",
        Kind::Language => "language",
        Kind::Licence => "licence",
        Kind::Soft => "soft",
    }
}

/// The marks of a text and what the other sources found, as candidates that are apart and in order.
///
/// `names` are all of their names in order, shorter ones within longer ones included, since a mark
/// may be either; `apart` are those that hold without the tagger, apart and in order. Of these, one
/// that overlaps a mark is part of it or gone, and so is one that the tagger passed over: three in
/// four of them were degrees, employers and benefits (development part of the marked
/// advertisements). It stays if a served tagger has marked it, or in a text too short to read.
pub(super) fn united(
    tokens: &Tokens<'_>,
    marks: &[Tag],
    names: &[Candidate],
    apart: Vec<Candidate>,
) -> Vec<Candidate> {
    let mut united: Vec<Candidate> = Vec::with_capacity(marks.len() + apart.len());
    let mut apart = apart.into_iter().peekable();
    let longest = names.iter().map(|name| name.end - name.first).max().unwrap_or(0);
    for mark in marks {
        let Some((first, end)) = covering(tokens, mark.start, mark.end) else { continue };
        while let Some(before) = apart.next_if(|name| name.end <= first) {
            united.extend(passed_over(tokens, before));
        }
        // Only names near enough are looked at, or a long text would be compared with itself.
        let from = names.partition_point(|name| name.first + longest <= first);
        let mut near: Vec<&Candidate> = names[from..].iter().take_while(|name| name.first < end).collect();
        let replaced: Vec<Candidate> =
            std::iter::from_fn(|| apart.next_if(|name| name.first < end)).collect();
        near.extend(&replaced);
        // Two marks in one word: the first has it. No skill has a word longer than any.
        let readable = (first..end).all(|index| tokens.surface(index).chars().count() <= LETTERS);
        if readable && united.last().is_none_or(|last| last.end <= first) {
            united.push(marked(tokens, mark, (first, end), &near));
        }
    }
    united.extend(apart.filter_map(|name| passed_over(tokens, name)));
    united
}

/// A name that the tagger did not mark. Attitudes in several words hold all the same, where nothing
/// around makes them doubtful: "colaborar con los equipos" is a duty in which the tagger sees none.
fn passed_over(tokens: &Tokens<'_>, name: Candidate) -> Option<Candidate> {
    let attitude = name.category == "soft" && name.end - name.first > 1 && name.confidence >= NAMED;
    (attitude || tokens.len() < SHORT || name.methods.contains(&Method::Ner)).then_some(name)
}

/// A mark with the name that means the same, if one of those near it does: the one that overlaps it
/// most, and of equal ones the surest.
fn marked(tokens: &Tokens<'_>, mark: &Tag, span: (usize, usize), names: &[&Candidate]) -> Candidate {
    let share = |name: &Candidate| overlap(span, (name.first, name.end));
    let named = names.iter().filter(|name| share(name) >= SAME || is_product_of(mark, span, name));
    let name = named.max_by(|left, right| {
        let by_share = share(left).total_cmp(&share(right));
        by_share.then_with(|| left.confidence.total_cmp(&right.confidence))
    });
    let mut methods = name.map_or_else(Vec::new, |name| name.methods.clone());
    methods.push(Method::Tagger);
    // Served taggers draw other bounds; what they marked any word of, they have found.
    if names.iter().any(|name| share(name) > 0.0 && name.methods.contains(&Method::Ner)) {
        methods.push(Method::Ner);
    }
    let methods = sorted(methods);
    let own = Candidate {
        first: span.0,
        end: span.1,
        label: Some(label(&tokens.text()[mark.start_byte..mark.end_byte])),
        kind: if mark.kind == Kind::Soft { SkillKind::Soft } else { SkillKind::Hard },
        category: category(mark.kind).to_owned(),
        mark: Some(*mark),
        partial: name.is_some_and(|name| (name.first, name.end) != span),
        methods,
        confidence: calibrated(mark.probability),
        uri: None,
    };
    match name {
        Some(name) => Candidate {
            label: name.label.clone(),
            kind: name.kind,
            category: name.category.clone(),
            uri: name.uri.clone(),
            ..own
        },
        None => own,
    }
}

/// Returns whether a mark of a tool holds this product, whatever its words say besides ("planilla
/// Excel", "sistema SAP").
fn is_product_of(mark: &Tag, span: (usize, usize), name: &Candidate) -> bool {
    let product = matches!(name.category.as_str(), "technology" | "tool");
    mark.kind == Kind::Tool && product && span.0 <= name.first && name.end <= span.1
}

/// Share of right ones among real marks of this probability.
fn calibrated(probability: f32) -> f32 {
    let (offset, slope) = CALIBRATION;
    // Away from the ends, where the logarithm is infinite.
    let probability = probability.clamp(0.001, 0.999);
    let odds = (probability / (1.0 - probability)).ln() * slope + offset;
    1.0 / (1.0 + (-odds).exp())
}

/// Intersection over union of two ranges of words.
fn overlap(left: (usize, usize), right: (usize, usize)) -> f32 {
    let shared = left.1.min(right.1).saturating_sub(left.0.max(right.0));
    shared as f32 / (left.1.max(right.1) - left.0.min(right.0)) as f32
}

/// The name of a skill that no source knows: its words, one blank between them, as a name is
/// written.
fn label(surface: &str) -> String {
    /// Letters from which on a word in capitals is shouted and no acronym. Not tuned: acronyms of
    /// six letters and more are rare.
    const SHOUTED: usize = 6;
    let shouted = |word: &str| word.chars().count() >= SHOUTED && !word.chars().any(char::is_lowercase);
    let all_shouted = surface.split_whitespace().any(shouted);
    let words = surface.split_whitespace().collect::<Vec<_>>().join(" ");
    let words = if all_shouted { words.to_lowercase() } else { words };
    let mut letters = words.chars();
    letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect()
}

#[cfg(test)]
mod tests;
