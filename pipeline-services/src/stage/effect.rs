//! What a stage wants written, as data.
//!
//! An effect holds everything that its rows need, so that the worker can write it without asking
//! the stage again, and repeat a transaction that lost a deadlock.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::Plan;
use crate::{
    domain::{
        enhancement::Enhancement,
        run::Problem,
        skill::{EnhancedSkill, Makers, Mention},
        taxonomy::Occupation,
    },
    intake::Prepared,
    store::{analyses::Clustering, reports::Artefact, visits::VisitProgress},
};

/// Rows that a stage wants written; the worker writes it and ends the task in one transaction.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// The rows of the subject are those that the stage would write.
    UpToDate,
    /// The subject is no longer stored.
    Vanished,
    /// The stage's tasks of a run.
    Planned(Box<Plan>),
    /// Finds of a visit of a portal since its last checkpoint.
    Gathered {
        /// Progress of the visit.
        visit: VisitProgress,
        /// Advertisements, cleaned.
        items: Vec<Prepared>,
        /// The portal's ids of advertisements that are stored and still there.
        seen_again: Vec<String>,
        /// Advertisements refused, by the field at fault.
        refused: BTreeMap<String, u64>,
    },
    /// Summary of a visit of a portal.
    Visited {
        /// Portal.
        portal: String,
        /// Country, ISO 3166-1 alpha-2.
        country: String,
        /// Report of the visit, for the summary of the run.
        report: serde_json::Value,
        /// Work left out, in one sentence.
        problem: Option<Problem>,
    },
    /// The mentions and the occupation of a posting.
    Extracted {
        /// Posting.
        job_id: Uuid,
        /// Version of the extractor.
        version: String,
        /// Time spent, milliseconds.
        duration_ms: f64,
        /// Mentions in reading order.
        mentions: Vec<Mention>,
        /// The occupation of the title, if one clearly fits.
        occupation: Option<Occupation>,
        /// NAME@VERSION of the taxonomy in use.
        taxonomy: Option<String>,
    },
    /// The enhanced skills of a posting.
    Enhanced {
        /// Posting.
        job_id: Uuid,
        /// Version of the enhancer.
        version: String,
        /// Time spent, milliseconds.
        duration_ms: f64,
        /// Skills; the first ones stand for the mentions, in order.
        skills: Vec<EnhancedSkill>,
        /// Row of each mention in `extracted_skills`.
        sources: Vec<Uuid>,
        /// Names of the rules and the model that made them.
        makers: Makers,
        /// How they came about.
        enhancement: Box<Enhancement>,
    },
    /// A posting that the stage cannot read.
    Quarantined {
        /// Posting.
        job_id: Uuid,
        /// Why.
        reason: String,
    },
    /// The vector of a skill.
    Embedded {
        /// Skill.
        skill_id: i64,
        /// Model.
        model_id: i16,
        /// Vector.
        vector: Vec<f32>,
    },
    /// The clustering of a run.
    Analyzed(Box<Clustering>),
    /// The report of a run.
    Reported {
        /// Directory of the files.
        directory: String,
        /// Files.
        artefacts: Vec<Artefact>,
    },
}
