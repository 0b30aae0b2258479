//! Writes what became of a batch, each task through its fence.
//!
//! A transaction that fails is repeated if the reason passes, and split into its tasks if it does
//! not, so that one bad row does not take the batch with it.

use std::time::Duration;

use super::{BatchReport, Worker, effects, pace::LONGEST_HINT, pace::jittered};
use crate::{
    stage::{Checkpoint, Outcome, StageError},
    store::{Connection, PgConnection, SqlError, SqlResult, tasks, tasks::Task},
    telemetry::chain,
};

/// Tries of a transaction that fails for a passing reason. Not tuned: after 0.1, 0.2 and 0.3 s a
/// deadlock is over, and a longer outage is left to the circuit.
const COMMIT_TRIES: u32 = 4;

/// The verdict on a task.
#[derive(Debug)]
pub(super) enum Verdict {
    /// The outcome that its stage returned.
    Settle(Outcome),
    /// Its batch failed for this reason: it is worked on alone.
    Isolate(String),
}

impl Verdict {
    /// Reason for which the task is not done.
    pub(super) fn reason(&self) -> Option<String> {
        match self {
            Self::Settle(outcome) => outcome.as_ref().err().map(StageError::to_string),
            Self::Isolate(reason) => Some(reason.clone()),
        }
    }
}

#[derive(Debug)]
enum CommitError {
    Lost,
    Statement(SqlError),
}

impl CommitError {
    fn is_transient(&self) -> bool {
        matches!(self, Self::Statement(error) if crate::store::is_transient(error))
    }
}

impl From<SqlError> for CommitError {
    fn from(error: SqlError) -> Self {
        Self::Statement(error)
    }
}

impl Worker {
    /// Writes the verdicts in one transaction; if that fails for one of them, each in its own.
    pub(super) async fn complete(
        &self,
        batch: Vec<(Task, Verdict)>,
        report: &mut BatchReport,
    ) -> SqlResult<()> {
        // First, since the commit writes how long the tasks wait.
        let pause = self.note_dependency(&batch);
        self.complete_after(batch, pause, report).await
    }

    async fn complete_after(
        &self,
        batch: Vec<(Task, Verdict)>,
        pause: Duration,
        report: &mut BatchReport,
    ) -> SqlResult<()> {
        match self.commit_persistently(&batch, pause).await {
            Ok(part) => report.add(part),
            Err(error) if batch.len() > 1 && !error.is_transient() => {
                // A deadlock passes and was repeated as a whole; what is left here is the fault of
                // some row.
                for single in batch {
                    // An outage ends the loop; what is still claimed is given back before the next
                    // batch.
                    Box::pin(self.complete_after(vec![single], pause, report)).await?;
                }
            }
            Err(CommitError::Lost) => {
                // No fault of the task, which another worker has by now.
                tracing::info!(stage.name = self.stage.name().name(), "result dropped: lease lost");
                report.lost += 1;
            }
            Err(CommitError::Statement(error)) if crate::store::is_transient(&error) => return Err(error),
            Err(CommitError::Statement(error)) => {
                // One task is left, and the reason does not pass: its own rows would be refused
                // again.
                let (task, _) = &batch[0];
                let mut connection = self.pool.acquire().await?;
                // Also refused by its fence if another worker has it; then it is that one's to end.
                tasks::fail(&mut connection, task, &chain(&error)).await?;
                report.failed += 1;
            }
        }
        Ok(())
    }

    /// Commits, repeating what lost a deadlock or a short interruption.
    async fn commit_persistently(
        &self,
        batch: &[(Task, Verdict)],
        pause: Duration,
    ) -> Result<BatchReport, CommitError> {
        for tries in 1..COMMIT_TRIES {
            match self.commit(batch, pause).await {
                Err(error) if error.is_transient() => {
                    tokio::time::sleep(jittered(Duration::from_millis(100) * tries)).await;
                }
                settled => return settled,
            }
        }
        self.commit(batch, pause).await
    }

