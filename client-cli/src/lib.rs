//! The `observatory` command.
//!
//! Each command has a file under `commands` with its arguments and its work; `cli` lists them.
//! `client` connects to the services, `local` keeps the stack of a single machine running, `models`
//! manages the model store, `files` reads what users have, and `output` is the only way out.

pub(crate) mod cli;
pub(crate) mod client;
pub(crate) mod commands;
pub(crate) mod context;
pub(crate) mod error;
pub(crate) mod files;
pub(crate) mod local;
pub(crate) mod models;
pub(crate) mod output;
#[doc(hidden)]
pub mod testing;

pub use cli::main;
