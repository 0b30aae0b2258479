//! The claim-process-complete loop of a stage.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    domain::run::StageName,
    stage::{Effect, ModuleConfig, Outcome, Stage, StageError, chain},
    store::{Connection, PgConnection, PgListener, PgPool, SqlError, SqlResult, runs, tasks, tasks::Task},
};

mod effects;

/// How long a claimed task stays ours without a heartbeat.
pub const LEASE: Duration = Duration::from_secs(30);
/// Longest sleep between two looks for work when no announcement arrives.
const POLL: Duration = Duration::from_secs(2);
/// First delay of a retry; each further one doubles.
const FIRST_DELAY: Duration = Duration::from_secs(2);
/// Tries of a transaction that fails for a passing reason.
const COMMIT_TRIES: u32 = 4;
const LONGEST_DELAY: Duration = Duration::from_secs(60);

/// Runs one stage until it is told to stop.
pub struct Worker {
    stage: Arc<dyn Stage>,
    config: ModuleConfig,
    pool: PgPool,
    id: Uuid,
    counters: Arc<Counters>,
}

/// What a worker did since it started.
#[derive(Debug, Default)]
pub struct Counters {
    succeeded: AtomicU64,
    retried: AtomicU64,
    failed: AtomicU64,
    batches: AtomicU64,
    busy_ms: AtomicU64,
}

impl Counters {
    /// Values by metric name.
    pub fn values(&self) -> BTreeMap<String, f64> {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        BTreeMap::from([
            ("tasks_succeeded_total".to_owned(), value(&self.succeeded)),
            ("tasks_retried_total".to_owned(), value(&self.retried)),
            ("tasks_failed_total".to_owned(), value(&self.failed)),
            ("batches_total".to_owned(), value(&self.batches)),
            ("busy_seconds_total".to_owned(), value(&self.busy_ms) / 1000.0),
        ])
    }
}

/// What became of one batch.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct BatchReport {
    /// Tasks ended as done.
    pub succeeded: u64,
    /// Tasks put back.
    pub retried: u64,
    /// Tasks given up.
    pub failed: u64,
    /// Tasks that another worker owns by now.
    pub lost: u64,
}

impl BatchReport {
    fn is_empty(self) -> bool {
        self == Self::default()
    }
}

impl Worker {
    /// A worker for `stage`; it does nothing before [`Worker::run`].
    pub fn new(stage: Arc<dyn Stage>, config: ModuleConfig, pool: PgPool) -> Self {
        Self { stage, config, pool, id: Uuid::now_v7(), counters: Arc::default() }
    }

    /// Counters that go on counting while the worker runs.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Works until `stop`, then gives back what it holds.
    pub async fn run(&self, stop: CancellationToken) {
        let heart = tokio::spawn(beat(self.pool.clone(), self.id, stop.clone()));
        let mut announcements = Announcements::new(self.pool.clone(), self.stage.name());
        let mut trouble = 0_u32;
        while !stop.is_cancelled() {
            match self.recover_and_work(trouble > 0).await {
                Ok(report) if report.is_empty() => {
                    trouble = 0;
                    announcements.wait(POLL, &stop).await;
                }
                Ok(_) => trouble = 0,
                Err(error) => {
                    trouble = trouble.saturating_add(1);
                    tracing::warn!(
                        stage.name = self.stage.name().name(),
                        error.text = chain(&error),
                        "work interrupted"
                    );
                    sleep_or_stop(delay(trouble.min(4)).min(POLL * 5), &stop).await;
                }
            }
        }
        if let Ok(mut connection) = self.pool.acquire().await {
            let _ = tasks::release(&mut connection, self.id).await;
        }
        heart.abort();
    }

    /// After trouble, gives back what is still claimed: the heartbeat would keep it for ever.
    async fn recover_and_work(&self, troubled: bool) -> SqlResult<BatchReport> {
        if troubled {
            tasks::release(&mut *self.pool.acquire().await?, self.id).await?;
        }
        self.work_once().await
    }

    /// As [`Worker::work_once`], for a worker that does not run: its lease is extended as long as the batch takes.
    ///
    /// # Errors
    /// As [`Worker::work_once`].
    pub async fn work_once_alive(&self) -> SqlResult<BatchReport> {
        let stop = CancellationToken::new();
        let _stop_when_done = stop.clone().drop_guard();
        tokio::spawn(beat(self.pool.clone(), self.id, stop));
        self.work_once().await
    }

