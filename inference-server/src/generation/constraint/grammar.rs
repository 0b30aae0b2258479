//! Constraints of every kind as the grammar library gets them.

use anyhow::{Result, ensure};
use llguidance::api::TopLevelGrammar;

use super::{Constraint, MAX_BYTES, schema};

/// Bytes of the shortest text that a regular expression may have: a larger one only ever ends at
/// the limit of tokens, and costs work in proportion.
const LONGEST_SHORTEST: usize = 32 * 1024;

/// The grammar of a constraint.
///
/// # Errors
/// If it is wrong in itself, too large, or all its texts are very long.
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

/// Refuses a regular expression whose texts are all very long. What it does not understand the
/// grammar library refuses.
pub(super) fn check_length(regex: &str) -> Result<()> {
    let shortest = regex_syntax::parse(regex).ok().and_then(|regex| regex.properties().minimum_len());
    if let Some(shortest) = shortest {
        ensure!(
            shortest <= LONGEST_SHORTEST,
            "its shortest text has {shortest} bytes; allowed: at most {LONGEST_SHORTEST}"
        );
    }
    Ok(())
}

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
