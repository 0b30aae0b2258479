//! GEMM by cuBLASLt, with the same bits for a row in any batch.
//!
//! A product takes the algorithm that the library's heuristic ranks first for a large batch, among
//! those without split-K, and keeps it for every number of rows: so a row's result does not depend
//! on how many others there are.

use std::collections::HashMap;
use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::sync::Arc;

use cudarc::cublaslt::result::{self as library, CublasError};
use cudarc::cublaslt::sys::{self, cublasStatus_t};
use cudarc::driver::{CudaSlice, CudaStream, DevicePtr};

use super::error::CudaError;
use crate::kernels::gpu::{Address, Element, GemmOperands, GemmShape};

/// Bytes of workspace: 32 MiB, what cuBLAS takes by default on Hopper (documentation of
/// `cublasSetWorkspace`).
const WORKSPACE: usize = 32 << 20;
/// Rows that the algorithm is chosen for: half of a batch of the default size. A pass of as many
/// tokens reaches 415 of the 439 TFLOP/s of one of 65,536, see benches/RESULTS.md.
const USUAL_ROWS: usize = 8_192;
/// Algorithms that the heuristic is asked for, as the first may be unusable. Not tuned.
const PROPOSALS: usize = 8;

/// A cuBLASLt handle on a stream.
#[derive(Debug)]
pub(super) struct Products {
    handle: sys::cublasLtHandle_t,
    stream: Arc<CudaStream>,
    workspace: CudaSlice<u8>,
    /// Element type of weights and inputs.
    element: Element,
    /// Algorithms chosen so far, by the shape and whether there is a bias.
    algorithms: HashMap<(GemmShape, bool), sys::cublasLtMatmulAlgo_t>,
}

#[allow(unsafe_code, reason = "the handle is a pointer")]
// SAFETY: cuBLASLt's documentation allows a handle to be used from any thread, by several at a
// time.
unsafe impl Send for Products {}
#[allow(unsafe_code, reason = "the handle is a pointer")]
// SAFETY: as above.
unsafe impl Sync for Products {}

/// Description of a product, freed on drop.
struct Description(sys::cublasLtMatmulDesc_t);
/// Layout of a matrix, freed on drop.
struct Layout(sys::cublasLtMatrixLayout_t);
/// Preferences of the heuristic, freed on drop.
struct Preference(sys::cublasLtMatmulPreference_t);

/// Layouts of the operands of a product.
struct Layouts {
    weight: Layout,
    input: Layout,
    output: Layout,
}

#[allow(unsafe_code, reason = "descriptions are freed by hand")]
impl Drop for Description {
    fn drop(&mut self) {
        // SAFETY: created by the library and destroyed once, here.
        let _ = unsafe { library::destroy_matmul_desc(self.0) };
    }
}

#[allow(unsafe_code, reason = "descriptions are freed by hand")]
impl Drop for Layout {
    fn drop(&mut self) {
        // SAFETY: created by the library and destroyed once, here.
        let _ = unsafe { library::destroy_matrix_layout(self.0) };
    }
}

#[allow(unsafe_code, reason = "descriptions are freed by hand")]
impl Drop for Preference {
    fn drop(&mut self) {
        // SAFETY: created by the library and destroyed once, here.
        let _ = unsafe { library::destroy_matmul_pref(self.0) };
    }
}

#[allow(unsafe_code, reason = "descriptions are freed by hand")]
impl Drop for Products {
    fn drop(&mut self) {
        // SAFETY: created by the library and destroyed once, here. Destruction waits for work under
        // way.
        let _ = unsafe { library::destroy_handle(self.handle) };
    }
}

