//! Constraints as requests give them.
//!
//! Nothing is checked here; [`super::GrammarCompiler::compile`] refuses what is invalid, and
//! callers may refuse what is too large before that.

use std::fmt;

/// Maximum size of a constraint in bytes. Not tuned: far above what is written by hand, so that
/// compiling one stays bounded.
pub(crate) const MAX_BYTES: usize = 64 * 1024;

/// Form that a text must have.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Constraint {
    /// JSON that is valid under this schema, without line breaks.
    JsonSchema(String),
    /// A match of the whole text, without look-around; the syntax is that of Rust's `regex`.
    Regex(String),
    /// llguidance's variant of a Lark grammar.
    Lark(String),
    /// One of these texts.
    Choices(Vec<String>),
}

impl Constraint {
    /// Bytes of its text, or of its texts together.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::JsonSchema(text) | Self::Regex(text) | Self::Lark(text) => text.len(),
            Self::Choices(texts) => texts.iter().map(String::len).sum(),
        }
    }
}

impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::JsonSchema(_) => "JSON schema",
            Self::Regex(_) => "regular expression",
            Self::Lark(_) => "grammar",
            Self::Choices(_) => "choices",
        })
    }
}
