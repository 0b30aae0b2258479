//! The server over loopback, on tiny seeded checkpoints and on a model whose pace the test decides.

#![allow(clippy::unwrap_used, reason = "a crate of tests, helpers included")]

#[cfg(feature = "cuda")]
mod cuda;
mod goldens;
mod heads;
mod process;
mod queue;
mod serving;
mod store;
mod support;
