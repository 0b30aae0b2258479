//! The `observatory` command: the client of the services, and the supervisor of a local stack.
//!
//! It knows the contract (`observatory_proto`) and no stage.
//!
//! | module | what it does |
//! |---|---|
//! | `cli` | global flags, the list of commands, exit codes |
//! | `commands` | one file per command: its arguments and its work |
//! | `client` | finds the services, starts the local stack if there is none |
//! | `output` | the only way to standard output, as a table or as JSON |
//! | `error` | errors with a hint of what to do |
//! | `files` | unpacks and decodes what users have |
//! | `models` | pulls, imports and verifies models of the store |
//! | `local` | the stack of one machine: supervisor, PostgreSQL, ports, users, secrets |
//!
//! Promises:
//!
//! - Data goes to standard output, everything else to standard error. A closed pipe ends a command
//!   quietly, a full device is an error.
//! - Exit codes: 0 done, 1 something failed or nothing was found, 2 wrong usage or I/O, 130 an
//!   interrupted watch.
//! - An import stores nothing of a file that is damaged or can be read in two ways.
//! - A model appears in the store whole and checked, or not at all.
//!
//! To add a command, see `commands` and `ARCHITECTURE.md` ("How to add"). The local stack is
//! described in `docs/configuration.md`.

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
