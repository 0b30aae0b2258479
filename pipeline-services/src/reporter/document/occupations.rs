//! The occupations of a report.
//!
//! A posting has one occupation or none, so that the counts of all rows and of those without one
//! add up to the postings of the scope.

use serde::{Deserialize, Serialize};

use super::Quote;

/// Occupations that the titles of the postings name.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OccupationSection {
    /// Occupations, most postings first.
    pub rows: Vec<OccupationRow>,
    /// Postings whose title clearly names none.
    pub without: u64,
}

/// One occupation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OccupationRow {
    /// Label of the concept, else the name of the CUOC code.
    pub label: String,
    /// Taxonomy URI; none where only a CUOC code is known.
    #[serde(default)]
    pub uri: Option<String>,
    /// Unit group of ISCO-08, four digits.
    #[serde(default)]
    pub isco: Option<String>,
    /// CUOC code; where its postings have several, that of most of them.
    #[serde(default)]
    pub cuoc: Option<String>,
    /// Postings whose title names it.
    pub job_count: u64,
    /// For the first occupations, titles of a few of these postings.
    pub titles: Vec<Quote>,
}
