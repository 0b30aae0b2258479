//! The work that waits for the device, and the threads that hand it over.
//!
//! Rows of all requests stand in the [`Batcher`]. While the device computes one batch, a second
//! thread hands out the answers of the one before and prepares the next; rows that arrive meanwhile
//! still join it, and interactive ones send a prepared batch with bulk rows back. An idle device
//! takes what there is at once. A GPU is handed a second batch behind the one it is at, so that it
//! need not wait for the host in between, but only a full one: a small one would give away the rows
//! that still may join it. Before every batch the rows of requests whose caller went away or whose
//! deadline passed are dropped.

mod compute;
mod job;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::device::arbiter::DeviceArbiter;
use crate::error::Error;
use crate::metrics::Metrics;
use crate::models::{ComputeError, Extras, RowOutput};
use crate::registry::loaded::LoadedModel;
use crate::scheduler::admission::{Admission, TokenPermit};
pub use crate::scheduler::batcher::Priority;
use crate::scheduler::batcher::{self, Batch, Batcher};
use compute::compute;
pub use job::Ticket;
use job::{Job, Row};

/// Who asks, and whom: the work of one lane takes its turns as one, however many pieces it is
/// handed in by.
#[derive(Debug, Clone)]
pub struct Lane {
    model: Arc<LoadedModel>,
    extras: Extras,
    turns: Arc<batcher::Lane>,
}

impl Lane {
    /// One for each request; one for a whole stream.
    pub fn new(model: &Arc<LoadedModel>, priority: Priority) -> Self {
        // The lane keeps the model alive, so its address is not given to another meanwhile.
        let group = Arc::as_ptr(model).addr();
        let turns = batcher::Lane::new(group, priority);
        Self { model: Arc::clone(model), extras: Extras::default(), turns }
    }

    /// The same lane, whose rows are computed with these extras.
    pub fn with_extras(self, extras: Extras) -> Self {
        Self { extras, ..self }
    }

    /// What to compute beside each row's vector.
    pub fn extras(&self) -> Extras {
        self.extras
    }

    /// Who computes.
    pub fn model(&self) -> &Arc<LoadedModel> {
        &self.model
    }
}

/// Rows for a model.
#[derive(Debug)]
pub struct Work {
    /// Who computes, and whose turn it is.
    pub lane: Lane,
    /// Token ids per row, special tokens included.
    pub rows: Vec<Vec<u32>>,
    /// Cancelled when the caller goes away.
    pub cancel: CancellationToken,
    /// When the answer is of no use any more.
    pub deadline: Option<Instant>,
    /// When it is of no use any more to begin.
    pub begin_by: Option<Instant>,
    /// Room on the device, given back as rows are computed, and whole when the work ends in
    /// whatever way.
    pub permit: TokenPermit,
}

/// What the device made of the work.
#[derive(Debug)]
pub struct Done {
    /// One output per row; see [`crate::models::Model::run`].
    pub outputs: Vec<RowOutput>,
    /// From submission to the first batch with a row of the work.
    pub queued: Duration,
    /// Time of the batches that held its rows, whoever else had rows in them.
    pub compute: Duration,
}

/// A batch that came back from the device.
struct Finished {
    rows: Vec<Row>,
    results: Vec<Result<RowOutput, ComputeError>>,
    elapsed: Duration,
}

struct State {
    batcher: Batcher<Row>,
    jobs: Vec<Arc<Job>>,
    /// What the device takes next; rows may still join it.
    prepared: Batch<Row>,
    finished: Vec<Finished>,
    /// Batches that the device is at.
    busy: usize,
    closed: bool,
    /// Device threads that did not end: from the others nothing comes back any more.
    threads: usize,
}

impl State {
    fn push(&mut self, job: Arc<Job>, rows: Vec<Row>) {
        let urgent = job.lane.turns.priority() == Priority::Interactive;
        if urgent && self.prepared.has_bulk() {
            self.batcher.put_back(std::mem::take(&mut self.prepared));
        }
        self.batcher.push(&job.lane.turns, rows.into_iter().map(|row| (row.ids.len(), row)));
        self.jobs.push(job);
    }

    /// Adds waiting rows to the prepared batch; whether no more will join it.
    fn prepare(&mut self) -> bool {
        self.batcher.fill(&mut self.prepared);
        !self.prepared.is_empty()
            && (!self.batcher.is_empty() || self.prepared.tokens() >= self.batcher.budget())
    }

    /// Ends the jobs that are of no use any more, and drops their rows.
    fn sweep(&mut self, metrics: &Metrics) {
        let mut rows_left = false;
        self.jobs.retain(|job| {
            if let Some(reason) = job.abandoned().filter(|_| !job.ended()) {
                metrics.dropped(reason.reason());
                job.end(Err(reason));
            }
            rows_left |= job.ended() && job.has_rows();
            !job.ended()
        });
        if rows_left {
            self.batcher.retain(|row| !row.job.ended());
            self.prepared.retain(|row| !row.job.ended());
        }
    }

    fn close(&mut self) {
        self.closed = true;
        // Whoever waits for one of these learns it from the closed channel.
        self.batcher.retain(|_| false);
        self.prepared = Batch::default();
        self.jobs.clear();
    }
}

struct Shared {
    state: Mutex<State>,
    device: Condvar,
    helper: Condvar,
    admission: Arc<Admission>,
    metrics: Arc<Metrics>,
    arbiter: Arc<DeviceArbiter>,
    /// When the batch before came back.
    ended: Mutex<Option<Instant>>,
    lost: CancellationToken,
}

