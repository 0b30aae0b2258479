//! Files as people have them: compressed, in folders, in various encodings.
//!
//! Shared by `postings import` and `taxonomy import`.

pub(crate) mod archive;
pub(crate) mod encoding;
