//! What a run covers: one definition for every stage and for the report.
//!
//! The scope follows from the run's options and the time of its creation alone, so that it is the
//! same for each of its stages, whenever they begin.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::Run;
use crate::{
    domain::run::{StageName, TaskState},
    store::text,
};

/// The sightings that a run covers, as the parameters of `covered_sightings`.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// Portals; empty means all.
    pub portals: Vec<String>,
    /// Countries; empty means all.
    pub countries: Vec<String>,
    /// Only what was collected since then, or published, where the time of collection is not known.
    pub since: Option<DateTime<Utc>>,
    /// The texts stored first, at most this many; 0 means all.
    pub limit: i64,
}

impl Scope {
    /// Returns whether nothing is left out.
    pub fn is_everything(&self) -> bool {
        self.portals.is_empty() && self.countries.is_empty() && self.since.is_none() && self.limit == 0
    }
}

impl Run {
    /// Scope of the run: the same for each of its stages, whenever they begin.
    pub fn scope(&self) -> Scope {
        let options = &self.options;
        // A span that reaches beyond the calendar means all, as none does.
        let ago = i64::try_from(options.since_seconds).ok().and_then(TimeDelta::try_seconds);
        let since = ago.and_then(|ago| self.created_at.checked_sub_signed(ago));
        Scope {
            portals: options.portals.clone(),
            countries: options.countries.clone(),
            since: since.filter(|_| options.since_seconds > 0),
            limit: i64::from(options.limit),
        }
    }
}

/// Postings a run covers, split into those that a stage must work on and those it need not.
#[derive(Debug, Clone, Default)]
pub struct Coverage {
    /// Ids in the order in which the texts were first stored.
    pub pending: Vec<Uuid>,
    /// Postings whose rows stand at the current version.
    pub up_to_date: i64,
    /// Postings that have a task of the run already, open, failed or done at the current version.
    pub taken: i64,
}

impl Coverage {
    /// Returns whether the run covers no posting at all.
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty() && self.up_to_date == 0 && self.taken == 0
    }
}

/// The run's postings that `stage` has not finished at `version`; the enhancer's are those that
/// were extracted.
///
/// # Errors
/// If the statement fails.
pub async fn coverage(
    connection: &mut PgConnection,
    run: &Run,
    stage: StageName,
    version: &str,
) -> sqlx::Result<Coverage> {
    let scope = run.scope();
    let rows = sqlx::query!(
        r#"select p.job_id, coalesce(d.version = $6, false) as "up_to_date!",
               (select t.state from task t where t.run_id = $7 and t.stage = $5 and t.job_id = p.job_id)
                   as "task?"
           from posting p left join posting_stage d on d.job_id = p.job_id and d.stage = $5
           where ($5 <> 'enhance' or exists (select from posting_stage x
                   where x.job_id = p.job_id and x.stage = 'extract'))
             and p.job_id in (select s.job_id from covered_sightings($1, $2, $3, $4) s)
           order by p.job_id"#,
        &scope.portals,
        &scope.countries,
        scope.since,
        scope.limit,
        stage.name(),
        version,
        run.run_id
    )
    .fetch_all(connection)
    .await?;
    let mut coverage = Coverage::default();
    for row in rows {
        match row.task.as_deref().map(text).transpose()? {
            Some(TaskState::Done) if row.up_to_date => coverage.taken += 1,
            // A failed one is left alone: only opening the run again tries it once more.
            Some(TaskState::Ready | TaskState::Running | TaskState::Failed) => coverage.taken += 1,
            _ if row.up_to_date => coverage.up_to_date += 1,
            // Also if the run's task was done before what it read changed.
            _ => coverage.pending.push(row.job_id),
        }
    }
    Ok(coverage)
}
