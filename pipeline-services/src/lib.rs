//! From job advertisements to skills, vectors, clusters and reports.
//!
//! Stages never call each other: a stage reads rows, asks the inference server, and hands back effects
//! that the worker writes together with the next stage's tasks in one transaction.

pub mod cleaning;
pub mod domain;
pub mod enhancer;
pub mod extractor;
pub mod lexicon;
pub mod privacy;
pub mod taxonomy;
pub mod text;
