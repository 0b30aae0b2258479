//! How much work the server takes on: requests in flight and tokens waiting for the device.
//!
//! Tokens, not requests, are what the device is slow at, so the queue is bounded in tokens (and the
//! number of requests only so that tokenising is bounded too). Over a limit the answer is
//! immediate, with the time after which the measured speed should have made room.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::error::Error;
use crate::metrics::AdmissionGauges;

/// Speed assumed until the first batches have been measured, tokens per second.
const ASSUMED_RATE: f64 = 2_000.0;
/// How long a time of the assumed speed the first measurements have to outweigh, in seconds: little
/// beside any batch.
const ASSUMED_TIME: f64 = 1e-4;
/// How much of the older measurements each new one keeps; full batches outweigh small ones by their
/// time.
const RATE_MEMORY: f64 = 0.9;
/// Bounds of a budget that follows the speed: one large request, and what the ids may take in
/// memory.
const TOKENS_BOUNDS: (f64, f64) = (16_384.0, 4_194_304.0);
const SHORTEST_RETRY: Duration = Duration::from_millis(50);
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// How many tokens may wait for or be on the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Budget {
    /// So many.
    Tokens(u64),
    /// What the device does in this time at its measured speed.
    Wait(Duration),
    /// The same beside so many tokens that do not wait: those of texts that are written at the same
    /// time.
    Beside(u64, Duration),
}

/// What the server takes on at most.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Requests in flight.
    pub requests: usize,
    /// Tokens that wait for or are on the device.
    pub budget: Budget,
}

#[derive(Debug)]
struct State {
    tokens: u64,
    draining: bool,
    /// Tokens computed and seconds taken, the older ones fading.
    computed: f64,
    seconds: f64,
}

impl State {
    fn rate(&self) -> f64 {
        self.computed / self.seconds.max(1e-9)
    }

    /// How long the device needs for so many tokens, as a time to try again after.
    fn time(&self, tokens: u64) -> Duration {
        let seconds = tokens as f64 / self.rate();
        Duration::from_secs_f64(seconds.clamp(SHORTEST_RETRY.as_secs_f64(), LONGEST_RETRY.as_secs_f64()))
    }
}

/// Counts the work in the server and refuses what would exceed the limits.
#[derive(Debug)]
pub struct Admission {
    limits: Limits,
    state: Mutex<State>,
    requests: watch::Sender<usize>,
}

