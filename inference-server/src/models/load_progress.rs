//! How far a load is, and the room it may take.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, ensure};

/// Told by the thread that loads, read by whoever asks.
#[derive(Debug)]
pub struct LoadProgress {
    room: u64,
    total: AtomicU64,
    loaded: AtomicU64,
}

impl Default for LoadProgress {
    /// A load that may take what it needs.
    fn default() -> Self {
        Self::within(u64::MAX)
    }
}

impl LoadProgress {
    /// A load that may take `room` bytes for weights.
    pub fn within(room: u64) -> Self {
        Self { room, total: AtomicU64::new(0), loaded: AtomicU64::new(0) }
    }

    /// The weights will take `bytes`.
    ///
    /// # Errors
    /// If that is more than the room there is.
    pub(crate) fn expect(&self, bytes: u64) -> Result<()> {
        ensure!(
            bytes <= self.room,
            "its weights take {bytes} bytes and {} are left of --max-weight-mib; unload a model first",
            self.room
        );
        self.total.store(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// So many more bytes are in memory.
    pub(crate) fn advance(&self, bytes: u64) {
        self.loaded.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes in memory so far and in the end; tensors that the network does not use are never
    /// loaded.
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
