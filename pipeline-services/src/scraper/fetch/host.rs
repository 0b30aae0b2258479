//! What is remembered of a host.
//!
//! Its pace, its robots.txt and whether it is left alone for a while, shared by all requests of a
//! fetcher: politeness is owed to a host, whichever portal file names it.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Semaphore;

use super::{options::FetchOptions, pace::Pace, wire::Failure};
use crate::scraper::robots::Robots;

/// Until when a verdict about robots.txt holds, and the verdict: the rules, or why they could not
/// be fetched.
type Verdict = Option<(Instant, Result<Arc<Robots>, String>)>;

/// A host that is visited.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) name: String,
    pub(super) permits: Semaphore,
    // Held while the file is fetched, so that one request asks and the others wait.
    pub(super) robots: tokio::sync::Mutex<Verdict>,
    blocked_for: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    pace: Pace,
    /// Until when the host is left alone, and why.
    blocked: Option<(Instant, &'static str)>,
    parked: Option<Instant>,
}

impl Host {
    pub(super) fn new(name: String, options: &FetchOptions) -> Self {
        let state = State { pace: Pace::new(options), blocked: None, parked: None };
        Self {
            name,
            permits: Semaphore::new(options.per_host),
            robots: tokio::sync::Mutex::new(None),
            blocked_for: options.blocked_for,
            state: Mutex::new(state),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks that the host may be asked at all.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let mut state = self.state();
        if let Some((until, reason)) = state.blocked
            && until > Instant::now()
        {
            return Err(Failure::Blocked(reason.to_owned()));
        }
        let left = state.parked.and_then(|until| until.checked_duration_since(Instant::now()));
        match left.filter(|left| !left.is_zero()) {
            Some(left) => Err(Failure::Parked(left)),
            None => {
                state.parked = None;
                Ok(())
            }
        }
    }

    /// Takes the next turn and says how long to wait for it.
    pub(super) fn reserve(&self) -> Duration {
        let now = Instant::now();
        self.state().pace.reserve(now, fastrand::f64()).saturating_duration_since(now)
    }

    pub(super) fn block(&self, reason: &'static str) {
        self.state().blocked = Instant::now().checked_add(self.blocked_for).map(|until| (until, reason));
    }

    pub(super) fn park(&self, after: Duration) {
        self.state().parked = Instant::now().checked_add(after);
    }

    pub(super) fn hold(&self, wait: Duration) {
        self.state().pace.hold(Instant::now() + wait);
    }

    pub(super) fn slow_down(&self) {
        self.state().pace.slow_down();
    }

    pub(super) fn raise(&self, least: Duration) {
        self.state().pace.raise(least);
    }

    pub(super) fn obey(&self, crawl_delay: Duration) {
        self.state().pace.obey(crawl_delay);
    }

    pub(super) fn adapt(&self, latency: Duration, status: u16) {
        self.state().pace.adapt(latency, status);
    }
}
