//! Why a page could not be fetched.
//!
//! Each kind has a name for counters and carries what its message names, such as the host.

use std::time::Duration;

/// Reason for a page that could not be fetched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FetchError {
    /// The host's robots.txt keeps us from the address.
    #[error("robots.txt does not allow {url}")]
    RobotsDenied {
        /// Address.
        url: String,
    },
    /// The host's robots.txt could not be fetched, which counts as a refusal of everything
    /// (RFC 9309 §2.3.1.4).
    #[error("could not fetch robots.txt from {host}; skipping the host: {reason}")]
    RobotsUnreachable {
        /// Host.
        host: String,
        /// Why.
        reason: String,
    },
    /// The host refuses us; nothing more is asked of it.
    #[error("{host} refuses us: {reason}")]
    Blocked {
        /// Host.
        host: String,
        /// The sign of it.
        reason: String,
    },
    /// The host asked to be left alone for longer than we wait.
    #[error("{host} asks to come back in {} s, more than is waited for", after.as_secs())]
    Parked {
        /// Host.
        host: String,
        /// Time that it asks for.
        after: Duration,
    },
    /// The page does not exist, or no longer.
    #[error("{url} does not exist: status {status}")]
    Gone {
        /// Address.
        url: String,
        /// 404 or 410.
        status: u16,
    },
    /// Another status than success.
    #[error("{url} answered with status {status}")]
    Status {
        /// Address.
        url: String,
        /// Status.
        status: u16,
    },
    /// A redirect that is not followed.
    #[error("{url} redirects {reason}")]
    Redirect {
        /// Address.
        url: String,
        /// The target, and the reason against it.
        reason: String,
    },
    /// The answer is larger than allowed.
    #[error("{url} answered with more than {limit} bytes")]
    TooLarge {
        /// Address.
        url: String,
        /// Bytes allowed.
        limit: usize,
    },
    /// The answer is not text.
    #[error("{url} answered with {content_type}, not with a page")]
    NotText {
        /// Address.
        url: String,
        /// Its type.
        content_type: String,
    },
    /// The answer took too long.
    #[error("{url} did not answer in time")]
    Timeout {
        /// Address.
        url: String,
    },
    /// The host's address is not a public one.
    #[error("{url} is not asked for: {reason}")]
    Inside {
        /// Address.
        url: String,
        /// Kind of the host's address.
        reason: String,
    },
    /// The connection failed or broke off.
    #[error("{url} cannot be reached: {reason}")]
    Network {
        /// Address.
        url: String,
        /// Why.
        reason: String,
    },
}

impl FetchError {
    /// A short name for counters and reports.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::RobotsDenied { .. } => "robots_denied",
            Self::RobotsUnreachable { .. } => "robots_unreachable",
            Self::Blocked { .. } => "blocked",
            Self::Parked { .. } => "parked",
            Self::Gone { .. } => "gone",
            Self::Status { .. } => "status",
            Self::Redirect { .. } => "redirect",
            Self::TooLarge { .. } => "too_large",
            Self::NotText { .. } => "not_text",
            Self::Timeout { .. } => "timeout",
            Self::Inside { .. } => "inside",
            Self::Network { .. } => "network",
        }
    }
}