    async fn commit(&self, batch: &[(Task, Verdict)], pause: Duration) -> Result<BatchReport, CommitError> {
        let mut connection = self.pool.acquire().await?;
        let mut transaction = connection.begin().await?;
        // Counted apart and returned after the commit, or a batch that is repeated would count
        // twice.
        let mut report = BatchReport::default();
        for (task, verdict) in batch {
            let owned = match verdict {
                Verdict::Settle(Ok(effect)) => {
                    let retries = self.config.max_retries.cast_signed();
                    effects::apply(&mut transaction, self.stage.name(), task, effect, retries).await?;
                    report.succeeded += 1;
                    tasks::finish(&mut transaction, task).await?
                }
                Verdict::Settle(Err(error)) => {
                    self.put_back(&mut transaction, (task, error), pause, &mut report).await?
                }
                // Not the fault of this task alone, so it keeps its tries.
                Verdict::Isolate(reason) => {
                    report.retried += 1;
                    tasks::isolate(&mut transaction, task, reason).await?
                }
            };
            // One lost task rolls all of them back; split into single tasks, the others are
            // written.
            if !owned {
                return Err(CommitError::Lost);
            }
        }
        transaction.commit().await?;
        Ok(report)
    }

    /// A task that could not be done waits, is tried again, or fails.
    async fn put_back(
        &self,
        connection: &mut PgConnection,
        (task, error): (&Task, &StageError),
        pause: Duration,
        report: &mut BatchReport,
    ) -> SqlResult<bool> {
        match error {
            StageError::Unavailable { dependency, reason, after } => {
                let waited = task.waited_seconds.unwrap_or_default();
                if waited >= self.config.patience as f64 {
                    report.failed += 1;
                    let reason = format!("{reason}; waited {waited:.0} s");
                    if dependency.is_shared() {
                        // Each of the others would wait as long for the same.
                        report.failed += tasks::give_up(connection, task, &reason).await?;
                    }
                    return tasks::fail(connection, task, &reason).await;
                }
                report.waiting += 1;
                // No circuit stands before what only this task depends on: it asks less and less
                // often by itself.
                let own = if dependency.is_shared() { 0.0 } else { waited / 2.0 };
                let wait = after.unwrap_or_default().max(Duration::from_secs_f64(own)).min(LONGEST_HINT);
                // Not before the circuit lets its stage try again.
                let wait = wait.max(pause);
                tasks::wait(connection, task, wait, reason).await
            }
            StageError::Retry(reason) if task.retry_count < task.max_retries => {
                report.retried += 1;
                let wait = jittered(self.timing.delay(task.retry_count.unsigned_abs() + 1));
                tasks::retry(connection, task, wait, reason).await
            }
            StageError::Retry(reason) | StageError::Fail(reason) => {
                report.failed += 1;
                tasks::fail(connection, task, reason).await
            }
        }
    }

    /// Writes part of a task in a transaction of its own.
    pub(super) async fn keep(&self, checkpoint: &Checkpoint) -> Result<(), StageError> {
        for tries in 1..=COMMIT_TRIES {
            match self.write_checkpoint(checkpoint).await {
                Err(error) if error.is_transient() && tries < COMMIT_TRIES => {
                    tokio::time::sleep(jittered(Duration::from_millis(100) * tries)).await;
                }
                Ok(()) => return Ok(()),
                Err(CommitError::Lost) => {
                    // The verdict on this error meets the same fence and is dropped there.
                    return Err(StageError::Retry("another worker has the task".to_owned()));
                }
                Err(CommitError::Statement(error)) => return Err(error.into()),
            }
        }
        // Not reached: the last try returns what it comes to.
        Ok(())
    }

    async fn write_checkpoint(&self, checkpoint: &Checkpoint) -> Result<(), CommitError> {
        let mut connection = self.pool.acquire().await?;
        let mut transaction = connection.begin().await?;
        let (task, retries) = (&checkpoint.task, self.config.max_retries.cast_signed());
        // The fence comes first: a worker that lost its task must not even take locks.
        if !tasks::checkpoint(&mut transaction, task, &checkpoint.payload).await? {
            return Err(CommitError::Lost);
        }
        effects::apply(&mut transaction, self.stage.name(), task, &checkpoint.effect, retries).await?;
        transaction.commit().await?;
        Ok(())
    }
}
