//! The module interface that every stage shares.

use std::{any::Any, collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use crate::{
    domain::{
        run::StageName,
        skill::{EnhancedSkill, Makers, Mention},
    },
    intake::Prepared,
    store::{
        SqlError,
        analyses::Clustering,
        embeddings::ModelIdentity,
        reports::Artefact,
        runs::Run,
        tasks::{NewTask, Task},
        visits::VisitProgress,
    },
};

/// Configuration block of a module.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct ModuleConfig {
    /// Whether the module takes work.
    pub enabled: bool,
    /// Tasks claimed at once.
    pub batch_size: u32,
    /// Further tries of a task after its first.
    pub max_retries: u32,
    /// Seconds without a sign of progress after which a batch is given up.
    pub timeout: u64,
    /// Seconds that a task waits for something that is away or busy before it fails; waiting costs
    /// no try.
    pub patience: u64,
    /// What only this module understands; it checks the keys itself.
    pub settings: toml::Table,
}

impl Default for ModuleConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            batch_size: 100,
            max_retries: 10,
            timeout: 300,
            patience: 3_600,
            settings: toml::Table::new(),
        }
    }
}

/// What stages ask and cannot do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dependency {
    /// PostgreSQL.
    Database,
    /// The inference server.
    Inference,
    /// The OpenAI-compatible endpoint of the enhancer.
    LanguageModel,
    /// The portal of one visit: other visits do not depend on it.
    Portal,
}

impl Dependency {
    /// Whether every task of a stage waits when this is away.
    pub const fn is_shared(self) -> bool {
        !matches!(self, Self::Portal)
    }
}

/// Why a stage could not finish a task. The worker alone decides about delays.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StageError {
    /// Something the task depends on is away or busy: it waits, at the cost of no try.
    #[error("{reason}")]
    Unavailable {
        /// What is away.
        dependency: Dependency,
        /// What it said, or how it could not be reached.
        reason: String,
        /// When it wants to be asked again, if it said so.
        after: Option<Duration>,
    },
    /// Another try may succeed.
    #[error("{0}")]
    Retry(String),
    /// No try will succeed with the same input.
    #[error("{0}")]
    Fail(String),
}

impl From<SqlError> for StageError {
    fn from(error: SqlError) -> Self {
        let reason = chain(&error);
        if crate::store::is_conflict(&error) {
            Self::Retry(reason)
        } else if crate::store::is_transient(&error) {
            Self::Unavailable { dependency: Dependency::Database, reason, after: None }
        } else {
            Self::Fail(reason)
        }
    }
}

/// A panic as an error: with the same input it comes again.
pub(crate) fn panicked(what: &str, panic: &(dyn Any + Send)) -> StageError {
    let said = panic.downcast_ref::<String>().map(String::as_str);
    let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
    StageError::Fail(format!("{what} panicked: {said}"))
}

/// An error and its sources on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// What a stage wants written; the worker writes it and ends the task in one transaction.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// The rows of the subject are those that the stage would write.
    UpToDate,
    /// The subject is no longer stored.
    Vanished,
    /// The stage's tasks of a run.
    Planned(Box<Plan>),
    /// What a visit of a portal found since its last checkpoint.
    Gathered {
        /// How far the visit is.
        visit: VisitProgress,
        /// Advertisements, cleaned.
        items: Vec<Prepared>,
        /// The portal's ids of advertisements that are stored and still there.
        seen_again: Vec<String>,
        /// Advertisements refused, by the field at fault.
        refused: BTreeMap<String, u64>,
    },
    /// What a visit of a portal did.
    Visited {
        /// Portal.
        portal: String,
        /// Country, ISO 3166-1 alpha-2.
        country: String,
        /// What the visit did, for the run's summary.
        summary: serde_json::Value,
        /// What was left out, in one sentence.
        problem: Option<String>,
    },
    /// The mentions of a posting.
    Extracted {
        /// Posting.
        job_id: Uuid,
        /// Version of the extractor.
        version: String,
        /// Time spent, milliseconds.
        duration_ms: f64,
        /// Mentions in reading order.
        mentions: Vec<Mention>,
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
        /// Where the files are.
        directory: String,
        /// Files.
        artefacts: Vec<Artefact>,
    },
}

