//! The claim-process-complete loop of a stage.
//!
//! It hides leases, fences, retries and circuits from the stages, and promises that an effect is
//! written once, whatever dies in the middle, and that a bad subject costs itself alone.

use std::{
    collections::BTreeMap,
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures::FutureExt;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    stage::{Checkpoints, Dependency, Effect, Outcome, Stage, StageError, panicked},
    store::{PgPool, SqlResult, runs, tasks, tasks::Task},
    telemetry::chain,
};
pub(crate) use announcements::Announcements;
pub use module::ModuleConfig;
pub(crate) use pace::Circuits;
pub use pace::Timing;
use pace::jittered;
use settle::Verdict;

mod announcements;
mod effects;
mod module;
mod pace;
mod settle;

/// Longest sleep while a circuit is open, and a fifth of the longest pause after trouble; short, so
/// that an end of the trouble is noticed soon. Not tuned.
const POLL: Duration = Duration::from_secs(2);

/// Runs one stage until it is asked to stop.
pub struct Worker {
    stage: Arc<dyn Stage>,
    config: ModuleConfig,
    pool: PgPool,
    id: Uuid,
    counters: Arc<Counters>,
    timing: Timing,
    circuits: Arc<Circuits>,
    announcements: Arc<Announcements>,
    /// The dependency that the last batch found away.
    missing: Mutex<Option<Dependency>>,
}

/// Counters of the workers of a stage since the process started.
#[derive(Debug, Default)]
pub struct Counters {
    succeeded: AtomicU64,
    retried: AtomicU64,
    waiting: AtomicU64,
    failed: AtomicU64,
    batches: AtomicU64,
    // Whole milliseconds, exported as seconds: there is no atomic float to add to.
    busy_ms: AtomicU64,
}

impl Counters {
    /// Values by metric name.
    pub fn values(&self) -> BTreeMap<String, f64> {
        BTreeMap::from([
            ("tasks_succeeded_total".to_owned(), value(&self.succeeded)),
            ("tasks_retried_total".to_owned(), value(&self.retried)),
            ("tasks_put_off_total".to_owned(), value(&self.waiting)),
            ("tasks_failed_total".to_owned(), value(&self.failed)),
            ("batches_total".to_owned(), value(&self.batches)),
            ("busy_seconds_total".to_owned(), value(&self.busy_ms) / 1000.0),
        ])
    }
}

fn value(counter: &AtomicU64) -> f64 {
    counter.load(Ordering::Relaxed) as f64
}

fn add(counter: &AtomicU64, value: u64) {
    // The figures are only read for display; no other memory is ordered by them.
    counter.fetch_add(value, Ordering::Relaxed);
}

/// The outcome of one batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BatchReport {
    /// Tasks ended as done.
    pub succeeded: u64,
    /// Tasks put back for another try, or to be worked on alone.
    pub retried: u64,
    /// Tasks put back until something they depend on has come back.
    pub waiting: u64,
    /// Tasks given up.
    pub failed: u64,
    /// Tasks that another worker owns by now.
    pub lost: u64,
}

impl BatchReport {
    fn is_empty(self) -> bool {
        self == Self::default()
    }

    fn add(&mut self, other: Self) {
        self.succeeded += other.succeeded;
        self.retried += other.retried;
        self.waiting += other.waiting;
        self.failed += other.failed;
        self.lost += other.lost;
    }
}

impl Worker {
    /// A worker for `stage`; it does nothing before [`Worker::run`].
    pub fn new(stage: Arc<dyn Stage>, config: ModuleConfig, pool: PgPool) -> Self {
        Self {
            stage,
            config,
            pool,
            id: Uuid::now_v7(),
            counters: Arc::default(),
            timing: Timing::default(),
            circuits: Arc::default(),
            announcements: Arc::default(),
            missing: Mutex::default(),
        }
    }

    /// The same with times and circuits of the process, and what is announced to it.
    #[must_use]
    pub fn paced(self, timing: Timing, circuits: Arc<Circuits>, announcements: Arc<Announcements>) -> Self {
        Self { timing, circuits, announcements, ..self }
    }

    /// The same, counting with others.
    #[must_use]
    pub fn counted(self, counters: Arc<Counters>) -> Self {
        Self { counters, ..self }
    }

