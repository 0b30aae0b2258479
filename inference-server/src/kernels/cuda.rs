//! The same arithmetic for NVIDIA GPUs: kernels compiled at run time by NVRTC, matrix products by
//! cuBLASLt.
//!
//! Sources lie in `cuda/*.cu` and are compiled for one model's shape and the device at hand, so
//! that no CUDA compiler is needed to build this crate. All work goes to the stream of the device
//! that is given, in order. A token's result is made by the same operations whatever the other rows
//! are: attention works on a text by itself, everything between the products on a row, and a
//! product uses one algorithm, without splitting its sums, for every number of rows.

mod buffers;
mod machine;
mod products;
mod program;

pub use buffers::{Buffer, Staging};
pub use machine::{Machine, Recorded};
pub use products::{Product, Products};
pub use program::{Norm, Pooled, Program, Shape};

use cudarc::driver::DriverError;

pub use super::gpu::{Address, Element};

/// What went wrong on the device, or in preparing it.
#[derive(Debug, thiserror::Error)]
pub enum CudaError {
    /// A library that is looked for at run time is not there.
    #[error(
        "the CUDA library {0} was not found; it comes with the CUDA toolkit, and LD_LIBRARY_PATH can name its folder"
    )]
    Library(&'static str),
    /// The driver refused.
    #[error("CUDA: {0}")]
    Driver(#[from] DriverError),
    /// The compiler refused.
    #[error("NVRTC: {0}")]
    Compiler(String),
    /// The library of matrix products refused.
    #[error("cuBLASLt: {0}")]
    Products(#[from] cudarc::cublaslt::result::CublasError),
}

/// Whether the libraries are there that are looked for at run time. Touching one that is not there
/// panics.
///
/// # Errors
/// Names the first that is not.
#[cfg(feature = "cuda-dynamic-loading")]
#[allow(
    unsafe_code,
    reason = "cudarc marks its probes unsafe because loading a library runs its initialisers"
)]
pub fn libraries() -> Result<(), CudaError> {
    use cudarc::{cublas, cublaslt, curand, nvrtc};

    // SAFETY: the initialisers of these libraries have no preconditions, and would run at first use
    // in any case.
    let found = unsafe {
        [
            ("libcublas", cublas::sys::is_culib_present()),
            ("libcublasLt", cublaslt::sys::is_culib_present()),
            ("libcurand", curand::sys::is_culib_present()),
            ("libnvrtc", nvrtc::sys::is_culib_present()),
        ]
    };
    found.into_iter().find(|(_, found)| !found).map_or(Ok(()), |(name, _)| Err(CudaError::Library(name)))
}

/// Linked at build time, the process would not have started without them.
///
/// # Errors
/// None.
#[cfg(not(feature = "cuda-dynamic-loading"))]
pub fn libraries() -> Result<(), CudaError> {
    Ok(())
}
