//! The server over loopback, on tiny seeded checkpoints and on a model whose pace the test decides.

#![allow(clippy::unwrap_used, reason = "a crate of tests, helpers included")]

mod calls;
mod classification;
mod conformance;
mod embedding;
mod goldens;
mod heads;
mod openai;
mod process;
mod queue;
mod serving;
mod store;
mod streams;
mod support;