impl Admission {
    /// An empty server.
    pub fn new(limits: Limits) -> Arc<Self> {
        let computed = ASSUMED_RATE * ASSUMED_TIME;
        let state = State { tokens: 0, draining: false, computed, seconds: ASSUMED_TIME };
        Arc::new(Self { limits, state: Mutex::new(state), requests: watch::Sender::new(0) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether work is taken on at all; else [`Error::Draining`].
    pub fn check_open(&self) -> Result<(), Error> {
        if self.state().draining { Err(Error::Draining) } else { Ok(()) }
    }

    /// Lets a request in, or says at once why not: [`Error::Draining`] or [`Error::Overloaded`].
    pub fn enter(self: &Arc<Self>) -> Result<RequestPermit, Error> {
        self.check_open()?;
        let limit = self.limits.requests;
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

    /// Reserves room for `tokens` on the device, or fails at once with [`Error::Overloaded`].
    ///
    /// A request larger than the whole limit counts as the limit: alone it is served, beside others
    /// it is refused. The time to try again after is that until there should be room for it, but at
    /// least a quarter of what the device needs for all that waits: whoever came back at once would
    /// be many, and after all of it the device would be idle.
    pub fn reserve(self: &Arc<Self>, tokens: u64) -> Result<TokenPermit, Error> {
        let mut state = self.state();
        let limit = self.limit(&state);
        let weight = tokens.min(limit);
        if state.tokens + weight > limit {
            let used = state.tokens;
            let missing = (used + weight - limit).max(used / 4);
            let retry_after = state.time(missing);
            return Err(Error::Overloaded { what: "queued tokens", used, limit, retry_after });
        }
        state.tokens += weight;
        drop(state);
        Ok(TokenPermit { admission: Arc::clone(self), weight })
    }

    fn limit(&self, state: &State) -> u64 {
        let computed_in = |time: Duration| {
            (state.rate() * time.as_secs_f64()).clamp(TOKENS_BOUNDS.0, TOKENS_BOUNDS.1) as u64
        };
        match self.limits.budget {
            Budget::Tokens(tokens) => tokens,
            Budget::Wait(time) => computed_in(time),
            Budget::Beside(tokens, time) => tokens + computed_in(time),
        }
    }

    /// Tokens that may wait for or be on the device now.
    pub fn token_limit(&self) -> u64 {
        self.limit(&self.state())
    }

    /// The refusal of work for which there is no room.
    pub fn overloaded(&self, what: &'static str, used: u64, limit: u64) -> Error {
        Error::Overloaded { what, used, limit, retry_after: self.drain_estimate() }
    }

    /// How long the device needs for what waits for it, between 50 ms and 60 s.
    pub fn drain_estimate(&self) -> Duration {
        let state = self.state();
        state.time(state.tokens)
    }

    /// Takes note of how fast the device was.
    pub fn observe(&self, tokens: usize, elapsed: Duration) {
        let mut state = self.state();
        state.computed = RATE_MEMORY * state.computed + tokens as f64;
        state.seconds = RATE_MEMORY * state.seconds + elapsed.as_secs_f64();
    }

    /// What it holds now, for a scrape.
    pub(crate) fn gauges(&self) -> AdmissionGauges {
        AdmissionGauges {
            requests: self.requests() as u64,
            queued_tokens: self.queued_tokens(),
            token_limit: self.token_limit(),
            tokens_per_second: self.rate(),
        }
    }

    /// Tokens per second on the device, as measured lately.
    pub fn rate(&self) -> f64 {
        self.state().rate()
    }

    /// Tokens that wait for or are on the device.
    pub fn queued_tokens(&self) -> u64 {
        self.state().tokens
    }

    /// Requests in flight.
    pub fn requests(&self) -> usize {
        *self.requests.borrow()
    }

    /// Refuses every request from now on.
    pub fn drain(&self) {
        self.state().draining = true;
    }

    /// Returns once `reached` holds for the number of requests in flight.
    pub async fn when(&self, reached: impl FnMut(&usize) -> bool) {
        let mut requests = self.requests.subscribe();
        // The sender lives as long as `self`, so waiting cannot fail.
        let _ = requests.wait_for(reached).await;
    }
}

/// A request in flight; leaving is dropping this.
#[derive(Debug)]
pub struct RequestPermit {
    admission: Arc<Admission>,
}

impl Drop for RequestPermit {
    fn drop(&mut self) {
        self.admission.requests.send_modify(|count| *count -= 1);
    }
}

/// Room on the device; given back by dropping this.
#[derive(Debug)]
pub struct TokenPermit {
    admission: Arc<Admission>,
    weight: u64,
}

impl TokenPermit {
    /// Puts what the work really costs in the place of the estimate it was let in by.
    pub fn settle(&mut self, tokens: u64) {
        let mut state = self.admission.state();
        let weight = tokens.min(self.admission.limit(&state));
        state.tokens = state.tokens - self.weight + weight;
        self.weight = weight;
    }

    /// Where the room is.
    pub fn admission(&self) -> Arc<Admission> {
        Arc::clone(&self.admission)
    }

    /// Gives back what is more than `tokens`.
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
mod tests {
    use super::*;

    fn admission(requests: usize, tokens: u64) -> Arc<Admission> {
        Admission::new(Limits { requests, budget: Budget::Tokens(tokens) })
    }

    #[test]
    fn requests_are_counted_and_come_back() {
        let a = admission(2, 10);
        let first = a.enter().unwrap();
        let _second = a.enter().unwrap();
        assert!(matches!(a.enter(), Err(Error::Overloaded { what: "requests", used: 2, limit: 2, .. })));
        drop(first);
        assert!(a.enter().is_ok());
    }

    #[test]
    fn tokens_are_bounded_and_a_giant_is_served_alone() {
        let a = admission(9, 100);
        let giant = a.reserve(1_000).unwrap();
        assert_eq!(a.queued_tokens(), 100);
        assert!(matches!(a.reserve(1), Err(Error::Overloaded { used: 100, limit: 100, .. })));
        drop(giant);
        let _small = a.reserve(1).unwrap();
        assert!(a.reserve(1_000).is_err());
        assert!(a.reserve(99).is_ok());
    }

    #[test]
    fn the_retry_hint_follows_the_measured_speed() {
        let a = admission(9, 100_000);
        let _work = a.reserve(10_000).unwrap();
        for _ in 0..64 {
            a.observe(1_000, Duration::from_secs(1));
        }
        let near = |hint: Duration, expected: f64| {
            assert!((hint.as_secs_f64() - expected).abs() < 0.1, "{hint:?} {expected}");
        };
        near(a.drain_estimate(), 10.0);
        let _more = a.reserve(80_000).unwrap();
        let refused = |tokens: u64| a.reserve(tokens).unwrap_err().retry_after().unwrap();
        near(refused(10_100), 22.5);
        near(refused(45_000), 35.0);
        near(refused(1_000_000), 60.0);
    }

    #[test]
    fn texts_that_are_written_at_once_do_not_wait() {
        let a =
            Admission::new(Limits { requests: 9, budget: Budget::Beside(50_000, Duration::from_secs(30)) });
        (0..99).for_each(|_| a.observe(100, Duration::from_secs(1)));
        assert_eq!(a.token_limit(), 50_000 + 16_384);
    }

    #[test]
    fn the_first_measurement_outweighs_the_assumption() {
        let a = Admission::new(Limits { requests: 9, budget: Budget::Wait(Duration::from_secs(30)) });
        a.observe(16_384, Duration::from_millis(7));
        assert!((a.rate() * 0.007 / 16_384.0 - 1.0).abs() < 0.02, "{}", a.rate());
        assert_eq!(a.token_limit(), 4_194_304);
    }

    #[test]
    fn a_permit_follows_the_work() {
        let a = admission(9, 100);
        let mut permit = a.reserve(40).unwrap();
        permit.settle(70);
        assert_eq!(a.queued_tokens(), 70);
        permit.shrink(90);
        assert_eq!(a.queued_tokens(), 70);
        permit.shrink(20);
        assert_eq!(a.queued_tokens(), 20);
        permit.settle(5_000);
        assert_eq!(a.queued_tokens(), 100);
        drop(permit);
        assert_eq!(a.queued_tokens(), 0);
    }

    #[test]
    fn a_budget_in_time_follows_the_measured_speed() {
        let a = Admission::new(Limits { requests: 9, budget: Budget::Wait(Duration::from_secs(10)) });
        let check = |tokens: usize, expected: u64| {
            (0..99).for_each(|_| a.observe(tokens, Duration::from_secs(1)));
            assert!(a.token_limit().abs_diff(expected) < 10, "{}", a.token_limit());
        };
        assert_eq!(a.token_limit(), 20_000);
        check(5_000, 50_000);
        check(100, 16_384);
        check(1_000_000, 4_194_304);
        // A small batch, which is slow for its size, says little beside the large ones.
        (0..9).for_each(|_| a.observe(10, Duration::from_millis(100)));
        assert!(a.rate() > 800_000.0, "{}", a.rate());
    }

    #[tokio::test]
    async fn draining_refuses_and_waits_for_the_last() {
        let a = admission(9, 100);
        let held = a.enter().unwrap();
        a.drain();
        assert_eq!(a.enter().unwrap_err(), Error::Draining);
        let waiting = tokio::spawn({
            let a = Arc::clone(&a);
            async move { a.when(|count| *count == 0).await }
        });
        assert!(!waiting.is_finished());
        drop(held);
        waiting.await.unwrap();
    }
}
