//! Advertisements in which every skill is marked, with its concepts if a coder chose some.
//!
//! Only id, description and spans must be there; a figure that needs anything else is of the
//! advertisements that have it.

use serde::Deserialize;
use serde_json::{Value, json};

use super::Case;
use super::row::Row;
use crate::commands::overlap::Span;

/// An advertisement whose skills are marked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::commands::eval) struct Ad {
    /// Tells it from the others.
    pub(in crate::commands::eval) id: String,
    title: Option<String>,
    /// The text that spans count in.
    pub(in crate::commands::eval) description: String,
    requirements: Option<String>,
    language: Option<String>,
    /// Country of the job.
    pub(in crate::commands::eval) country: Option<String>,
    /// Portal or collection it is from.
    pub(in crate::commands::eval) source: Option<String>,
    /// The marked skills.
    pub(in crate::commands::eval) marks: Vec<Mark>,
    /// Accepted codes of its occupation.
    pub(in crate::commands::eval) occupation: Accepted,
}

/// A marked skill.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(in crate::commands::eval) struct Mark {
    /// Where it stands in the description.
    #[serde(flatten)]
    pub(in crate::commands::eval) span: Span,
    /// What it is: tool, knowledge, ability, language, licence or soft.
    pub(in crate::commands::eval) kind: Option<String>,
    /// R if it is asked of the candidate, D if it is a duty of the job.
    pub(in crate::commands::eval) place: Option<String>,
    /// Accepted concepts, best first; empty if the taxonomy has none.
    pub(in crate::commands::eval) uris: Option<Vec<String>>,
    /// The same if the span names several skills: a list for each that has any.
    uris_by_part: Option<Vec<Vec<String>>>,
}

impl Mark {
    /// All accepted concepts: a mention carries one, so any of any part finds the span.
    pub(in crate::commands::eval) fn accepted(&self) -> Vec<&str> {
        let uris = self.uris.iter().flatten();
        let mut accepted: Vec<&str> = uris.map(String::as_str).collect();
        if accepted.is_empty() {
            accepted.extend(self.uris_by_part.iter().flatten().flatten().map(String::as_str));
        }
        accepted
    }

    /// True if a coder looked for its concepts.
    pub(in crate::commands::eval) fn is_coded(&self) -> bool {
        self.uris.is_some() || self.uris_by_part.is_some()
    }
}

/// Accepted codes of an occupation, best first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub(in crate::commands::eval) struct Accepted {
    /// ESCO concepts.
    #[serde(default)]
    pub(in crate::commands::eval) esco: Vec<String>,
    /// Unit groups of ISCO-08.
    #[serde(default)]
    pub(in crate::commands::eval) isco: Vec<String>,
    /// Codes of Colombia's CUOC.
    #[serde(default)]
    pub(in crate::commands::eval) cuoc: Vec<String>,
}

impl Ad {
    /// Its title; empty if there is none.
    pub(in crate::commands::eval) fn title(&self) -> &str {
        self.title.as_deref().unwrap_or_default()
    }
}

impl Case for Ad {
    fn read(row: &Row) -> Result<Self, String> {
        let ad = Self {
            id: row.id("id")?,
            title: row.optional("title")?,
            description: row.required("description")?,
            requirements: row.optional("requirements")?,
            language: row.optional("language")?,
            country: row.optional("country")?,
            source: row.optional("source")?,
            marks: row.required("spans")?,
            occupation: row.optional("occupation")?.unwrap_or_default(),
        };
        let length = ad.description.chars().count();
        for (index, Mark { span, .. }) in ad.marks.iter().enumerate() {
            if span.start >= span.end || span.end as usize > length {
                let Span { start, end } = span;
                return Err(format!(
                    "`spans[{index}]`: {start} to {end} is not a span of the description, which has {length} characters"
                ));
            }
        }
        Ok(ad)
    }

    fn id(&self) -> Option<&str> {
        Some(&self.id)
    }

    fn document(&self, _: usize) -> Value {
        json!({ "id": self.id, "title": self.title, "description": self.description,
            "requirements": self.requirements, "country": self.country, "language": self.language })
    }
}
