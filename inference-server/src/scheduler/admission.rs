//! Admission control: bounds the requests in flight and the tokens waiting for the device.
//!
//! The device is slow in tokens, not in requests, so the queue is bounded in tokens; the number of
//! requests is bounded only so that tokenisation is bounded too. Work over a limit is refused at
//! once, with the time after which, at the measured speed, there should be room for it.
//!
//! What is admitted is held by a permit and released when the permit is dropped.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::error::Error;
use crate::metrics::AdmissionGauges;

/// Speed assumed until the first batch has been measured, in tokens per second. A low guess for a
/// CPU: it decides only the first refusals, since warm-up measures every model.
const ASSUMED_RATE: f64 = 2_000.0;
/// Weight of the assumed speed, in seconds. Far below the time of any batch, so that the first
/// measurement replaces the assumption.
const ASSUMED_TIME: f64 = 1e-4;
/// Factor by which older measurements decay with each new one: an average over about ten batches. A
/// choice; as tokens and seconds decay separately, full batches outweigh small ones by their time.
const RATE_DECAY: f64 = 0.9;
/// Smallest token limit derived from the speed: a slow device must still admit one large request.
/// Not tuned: 32 texts of 512 tokens.
const MIN_TOKEN_LIMIT: f64 = 16_384.0;
/// Largest token limit derived from the speed. Not tuned: 16 MiB of token ids.
const MAX_TOKEN_LIMIT: f64 = 4_194_304.0;
/// Shortest and longest retry time. A choice: a shorter one would be a busy loop, and beyond a
/// minute the measured speed says little.
const MIN_RETRY: Duration = Duration::from_millis(50);
const MAX_RETRY: Duration = Duration::from_secs(60);

/// Bound on the tokens that wait for or are on the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Budget {
    /// A fixed number of tokens.
    Tokens(u64),
    /// As many tokens as the device computes in this time at its measured speed.
    Wait(Duration),
    /// A fixed allowance for running sequences plus a time budget for queued ones.
    RunningAndQueued {
        /// Tokens of running sequences, which do not wait.
        running: u64,
        /// Time in which the device computes the tokens of the queued ones.
        wait: Duration,
    },
}

/// Limits of an [`Admission`].
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Maximum number of requests in flight.
    pub requests: usize,
    /// Bound on the tokens that wait for or are on the device.
    pub budget: Budget,
}

#[derive(Debug)]
struct State {
    tokens: u64,
    draining: bool,
    /// Tokens computed and seconds taken, older measurements decayed.
    computed: f64,
    seconds: f64,
}

impl State {
    fn rate(&self) -> f64 {
        // Never zero, since the assumed time decays; the bound is against a clock that stands
        // still.
        self.computed / self.seconds.max(1e-9)
    }

    /// Tokens that the device computes in a time, within the bounds of a limit.
    fn computed_in(&self, time: Duration) -> u64 {
        (self.rate() * time.as_secs_f64()).clamp(MIN_TOKEN_LIMIT, MAX_TOKEN_LIMIT) as u64
    }

    /// Time in which the device computes `tokens`, as a retry time.
    fn retry_after(&self, tokens: u64) -> Duration {
        let seconds = tokens as f64 / self.rate();
        Duration::from_secs_f64(seconds.clamp(MIN_RETRY.as_secs_f64(), MAX_RETRY.as_secs_f64()))
    }
}

/// Counts the work in the server and refuses work that would exceed the limits.
#[derive(Debug)]
pub struct Admission {
    limits: Limits,
    state: Mutex<State>,
    requests: watch::Sender<usize>,
}

