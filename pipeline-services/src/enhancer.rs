//! From mentions to normalised, deduplicated skills of a posting, with those that follow from them.

mod answer;
pub(crate) mod endpoint;
mod generator;
mod prompt;
pub(crate) mod rules;
pub(crate) mod stage;