    /// Claims one batch and brings it to an end.
    ///
    /// # Errors
    /// When the database fails; what was claimed comes back when its lease ends.
    pub async fn work_once(&self) -> SqlResult<BatchReport> {
        let mut connection = self.pool.acquire().await?;
        let limit = i64::from(self.config.batch_size.max(1));
        let claimed = tasks::claim(&mut connection, self.stage.name(), self.id, limit, LEASE).await?;
        drop(connection);
        if claimed.is_empty() {
            return Ok(BatchReport::default());
        }
        let started = Instant::now();
        let (plans, work): (Vec<Task>, Vec<Task>) = claimed.into_iter().partition(Task::is_plan);
        let mut report = BatchReport::default();
        for task in plans {
            let outcome = self.plan(&task).await?;
            self.complete(vec![(task, outcome)], &mut report).await?;
        }
        if !work.is_empty() {
            let outcomes = self.process(&work).await;
            self.complete(work.into_iter().zip(outcomes).collect(), &mut report).await?;
        }
        self.count(report, started.elapsed());
        Ok(report)
    }

    async fn plan(&self, task: &Task) -> SqlResult<Outcome> {
        let mut connection = self.pool.acquire().await?;
        let run = runs::get(&mut connection, task.run_id).await?;
        drop(connection);
        Ok(match run {
            Some(run) => self.stage.plan(&run).await.map(Effect::Planned),
            None => Err(StageError::Fail("the run is gone".to_owned())),
        })
    }

    async fn process(&self, batch: &[Task]) -> Vec<Outcome> {
        let limit = Duration::from_secs(self.config.timeout.max(1));
        let result = match timeout(limit, self.stage.process(batch)).await {
            Ok(result) => result,
            Err(_) => Err(StageError::Retry {
                reason: format!("batch took longer than {} s", limit.as_secs()),
                after: None,
            }),
        };
        match result {
            Ok(outcomes) if outcomes.len() == batch.len() => outcomes,
            Ok(outcomes) => {
                let reason = format!("stage answered {} of {} tasks", outcomes.len(), batch.len());
                vec![Err(StageError::Fail(reason)); batch.len()]
            }
            Err(error) => vec![Err(error); batch.len()],
        }
    }

    /// Writes the outcomes in one transaction; if that fails for one of them, each in its own.
    async fn complete(&self, batch: Vec<(Task, Outcome)>, report: &mut BatchReport) -> SqlResult<()> {
        match self.commit_persistently(&batch).await {
            Ok(part) => report.add(part),
            Err(error) if batch.len() > 1 && !error.is_transient() => {
                for single in batch {
                    Box::pin(self.complete(vec![single], report)).await?;
                }
            }
            Err(CommitError::Lost) => {
                tracing::info!(stage.name = self.stage.name().name(), "result dropped: lease lost");
                report.lost += 1;
            }
            Err(CommitError::Statement(error)) if crate::store::is_transient(&error) => return Err(error),
            Err(CommitError::Statement(error)) => {
                let (task, _) = &batch[0];
                let mut connection = self.pool.acquire().await?;
                tasks::fail(&mut connection, task, &chain(&error)).await?;
                report.failed += 1;
            }
        }
        Ok(())
    }

    /// Commits, repeating what lost a deadlock or a short interruption.
    async fn commit_persistently(&self, batch: &[(Task, Outcome)]) -> Result<BatchReport, CommitError> {
        for tries in 1..COMMIT_TRIES {
            match self.commit(batch).await {
                Err(error) if error.is_transient() => {
                    tokio::time::sleep(jittered(Duration::from_millis(100) * tries)).await;
                }
                settled => return settled,
            }
        }
        self.commit(batch).await
    }

    async fn commit(&self, batch: &[(Task, Outcome)]) -> Result<BatchReport, CommitError> {
        let mut connection = self.pool.acquire().await?;
        let mut transaction = connection.begin().await?;
        let mut report = BatchReport::default();
        for (task, outcome) in batch {
            self.settle(&mut transaction, task, outcome, &mut report).await?;
        }
        transaction.commit().await?;
        Ok(report)
    }

