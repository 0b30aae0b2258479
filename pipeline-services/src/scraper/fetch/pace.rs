//! When the next request to a host may start: delays, throttling, retries. Pure, so that it can be
//! tested without a clock.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use super::options::{AutoThrottle, FetchOptions};

/// Longest wait between two tries, before `Retry-After` is looked at. Not tuned: a host that is
/// restarted is back by then.
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);

/// The pace of one host.
#[derive(Debug)]
pub(super) struct Pace {
    delay: Duration,
    floor: Duration,
    /// No gap is ever shorter; what robots.txt asks for.
    crawl_delay: Duration,
    throttle: Option<AutoThrottle>,
    randomize: bool,
    last_start: Option<Instant>,
    not_before: Option<Instant>,
}

impl Pace {
    pub(super) fn new(options: &FetchOptions) -> Self {
        let start = options.autothrottle.map_or(Duration::ZERO, |throttle| throttle.start);
        Self {
            delay: options.delay.max(start),
            floor: options.delay,
            crawl_delay: Duration::ZERO,
            throttle: options.autothrottle,
            randomize: options.randomize,
            last_start: None,
            not_before: None,
        }
    }

    /// Makes the least delay longer, never shorter.
    pub(super) fn raise(&mut self, least: Duration) {
        self.floor = self.floor.max(least);
        self.delay = self.delay.max(least);
    }

    /// A delay that not even a random factor may undercut.
    pub(super) fn obey(&mut self, crawl_delay: Duration) {
        self.crawl_delay = self.crawl_delay.max(crawl_delay);
        self.raise(crawl_delay);
    }

    /// Start of the next request; `random` lies in [0, 1).
    pub(super) fn reserve(&mut self, now: Instant, random: f64) -> Instant {
        let factor = if self.randomize { 0.5 + random } else { 1.0 };
        let gap = self.delay.mul_f64(factor).max(self.crawl_delay);
        let start =
            self.last_start.map_or(now, |last| now.max(last + gap)).max(self.not_before.unwrap_or(now));
        // Taken before it is waited for, so that the next caller queues up behind it.
        self.last_start = Some(start);
        start
    }

    /// Nothing starts before the end of a wait that the host asked for.
    pub(super) fn hold(&mut self, until: Instant) {
        self.not_before = Some(self.not_before.map_or(until, |before| before.max(until)));
    }

    /// Adapts the delay to an answer: half way to latency / target, at once when that is longer,
    /// within the floor and the maximum; an answer other than 200 never shortens it (Scrapy,
    /// AutoThrottle).
    pub(super) fn adapt(&mut self, latency: Duration, status: u16) {
        let Some(throttle) = self.throttle else { return };
        let target = latency.div_f64(throttle.target_concurrency);
        let new = ((self.delay + target) / 2).max(target).min(throttle.max).max(self.floor);
        if status == 200 || new > self.delay {
            self.delay = new;
        }
    }

    /// A host that says it is too busy gets twice the time.
    pub(super) fn slow_down(&mut self) {
        if let Some(throttle) = self.throttle {
            self.delay = (self.delay * 2).min(throttle.max).max(self.floor);
        }
    }
}

/// Statuses worth another try.
pub(super) const fn is_transient(status: u16) -> bool {
    // 520 to 524 are Cloudflare's, for a server behind it that is away.
    matches!(status, 408 | 429 | 500 | 502 | 503 | 504 | 520..=524)
}

/// Full-jitter exponential backoff before the try after `tried` ones; `random` lies in [0, 1).
pub(super) fn backoff(base: Duration, tried: u32, random: f64) -> Duration {
    // The shift is bounded, since one by 32 bits overflows.
    base.saturating_mul(1 << tried.saturating_sub(1).min(16)).min(LONGEST_BACKOFF.max(base)).mul_f64(random)
}

