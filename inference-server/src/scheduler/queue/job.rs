//! A request inside the queue: its rows come back in any order, its answer is sent once.
//!
//! A [`Job`] is shared by its rows; the caller waits on the [`Ticket`]. The job's permit shrinks
//! with every row and is released before the answer is sent.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::work::{Work, WorkOutput, WorkSource};
use crate::error::Error;
use crate::models::RowOutput;
use crate::scheduler::admission::{Admission, TokenPermit};

type Answer = oneshot::Sender<Result<WorkOutput, Error>>;

/// Submitted work. Dropping it cancels the work: rows that have not been computed never are.
#[derive(Debug)]
pub struct Ticket {
    answer: oneshot::Receiver<Result<WorkOutput, Error>>,
    limits: Arc<TimeLimits>,
}

/// Deadlines of a job.
#[derive(Debug)]
struct TimeLimits {
    deadline: Option<Instant>,
    begin_by: Option<Instant>,
    /// True if a row has reached the device; `begin_by` no longer matters then.
    started: AtomicBool,
    admission: Arc<Admission>,
}

impl TimeLimits {
    fn started(&self) -> bool {
        self.started.load(Ordering::Relaxed)
    }

    /// Earliest deadline that still applies.
    fn next_deadline(&self) -> Option<Instant> {
        let begin_by = self.begin_by.filter(|_| !self.started());
        [self.deadline, begin_by].into_iter().flatten().min()
    }

    /// Error of the deadline that has passed, if any.
    fn expired(&self) -> Option<Error> {
        let now = Instant::now();
        if self.deadline.is_some_and(|deadline| now >= deadline) {
            return Some(if self.started() { Error::ExpiredRunning } else { Error::ExpiredInQueue });
        }
        let late = self.begin_by.is_some_and(|begin_by| now >= begin_by);
        (late && !self.started())
            .then(|| Error::QueueTimeout { retry_after: self.admission.drain_estimate() })
    }
}

impl Ticket {
    /// Waits for the answer until a deadline passes.
    ///
    /// # Errors
    /// [`Error::QueueTimeout`] if the work did not start in time, [`Error::ExpiredInQueue`] or
    /// [`Error::ExpiredRunning`] at the deadline, [`Error::Backend`] if the model failed,
    /// [`Error::Draining`] if the server stopped first.
    pub async fn wait(mut self) -> Result<WorkOutput, Error> {
        loop {
            let answer = &mut self.answer;
            let Some(end) = self.limits.next_deadline() else {
                return answer.await.unwrap_or(Err(Error::Draining));
            };
            match tokio::time::timeout_at(end.into(), answer).await {
                Ok(answer) => return answer.unwrap_or(Err(Error::Draining)),
                // Work that started in time may go on until its deadline.
                Err(_) => {
                    if let Some(error) = self.limits.expired() {
                        return Err(error);
                    }
                }
            }
        }
    }
}

/// State shared by the rows of one piece of work.
pub(super) struct Job {
    pub(super) source: WorkSource,
    cancel: CancellationToken,
    submitted: Instant,
    limits: Arc<TimeLimits>,
    finished: AtomicBool,
    progress: Mutex<Progress>,
}

struct Progress {
    /// Empty until the first row comes back.
    outputs: Vec<RowOutput>,
    rows: usize,
    rows_left: usize,
    tokens_left: u64,
    queued: Duration,
    compute: Duration,
    /// Taken when the job finishes, successfully or not.
    open: Option<(Answer, TokenPermit)>,
}

/// One row of a job.
pub(super) struct Row {
    pub(super) job: Arc<Job>,
    pub(super) index: usize,
    pub(super) ids: Vec<u32>,
}

