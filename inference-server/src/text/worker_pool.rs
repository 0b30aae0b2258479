//! Threads with a bounded job queue, for tokenisation and for constraints.
//!
//! Jobs are CPU-bound, so they must not run on the async runtime. A full queue is an error at once,
//! and a job that panics loses its own result alone. A job whose caller cancelled is skipped when
//! it reaches a thread. Jobs share the model's tokenizer: its caches use `try_lock`, so threads do
//! not wait for each other.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

type Job = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    closed: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    ready: Condvar,
}

/// Handle to the threads. Dropping it discards queued jobs; running ones are finished.
pub(crate) struct WorkerPool {
    shared: Arc<Shared>,
    capacity: usize,
}

/// Error of a full queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full {
    /// Jobs in the queue.
    pub waiting: usize,
    /// Jobs in the queue from which on none are accepted.
    pub bound: usize,
}

impl WorkerPool {
    /// Starts threads named `<name>-<index>`. While `capacity` jobs are queued, no more are
    /// accepted.
    ///
    /// # Errors
    /// If a thread cannot be spawned.
    pub(crate) fn start(name: &str, threads: usize, capacity: usize) -> std::io::Result<Self> {
        let pool = Self { shared: Arc::default(), capacity };
        for index in 0..threads {
            let shared = Arc::clone(&pool.shared);
            thread::Builder::new().name(format!("{name}-{index}")).spawn(move || shared.run())?;
        }
        Ok(pool)
    }

    /// Queues all jobs or none. The receiver of a job fails if the job was cancelled or panicked.
    ///
    /// The capacity is checked before the jobs are added, so a large submission may exceed it: a
    /// request of many texts is never refused by an idle pool.
    ///
    /// # Errors
    /// [`Full`] if the queue is at capacity.
    pub(crate) fn submit<T: Send + 'static>(
        &self,
        cancel: &CancellationToken,
        jobs: Vec<impl FnOnce() -> T + Send + 'static>,
    ) -> Result<Vec<oneshot::Receiver<T>>, Full> {
        // One lock for the whole submission, so that its jobs are neighbours in the queue.
        let mut state = self.shared.state();
        let waiting = state.queue.len();
        if waiting >= self.capacity {
            return Err(Full { waiting, bound: self.capacity });
        }
        let mut receivers = Vec::with_capacity(jobs.len());
        for job in jobs {
            let (sender, receiver) = oneshot::channel();
            let cancel = cancel.clone();
            state.queue.push_back(Box::new(move || {
                if !cancel.is_cancelled() {
                    // The receiver may be gone by now.
                    let _ = sender.send(job());
                }
            }));
            receivers.push(receiver);
            self.shared.ready.notify_one();
        }
        Ok(receivers)
    }
}

impl Drop for WorkerPool {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.closed = true;
        // Dropping a job drops its sender, so its caller hears of it.
        state.queue.clear();
        self.shared.ready.notify_all();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Body of a thread.
    fn run(&self) {
        while let Some(job) = self.next() {
            if catch_unwind(AssertUnwindSafe(job)).is_err() {
                tracing::error!("a worker's job panicked");
            }
        }
    }

    /// Waits for a job; `None` once the pool is dropped.
    fn next(&self) -> Option<Job> {
        let mut state = self.state();
        loop {
            if state.closed {
                return None;
            }
            // First come, first served: shares of one request are neighbours and end together.
            if let Some(job) = state.queue.pop_front() {
                return Some(job);
            }
            state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn the_line_is_bounded_and_cancelled_jobs_are_skipped() {
        let workers = WorkerPool::start("test", 1, 2).unwrap();
        let (cancelled, kept) = (CancellationToken::new(), CancellationToken::new());
        let (entered, at_work) = mpsc::channel();
        let (open, gate) = mpsc::channel::<()>();
        let held = workers.submit(
            &kept,
            vec![move || {
                entered.send(()).unwrap();
                gate.recv().unwrap();
                1
            }],
        );
        at_work.recv().unwrap();
        let skipped = workers.submit(&cancelled, vec![|| 2]).unwrap();
        let more = workers.submit(&kept, vec![|| 3, || 4]).unwrap();
        assert_eq!(workers.submit(&kept, vec![|| 5]).unwrap_err(), Full { waiting: 3, bound: 2 });
        cancelled.cancel();
        open.send(()).unwrap();
        for (answer, expected) in held.unwrap().into_iter().chain(skipped).chain(more).zip([1, 0, 3, 4]) {
            assert_eq!(answer.await.unwrap_or(0), expected);
        }
    }

    #[tokio::test]
    async fn a_panic_loses_one_answer() {
        let workers = WorkerPool::start("test", 1, 9).unwrap();
        let kept = CancellationToken::new();
        let bad = workers.submit(&kept, vec![|| -> u8 { panic!("bad text") }]).unwrap();
        let good = workers.submit(&kept, vec![|| 1]).unwrap();
        for (answer, expected) in bad.into_iter().chain(good).zip([None, Some(1_u8)]) {
            assert_eq!(answer.await.ok(), expected);
        }
    }
}
