//! Pulls models from a hub on loopback, through the library and the `observatory` program.
//!
//! The hub can misbehave in every way that real ones do.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod program;
mod pulling;
mod server;
mod troubles;
