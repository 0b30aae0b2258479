//! Serves encoders and language models over gRPC: embeddings, token labels, tokenisation and text
//! from the models of a store; embeddings and text also over HTTP in OpenAI's form.
//!
//! A call comes in by `grpc` or `http`, `service` decides what it asks for, `scheduler` admits and
//! orders it, and `models` computes; `generation` steps language models. See `ARCHITECTURE.md` for
//! the picture.

pub mod config;
pub(crate) mod device;
pub(crate) mod error;
pub(crate) mod generation;
pub(crate) mod grpc;
pub(crate) mod health;
pub(crate) mod http;
pub(crate) mod kernels;
pub(crate) mod metrics;
pub(crate) mod models;
pub(crate) mod registry;
pub(crate) mod scheduler;
pub(crate) mod server;
pub(crate) mod service;
#[doc(hidden)]
pub mod testing;
pub(crate) mod text;

pub use server::shutdown::Stop;
pub use server::telemetry;
pub use server::{Outcome, Server};
