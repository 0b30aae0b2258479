//! Compilation of kernels at run time by NVRTC, for the device at hand.
//!
//! Sources need no header, so that nothing of a CUDA toolkit but the library has to be installed.

use std::sync::Arc;

use cudarc::driver::{CudaContext, CudaModule};
use cudarc::nvrtc::{CompileOptions, compile_ptx_with_opts};

use super::error::CudaError;
use crate::kernels::gpu::{Element, Source};

/// Compiles a source with ELEMENT and these macros defined, and loads it into a context.
///
/// # Errors
/// [`CudaError::Compiler`] with NVRTC's log, or if the driver refuses.
pub(super) fn load(
    context: &Arc<CudaContext>,
    source: Source,
    element: Element,
    defines: &[(&str, String)],
) -> Result<Arc<CudaModule>, CudaError> {
    let (major, minor) = context.compute_capability()?;
    let mut options = vec![
        format!("--gpu-architecture=compute_{major}{minor}"),
        "--std=c++17".to_owned(),
        format!("-DELEMENT={}", element as usize),
    ];
    options.extend(defines.iter().map(|(name, value)| format!("-D{name}={value}")));
    let options = CompileOptions { options, ..CompileOptions::default() };
    Ok(context.load_module(compile_ptx_with_opts(source.text(), options)?)?)
}
