//! Postings and where they were seen.
//!
//! Plain values with their limits and published names: no I/O and no cleaning. Spans of skills
//! count in the fields of a [`Document`].

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Longest title, characters. Not tuned: several times what any portal shows in a line.
pub(crate) const TITLE_LIMIT: usize = 1_000;
/// Longest text, characters. Not tuned: some fifty times a long advertisement, and short enough to
/// be read at once.
pub(crate) const TEXT_LIMIT: usize = 200_000;

/// Text fields of a posting in which a skill may be named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Field {
    /// The advertisement's title.
    Title,
    /// The body of the advertisement.
    Description,
    /// A separate list of requirements, where the portal has one.
    Requirements,
}

impl Field {
    /// Every field in reading order.
    pub const ALL: [Self; 3] = [Self::Title, Self::Description, Self::Requirements];

    /// Name in the database and on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Title => "title",
            Self::Description => "description",
            Self::Requirements => "requirements",
        }
    }
}

/// An advertisement as it arrives, before it is cleaned and stored.
///
/// Field names are those of `raw_jobs`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NewPosting {
    /// Portal name, e.g. `computrabajo`.
    pub portal: String,
    /// The portal's own id of the advertisement; derived from the URL when absent.
    pub external_id: Option<String>,
    /// ISO 3166-1 alpha-2.
    pub country: String,
    /// Address at which the advertisement was seen.
    pub url: String,
    /// Title.
    pub title: String,
    /// Employer as published.
    pub company: Option<String>,
    /// Place as published.
    pub location: Option<String>,
    /// Body, HTML or plain text.
    pub description: String,
    /// Requirements as a separate text.
    pub requirements: Option<String>,
    /// Salary as published.
    pub salary_raw: Option<String>,
    /// Kind of contract as published.
    pub contract_type: Option<String>,
    /// On site, hybrid or remote, as published.
    pub remote_type: Option<String>,
    /// Day of publication.
    pub posted_date: Option<NaiveDate>,
    /// Time of collection, where it is known.
    pub scraped_at: Option<DateTime<Utc>>,
}

/// One distinct advertisement text: a row of `raw_jobs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Posting {
    /// Identity of the text.
    pub job_id: Uuid,
    /// Portal of the first sighting.
    pub portal: String,
    /// Country of the first sighting, ISO 3166-1 alpha-2.
    pub country: String,
    /// URL of the first sighting.
    pub url: String,
    /// Title, cleaned.
    pub title: String,
    /// Employer.
    pub company: Option<String>,
    /// Place.
    pub location: Option<String>,
    /// Body, cleaned text.
    pub description: String,
    /// Requirements, cleaned text.
    pub requirements: Option<String>,
    /// Salary as published.
    pub salary_raw: Option<String>,
    /// Kind of contract as published.
    pub contract_type: Option<String>,
    /// On site, hybrid or remote, as published.
    pub remote_type: Option<String>,
    /// Day of publication.
    pub posted_date: Option<NaiveDate>,
    /// Time at which the text was first collected, where it is known.
    pub scraped_at: Option<DateTime<Utc>>,
    /// SHA-256 of the folded text, hexadecimal.
    pub content_hash: String,
}

/// The part of an advertisement that the extractor reads.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Document {
    /// Title; may be empty.
    pub title: String,
    /// Body.
    pub description: String,
    /// Requirements.
    pub requirements: Option<String>,
    /// ISO 3166-1 alpha-2, a prior for the language.
    pub country: Option<String>,
    /// BCP 47 language when the caller knows it.
    pub language: Option<String>,
}

impl Document {
    /// The text of a field; empty when the field is absent.
    pub fn field(&self, field: Field) -> &str {
        match field {
            Field::Title => &self.title,
            Field::Description => &self.description,
            Field::Requirements => self.requirements.as_deref().unwrap_or_default(),
        }
    }
}

impl From<&Posting> for Document {
    fn from(posting: &Posting) -> Self {
        Self {
            title: posting.title.clone(),
            description: posting.description.clone(),
            requirements: posting.requirements.clone(),
            country: Some(posting.country.clone()),
            // Not stored: the extractor detects it.
            language: None,
        }
    }
}
