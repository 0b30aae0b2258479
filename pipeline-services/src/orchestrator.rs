//! Moves runs from stage to stage and returns the tasks of lost workers.
//!
//! Any number of processes may do so at once: a run is moved under a row lock, and moving it again
//! changes nothing. It knows the order of the stages and nothing of what they do.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    domain::run::{
        Problem, RunState, StageName, StageState,
        facts::{EnhanceFacts, RunFacts, Totals},
    },
    store::{
        Connection, PgConnection, PgPool, SqlResult, postings,
        runs::{self, RunOptions, StageProgress},
        skills, tasks,
    },
    telemetry::chain,
};

/// Pause between two looks at the active runs. Not tuned: over its six stages a run loses at most
/// about a second.
const TICK: Duration = Duration::from_millis(200);
/// Longest pause between two looks for lost workers. A choice: well below the lease of 30 s,
/// which is what a lost worker costs anyway.
const REAP: Duration = Duration::from_secs(5);

/// The reason why a run cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Something asked for does not exist or makes no sense; the text names it and what is allowed.
    #[error("{0}")]
    Invalid(String),
    /// The database failed.
    #[error("database statement failed")]
    Store(#[from] crate::store::SqlError),
}

/// Drives every active run of a database; any number may run at the same time.
#[derive(Clone)]
pub struct Orchestrator {
    pool: PgPool,
    /// Stages that are configured.
    stages: Arc<[StageName]>,
    max_retries: i32,
    /// Pause between two looks for lost workers.
    reap: Duration,
}

impl Orchestrator {
    /// An orchestrator that offers `stages`.
    pub fn new(pool: PgPool, stages: Vec<StageName>, max_retries: u32) -> Self {
        Self { pool, stages: stages.into(), max_retries: max_retries.cast_signed(), reap: REAP }
    }

    /// The same where workers hold their tasks for `lease`.
    #[must_use]
    pub fn with_lease(self, lease: Duration) -> Self {
        // Where a lease is shorter than the usual pause, the pause would be what a lost worker
        // costs.
        Self { reap: REAP.min(lease / 2), ..self }
    }

    /// Starts a run. No stages means every configured one; stages come back in pipeline order.
    ///
    /// # Errors
    /// If a stage is not configured, a country is not enabled, or the database fails.
    pub async fn start(&self, mut options: RunOptions) -> Result<Uuid, StartError> {
        self.settle_stages(&mut options)?;
        let mut connection = self.pool.acquire().await?;
        let enabled = crate::store::countries::enabled(&mut connection).await?;
        if let Some(unknown) = options.countries.iter().find(|country| !enabled.contains(country)) {
            return Err(StartError::Invalid(format!(
                "country `{unknown}` is not enabled; enabled are {}",
                enabled.join(", ")
            )));
        }
        // Version 7: runs are listed and driven in the order of their ids, which is then that of
        // time.
        let run_id = Uuid::now_v7();
        let mut transaction = connection.begin().await?;
        // In one transaction: a run without its stages would be ended as succeeded at once.
        runs::create(&mut transaction, run_id, &options).await?;
        transaction.commit().await?;
        drop(connection);
        tracing::info!(run.id = %run_id, "run started");
        Ok(run_id)
    }

    fn settle_stages(&self, options: &mut RunOptions) -> Result<(), StartError> {
        if options.stages.is_empty() {
            options.stages = self.stages.to_vec();
        }
        // `StageName` orders as the pipeline does, and the run keeps its stages as they stand here.
        options.stages.sort_unstable();
        options.stages.dedup();
        match options.stages.iter().find(|stage| !self.stages.contains(stage)) {
            None => Ok(()),
            Some(missing) => {
                let offered: Vec<&str> = self.stages.iter().map(|stage| stage.name()).collect();
                Err(StartError::Invalid(format!(
                    "stage `{missing}` is not available here; available are {}",
                    offered.join(", ")
                )))
            }
        }
    }

