//! How far the stages of a run are: the rows of `run_stage`, and the tasks counted with them.
//!
//! Counts are taken from the tasks whenever they are asked for; nothing here can disagree with the
//! queue.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    domain::run::{Problem, StageName, StageState},
    store::text,
};

/// Progress of a stage of a run.
#[derive(Debug, Clone, Serialize)]
pub struct StageProgress {
    /// Stage.
    pub stage: StageName,
    /// Its state.
    pub state: StageState,
    /// Tasks waiting for a worker.
    pub ready: i64,
    /// Tasks at work.
    pub running: i64,
    /// Tasks done.
    pub done: i64,
    /// Tasks given up.
    pub failed: i64,
    /// Postings or skills that needed no work.
    pub up_to_date: i64,
    /// First task created.
    pub started_at: Option<DateTime<Utc>>,
    /// Last task ended.
    pub finished_at: Option<DateTime<Utc>>,
}

impl StageProgress {
    /// Wall time from the first task to the last, once the stage is over.
    pub fn seconds(&self) -> Option<f64> {
        Some((self.finished_at? - self.started_at?).as_seconds_f64())
    }

    /// Returns whether no task is ready or running.
    pub fn is_idle(&self) -> bool {
        self.ready == 0 && self.running == 0
    }
}

/// Progress of each stage of a run, in order.
///
/// # Errors
/// If the statement fails.
pub async fn progress(connection: &mut PgConnection, run_id: Uuid) -> sqlx::Result<Vec<StageProgress>> {
    // An open plan counts, so that no stage is over before it was planned; a finished one is no
    // work done.
    let rows = sqlx::query!(
        r#"select s.stage, s.state, s.up_to_date, s.started_at, s.finished_at,
               count(*) filter (where t.state = 'ready') as "ready!",
               count(*) filter (where t.state = 'running') as "running!",
               count(*) filter (where t.state = 'done' and t.message_type = 'process') as "done!",
               count(*) filter (where t.state = 'failed') as "failed!"
           from run_stage s left join task t on t.run_id = s.run_id and t.stage = s.stage
           where s.run_id = $1
           group by s.run_id, s.stage order by s.position"#,
        run_id
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(StageProgress {
                stage: text(&row.stage)?,
                state: text(&row.state)?,
                ready: row.ready,
                running: row.running,
                done: row.done,
                failed: row.failed,
                up_to_date: row.up_to_date,
                started_at: row.started_at,
                finished_at: row.finished_at,
            })
        })
        .collect()
}

/// Returns whether the run includes a stage.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn has_stage(
    connection: &mut PgConnection,
    run_id: Uuid,
    stage: StageName,
) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select exists (select from run_stage where run_id = $1 and stage = $2) as "exists!""#,
        run_id,
        stage.name()
    )
    .fetch_one(connection)
    .await
}

/// The distinct errors of a stage's failed tasks with their number, most frequent first, at most
/// five.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn failures(
    connection: &mut PgConnection,
    run_id: Uuid,
    stage: StageName,
) -> sqlx::Result<Vec<(String, i64)>> {
    let rows = sqlx::query!(
        r#"select coalesce(last_error, 'unknown') as "error!", count(*) as "count!" from task
           where run_id = $1 and stage = $2 and state = 'failed'
           group by 1 order by 2 desc, 1 limit 5"#,
        run_id,
        stage.name()
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (row.error, row.count)).collect())
}

/// Moves a stage to another state and stamps its times.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn set_stage(
    connection: &mut PgConnection,
    run_id: Uuid,
    stage: StageName,
    state: StageState,
) -> sqlx::Result<()> {
    // The first start is kept: a stage that is opened again goes on.
    sqlx::query!(
        "update run_stage set state = $3,
             started_at = case when $3 = 'running' then coalesce(started_at, now()) else started_at end,
             finished_at = case when $3 in ('done', 'failed', 'skipped') then now() else null end
         where run_id = $1 and stage = $2",
        run_id,
        stage.name(),
        state.name()
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Records the number of subjects of a stage that needed no work.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn set_up_to_date(
    connection: &mut PgConnection,
    run_id: Uuid,
    stage: StageName,
    count: i64,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update run_stage set up_to_date = $3 where run_id = $1 and stage = $2",
        run_id,
        stage.name(),
        count
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Things that the stages of a run wait for since they are away or busy, one sentence for each
/// stage and reason.
pub(super) async fn waiting(connection: &mut PgConnection, run_id: Uuid) -> sqlx::Result<Vec<Problem>> {
    // Also while it runs: a probe has not ended the wait.
    let rows = sqlx::query!(
        r#"select stage, coalesce(last_error, 'unknown') as "reason!", min(waiting_since) as "since!"
           from task where run_id = $1 and state in ('ready', 'running') and waiting_since is not null
           group by 1, 2 order by 3, 1, 2 limit 5"#,
        run_id
    )
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            let told = format!("waiting since {} UTC: {}", row.since.format("%H:%M"), row.reason);
            Ok(Problem::of(text(&row.stage)?, told))
        })
        .collect()
}
