//! A request on its way through the queue: its rows come back in any order, its answer goes out
//! once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::{Done, Lane, Work};
use crate::error::Error;
use crate::models::RowOutput;
use crate::scheduler::admission::{Admission, TokenPermit};

type Answer = oneshot::Sender<Result<Done, Error>>;

/// Work handed in. Dropping it gives the work up: what was not computed yet never is.
#[derive(Debug)]
pub struct Ticket {
    answer: oneshot::Receiver<Result<Done, Error>>,
    limits: Arc<TimeLimits>,
}

/// Until when work is of use.
#[derive(Debug)]
struct TimeLimits {
    deadline: Option<Instant>,
    begin_by: Option<Instant>,
    started: AtomicBool,
    admission: Arc<Admission>,
}

impl TimeLimits {
    fn started(&self) -> bool {
        self.started.load(Ordering::Relaxed)
    }

    /// When the work is of no use any more, as things stand.
    fn end(&self) -> Option<Instant> {
        let begin_by = self.begin_by.filter(|_| !self.started());
        [self.deadline, begin_by].into_iter().flatten().min()
    }

    /// Why the work is of no use any more.
    fn passed(&self) -> Option<Error> {
        let now = Instant::now();
        let passed = |limit: Option<Instant>| limit.is_some_and(|limit| now >= limit);
        if passed(self.deadline) {
            return Some(if self.started() { Error::ExpiredRunning } else { Error::ExpiredInQueue });
        }
        let late = passed(self.begin_by) && !self.started();
        late.then(|| Error::QueueTimeout { retry_after: self.admission.drain_estimate() })
    }
}

impl Ticket {
    /// Waits for the answer, as long as it is of use.
    ///
    /// # Errors
    /// [`Error::QueueTimeout`] where the device had not begun in time, [`Error::ExpiredInQueue`] or
    /// [`Error::ExpiredRunning`] at the deadline, [`Error::Backend`] where the model failed,
    /// [`Error::Draining`] where the server stopped first.
    pub async fn wait(mut self) -> Result<Done, Error> {
        loop {
            let answer = &mut self.answer;
            let Some(end) = self.limits.end() else {
                return answer.await.unwrap_or(Err(Error::Draining));
            };
            match tokio::time::timeout_at(end.into(), answer).await {
                Ok(answer) => return answer.unwrap_or(Err(Error::Draining)),
                // Work that was begun in time may go on until the deadline.
                Err(_) => {
                    if let Some(error) = self.limits.passed() {
                        return Err(error);
                    }
                }
            }
        }
    }
}

/// What the rows of a piece of work share.
pub(super) struct Job {
    pub(super) lane: Lane,
    cancel: CancellationToken,
    submitted: Instant,
    limits: Arc<TimeLimits>,
    ended: AtomicBool,
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
    /// Taken when the job ends, in whatever way.
    open: Option<(Answer, TokenPermit)>,
}

/// One row of a job.
pub(super) struct Row {
    pub(super) job: Arc<Job>,
    pub(super) index: usize,
    pub(super) ids: Vec<u32>,
}

impl Job {
    /// The job, its rows (shortest first) and the ticket for its answer.
    pub(super) fn new(work: Work) -> (Arc<Self>, Vec<Row>, Ticket) {
        let Work { lane, rows, cancel, deadline, begin_by, permit } = work;
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
            lane,
            cancel,
            submitted: Instant::now(),
            limits,
            ended: AtomicBool::new(false),
            progress: Mutex::new(progress),
        });
        let row = |(index, ids)| Row { job: Arc::clone(&job), index, ids };
        let mut rows: Vec<Row> = rows.into_iter().enumerate().map(row).collect();
        rows.sort_by_key(|row| row.ids.len());
        (job, rows, ticket)
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the answer is out; what is left of the job is of no use then.
    pub(super) fn ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Whether rows of it have not come back.
    pub(super) fn has_rows(&self) -> bool {
        self.progress().rows_left > 0
    }

    /// Why the job is of no use any more.
    pub(super) fn abandoned(&self) -> Option<Error> {
        let gone = || self.progress().open.as_ref().is_some_and(|open| open.0.is_closed());
        if self.cancel.is_cancelled() || gone() {
            return Some(Error::Cancelled);
        }
        self.limits.passed()
    }

    /// The device takes a row of the job; how long the job waited, the first time.
    pub(super) fn begin(&self) -> Option<Duration> {
        if self.limits.started.swap(true, Ordering::Relaxed) {
            return None;
        }
        let waited = self.submitted.elapsed();
        self.progress().queued = waited;
        Some(waited)
    }

    /// A batch with rows of the job took this long.
    pub(super) fn spent(&self, elapsed: Duration) {
        self.progress().compute += elapsed;
    }

    /// A row came back; the last one answers, and so does a row that failed.
    pub(super) fn row(&self, index: usize, tokens: usize, output: Result<RowOutput, Error>) {
        let mut progress = self.progress();
        progress.rows_left -= 1;
        progress.tokens_left -= tokens as u64;
        let left = progress.tokens_left;
        if let Some((_, permit)) = &mut progress.open {
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
        self.end(result);
    }

    /// Answers, unless that has been done.
    pub(super) fn end(&self, result: Result<(), Error>) {
        let mut progress = self.progress();
        let Some((answer, permit)) = progress.open.take() else { return };
        let done = result.map(|()| Done {
            outputs: std::mem::take(&mut progress.outputs),
            queued: progress.queued,
            compute: progress.compute,
        });
        drop(progress);
        self.ended.store(true, Ordering::Release);
        drop(permit);
        // A closed channel means that nobody waits any more.
        let _ = answer.send(done);
    }
}
