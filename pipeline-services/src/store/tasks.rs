//! The queue: tasks with leases, fences and retries.
//!
//! Times are the database's: a worker's clock never decides about a lease.

use std::{fmt, time::Duration};

use serde_json::Value;
use sqlx::{PgConnection, postgres::types::PgInterval};
use uuid::Uuid;

use super::text;
use crate::domain::run::{MessageKind, StageName};

/// Channel on which ready tasks are announced; the payload is the stage's name.
pub const CHANNEL: &str = "observatory_task";

/// A task that a worker holds.
#[derive(Debug, Clone)]
pub struct Task {
    /// Key.
    pub task_id: i64,
    /// Run it belongs to.
    pub run_id: Uuid,
    /// Kind of the work.
    pub kind: MessageKind,
    /// Its subject, as its stage writes it: a posting id, a skill id, PORTAL/COUNTRY or a run id.
    pub subject: String,
    /// Arguments of the message.
    pub payload: Value,
    /// Number of earlier tries.
    pub retry_count: i32,
    /// Number of further tries allowed.
    pub max_retries: i32,
    /// Seconds since it first found that something it depends on is away; none while it does not
    /// wait.
    pub waited_seconds: Option<f64>,
    /// Ownership; a finish with an older fence is refused.
    pub fence: i64,
}

impl Task {
    /// Returns whether the task asks for the stage's tasks of a run rather than for work on a
    /// subject.
    pub fn is_plan(&self) -> bool {
        self.kind == MessageKind::Plan
    }

    /// The posting the task is about; `None` if its subject is not the id of one.
    pub fn posting_id(&self) -> Option<Uuid> {
        self.subject.parse().ok()
    }
}

/// A task to be created.
#[derive(Debug, Clone)]
pub struct NewTask {
    /// Stage that will process it.
    pub stage: StageName,
    /// Its subject.
    pub subject: Subject,
}

/// Subject of a new task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A posting; the task goes when the posting does.
    Posting(Uuid),
    /// Something else that the stage knows by this text.
    Other(String),
}

impl Subject {
    /// Something that is known by its text.
    pub fn other(subject: impl ToString) -> Self {
        Self::Other(subject.to_string())
    }

    fn job_id(&self) -> Option<Uuid> {
        match self {
            Self::Posting(job_id) => Some(*job_id),
            Self::Other(_) => None,
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Posting(job_id) => job_id.fmt(formatter),
            Self::Other(text) => formatter.write_str(text),
        }
    }
}

fn interval(duration: Duration) -> PgInterval {
    // Microseconds alone: months and days have no fixed length.
    PgInterval { months: 0, days: 0, microseconds: i64::try_from(duration.as_micros()).unwrap_or(i64::MAX) }
}

/// Tries that a task has after workers were lost with it, each alone: a subject that ends its
/// worker must not go round for ever, and one that was only near it must not suffer for that. The
/// number is a choice.
pub const LOSSES: i32 = 5;

/// Creates tasks. One that exists already for this run, stage and subject is left as it is while it
/// is open or failed; one that is over is made ready again, since its planner found new
/// work.
///
/// # Errors
/// If the statement fails.
pub async fn create(
    connection: &mut PgConnection,
    run_id: Uuid,
    source: &str,
    tasks: &[NewTask],
    max_retries: i32,
) -> sqlx::Result<u64> {
    // Arrays instead of a list of rows: one prepared statement serves any number of tasks, and
    // PostgreSQL takes 65,535 parameters at most.
    let stages: Vec<String> = tasks.iter().map(|task| task.stage.name().to_owned()).collect();
    let targets: Vec<String> = tasks.iter().map(|task| task.stage.service().to_owned()).collect();
    let subjects: Vec<String> = tasks.iter().map(|task| task.subject.to_string()).collect();
    let jobs: Vec<Option<Uuid>> = tasks.iter().map(|task| task.subject.job_id()).collect();
    // The state of the run is part of the statement: a run that is over gets no tasks.
    let created = sqlx::query!(
        "insert into task (source_module, target_module, run_id, stage, subject, job_id, max_retries)
         select $1, target, $2, stage, subject, job_id, $3
         from unnest($4::text[], $5::text[], $6::text[], $7::uuid[]) as item (stage, target, subject, job_id)
         where exists (select from run where run_id = $2 and state = 'running')
         on conflict (run_id, stage, subject) do update set state = 'ready', retry_count = 0, losses = 0,
             run_at = now(), finished_at = null, last_error = null, worker = null, fence = task.fence + 1
         where task.state in ('done', 'cancelled')",
        source,
        run_id,
        max_retries,
        &stages,
        &targets,
        &subjects,
        &jobs as &[Option<Uuid>]
    )
    .execute(connection)
    .await?;
    Ok(created.rows_affected())
}

