//! Limits, permits and retry times.
//!
//! Speeds are fed in as measurements; nothing here depends on the clock.

use super::*;

fn admission(requests: usize, tokens: u64) -> Arc<Admission> {
    Admission::new(Limits { requests, budget: Budget::Tokens(tokens) })
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
    let near = |hint: Duration, expected: f64| {
        assert!((hint.as_secs_f64() - expected).abs() < 0.1, "{hint:?} {expected}");
    };
    near(a.drain_estimate(), 10.0);
    let _more = a.reserve(80_000).unwrap();
    let refused = |tokens: u64| a.reserve(tokens).unwrap_err().retry_after().unwrap();
    near(refused(10_100), 22.5);
    near(refused(45_000), 35.0);
    near(refused(1_000_000), 60.0);
}

#[test]
fn running_sequences_do_not_wait() {
    let budget = Budget::RunningAndQueued { running: 50_000, wait: Duration::from_secs(30) };
    let a = Admission::new(Limits { requests: 9, budget });
    (0..99).for_each(|_| a.observe(100, Duration::from_secs(1)));
    assert_eq!(a.token_limit(), 50_000 + 16_384);
}

#[test]
fn the_first_measurement_outweighs_the_assumption() {
    let a = Admission::new(Limits { requests: 9, budget: Budget::Wait(Duration::from_secs(30)) });
    a.observe(16_384, Duration::from_millis(7));
    assert!((a.rate() * 0.007 / 16_384.0 - 1.0).abs() < 0.02, "{}", a.rate());
    assert_eq!(a.token_limit(), 4_194_304);
}

#[test]
fn a_permit_follows_the_work() {
    let a = admission(9, 100);
    let mut permit = a.reserve(40).unwrap();
    permit.settle(70);
    assert_eq!(a.queued_tokens(), 70);
    permit.shrink(90);
    assert_eq!(a.queued_tokens(), 70);
    permit.shrink(20);
    assert_eq!(a.queued_tokens(), 20);
    permit.settle(5_000);
    assert_eq!(a.queued_tokens(), 100);
    drop(permit);
    assert_eq!(a.queued_tokens(), 0);
}

#[test]
fn a_budget_in_time_follows_the_measured_speed() {
    let a = Admission::new(Limits { requests: 9, budget: Budget::Wait(Duration::from_secs(10)) });
    let check = |tokens: usize, expected: u64| {
        (0..99).for_each(|_| a.observe(tokens, Duration::from_secs(1)));
        assert!(a.token_limit().abs_diff(expected) < 10, "{}", a.token_limit());
    };
    assert_eq!(a.token_limit(), 20_000);
    check(5_000, 50_000);
    check(100, 16_384);
    check(1_000_000, 4_194_304);
    // A small batch is slow for its size, and weighs little against the large ones.
    (0..9).for_each(|_| a.observe(10, Duration::from_millis(100)));
    assert!(a.rate() > 800_000.0, "{}", a.rate());
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