    /// Works until `stop`, ends the batch at hand unless `cut` comes first, and gives back what it
    /// holds.
    pub async fn run(&self, stop: CancellationToken, cut: CancellationToken) {
        // A task of its own, since a batch may take longer than a lease.
        let heart = tokio::spawn(beat_every_third(self.pool.clone(), self.id, self.timing.lease));
        let mut ear = self.announcements.ear(self.stage.name());
        let mut trouble = 0_u32;
        // What is kept as it goes loses little by being cut off, and would take long to end.
        let cut = if self.stage.works_singly() { stop.clone() } else { cut };
        while !stop.is_cancelled() {
            if let Some(wait) = self.circuit_open_for() {
                // In short sleeps: the probe of another worker may close the circuit before its
                // time.
                sleep_or_stop(wait.min(POLL), &stop).await;
                continue;
            }
            // Forgotten before the look, not after it: what is announced in between wakes the next
            // wait.
            ear.forget();
            // A cut drops the batch: its transactions roll back, and its tasks are given back
            // below.
            let worked = tokio::select! {
                worked = self.recover_and_work(trouble > 0) => worked,
                () = cut.cancelled() => break,
            };
            match worked {
                Ok(report) if report.is_empty() => {
                    trouble = 0;
                    ear.wait(&stop).await;
                }
                Ok(_) => trouble = 0,
                Err(error) => {
                    trouble = trouble.saturating_add(1);
                    tracing::warn!(
                        stage.name = self.stage.name().name(),
                        error.message = chain(&error),
                        "work interrupted"
                    );
                    sleep_or_stop(self.timing.delay(trouble.min(4)).min(POLL * 5), &stop).await;
                }
            }
        }
        // First, or a last beat would extend what is given back.
        heart.abort();
        // Else the tasks would lie until their leases end.
        if let Ok(mut connection) = self.pool.acquire().await {
            let _ = tasks::release(&mut connection, self.id).await;
        }
    }

    /// After trouble, gives back what is still claimed: the heartbeat would keep it for ever.
    async fn recover_and_work(&self, troubled: bool) -> SqlResult<BatchReport> {
        if troubled {
            tasks::release(&mut *self.pool.acquire().await?, self.id).await?;
        }
        self.work_once().await
    }

    /// As [`Worker::work_once`], for a worker that does not run: its lease is extended as long as
    /// the batch takes.
    ///
    /// # Errors
    /// As [`Worker::work_once`].
    pub async fn work_once_alive(&self) -> SqlResult<BatchReport> {
        let heart = tokio::spawn(beat_every_third(self.pool.clone(), self.id, self.timing.lease));
        let report = self.work_once().await;
        // A heart left beating would hold for ever what a failed batch still claims.
        heart.abort();
        report
    }

    /// Claims one batch and brings it to an end.
    ///
    /// # Errors
    /// If the database fails; what was claimed comes back when its lease ends.
    pub async fn work_once(&self) -> SqlResult<BatchReport> {
        let mut connection = self.pool.acquire().await?;
        // After a batch that found something away, a single task probes whether it is back.
        // A batch of zero would claim nothing for ever and look like an empty queue.
        let limit = if self.missing().is_some() { 1 } else { i64::from(self.config.batch_size.max(1)) };
        let claimed =
            tasks::claim(&mut connection, self.stage.name(), self.id, limit, self.timing.lease).await?;
        drop(connection);
        if claimed.is_empty() {
            return Ok(BatchReport::default());
        }
        let started = Instant::now();
        // A plan is completed by itself: it may create thousands of tasks, and must not be repeated
        // because a batch next to it failed.
        let (plans, work): (Vec<Task>, Vec<Task>) = claimed.into_iter().partition(Task::is_plan);
        let mut report = BatchReport::default();
        for task in plans {
            let outcome = self.plan(&task).await?;
            self.complete(vec![(task, Verdict::Settle(outcome))], &mut report).await?;
        }
        if !work.is_empty() {
            let verdicts = self.judge(&work).await;
            self.complete(work.into_iter().zip(verdicts).collect(), &mut report).await?;
        }
        self.count(report, started.elapsed());
        Ok(report)
    }

    async fn plan(&self, task: &Task) -> SqlResult<Outcome> {
        let mut connection = self.pool.acquire().await?;
        let run = runs::get(&mut connection, task.run_id).await?;
        // The stage takes connections of its own; holding this one could empty a small pool.
        drop(connection);
        let Some(run) = run else { return Ok(Err(StageError::Fail("the run is gone".to_owned()))) };
        let planned = AssertUnwindSafe(self.stage.plan(&run)).catch_unwind();
        Ok(match tokio::time::timeout(self.silence(), planned).await {
            Ok(Ok(planned)) => planned.map(|plan| Effect::Planned(Box::new(plan))),
            Ok(Err(panic)) => Err(panicked("plan", &*panic)),
            Err(_) => Err(StageError::Retry(format!("plan took longer than {} s", self.silence().as_secs()))),
        })
    }

