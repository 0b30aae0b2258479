//! An inference server: embeddings, token classification, ranking, tokenization and text generation
//! over gRPC, and an OpenAI-compatible API over HTTP, from the models of a store.
//!
//! Two doors lead to one service on plain types; the service asks the scheduler for room, and the
//! models compute. Rooms are listed from the top down, and use only those below them.
//!
//! | room | what it does |
//! |---|---|
//! | `server` | binds ports, serves, drains; hands every other room what it needs |
//! | [`config`] | the command line and the environment, checked whole before a port opens |
//! | `grpc`, `http` | the doors: decode, call the service, encode |
//! | `service` | embed, classify, rank, tokenize, generate, manage models |
//! | `health` | what is ready, for gRPC and HTTP |
//! | `registry` | loads models, warms them up, knows which answers by default |
//! | `generation` | the engine of language models: continuous batching, KV cache, constraints |
//! | `scheduler` | admission, fair queueing, batches |
//! | `models` | checkpoints and GGUF files, encoders, decoders, heads |
//! | `text` | tokenizers, entities, the threads that read texts |
//! | `device`, `kernels` | which device computes; the arithmetic on CPU and GPU |
//! | `error`, `metrics` | every refusal in one table; counters for Prometheus |
//!
//! What it promises:
//!
//! - A request is refused before any work is spent on it, with the time to come again.
//! - A row's numbers, and a generated text, do not depend on what is computed at the same time.
//! - A damaged model fails alone; no number of a file is trusted before it was compared with the
//!   file.
//! - The server never asks the network for anything.
//!
//! A program uses it through the contract (`observatory_proto`), as
//! `proto/client/examples/embed.rs` does; a test starts a [`Server`] in its own process. Read on in
//! `ARCHITECTURE.md` ("Walk of an Embed request"), `docs/inference-server.md` and `docs/models.md`.

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
