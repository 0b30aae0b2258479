//! The module interface that every stage shares: plan, process, validate_input, metrics, cleanup.
//!
//! It hides the six stages from the worker, which knows no other way to them, and the queue from
//! the stages: they see a run or a batch of tasks, and hand back effects and errors.

mod checkpoint;
mod effect;
mod error;

use std::collections::BTreeMap;

use crate::{
    domain::run::{Problem, StageName, facts::RunFacts},
    store::{
        embeddings::ModelIdentity,
        runs::Run,
        tasks::{Subject, Task},
    },
};
use async_trait::async_trait;

pub(crate) use checkpoint::Checkpoint;
pub use checkpoint::Checkpoints;
pub use effect::Effect;
pub(crate) use error::panicked;
pub use error::{Dependency, StageError};

/// The work of a stage for a run.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// One task per subject.
    pub tasks: Vec<Subject>,
    /// Subjects that need no work.
    pub up_to_date: i64,
    /// Facts about the stage in this run: its section, or nothing.
    pub facts: RunFacts,
    /// The embedding model whose vectors searches and analyses read from now on.
    pub model: Option<ModelIdentity>,
    /// Something the run's reader should know; the stage goes on.
    pub problem: Option<Problem>,
    /// Set when the stage has nothing to work on, with the reason.
    pub skipped: Option<String>,
}

/// Result of one task of a batch.
pub type Outcome = Result<Effect, StageError>;

/// A stage of the pipeline. Implementations read rows and ask other services; they never write
/// rows (`tests/tests/tidy/writes.rs` sees to it): what they want written is an [`Effect`].
#[async_trait]
pub trait Stage: Send + Sync {
    /// Which stage this is.
    fn name(&self) -> StageName;

    /// Plans a run: one task for each subject that is not up to date.
    ///
    /// # Errors
    /// If rows or services that the plan needs cannot be read.
    async fn plan(&self, run: &Run) -> Result<Plan, StageError>;

    /// Returns whether every task takes long and is worked on by itself: a batch of the module is
    /// then that many tasks side by side.
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
