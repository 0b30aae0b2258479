//! From mentions to normalised, deduplicated skills of a posting, with those that follow from them.

pub mod rules;
pub mod stage;
