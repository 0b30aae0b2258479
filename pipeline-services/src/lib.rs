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
