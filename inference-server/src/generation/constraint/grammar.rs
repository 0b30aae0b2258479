//! Grammars of constraints, in the form that the grammar library reads.
//!
//! Constraints that are invalid or whose texts are all very long are refused here, before any work
//! is spent on them.

use anyhow::{Result, ensure};
use llguidance::api::TopLevelGrammar;

use super::{Constraint, MAX_BYTES, schema};

/// Maximum length of the shortest match of a regular expression, in bytes. A choice: a longer one
/// only ever ends at the token limit, and costs work in proportion.
const MAX_SHORTEST_MATCH: usize = 32 * 1024;

/// Builds the grammar of a constraint.
///
/// # Errors
/// If the constraint is invalid, too large, or all its texts are very long.
pub(super) fn grammar(constraint: &Constraint) -> Result<TopLevelGrammar> {
    let bytes = match constraint {
        Constraint::JsonSchema(text) | Constraint::Regex(text) | Constraint::Lark(text) => text.len(),
        Constraint::Choices(texts) => texts.iter().map(String::len).sum(),
    };
    ensure!(bytes <= MAX_BYTES, "{bytes} bytes; allowed: at most {MAX_BYTES}");
    match constraint {
        Constraint::JsonSchema(schema) => schema::grammar(schema),
        Constraint::Regex(regex) => {
            check_length(regex)?;
            Ok(TopLevelGrammar::from_regex(regex))
        }
        Constraint::Lark(grammar) => Ok(TopLevelGrammar::from_lark(grammar.clone())),
        Constraint::Choices(texts) => {
            ensure!(!texts.is_empty(), "there are none");
            ensure!(texts.iter().all(|text| !text.is_empty()), "one is empty");
            let escaped: Vec<String> = texts.iter().map(|text| escape(text)).collect();
            Ok(TopLevelGrammar::from_regex(&format!("({})", escaped.join("|"))))
        }
    }
}

/// Checks that a regular expression has a match of at most [`MAX_SHORTEST_MATCH`] bytes. What cannot
/// be parsed here is left to the grammar library to refuse.
pub(super) fn check_length(regex: &str) -> Result<()> {
    let shortest = regex_syntax::parse(regex).ok().and_then(|regex| regex.properties().minimum_len());
    if let Some(shortest) = shortest {
        ensure!(
            shortest <= MAX_SHORTEST_MATCH,
            "its shortest text has {shortest} bytes; allowed: at most {MAX_SHORTEST_MATCH}"
        );
    }
    Ok(())
}

/// Escapes the characters that have a meaning in regular expressions.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if r"\.+*?()|[]{}^$#&-~".contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}
