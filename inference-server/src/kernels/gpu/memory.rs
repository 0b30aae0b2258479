//! Device memory of a model: buffers that grow with the largest pass, and uploads of weights.
//!
//! Nothing is freed before the device is dropped, except a buffer that is replaced by a larger one.

use super::{Address, Gpu, GpuError};

/// Device memory that grows on demand and never shrinks.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    address: Address,
    bytes: usize,
}

impl Buffer {
    /// Grows to at least `bytes`. Returns true if the address is unchanged; otherwise the contents
    /// are lost, and recorded launches that refer to the buffer are invalid.
    ///
    /// # Errors
    /// If the device is out of memory.
    pub(crate) fn reserve<G: Gpu>(&mut self, gpu: &mut G, bytes: usize) -> Result<bool, GpuError> {
        if self.bytes >= bytes {
            return Ok(true);
        }
        if self.bytes > 0 {
            // Zero first: if the allocation below fails, the released address must not be reused.
            self.bytes = 0;
            gpu.release(self.address)?;
        }
        self.address = gpu.allocate(bytes)?;
        self.bytes = bytes;
        Ok(false)
    }

    /// Address of at least `bytes` bytes. If the buffer has to grow, its contents are lost.
    ///
    /// # Errors
    /// If the device is out of memory.
    pub(crate) fn at_least<G: Gpu>(&mut self, gpu: &mut G, bytes: usize) -> Result<Address, GpuError> {
        self.reserve(gpu, bytes)?;
        Ok(self.address)
    }

    /// Device address; unspecified before the first [`Buffer::reserve`].
    pub(crate) fn address(&self) -> Address {
        self.address
    }
}

/// Copies bytes into newly allocated memory.
///
/// # Errors
/// If the device is out of memory.
pub(crate) fn upload<G: Gpu>(gpu: &mut G, bytes: &[u8]) -> Result<Address, GpuError> {
    let address = gpu.allocate(bytes.len())?;
    gpu.upload(address, bytes)?;
    Ok(address)
}

/// Copies numbers, as f32, into newly allocated memory.
///
/// # Errors
/// If the device is out of memory.
pub(crate) fn upload_f32<G: Gpu>(gpu: &mut G, numbers: &[f32]) -> Result<Address, GpuError> {
    let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
    upload(gpu, &bytes)
}
