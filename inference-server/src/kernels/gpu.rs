//! The interface of a GPU, [`Gpu`]: memory, kernels, GEMM, and graphs of recorded launches.
//!
//! Encoders and decoders are generic over it, so that their logic is the same on an NVIDIA GPU
//! ([`kernels::cuda`](crate::kernels)) and on the emulator of the tests. Calls enqueue work on one
//! stream, in order and asynchronously to the host; only [`Download::wait`] waits.
//!
//! Kernels are CUDA C++ in `cuda/*.cu`, see `source`. They are compiled at run time for a model's
//! shape.

pub(crate) mod encoder_tiles;
pub(crate) mod memory;
mod source;

use candle_core::Tensor;
use rayon::prelude::*;

pub use source::Source;
pub(crate) use source::activation_number;

/// An address on the device.
pub type Address = u64;

/// Element type of weights and activations; sums are f32 in any case. The numbers are those of
/// ELEMENT in `cuda/ptx.cu`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Element {
    /// bfloat16: 8 bits of significand.
    Bf16,
    /// IEEE half precision: 11 bits of significand.
    F16,
    /// IEEE single precision: 24 bits of significand.
    F32,
}

impl Element {
    /// Bytes of an element.
    pub fn bytes(self) -> usize {
        match self {
            Self::Bf16 | Self::F16 => 2,
            Self::F32 => 4,
        }
    }

    /// Converts numbers to the bytes of elements, on the threads of the current pool.
    pub fn encode(self, numbers: &[f32]) -> Vec<u8> {
        let mut bytes = vec![0; numbers.len() * self.bytes()];
        let chunks =
            bytes.par_chunks_mut(ENCODED_AT_ONCE * self.bytes()).zip(numbers.par_chunks(ENCODED_AT_ONCE));
        chunks.for_each(|(bytes, numbers)| match self {
            Self::Bf16 => put(bytes, numbers, |x| half::bf16::from_f32(x).to_le_bytes()),
            Self::F16 => put(bytes, numbers, |x| half::f16::from_f32(x).to_le_bytes()),
            Self::F32 => put(bytes, numbers, f32::to_le_bytes),
        });
        bytes
    }
}

/// Numbers that a thread encodes at a time: 256 KiB of f32, so that a task is worth stealing. Not
/// tuned.
const ENCODED_AT_ONCE: usize = 1 << 16;

fn put<const N: usize>(bytes: &mut [u8], numbers: &[f32], encode: impl Fn(f32) -> [u8; N]) {
    for (place, x) in bytes.as_chunks_mut().0.iter_mut().zip(numbers) {
        *place = encode(*x);
    }
}

/// An argument of a kernel: an address, an unsigned count of 32 or 64 bits, or a float.
#[derive(Debug, Clone, Copy)]
pub struct Argument(u64);

impl From<Address> for Argument {
    fn from(address: Address) -> Self {
        Self(address)
    }
}

impl From<usize> for Argument {
    fn from(count: usize) -> Self {
        // Kernels count in 32 bits; a count that may exceed them is passed by `wide`.
        Self(u64::from(count as u32))
    }
}

impl From<f32> for Argument {
    fn from(number: f32) -> Self {
        Self(u64::from(number.to_bits()))
    }
}

impl Argument {
    /// A count of 64 bits, `size_t` of the kernel.
    pub(crate) fn wide(count: usize) -> Self {
        Self(count as u64)
    }

    /// The bits, in the lowest bytes; a kernel reads as many as its parameter has.
    pub fn bits(&self) -> &u64 {
        &self.0
    }
}

/// A compiled kernel.
#[derive(Debug, Clone, Copy)]
pub struct Kernel {
    /// Index among the kernels of the device.
    pub index: usize,
    /// Threads of a thread block.
    pub threads: usize,
    /// Bytes of dynamic shared memory.
    pub shared: usize,
}

/// Entry point of a source, with the launch configuration of the kernel.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// Name of the kernel.
    pub name: &'static str,
    /// Threads of a thread block.
    pub threads: usize,
    /// Bytes of dynamic shared memory.
    pub shared: usize,
}

/// Shape of a GEMM by the vendor's library, y = x·Wᵀ + b + c; see [`Gpu::multiply`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GemmShape {
    /// Columns of x.
    pub inputs: usize,
    /// Columns of y.
    pub outputs: usize,
    /// Element type of y; x and W are of the device's.
    pub result: Element,
}

/// Addresses of the operands of a GEMM, all row-major; bias and addend are of the type of the
/// result.
#[derive(Debug, Clone, Copy)]
pub struct GemmOperands {
    /// W, outputs × inputs.
    pub weight: Address,
    /// b, outputs; `None` for 0.
    pub bias: Option<Address>,
    /// x, rows × inputs.
    pub input: Address,
    /// c, rows × outputs, which may be the output itself; `None` for 0.
    pub addend: Option<Address>,
    /// y, rows × outputs.
    pub output: Address,
}

