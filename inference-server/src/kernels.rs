//! Arithmetic of encoders and decoders: on slices for the CPU, and in `gpu` and `cuda` on the
//! memory of a GPU. Nothing here knows of models or files, nor of tensors but for the one that a
//! GPU hands over to a head.
//!
//! A row's result is made by the same operations in the same order whatever the other rows of the
//! batch are and however many threads work, so a text has the same bits alone and in any company.
//!
//! | module | computes | instruction sets | reference in tests |
//! |---|---|---|---|
//! | `gemm` | f32 GEMM, packed weights, fused epilogue | AVX-512, AVX2 | sums in f64 |
//! | `bf16` | bf16 GEMM, sums in f32 | AMX, AVX-512 BF16 | rounded operands in f64 |
//! | `quant` | GEMM of GGUF weights and int8 activations | AVX-512 VNNI, AVX2 | candle, f64; same bits |
//! | `attention` | attention of packed texts (encoders) | micro-kernel of `gemm` | f64 |
//! | `paged` | paged attention, GQA, windows (decoders) | micro-kernel of `gemm` | f64 |
//! | `layer_norm` | LayerNorm | vectorised | f64 |
//! | `rms_norm` | RMSNorm | vectorised | f64 |
//! | `rope` | rotary position embedding (RoPE) | vectorised | f64 |
//! | `gated` | SwiGLU, GeGLU: act(gate) · up | vectorised | f64 |
//! | `embedding` | token + position embedding, normalised | vectorised | by hand |
//! | `math` | exp, erf, GELU, SiLU, ReLU | vectorised | f64 |
//! | `gpu` | interface of a GPU, kernel sources, layouts | | emulator of `tests/inference` |
//! | `cuda` | the same on NVIDIA GPUs, by NVRTC and cuBLASLt | sm_80 and later | on a GPU |
//!
//! Every kernel of the CPU has a portable version too. *Vectorised*: one body of plain Rust that
//! [`isa::by_isa`] compiles for AVX-512, AVX2 and the baseline. *Same bits*: on all instruction
//! sets.
//!
//! Below them are `matrix` (rows on cache lines), `huge_pages` (memory of weights), `parallel`
//! (threads, and the tasks of a GEMM) and `isa` (what the processor has).

pub(crate) mod attention;
pub(crate) mod bf16;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;
pub(crate) mod embedding;
pub(crate) mod gated;
pub(crate) mod gemm;
pub(crate) mod gpu;
mod huge_pages;
pub(crate) mod isa;
pub(crate) mod layer_norm;
pub(crate) mod math;
pub(crate) mod matrix;
pub(crate) mod paged;
pub(crate) mod parallel;
pub(crate) mod quant;
pub(crate) mod rms_norm;
pub(crate) mod rope;
#[cfg(test)]
pub(crate) mod samples;
