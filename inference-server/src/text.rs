//! Text on the CPU: tokenizers, entities from token labels, and the threads that both run on.
//!
//! Nothing here knows a network: a tokenizer is given the limits of its model, entities are made of
//! probabilities.

pub(crate) mod entities;
pub(crate) mod offsets;
pub(crate) mod tokenizer;
pub(crate) mod worker_pool;
