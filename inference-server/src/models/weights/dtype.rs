//! Number formats of weights that are read from a checkpoint.
//!
//! Everything is converted to f32 while it is read. Of integers, those of 8 bits with factors are
//! read in safetensors files alone; others are refused.

use anyhow::{Context, Result};
use candle_core::DType;

/// Checks that a tensor's type can hold weights; `found` is its name in the file.
///
/// # Errors
/// If it is not a floating-point type that candle can convert.
pub(super) fn check_dtype(dtype: Option<DType>, found: &str) -> Result<DType> {
    let dtype = dtype.filter(|dtype| matches!(dtype, DType::F32 | DType::F16 | DType::BF16 | DType::F64));
    dtype.with_context(|| format!("invalid type {found}: expected F32, F16, BF16 or F64"))
}
