//! Why a stage could not finish a task, in the terms by which the worker decides about delays.
//!
//! A stage says what kind of trouble it has; it neither waits nor counts tries.

use std::{any::Any, time::Duration};

use crate::{
    store::{SqlError, tasks::Task},
    telemetry::chain,
};

/// Services that stages cannot do without.
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
    /// Returns whether every task of a stage waits when this is away.
    pub const fn is_shared(self) -> bool {
        !matches!(self, Self::Portal)
    }
}

/// The reason why a stage could not finish a task. The worker alone decides about delays.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StageError {
    /// Something the task depends on is away or busy: it waits, at the cost of no try.
    #[error("{reason}")]
    Unavailable {
        /// The service that is away.
        dependency: Dependency,
        /// Its answer, or the error of the connection.
        reason: String,
        /// Its own hint when to ask again.
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
        // Before the wider test, which includes conflicts: the database answers, and no circuit
        // should open because two statements met.
        if crate::store::is_conflict(&error) {
            Self::Retry(reason)
        } else if crate::store::is_transient(&error) {
            Self::Unavailable { dependency: Dependency::Database, reason, after: None }
        } else {
            Self::Fail(reason)
        }
    }
}

impl StageError {
    /// The subject of `task` is not the id of a posting.
    pub(crate) fn not_a_posting(task: &Task) -> Self {
        Self::Fail(format!("invalid subject `{}`: expected the id of a posting", task.subject))
    }
}

/// A panic as an error: with the same input it comes again.
pub(crate) fn panicked(what: &str, panic: &(dyn Any + Send)) -> StageError {
    let said = panic.downcast_ref::<String>().map(String::as_str);
    let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
    StageError::Fail(format!("{what} panicked: {said}"))
}
