//! How much work the server takes on: requests in flight and tokens waiting for the device.
//!
//! Tokens, not requests, are what the device is slow at, so the queue is bounded in tokens (and the number of requests
//! only so that tokenising is bounded too). Over a limit the answer is immediate, with the time after which the
//! measured speed should have made room.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::error::Error;

/// Speed assumed until the first batch has been measured, tokens per second.
const ASSUMED_RATE: f64 = 2_000.0;
/// Weight of the newest measurement in the moving average of the speed.
const RATE_WEIGHT: f64 = 0.2;
const SHORTEST_RETRY: Duration = Duration::from_millis(50);
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// What the server takes on at most.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Requests in flight.
    pub requests: usize,
    /// Tokens that wait for or are on the device.
    pub tokens: u64,
}

#[derive(Debug)]
struct State {
    tokens: u64,
    draining: bool,
    rate: f64,
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
        let state = State { tokens: 0, draining: false, rate: ASSUMED_RATE };
        Arc::new(Self { limits, state: Mutex::new(state), requests: watch::Sender::new(0) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a request in, or says at once why not: [`Error::Draining`] or [`Error::Overloaded`].
    pub fn enter(self: &Arc<Self>) -> Result<RequestPermit, Error> {
        if self.state().draining {
            return Err(Error::Draining);
        }
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
    /// A request larger than the whole limit counts as the limit: alone it is served, beside others it is refused.
    pub fn reserve(self: &Arc<Self>, tokens: u64) -> Result<TokenPermit, Error> {
        let weight = tokens.min(self.limits.tokens);
        let mut state = self.state();
        if state.tokens + weight > self.limits.tokens {
            let used = state.tokens;
            drop(state);
            return Err(self.overloaded("queued tokens", used, self.limits.tokens));
        }
        state.tokens += weight;
        drop(state);
        Ok(TokenPermit { admission: Arc::clone(self), weight })
    }

    fn overloaded(&self, what: &'static str, used: u64, limit: u64) -> Error {
        Error::Overloaded { what, used, limit, retry_after: self.drain_estimate() }
    }

    /// How long the device needs for what waits for it, between 50 ms and 60 s.
    pub fn drain_estimate(&self) -> Duration {
        let state = self.state();
        let seconds = state.tokens as f64 / state.rate;
        Duration::from_secs_f64(seconds.clamp(SHORTEST_RETRY.as_secs_f64(), LONGEST_RETRY.as_secs_f64()))
    }

    /// Takes note of how fast the device was.
    pub fn observe(&self, tokens: usize, elapsed: Duration) {
        let rate = tokens as f64 / elapsed.as_secs_f64().max(1e-6);
        let mut state = self.state();
        state.rate = (1.0 - RATE_WEIGHT) * state.rate + RATE_WEIGHT * rate;
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

impl Drop for TokenPermit {
    fn drop(&mut self) {
        self.admission.state().tokens -= self.weight;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(requests: usize, tokens: u64) -> Arc<Admission> {
        Admission::new(Limits { requests, tokens })
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
        let hint = a.drain_estimate().as_secs_f64();
        assert!((hint - 10.0).abs() < 0.1, "{hint}");
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
