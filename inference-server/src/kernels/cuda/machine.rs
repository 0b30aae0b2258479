//! An NVIDIA GPU, as a decoder asks for it.

use std::collections::HashMap;
use std::sync::Arc;

use cudarc::driver::result::{memcpy_dtod_async, memcpy_htod_async};
use cudarc::driver::sys::{CUfunction_attribute, CUgraphInstantiate_flags, CUresult, CUstreamCaptureMode};
use cudarc::driver::{
    CudaContext, CudaFunction, CudaGraph, CudaSlice, CudaStream, DevicePtr, LaunchConfig, PushKernelArg,
};
use cudarc::nvrtc::{CompileOptions, compile_ptx_with_opts};

use super::program::refused;
use super::{CudaError, Product, Products, Staging};
use crate::kernels::gpu::{Address, Argument, Dense, Element, Entry, Gpu, GpuError, Kernel, Memory, Source};

/// A device for one model, on a stream of its own, so that what is recorded there is the model's
/// alone.
pub struct Machine {
    stream: Arc<CudaStream>,
    element: Element,
    products: Products,
    known: HashMap<Dense, Product>,
    functions: Vec<CudaFunction>,
    held: HashMap<Address, CudaSlice<u8>>,
    down: Staging,
}

/// Launches that were recorded.
pub struct Recorded(CudaGraph);

#[allow(unsafe_code, reason = "a graph is a pointer")]
// SAFETY: the driver asks for one thread at a time, and this is not shared.
unsafe impl Send for Recorded {}

impl Machine {
    /// The device of a context.
    ///
    /// # Errors
    /// What the driver or the library of products has against it.
    pub fn new(context: &Arc<CudaContext>, element: Element) -> Result<Self, CudaError> {
        let stream = context.new_stream()?;
        Ok(Self {
            products: Products::new(&stream, element)?,
            known: HashMap::new(),
            functions: Vec::new(),
            held: HashMap::new(),
            down: Staging::new(&stream),
            element,
            stream,
        })
    }

    fn load(
        &mut self,
        source: Source,
        defines: &[(&str, String)],
        entries: &[Entry],
    ) -> Result<Vec<Kernel>, CudaError> {
        let context = self.stream.context();
        let (major, minor) = context.compute_capability()?;
        let mut options = vec![
            format!("--gpu-architecture=compute_{major}{minor}"),
            "--std=c++17".to_owned(),
            format!("-DELEMENT={}", self.element as usize),
        ];
        options.extend(defines.iter().map(|(name, value)| format!("-D{name}={value}")));
        let options = CompileOptions { options, ..CompileOptions::default() };
        let module = context.load_module(compile_ptx_with_opts(source.text(), options).map_err(refused)?)?;
        let mut kernels = Vec::new();
        for Entry { name, threads, shared } in entries {
            let function = module.load_function(name)?;
            if *shared > 0 {
                let attribute = CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
                function.set_attribute(attribute, *shared as i32)?;
            }
            kernels.push(Kernel { index: self.functions.len(), threads: *threads, shared: *shared });
            self.functions.push(function);
        }
        Ok(kernels)
    }

    #[allow(unsafe_code, reason = "memory is left unset, to be written by what is asked for next")]
    fn take(&mut self, bytes: usize) -> Result<Address, CudaError> {
        self.stream.context().bind_to_thread()?;
        // SAFETY: every reader comes after a writer on the one stream.
        let slice = unsafe { self.stream.alloc::<u8>(bytes.max(1))? };
        let address = slice.device_ptr(&self.stream).0;
        self.held.insert(address, slice);
        Ok(address)
    }

    #[allow(unsafe_code, reason = "kernels work on addresses")]
    fn start(&self, kernel: Kernel, grid: [usize; 3], arguments: &[Argument]) -> Result<(), CudaError> {
        let mut launch = self.stream.launch_builder(&self.functions[kernel.index]);
        for argument in arguments {
            launch.arg(argument.bits());
        }
        let [x, y, z] = grid.map(|count| count as u32);
        let config = LaunchConfig {
            grid_dim: (x, y, z),
            block_dim: (kernel.threads as u32, 1, 1),
            shared_mem_bytes: kernel.shared as u32,
        };
        // SAFETY: the caller passes what the kernel declares; the driver reads as many bytes of an
        // argument as its parameter has.
        unsafe { launch.launch(config)? };
        Ok(())
    }

