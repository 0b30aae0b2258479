//! Advertisements with a list of hard and one of soft skills, without their places.
//!
//! The names are as the annotators wrote them; they are folded where they are compared.

use serde_json::{Value, json};

use super::Case;
use super::row::Row;

/// An advertisement with the names of its skills.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::commands::eval) struct List {
    /// Tells it from the others.
    pub(in crate::commands::eval) id: String,
    title: String,
    description: String,
    requirements: String,
    /// Country of the job.
    pub(in crate::commands::eval) country: Option<String>,
    /// Language of the text.
    pub(in crate::commands::eval) language: Option<String>,
    /// Names of the hard skills.
    pub(in crate::commands::eval) hard: Vec<String>,
    /// Names of the soft skills.
    pub(in crate::commands::eval) soft: Vec<String>,
}

impl List {
    /// The whole text of the advertisement.
    pub(in crate::commands::eval) fn text(&self) -> String {
        [self.title.as_str(), &self.description, &self.requirements].join("\n")
    }
}

impl Case for List {
    fn read(row: &Row) -> Result<Self, String> {
        Ok(Self {
            id: row.id("job_id")?,
            title: row.optional("title")?.unwrap_or_default(),
            description: row.optional("description")?.unwrap_or_default(),
            requirements: row.optional("requirements")?.unwrap_or_default(),
            country: row.optional("country")?,
            language: row.optional("lang")?,
            hard: row.required("hard_skills")?,
            soft: row.required("soft_skills")?,
        })
    }

    fn id(&self) -> Option<&str> {
        Some(&self.id)
    }

    fn document(&self, _: usize) -> Value {
        // Without the language: to recognise it is part of what is measured.
        json!({ "id": self.id, "title": self.title, "description": self.description,
            "requirements": self.requirements, "country": self.country })
    }
}
