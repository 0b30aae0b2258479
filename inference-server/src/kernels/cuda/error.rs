//! The error of everything in [`super`], and its meaning for a [`Gpu`](crate::kernels::gpu::Gpu).
//!
//! Messages name the library at fault, as the remedy is mostly to install or update one.

use cudarc::driver::DriverError;
use cudarc::driver::sys::CUresult;
use cudarc::nvrtc::CompileError;

use crate::kernels::gpu::GpuError;

/// Error of the device, or of its libraries.
#[derive(Debug, thiserror::Error)]
pub enum CudaError {
    /// A library that is loaded at run time was not found.
    #[error(
        "the CUDA library {0} was not found; it comes with the CUDA toolkit, and LD_LIBRARY_PATH can name its folder"
    )]
    Library(&'static str),
    /// The driver returned an error.
    #[error("CUDA: {0}")]
    Driver(#[from] DriverError),
    /// NVRTC did not compile a source; its log.
    #[error("NVRTC: {0}")]
    Compiler(String),
    /// cuBLASLt returned an error.
    #[error("cuBLASLt: {0}")]
    Products(#[from] cudarc::cublaslt::result::CublasError),
}

/// Errors that leave the context usable. Any other, such as an illegal access or a failed launch,
/// "leaves the process in an inconsistent state and any further CUDA work will return the same
/// error" (documentation of `CUresult`), or is rare enough to be taken for one that does.
const REFUSALS: [CUresult; 9] = [
    CUresult::CUDA_ERROR_INVALID_VALUE,
    CUresult::CUDA_ERROR_INVALID_IMAGE,
    CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU,
    CUresult::CUDA_ERROR_INVALID_PTX,
    CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION,
    CUresult::CUDA_ERROR_NOT_FOUND,
    CUresult::CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES,
    CUresult::CUDA_ERROR_NOT_SUPPORTED,
    CUresult::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED,
];

impl From<CompileError> for CudaError {
    fn from(error: CompileError) -> Self {
        Self::Compiler(match error {
            CompileError::CompileError { log, .. } => log.to_string_lossy().into_owned(),
            other => other.to_string(),
        })
    }
}

impl From<CudaError> for GpuError {
    fn from(error: CudaError) -> Self {
        let message = error.to_string();
        match error {
            CudaError::Driver(cause) if cause.0 == CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
                Self::OutOfMemory(message)
            }
            CudaError::Driver(cause) if !REFUSALS.contains(&cause.0) => Self::Lost(message),
            CudaError::Driver(_)
            | CudaError::Library(_)
            | CudaError::Compiler(_)
            | CudaError::Products(_) => Self::Refused(message),
        }
    }
}
