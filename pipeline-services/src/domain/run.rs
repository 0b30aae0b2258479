//! Runs, stages and tasks: names, states, what a run worked with, and what went wrong.
//!
//! Everything that the database, the wire and `run.json` hold as text or JSON has its type here.

pub(crate) mod facts;
mod problem;
mod state;

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

pub(crate) use problem::Problem;
pub(crate) use state::{MessageKind, TaskState};
pub use state::{RunState, StageState};

/// The stages of the pipeline in their order, by which a run sorts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StageName {
    /// Portal pages to postings.
    Scrape,
    /// Postings to mentions.
    Extract,
    /// Mentions to enhanced skills.
    Enhance,
    /// Skills to vectors.
    Embed,
    /// Vectors to clusters.
    Analyze,
    /// Everything to a report.
    Report,
}

impl StageName {
    /// Every stage in pipeline order.
    pub const ALL: [Self; 6] =
        [Self::Scrape, Self::Extract, Self::Enhance, Self::Embed, Self::Analyze, Self::Report];

    /// Name in the database, on the wire and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scrape => "scrape",
            Self::Extract => "extract",
            Self::Enhance => "enhance",
            Self::Embed => "embed",
            Self::Analyze => "analyze",
            Self::Report => "report",
        }
    }

    /// Name of the service that runs the stage.
    pub const fn service(self) -> &'static str {
        match self {
            Self::Scrape => "scraper",
            Self::Extract => "extractor",
            Self::Enhance => "enhancer",
            Self::Embed => "embedder",
            Self::Analyze => "analyzer",
            Self::Report => "reporter",
        }
    }
}

impl fmt::Display for StageName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A stage name that does not exist.
#[derive(Debug, thiserror::Error)]
#[error("unknown stage `{0}`; stages are scrape, extract, enhance, embed, analyze, report")]
pub struct UnknownStage(pub String);

impl FromStr for StageName {
    type Err = UnknownStage;

    fn from_str(text: &str) -> Result<Self, UnknownStage> {
        Self::ALL.into_iter().find(|stage| stage.name() == text).ok_or_else(|| UnknownStage(text.to_owned()))
    }
}
