//! What the fetcher did, in numbers.
//!
//! A request is counted for its crawl and for the whole life of the fetcher in one step, so that
//! the two never disagree about it.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};

/// Numbers of a crawl or of a fetcher's whole life.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct FetchCounters {
    /// Answers by status, those of robots.txt and of redirects included.
    pub by_status: BTreeMap<u16, u64>,
    /// Requests sent, answered or not.
    pub requests: u64,
    /// Decoded bytes received.
    pub bytes: u64,
    /// Requests sent again.
    pub retries: u64,
    /// Requests that took too long.
    pub timeouts: u64,
    /// Connections that failed or broke off.
    pub network_errors: u64,
    /// Redirects followed.
    pub redirects: u64,
    /// Answers that were too large.
    pub too_large: u64,
    /// Answers that refuse us.
    pub blocked: u64,
    /// Addresses that robots.txt keeps us from.
    pub robots_denied: u64,
    /// Milliseconds waited for a host's delay, backoff or `Retry-After`, summed over requests.
    pub waited_ms: u64,
}

/// Counters that several requests write to.
#[derive(Debug, Default)]
pub(crate) struct Counters(Mutex<FetchCounters>);

impl Counters {
    /// The numbers now.
    pub(crate) fn read(&self) -> FetchCounters {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, FetchCounters> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The counters of a fetcher and of one crawl, written together.
#[derive(Clone, Copy)]
pub(super) struct Tally<'a> {
    pub(super) total: &'a Counters,
    pub(super) own: &'a Counters,
}

impl Tally<'_> {
    pub(super) fn add(self, change: impl Fn(&mut FetchCounters)) {
        change(&mut self.total.lock());
        change(&mut self.own.lock());
    }
}