impl Products {
    /// Creates a handle on a stream, for weights and activations of this type.
    ///
    /// # Errors
    /// If the library refuses, or the device is out of memory.
    #[allow(unsafe_code, reason = "the workspace is left uninitialised")]
    pub(super) fn new(stream: &Arc<CudaStream>, element: Element) -> Result<Self, CudaError> {
        // SAFETY: only the library's kernels use the workspace, and they write it before they read
        // it.
        let workspace = unsafe { stream.alloc::<u8>(WORKSPACE)? };
        let (handle, stream) = (library::create_handle()?, Arc::clone(stream));
        Ok(Self { handle, stream, workspace, element, algorithms: HashMap::new() })
    }

    /// y = x·Wᵀ + b + c for `rows` rows.
    ///
    /// # Errors
    /// If the library has no algorithm for the shape, or refuses.
    pub(super) fn multiply(
        &mut self,
        shape: GemmShape,
        operands: GemmOperands,
        rows: usize,
    ) -> Result<(), CudaError> {
        let description = self.describe(operands.bias)?;
        let layouts = self.layouts(shape, rows)?;
        let algorithm = self.algorithm(&description, shape, operands.bias.is_some())?;
        match self.run(&description, &layouts, &algorithm, operands) {
            // The algorithm may not support this number of rows.
            Err(CublasError(
                cublasStatus_t::CUBLAS_STATUS_NOT_SUPPORTED | cublasStatus_t::CUBLAS_STATUS_INVALID_VALUE,
            )) => {
                let proposals = self.proposals(&description, &layouts)?;
                self.run(&description, &layouts, &proposals[0], operands)?;
            }
            done => done?,
        }
        Ok(())
    }

    /// The algorithm for a shape, chosen at its first product.
    fn algorithm(
        &mut self,
        description: &Description,
        shape: GemmShape,
        has_bias: bool,
    ) -> Result<sys::cublasLtMatmulAlgo_t, CublasError> {
        if let Some(algorithm) = self.algorithms.get(&(shape, has_bias)) {
            return Ok(*algorithm);
        }
        let algorithm = self.proposals(description, &self.layouts(shape, USUAL_ROWS)?)?[0];
        self.algorithms.insert((shape, has_bias), algorithm);
        Ok(algorithm)
    }

    /// Enqueues a product with an algorithm.
    #[allow(unsafe_code, reason = "the library takes addresses")]
    fn run(
        &self,
        description: &Description,
        layouts: &Layouts,
        algorithm: &sys::cublasLtMatmulAlgo_t,
        GemmOperands { weight, input, addend, output, .. }: GemmOperands,
    ) -> Result<(), CublasError> {
        let (one, beta) = (1.0_f32, if addend.is_some() { 1.0_f32 } else { 0.0 });
        // With a beta of 0 the library does not read the addend, but it must be a valid address.
        let added = addend.unwrap_or(output);
        let (workspace, _guard) = self.workspace.device_ptr(&self.stream);
        // SAFETY: the caller passes addresses of matrices of these layouts, and keeps them until
        // the stream has done the product. The scalars are on the host, and are read before the
        // call returns. The workspace has WORKSPACE bytes and is used by this stream alone.
        unsafe {
            library::matmul(
                self.handle,
                description.0,
                (&raw const one).cast(),
                (&raw const beta).cast(),
                weight as *const c_void,
                layouts.weight.0,
                input as *const c_void,
                layouts.input.0,
                added as *const c_void,
                layouts.output.0,
                output as *mut c_void,
                layouts.output.0,
                algorithm,
                workspace as *mut c_void,
                WORKSPACE,
                self.stream.cu_stream().cast(),
            )
        }
    }

