//! Text on the processor: tokenizers, the entities that token labels spell, and the threads that
//! read texts.

pub(crate) mod entities;
pub(crate) mod offsets;
pub(crate) mod tokenizer;
pub(crate) mod worker_pool;
