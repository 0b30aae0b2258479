//! The work that waits for the device, and the one thread that owns it.
//!
//! A request is cut into micro-batches and the thread runs one micro-batch at a time: interactive requests before bulk
//! ones, requests of a class in turn, so that a large request delays a small one by a step and not by its whole length.
//! Before every step the request is dropped if its caller went away or its deadline passed.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::admission::{Admission, TokenPermit};
use crate::batcher;
use crate::error::Error;
use crate::metrics::Metrics;
use crate::model::{ComputeError, Extras, LoadedModel, Model, RowOutput};

/// Every so many steps a bulk request goes first, so that a stream of interactive ones cannot starve it.
const BULK_TURN: u64 = 8;

/// How urgent a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// A person is waiting.
    Interactive,
    /// Throughput matters.
    Bulk,
}

/// Rows for a model.
#[derive(Debug)]
pub struct Work {
    /// Who computes.
    pub model: Arc<LoadedModel>,
    /// Token ids per row, special tokens included.
    pub rows: Vec<Vec<u32>>,
    /// What to compute beside each row's vector.
    pub extras: Extras,
    /// Which queue to stand in.
    pub priority: Priority,
    /// Cancelled when the caller goes away.
    pub cancel: CancellationToken,
    /// When the answer is of no use any more.
    pub deadline: Option<Instant>,
    /// Room on the device, given back when the work ends in whatever way.
    pub permit: TokenPermit,
}

/// What the device made of the work.
#[derive(Debug)]
pub struct Done {
    /// One output per row; see [`Model::run`].
    pub outputs: Vec<RowOutput>,
    /// From submission to the first step.
    pub queued: Duration,
    /// Time on the device.
    pub compute: Duration,
}

/// Work handed in.
#[derive(Debug)]
pub struct Ticket {
    answer: oneshot::Receiver<Result<Done, Error>>,
    started: Arc<AtomicBool>,
    deadline: Option<Instant>,
}

impl Ticket {
    /// Waits for the answer, at most until the deadline.
    ///
    /// # Errors
    /// [`Error::ExpiredInQueue`] or [`Error::ExpiredRunning`] at the deadline, [`Error::Backend`] where the model
    /// failed, [`Error::Draining`] where the server stopped first.
    pub async fn wait(self) -> Result<Done, Error> {
        let answer = async { self.answer.await.unwrap_or(Err(Error::Draining)) };
        let Some(deadline) = self.deadline else { return answer.await };
        match tokio::time::timeout_at(deadline.into(), answer).await {
            Ok(answer) => answer,
            Err(_) if self.started.load(Ordering::Relaxed) => Err(Error::ExpiredRunning),
            Err(_) => Err(Error::ExpiredInQueue),
        }
    }
}

struct Job {
    work: Work,
    plan: VecDeque<Vec<usize>>,
    outputs: Vec<RowOutput>,
    submitted: Instant,
    queued: Option<Duration>,
    compute: Duration,
    started: Arc<AtomicBool>,
    answer: oneshot::Sender<Result<Done, Error>>,
}

impl Job {
    /// Why the job is of no use any more.
    fn abandoned(&self) -> Option<Error> {
        if self.work.cancel.is_cancelled() || self.answer.is_closed() {
            return Some(Error::Cancelled);
        }
        let late = self.work.deadline.is_some_and(|deadline| Instant::now() >= deadline);
        late.then_some(if self.queued.is_none() { Error::ExpiredInQueue } else { Error::ExpiredRunning })
    }

    fn finish(self, result: Result<(), Error>) {
        let done = result.map(|()| Done {
            outputs: self.outputs,
            queued: self.queued.unwrap_or_default(),
            compute: self.compute,
        });
        drop(self.work.permit);
        // A closed channel means that nobody waits any more.
        let _ = self.answer.send(done);
    }
}

#[derive(Default)]
struct State {
    interactive: VecDeque<Job>,
    bulk: VecDeque<Job>,
    steps: u64,
    closed: bool,
}

impl State {
    fn pop(&mut self) -> Option<Job> {
        self.steps += 1;
        let (first, second) = if self.steps.is_multiple_of(BULK_TURN) {
            (&mut self.bulk, &mut self.interactive)
        } else {
            (&mut self.interactive, &mut self.bulk)
        };
        first.pop_front().or_else(|| second.pop_front())
    }

    fn push(&mut self, job: Job) {
        match job.work.priority {
            Priority::Interactive => self.interactive.push_back(job),
            Priority::Bulk => self.bulk.push_back(job),
        }
    }
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    ready: Condvar,
}

impl Shared {
    fn push(&self, job: Job) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.closed {
            drop(state);
            return job.finish(Err(Error::Draining));
        }
        state.push(job);
        drop(state);
        self.ready.notify_one();
    }

    /// The next job, or `None` once closed.
    fn next(&self) -> Option<Job> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if state.closed {
                return None;
            }
            if let Some(job) = state.pop() {
                return Some(job);
            }
            state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn close(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.closed = true;
        state.interactive.clear();
        state.bulk.clear();
        drop(state);
        self.ready.notify_all();
    }
}

/// Handle to the device thread; dropping it stops the thread after its current step.
pub struct Queue {
    shared: Arc<Shared>,
    batch_tokens: usize,
    lost: CancellationToken,
}

