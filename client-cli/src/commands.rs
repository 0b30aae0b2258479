//! The commands, one file each, with its `Arguments` and a `run` function.
//!
//! To add one, write its file, declare it here, and add it to `cli::Command` and `cli::run`.

pub(crate) mod completions;
pub(crate) mod countries;
pub(crate) mod database;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod down;
pub(crate) mod eval;
pub(crate) mod export;
pub(crate) mod extract;
pub(crate) mod infer;
pub(crate) mod insights;
mod lines;
pub(crate) mod link;
mod machine;
pub(crate) mod models;
mod overlap;
pub(crate) mod postings;
pub(crate) mod privacy;
pub(crate) mod reports;
pub(crate) mod review;
pub(crate) mod runs;
pub(crate) mod status;
pub(crate) mod supervise;
pub(crate) mod taxonomies;
mod text;
pub(crate) mod up;
pub(crate) mod version;
