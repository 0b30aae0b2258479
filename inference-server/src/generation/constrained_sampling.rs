//! Sampling under constraints, off the engine's thread.
//!
//! The cost of a constraint is up to the caller who wrote it. So constrained sequences sample their
//! tokens on threads of their own: the engine waits a moment for the fast ones, and goes on
//! stepping the other sequences without the slow ones. A sequence whose constraint keeps a thread
//! busy moves to a single thread that only such sequences share, so that it cannot delay the fast
//! ones.
//!
//! While a GPU computes, masks of the fast sequences are computed ahead.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use tokio_util::sync::CancellationToken;

use super::constraint::{ConstraintError, Matcher};
use super::sampler::{Sampled, Sampler};
use crate::text::worker_pool::WorkerPool;

/// Longest time that the engine waits for the constrained sequences of a step. A choice: what one
/// slow constraint may add to a step of all others.
const STEP_WAIT: Duration = Duration::from_millis(20);
/// Longest time that the engine waits if it has nothing else to do, before it looks for new
/// requests. A choice: the longest that one of them is kept waiting by it.
const IDLE_WAIT: Duration = Duration::from_millis(5);
/// Processor time up to which a sequence counts as fast, plus an allowance for each token. A mask
/// takes 0.06 to 0.7 ms (benches/RESULTS.md), so ordinary constraints stay far below.
const FAST_TIME: Duration = Duration::from_millis(300);
const FAST_TIME_PER_TOKEN: Duration = Duration::from_millis(2);

/// The sampler and the matcher of a sequence, which move between threads together.
pub(super) struct ConstrainedSampler {
    sampler: Sampler,
    matcher: Matcher,
    /// True if forced tokens are appended without a forward pass.
    append_forced: bool,
    /// Processor time that the matcher took before its first token.
    time_before: Duration,
    tokens: u32,
}

/// Tokens sampled for a sequence: one by its logits, and the forced ones behind it.
#[derive(Debug, Default)]
pub(super) struct SampledTokens {
    /// Each token with whether the text is complete with it.
    pub(super) tokens: Vec<(Sampled, bool)>,
    /// True if the constraint has been cheap so far.
    pub(super) is_fast: bool,
}

impl ConstrainedSampler {
    pub(super) fn new(sampler: Sampler, matcher: Matcher, append_forced: bool) -> Self {
        let time_before = matcher.processor_time();
        Self { sampler, matcher, append_forced, time_before, tokens: 0 }
    }

    /// Samples the next tokens, at most `remaining`.
    ///
    /// # Errors
    /// If no token can be sampled from the logits, or a [`ConstraintError`].
    fn sample(&mut self, logits: &[f32], mut remaining: usize) -> Result<SampledTokens> {
        // The matcher draws, as it may reject a token after it was drawn.
        let (sampled, complete) = self.matcher.sample(&mut self.sampler, logits, remaining)?;
        self.sampler.push(sampled.id);
        let mut tokens = vec![(sampled, complete)];
        remaining = remaining.saturating_sub(1);
        if self.append_forced && !complete {
            for (id, complete) in self.matcher.accept_forced(&mut remaining)? {
                self.sampler.push(id);
                tokens.push((Sampled { id, logprob: 0.0, top: Vec::new() }, complete));
            }
        }
        if let Some((_, complete)) = tokens.last_mut() {
            // A text that is valid as it is ends as complete at the limit, not as cut off.
            *complete |= remaining == 0 && self.matcher.is_accepting();
        }
        self.tokens = self.tokens.saturating_add(tokens.len() as u32);
        let time = self.matcher.processor_time().saturating_sub(self.time_before);
        let allowed = FAST_TIME + FAST_TIME_PER_TOKEN.saturating_mul(self.tokens);
        Ok(SampledTokens { tokens, is_fast: time < allowed })
    }
}

/// Request of a sequence for its next tokens.
pub(super) struct SampleRequest {
    pub(super) id: u64,
    pub(super) sampler: Arc<Mutex<ConstrainedSampler>>,
    /// Row of logits of the sequence.
    pub(super) logits: Vec<f32>,
    /// Number of tokens that may still be generated.
    pub(super) remaining: usize,
    pub(super) is_fast: bool,
}

