//! Errors of a hub, as users read them.
//!
//! One variant for each possible reaction: check the name, use other credentials, retry later, or
//! choose another hub.

use std::time::Duration;

/// Error of a request to a hub.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HubError {
    /// No such model, revision or file, or the hub hides it.
    #[error("{host} has no {what}{said}")]
    NotFound {
        /// Host of the hub.
        host: String,
        /// Description of the request.
        what: String,
        /// Message of the hub, after a colon.
        said: String,
    },
    /// Missing or insufficient credentials.
    #[error("{host} refused {what} with status {status}{said}")]
    Refused {
        /// Host of the hub.
        host: String,
        /// Description of the request.
        what: String,
        /// HTTP status.
        status: u16,
        /// Message of the hub, after a colon.
        said: String,
    },
    /// Temporarily unavailable.
    #[error("{host} responded with status {status}{}", retry_text(*.after))]
    Busy {
        /// Host of the hub.
        host: String,
        /// HTTP status.
        status: u16,
        /// Delay requested by the hub.
        after: Option<Duration>,
    },
    /// No connection, or a lost one.
    #[error("{host}: {reason}")]
    Network {
        /// Host of the hub.
        host: String,
        /// Cause.
        reason: String,
    },
    /// Violation of the interface.
    #[error("{host} {problem}")]
    Protocol {
        /// Host of the hub.
        host: String,
        /// Description of the violation, as a verb phrase.
        problem: String,
    },
}

fn retry_text(after: Option<Duration>) -> String {
    after.map(|after| format!(", retry after {} s", after.as_secs())).unwrap_or_default()
}
