//! Retries of requests to a hub.
//!
//! Only failures that may pass are retried, with growing, randomised pauses.

use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::header::{self, HeaderMap};

use super::error::HubError;
use crate::output::progress;

/// How long to wait for a hub, and how often to ask it again.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Longest wait for a connection.
    pub connect: Duration,
    /// Longest silence in the middle of an answer.
    pub read: Duration,
    /// Tries in a row that bring nothing, at most.
    pub tries: u32,
    /// Pause after the first of them; each further one doubles it.
    pub backoff: Duration,
    /// Longest pause; a hub that asks for more is not asked again.
    pub longest: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            read: Duration::from_secs(30),
            tries: 6,
            backoff: Duration::from_millis(500),
            longest: Duration::from_secs(60),
        }
    }
}

/// The tries of one request.
#[derive(Debug)]
pub(in crate::models) struct Tries {
    patience: Patience,
    failed: u32,
}

impl Tries {
    pub(in crate::models) fn new(patience: Patience) -> Self {
        Self { patience, failed: 0 }
    }

    /// The last try brought something, so that the next failure is a first one again.
    pub(in crate::models) fn progressed(&mut self) {
        self.failed = 0;
    }

    /// Waits before the next try.
    ///
    /// # Errors
    /// Gives the error back when another try would not help, or there were enough.
    pub(in crate::models) async fn pause(&mut self, error: HubError) -> Result<(), HubError> {
        self.failed += 1;
        let asked = match &error {
            HubError::Busy { after, .. } => *after,
            HubError::Network { .. } => None,
            _ => return Err(error),
        };
        let wait = asked.unwrap_or_else(|| self.backoff(fastrand::f64()));
        if self.failed >= self.patience.tries || wait > self.patience.longest {
            return Err(error);
        }
        progress(format_args!("{error}; retrying in {:.1} s", wait.as_secs_f64()));
        tokio::time::sleep(wait).await;
        Ok(())
    }

    /// Half of the pause is left to chance, so that many machines do not come back together.
    fn backoff(&self, random: f64) -> Duration {
        let doubled = self.patience.backoff.saturating_mul(1 << (self.failed.clamp(1, 16) - 1));
        doubled.min(self.patience.longest).mul_f64(0.5 + random / 2.0)
    }
}

/// When a server wants to be asked again: seconds, or a date.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    parse_retry_after(headers.get(header::RETRY_AFTER)?.to_str().ok()?, Utc::now())
}

fn parse_retry_after(value: &str, now: DateTime<Utc>) -> Option<Duration> {
    let value = value.trim();
    match value.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => (DateTime::parse_from_rfc2822(value).ok()?.to_utc() - now).to_std().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit() {
        let check = |failed: u32, random: f64, expected_ms: u64| {
            let tries = Tries { patience: Patience::default(), failed };
            assert_eq!(tries.backoff(random), Duration::from_millis(expected_ms), "{failed}");
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
        let patience = Patience { tries: 2, backoff: Duration::ZERO, ..Patience::default() };
        let busy = |after: Option<u64>| HubError::Busy {
            host: "h".to_owned(),
            status: 429,
            after: after.map(Duration::from_secs),
        };
        let mut tries = Tries::new(patience);
        assert!(tries.pause(busy(None)).await.is_ok());
        tries.progressed();
        assert!(tries.pause(busy(Some(0))).await.is_ok());
        assert!(tries.pause(busy(None)).await.is_err());
        let error = Tries::new(patience).pause(busy(Some(3_600))).await.unwrap_err().to_string();
        assert_eq!(error, "h responded with status 429, retry after 3600 s");
        let final_error = HubError::Nonsense { host: "h".to_owned(), does: "lies".to_owned() };
        assert_eq!(Tries::new(patience).pause(final_error).await.unwrap_err().to_string(), "h lies");
    }
}
