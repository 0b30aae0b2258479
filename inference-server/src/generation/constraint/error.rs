//! Errors of constraints, and messages of the grammar library shortened for callers.
//!
//! The library reports its state in its messages and has no types for its causes: both are dealt
//! with here.

use llguidance::Cancelled;

/// Maximum length of the message about an invalid constraint, in characters. Not tuned: three lines
/// of a terminal.
pub(super) const MAX_MESSAGE: usize = 300;
/// Message of a constraint that has used up its work.
pub(super) const TOO_MUCH_WORK: &str = "it takes too much work to follow";

/// Error of a constraint; its message is one line of at most 300 characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConstraintError {
    /// The constraint is invalid or uses an unsupported feature.
    #[error("invalid {kind}: {message}")]
    Invalid {
        /// Kind of the constraint.
        kind: String,
        /// Description of the error.
        message: String,
    },
    /// It caused too much work during generation, or the text violated it.
    #[error("the constraint failed: {0}")]
    Failed(String),
}

/// Joins the lines of a message, up to the library's dump of its state, and shortens the result.
pub(super) fn one_line(message: &str) -> String {
    let end = ["<non-verbose/>", "<state>", "<backtrace>"].iter().filter_map(|mark| message.find(mark)).min();
    let words: Vec<&str> = message[..end.unwrap_or(message.len())].split_whitespace().collect();
    let line = words.join(" ");
    match line.char_indices().nth(MAX_MESSAGE - 1) {
        Some((place, _)) if place + line[place..].chars().next().map_or(0, char::len_utf8) < line.len() => {
            format!("{}…", &line[..place])
        }
        _ => line,
    }
}

/// Converts an error of the grammar library, which has no types for its causes.
#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
pub(super) fn failed(error: anyhow::Error) -> ConstraintError {
    let message = error.to_string();
    // By words of the message, as llguidance has no variants for its limits. A new wording shows in
    // `tests/bounds.rs`.
    let exhausted = ["too many states", "too many expressions", "Too many items", "fuel"]
        .iter()
        .any(|part| message.contains(part));
    ConstraintError::Failed(if error.is::<Cancelled>() || exhausted {
        TOO_MUCH_WORK.to_owned()
    } else if message.starts_with("NoExtensionBias") {
        "no tokens of the model can satisfy it from here on".to_owned()
    } else {
        one_line(&message)
    })
}
