//! Requests to stop the process, by signal.
//!
//! The first signal drains, the second stops at once: an operator can always end a drain that
//! hangs.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The operator's two requests: finish what is in flight, or stop now.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    /// The first SIGTERM or SIGINT.
    pub drain: CancellationToken,
    /// The second.
    pub now: CancellationToken,
}

impl Stop {
    /// Listens for SIGTERM and SIGINT from now on.
    ///
    /// # Errors
    /// If the handlers cannot be installed.
    pub fn on_signals() -> io::Result<Self> {
        let stop = Self::default();
        // Installed here and not in the task: a signal that comes before the task first runs must
        // count.
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let (drain, now) = (stop.drain.clone(), stop.now.clone());
        tokio::spawn(async move {
            for token in [drain, now] {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                token.cancel();
            }
        });
        Ok(stop)
    }
}
