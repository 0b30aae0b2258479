//! Concepts of a skill or occupation taxonomy.
//!
//! The form that all importers give and all stages read, whichever taxonomy it came from: concepts
//! are known by their URI, in any number of languages.

use serde::{Deserialize, Serialize};

/// Kind of a concept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConceptKind {
    /// A skill, competence or piece of knowledge.
    Skill,
    /// An occupation.
    Occupation,
    /// A group of the hierarchy above skills and occupations; nothing is linked to it.
    Group,
}

impl ConceptKind {
    /// Name in the database and on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Skill => "skill",
            Self::Occupation => "occupation",
            Self::Group => "group",
        }
    }

    /// The kind of this name.
    pub fn of(name: &str) -> Option<Self> {
        [Self::Skill, Self::Occupation, Self::Group].into_iter().find(|kind| kind.name() == name)
    }
}

/// A name of a concept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    /// BCP 47, `es` or `en`.
    pub language: String,
    /// The name.
    pub text: String,
    /// One preferred label per language.
    pub preferred: bool,
}

/// A taxonomy entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Concept {
    /// Identity, as published.
    pub uri: String,
    /// Skill, occupation or group.
    pub kind: ConceptKind,
    /// `skill/competence`, `knowledge`, an ISCO code or the code of a group; may be empty.
    pub class: String,
    /// Every label in every language.
    pub labels: Vec<Label>,
}

impl Concept {
    /// The preferred label in `language`, else in English, else the first label.
    pub fn preferred_label(&self, language: &str) -> Option<&str> {
        self.preferred_in(language)
            .or_else(|| self.preferred_in("en"))
            // A concept of another taxonomy may have a name in neither language.
            .or_else(|| self.labels.first())
            .map(|label| label.text.as_str())
    }

    fn preferred_in(&self, language: &str) -> Option<&Label> {
        self.labels.iter().find(|label| label.preferred && label.language == language)
    }
}

/// What a concept is, in a sentence or more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// URI of the concept.
    pub uri: String,
    /// BCP 47; one description per language.
    pub language: String,
    /// The text.
    pub text: String,
}

/// Name of the relation from a concept to the one above it.
pub const BROADER: &str = "broader";

/// A typed edge between two concepts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relation {
    /// URI of the source.
    pub from: String,
    /// `broader`, `essential`, `optional` or `related`.
    pub kind: String,
    /// URI of the target.
    pub to: String,
}