/// What a stage has to do for a run.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// One task per subject.
    pub tasks: Vec<PlannedTask>,
    /// Subjects that need no work.
    pub up_to_date: i64,
    /// Version of the stage and what it works with, for the run's summary.
    pub facts: serde_json::Map<String, serde_json::Value>,
    /// The embedding model whose vectors searches and analyses read from now on.
    pub model: Option<ModelIdentity>,
    /// Something the run's reader should know, though the stage goes on.
    pub problem: Option<String>,
    /// Set when the stage has nothing to work on, with the reason.
    pub skipped: Option<String>,
}

/// A subject of a stage.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedTask {
    /// Posting id, skill id or run id.
    pub subject: String,
    /// The posting, where the subject is one.
    pub job_id: Option<Uuid>,
}

impl PlannedTask {
    /// A task about a posting.
    pub fn posting(job_id: Uuid) -> Self {
        Self { subject: job_id.to_string(), job_id: Some(job_id) }
    }

    /// A task about something else.
    pub fn other(subject: impl ToString) -> Self {
        Self { subject: subject.to_string(), job_id: None }
    }

    /// The task of `stage`.
    pub fn into_task(self, stage: StageName) -> NewTask {
        NewTask { stage, subject: self.subject, job_id: self.job_id }
    }
}

/// Result of one task of a batch.
pub type Outcome = Result<Effect, StageError>;

/// Part of a task that is to be written before the task is over.
#[derive(Debug)]
pub struct Checkpoint {
    /// Task it belongs to.
    pub task: Task,
    /// What is to be written.
    pub effect: Effect,
    /// Where the task goes on if its worker is lost: its payload from now on.
    pub payload: Value,
    written: oneshot::Sender<Result<(), StageError>>,
}

impl Checkpoint {
    /// Tells the stage what became of it.
    pub fn answer(self, result: Result<(), StageError>) {
        // A stage that no longer listens was given up.
        let _ = self.written.send(result);
    }
}

/// The way for a stage to have part of a long task written: the worker writes it through the task's
/// fence, in a transaction of its own, and gives the task time anew.
#[derive(Debug, Clone)]
pub struct Checkpoints(mpsc::Sender<Checkpoint>);

impl Checkpoints {
    /// The stage's end and the worker's.
    pub fn channel() -> (Self, mpsc::Receiver<Checkpoint>) {
        let (sender, receiver) = mpsc::channel(1);
        (Self(sender), receiver)
    }

    /// Writes part of `task`.
    ///
    /// # Errors
    /// If it was not written: the task belongs to another worker by now, or the database refused.
    pub async fn write(&self, task: &Task, effect: Effect, payload: Value) -> Result<(), StageError> {
        let gone = || StageError::Retry("the worker of the task is gone".to_owned());
        let (written, answer) = oneshot::channel();
        let checkpoint = Checkpoint { task: task.clone(), effect, payload, written };
        self.0.send(checkpoint).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

/// A stage of the pipeline. Implementations read rows and ask other services; they never write
/// rows (`tests/tests/tidy/writes.rs` sees to it): what they want written is an [`Effect`].
#[async_trait]
pub trait Stage: Send + Sync {
    /// Which stage this is.
    fn name(&self) -> StageName;

    /// What has to be done for a run: one task per subject that is not up to date.
    ///
    /// # Errors
    /// If rows or services that the plan needs cannot be read.
    async fn plan(&self, run: &Run) -> Result<Plan, StageError>;

    /// Whether every task takes long and is worked on by itself: a batch of the module is then so
    /// many tasks side by side.
    fn works_singly(&self) -> bool {
        false
    }

    /// Processes tasks; one outcome per task, in order. An error stands for every task of the
    /// batch, which is then worked on one by one.
    ///
    /// # Errors
    /// If nothing of the batch could be tried.
    async fn process(&self, batch: &[Task], checkpoints: &Checkpoints) -> Result<Vec<Outcome>, StageError>;

    /// Checks that the stage could run now: settings, files, services, tables.
    ///
    /// # Errors
    /// The first thing that is missing.
    async fn validate_input(&self) -> Result<(), StageError>;

    /// Counters of this process since it started, by name with unit.
    fn metrics(&self) -> BTreeMap<String, f64>;

    /// Frees caches and temporary files.
    ///
    /// # Errors
    /// If something cannot be freed.
    async fn cleanup(&self) -> Result<(), StageError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chain_names_each_cause_once() {
        let cause = std::io::Error::other("disk is full");
        let error = crate::store::StoreError::Unreachable(SqlError::Io(cause));
        assert_eq!(chain(&error).matches("disk is full").count(), 1);
    }
}
