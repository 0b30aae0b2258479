//! The queue in front of the device, and the threads that run it.
//!
//! Rows of all requests wait in the [`Batcher`]. While the device computes one batch, a helper
//! thread distributes the results of the previous one and prepares the next; rows that arrive
//! meanwhile still join it, and an interactive row sends a prepared batch with bulk rows back. An
//! idle device takes whatever is waiting at once. A GPU gets a second batch behind the running one,
//! so that it never waits for the host in between, but only a full one: a small batch would be
//! closed to rows that may still join it. Before every batch the rows of requests whose caller left
//! or whose deadline passed are dropped.

mod compute;
mod job;
mod work;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::device::arbiter::DeviceArbiter;
use crate::error::Error;
use crate::metrics::Metrics;
use crate::models::{ComputeError, Extras, RowOutput};
use crate::scheduler::admission::Admission;
pub use crate::scheduler::batcher::Priority;
use crate::scheduler::batcher::{Batch, Batcher};
use compute::compute;
pub use job::Ticket;
use job::{Job, Row};
pub(crate) use work::WorkOutput;
pub use work::{Work, WorkSource};

/// A batch that came back from the device.
struct FinishedBatch {
    rows: Vec<Row>,
    results: Vec<Result<RowOutput, ComputeError>>,
    elapsed: Duration,
}

struct State {
    batcher: Batcher<Row>,
    jobs: Vec<Arc<Job>>,
    /// The next batch; rows may still join it.
    prepared: Batch<Row>,
    finished: Vec<FinishedBatch>,
    /// Batches on the device.
    in_flight: usize,
    closed: bool,
    /// Device threads that have not ended: more results may come as long as there is one.
    device_threads: usize,
}

impl State {
    fn push(&mut self, job: Arc<Job>, rows: Vec<Row>) {
        let interactive = job.source.share().priority() == Priority::Interactive;
        // Put back and filled again: fair queueing then takes the interactive rows first.
        if interactive && self.prepared.has_bulk() {
            self.batcher.put_back(std::mem::take(&mut self.prepared));
        }
        self.batcher.push(job.source.share(), rows.into_iter().map(|row| (row.ids.len(), row)));
        self.jobs.push(job);
    }

    /// Adds waiting rows to the prepared batch; returns whether it is full.
    fn prepare(&mut self) -> bool {
        self.batcher.fill(&mut self.prepared);
        // None of the rows left over fits: waiting for one that does would only delay them.
        !self.prepared.is_empty()
            && (!self.batcher.is_empty() || self.prepared.tokens() >= self.batcher.budget())
    }

    /// Ends jobs whose caller left or whose deadline passed, and drops their rows.
    fn drop_abandoned(&mut self, metrics: &Metrics) {
        let mut rows_left = false;
        self.jobs.retain(|job| {
            if let Some(reason) = job.abort_reason().filter(|_| !job.is_finished()) {
                metrics.dropped(reason.reason());
                job.finish(Err(reason));
            }
            rows_left |= job.is_finished() && job.has_rows();
            !job.is_finished()
        });
        if rows_left {
            self.batcher.retain(|row| !row.job.is_finished());
            self.prepared.retain(|row| !row.job.is_finished());
        }
    }

