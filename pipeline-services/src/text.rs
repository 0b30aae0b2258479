//! Folded words of a text and phrase matching over them: what cleaning, the lexicon, the taxonomy
//! and the extractor share.

pub(crate) mod language;
pub(crate) mod sentences;
pub(crate) mod title;
pub(crate) mod tokens;
pub(crate) mod trie;

pub(crate) use observatory_tagging::fold;
