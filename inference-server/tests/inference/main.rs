//! The server over loopback, on tiny seeded checkpoints and on a model whose pace the test decides.

#![allow(clippy::unwrap_used, reason = "a crate of tests, helpers included")]

mod access;
mod calls;
mod classification;
mod conformance;
mod connections;
#[cfg(feature = "cuda")]
mod cuda;
mod decoders;
mod embedding;
#[cfg(not(feature = "cuda"))]
mod emulated;
mod encoders;
mod example;
mod generation;
mod gguf;
mod goldens;
mod gpu;
mod gpu_encoders;
mod heads;
mod hostile;
#[cfg(not(feature = "cuda"))]
mod kernels;
mod lifecycle;
mod llama;
mod openai;
mod process;
mod published;
mod queue;
mod rollout;
mod serving;
mod smollm2;
mod store;
mod streams;
mod support;
mod warm_up;
