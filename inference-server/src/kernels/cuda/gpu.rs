//! [`Gpu`] on an NVIDIA GPU: the driver API by way of cudarc, NVRTC, and CUDA graphs.
//!
//! Everything is enqueued on one stream of the model's own, so that a capture records nothing but
//! the model's launches, and memory is reused in the stream's order. Heads compute on candle's
//! stream; the two wait for each other where a tensor is handed over.

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::cuda_backend::CudaStorage;
use candle_core::op::BackpropOp;
use candle_core::{CudaDevice, Storage, Tensor};
use cudarc::driver::result::{memcpy_dtod_async, memcpy_htod_async};
use cudarc::driver::sys::{CUfunction_attribute, CUgraphInstantiate_flags, CUstreamCaptureMode};
use cudarc::driver::{
    CudaFunction, CudaGraph, CudaSlice, CudaStream, DevicePtr, LaunchConfig, PushKernelArg,
};

use super::error::CudaError;
use super::nvrtc;
use super::products::Products;
use super::staging::Staging;
use crate::kernels::gpu::{
    Address, Argument, Element, Entry, GemmOperands, GemmShape, Gpu, GpuError, Kernel, Memory, Source,
};

/// Largest upload that goes through page-locked memory: that of a batch of 64Ki tokens, with some
/// eight words for each of them. Weights are larger, and may be copied synchronously.
const STAGED_BYTES: usize = 2 << 20;

/// An NVIDIA GPU, as one model uses it.
pub struct CudaGpu {
    /// The device as candle has opened it.
    device: CudaDevice,
    stream: Arc<CudaStream>,
    element: Element,
    products: Products,
    /// Compiled kernels, by the index of [`Kernel`].
    functions: Vec<CudaFunction>,
    allocations: HashMap<Address, CudaSlice<u8>>,
    uploads: Staging<u8>,
}

/// A CUDA graph of captured launches.
pub struct CapturedGraph(CudaGraph);

#[allow(unsafe_code, reason = "a graph is a pointer")]
// SAFETY: the driver allows a graph to be used from any thread, by one at a time; the type is not
// `Sync`.
unsafe impl Send for CapturedGraph {}

impl CudaGpu {
    /// A new stream on a device that candle has opened.
    ///
    /// # Errors
    /// If the driver or cuBLASLt refuses.
    pub fn new(device: &CudaDevice, element: Element) -> Result<Self, CudaError> {
        let stream = device.cuda_stream().context().new_stream()?;
        Ok(Self {
            products: Products::new(&stream, element)?,
            functions: Vec::new(),
            allocations: HashMap::new(),
            uploads: Staging::new(&stream),
            device: device.clone(),
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

    /// Copies floats to memory of candle's.
    #[allow(unsafe_code, reason = "memory is left uninitialised, and the device copies by address")]
    fn copy_to_candle(&self, from: Address, count: usize) -> Result<CudaSlice<f32>, CudaError> {
        let candle = self.device.cuda_stream();
        // SAFETY: the copy that is enqueued next writes this memory before anything reads it.
        let slice = unsafe { candle.alloc::<f32>(count.max(1))? };
        // The copy waits for the floats, and whatever overwrites them waits for the copy.
        candle.join(&self.stream)?;
        let to = slice.device_ptr(&candle).0;
        // SAFETY: the caller has `count` floats at `from`, and `slice` has room for them.
        unsafe { memcpy_dtod_async(to, from, count * size_of::<f32>(), candle.cu_stream())? };
        self.stream.join(&candle)?;
        Ok(slice)
    }

    /// Copies bytes from pageable memory.
    #[allow(unsafe_code, reason = "the device copies by address")]
    fn upload_pageable(&self, to: Address, bytes: &[u8]) -> Result<(), CudaError> {
        self.stream.context().bind_to_thread()?;
        // SAFETY: the caller allocated as many bytes at `to`. The driver has copied `bytes` to a
        // buffer of its own, or to the device, when the call returns.
        unsafe { memcpy_htod_async(to, bytes, self.stream.cu_stream())? };
        Ok(())
    }
}

impl Gpu for CudaGpu {
    type Graph = CapturedGraph;
    type Download = Staging<f32>;

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

    fn upload(&mut self, to: Address, bytes: &[u8]) -> Result<(), GpuError> {
        self.stream.context().bind_to_thread().map_err(CudaError::from)?;
        if bytes.len() <= STAGED_BYTES {
            self.uploads.upload(bytes, to)?;
        } else {
            self.upload_pageable(to, bytes)?;
        }
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

    fn multiply(&mut self, shape: GemmShape, operands: GemmOperands, rows: usize) -> Result<(), GpuError> {
        // The library works on the thread's current context, and passes come from several threads.
        self.stream.context().bind_to_thread().map_err(CudaError::from)?;
        Ok(self.products.multiply(shape, operands, rows)?)
    }

    fn new_download(&self) -> Self::Download {
        Staging::new(&self.stream)
    }

    fn download(&mut self, from: Address, count: usize, to: &mut Self::Download) -> Result<(), GpuError> {
        self.stream.context().bind_to_thread().map_err(CudaError::from)?;
        Ok(to.download(from, count)?)
    }

    fn tensor(&mut self, from: Address, shape: (usize, usize)) -> Result<Tensor, GpuError> {
        let floats = self.copy_to_candle(from, shape.0 * shape.1)?;
        let storage = Storage::Cuda(CudaStorage::wrap_cuda_slice(floats, self.device.clone()));
        Ok(Tensor::from_storage(storage, shape, BackpropOp::none(), false))
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
