//! From mentions to normalised, deduplicated skills of a posting, with those that follow from them.
//!
//! Rules over lexicon and taxonomy do it alone or, where language models are configured, complete
//! what is supported of the first usable answer. A model that is away or answers nonsense costs
//! quality, never a posting.

mod advertisement;
mod answer;
mod chain;
pub(crate) mod endpoint;
mod generator;
mod instructions;
mod prompt;
pub(crate) mod rules;
pub(crate) mod stage;
