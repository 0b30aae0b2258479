//! Folded words of a text and phrase matching over them: what cleaning, the lexicon, the taxonomy
//! and the extractor share.

pub mod fold;
pub mod language;
pub mod sentences;
pub mod title;
pub mod tokens;
pub mod trie;
