//! Memory that grows with the largest step.

use crate::kernels::gpu::{Address, Gpu, GpuError};

/// Memory of the device.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    address: Address,
    bytes: usize,
}

impl Buffer {
    /// Room for so many bytes, and whether it lies where it lay before; what was there is lost
    /// where it does not.
    pub(super) fn room<G: Gpu>(&mut self, gpu: &mut G, bytes: usize) -> Result<bool, GpuError> {
        if self.bytes >= bytes {
            return Ok(true);
        }
        if self.bytes > 0 {
            self.bytes = 0;
            gpu.release(self.address)?;
        }
        self.address = gpu.allocate(bytes)?;
        self.bytes = bytes;
        Ok(false)
    }

    /// Where it lies.
    pub(super) fn address(&self) -> Address {
        self.address
    }
}

/// New memory with these bytes.
pub(super) fn upload<G: Gpu>(gpu: &mut G, bytes: &[u8]) -> Result<Address, GpuError> {
    let address = gpu.allocate(bytes.len())?;
    gpu.upload(address, bytes)?;
    Ok(address)
}

/// New memory with these numbers, as f32.
pub(super) fn floats<G: Gpu>(gpu: &mut G, numbers: &[f32]) -> Result<Address, GpuError> {
    let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
    upload(gpu, &bytes)
}
