//! The `observatory` command and what it is made of.
//!
//! One file per command under `commands`, each with its arguments and its work; `cli` holds the
//! list of them. `client` finds the services, `local` keeps the stack of one machine alive.

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