struct Executor {
    shared: Arc<Shared>,
    admission: Arc<Admission>,
    metrics: Arc<Metrics>,
    lost: CancellationToken,
}

impl Queue {
    /// Starts the device thread; a micro-batch holds at most `batch_tokens` tokens (or one row).
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn start(
        batch_tokens: usize,
        admission: Arc<Admission>,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let lost = CancellationToken::new();
        let executor = Executor { shared: Arc::clone(&shared), admission, metrics, lost: lost.clone() };
        thread::Builder::new().name("device".to_owned()).spawn(move || executor.run())?;
        Ok(Self { shared, batch_tokens, lost })
    }

    /// Puts work in line.
    pub fn submit(&self, work: Work) -> Ticket {
        let lengths: Vec<usize> = work.rows.iter().map(Vec::len).collect();
        let (sender, answer) = oneshot::channel();
        let started = Arc::new(AtomicBool::new(false));
        let deadline = work.deadline;
        let job = Job {
            plan: batcher::plan(&lengths, self.batch_tokens).into(),
            outputs: vec![RowOutput::default(); lengths.len()],
            submitted: Instant::now(),
            queued: None,
            compute: Duration::ZERO,
            started: Arc::clone(&started),
            answer: sender,
            work,
        };
        self.shared.push(job);
        Ticket { answer, started, deadline }
    }

    /// Cancelled once the device is lost: the process must be restarted.
    pub fn device_lost(&self) -> CancellationToken {
        self.lost.clone()
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl Executor {
    fn run(&self) {
        while let Some(mut job) = self.shared.next() {
            if let Some(reason) = job.abandoned() {
                self.metrics.dropped(reason.reason());
                job.finish(Err(reason));
                continue;
            }
            match self.step(&mut job) {
                Ok(()) if job.plan.is_empty() => job.finish(Ok(())),
                Ok(()) => self.shared.push(job),
                Err(error) => {
                    tracing::error!(
                        model.name = job.work.model.info.name,
                        error.message = %error,
                        "forward pass failed"
                    );
                    if matches!(error, ComputeError::DeviceLost(_)) {
                        self.lost.cancel();
                    }
                    job.finish(Err(Error::Backend));
                }
            }
        }
    }

    /// Runs one micro-batch of the job.
    fn step(&self, job: &mut Job) -> Result<(), ComputeError> {
        let Some(batch) = job.plan.pop_front() else { return Ok(()) };
        if job.queued.is_none() {
            job.queued = Some(job.submitted.elapsed());
            job.started.store(true, Ordering::Relaxed);
            self.metrics.queued(job.submitted.elapsed());
        }
        let rows: Vec<&[u32]> = batch.iter().map(|&row| job.work.rows[row].as_slice()).collect();
        let tokens = rows.iter().map(|row| row.len()).sum();
        let started = Instant::now();
        let outputs = compute(job.work.model.network.as_ref(), &rows, job.work.extras)?;
        let elapsed = started.elapsed();
        job.compute += elapsed;
        self.admission.observe(tokens, elapsed);
        self.metrics.computed(&job.work.model.info.name, rows.len(), tokens, elapsed);
        for (row, output) in batch.into_iter().zip(outputs) {
            job.outputs[row] = output;
        }
        Ok(())
    }
}

/// Runs the model, halving a batch that does not fit into memory; a panic is a failure of this batch only.
fn compute(network: &dyn Model, rows: &[&[u32]], extras: Extras) -> Result<Vec<RowOutput>, ComputeError> {
    let result = catch_unwind(AssertUnwindSafe(|| network.run(rows, extras)))
        .unwrap_or_else(|_| Err(ComputeError::Failed("the model panicked".to_owned())));
    match result {
        Err(ComputeError::OutOfMemory(_)) if rows.len() > 1 => {
            let (first, second) = rows.split_at(rows.len() / 2);
            let mut outputs = compute(network, first, extras)?;
            outputs.extend(compute(network, second, extras)?);
            Ok(outputs)
        }
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers each row's length; does not fit more than two rows, and panics on token 13.
    struct Small;

    impl Model for Small {
        fn run(&self, rows: &[&[u32]], _extras: Extras) -> Result<Vec<RowOutput>, ComputeError> {
            if rows.len() > 2 {
                return Err(ComputeError::OutOfMemory("three rows".to_owned()));
            }
            assert!(rows.iter().all(|row| !row.contains(&13)));
            Ok(rows.iter().map(|row| vec![row.len() as f32].into()).collect())
        }
    }

    #[test]
    fn a_batch_that_does_not_fit_is_halved() {
        let rows: [&[u32]; 5] = [&[1], &[1, 1], &[1, 1, 1], &[1; 4], &[1; 5]];
        let outputs = compute(&Small, &rows, Extras::default()).unwrap();
        let values: Vec<&[f32]> = outputs.iter().map(|output| output.values.as_slice()).collect();
        assert_eq!(values, [[1.0], [2.0], [3.0], [4.0], [5.0]]);
    }

    #[test]
    fn a_panic_fails_the_batch() {
        assert!(matches!(compute(&Small, &[&[13]], Extras::default()), Err(ComputeError::Failed(_))));
    }
}
