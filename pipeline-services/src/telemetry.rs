//! Logs: text on a terminal, JSON elsewhere; `OBSERVATORY_LOG` filters them.
//!
//! Messages are constant and values are fields; an error is the field `error.message`, its causes
//! on one line.

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, fmt, prelude::*};

/// Starts logging to standard error.
pub fn start() {
    let filter = EnvFilter::try_from_env("OBSERVATORY_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let registry = tracing_subscriber::registry().with(filter);
    // Standard output is for what a role prints, such as the version of the schema.
    if std::io::stderr().is_terminal() {
        registry.with(fmt::layer().with_writer(std::io::stderr)).init();
    } else {
        registry.with(fmt::layer().json().flatten_event(true).with_writer(std::io::stderr)).init();
    }
}

/// An error and its sources on one line, for logs and for the reasons of failed tasks.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Many errors repeat their cause in their own words.
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{SqlError, StoreError};

    #[test]
    fn chain_names_each_cause_once() {
        let cause = std::io::Error::other("disk is full");
        let error = StoreError::Unreachable(SqlError::Io(cause));
        assert_eq!(chain(&error).matches("disk is full").count(), 1);
    }
}
