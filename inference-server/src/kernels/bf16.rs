//! GEMM in bf16 with sums in f32: AMX tiles and AVX-512 BF16 of newer x86 processors.
//!
//! bf16 is f32 cut to 8 bits of significand (Intel 2018, "BFLOAT16 - Hardware Numerics
//! Definition"). Weights are converted once, activations before a product takes them; sums,
//! normalisation, attention and the residual stream stay f32. Both operands are packed into the
//! form of AMX tile registers, so the instructions differ and the layout does not: `amx` multiplies
//! tiles, `avx512` pairs of a vector, and `portable` shows on every machine what they compute.
//!
//! From the bottom: `convert`, `tile` (layout and sums), the instruction sets, `unit` (which of
//! them the machine has), `panels` and `rows` (packed operands), `gemm`.

mod amx;
mod avx512;
mod convert;
mod gemm;
mod panels;
mod portable;
mod rows;
mod tile;
mod unit;

pub(crate) use gemm::{check, multiply, multiply_narrow};
pub(crate) use panels::Panels;
pub(crate) use rows::{Bf16Rows, narrow_rows};
pub use unit::Unit;
