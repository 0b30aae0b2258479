//! The state that all requests share: what is served, and what may change meanwhile.
//!
//! Kept apart from the server, so that the simulator's own addresses can change it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use super::{catalog::Catalog, fault::Faults, log::Log};

/// The part of the state that may change while the sites are served.
pub(super) struct Live {
    pub(super) wave: u32,
    pub(super) clock: DateTime<Utc>,
    pub(super) faults: Faults,
    pub(super) log: Log,
}

/// The state that all requests share.
pub(super) struct Shared {
    pub(super) catalog: Catalog,
    pub(super) waves: u32,
    pub(super) crawl_delay: Option<u32>,
    pub(super) stop: CancellationToken,
    live: Mutex<Live>,
}

impl Shared {
    pub(super) fn new(catalog: Catalog, waves: u32, crawl_delay: Option<u32>, live: Live) -> Self {
        Self { catalog, waves, crawl_delay, stop: CancellationToken::new(), live: Mutex::new(live) }
    }

    pub(super) fn live(&self) -> MutexGuard<'_, Live> {
        // A panic in one request must not make all later ones fail.
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
