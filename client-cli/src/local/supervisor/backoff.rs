//! Pauses before a dead process is restarted.
//!
//! They double with each death in a row, and start over after the process has run for a while.

use std::time::Duration;

/// Pause after the first death. Not tuned: short, because most restarts succeed.
const FIRST: Duration = Duration::from_millis(200);
/// Longest pause. Not tuned: a fixed cause is noticed within half a minute, and a broken process
/// costs little.
const LONGEST: Duration = Duration::from_secs(30);

/// Running time after which a process counts as healthy again. Not tuned: what fails by its
/// configuration fails sooner.
const WELL_AFTER: Duration = Duration::from_secs(30);

/// Pauses that double with each death in a row.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Records a death after a running time of `lived`; returns the pause before the next start.
    pub(super) fn after(&mut self, lived: Duration) -> Duration {
        // Before counting: a process that ran well and died has failed once.
        if lived >= WELL_AFTER {
            self.failures = 0;
        }
        self.failures += 1;
        LONGEST.min(FIRST * 2_u32.saturating_pow(self.failures.min(20) - 1))
    }

    /// Deaths in a row.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit_and_start_over_after_a_good_while() {
        let mut backoff = Backoff::default();
        let pauses: Vec<u128> = (0..10).map(|_| backoff.after(Duration::ZERO).as_millis()).collect();
        assert_eq!(pauses, [200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000]);
        assert_eq!(backoff.failures(), 10);
        assert_eq!(backoff.after(WELL_AFTER).as_millis(), 200);
        assert_eq!(backoff.failures(), 1);
        assert!((0..100).all(|_| backoff.after(Duration::ZERO) <= LONGEST));
    }
}
