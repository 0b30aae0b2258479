//! From job advertisements to skills, vectors, clusters and reports.
//!
//! Stages never call each other: a stage reads rows, asks the inference server, and hands back effects
//! that the worker writes together with the next stage's tasks in one transaction.

pub mod analyzer;
pub mod config;
pub mod domain;
pub mod embedder;
pub mod export;
pub mod inference;
pub mod orchestrator;
pub mod reporter;
pub mod scraper;
pub mod stage;
pub mod store;
pub mod telemetry;
pub mod worker;
