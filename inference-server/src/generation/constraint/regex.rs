//! Checks and escapes of regular expressions.
//!
//! The grammar library matches them; only their shortest match is computed here.

use anyhow::{Result, ensure};

/// Maximum length of the shortest match of a regular expression, in bytes. A choice: a longer one
/// only ever ends at the token limit, and costs work in proportion.
const MAX_SHORTEST_MATCH: usize = 32 * 1024;

/// Checks that a regular expression has a match of at most [`MAX_SHORTEST_MATCH`] bytes. What
/// cannot be parsed here is left to the grammar library to refuse.
pub(super) fn check_shortest_match(regex: &str) -> Result<()> {
    // Computed from the syntax tree, without building an automaton, which is what would take long.
    let shortest = regex_syntax::parse(regex).ok().and_then(|regex| regex.properties().minimum_len());
    if let Some(shortest) = shortest {
        ensure!(
            shortest <= MAX_SHORTEST_MATCH,
            "its shortest match has {shortest} bytes; expected at most {MAX_SHORTEST_MATCH}"
        );
    }
    Ok(())
}

/// Escapes the characters that have a meaning in regular expressions.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if r"\.+*?()|[]{}^$#&-~".contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}
