//! Distinguishes a hung process from a busy one: health checks are repeated, and only a series of
//! unanswered ones counts.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval};

/// Interval between health checks, and their time-out. Not tuned: a busy server may take seconds to
/// respond.
pub(crate) const DEFAULT_HEALTH_INTERVAL: Duration = Duration::from_secs(10);

/// Conditions under which a process that does not respond counts as hung.
#[derive(Debug, Clone, Copy)]
pub(super) struct HangPolicy {
    /// Interval between health checks, and their time-out.
    pub(super) interval: Duration,
    /// Failed checks in a row after which the process counts as hung.
    pub(super) max_missed: u32,
}

impl HangPolicy {
    /// For a service: a minute at the default interval.
    pub(super) fn of_service(interval: Duration) -> Self {
        Self { interval, max_missed: 6 }
    }

    /// For Postgres, whose restart costs a recovery: two minutes at the default interval.
    pub(super) fn of_postgres(interval: Duration) -> Self {
        Self { interval, max_missed: 12 }
    }
}

/// Report about a hung process.
#[derive(Debug)]
pub(super) struct Hang {
    /// Time of its last response.
    pub(super) since: Instant,
    /// Error of the last check.
    why: String,
}

impl Hang {
    /// Reason for killing the process.
    pub(super) fn reason(&self) -> String {
        format!("hung: no response for {} s ({})", self.since.elapsed().as_secs(), self.why)
    }
}

/// Waits until the process at `address` has failed as many checks in a row as the policy allows.
/// `answers` runs one check with a time-out and returns the problem, if any.
pub(super) async fn detect_hang<F>(
    address: SocketAddr,
    policy: HangPolicy,
    answers: impl Fn(SocketAddr, Duration) -> F,
) -> Hang
where
    F: Future<Output = Result<(), String>>,
{
    let mut ticks = interval(policy.interval);
    // After the machine was suspended, missed checks must not be made up for at once: a process
    // that is only waking up would be killed.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick comes at once, when the process has only just responded.
    ticks.tick().await;
    let (mut since, mut missed) = (Instant::now(), 0);
    loop {
        ticks.tick().await;
        match answers(address, policy.interval).await {
            Ok(()) => (since, missed) = (Instant::now(), 0),
            Err(why) => {
                missed += 1;
                tracing::warn!(address = %address, missed, error.message = why, "health check failed");
                if missed >= policy.max_missed {
                    return Hang { since, why };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn only_silence_without_a_break_counts() {
        let asked = AtomicUsize::new(0);
        // Two failures, then a response, then failures only.
        let answers = |_, _| {
            let turn = asked.fetch_add(1, Ordering::SeqCst);
            async move { if turn == 2 { Ok(()) } else { Err("no answer".to_owned()) } }
        };
        let policy = HangPolicy { interval: Duration::from_millis(2), max_missed: 3 };
        let hang = detect_hang(([127, 0, 0, 1], 1).into(), policy, answers).await;
        assert_eq!(asked.load(Ordering::SeqCst), 6);
        assert_eq!(hang.reason(), "hung: no response for 0 s (no answer)");
    }

    #[test]
    fn postgres_is_borne_with_for_longer() {
        let second = Duration::from_secs(1);
        let borne = |policy: HangPolicy| policy.interval * policy.max_missed;
        assert_eq!(borne(HangPolicy::of_service(DEFAULT_HEALTH_INTERVAL)), second * 60);
        assert_eq!(borne(HangPolicy::of_postgres(DEFAULT_HEALTH_INTERVAL)), second * 120);
    }
}
