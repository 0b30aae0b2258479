//! Grammars of constraints, in the form that the grammar library reads.
//!
//! Constraints that are invalid or whose texts are all very long are refused here, before any work
//! is spent on them.

use anyhow::{Result, ensure};
use llguidance::api::TopLevelGrammar;

use super::definition::{Constraint, MAX_BYTES};
use super::regex::{check_shortest_match, escape};
use super::schema;

/// Builds the grammar of a constraint.
///
/// # Errors
/// If the constraint is invalid, too large, or all its texts are very long.
pub(super) fn grammar(constraint: &Constraint) -> Result<TopLevelGrammar> {
    let bytes = constraint.bytes();
    ensure!(bytes <= MAX_BYTES, "{bytes} bytes; expected at most {MAX_BYTES}");
    match constraint {
        Constraint::JsonSchema(schema) => schema::grammar(schema),
        Constraint::Regex(regex) => {
            check_shortest_match(regex)?;
            Ok(TopLevelGrammar::from_regex(regex))
        }
        Constraint::Lark(grammar) => Ok(TopLevelGrammar::from_lark(grammar.clone())),
        Constraint::Choices(texts) => {
            ensure!(!texts.is_empty(), "expected at least one");
            ensure!(texts.iter().all(|text| !text.is_empty()), "one of them is empty");
            let escaped: Vec<String> = texts.iter().map(|text| escape(text)).collect();
            Ok(TopLevelGrammar::from_regex(&format!("({})", escaped.join("|"))))
        }
    }
}
