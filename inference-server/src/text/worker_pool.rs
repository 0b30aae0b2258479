//! Threads behind a bounded line: those that read texts, and those that make and follow
//! constraints.
//!
//! A tokenizer can be used by several threads at once (its caches are tried, never waited for), so
//! the workers share it.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

type Job = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct State {
    line: VecDeque<Job>,
    closed: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    ready: Condvar,
}

/// Handle to the threads; dropping it stops them after what they are at.
pub(crate) struct WorkerPool {
    shared: Arc<Shared>,
    bound: usize,
}

/// So many jobs wait that no more are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full {
    /// Jobs that wait.
    pub waiting: usize,
    /// From how many on none are taken.
    pub bound: usize,
}

impl WorkerPool {
    /// Starts `threads` threads of this name; with `bound` jobs in line no more are taken.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub(crate) fn start(name: &str, threads: usize, bound: usize) -> std::io::Result<Self> {
        let workers = Self { shared: Arc::default(), bound };
        for index in 0..threads {
            let shared = Arc::clone(&workers.shared);
            thread::Builder::new().name(format!("{name}-{index}")).spawn(move || shared.run())?;
        }
        Ok(workers)
    }

    /// Puts the jobs in line, all or none. Where one's answer fails to come, its caller cancelled
    /// it or it panicked.
    ///
    /// # Errors
    /// [`Full`] at once where too many wait already.
    pub(crate) fn submit<T: Send + 'static>(
        &self,
        cancel: &CancellationToken,
        jobs: Vec<impl FnOnce() -> T + Send + 'static>,
    ) -> Result<Vec<oneshot::Receiver<T>>, Full> {
        let mut state = self.shared.state();
        let waiting = state.line.len();
        if waiting >= self.bound {
            return Err(Full { waiting, bound: self.bound });
        }
        let mut answers = Vec::with_capacity(jobs.len());
        for job in jobs {
            let (sender, answer) = oneshot::channel();
            let cancel = cancel.clone();
            state.line.push_back(Box::new(move || {
                if !cancel.is_cancelled() {
                    // A closed channel means that nobody waits any more.
                    let _ = sender.send(job());
                }
            }));
            answers.push(answer);
            self.shared.ready.notify_one();
        }
        Ok(answers)
    }
}

impl Drop for WorkerPool {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.closed = true;
        state.line.clear();
        self.shared.ready.notify_all();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        while let Some(job) = self.next() {
            if catch_unwind(AssertUnwindSafe(job)).is_err() {
                tracing::error!("a worker's job panicked");
            }
        }
    }

    fn next(&self) -> Option<Job> {
        let mut state = self.state();
        loop {
            if state.closed {
                return None;
            }
            if let Some(job) = state.line.pop_front() {
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
