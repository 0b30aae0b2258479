//! Matrix products by cuBLASLt.
//!
//! A product takes the algorithm that the library proposes first for a large batch, among those
//! that add each sum up in one place, and keeps it for every number of rows: so a row's result does
//! not depend on how many others there are.

use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::sync::Arc;

use cudarc::cublaslt::result::{self as library, CublasError};
use cudarc::cublaslt::sys::{self, cublasStatus_t};
use cudarc::driver::{CudaSlice, CudaStream, DevicePtr};

use super::{Address, CudaError, Element};

/// Scratch memory of the library's kernels, as much as cuBLAS itself takes on Hopper.
const WORKSPACE: usize = 32 << 20;
/// Rows that the algorithm is chosen for.
const USUAL_ROWS: usize = 8_192;
/// Algorithms that are asked for.
const PROPOSALS: usize = 8;

/// The library on a stream.
#[derive(Debug)]
pub struct Products {
    handle: sys::cublasLtHandle_t,
    stream: Arc<CudaStream>,
    workspace: CudaSlice<u8>,
    element: Element,
}

#[allow(unsafe_code, reason = "the handle is a pointer")]
// SAFETY: a cuBLASLt handle may be used from any thread, and several at a time.
unsafe impl Send for Products {}
#[allow(unsafe_code, reason = "the handle is a pointer")]
// SAFETY: as above.
unsafe impl Sync for Products {}

/// y = x·Wᵀ + b for row-major x, W and y, and with a residual y = x·Wᵀ + b + r; b may be left out.
#[derive(Debug, Clone, Copy)]
pub struct Product {
    weight: Address,
    bias: Option<Address>,
    inputs: usize,
    outputs: usize,
    /// How y, b and r are held.
    result: Element,
    algorithm: sys::cublasLtMatmulAlgo_t,
}

impl Product {
    /// The same with another weight of that shape.
    pub fn with_weight(self, weight: Address) -> Self {
        Self { weight, ..self }
    }
}

/// A description of the library's, freed with this.
struct Description(sys::cublasLtMatmulDesc_t);
struct Layout(sys::cublasLtMatrixLayout_t);
struct Preference(sys::cublasLtMatmulPreference_t);

#[allow(unsafe_code, reason = "descriptions are freed by hand")]
impl Drop for Description {
    fn drop(&mut self) {
        // SAFETY: made by the library and freed once.
        let _ = unsafe { library::destroy_matmul_desc(self.0) };
    }
}

#[allow(unsafe_code, reason = "descriptions are freed by hand")]
impl Drop for Layout {
    fn drop(&mut self) {
        // SAFETY: made by the library and freed once.
        let _ = unsafe { library::destroy_matrix_layout(self.0) };
    }
}

#[allow(unsafe_code, reason = "descriptions are freed by hand")]
impl Drop for Preference {
    fn drop(&mut self) {
        // SAFETY: made by the library and freed once.
        let _ = unsafe { library::destroy_matmul_pref(self.0) };
    }
}

#[allow(unsafe_code, reason = "descriptions are freed by hand")]
impl Drop for Products {
    fn drop(&mut self) {
        // SAFETY: made by the library and freed once; it waits for the work under way.
        let _ = unsafe { library::destroy_handle(self.handle) };
    }
}

impl Products {
    /// Opens the library.
    ///
    /// # Errors
    /// If it refuses, or the device has no room.
    #[allow(unsafe_code, reason = "scratch memory is left unset")]
    pub fn new(stream: &Arc<CudaStream>, element: Element) -> Result<Self, CudaError> {
        // SAFETY: the library writes what it reads of its scratch memory.
        let workspace = unsafe { stream.alloc::<u8>(WORKSPACE)? };
        Ok(Self { handle: library::create_handle()?, stream: Arc::clone(stream), workspace, element })
    }

    /// How weights and activations are held.
    pub fn element(&self) -> Element {
        self.element
    }

    /// A product with a weight of outputs × inputs and, where there is one, a bias of as many
    /// outputs.
    ///
    /// # Errors
    /// If the library has no algorithm for it.
    pub fn product(
        &self,
        weight: Address,
        bias: Option<Address>,
        [inputs, outputs]: [usize; 2],
        result: Element,
    ) -> Result<Product, CudaError> {
        let description = self.describe(bias)?;
        let layouts = self.layouts([inputs, outputs], USUAL_ROWS, result)?;
        let algorithm = self.proposals(&description, &layouts)?[0];
        Ok(Product { weight, bias, inputs, outputs, result, algorithm })
    }

    /// `to` = from·Wᵀ + b, with a residual added where there is one.
    ///
    /// # Errors
    /// If the library refuses.
    pub fn multiply(
        &self,
        product: &Product,
        from: Address,
        rows: usize,
        residual: Option<Address>,
        to: Address,
    ) -> Result<(), CudaError> {
        let description = self.describe(product.bias)?;
        let layouts = self.layouts([product.inputs, product.outputs], rows, product.result)?;
        let weight = product.weight;
        let run = |algorithm| self.run(&description, &layouts, algorithm, [weight, from, to], residual);
        match run(&product.algorithm) {
            // An algorithm may be made for other numbers of rows only.
            Err(CublasError(
                cublasStatus_t::CUBLAS_STATUS_NOT_SUPPORTED | cublasStatus_t::CUBLAS_STATUS_INVALID_VALUE,
            )) => run(&self.proposals(&description, &layouts)?[0])?,
            done => done?,
        }
        Ok(())
    }