/// Error of a device.
#[derive(Debug, thiserror::Error)]
pub enum GpuError {
    /// Out of device memory.
    #[error("{0}")]
    OutOfMemory(String),
    /// The context is lost; every later call fails too.
    #[error("{0}")]
    Lost(String),
    /// The call was refused: by the compiler, by a library, or as invalid.
    #[error("{0}")]
    Refused(String),
}

/// Memory of a device, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Free bytes.
    pub free: u64,
    /// All bytes.
    pub total: u64,
}

/// A device as one model uses it: a stream of its own, and memory and kernels that are freed with
/// it.
pub trait Gpu: Send {
    /// A graph of recorded launches.
    type Graph;
    /// Memory of the host that floats are copied to.
    type Download: Download;

    /// Element type of weights and activations.
    fn element(&self) -> Element;

    /// Memory of the device.
    ///
    /// # Errors
    /// If the driver does not report it.
    fn memory(&self) -> Result<Memory, GpuError>;

    /// Compiles a source with these macros defined, and returns its kernels in the order of
    /// `entries`.
    ///
    /// # Errors
    /// If compilation fails.
    fn compile(
        &mut self,
        source: Source,
        defines: &[(&str, String)],
        entries: &[Entry],
    ) -> Result<Vec<Kernel>, GpuError>;

    /// Allocates memory, aligned to 256 bytes; its contents are unspecified.
    ///
    /// # Errors
    /// [`GpuError::OutOfMemory`] if there is not enough.
    fn allocate(&mut self, bytes: usize) -> Result<Address, GpuError>;

    /// Frees memory once all work enqueued so far is done.
    ///
    /// # Errors
    /// If the device failed.
    fn release(&mut self, address: Address) -> Result<(), GpuError>;

    /// Copies bytes to the device; the caller may change them once the call has returned.
    ///
    /// # Errors
    /// If the device failed.
    fn upload(&mut self, to: Address, bytes: &[u8]) -> Result<(), GpuError>;

    /// Copies bytes within the device.
    ///
    /// # Errors
    /// If the device failed.
    fn copy(&mut self, from: Address, to: Address, bytes: usize) -> Result<(), GpuError>;

    /// Launches a kernel on a grid of thread blocks. The arguments must be what the kernel
    /// declares.
    ///
    /// # Errors
    /// If the launch is refused.
    fn launch(&mut self, kernel: Kernel, grid: [usize; 3], arguments: &[Argument]) -> Result<(), GpuError>;

    /// Multiplies `rows` rows. A row's result has the same bits whatever `rows` is.
    ///
    /// # Errors
    /// If the library refuses.
    fn multiply(&mut self, shape: GemmShape, operands: GemmOperands, rows: usize) -> Result<(), GpuError>;

    /// Memory for a download, which grows with the largest.
    fn new_download(&self) -> Self::Download;

    /// Enqueues a copy of `count` floats to the host; [`Download::wait`] waits for it, and nothing
    /// else has to. So the next pass can be enqueued meanwhile.
    ///
    /// # Errors
    /// If the device failed, or memory of the host cannot be page-locked.
    fn download(&mut self, from: Address, count: usize, to: &mut Self::Download) -> Result<(), GpuError>;

    /// Copies rows × columns floats to a tensor on the device, for heads, which candle computes.
    ///
    /// # Errors
    /// [`GpuError::OutOfMemory`] if there is not enough.
    fn tensor(&mut self, from: Address, shape: (usize, usize)) -> Result<Tensor, GpuError>;

    /// Begins to capture launches in a graph instead of running them. Only [`Gpu::launch`] may be
    /// called until [`Gpu::end_capture`].
    ///
    /// # Errors
    /// If capturing cannot begin.
    fn begin_capture(&mut self) -> Result<(), GpuError>;

    /// Ends the capture and returns the graph.
    ///
    /// # Errors
    /// If nothing was captured, or the graph cannot be instantiated.
    fn end_capture(&mut self) -> Result<Self::Graph, GpuError>;

    /// Launches all kernels of a graph at once.
    ///
    /// # Errors
    /// If the launch is refused.
    fn replay(&mut self, graph: &Self::Graph) -> Result<(), GpuError>;
}

/// Floats on their way from a device to the host.
pub trait Download: Send {
    /// Waits for the last copy, and with it for all work that was enqueued before. Returns the
    /// floats that it brought.
    ///
    /// # Errors
    /// If the device failed.
    fn wait(&mut self) -> Result<&[f32], GpuError>;
}
