//! The commands, one file each: its `Arguments`, and `run`, which does it.
//!
//! To add one: write its file, name it here, and give it an arm in `cli::Command` and `cli::run`.

pub mod completions;
pub mod countries;
pub mod database;
pub mod demo;
pub mod doctor;
pub mod down;
pub mod export;
pub mod extract;
pub mod infer;
pub mod insights;
pub mod models;
pub mod postings;
pub mod privacy;
pub mod reports;
pub mod runs;
pub mod status;
pub mod supervise;
pub mod taxonomies;
mod text;
pub mod up;
pub mod version;
