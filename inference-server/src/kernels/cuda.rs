//! The same arithmetic on NVIDIA GPUs: kernels compiled at run time by NVRTC, GEMM by cuBLASLt.
//!
//! Sources are `cuda/*.cu`, compiled for one model's shape and the device at hand, so that no CUDA
//! compiler is needed to build this crate. All work is enqueued on one stream, in order.
//!
//! A token's result has the same bits whatever the other rows are: attention works on a text by
//! itself, everything between the products on a row, and a product uses one algorithm, without
//! split-K, for every number of rows.
//!
//! Networks use all of it by way of [`Gpu`](super::gpu::Gpu), which [`CudaGpu`] implements.

mod error;
mod gpu;
mod nvrtc;
mod products;
mod staging;

pub(crate) use error::CudaError;
pub use gpu::CudaGpu;

/// Checks that the libraries that are loaded at run time can be found. Calling into one that is
/// missing panics, so this comes first.
///
/// # Errors
/// [`CudaError::Library`] for the first that is missing.
#[cfg(feature = "cuda-dynamic-loading")]
#[allow(
    unsafe_code,
    reason = "cudarc marks its probes unsafe because loading a library runs its initialisers"
)]
pub(crate) fn libraries() -> Result<(), CudaError> {
    use cudarc::{cublas, cublaslt, curand, nvrtc};

    // SAFETY: loading a library runs its initialisers. Those of NVIDIA's libraries have no
    // preconditions, and would run at first use in any case.
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

/// Does nothing: libraries that are linked at build time were found when the process started.
///
/// # Errors
/// None.
#[cfg(not(feature = "cuda-dynamic-loading"))]
pub(crate) fn libraries() -> Result<(), CudaError> {
    Ok(())
}