/// Creates, or makes ready again, the task that plans a stage of a run.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn create_plan(
    connection: &mut PgConnection,
    run_id: Uuid,
    stage: StageName,
    max_retries: i32,
) -> sqlx::Result<()> {
    // With priority: a plan takes moments, and the workers of its run wait for it. One that runs
    // already is planned again, and its worker finds another fence.
    sqlx::query!(
        "insert into task (message_type, source_module, target_module, run_id, stage, subject, max_retries,
             priority)
         values ('plan', 'orchestrator', $1, $2, $3, 'plan', $4, 1)
         on conflict (run_id, stage, subject) do update set state = 'ready', retry_count = 0, run_at = now(),
             finished_at = null, lease_until = null, worker = null, fence = task.fence + 1",
        stage.service(),
        run_id,
        stage.name(),
        max_retries
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Claims up to `limit` ready tasks of a stage for `worker` until the lease ends. A task that is to
/// be worked on alone is claimed by itself.
///
/// # Errors
/// If the statement fails.
pub async fn claim(
    connection: &mut PgConnection,
    stage: StageName,
    worker: Uuid,
    limit: i64,
    lease: Duration,
) -> sqlx::Result<Vec<Task>> {
    // Locked rows are skipped, so workers never wait for each other. The fence grows with every
    // claim: what an earlier owner still writes no longer matches.
    let rows = sqlx::query!(
        r#"with candidate as (
             select task_id, alone, priority, run_at from task
             where stage = $1 and state = 'ready' and run_at <= now()
             order by priority desc, run_at, task_id limit $2 for update skip locked),
         first as (select task_id, alone from candidate order by priority desc, run_at, task_id limit 1)
         update task set state = 'running', worker = $3, fence = fence + 1, lease_until = now() + $4
         from candidate, first
         where task.task_id = candidate.task_id
           and case when first.alone then candidate.task_id = first.task_id else not candidate.alone end
         returning task.task_id, task.run_id, task.message_type, task.subject, task.payload, task.retry_count, task.max_retries,
             extract(epoch from now() - task.waiting_since)::float8 as waited_seconds, task.fence"#,
        stage.name(),
        limit,
        worker,
        interval(lease)
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(Task {
                task_id: row.task_id,
                run_id: row.run_id,
                kind: text(&row.message_type)?,
                subject: row.subject,
                payload: row.payload,
                retry_count: row.retry_count,
                max_retries: row.max_retries,
                waited_seconds: row.waited_seconds,
                fence: row.fence,
            })
        })
        .collect()
}

/// Extends every lease of a worker; returns how many it still holds.
///
/// # Errors
/// If the statement fails.
pub async fn heartbeat(connection: &mut PgConnection, worker: Uuid, lease: Duration) -> sqlx::Result<u64> {
    // By worker instead of by task: one statement covers the whole batch.
    let held = sqlx::query!(
        "update task set lease_until = now() + $2 where worker = $1 and state = 'running'",
        worker,
        interval(lease)
    )
    .execute(connection)
    .await?;
    Ok(held.rows_affected())
}

/// Ends a task as done; false when it is no longer owned, and then the caller must roll back.
///
/// # Errors
/// If the statement fails.
pub async fn finish(connection: &mut PgConnection, task: &Task) -> sqlx::Result<bool> {
    let finished = sqlx::query!(
        "update task set state = 'done', finished_at = now(), lease_until = null, last_error = null,
             waiting_since = null
         where task_id = $1 and fence = $2 and state = 'running'",
        task.task_id,
        task.fence
    )
    .execute(connection)
    .await?;
    Ok(finished.rows_affected() == 1)
}

/// Puts a task back to ready after `delay`; false when it is no longer owned.
///
/// # Errors
/// If the statement fails.
pub async fn retry(
    connection: &mut PgConnection,
    task: &Task,
    delay: Duration,
    error: &str,
) -> sqlx::Result<bool> {
    // Something was tried, so what the task waited for is back.
    let moved = sqlx::query!(
        "update task set state = 'ready', retry_count = retry_count + 1, run_at = now() + $3,
             lease_until = null, worker = null, waiting_since = null, last_error = $4
         where task_id = $1 and fence = $2 and state = 'running'",
        task.task_id,
        task.fence,
        interval(delay),
        error
    )
    .execute(connection)
    .await?;
    Ok(moved.rows_affected() == 1)
}

