//! Why a hub gave nothing, in the words a user reads.
//!
//! One variant for each thing a caller can do about it: look again at the name, give other
//! credentials, come back later, or name another hub.

use std::time::Duration;

/// Why a hub gave nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HubError {
    /// There is no such model, revision or file, or the hub hides it from us.
    #[error("{host} has no {what}{said}")]
    NotFound {
        /// The hub's host.
        host: String,
        /// What was asked for.
        what: String,
        /// What the hub said about it, after a colon.
        said: String,
    },
    /// It wants other credentials, or none of us at all.
    #[error("{host} refused {what} with status {status}{said}")]
    Refused {
        /// The hub's host.
        host: String,
        /// What was asked for.
        what: String,
        /// Its answer.
        status: u16,
        /// What the hub said about it, after a colon.
        said: String,
    },
    /// It cannot answer now.
    #[error("{host} responded with status {status}{}", retry_text(*.after))]
    Busy {
        /// The hub's host.
        host: String,
        /// Its answer.
        status: u16,
        /// When it wants to be asked again.
        after: Option<Duration>,
    },
    /// No connection, or one that was lost.
    #[error("{host}: {reason}")]
    Network {
        /// The hub's host.
        host: String,
        /// What happened.
        reason: String,
    },
    /// It does not keep to the interface.
    #[error("{host} {problem}")]
    Protocol {
        /// The hub's host.
        host: String,
        /// What it does instead.
        problem: String,
    },
}

fn retry_text(after: Option<Duration>) -> String {
    after.map(|after| format!(", retry after {} s", after.as_secs())).unwrap_or_default()
}
