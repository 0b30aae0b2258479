//! Runs: creation, reading, and how they end or are opened again.
//!
//! `progress` holds the stages of a run, `coverage` the postings that it is about.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Page, text};
use crate::domain::run::{Problem, RunState, StageName, StageState, facts::RunFacts};

mod coverage;
mod progress;

pub use coverage::{Scope, coverage};
use progress::waiting;
pub use progress::{StageProgress, progress};
pub(crate) use progress::{failures, has_stage, set_stage, set_up_to_date};

/// Which postings a run covers and what is done to them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RunOptions {
    /// Empty means every portal.
    pub portals: Vec<String>,
    /// Empty means every country.
    pub countries: Vec<String>,
    /// Only postings collected (or else published) within this many seconds before the run; 0 means
    /// all.
    pub since_seconds: u64,
    /// At most this many postings, those stored first; 0 means all.
    pub limit: u32,
    /// Stages in pipeline order.
    pub stages: Vec<StageName>,
}

/// A run as it stands.
#[derive(Debug, Clone)]
pub struct Run {
    /// Key.
    pub run_id: Uuid,
    /// Its state.
    pub state: RunState,
    /// Its options.
    pub options: RunOptions,
    /// Reasons for which it failed or is partial; while it goes on, also what it waits for.
    pub problems: Vec<Problem>,
    /// Facts about each stage as they are stored; see `Run::facts`.
    pub summary: Value,
    /// Start.
    pub created_at: DateTime<Utc>,
    /// End.
    pub finished_at: Option<DateTime<Utc>>,
    /// One entry per stage in order.
    pub stages: Vec<StageProgress>,
}

impl Run {
    /// Facts about each stage.
    ///
    /// # Errors
    /// If a known key holds something of another type.
    pub(crate) fn facts(&self) -> serde_json::Result<RunFacts> {
        RunFacts::read(&self.summary)
    }

    /// The content of `run.json`: what ran, on which models, how much, how long.
    pub fn describe(&self) -> Value {
        let stages: Vec<Value> = self
            .stages
            .iter()
            .map(|stage| {
                json!({ "stage": stage.stage, "state": stage.state, "done": stage.done,
                    "failed": stage.failed, "up_to_date": stage.up_to_date, "seconds": stage.seconds() })
            })
            .collect();
        json!({
            "run_id": self.run_id,
            "state": self.state,
            "version": env!("CARGO_PKG_VERSION"),
            "created_at": self.created_at,
            "finished_at": self.finished_at,
            "options": self.options,
            "stages": stages,
            "problems": self.problems.iter().map(Problem::to_string).collect::<Vec<_>>(),
            "facts": self.summary,
        })
    }
}

/// Creates a run with its stages, all waiting.
///
/// # Errors
/// If a statement fails.
pub async fn create(connection: &mut PgConnection, run_id: Uuid, options: &RunOptions) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into run (run_id, state, options) values ($1, 'running', $2)",
        run_id,
        serde_json::to_value(options).unwrap_or_default()
    )
    .execute(&mut *connection)
    .await?;
    let stages: Vec<String> = options.stages.iter().map(|stage| stage.name().to_owned()).collect();
    sqlx::query!(
        "insert into run_stage (run_id, stage, position)
         select $1, stage, position::smallint from unnest($2::text[]) with ordinality as item (stage, position)",
        run_id,
        &stages
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The run with this id.
///
/// # Errors
/// If a statement fails.
pub async fn get(connection: &mut PgConnection, run_id: Uuid) -> sqlx::Result<Option<Run>> {
    let row = sqlx::query!(
        "select run_id, state, options, problems, summary, created_at, finished_at
         from run where run_id = $1",
        run_id
    )
    .fetch_optional(&mut *connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let stages = progress(&mut *connection, run_id).await?;
    let state = text(&row.state)?;
    let mut problems: Vec<Problem> = row.problems.iter().map(|sentence| Problem::read(sentence)).collect();
    if state == RunState::Running {
        // What a running run waits for is worked out when it is read: written down, it would have
        // to be taken back.
        problems.extend(waiting(connection, run_id).await?);
    }
    Ok(Some(Run {
        run_id: row.run_id,
        state,
        options: serde_json::from_value(row.options).unwrap_or_default(),
        problems,
        summary: row.summary,
        created_at: row.created_at,
        finished_at: row.finished_at,
        stages,
    }))
}

/// Ids of the runs whose id begins with `prefix` (lower-case hexadecimal with hyphens), at most
/// two.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn by_prefix(connection: &mut PgConnection, prefix: &str) -> sqlx::Result<Vec<Uuid>> {
    // Two suffice to see that a prefix is not unique.
    sqlx::query_scalar!("select run_id from run where starts_with(run_id::text, $1) limit 2", prefix)
        .fetch_all(connection)
        .await
}

/// Run ids, newest first; `page.after` is the id of the last run of the previous page.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn list(
    connection: &mut PgConnection,
    state: Option<RunState>,
    page: Page<Uuid>,
) -> sqlx::Result<Vec<Uuid>> {
    // Ids are of version 7, so their order is that of creation.
    sqlx::query_scalar!(
        "select run_id from run
         where ($1::text is null or state = $1) and ($2::uuid is null or run_id < $2)
         order by run_id desc limit $3",
        state.map(RunState::name),
        page.after,
        page.size
    )
    .fetch_all(connection)
    .await
}

/// Ids of the runs that are not over, oldest first.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn active(connection: &mut PgConnection) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!("select run_id from run where state = 'running' order by run_id")
        .fetch_all(connection)
        .await
}