impl Job {
    /// Creates the job, its rows (shortest first) and the ticket for its answer.
    pub(super) fn new(work: Work) -> (Arc<Self>, Vec<Row>, Ticket) {
        let Work { source, rows, cancel, deadline, begin_by, permit } = work;
        let (sender, answer) = oneshot::channel();
        let (started, admission) = (AtomicBool::new(false), permit.admission());
        let limits = Arc::new(TimeLimits { deadline, begin_by, started, admission });
        let ticket = Ticket { answer, limits: Arc::clone(&limits) };
        let progress = Progress {
            outputs: Vec::new(),
            rows: rows.len(),
            rows_left: rows.len(),
            tokens_left: rows.iter().map(|row| row.len() as u64).sum(),
            queued: Duration::ZERO,
            compute: Duration::ZERO,
            open: Some((sender, permit)),
        };
        let job = Arc::new(Self {
            source,
            cancel,
            submitted: Instant::now(),
            limits,
            finished: AtomicBool::new(false),
            progress: Mutex::new(progress),
        });
        let rows = rows.into_iter().enumerate();
        let mut rows: Vec<Row> = rows.map(|(index, ids)| Row { job: Arc::clone(&job), index, ids }).collect();
        // Equal lengths arrive side by side, which is how batches are packed.
        rows.sort_by_key(|row| row.ids.len());
        (job, rows, ticket)
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns true if the answer has been sent; rows that are left need not be computed.
    pub(super) fn is_finished(&self) -> bool {
        // Acquire, with the release in `finish`: who sees the job finished sees its answer taken.
        self.finished.load(Ordering::Acquire)
    }

    /// Returns true if rows are waiting or on the device.
    pub(super) fn has_rows(&self) -> bool {
        self.progress().rows_left > 0
    }

    /// Reason to abort the job: its caller left or a deadline passed.
    pub(super) fn abort_reason(&self) -> Option<Error> {
        if self.cancel.is_cancelled() || self.progress().open.as_ref().is_some_and(|open| open.0.is_closed())
        {
            return Some(Error::Cancelled);
        }
        self.limits.expired()
    }

    /// Records that a row reached the device; returns how long the job waited, the first time.
    pub(super) fn start(&self) -> Option<Duration> {
        // A swap, as rows of one job may reach two device threads at once; exactly one reports the
        // wait.
        if self.limits.started.swap(true, Ordering::Relaxed) {
            return None;
        }
        let waited = self.submitted.elapsed();
        self.progress().queued = waited;
        Some(waited)
    }

    /// Adds the time of a batch that held rows of the job.
    pub(super) fn add_compute(&self, elapsed: Duration) {
        self.progress().compute += elapsed;
    }

    /// Stores the output of a row. The last row finishes the job, and so does a row that failed.
    pub(super) fn complete_row(&self, index: usize, tokens: usize, output: Result<RowOutput, Error>) {
        let mut progress = self.progress();
        progress.rows_left -= 1;
        progress.tokens_left -= tokens as u64;
        let left = progress.tokens_left;
        if let Some((_, permit)) = &mut progress.open {
            // Row by row: others may be admitted while a large request is still computed.
            permit.shrink(left);
        }
        let result = match output {
            Ok(output) => {
                let rows = progress.rows;
                progress.outputs.resize(rows, RowOutput::default());
                progress.outputs[index] = output;
                if progress.rows_left > 0 {
                    return;
                }
                Ok(())
            }
            Err(error) => Err(error),
        };
        drop(progress);
        self.finish(result);
    }

    /// Sends the answer, unless one has been sent.
    pub(super) fn finish(&self, result: Result<(), Error>) {
        let mut progress = self.progress();
        // Taken under the lock, so that one of several ends wins and the answer is sent once.
        let Some((answer, permit)) = progress.open.take() else { return };
        let output = result.map(|()| WorkOutput {
            outputs: std::mem::take(&mut progress.outputs),
            queued: progress.queued,
            compute: progress.compute,
        });
        drop(progress);
        self.finished.store(true, Ordering::Release);
        // Released first, so that a caller who has the answer finds the tokens free.
        drop(permit);
        // A closed channel means that the caller left.
        let _ = answer.send(output);
    }
}
