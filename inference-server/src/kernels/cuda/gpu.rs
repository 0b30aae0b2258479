//! [`Gpu`] on an NVIDIA GPU: the driver API by way of cudarc, NVRTC, and CUDA graphs.
//!
//! Everything is enqueued on one stream of the model's own, so that a capture records nothing but
//! the model's launches, and memory is reused in the stream's order.

use std::collections::HashMap;
use std::sync::Arc;

use cudarc::driver::result::{memcpy_dtod_async, memcpy_htod_async};
use cudarc::driver::sys::{CUfunction_attribute, CUgraphInstantiate_flags, CUstreamCaptureMode};
use cudarc::driver::{
    CudaContext, CudaFunction, CudaGraph, CudaSlice, CudaStream, DevicePtr, LaunchConfig, PushKernelArg,
};

use super::buffers::Staging;
use super::error::CudaError;
use super::nvrtc;
use super::products::{Product, Products};
use crate::kernels::gpu::{
    Address, Argument, Element, Entry, GemmOperands, GemmShape, Gpu, GpuError, Kernel, Memory, Source,
};

/// An NVIDIA GPU, as one model uses it.
pub struct CudaGpu {
    stream: Arc<CudaStream>,
    element: Element,
    products: Products,
    /// Products by shape; their weights are set at each call.
    known: HashMap<GemmShape, Product>,
    /// Compiled kernels, by the index of [`Kernel`].
    functions: Vec<CudaFunction>,
    allocations: HashMap<Address, CudaSlice<u8>>,
    down: Staging,
}

/// A CUDA graph of captured launches.
pub struct CapturedGraph(CudaGraph);

#[allow(unsafe_code, reason = "a graph is a pointer")]
// SAFETY: the driver allows a graph to be used from any thread, by one at a time; the type is not
// `Sync`.
unsafe impl Send for CapturedGraph {}

impl CudaGpu {
    /// Opens the device of a context, on a new stream.
    ///
    /// # Errors
    /// If the driver or cuBLASLt refuses.
    pub fn new(context: &Arc<CudaContext>, element: Element) -> Result<Self, CudaError> {
        let stream = context.new_stream()?;
        Ok(Self {
            products: Products::new(&stream, element)?,
            known: HashMap::new(),
            functions: Vec::new(),
            allocations: HashMap::new(),
            down: Staging::new(&stream),
            element,
            stream,
        })
    }

    /// Compiles a source and loads its kernels.
    fn load(
        &mut self,
        source: Source,
        defines: &[(&str, String)],
        entries: &[Entry],
    ) -> Result<Vec<Kernel>, CudaError> {
        let module = nvrtc::load(self.stream.context(), source, self.element, defines)?;
        let mut kernels = Vec::new();
        for Entry { name, threads, shared } in entries {
            let function = module.load_function(name)?;
            // More than 48 KiB of dynamic shared memory must be asked for.
            if *shared > 0 {
                let attribute = CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
                function.set_attribute(attribute, *shared as i32)?;
            }
            kernels.push(Kernel { index: self.functions.len(), threads: *threads, shared: *shared });
            self.functions.push(function);
        }
        Ok(kernels)
    }

    /// Allocates memory that `self` owns.
    #[allow(
        unsafe_code,
        reason = "memory is left uninitialised, to be written by the work that is enqueued next"
    )]
    fn take(&mut self, bytes: usize) -> Result<Address, CudaError> {
        self.stream.context().bind_to_thread()?;
        // SAFETY: the host never reads this memory, and on the one stream every read comes after a
        // write.
        let slice = unsafe { self.stream.alloc::<u8>(bytes.max(1))? };
        let address = slice.device_ptr(&self.stream).0;
        self.allocations.insert(address, slice);
        Ok(address)
    }

    /// Launches a kernel.
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
        // SAFETY: by the contract of `Gpu::launch` the arguments are what the kernel declares, with
        // addresses of allocations that are large enough. The driver reads as many bytes of an
        // argument as its parameter has, of the 8 that it points at.
        unsafe { launch.launch(config)? };
        Ok(())
    }

    /// The product of a shape, prepared at first use.
    fn product(&mut self, shape: GemmShape) -> Result<Product, CudaError> {
        if let Some(product) = self.known.get(&shape) {
            return Ok(*product);
        }
        let product = self.products.product(0, None, shape)?;
        self.known.insert(shape, product);
        Ok(product)
    }
}

impl Gpu for CudaGpu {
    type Graph = CapturedGraph;

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
        // Freed by the stream, once it has done all work enqueued before.
        self.allocations.remove(&address);
        Ok(())
    }

    #[allow(unsafe_code, reason = "the device copies by address")]
    fn upload(&mut self, to: Address, bytes: &[u8]) -> Result<(), GpuError> {
        self.stream.context().bind_to_thread().map_err(CudaError::from)?;
        // SAFETY: the caller allocated as many bytes at `to`. `bytes` is pageable memory, which the
        // driver has copied to a buffer of its own when the call returns.
        unsafe { memcpy_htod_async(to, bytes, self.stream.cu_stream()) }.map_err(CudaError::from)?;
        Ok(())
    }

    #[allow(unsafe_code, reason = "the device copies by address")]
    fn copy(&mut self, from: Address, to: Address, bytes: usize) -> Result<(), GpuError> {
        self.stream.context().bind_to_thread().map_err(CudaError::from)?;
        // SAFETY: the caller allocated `bytes` bytes at both addresses.
        unsafe { memcpy_dtod_async(to, from, bytes, self.stream.cu_stream()) }.map_err(CudaError::from)?;
        Ok(())
    }

    fn launch(&mut self, kernel: Kernel, grid: [usize; 3], arguments: &[Argument]) -> Result<(), GpuError> {
        Ok(self.start(kernel, grid, arguments)?)
    }

    fn multiply(
        &mut self,
        shape: GemmShape,
        GemmOperands { weight, input, output }: GemmOperands,
        rows: usize,
        accumulate: bool,
    ) -> Result<(), GpuError> {
        let product = self.product(shape)?.with_weight(weight);
        Ok(self.products.multiply(&product, input, rows, accumulate.then_some(output), output)?)
    }

    fn download(&mut self, from: Address, count: usize) -> Result<&[f32], GpuError> {
        self.stream.context().bind_to_thread().map_err(CudaError::from)?;
        self.down.download(from, count)?;
        Ok(self.down.numbers(count)?)
    }

    fn begin_capture(&mut self) -> Result<(), GpuError> {
        // Only this thread is kept from calls that cannot be captured; others may allocate
        // meanwhile.
        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        Ok(self.stream.begin_capture(mode).map_err(CudaError::from)?)
    }

    fn end_capture(&mut self) -> Result<Self::Graph, GpuError> {
        let graph = self.stream.end_capture(CUgraphInstantiate_flags(0)).map_err(CudaError::from)?;
        graph.map(CapturedGraph).ok_or_else(|| GpuError::Refused("no launch was captured".to_owned()))
    }

    fn replay(&mut self, graph: &Self::Graph) -> Result<(), GpuError> {
        Ok(graph.0.launch().map_err(CudaError::from)?)
    }
}
