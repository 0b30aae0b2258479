//! Library.

pub mod reporter;
