//! Errors as users see them: the chain of causes on one line, and a hint if there is one.
//!
//! A hint is attached where the advice is known, and printed once at the end.

use std::error::Error as StdError;
use std::fmt;
use std::io::{self, IsTerminal};

use crate::output::write_stderr;

/// An error together with what the user can do about it.
#[derive(Debug)]
pub(crate) struct Hinted {
    source: anyhow::Error,
    hint: String,
}

impl Hinted {
    /// A new error with a hint.
    pub(crate) fn error(message: impl fmt::Display, hint: impl Into<String>) -> anyhow::Error {
        Self { source: anyhow::anyhow!("{message}"), hint: hint.into() }.into()
    }

    /// Adds a hint to an error.
    pub(crate) fn wrap(source: impl Into<anyhow::Error>, hint: impl Into<String>) -> anyhow::Error {
        Self { source: source.into(), hint: hint.into() }.into()
    }

    /// The hint.
    pub(crate) fn hint(&self) -> &str {
        &self.hint
    }

    /// The error that the hint belongs to. It is not in the chain of causes, where it would be
    /// printed twice.
    pub(crate) fn inner(&self) -> &anyhow::Error {
        &self.source
    }
}

impl fmt::Display for Hinted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

impl StdError for Hinted {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        // Display already shows the wrapped error, so the chain goes on with its cause.
        self.source.source()
    }
}

/// Adds a hint to the error of a result.
pub(crate) trait Hint<T> {
    /// Adds a hint to the error, if there is one.
    fn hint(self, hint: impl Into<String>) -> anyhow::Result<T>;
}

impl<T, E: Into<anyhow::Error>> Hint<T> for Result<T, E> {
    fn hint(self, hint: impl Into<String>) -> anyhow::Result<T> {
        self.map_err(|source| Hinted::wrap(source, hint))
    }
}

/// Another supervisor holds the data directory.
#[derive(Debug, thiserror::Error)]
#[error("already running on {data_dir}, pid {pid}")]
pub(crate) struct AlreadyRunning {
    /// The data directory in question.
    pub data_dir: String,
    /// The process that holds it, according to the lock file; 0 if that does not say.
    pub pid: i32,
}

/// Returns the first hint in the chain of causes.
pub(crate) fn hint_of(error: &anyhow::Error) -> Option<&str> {
    error.chain().find_map(|cause| cause.downcast_ref::<Hinted>()).map(Hinted::hint)
}

/// Renders an error and its hint; `colour` highlights the first word.
pub(crate) fn render(error: &anyhow::Error, colour: bool) -> String {
    let (on, off) = if colour { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") };
    let mut text = format!("{on}error{off}: {error:#}\n");
    if let Some(hint) = hint_of(error) {
        text.push_str(&format!("hint: {hint}\n"));
    }
    text
}

/// Prints the error to stderr. A closed stderr is ignored.
pub(crate) fn report(error: &anyhow::Error) {
    // NO_COLOR with any value but an empty one (no-color.org).
    let colour =
        io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    write_stderr(render(error, colour));
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn the_chain_is_printed_once_with_its_hint() {
        let error = Err::<(), _>(io::Error::other("disk on fire"))
            .context("cannot write stack.json")
            .hint("buy a new disk")
            .context("cannot start")
            .unwrap_err();
        assert_eq!(
            render(&error, false),
            "error: cannot start: cannot write stack.json: disk on fire\nhint: buy a new disk\n"
        );
        assert!(render(&error, true).starts_with("\u{1b}[1;31merror"));
    }
}
