//! Arithmetic of encoders and decoders: on slices for the CPU, and in `cuda` on the memory of a
//! GPU.
//!
//! Nothing here knows of models, files or tensors. Every kernel has one body in plain Rust that is
//! compiled for each instruction set (or a hand-written one beside it), and is tested against
//! arithmetic in f64. A row's result is made by the same operations in the same order whatever the
//! other rows are and however many threads work.

pub(crate) mod attention;
pub(crate) mod bf16;
#[cfg(feature = "cuda")]
pub mod cuda;
pub(crate) mod embedding;
pub(crate) mod gated;
pub(crate) mod gemm;
pub(crate) mod gpu;
pub(crate) mod isa;
mod lines;
pub(crate) mod math;
pub(crate) mod matrix;
pub(crate) mod norm;
pub(crate) mod paged;
pub(crate) mod parallel;
pub(crate) mod quant;
pub(crate) mod rms;
pub(crate) mod rope;
#[cfg(test)]
pub(crate) mod samples;
pub(crate) mod tiles;