impl Admission {
    /// Creates an admission with no work in it.
    pub fn new(limits: Limits) -> Arc<Self> {
        let computed = ASSUMED_RATE * ASSUMED_TIME;
        let state = State { tokens: 0, draining: false, computed, seconds: ASSUMED_TIME };
        Arc::new(Self { limits, state: Mutex::new(state), requests: watch::Sender::new(0) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks that the server still admits work.
    ///
    /// # Errors
    /// [`Error::Draining`] after [`Admission::drain`].
    pub fn check_open(&self) -> Result<(), Error> {
        if self.state().draining { Err(Error::Draining) } else { Ok(()) }
    }

    /// Admits a request.
    ///
    /// # Errors
    /// [`Error::Draining`], or [`Error::Overloaded`] if too many requests are in flight.
    pub fn enter(self: &Arc<Self>) -> Result<RequestPermit, Error> {
        // Before the count: a draining server must reach zero.
        self.check_open()?;
        let limit = self.limits.requests;
        // Checked and counted in one operation: two requests must not take the last place.
        let entered = self.requests.send_if_modified(|count| {
            let room = *count < limit;
            *count += usize::from(room);
            room
        });
        if entered {
            return Ok(RequestPermit { admission: Arc::clone(self) });
        }
        Err(self.overloaded("requests", *self.requests.borrow() as u64, limit as u64))
    }

    /// Reserves `tokens` on the device.
    ///
    /// A request larger than the whole limit counts as the limit: it is served alone and refused
    /// while there is other work.
    ///
    /// # Errors
    /// [`Error::Overloaded`] if the limit would be exceeded. Its retry time is that until there
    /// should be room, but at least a quarter of the time to drain the queue: many clients retrying
    /// at once would be refused again, and if all waited for an empty queue the device would idle.
    pub fn reserve(self: &Arc<Self>, tokens: u64) -> Result<TokenPermit, Error> {
        let mut state = self.state();
        let limit = self.limit(&state);
        // Otherwise a request above the limit could never be admitted, as the limit follows the
        // speed.
        let weight = tokens.min(limit);
        if state.tokens + weight > limit {
            let used = state.tokens;
            let missing = (used + weight - limit).max(used / 4);
            let retry_after = state.retry_after(missing);
            // Refused at once instead of queued: a caller with a deadline can go elsewhere while it
            // matters.
            return Err(Error::Overloaded { what: "queued tokens", used, limit, retry_after });
        }
        state.tokens += weight;
        drop(state);
        Ok(TokenPermit { admission: Arc::clone(self), weight })
    }

    fn limit(&self, state: &State) -> u64 {
        match self.limits.budget {
            Budget::Tokens(tokens) => tokens,
            Budget::Wait(wait) => state.computed_in(wait),
            Budget::RunningAndQueued { running, wait } => running + state.computed_in(wait),
        }
    }

    /// Current bound on the tokens that wait for or are on the device.
    pub fn token_limit(&self) -> u64 {
        self.limit(&self.state())
    }

    /// Builds the error for work that exceeds a limit of the caller's own.
    pub fn overloaded(&self, what: &'static str, used: u64, limit: u64) -> Error {
        Error::Overloaded { what, used, limit, retry_after: self.drain_estimate() }
    }

    /// Estimated time to compute all waiting tokens, between 50 ms and 60 s.
    pub fn drain_estimate(&self) -> Duration {
        let state = self.state();
        state.retry_after(state.tokens)
    }

    /// Records a measurement of the device's speed.
    pub fn observe(&self, tokens: usize, elapsed: Duration) {
        let mut state = self.state();
        // Tokens and seconds apart, so that an average over batches is weighted by their time.
        state.computed = RATE_DECAY * state.computed + tokens as f64;
        state.seconds = RATE_DECAY * state.seconds + elapsed.as_secs_f64();
    }

    /// Present figures, for a scrape.
    pub(crate) fn gauges(&self) -> AdmissionGauges {
        AdmissionGauges {
            requests: self.requests() as u64,
            queued_tokens: self.queued_tokens(),
            token_limit: self.token_limit(),
            tokens_per_second: self.rate(),
        }
    }

    /// Recently measured speed of the device, in tokens per second.
    pub fn rate(&self) -> f64 {
        self.state().rate()
    }

    /// Number of tokens that wait for or are on the device.
    pub fn queued_tokens(&self) -> u64 {
        self.state().tokens
    }

    /// Number of requests in flight.
    pub fn requests(&self) -> usize {
        *self.requests.borrow()
    }

    /// Refuses every request from now on.
    pub fn drain(&self) {
        self.state().draining = true;
    }

    /// Waits until `reached` holds for the number of requests in flight.
    pub async fn when(&self, reached: impl FnMut(&usize) -> bool) {
        let mut requests = self.requests.subscribe();
        // The sender lives as long as `self`, so waiting cannot fail.
        let _ = requests.wait_for(reached).await;
    }
}

/// Permit of a request in flight, released on drop.
#[derive(Debug)]
pub struct RequestPermit {
    admission: Arc<Admission>,
}

impl Drop for RequestPermit {
    fn drop(&mut self) {
        self.admission.requests.send_modify(|count| *count -= 1);
    }
}

/// Permit of tokens on the device, released on drop.
#[derive(Debug)]
pub struct TokenPermit {
    admission: Arc<Admission>,
    weight: u64,
}

impl TokenPermit {
    /// Replaces the estimate that was reserved by the actual number of tokens.
    pub fn settle(&mut self, tokens: u64) {
        // May exceed the limit: the work has been admitted, and it is too late to refuse it.
        let mut state = self.admission.state();
        let weight = tokens.min(self.admission.limit(&state));
        state.tokens = state.tokens - self.weight + weight;
        self.weight = weight;
    }

    /// Admission that issued the permit.
    pub fn admission(&self) -> Arc<Admission> {
        Arc::clone(&self.admission)
    }

    /// Releases the tokens above `tokens`.
    pub fn shrink(&mut self, tokens: u64) {
        if tokens < self.weight {
            self.admission.state().tokens -= self.weight - tokens;
            self.weight = tokens;
        }
    }
}

impl Drop for TokenPermit {
    fn drop(&mut self) {
        self.admission.state().tokens -= self.weight;
    }
}

#[cfg(test)]
mod tests;
