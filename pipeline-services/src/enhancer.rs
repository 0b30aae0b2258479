//! From mentions to normalised, deduplicated skills of a posting, with those that follow from them.
//!
//! Rules over lexicon and taxonomy do it alone or, where a language model is configured, complete
//! what is usable of its answer. A model that is away or answers nonsense costs quality, never a
//! posting.

mod answer;
pub(crate) mod endpoint;
mod generator;
mod prompt;
pub(crate) mod rules;
pub(crate) mod stage;
