//! Sentences as tokens, each tagged as beginning of, inside or outside of a skill or knowledge.
//!
//! The text of a sentence is its tokens with one blank between them.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::Case;
use super::row::Row;
use crate::commands::overlap::Span;

/// What a span is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::commands::eval) enum Label {
    /// An attitude or something one does.
    Skill,
    /// Something one knows or uses.
    Knowledge,
}

impl Label {
    /// Both labels.
    pub(in crate::commands::eval) const BOTH: [Self; 2] = [Self::Skill, Self::Knowledge];

    /// Its name in gold and answers.
    pub(in crate::commands::eval) fn name(self) -> &'static str {
        match self {
            Self::Skill => "skill",
            Self::Knowledge => "knowledge",
        }
    }
}

/// Tokens of a sentence with a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::commands::eval) struct TokenSpan {
    /// What it is.
    pub(in crate::commands::eval) label: Label,
    /// The first token; `None` for a span that touches none.
    pub(in crate::commands::eval) first: Option<usize>,
    /// The token after the last one; without tokens, the first code point.
    pub(in crate::commands::eval) end: usize,
}

/// A sentence whose tokens are tagged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::commands::eval) struct Sentence {
    tokens: Vec<String>,
    /// What the tags mark.
    pub(in crate::commands::eval) marks: BTreeSet<TokenSpan>,
    /// Collection it is from.
    pub(in crate::commands::eval) source: Option<String>,
}

impl Sentence {
    /// The tokens from one to before another, as text.
    pub(in crate::commands::eval) fn text(&self, first: usize, end: usize) -> String {
        self.tokens.get(first..end).unwrap_or_default().join(" ")
    }

    /// The tokens that a span of the text touches.
    pub(in crate::commands::eval) fn tokens_of(&self, span: Span, label: Label) -> TokenSpan {
        let (start, end) = (span.start as usize, span.end as usize);
        let (mut first, mut after, mut at) = (None, start, 0);
        for (index, token) in self.tokens.iter().enumerate() {
            let token_end = at + token.chars().count();
            if at < end && start < token_end {
                first = first.or(Some(index));
                after = index + 1;
            }
            at = token_end + 1;
        }
        TokenSpan { label, first, end: after }
    }
}

impl Case for Sentence {
    fn read(row: &Row) -> Result<Self, String> {
        let tokens: Vec<String> = row.required("tokens")?;
        let mut marks = BTreeSet::new();
        for label in Label::BOTH {
            let name = format!("tags_{}", label.name());
            let tags: Vec<String> = row.required(&name)?;
            if tags.len() != tokens.len() {
                return Err(format!("`{name}`: {} tags for {} tokens", tags.len(), tokens.len()));
            }
            marks.extend(tagged(&tags, label).map_err(|problem| format!("`{name}`: {problem}"))?);
        }
        Ok(Self { tokens, marks, source: row.optional("source")? })
    }

    fn id(&self) -> Option<&str> {
        None
    }

    fn document(&self, index: usize) -> Value {
        json!({ "id": index, "description": self.text(0, self.tokens.len()) })
    }
}

/// The spans of B, I and O; an I without a span before it begins one.
fn tagged(tags: &[String], label: Label) -> Result<Vec<TokenSpan>, String> {
    let (mut spans, mut open) = (Vec::new(), None);
    // One more, which ends a span at the end of the sentence.
    for (index, tag) in tags.iter().map(String::as_str).chain(["O"]).enumerate() {
        if !["B", "I", "O"].contains(&tag) {
            return Err(format!("tag `{tag}` is not B, I or O"));
        }
        if tag != "I"
            && let Some(first) = open.take()
        {
            spans.push(TokenSpan { label, first: Some(first), end: index });
        }
        if tag != "O" && open.is_none() {
            open = Some(index);
        }
    }
    Ok(spans)
}
