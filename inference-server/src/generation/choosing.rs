//! Choosing tokens under constraints, beside the engine.
//!
//! What a constraint costs is up to whoever wrote it. So its texts choose their tokens on threads
//! of their own: the engine waits a moment for those that are quick, and steps the others'
//! companions without them. A text that keeps its thread busy goes to one that only such texts
//! share.

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

/// Longest that the engine waits for the choices of a step.
const PATIENCE: Duration = Duration::from_millis(20);
/// Longest that it waits where there is nothing else to do, before it looks for new texts.
const PAUSE: Duration = Duration::from_millis(5);
/// Processor time of a quick text, and how much more for each token.
const QUICK: Duration = Duration::from_millis(300);
const QUICK_TOKEN: Duration = Duration::from_millis(2);

/// The sampler and the matcher of a text, which go from thread to thread together.
pub(super) struct Chooser {
    sampler: Sampler,
    matcher: Matcher,
    /// Whether tokens that must come are taken without asking the model.
    takes_forced: bool,
    /// Processor time of the matcher before its first token.
    before: Duration,
    tokens: u32,
}

/// What was chosen for a text: one token, and those that must come behind it.
#[derive(Debug, Default)]
pub(super) struct Chosen {
    /// Each with whether the text is complete with it.
    pub(super) tokens: Vec<(Sampled, bool)>,
    /// Whether its constraint takes little work.
    pub(super) is_quick: bool,
}

impl Chooser {
    pub(super) fn new(sampler: Sampler, matcher: Matcher, takes_forced: bool) -> Self {
        let before = matcher.spent();
        Self { sampler, matcher, takes_forced, before, tokens: 0 }
    }

    /// The next tokens, at most `room`.
    ///
    /// # Errors
    /// If no token can be drawn from the logits, or a [`ConstraintError`].
    fn next(&mut self, logits: &[f32], mut room: usize) -> Result<Chosen> {
        let (sampled, complete) = self.matcher.choose(&mut self.sampler, logits, room)?;
        self.sampler.push(sampled.id);
        let mut tokens = vec![(sampled, complete)];
        room = room.saturating_sub(1);
        if self.takes_forced && !complete {
            for (id, complete) in self.matcher.take_forced(&mut room)? {
                self.sampler.push(id);
                tokens.push((Sampled { id, logprob: 0.0, top: Vec::new() }, complete));
            }
        }
        if let Some((_, complete)) = tokens.last_mut() {
            // What is complete may end at the limit too.
            *complete |= room == 0 && self.matcher.is_accepting();
        }
        self.tokens = self.tokens.saturating_add(tokens.len() as u32);
        let spent = self.matcher.spent().saturating_sub(self.before);
        Ok(Chosen { tokens, is_quick: spent < QUICK + QUICK_TOKEN.saturating_mul(self.tokens) })
    }
}

/// A text that wants its next token.
pub(super) struct Wanted {
    pub(super) id: u64,
    pub(super) chooser: Arc<Mutex<Chooser>>,
    /// The row of the model.
    pub(super) logits: Vec<f32>,
    /// Tokens that may come.
    pub(super) room: usize,
    pub(super) is_quick: bool,
}

/// A text and what was chosen for it.
pub(super) type Choice = (u64, Result<Chosen>);

/// The threads, and what they have chosen.
pub(super) struct Choosers {
    quick: WorkerPool,
    slow: WorkerPool,
    sender: Sender<Choice>,
    choices: Receiver<Choice>,
    never: CancellationToken,
}

impl Choosers {
    /// Starts the threads.
    ///
    /// # Errors
    /// If the system gives none.
    pub(super) fn start() -> Result<Self> {
        let cores = available_parallelism().map_or(1, usize::from);
        let started = |name, threads| WorkerPool::start(name, threads, usize::MAX);
        let (sender, choices) = mpsc::channel();
        Ok(Self {
            quick: started("constraint", cores).context("the threads of constraints cannot be started")?,
            slow: started("slow-constraint", 1).context("the threads of constraints cannot be started")?,
            sender,
            choices,
            never: CancellationToken::new(),
        })
    }

    /// Makes the masks of these texts as long as `done` is not set; a text that needs its mask then
    /// makes its own.
    pub(super) fn prepare(&self, texts: Vec<(Arc<Mutex<Chooser>>, usize)>, done: &Arc<AtomicBool>) {
        let job = |(chooser, room): (Arc<Mutex<Chooser>>, usize)| {
            let done = Arc::clone(done);
            move || {
                if !done.load(Ordering::Relaxed) {
                    // A text that needs the mask meets the same error.
                    let _ = chooser.lock().unwrap_or_else(PoisonError::into_inner).matcher.mask(room);
                }
            }
        };
        // The line has no bound.
        let _ = self.quick.submit(&self.never, texts.into_iter().map(job).collect());
    }

    /// Has the next tokens of these texts chosen, and answers with those that are soon.
    pub(super) fn choose(&self, texts: Vec<Wanted>) -> Vec<Choice> {
        let mut quick = 0;
        for wanted in texts {
            quick += usize::from(wanted.is_quick);
            let workers = if wanted.is_quick { &self.quick } else { &self.slow };
            // The line has no bound.
            let _ = workers.submit(&self.never, vec![job(wanted, self.sender.clone())]);
        }
        let until = Instant::now() + PATIENCE;
        let mut choices = Vec::new();
        while quick > 0
            && let Ok(choice) = self.choices.recv_timeout(until.saturating_duration_since(Instant::now()))
        {
            quick -= 1;
            choices.push(choice);
        }
        choices
    }

    /// What was chosen meanwhile; where `idle`, waits a moment for it.
    pub(super) fn chosen(&self, idle: bool) -> Vec<Choice> {
        let first = if idle { self.choices.recv_timeout(PAUSE).ok() } else { None };
        first.into_iter().chain(self.choices.try_iter()).collect()
    }
}

fn job(wanted: Wanted, sender: Sender<Choice>) -> impl FnOnce() + Send + 'static {
    move || {
        let Wanted { id, chooser, logits, room, .. } = wanted;
        let work = || chooser.lock().unwrap_or_else(PoisonError::into_inner).next(&logits, room);
        let chosen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        let chosen = chosen.unwrap_or_else(|_| Err(anyhow!("choosing a token panicked")));
        // The engine is gone where nobody takes it.
        let _ = sender.send((id, chosen));
    }
}

/// Whether the fault is the constraint's, and so the caller's.
pub(super) fn fault(error: &anyhow::Error) -> Option<&ConstraintError> {
    error.downcast_ref()
}
