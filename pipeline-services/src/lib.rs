//! From job advertisements to skills, vectors, clusters and reports.
//!
//! Stages never call each other: a stage reads rows, asks the inference server, and hands back
//! effects that the worker writes together with the next stage's tasks in one transaction.

pub mod analyzer;
pub mod api;
pub mod cache;
pub mod cleaning;
pub mod config;
pub mod domain;
pub mod embedder;
pub mod enhancer;
pub mod export;
pub mod extractor;
pub mod inference;
pub mod intake;
pub mod lexicon;
pub mod metrics;
pub mod orchestrator;
pub mod privacy;
pub mod reading;
pub mod reporter;
pub mod scraper;
pub mod service;
pub mod spreadsheet;
pub mod stage;
pub mod store;
pub mod taxonomy;
pub mod telemetry;
pub mod text;
pub mod vocabulary;
pub mod worker;

#[cfg(test)]
mod growth;