    async fn settle(
        &self,
        connection: &mut PgConnection,
        task: &Task,
        outcome: &Outcome,
        report: &mut BatchReport,
    ) -> Result<(), CommitError> {
        let owned = match outcome {
            Ok(effect) => {
                let retries = self.config.max_retries.cast_signed();
                effects::apply(connection, self.stage.name(), task, effect, retries).await?;
                report.succeeded += 1;
                tasks::finish(connection, task).await?
            }
            Err(StageError::Retry { reason, after }) if task.retry_count < task.max_retries => {
                let tries = task.retry_count.unsigned_abs() + 1;
                let wait = after.unwrap_or(Duration::ZERO).max(jittered(delay(tries)));
                report.retried += 1;
                tasks::retry(connection, task, wait, reason).await?
            }
            Err(error) => {
                report.failed += 1;
                tasks::fail(connection, task, &error.to_string()).await?
            }
        };
        if owned { Ok(()) } else { Err(CommitError::Lost) }
    }

    fn count(&self, report: BatchReport, elapsed: Duration) {
        let add = |counter: &AtomicU64, value: u64| counter.fetch_add(value, Ordering::Relaxed);
        add(&self.counters.succeeded, report.succeeded);
        add(&self.counters.retried, report.retried);
        add(&self.counters.failed, report.failed);
        add(&self.counters.batches, 1);
        add(&self.counters.busy_ms, u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX));
        tracing::debug!(
            stage.name = self.stage.name().name(),
            tasks.succeeded = report.succeeded,
            tasks.retried = report.retried,
            tasks.failed = report.failed,
            duration_ms = elapsed.as_secs_f64() * 1000.0,
            "batch done"
        );
    }
}

impl BatchReport {
    fn add(&mut self, other: Self) {
        self.succeeded += other.succeeded;
        self.retried += other.retried;
        self.failed += other.failed;
        self.lost += other.lost;
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

/// Delay before try number `tries`, without jitter.
fn delay(tries: u32) -> Duration {
    FIRST_DELAY.saturating_mul(1 << tries.saturating_sub(1).min(10)).min(LONGEST_DELAY)
}

/// Between half of `delay` and all of it, so that tasks that failed together do not return together.
fn jittered(delay: Duration) -> Duration {
    let random = Uuid::new_v4().as_u128() as u32;
    delay / 2 + (delay / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
}

async fn beat(pool: PgPool, worker: Uuid, stop: CancellationToken) {
    while !stop.is_cancelled() {
        sleep_or_stop(LEASE / 3, &stop).await;
        let beaten = match pool.acquire().await {
            Ok(mut connection) => tasks::heartbeat(&mut connection, worker, LEASE).await,
            Err(error) => Err(error),
        };
        if let Err(error) = beaten {
            tracing::warn!(error.text = chain(&error), "heartbeat failed");
        }
    }
}

async fn sleep_or_stop(duration: Duration, stop: &CancellationToken) {
    tokio::select! {
        () = tokio::time::sleep(duration) => {}
        () = stop.cancelled() => {}
    }
}

/// Wakes a worker when tasks are announced; without a connection for that, its polling goes on.
struct Announcements {
    pool: PgPool,
    stage: StageName,
    listener: Option<PgListener>,
}

impl Announcements {
    fn new(pool: PgPool, stage: StageName) -> Self {
        Self { pool, stage, listener: None }
    }

    async fn wait(&mut self, longest: Duration, stop: &CancellationToken) {
        if self.listener.is_none() {
            self.listener = self.listen().await;
            if self.listener.is_some() {
                // Something may have been announced before we listened: look again at once.
                return;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(longest) => {}
            () = stop.cancelled() => {}
            () = Self::announced(&mut self.listener, self.stage) => {}
        }
    }

    async fn listen(&self) -> Option<PgListener> {
        let mut listener = PgListener::connect_with(&self.pool).await.ok()?;
        listener.listen(tasks::CHANNEL).await.ok()?;
        Some(listener)
    }

    async fn announced(listener: &mut Option<PgListener>, stage: StageName) {
        let Some(open) = listener else { return std::future::pending().await };
        loop {
            match open.recv().await {
                Ok(notification) if notification.payload() == stage.name() => return,
                Ok(_) => {}
                Err(_) => {
                    *listener = None;
                    return std::future::pending().await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_a_minute() {
        let check = |tries, seconds| assert_eq!(delay(tries), Duration::from_secs(seconds), "try {tries}");
        check(1, 2);
        check(2, 4);
        check(3, 8);
        check(6, 60);
        check(40, 60);
    }

    #[test]
    fn jitter_stays_between_half_and_all() {
        for _ in 0..100 {
            let wait = jittered(Duration::from_secs(8));
            assert!((Duration::from_secs(4)..=Duration::from_secs(8)).contains(&wait), "{wait:?}");
        }
    }
}
