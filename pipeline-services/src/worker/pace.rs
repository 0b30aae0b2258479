//! When to try again: leases, back-off, and a circuit for each dependency.
//!
//! Delays are for the worker to decide: a stage says what kind of trouble it has, and perhaps when
//! the server that refused it wants to be asked again.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use uuid::Uuid;

use crate::stage::Dependency;

/// Longest time that a server may make a task wait before it is asked again: an answer of a day, or
/// of nonsense, must not hold a run for a day. The number is a choice.
pub(crate) const LONGEST_HINT: Duration = Duration::from_secs(15 * 60);

/// Times that a test or an operator may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Time for which a claimed task stays its worker's without a heartbeat.
    pub lease: Duration,
    /// First delay of a retry; each further one doubles.
    pub backoff: Duration,
    /// Longest delay of a retry.
    pub longest_backoff: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        // Choices: a lost worker is noticed within half a minute, and an outage of minutes costs a
        // handful of tries and at most a minute after its end.
        Self {
            lease: Duration::from_secs(30),
            backoff: Duration::from_secs(2),
            longest_backoff: Duration::from_secs(60),
        }
    }
}

impl Timing {
    /// Delay before try number `tries`, without jitter.
    pub(super) fn delay(&self, tries: u32) -> Duration {
        // Bounded, since a shift by 32 bits or more overflows.
        self.backoff.saturating_mul(1 << tries.saturating_sub(1).min(10)).min(self.longest_backoff)
    }
}

/// Between half of `delay` and all of it, so that tasks that failed together do not return
/// together.
pub(super) fn jittered(delay: Duration) -> Duration {
    // A version 4 UUID is random in its last 62 bits, so no generator is needed.
    let random = Uuid::new_v4().as_u128() as u32;
    delay / 2 + (delay / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
}

/// The circuits of a process, one for each thing its stages depend on.
///
/// A circuit opens when a whole batch found its dependency away; while it is open nothing is
/// claimed that would only find the same, and when its time is over a single task tries.
#[derive(Debug, Default)]
pub struct Circuits(Mutex<BTreeMap<Dependency, Circuit>>);

#[derive(Debug, Clone, Copy)]
struct Circuit {
    until: Instant,
    trips: u32,
}

impl Circuits {
    /// Opens the circuit, for longer each time in a row; returns for how long.
    pub(super) fn open(
        &self,
        dependency: Dependency,
        timing: &Timing,
        hint: Option<Duration>,
        now: Instant,
    ) -> Duration {
        // Still good after a panic elsewhere: no entry is ever half written.
        let mut circuits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The trips of a circuit whose time is over are kept, so that the next outage found by its
        // probe waits longer.
        let known = circuits.get(&dependency).copied();
        // Workers that find the same outage at the same time trip it once.
        if let Some(circuit) = known.filter(|circuit| circuit.until > now) {
            return circuit.until - now;
        }
        let trips = known.map_or(0, |circuit| circuit.trips).saturating_add(1);
        // A hint only lengthens the wait: one of zero would let every worker ask again at once.
        let wait = hint.unwrap_or_default().max(jittered(timing.delay(trips))).min(LONGEST_HINT);
        circuits.insert(dependency, Circuit { until: now + wait, trips });
        wait
    }

    /// Closes the circuit: the dependency answers.
    pub(super) fn close(&self, dependency: Dependency) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&dependency);
    }

    /// For how long the circuit is still open; none when it is closed.
    pub(super) fn open_for(&self, dependency: Dependency, now: Instant) -> Option<Duration> {
        let circuits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        circuits.get(&dependency).map(|circuit| circuit.until.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_a_minute() {
        let check = |tries, seconds| {
            assert_eq!(Timing::default().delay(tries), Duration::from_secs(seconds), "try {tries}");
        };
        check(1, 2);
        check(2, 4);
        check(3, 8);
        check(6, 60);
        check(40, 60);
    }

    #[test]
    fn jitter_stays_between_half_and_all() {
        for _ in 0..100 {
            let wait = jittered(Duration::from_secs(8));
            assert!((Duration::from_secs(4)..=Duration::from_secs(8)).contains(&wait), "{wait:?}");
        }
    }

    #[test]
    fn a_circuit_stays_open_longer_each_time_and_closes_at_once() {
        let (circuits, timing) = (Circuits::default(), Timing::default());
        let mut now = Instant::now();
        let mut open = |hint| {
            let wait = circuits.open(Dependency::Inference, &timing, hint, now);
            now += wait;
            wait.as_secs_f64()
        };
        assert!((1.0..=2.0).contains(&open(None)));
        assert!((2.0..=4.0).contains(&open(None)));
        assert!((4.0..=8.0).contains(&open(None)));
        assert_eq!(open(Some(Duration::from_secs(30))), 30.0);
        assert_eq!(open(Some(Duration::from_secs(86_400))), LONGEST_HINT.as_secs_f64());
        assert_eq!(open(Some(Duration::MAX)), LONGEST_HINT.as_secs_f64());
        assert_eq!(circuits.open_for(Dependency::Inference, now), Some(Duration::ZERO));
        assert_eq!(circuits.open_for(Dependency::Database, now), None);
        circuits.close(Dependency::Inference);
        assert_eq!(circuits.open_for(Dependency::Inference, now), None);
    }

    #[test]
    fn an_outage_that_many_find_at_once_trips_its_circuit_once() {
        let (circuits, timing, now) = (Circuits::default(), Timing::default(), Instant::now());
        let first = circuits.open(Dependency::Inference, &timing, None, now);
        for _ in 0..20 {
            assert_eq!(circuits.open(Dependency::Inference, &timing, None, now), first);
        }
    }
}