/// Takes the run's lock until the transaction ends, so that one process moves it at a time; false
/// when another holds it or the run is over.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn lock(connection: &mut PgConnection, run_id: Uuid) -> sqlx::Result<bool> {
    // Skipped rather than waited for: the process that holds it is moving the run right now.
    let locked = sqlx::query_scalar!(
        "select run_id from run where run_id = $1 and state = 'running' for update skip locked",
        run_id
    )
    .fetch_optional(connection)
    .await?;
    Ok(locked.is_some())
}

/// Adds a sentence to the run's problems, once.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn add_problem(
    connection: &mut PgConnection,
    run_id: Uuid,
    problem: &Problem,
) -> sqlx::Result<()> {
    // Once, since an effect may be applied again, and several workers find the same.
    sqlx::query!(
        "update run set problems = array_append(problems, $2) where run_id = $1 and not $2 = any (problems)",
        run_id,
        problem.to_string()
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Adds facts to those of the run; a section that it has already is replaced.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn add_facts(
    connection: &mut PgConnection,
    run_id: Uuid,
    facts: &RunFacts,
) -> sqlx::Result<()> {
    // Without facts the row of the run need not be locked.
    if *facts == RunFacts::default() {
        return Ok(());
    }
    merge_summary(connection, run_id, &facts.patch()).await
}

/// Merges `patch` into the run's summary.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn merge_summary(
    connection: &mut PgConnection,
    run_id: Uuid,
    patch: &Value,
) -> sqlx::Result<()> {
    // Merged by the database: workers of several processes add theirs at the same time, and none
    // may overwrite what it has not read.
    sqlx::query!("update run set summary = summary || $2 where run_id = $1", run_id, patch)
        .execute(connection)
        .await?;
    Ok(())
}

/// Ends a run.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn end(connection: &mut PgConnection, run_id: Uuid, state: RunState) -> sqlx::Result<()> {
    // One that was cancelled in the meantime stays so.
    sqlx::query!(
        "update run set state = $2, finished_at = now() where run_id = $1 and state = 'running'",
        run_id,
        state.name()
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Cancels a run and its open tasks; a worker that holds one of them loses its fence check.
///
/// # Errors
/// If a statement fails.
pub async fn cancel(connection: &mut PgConnection, run_id: Uuid) -> sqlx::Result<()> {
    // First: from here on no task is created for the run.
    end(&mut *connection, run_id, RunState::Cancelled).await?;
    sqlx::query!(
        "update task set state = 'cancelled', fence = fence + 1, lease_until = null, finished_at = now()
         where run_id = $1 and state in ('ready', 'running')",
        run_id
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "update run_stage set state = 'skipped', finished_at = now()
         where run_id = $1 and state in ('waiting', 'running')",
        run_id
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Opens an ended run again: failed tasks (and cancelled ones unless `failed_only`) become ready,
/// and every stage after the first that has something to do plans again, so that what this one
/// gains reaches them. Returns the number of tasks put back.
///
/// # Errors
/// If a statement fails.
pub async fn reopen(connection: &mut PgConnection, run_id: Uuid, failed_only: bool) -> sqlx::Result<u64> {
    sqlx::query!(
        "update run set state = 'running', finished_at = null where run_id = $1 and state <> 'running'",
        run_id
    )
    .execute(&mut *connection)
    .await?;
    let tasks = sqlx::query!(
        "update task set state = 'ready', retry_count = 0, losses = 0, run_at = now(), finished_at = null,
             waiting_since = null, worker = null
         where run_id = $1 and (state = 'failed' or (state = 'cancelled' and not $2))",
        run_id,
        failed_only
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "with open as (
             select s.position, exists (select from task t where t.run_id = s.run_id and t.stage = s.stage
                 and t.state = 'ready') as has_tasks
             from run_stage s where s.run_id = $1
               and (s.state in ('waiting', 'running', 'failed', 'skipped') or exists (select from task t
                   where t.run_id = s.run_id and t.stage = s.stage and t.state = 'ready'))),
         first as (select position, has_tasks from open order by position limit 1)
         update run_stage s set finished_at = null,
             state = case when s.position = first.position and first.has_tasks then 'running' else 'waiting' end
         from first where s.run_id = $1 and s.position >= first.position",
        run_id
    )
    .execute(&mut *connection)
    .await?;
    forget_problems(connection, run_id).await?;
    // The trigger announces insertions only, and these tasks were updated.
    sqlx::query!(
        "select pg_notify($2, stage) from run_stage where run_id = $1",
        run_id,
        super::tasks::CHANNEL
    )
    .fetch_all(connection)
    .await?;
    Ok(tasks.rows_affected())
}

/// Takes back the problems of the stages that are open: what is done again may go better; what is
/// not stays told.
async fn forget_problems(connection: &mut PgConnection, run_id: Uuid) -> sqlx::Result<()> {
    // Locked until they are written again, so that none that is added meanwhile is lost.
    let told = sqlx::query_scalar!("select problems from run where run_id = $1 for update", run_id)
        .fetch_optional(&mut *connection)
        .await?;
    let Some(told) = told else { return Ok(()) };
    let stages = progress(&mut *connection, run_id).await?;
    let open: Vec<StageName> = stages
        .iter()
        .filter(|stage| matches!(stage.state, StageState::Waiting | StageState::Running))
        .map(|stage| stage.stage)
        .collect();
    let kept = Problem::without(told, &open);
    sqlx::query!("update run set problems = $2 where run_id = $1", run_id, &kept).execute(connection).await?;
    Ok(())
}

/// Number of runs that are not over.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn count_active(connection: &mut PgConnection) -> sqlx::Result<i64> {
    sqlx::query_scalar!(r#"select count(*) as "count!" from run where state = 'running'"#)
        .fetch_one(connection)
        .await
}
