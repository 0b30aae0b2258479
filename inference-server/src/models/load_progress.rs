//! Progress of a model load and its memory limit.
//!
//! Written by the loader thread and read by calls that report progress, hence atomic. The limit is
//! checked once, before the first tensor is read.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, ensure};

/// Bytes of weights that are loaded, that will be, and that may be.
#[derive(Debug)]
pub struct LoadProgress {
    limit: u64,
    total: AtomicU64,
    loaded: AtomicU64,
}

impl Default for LoadProgress {
    /// A load without a limit.
    fn default() -> Self {
        Self::within(u64::MAX)
    }
}

impl LoadProgress {
    /// A load whose weights may take `limit` bytes.
    pub fn within(limit: u64) -> Self {
        Self { limit, total: AtomicU64::new(0), loaded: AtomicU64::new(0) }
    }

    /// Announces the bytes that all weights will take.
    ///
    /// # Errors
    /// If that exceeds the limit.
    pub(crate) fn expect(&self, bytes: u64) -> Result<()> {
        ensure!(
            bytes <= self.limit,
            "its weights take {bytes} bytes and {} are left of --max-weight-mib; unload a model first",
            self.limit
        );
        // Relaxed: figures for a progress report, which may be a moment old.
        self.total.store(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Counts bytes that were loaded.
    pub(crate) fn advance(&self, bytes: u64) {
        self.loaded.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes loaded so far and in total. The first may stay below the second: tensors that the
    /// network does not use are not loaded.
    pub fn progress(&self) -> (u64, u64) {
        let total = self.total.load(Ordering::Relaxed);
        (self.loaded.load(Ordering::Relaxed).min(total), total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_keeps_to_its_room() {
        let loading = LoadProgress::within(100);
        assert_eq!(loading.progress(), (0, 0));
        let error = loading.expect(101).unwrap_err().to_string();
        assert!(error.contains("101 bytes and 100 are left"), "{error}");
        loading.expect(100).unwrap();
        loading.advance(60);
        assert_eq!(loading.progress(), (60, 100));
    }
}
