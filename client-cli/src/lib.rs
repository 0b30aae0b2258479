//! The `observatory` command and what it is made of.
//!
//! One file per command under `commands`, each with its arguments and its work; `cli` holds the
//! list of them. `client` finds the services, `local` keeps the stack of one machine alive.

pub mod cli;
pub mod client;
pub mod commands;
pub mod error;
mod files;
pub mod local;
pub mod models;
pub mod output;