    /// Works until `stop`. Errors are logged and tried again: a database that is away comes back.
    pub async fn run(&self, stop: CancellationToken) {
        let mut reaped = tokio::time::Instant::now();
        while !stop.is_cancelled() {
            if let Err(error) = self.tick().await {
                tracing::warn!(error.message = chain(&error), "runs could not be moved");
            }
            if reaped.elapsed() >= self.reap {
                // Counted from the beginning of the work: a slow database must not be asked more
                // often.
                reaped = tokio::time::Instant::now();
                self.reap().await;
            }
            tokio::select! {
                () = tokio::time::sleep(TICK) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    async fn reap(&self) {
        let result = match self.pool.acquire().await {
            Ok(mut connection) => tasks::reap(&mut connection).await,
            Err(error) => Err(error),
        };
        match result {
            Ok(0) => {}
            Ok(count) => tracing::warn!(tasks.count = count, "tasks of lost workers returned"),
            Err(error) => tracing::warn!(error.message = chain(&error), "lost tasks could not be returned"),
        }
    }

    /// Moves every active run as far as it can go now. A run that cannot be moved is logged and
    /// delays no other.
    ///
    /// # Errors
    /// If the active runs cannot be read.
    pub async fn tick(&self) -> SqlResult<()> {
        // The connection goes back before a run takes its own: a pool of one would wait for itself.
        let active = runs::active(&mut *self.pool.acquire().await?).await?;
        for run_id in active {
            // A run whose rows this version cannot read must not keep the others from moving.
            if let Err(error) = self.move_run(run_id).await {
                tracing::warn!(run.id = %run_id, error.message = chain(&error), "a run could not be moved");
            }
        }
        Ok(())
    }

    async fn move_run(&self, run_id: Uuid) -> SqlResult<()> {
        let mut connection = self.pool.acquire().await?;
        let mut transaction = connection.begin().await?;
        // Without the lock another process moves the run right now, and nothing is left to do here.
        if runs::lock(&mut transaction, run_id).await? {
            self.advance(&mut transaction, run_id).await?;
        }
        transaction.commit().await
    }

    async fn advance(&self, connection: &mut PgConnection, run_id: Uuid) -> SqlResult<()> {
        // In the order of the pipeline: the first stage that is not over decides, and a later one
        // only starts behind it. A stage that was just closed lets the loop go on, so the next one
        // is planned in the same tick.
        for progress in runs::progress(connection, run_id).await? {
            let stage = progress.stage;
            match progress.state {
                StageState::Waiting => {
                    // Both in the transaction of the lock: a running stage without its plan is idle
                    // and would be closed unworked.
                    tasks::create_plan(connection, run_id, stage, self.max_retries).await?;
                    return runs::set_stage(connection, run_id, stage, StageState::Running).await;
                }
                StageState::Running if !progress.is_idle() => return Ok(()),
                StageState::Running => close_stage(connection, run_id, &progress).await?,
                StageState::Done | StageState::Skipped | StageState::Failed => {}
            }
        }
        end(connection, run_id).await
    }
}

async fn close_stage(connection: &mut PgConnection, run_id: Uuid, progress: &StageProgress) -> SqlResult<()> {
    let stage = progress.stage;
    if progress.failed > 0 {
        // One problem for each reason, since thousands of tasks may have failed for the same.
        for (error, count) in runs::failures(connection, run_id, stage).await? {
            let text = if count == 1 { error } else { format!("{error} ({count} times)") };
            runs::add_problem(connection, run_id, &Problem::of(stage, text)).await?;
        }
    }
    if stage == StageName::Enhance {
        add_answers(connection, run_id).await?;
    }
    // A stage without any task has done its work; one whose every task failed has not.
    let worked = progress.done > 0 || progress.up_to_date > 0 || progress.failed == 0;
    let state = if worked { StageState::Done } else { StageState::Failed };
    runs::set_stage(connection, run_id, stage, state).await
}

/// Adds who answered for the postings of a run, and what was rejected, to its facts.
async fn add_answers(connection: &mut PgConnection, run_id: Uuid) -> SqlResult<()> {
    let answers = skills::answers(connection, run_id).await?;
    for (why, count) in answers.passed_over {
        let text = format!("passed over for {count} postings: {why}");
        runs::add_problem(connection, run_id, &Problem::of(StageName::Enhance, text)).await?;
    }
    let Some(run) = runs::get(connection, run_id).await? else { return Ok(()) };
    // A section is replaced whole. One that cannot be read is of another release.
    let planned = run.facts().ok().and_then(|facts| facts.enhance).unwrap_or_default();
    let (answered_by, rejected) = (answers.answered_by, answers.rejected);
    let facts = EnhanceFacts { answered_by, rejected, ..planned };
    runs::add_facts(connection, run_id, &RunFacts { enhance: Some(facts), ..RunFacts::default() }).await
}

async fn end(connection: &mut PgConnection, run_id: Uuid) -> SqlResult<()> {
    let Some(run) = runs::get(connection, run_id).await? else { return Ok(()) };
    let state = final_state(&run.stages);
    // Under the run's lock and before its end: a run that is over always has its totals.
    let totals =
        Totals { postings: postings::count(connection).await?, skills: skills::count(connection).await? };
    let facts = RunFacts { totals: Some(totals), ..RunFacts::default() };
    runs::add_facts(connection, run_id, &facts).await?;
    runs::end(connection, run_id, state).await?;
    tracing::info!(run.id = %run_id, run.state = state.name(), "run ended");
    Ok(())
}

/// Succeeded if every stage did all of its work, failed if none did any, else partial.
fn final_state(stages: &[StageProgress]) -> RunState {
    // A skipped stage counts as work not done: its run is partial at best.
    if stages.iter().all(|stage| stage.state == StageState::Done && stage.failed == 0) {
        RunState::Succeeded
    } else if stages.iter().any(|stage| stage.state == StageState::Done) {
        RunState::Partial
    } else {
        RunState::Failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(state: StageState, done: i64, failed: i64) -> StageProgress {
        StageProgress {
            stage: StageName::Extract,
            state,
            ready: 0,
            running: 0,
            done,
            failed,
            up_to_date: 0,
            started_at: None,
            finished_at: None,
        }
    }

    #[test]
    fn final_states() {
        use StageState::{Done, Failed, Skipped};
        let check = |stages: &[StageProgress], expected| assert_eq!(final_state(stages), expected);
        check(&[stage(Done, 3, 0), stage(Done, 0, 0)], RunState::Succeeded);
        check(&[stage(Done, 3, 1)], RunState::Partial);
        check(&[stage(Done, 3, 0), stage(Failed, 0, 4)], RunState::Partial);
        check(&[stage(Done, 3, 0), stage(Skipped, 0, 0)], RunState::Partial);
        check(&[stage(Failed, 0, 4), stage(Skipped, 0, 0)], RunState::Failed);
    }
}