/// Id of a sequence and the tokens sampled for it.
pub(super) type SampleResult = (u64, Result<SampledTokens>);

/// Threads that sample, and the results that the engine has not taken yet.
pub(super) struct SamplerPool {
    fast: WorkerPool,
    slow: WorkerPool,
    sender: Sender<SampleResult>,
    results: Receiver<SampleResult>,
    never_cancelled: CancellationToken,
}

fn start_pool(name: &str, threads: usize) -> Result<WorkerPool> {
    WorkerPool::start(name, threads, usize::MAX).context("cannot spawn the threads of constraints")
}

impl SamplerPool {
    /// Starts the threads.
    ///
    /// # Errors
    /// If a thread cannot be spawned.
    pub(super) fn start() -> Result<Self> {
        // As many as cores: the engine's own thread waits while they work.
        let cores = available_parallelism().map_or(1, usize::from);
        let (sender, results) = mpsc::channel();
        Ok(Self {
            fast: start_pool("constraint", cores)?,
            slow: start_pool("slow-constraint", 1)?,
            sender,
            results,
            never_cancelled: CancellationToken::new(),
        })
    }

    /// Computes masks ahead until `done` is set. A sequence whose mask is not ready then computes
    /// it when it needs it.
    pub(super) fn precompute_masks(
        &self,
        jobs: Vec<(Arc<Mutex<ConstrainedSampler>>, usize)>,
        done: &Arc<AtomicBool>,
    ) {
        let mut tasks = Vec::with_capacity(jobs.len());
        for (sampler, remaining) in jobs {
            let done = Arc::clone(done);
            tasks.push(move || {
                // Relaxed: a job that sees the flag late computes one mask too many, and no data
                // hangs on it.
                if !done.load(Ordering::Relaxed) {
                    // An error comes up again when the mask is needed.
                    let _ = sampler.lock().unwrap_or_else(PoisonError::into_inner).matcher.mask(remaining);
                }
            });
        }
        // The pools accept any number of jobs.
        let _ = self.fast.submit(&self.never_cancelled, tasks);
    }

    /// Samples for these sequences and returns the results that come within [`STEP_WAIT`]; the
    /// others come from [`SamplerPool::take_results`].
    pub(super) fn sample(&self, requests: Vec<SampleRequest>) -> Vec<SampleResult> {
        let mut expected = 0;
        for request in requests {
            // Slow ones are not waited for, and their results come with a later step.
            expected += usize::from(request.is_fast);
            let pool = if request.is_fast { &self.fast } else { &self.slow };
            // The pools accept any number of jobs.
            let _ = pool.submit(&self.never_cancelled, vec![job(request, self.sender.clone())]);
        }
        let until = Instant::now() + STEP_WAIT;
        let mut results = Vec::new();
        while expected > 0
            && let Ok(result) = self.results.recv_timeout(until.saturating_duration_since(Instant::now()))
        {
            expected -= 1;
            results.push(result);
        }
        results
    }

    /// Takes the results that have come meanwhile; waits a moment for the first one if `idle`.
    pub(super) fn take_results(&self, idle: bool) -> Vec<SampleResult> {
        // Waiting for the first only: once there is something to do the rest can come with the next
        // step.
        let first = if idle { self.results.recv_timeout(IDLE_WAIT).ok() } else { None };
        first.into_iter().chain(self.results.try_iter()).collect()
    }
}

fn job(request: SampleRequest, sender: Sender<SampleResult>) -> impl FnOnce() + Send + 'static {
    move || {
        let SampleRequest { id, sampler, logits, remaining, .. } = request;
        // The engine waits for every sequence it asked for, so a panic must come back as a result.
        let sampled = catch_unwind(AssertUnwindSafe(|| {
            sampler.lock().unwrap_or_else(PoisonError::into_inner).sample(&logits, remaining)
        }));
        let sampled = sampled.unwrap_or_else(|_| Err(anyhow!("sampling a token panicked")));
        // A closed channel means that the engine is gone.
        let _ = sender.send((id, sampled));
    }
}

/// Constraint at fault, if the error is the caller's and not the server's.
pub(super) fn constraint_error(error: &anyhow::Error) -> Option<&ConstraintError> {
    error.downcast_ref()
}