    fn close(&mut self) {
        self.closed = true;
        // Dropping the rows and jobs closes their channels, which their tickets report as draining.
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
    /// When the previous batch came back.
    last_finished: Mutex<Option<Instant>>,
    lost: CancellationToken,
}

/// Handle to the device; dropping it stops the device after its current batch.
pub struct Queue {
    shared: Arc<Shared>,
}

impl Queue {
    /// Starts the threads. A batch holds at most `batch_tokens` tokens (or one row), and at most
    /// `in_flight` batches are on the device at a time.
    ///
    /// # Errors
    /// If a thread cannot be spawned.
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
            in_flight: 0,
            closed: false,
            device_threads: in_flight,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            device: Condvar::new(),
            helper: Condvar::new(),
            admission,
            metrics,
            arbiter,
            last_finished: Mutex::default(),
            lost: CancellationToken::new(),
        });
        let queue = Self { shared: Arc::clone(&shared) };
        // A thread for each batch in flight: it blocks in the device's calls.
        for index in 0..in_flight {
            let shared = Arc::clone(&shared);
            thread::Builder::new().name(format!("device-{index}")).spawn(move || shared.run_device())?;
        }
        thread::Builder::new().name("batches".to_owned()).spawn(move || shared.run_helper())?;
        Ok(queue)
    }

    /// Enqueues work and returns the ticket for its result.
    pub fn submit(&self, work: Work) -> Ticket {
        let (job, rows, ticket) = Job::new(work);
        let mut state = self.shared.state();
        if state.closed {
            job.finish(Err(Error::Draining));
        } else if rows.is_empty() {
            job.finish(Ok(()));
        } else {
            state.push(job, rows);
            // A busy device takes the rows from the batch that the helper prepares.
            let waker = if state.in_flight > 0 { &self.shared.helper } else { &self.shared.device };
            waker.notify_one();
        }
        ticket
    }

    /// Token that is cancelled once the device is lost: the process must be restarted.
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
        while let Some(rows) = self.next_batch() {
            let finished = self.compute(rows);
            let mut state = self.state();
            state.in_flight -= 1;
            state.finished.push(finished);
            drop(state);
            self.helper.notify_one();
        }
        self.state().device_threads -= 1;
        self.helper.notify_one();
    }

    /// Waits for the next batch: any batch if the device is idle, else a full one. Returns `None`
    /// once the queue is closed.
    fn next_batch(&self) -> Option<Vec<Row>> {
        let mut state = self.state();
        loop {
            if state.closed {
                return None;
            }
            // As late as possible, so that rows whose caller has left do not take the place of
            // others.
            state.drop_abandoned(&self.metrics);
            let full = state.prepare();
            if full || (state.in_flight == 0 && !state.prepared.is_empty()) {
                let batch = std::mem::take(&mut state.prepared);
                state.in_flight += 1;
                drop(state);
                self.helper.notify_one();
                return Some(batch.into_rows());
            }
            state = self.device.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn compute(&self, rows: Vec<Row>) -> FinishedBatch {
        for row in &rows {
            if let Some(waited) = row.job.start() {
                self.metrics.queued(waited);
            }
        }
        let ids: Vec<&[u32]> = rows.iter().map(|row| row.ids.as_slice()).collect();
        let tokens = ids.iter().map(|ids| ids.len()).sum();
        // All rows of a batch are of one group, hence of one model.
        let model = rows[0].job.source.model();
        let grant = self.arbiter.shared();
        let started = Instant::now();
        // The union for the batch: an output may hold more than a row asked for, and callers take
        // their part.
        let extras = rows.iter().fold(Extras::default(), |all, row| all | row.job.source.extras());
        let results = compute(model.as_ref(), &ids, extras);
        drop(grant);
        let elapsed = self.device_time(started);
        self.admission.observe(tokens, elapsed);
        self.metrics.computed(model.name(), rows.len(), tokens, elapsed);
        if results.iter().any(|row| matches!(row, Err(ComputeError::DeviceLost(_)))) {
            // Only a restart helps: a CUDA context that has failed stays unusable in its process.
            self.lost.cancel();
        }
        FinishedBatch { rows, results, elapsed }
    }

    /// Time of a batch that just came back, less the part in which the device was still busy with
    /// the previous one.
    fn device_time(&self, started: Instant) -> Duration {
        let mut last = self.last_finished.lock().unwrap_or_else(PoisonError::into_inner);
        let (previous, now) = (last.unwrap_or(started), Instant::now());
        *last = Some(now);
        now.saturating_duration_since(started.max(previous))
    }

    /// Distributes results and prepares the next batch while the device computes.
    fn run_helper(&self) {
        let mut state = self.state();
        loop {
            let finished = std::mem::take(&mut state.finished);
            if !finished.is_empty() {
                drop(state);
                finished.into_iter().for_each(distribute);
                state = self.state();
                // An answered job must not keep its model in memory until the next one comes.
                state.jobs.retain(|job| !job.is_finished() || job.has_rows());
                continue;
            }
            // Not when closed: the last batches still come back and have to be answered.
            if state.device_threads == 0 {
                return;
            }
            if state.in_flight > 0 && state.prepare() {
                self.device.notify_one();
            }
            state = self.helper.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Hands each result of a batch to the job of its row.
fn distribute(finished: FinishedBatch) {
    let FinishedBatch { rows, results, elapsed } = finished;
    let mut jobs: Vec<&Arc<Job>> = rows.iter().map(|row| &row.job).collect();
    // A job counts the time of a batch once, however many of its rows were in it.
    jobs.sort_unstable_by_key(|job| Arc::as_ptr(job));
    jobs.dedup_by_key(|job| Arc::as_ptr(job));
    jobs.into_iter().for_each(|job| job.add_compute(elapsed));
    for (row, result) in rows.iter().zip(results) {
        let output = result.map_err(|error| {
            let model = row.job.source.model().name();
            tracing::error!(model.name = model, error.message = %error, "forward pass failed");
            Error::Backend
        });
        row.job.complete_row(row.index, row.ids.len(), output);
    }
}
