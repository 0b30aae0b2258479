//! From job advertisements to skills, vectors, clusters and reports.
//!
//! Stages never call each other: a stage reads rows, asks the inference server, and hands back
//! effects that the worker writes together with the next stage's tasks in one transaction.
//!
//! The crate is a program. Its interface is what `main` calls, so that the compiler reports
//! everything that nothing uses; [`testing`] is the one exception.

pub(crate) mod analyzer;
pub(crate) mod api;
pub(crate) mod cache;
pub(crate) mod cleaning;
pub(crate) mod config;
pub(crate) mod domain;
pub(crate) mod embedder;
pub(crate) mod enhancer;
pub(crate) mod export;
pub(crate) mod extractor;
pub(crate) mod inference;
pub(crate) mod intake;
pub(crate) mod lexicon;
pub(crate) mod metrics;
pub(crate) mod orchestrator;
pub(crate) mod privacy;
pub(crate) mod reading;
pub(crate) mod reporter;
pub(crate) mod scraper;
pub(crate) mod service;
pub(crate) mod spreadsheet;
pub(crate) mod stage;
pub(crate) mod store;
pub(crate) mod taxonomy;
pub(crate) mod telemetry;
pub(crate) mod text;
pub(crate) mod vocabulary;
pub(crate) mod worker;

#[doc(hidden)]
pub mod testing;

#[cfg(test)]
mod growth;

pub use config::Cli;
pub use service::run;
pub use telemetry::start as start_telemetry;