/// Handle to the device; dropping it stops the device after its current batch.
pub struct Queue {
    shared: Arc<Shared>,
}

impl Queue {
    /// Starts the threads; a batch holds at most `batch_tokens` tokens (or one row), and the device
    /// is at `in_flight` batches at most.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(
        batch_tokens: usize,
        in_flight: usize,
        admission: Arc<Admission>,
        metrics: Arc<Metrics>,
        arbiter: Arc<DeviceArbiter>,
    ) -> std::io::Result<Self> {
        let state = State {
            batcher: Batcher::new(batch_tokens),
            jobs: Vec::new(),
            prepared: Batch::default(),
            finished: Vec::new(),
            busy: 0,
            closed: false,
            threads: in_flight,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            device: Condvar::new(),
            helper: Condvar::new(),
            admission,
            metrics,
            arbiter,
            ended: Mutex::default(),
            lost: CancellationToken::new(),
        });
        let queue = Self { shared: Arc::clone(&shared) };
        for index in 0..in_flight {
            let shared = Arc::clone(&shared);
            thread::Builder::new().name(format!("device-{index}")).spawn(move || shared.run_device())?;
        }
        thread::Builder::new().name("batches".to_owned()).spawn(move || shared.run_helper())?;
        Ok(queue)
    }

    /// Puts work in line.
    pub fn submit(&self, work: Work) -> Ticket {
        let (job, rows, ticket) = Job::new(work);
        let mut state = self.shared.state();
        if state.closed {
            job.end(Err(Error::Draining));
        } else if rows.is_empty() {
            job.end(Ok(()));
        } else {
            state.push(job, rows);
            let waker = if state.busy > 0 { &self.shared.helper } else { &self.shared.device };
            waker.notify_one();
        }
        ticket
    }

    /// Cancelled once the device is lost: the process must be restarted.
    pub fn device_lost(&self) -> CancellationToken {
        self.shared.lost.clone()
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.shared.state().close();
        self.shared.device.notify_all();
        self.shared.helper.notify_all();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run_device(&self) {
        while let Some(rows) = self.next() {
            let finished = self.compute(rows);
            let mut state = self.state();
            state.busy -= 1;
            state.finished.push(finished);
            drop(state);
            self.helper.notify_one();
        }
        self.state().threads -= 1;
        self.helper.notify_one();
    }

    /// The next batch as soon as there is one, behind another a full one; or `None` once closed.
    fn next(&self) -> Option<Vec<Row>> {
        let mut state = self.state();
        loop {
            if state.closed {
                return None;
            }
            state.sweep(&self.metrics);
            let full = state.prepare();
            if full || (state.busy == 0 && !state.prepared.is_empty()) {
                let batch = std::mem::take(&mut state.prepared);
                state.busy += 1;
                drop(state);
                self.helper.notify_one();
                return Some(batch.into_rows());
            }
            state = self.device.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn compute(&self, rows: Vec<Row>) -> Finished {
        for row in &rows {
            if let Some(waited) = row.job.begin() {
                self.metrics.queued(waited);
            }
        }
        let ids: Vec<&[u32]> = rows.iter().map(|row| row.ids.as_slice()).collect();
        let tokens = ids.iter().map(|ids| ids.len()).sum();
        let model = &rows[0].job.lane.model;
        let turn = self.arbiter.shared();
        let started = Instant::now();
        let extras = rows.iter().fold(Extras::default(), |all, row| all | row.job.lane.extras);
        let results = compute(&model.network, &ids, extras);
        drop(turn);
        let elapsed = self.device_time(started);
        self.admission.observe(tokens, elapsed);
        self.metrics.computed(&model.info.name, rows.len(), tokens, elapsed);
        if results.iter().any(|row| matches!(row, Err(ComputeError::DeviceLost(_)))) {
            self.lost.cancel();
        }
        Finished { rows, results, elapsed }
    }

    /// The time of a batch that just came back, less what the device was still at the one before.
    fn device_time(&self, started: Instant) -> Duration {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let (before, now) = (ended.unwrap_or(started), Instant::now());
        *ended = Some(now);
        now.saturating_duration_since(started.max(before))
    }

    /// Hands out answers and prepares the next batch while the device computes.
    fn run_helper(&self) {
        let mut state = self.state();
        loop {
            let finished = std::mem::take(&mut state.finished);
            if !finished.is_empty() {
                drop(state);
                finished.into_iter().for_each(answer);
                state = self.state();
                // A job that was answered must not keep its model in memory until the next one
                // comes.
                state.jobs.retain(|job| !job.ended() || job.has_rows());
                continue;
            }
            if state.threads == 0 {
                return;
            }
            if state.busy > 0 && state.prepare() {
                self.device.notify_one();
            }
            state = self.helper.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn answer(finished: Finished) {
    let Finished { rows, results, elapsed } = finished;
    let mut jobs: Vec<&Arc<Job>> = rows.iter().map(|row| &row.job).collect();
    jobs.sort_unstable_by_key(|job| Arc::as_ptr(job));
    jobs.dedup_by_key(|job| Arc::as_ptr(job));
    jobs.into_iter().for_each(|job| job.spent(elapsed));
    for (row, result) in rows.iter().zip(results) {
        let output = result.map_err(|error| {
            let model = &row.job.lane.model.info.name;
            tracing::error!(model.name = model, error.message = %error, "forward pass failed");
            Error::Backend
        });
        row.job.row(row.index, row.ids.len(), output);
    }
}