    fn product(&mut self, dense: Dense) -> Result<Product, CudaError> {
        if let Some(product) = self.known.get(&dense) {
            return Ok(*product);
        }
        let Dense { inputs, outputs, result } = dense;
        let product = self.products.product(0, None, [inputs, outputs], result)?;
        self.known.insert(dense, product);
        Ok(product)
    }
}

impl Gpu for Machine {
    type Graph = Recorded;

    fn element(&self) -> Element {
        self.element
    }

    fn memory(&self) -> Result<Memory, GpuError> {
        let (free, total) = self.stream.context().mem_get_info().map_err(CudaError::from)?;
        Ok(Memory { free: free as u64, total: total as u64 })
    }

    fn compile(
        &mut self,
        source: Source,
        defines: &[(&str, String)],
        entries: &[Entry],
    ) -> Result<Vec<Kernel>, GpuError> {
        Ok(self.load(source, defines, entries)?)
    }

    fn allocate(&mut self, bytes: usize) -> Result<Address, GpuError> {
        Ok(self.take(bytes)?)
    }

    fn release(&mut self, address: Address) -> Result<(), GpuError> {
        // The stream gives it back once it has come there.
        self.held.remove(&address);
        Ok(())
    }

    #[allow(unsafe_code, reason = "the device copies by address")]
    fn upload(&mut self, to: Address, bytes: &[u8]) -> Result<(), GpuError> {
        self.stream.context().bind_to_thread().map_err(CudaError::from)?;
        // SAFETY: the caller made room there; memory that is not page-locked is read before the
        // call returns.
        unsafe { memcpy_htod_async(to, bytes, self.stream.cu_stream()) }.map_err(CudaError::from)?;
        Ok(())
    }

    #[allow(unsafe_code, reason = "the device copies by address")]
    fn copy(&mut self, from: Address, to: Address, bytes: usize) -> Result<(), GpuError> {
        self.stream.context().bind_to_thread().map_err(CudaError::from)?;
        // SAFETY: the caller made room there, and so many bytes are at the other place.
        unsafe { memcpy_dtod_async(to, from, bytes, self.stream.cu_stream()) }.map_err(CudaError::from)?;
        Ok(())
    }

    fn launch(&mut self, kernel: Kernel, grid: [usize; 3], arguments: &[Argument]) -> Result<(), GpuError> {
        Ok(self.start(kernel, grid, arguments)?)
    }

    fn multiply(
        &mut self,
        dense: Dense,
        [weight, from, to]: [Address; 3],
        rows: usize,
        added: bool,
    ) -> Result<(), GpuError> {
        let product = self.product(dense)?.with_weight(weight);
        Ok(self.products.multiply(&product, from, rows, added.then_some(to), to)?)
    }

    fn download(&mut self, from: Address, count: usize) -> Result<&[f32], GpuError> {
        self.stream.context().bind_to_thread().map_err(CudaError::from)?;
        self.down.download(from, count)?;
        Ok(self.down.numbers(count)?)
    }

    fn record(&mut self) -> Result<(), GpuError> {
        // Other threads may take memory meanwhile.
        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        Ok(self.stream.begin_capture(mode).map_err(CudaError::from)?)
    }

    fn recorded(&mut self) -> Result<Self::Graph, GpuError> {
        let graph = self.stream.end_capture(CUgraphInstantiate_flags(0)).map_err(CudaError::from)?;
        graph.map(Recorded).ok_or_else(|| GpuError::Refused("nothing was recorded".to_owned()))
    }

    fn replay(&mut self, graph: &Self::Graph) -> Result<(), GpuError> {
        Ok(graph.0.launch().map_err(CudaError::from)?)
    }
}

impl From<CudaError> for GpuError {
    fn from(error: CudaError) -> Self {
        let words = error.to_string();
        match error {
            CudaError::Driver(cause) if cause.0 == CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
                Self::OutOfMemory(words)
            }
            CudaError::Driver(_) => Self::Lost(words),
            CudaError::Library(_) | CudaError::Compiler(_) | CudaError::Products(_) => Self::Refused(words),
        }
    }
}
