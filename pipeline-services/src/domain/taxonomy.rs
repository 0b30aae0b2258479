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

    /// The ISCO-08 unit group of an occupation, four digits, where its class is one, and of a group
    /// of ISCO that is one. ESCO's groups may have a `C` before them.
    pub fn isco(&self) -> Option<&str> {
        let code = self.class.strip_prefix('C').unwrap_or(&self.class);
        let unit_group = code.len() == 4 && code.bytes().all(|byte| byte.is_ascii_digit());
        let classified = self.kind == ConceptKind::Occupation || self.is_isco_group();
        (classified && unit_group).then_some(code)
    }

    /// Returns whether this is one of ISCO's groups, as ESCO publishes them.
    pub fn is_isco_group(&self) -> bool {
        self.kind == ConceptKind::Group && self.uri.starts_with(ISCO_GROUP)
    }

    fn preferred_in(&self, language: &str) -> Option<&Label> {
        self.labels.iter().find(|label| label.preferred && label.language == language)
    }
}

/// The occupation of an advertisement.
#[derive(Debug, Clone, PartialEq)]
pub struct Occupation {
    /// Concept of the taxonomy; none where only a CUOC code is known.
    pub uri: Option<String>,
    /// The concept's preferred label in the document's language, else the name of the CUOC code.
    pub label: String,
    /// 0..1.
    pub score: f32,
    /// Unit group of ISCO-08, four digits.
    pub isco: Option<String>,
    /// Code of the Colombian classification of occupations.
    pub cuoc: Option<String>,
    /// Name of that code.
    pub cuoc_label: Option<String>,
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

/// URI of an ISCO-08 group of ESCO, without its code.
pub(crate) const ISCO_GROUP: &str = "http://data.europa.eu/esco/isco/C";

/// Name of the relation from a concept to the one above it.
pub(crate) const BROADER: &str = "broader";

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_group_has_four_digits() {
        let check = |kind, class: &str, expected: Option<&str>| {
            let concept = Concept { uri: String::new(), kind, class: class.to_owned(), labels: Vec::new() };
            assert_eq!(concept.isco(), expected, "{class}");
        };
        check(ConceptKind::Occupation, "7513", Some("7513"));
        check(ConceptKind::Occupation, "C0110", Some("0110"));
        check(ConceptKind::Occupation, "751", None);
        check(ConceptKind::Occupation, "C75131", None);
        check(ConceptKind::Occupation, "751٣", None);
        check(ConceptKind::Occupation, "", None);
        check(ConceptKind::Skill, "7513", None);
        // The code of a group of skills is one of another classification.
        check(ConceptKind::Group, "0613", None);
    }
}
