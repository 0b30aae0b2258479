//! Pulling models from a hub on loopback, by the library and by the `observatory` program.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod program;
mod pulling;
mod server;
mod troubles;
