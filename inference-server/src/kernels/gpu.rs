//! What a decoder asks of a GPU, so that its logic is the same on one that is there and on what
//! tests put in its place.
//!
//! Work is done in the order it is asked for, beside the host; only [`Gpu::download`] waits.

mod source;

use rayon::prelude::*;

pub use source::Source;
pub(crate) use source::activation_number;

/// An address on the device.
pub type Address = u64;

/// How weights and activations are held; sums are f32 in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Element {
    /// 8 bits of significand in 16.
    Bf16,
    /// 11 bits of significand in 16.
    F16,
    /// 24 bits of significand in 32.
    F32,
}

impl Element {
    /// Bytes of one.
    pub fn bytes(self) -> usize {
        match self {
            Self::Bf16 | Self::F16 => 2,
            Self::F32 => 4,
        }
    }

    /// Numbers as the device holds them.
    pub fn encode(self, numbers: &[f32]) -> Vec<u8> {
        let mut bytes = vec![0; numbers.len() * self.bytes()];
        let parts = bytes.par_chunks_mut(PART * self.bytes()).zip(numbers.par_chunks(PART));
        parts.for_each(|(bytes, numbers)| match self {
            Self::Bf16 => put(bytes, numbers, |x| half::bf16::from_f32(x).to_le_bytes()),
            Self::F16 => put(bytes, numbers, |x| half::f16::from_f32(x).to_le_bytes()),
            Self::F32 => put(bytes, numbers, f32::to_le_bytes),
        });
        bytes
    }
}

/// Numbers that a thread encodes at a time.
const PART: usize = 1 << 16;

fn put<const N: usize>(bytes: &mut [u8], numbers: &[f32], encode: impl Fn(f32) -> [u8; N]) {
    for (place, x) in bytes.as_chunks_mut().0.iter_mut().zip(numbers) {
        *place = encode(*x);
    }
}

/// An argument of a kernel: an address, a count or a number.
#[derive(Debug, Clone, Copy)]
pub struct Argument(u64);

impl From<Address> for Argument {
    fn from(address: Address) -> Self {
        Self(address)
    }
}

impl From<usize> for Argument {
    fn from(count: usize) -> Self {
        Self(u64::from(count as u32))
    }
}

impl From<f32> for Argument {
    fn from(number: f32) -> Self {
        Self(u64::from(number.to_bits()))
    }
}

impl Argument {
    /// Its bits, the lower ones first; a kernel reads as many as its parameter has.
    pub fn bits(&self) -> &u64 {
        &self.0
    }
}

/// A kernel that is ready to be launched.
#[derive(Debug, Clone, Copy)]
pub struct Kernel {
    /// Its number.
    pub index: usize,
    /// Threads of a block.
    pub threads: usize,
    /// Bytes that the threads of a block share, beside those that the kernel declares.
    pub shared: usize,
}

/// What of a kernel its source does not say.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// Its name.
    pub name: &'static str,
    /// Threads of a block.
    pub threads: usize,
    /// Bytes that the threads of a block share, beside those that the kernel declares.
    pub shared: usize,
}

/// A product of matrices in a library's hands: y = x·Wᵀ for many rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Dense {
    /// Columns of x.
    pub inputs: usize,
    /// Columns of y.
    pub outputs: usize,
    /// How y is held; x and W are of the device's element.
    pub result: Element,
}

/// Why a device did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum GpuError {
    /// It has no room.
    #[error("{0}")]
    OutOfMemory(String),
    /// It will do nothing more.
    #[error("{0}")]
    Lost(String),
    /// It refused this.
    #[error("{0}")]
    Refused(String),
}

/// Bytes of a device's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// That nobody uses.
    pub free: u64,
    /// All.
    pub total: u64,
}

/// A device for one model. What it gives is freed with it.
pub trait Gpu: Send {
    /// Launches that were recorded.
    type Graph;

    /// How it holds weights and activations.
    fn element(&self) -> Element;

    /// Its memory.
    ///
    /// # Errors
    /// If it does not say.
    fn memory(&self) -> Result<Memory, GpuError>;

    /// The kernels of a source, compiled with these names defined.
    ///
    /// # Errors
    /// What the compiler has against it.
    fn compile(
        &mut self,
        source: Source,
        defines: &[(&str, String)],
        entries: &[Entry],
    ) -> Result<Vec<Kernel>, GpuError>;

    /// Memory, on a multiple of 256 bytes.
    ///
    /// # Errors
    /// [`GpuError::OutOfMemory`].
    fn allocate(&mut self, bytes: usize) -> Result<Address, GpuError>;

    /// Gives memory back once all is done that was asked for.
    ///
    /// # Errors
    /// If the device failed.
    fn release(&mut self, address: Address) -> Result<(), GpuError>;

    /// Copies bytes to the device; they may change afterwards.
    ///
    /// # Errors
    /// If the device failed.
    fn upload(&mut self, to: Address, bytes: &[u8]) -> Result<(), GpuError>;

    /// Copies bytes of the device.
    ///
    /// # Errors
    /// If the device failed.
    fn copy(&mut self, from: Address, to: Address, bytes: usize) -> Result<(), GpuError>;

    /// Launches a kernel.
    ///
    /// # Errors
    /// If the device refuses.
    fn launch(&mut self, kernel: Kernel, grid: [usize; 3], arguments: &[Argument]) -> Result<(), GpuError>;

    /// `to` = from·Wᵀ for the addresses of W, from and to, added to what is there where `added`. A
    /// row's result is the same bits whatever `rows` is.
    ///
    /// # Errors
    /// If the device refuses.
    fn multiply(
        &mut self,
        dense: Dense,
        addresses: [Address; 3],
        rows: usize,
        added: bool,
    ) -> Result<(), GpuError>;

    /// Numbers of the device, once all is done that was asked for.
    ///
    /// # Errors
    /// If the device failed.
    fn download(&mut self, from: Address, count: usize) -> Result<&[f32], GpuError>;

    /// From here on launches are recorded, and nothing else may be asked for.
    ///
    /// # Errors
    /// If the device refuses.
    fn record(&mut self) -> Result<(), GpuError>;

    /// What was recorded.
    ///
    /// # Errors
    /// If the device refuses.
    fn recorded(&mut self) -> Result<Self::Graph, GpuError>;

    /// Launches what was recorded.
    ///
    /// # Errors
    /// If the device refuses.
    fn replay(&mut self, graph: &Self::Graph) -> Result<(), GpuError>;
}