/// Time that a `Retry-After` header asks for: seconds or a date; none when it is neither or lies in
/// the past.
pub(super) fn retry_after(value: &str, now: DateTime<Utc>) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return (seconds > 0).then(|| Duration::from_secs(seconds));
    }
    // A date of HTTP, which ends in GMT, is one of RFC 2822 too.
    let until = DateTime::parse_from_rfc2822(value).ok()?;
    (until.with_timezone(&Utc) - now).to_std().ok().filter(|wait| !wait.is_zero())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert, proptest};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn pace(delay: f64, start: f64, max: f64, target: f64) -> Pace {
        Pace::new(&FetchOptions {
            delay: Duration::from_secs_f64(delay),
            autothrottle: Some(AutoThrottle {
                start: Duration::from_secs_f64(start),
                max: Duration::from_secs_f64(max),
                target_concurrency: target,
            }),
            ..FetchOptions::default()
        })
    }

    #[test]
    fn autothrottle_follows_scrapy() {
        let check = |mut pace: Pace, latency: f64, status: u16, expected: f64| {
            pace.adapt(Duration::from_secs_f64(latency), status);
            assert!((pace.delay.as_secs_f64() - expected).abs() < 1e-9, "{:?} for {expected}", pace.delay);
        };
        check(pace(0.0, 5.0, 60.0, 1.0), 1.0, 200, 3.0);
        check(pace(0.0, 5.0, 60.0, 1.0), 8.0, 200, 8.0);
        check(pace(0.0, 5.0, 60.0, 2.0), 8.0, 200, 4.5);
        check(pace(0.0, 5.0, 60.0, 1.0), 1.0, 404, 5.0);
        check(pace(0.0, 5.0, 60.0, 1.0), 9.0, 500, 9.0);
        check(pace(0.0, 5.0, 60.0, 1.0), 100.0, 200, 60.0);
        check(pace(4.5, 5.0, 60.0, 1.0), 1.0, 200, 4.5);
        check(pace(7.0, 5.0, 60.0, 1.0), 1.0, 404, 7.0);
        check(pace(1.0, 1.0, 10.0, 8.0), 0.2, 200, 1.0);
    }

    #[test]
    fn requests_start_apart() {
        let now = Instant::now();
        let mut pace = pace(1.0, 1.0, 10.0, 8.0);
        assert_eq!(pace.reserve(now, 0.9), now);
        assert_eq!(pace.reserve(now, 0.0), now + SECOND / 2);
        assert_eq!(pace.reserve(now, 0.5), now + SECOND / 2 + SECOND);
        assert_eq!(pace.reserve(now + 60 * SECOND, 0.0), now + 60 * SECOND);
        pace.obey(3 * SECOND);
        assert_eq!(pace.reserve(now + 60 * SECOND, 0.0), now + 63 * SECOND);
        pace.hold(now + 100 * SECOND);
        assert_eq!(pace.reserve(now + 64 * SECOND, 0.0), now + 100 * SECOND);
        pace.slow_down();
        assert_eq!(pace.delay, 6 * SECOND);
        pace.slow_down();
        assert_eq!(pace.delay, 10 * SECOND);
    }

    #[test]
    fn waits_the_host_asked_for() {
        let now: DateTime<Utc> = "2015-10-21T07:27:00Z".parse().unwrap();
        let check = |value: &str, expected: Option<u64>| {
            assert_eq!(retry_after(value, now), expected.map(Duration::from_secs), "{value}");
        };
        check("120", Some(120));
        check("Wed, 21 Oct 2015 07:28:00 GMT", Some(60));
        check("Wed, 21 Oct 2015 07:26:00 GMT", None);
        check("0", None);
        check("-5", None);
        check("soon", None);
    }

    #[test]
    fn damaged_waits_are_read_or_left_out() {
        let now: DateTime<Utc> = "2015-10-21T07:27:00Z".parse().unwrap();
        observatory_mutator::texts("Retry-After", &["120", "Wed, 21 Oct 2015 07:28:00 GMT"], |text| {
            assert!(retry_after(text, now).is_none_or(|wait| !wait.is_zero()));
        });
    }

    proptest! {
        #[test]
        fn backoff_stays_within_bounds(millis in 0_u64..10_000, tried in 1_u32..100, random in 0.0..1.0) {
            let base = Duration::from_millis(millis);
            prop_assert!(backoff(base, tried, random) <= LONGEST_BACKOFF);
            prop_assert!(tried > 16 || backoff(base, tried, random) <= base * 2_u32.pow(tried - 1));
        }
    }
}