    /// Processes a batch; if that fails as a whole, its tasks are to be worked on one by one.
    async fn judge(&self, batch: &[Task]) -> Vec<Verdict> {
        // Outcomes belong to tasks by their place, so an answer of another length says nothing
        // about any of them. It is a defect of the stage, which no further try mends.
        let outcomes = match self.process(batch).await {
            Ok(outcomes) if outcomes.len() == batch.len() => outcomes,
            Ok(outcomes) => {
                let reason = format!("stage answered {} of {} tasks", outcomes.len(), batch.len());
                vec![Err(StageError::Fail(reason)); batch.len()]
            }
            // No task is the cause of an outage, so none is singled out to be worked on alone.
            Err(error @ StageError::Unavailable { .. }) => vec![Err(error); batch.len()],
            // It is alone already, so the error is its own.
            Err(error) if batch.len() == 1 => vec![Err(error)],
            Err(error) => {
                return batch.iter().map(|_| Verdict::Isolate(error.to_string())).collect();
            }
        };
        outcomes.into_iter().map(Verdict::Settle).collect()
    }

    /// Lets the stage work, and writes its checkpoints, until it is done, panics, or is silent for
    /// too long.
    async fn process(&self, batch: &[Task]) -> Result<Vec<Outcome>, StageError> {
        let (checkpoints, mut inbox) = Checkpoints::channel();
        // A panic is an answer about this batch; the worker, its lease and the other stages go on.
        let work = AssertUnwindSafe(self.stage.process(batch, &checkpoints)).catch_unwind();
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done.unwrap_or_else(|panic| Err(panicked("stage", &*panic))),
                Some(checkpoint) = inbox.recv() => {
                    let written = self.keep(&checkpoint).await;
                    checkpoint.answer(written);
                }
                // The sleep starts again with every turn, so each checkpoint buys the full time.
                () = tokio::time::sleep(self.silence()) => {
                    let seconds = self.silence().as_secs();
                    return Err(StageError::Retry(format!("no progress within {seconds} s")));
                }
            }
        }
    }

    fn silence(&self) -> Duration {
        Duration::from_secs(self.config.timeout.max(1))
    }

    fn missing(&self) -> Option<Dependency> {
        *self.missing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn circuit_open_for(&self) -> Option<Duration> {
        let wait = self.circuits.open_for(self.missing()?, Instant::now())?;
        (!wait.is_zero()).then_some(wait)
    }

    /// Opens or closes the circuit that a batch speaks of; returns how long its tasks wait.
    fn note_dependency(&self, batch: &[(Task, Verdict)]) -> Duration {
        let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut longest_hint = None;
        let mut away = None;
        for (_, verdict) in batch {
            match verdict {
                Verdict::Settle(Err(StageError::Unavailable { dependency, after, .. }))
                    if dependency.is_shared() && away.is_none_or(|known| known == *dependency) =>
                {
                    away = Some(*dependency);
                    longest_hint = longest_hint.max(*after);
                }
                _ => {
                    if let Some(dependency) = missing.take() {
                        self.circuits.close(dependency);
                    }
                    // A task that ended in another way got past the dependency, so it is back for
                    // all.
                    return jittered(self.timing.delay(1));
                }
            }
        }
        let Some(dependency) = away else { return Duration::ZERO };
        // Said once for each outage, not at every probe.
        if missing.is_none() {
            let reason = batch.first().and_then(|(_, verdict)| verdict.reason()).unwrap_or_default();
            tracing::warn!(stage.name = self.stage.name().name(), reason, "waiting for what is away");
        }
        *missing = Some(dependency);
        self.circuits.open(dependency, &self.timing, longest_hint, Instant::now())
    }

    fn count(&self, report: BatchReport, elapsed: Duration) {
        add(&self.counters.succeeded, report.succeeded);
        add(&self.counters.retried, report.retried);
        add(&self.counters.waiting, report.waiting);
        add(&self.counters.failed, report.failed);
        add(&self.counters.batches, 1);
        add(&self.counters.busy_ms, u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX));
        tracing::debug!(
            stage.name = self.stage.name().name(),
            tasks.succeeded = report.succeeded,
            tasks.retried = report.retried,
            tasks.waiting = report.waiting,
            tasks.failed = report.failed,
            duration_ms = elapsed.as_secs_f64() * 1000.0,
            "batch done"
        );
    }
}

/// Heartbeats in the time of a lease. A choice: one may fail, and the next one is in time.
const BEATS_A_LEASE: u32 = 3;

/// Extends the leases of a worker after every third of a lease, for ever.
async fn beat_every_third(pool: PgPool, worker: Uuid, lease: Duration) {
    loop {
        tokio::time::sleep(lease / BEATS_A_LEASE).await;
        let beaten = match pool.acquire().await {
            Ok(mut connection) => tasks::heartbeat(&mut connection, worker, lease).await,
            Err(error) => Err(error),
        };
        if let Err(error) = beaten {
            tracing::warn!(error.message = chain(&error), "heartbeat failed");
        }
    }
}

async fn sleep_or_stop(duration: Duration, stop: &CancellationToken) {
    tokio::select! {
        () = tokio::time::sleep(duration) => {}
        () = stop.cancelled() => {}
    }
}