    /// Describes a product with a transposed weight, sums in f32, and a bias if there is one.
    #[allow(unsafe_code, reason = "attributes are passed by address")]
    fn describe(&self, bias: Option<Address>) -> Result<Description, CublasError> {
        use sys::cublasLtMatmulDescAttributes_t as Attribute;
        let sums = sys::cublasComputeType_t::CUBLAS_COMPUTE_32F;
        let description = Description(library::create_matmul_desc(sums, sys::cudaDataType::CUDA_R_32F)?);
        let transposed = cudarc::cublas::sys::cublasOperation_t::CUBLAS_OP_T;
        let epilogue = sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS;
        let set = |attribute, value: *const c_void, size| {
            // SAFETY: each call below passes the address and size of a local of the attribute's
            // type, which the library copies.
            unsafe { library::set_matmul_desc_attribute(description.0, attribute, value, size) }
        };
        set(
            Attribute::CUBLASLT_MATMUL_DESC_TRANSA,
            (&raw const transposed).cast(),
            size_of_val(&transposed),
        )?;
        if let Some(bias) = bias {
            let size = size_of_val(&epilogue);
            set(Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE, (&raw const epilogue).cast(), size)?;
            set(Attribute::CUBLASLT_MATMUL_DESC_BIAS_POINTER, (&raw const bias).cast(), size_of_val(&bias))?;
        }
        Ok(description)
    }

    /// Layouts of the operands. The library's matrices are column-major, so a row-major matrix is
    /// the transpose to it.
    fn layouts(
        &self,
        GemmShape { inputs, outputs, result }: GemmShape,
        rows: usize,
    ) -> Result<Layouts, CublasError> {
        let layout = |element: Element, height: usize, width: usize| {
            let (height, width, stride) = (height as u64, width as u64, height as i64);
            library::create_matrix_layout(kind(element), height, width, stride).map(Layout)
        };
        Ok(Layouts {
            weight: layout(self.element, inputs, outputs)?,
            input: layout(self.element, inputs, rows)?,
            output: layout(result, outputs, rows)?,
        })
    }

    /// Algorithms without split-K, best first by the library's heuristic; at least one.
    #[allow(unsafe_code, reason = "the library fills a list")]
    fn proposals(
        &self,
        description: &Description,
        layouts: &Layouts,
    ) -> Result<Vec<sys::cublasLtMatmulAlgo_t>, CublasError> {
        use sys::cublasLtMatmulPreferenceAttributes_t as Attribute;
        let preference = Preference(library::create_matmul_pref()?);
        // A mask of no reduction schemes leaves algorithms that do not split K.
        let (workspace, no_reduction) = (WORKSPACE, 0_u32);
        let mut found = [const { MaybeUninit::<sys::cublasLtMatmulHeuristicResult_t>::uninit() }; PROPOSALS];
        let mut count = 0;
        // SAFETY: the attributes are locals of the types that the library expects, and are copied.
        // It writes at most PROPOSALS results to `found`, which has room for them, and their number
        // to `count`.
        unsafe {
            library::set_matmul_pref_attribute(
                preference.0,
                Attribute::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                (&raw const workspace).cast(),
                size_of_val(&workspace),
            )?;
            library::set_matmul_pref_attribute(
                preference.0,
                Attribute::CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                (&raw const no_reduction).cast(),
                size_of_val(&no_reduction),
            )?;
            sys::cublasLtMatmulAlgoGetHeuristic(
                self.handle,
                description.0,
                layouts.weight.0,
                layouts.input.0,
                layouts.output.0,
                layouts.output.0,
                preference.0,
                PROPOSALS as i32,
                found.as_mut_ptr().cast(),
                &raw mut count,
            )
            .result()?;
        }
        // SAFETY: the library initialised the first `count` results.
        let found = found[..count as usize].iter().map(|result| unsafe { result.assume_init_ref() });
        let usable = found.filter(|result| result.state == cublasStatus_t::CUBLAS_STATUS_SUCCESS);
        let usable: Vec<_> = usable.map(|result| result.algo).collect();
        if usable.is_empty() {
            return Err(CublasError(cublasStatus_t::CUBLAS_STATUS_NOT_SUPPORTED));
        }
        Ok(usable)
    }
}

/// The library's name of an element type.
fn kind(element: Element) -> sys::cudaDataType {
    match element {
        Element::Bf16 => sys::cudaDataType::CUDA_R_16BF,
        Element::F16 => sys::cudaDataType::CUDA_R_16F,
        Element::F32 => sys::cudaDataType::CUDA_R_32F,
    }
}
