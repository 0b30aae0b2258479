//! From mentions to normalised, deduplicated skills of a posting, with those that follow from them.

mod answer;
pub mod endpoint;
mod generator;
mod prompt;
pub mod rules;
pub mod stage;
