//! Mentions of skills in postings and the skills they stand for.
//!
//! Names of kinds, methods and makers are those of the database and the wire, so a new one is a
//! change of both. A span is in code points, never in bytes.

use serde::{Deserialize, Serialize};

use super::posting::{Document, Field};

/// Hard skills are learned and checkable, soft skills are how a person works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SkillKind {
    /// Technologies, tools, languages, certificates, occupational knowledge.
    Hard,
    /// Attitudes and transversal abilities.
    Soft,
}

impl SkillKind {
    /// Name in the database and on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hard => "hard",
            Self::Soft => "soft",
        }
    }
}

/// Method by which a mention was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// A served token classifier.
    Ner,
    /// A pattern ("manejo de …", "ISO 9001").
    Pattern,
    /// The shipped lexicon.
    Lexicon,
    /// A label of the active taxonomy.
    Taxonomy,
    /// The tagger that ships.
    Tagger,
}

impl Method {
    /// Name in the database and on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ner => "ner",
            Self::Pattern => "pattern",
            Self::Lexicon => "lexicon",
            Self::Taxonomy => "taxonomy",
            Self::Tagger => "tagger",
        }
    }
}

/// Where an advertisement names a skill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// Asked of the candidate.
    Required,
    /// A duty of the job.
    Duty,
}

impl From<observatory_tagging::Place> for Place {
    fn from(place: observatory_tagging::Place) -> Self {
        match place {
            observatory_tagging::Place::Required => Self::Required,
            observatory_tagging::Place::Duty => Self::Duty,
        }
    }
}

impl Place {
    /// Name in the database and on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Required => "required",
            Self::Duty => "duty",
        }
    }
}

/// A piece of a posting that names a skill.
///
/// `document.field(field)[start..end] == surface` in Unicode code points.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mention {
    /// Normalised name of the skill.
    pub label: String,
    /// The text as it stands in the posting.
    pub surface: String,
    /// Hard or soft.
    pub kind: SkillKind,
    /// `technology`, `tool`, `language`, `certification`, `knowledge`, `competence`, `soft`, …
    pub category: String,
    /// Asked of the candidate or a duty, where the tagger saw it.
    pub place: Option<Place>,
    /// Every method that found this span, sorted.
    pub methods: Vec<Method>,
    /// 0..1.
    pub confidence: f32,
    /// `requirements`, `responsibilities`, `benefits`, `about`, … or `body`.
    pub section: String,
    /// Field the span counts in.
    pub field: Field,
    /// First code point of the span.
    pub start: u32,
    /// One past the last code point of the span.
    pub end: u32,
    /// Taxonomy concept, if one is linked.
    pub uri: Option<String>,
    /// The concept's preferred label, in Spanish where it has one: one name, whatever the language
    /// of the posting.
    pub preferred_label: Option<String>,
}

impl Mention {
    /// Returns whether the mention has a name under which it can be counted: one of the lexicon, of
    /// the taxonomy or of a served tagger, or one that is surely the name of a product, a language
    /// or a licence. What the tagger alone knows of duties, fields and attitudes is worded as each
    /// advertisement words it: it is evidence, and becomes a skill when something links it to one.
    pub fn is_named(&self) -> bool {
        let worded = matches!(self.category.as_str(), "competence" | "knowledge" | "soft");
        self.methods != [Method::Tagger] || !worded && self.confidence >= SURE
    }
}

/// Least confidence of a name that the tagger alone knows. In 120 real advertisements 21 of the 22
/// above it were skills and 15 of the 54 below: the others places, firms and remains of pages.
const SURE: f32 = 0.6;

/// Maker of an enhanced skill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Maker {
    /// Lexicon and taxonomy.
    #[default]
    Rules,
    /// A language model.
    Model,
}

/// The makers of a posting's enhanced skills, by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Makers {
    /// Version of the rules.
    pub rules: String,
    /// The model, where one was asked.
    pub model: String,
}

impl Makers {
    /// Longest name that is stored, in characters: the width of the column `llm_model`.
    const LONGEST: usize = 100;

    /// Name of the one who made a skill.
    pub fn name(&self, maker: Maker) -> String {
        let name = match maker {
            Maker::Rules => &self.rules,
            Maker::Model => &self.model,
        };
        // By characters, as a `varchar` counts.
        name.chars().take(Self::LONGEST).collect()
    }
}

/// The piece of a posting on which a skill rests: code points of a field, half-open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Citation {
    /// Field the span counts in.
    pub field: Field,
    /// First code point of the span.
    pub start: u32,
    /// One past the last code point of the span.
    pub end: u32,
}

impl From<&Mention> for Citation {
    fn from(mention: &Mention) -> Self {
        Self { field: mention.field, start: mention.start, end: mention.end }
    }
}

impl Citation {
    /// The text that it cites; nothing where the field is shorter.
    pub fn text(self, document: &Document) -> String {
        let length = self.end.saturating_sub(self.start) as usize;
        document.field(self.field).chars().skip(self.start as usize).take(length).collect()
    }
}

/// One skill of one posting after normalisation and deduplication.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EnhancedSkill {
    /// Surface of the mention it came from; `None` for an implicit skill.
    pub original_skill_text: Option<String>,
    /// Normalised label.
    pub normalized_skill: String,
    /// Named in the text, or inferred.
    pub explicit: bool,
    /// Hard or soft.
    pub kind: SkillKind,
    /// As in [`Mention::category`].
    pub category: String,
    /// Taxonomy concept.
    pub esco_concept_uri: Option<String>,
    /// Its preferred label.
    pub esco_preferred_label: Option<String>,
    /// 0..1.
    pub confidence: f32,
    /// Reason for which an implicit skill was inferred or a mention folded.
    pub reasoning: Option<String>,
    /// Index into the posting's list of the skill this one repeats.
    pub duplicate_of: Option<usize>,
    /// Its maker.
    pub maker: Maker,
    /// The mention of an explicit skill; what an implicit one follows from.
    pub citation: Citation,
}
