//! Retries of requests to a hub.
//!
//! Only failures that may pass are retried, with growing, randomised pauses.

use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::header::{self, HeaderMap};

use super::error::HubError;
use crate::output::progress;

/// Time-outs and retries of requests to a hub.
#[derive(Debug, Clone, Copy)]
pub struct RetryPolicy {
    /// Time-out for a connection.
    pub connect: Duration,
    /// Time-out between two parts of a response.
    pub read: Duration,
    /// Maximum number of attempts in a row without progress.
    pub attempts: u32,
    /// Pause after the first failed attempt, doubled by each further one.
    pub backoff: Duration,
    /// Longest pause; a hub that demands a longer one is given up.
    pub longest: Duration,
}

impl Default for RetryPolicy {
    // Not tuned. Six attempts allow up to 15 s of pauses in all: enough for a short outage, and
    // bearable for a person who waits.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            read: Duration::from_secs(30),
            attempts: 6,
            backoff: Duration::from_millis(500),
            longest: Duration::from_secs(60),
        }
    }
}

/// Attempts of one request.
#[derive(Debug)]
pub(in crate::models) struct Retries {
    policy: RetryPolicy,
    failed: u32,
}

impl Retries {
    pub(in crate::models) fn new(policy: RetryPolicy) -> Self {
        Self { policy, failed: 0 }
    }

    /// Starts counting from zero again, because the last attempt made progress.
    pub(in crate::models) fn reset(&mut self) {
        self.failed = 0;
    }

    /// Waits before the next attempt.
    ///
    /// # Errors
    /// Returns the error if another attempt would not help, or there were enough.
    pub(in crate::models) async fn pause(&mut self, error: HubError) -> Result<(), HubError> {
        self.failed += 1;
        let asked = match &error {
            HubError::Busy { after, .. } => *after,
            HubError::Network { .. } => None,
            // Names, credentials and violations of the interface will be the same at the next
            // attempt.
            _ => return Err(error),
        };
        // The hub knows best when it has time again.
        let wait = asked.unwrap_or_else(|| self.backoff(fastrand::f64()));
        if self.failed >= self.policy.attempts || wait > self.policy.longest {
            return Err(error);
        }
        progress(format_args!("{error}; retrying in {:.1} s", wait.as_secs_f64()));
        tokio::time::sleep(wait).await;
        Ok(())
    }

    /// The pause after the last failure. Half of it is random, so that many machines do not retry
    /// in step.
    fn backoff(&self, random: f64) -> Duration {
        let doubled = self.policy.backoff.saturating_mul(1 << (self.failed.clamp(1, 16) - 1));
        doubled.min(self.policy.longest).mul_f64(0.5 + random / 2.0)
    }
}

/// Parses the Retry-After header: seconds, or a date (RFC 9110, section 10.2.3).
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    parse_retry_after(headers.get(header::RETRY_AFTER)?.to_str().ok()?, Utc::now())
}

fn parse_retry_after(value: &str, now: DateTime<Utc>) -> Option<Duration> {
    let value = value.trim();
    match value.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        // Dates are written as in e-mail (RFC 9110, section 5.6.7).
        Err(_) => (DateTime::parse_from_rfc2822(value).ok()?.to_utc() - now).to_std().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit() {
        let check = |failed: u32, random: f64, expected_ms: u64| {
            let retries = Retries { policy: RetryPolicy::default(), failed };
            assert_eq!(retries.backoff(random), Duration::from_millis(expected_ms), "{failed}");
        };
        check(1, 0.0, 250);
        check(1, 1.0, 500);
        check(3, 1.0, 2_000);
        check(100, 1.0, 60_000);
    }

    #[test]
    fn a_server_names_seconds_or_a_date() {
        let now = "2015-10-21T07:27:00Z".parse().unwrap();
        let check = |value: &str, expected: Option<u64>| {
            assert_eq!(parse_retry_after(value, now), expected.map(Duration::from_secs), "{value}");
        };
        check("120", Some(120));
        check("0", Some(0));
        check("Wed, 21 Oct 2015 07:28:00 GMT", Some(60));
        check("Wed, 21 Oct 2015 07:26:00 GMT", None);
        check("soon", None);
    }

    #[tokio::test]
    async fn what_cannot_get_better_is_not_tried_again() {
        let policy = RetryPolicy { attempts: 2, backoff: Duration::ZERO, ..RetryPolicy::default() };
        let busy = |after: Option<u64>| HubError::Busy {
            host: "h".to_owned(),
            status: 429,
            after: after.map(Duration::from_secs),
        };
        let mut retries = Retries::new(policy);
        assert!(retries.pause(busy(None)).await.is_ok());
        retries.reset();
        assert!(retries.pause(busy(Some(0))).await.is_ok());
        assert!(retries.pause(busy(None)).await.is_err());
        let error = Retries::new(policy).pause(busy(Some(3_600))).await.unwrap_err().to_string();
        assert_eq!(error, "h responded with status 429, retry after 3600 s");
        let final_error = HubError::Protocol { host: "h".to_owned(), problem: "lies".to_owned() };
        assert_eq!(Retries::new(policy).pause(final_error).await.unwrap_err().to_string(), "h lies");
    }
}