    #[allow(unsafe_code, reason = "the library takes addresses")]
    fn run(
        &self,
        description: &Description,
        layouts: &[Layout; 3],
        algorithm: &sys::cublasLtMatmulAlgo_t,
        [weight, from, to]: [Address; 3],
        residual: Option<Address>,
    ) -> Result<(), CublasError> {
        let (one, beta) = (1.0_f32, if residual.is_some() { 1.0_f32 } else { 0.0 });
        let added = residual.unwrap_or(to);
        let [weight_layout, from_layout, to_layout] = layouts;
        let (workspace, _guard) = self.workspace.device_ptr(&self.stream);
        // SAFETY: the addresses are those of matrices of these layouts, which the caller keeps
        // until the stream is through; scalars are read before the call returns.
        unsafe {
            library::matmul(
                self.handle,
                description.0,
                (&raw const one).cast(),
                (&raw const beta).cast(),
                weight as *const c_void,
                weight_layout.0,
                from as *const c_void,
                from_layout.0,
                added as *const c_void,
                to_layout.0,
                to as *mut c_void,
                to_layout.0,
                algorithm,
                workspace as *mut c_void,
                WORKSPACE,
                self.stream.cu_stream().cast(),
            )
        }
    }

    /// Transposed weight, sums in f32, a bias for each output where there is one.
    #[allow(unsafe_code, reason = "attributes are passed by address")]
    fn describe(&self, bias: Option<Address>) -> Result<Description, CublasError> {
        use sys::cublasLtMatmulDescAttributes_t as Attribute;
        let sums = sys::cublasComputeType_t::CUBLAS_COMPUTE_32F;
        let description = Description(library::create_matmul_desc(sums, sys::cudaDataType::CUDA_R_32F)?);
        let transposed = cudarc::cublas::sys::cublasOperation_t::CUBLAS_OP_T;
        let epilogue = sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS;
        let set = |attribute, value: *const c_void, size| {
            // SAFETY: the attribute has this size, and is copied.
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

    /// Weight, input and output: what is row-major here is column-major there, transposed.
    fn layouts(
        &self,
        [inputs, outputs]: [usize; 2],
        rows: usize,
        result: Element,
    ) -> Result<[Layout; 3], CublasError> {
        let layout = |element: Element, height: usize, width: usize| {
            let (height, width, apart) = (height as u64, width as u64, height as i64);
            library::create_matrix_layout(kind(element), height, width, apart).map(Layout)
        };
        let (from, to) = (layout(self.element, inputs, rows)?, layout(result, outputs, rows)?);
        Ok([layout(self.element, inputs, outputs)?, from, to])
    }

    /// Algorithms that add each sum up in one place, the library's favourite first; at least one.
    #[allow(unsafe_code, reason = "the library fills a list")]
    fn proposals(
        &self,
        description: &Description,
        [weight, from, to]: &[Layout; 3],
    ) -> Result<Vec<sys::cublasLtMatmulAlgo_t>, CublasError> {
        use sys::cublasLtMatmulPreferenceAttributes_t as Attribute;
        let preference = Preference(library::create_matmul_pref()?);
        let (workspace, whole_sums) = (WORKSPACE, 0_u32);
        let mut found = [const { MaybeUninit::<sys::cublasLtMatmulHeuristicResult_t>::uninit() }; PROPOSALS];
        let mut count = 0;
        // SAFETY: the attributes have these sizes and are copied; the library writes at most as
        // many results as asked.
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
                (&raw const whole_sums).cast(),
                size_of_val(&whole_sums),
            )?;
            sys::cublasLtMatmulAlgoGetHeuristic(
                self.handle,
                description.0,
                weight.0,
                from.0,
                to.0,
                to.0,
                preference.0,
                PROPOSALS as i32,
                found.as_mut_ptr().cast(),
                &raw mut count,
            )
            .result()?;
        }
        // SAFETY: the library filled the first `count`.
        let found = found[..count as usize].iter().map(|result| unsafe { result.assume_init_ref() });
        let usable = found.filter(|result| result.state == cublasStatus_t::CUBLAS_STATUS_SUCCESS);
        let usable: Vec<_> = usable.map(|result| result.algo).collect();
        if usable.is_empty() {
            return Err(CublasError(cublasStatus_t::CUBLAS_STATUS_NOT_SUPPORTED));
        }
        Ok(usable)
    }
}

fn kind(element: Element) -> sys::cudaDataType {
    match element {
        Element::Bf16 => sys::cudaDataType::CUDA_R_16BF,
        Element::F16 => sys::cudaDataType::CUDA_R_16F,
        Element::F32 => sys::cudaDataType::CUDA_R_32F,
    }
}