/// Keeps where a task has got to, and that it gets on; false when it is no longer owned, and then
/// the caller must roll back.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn checkpoint(
    connection: &mut PgConnection,
    task: &Task,
    payload: &Value,
) -> sqlx::Result<bool> {
    // A task that gets on is not to blame for the workers lost with it, so its losses start again.
    let kept = sqlx::query!(
        "update task set payload = $3, losses = 0, waiting_since = null
         where task_id = $1 and fence = $2 and state = 'running'",
        task.task_id,
        task.fence,
        payload
    )
    .execute(connection)
    .await?;
    Ok(kept.rows_affected() == 1)
}

/// Puts a task back until something it depends on has come back, at the cost of no try; false when
/// it is no longer owned.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn wait(
    connection: &mut PgConnection,
    task: &Task,
    delay: Duration,
    reason: &str,
) -> sqlx::Result<bool> {
    // Patience is measured from the first refusal, not from the latest.
    let moved = sqlx::query!(
        "update task set state = 'ready', run_at = now() + $3, waiting_since = coalesce(waiting_since, now()),
             lease_until = null, worker = null, last_error = $4
         where task_id = $1 and fence = $2 and state = 'running'",
        task.task_id,
        task.fence,
        interval(delay),
        reason
    )
    .execute(connection)
    .await?;
    Ok(moved.rows_affected() == 1)
}

/// Puts a task of a failed batch back, to be worked on alone and at the cost of no try; false when
/// it is no longer owned.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn isolate(connection: &mut PgConnection, task: &Task, reason: &str) -> sqlx::Result<bool> {
    let moved = sqlx::query!(
        "update task set state = 'ready', alone = true, run_at = now(), lease_until = null, worker = null,
             last_error = $3
         where task_id = $1 and fence = $2 and state = 'running'",
        task.task_id,
        task.fence,
        reason
    )
    .execute(connection)
    .await?;
    Ok(moved.rows_affected() == 1)
}

/// Ends a task as failed; false when it is no longer owned.
///
/// # Errors
/// If the statement fails.
pub async fn fail(connection: &mut PgConnection, task: &Task, error: &str) -> sqlx::Result<bool> {
    let failed = sqlx::query!(
        "update task set state = 'failed', finished_at = now(), lease_until = null, waiting_since = null,
             last_error = $3
         where task_id = $1 and fence = $2 and state = 'running'",
        task.task_id,
        task.fence,
        error
    )
    .execute(connection)
    .await?;
    Ok(failed.rows_affected() == 1)
}

/// Ends all tasks that wait in the stage and run of this one as failed; returns how many.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn give_up(connection: &mut PgConnection, task: &Task, error: &str) -> sqlx::Result<u64> {
    // A ready task has no owner, so no fence is asked for.
    let failed = sqlx::query!(
        "update task set state = 'failed', finished_at = now(), waiting_since = null, last_error = $3
         where run_id = $1 and stage = (select stage from task where task_id = $2) and state = 'ready'
           and message_type = 'process'",
        task.run_id,
        task.task_id,
        error
    )
    .execute(connection)
    .await?;
    Ok(failed.rows_affected())
}

/// Gives claimed tasks back untouched, for a worker that shuts down.
///
/// # Errors
/// If the statement fails.
pub async fn release(connection: &mut PgConnection, worker: Uuid) -> sqlx::Result<u64> {
    // The fence may stay: the next claim moves it.
    let released = sqlx::query!(
        "update task set state = 'ready', lease_until = null, worker = null
         where worker = $1 and state = 'running'",
        worker
    )
    .execute(connection)
    .await?;
    Ok(released.rows_affected())
}

/// Returns tasks whose worker is gone, to be worked on alone: one of them may be what ended it. One
/// that was lost so [often](LOSSES) ends as failed.
///
/// # Errors
/// If the statement fails.
pub async fn reap(connection: &mut PgConnection) -> sqlx::Result<u64> {
    // Locked rows are skipped: a task whose worker is just ending it is not lost.
    let reaped = sqlx::query!(
        "update task set
             state = case when losses + 1 < $1 then 'ready' else 'failed' end,
             finished_at = case when losses + 1 < $1 then null else now() end,
             losses = losses + 1, alone = true, lease_until = null, worker = null, run_at = now(),
             last_error = 'worker lost'
         where task_id in (select task_id from task where state = 'running' and lease_until < now()
             order by lease_until limit 1000 for update skip locked)",
        LOSSES
    )
    .execute(connection)
    .await?;
    Ok(reaped.rows_affected())
}
