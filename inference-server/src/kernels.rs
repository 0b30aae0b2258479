//! Arithmetic of encoders and decoders: on slices for the CPU, and in `cuda` on the memory of a
//! GPU.
//!
//! Nothing here knows of models, files or tensors. Every kernel has one body in plain Rust that is
//! compiled for each instruction set (or a hand-written one beside it), and is tested against
//! arithmetic in f64. A row's result is made by the same operations in the same order whatever the
//! other rows are and however many threads work.

pub mod attention;
pub mod bf16;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod embedding;
pub mod gated;
pub mod gemm;
pub mod gpu;
pub mod isa;
mod lines;
pub mod math;
pub mod matrix;
pub mod norm;
pub mod paged;
pub(crate) mod parallel;
pub mod quant;
pub mod rms;
pub mod rope;
#[cfg(test)]
pub(crate) mod samples;
pub mod tiles;
