//! Logs on stderr: lines for a person at a terminal, JSON elsewhere.
//!
//! The form follows the stream and needs no flag: a terminal is read by a person, all else by a
//! collector.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Starts logging; `OBSERVATORY_LOG` chooses what, `info` by default. Does nothing where a
/// subscriber exists already.
pub fn init() {
    let filter = EnvFilter::try_from_env("OBSERVATORY_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    // stderr, as stdout belongs to programs that read a tool's answer.
    let registry = tracing_subscriber::registry().with(filter);
    let started = if stderr().is_terminal() {
        registry.with(tracing_subscriber::fmt::layer().with_writer(stderr)).try_init()
    } else {
        registry
            .with(tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(stderr))
            .try_init()
    };
    if started.is_err() {
        tracing::debug!("logging was already set up");
    }
}
