//! A span of words that may be a mention, as the searches find it.
//!
//! What surrounds it has not been judged yet; the longest and best supported of those that overlap
//! becomes a mention.

use observatory_tagging::Tag;

use crate::domain::skill::{Method, SkillKind};

/// A span of words that may be a mention.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub(super) first: usize,
    pub(super) end: usize,
    /// `None`: the concept's preferred label.
    pub(super) label: Option<String>,
    pub(super) kind: SkillKind,
    pub(super) category: String,
    /// What the tagger marked here: its bounds hold, which may lie within a word.
    pub(super) mark: Option<Tag>,
    /// True if the name is only a part of what the tagger marked.
    pub(super) partial: bool,
    pub(super) methods: Vec<Method>,
    pub(super) confidence: f32,
    pub(super) uri: Option<String>,
}
