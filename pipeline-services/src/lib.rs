//! From job advertisements to skills, vectors, clusters and reports.
//!
//! Stages never call each other: a stage reads rows, asks the inference server, and returns effects
//! that the worker writes together with the next stage's tasks in one transaction.
//!
//! | module | what it does |
//! |---|---|
//! | `domain` | plain types, no I/O |
//! | `intake`, `cleaning`, `privacy` | advertisements in: checked, cleaned, personal data removed, hashed |
//! | `scraper` | visits portals, each described by a file |
//! | `extractor` | finds skills with their spans, by `lexicon`, `taxonomy`, phrases and taggers |
//! | `enhancer` | canonical labels and implicit skills, by rules or a language model |
//! | `embedder`, `cache`, `inference` | vectors of skills, from the inference server |
//! | `analyzer` | clusters of skills (`observatory_clustering`) |
//! | `reporter`, `spreadsheet`, `export` | reports and tables out |
//! | `stage`, `worker`, `orchestrator` | what a stage is; who runs it; in which order |
//! | `store` | all SQL, one file per aggregate |
//! | `api` | the gRPC services and who may call them |
//! | `config`, `service`, `metrics`, `telemetry` | a process from its start to its end |
//! | `text`, `reading`, `vocabulary` | words, threads for texts from outside, what is known by name |
//!
//! What it promises:
//!
//! - An effect is written once, whatever dies in the middle; a bad subject costs itself alone.
//! - Personal data is removed before a text is hashed or stored; cleaning twice changes nothing.
//! - `field[start..end] == surface` for every mention; a model cannot add one.
//! - Every figure of a report is about the postings of its run.
//!
//! Read on in `ARCHITECTURE.md` ("Walk of a task row", "Walk of an advertisement's text", "How to
//! add"), `docs/configuration.md` and `docs/operations.md`.

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
pub use service::{exit_code, run};
pub use telemetry::start as start_telemetry;
