//! Memory of a forward pass, on the device and page-locked on the host.
//!
//! It is kept between passes and grows with the largest, as allocation on a device synchronises
//! with all work under way.

use std::sync::Arc;

use cudarc::driver::result::{memcpy_dtoh_async, memcpy_htod_async};
use cudarc::driver::{CudaEvent, CudaSlice, CudaStream, DevicePtr, PinnedHostSlice};

use super::error::CudaError;
use crate::kernels::gpu::Address;

/// A buffer on the device that grows on demand.
#[derive(Debug, Default)]
pub(crate) struct Buffer(Option<CudaSlice<u8>>);

impl Buffer {
    /// Returns the address of at least `bytes` bytes. If the buffer has to grow, its contents are
    /// lost.
    ///
    /// # Errors
    /// If the device is out of memory.
    #[allow(
        unsafe_code,
        reason = "memory is left uninitialised, and every read comes after a write on the same stream"
    )]
    pub(crate) fn reserve(&mut self, stream: &Arc<CudaStream>, bytes: usize) -> Result<Address, CudaError> {
        if self.0.as_ref().is_none_or(|held| held.len() < bytes) {
            self.0 = None;
            // SAFETY: the host never reads this memory, and kernels write it before they read it.
            self.0 = Some(unsafe { stream.alloc::<u8>(bytes.max(1))? });
        }
        Ok(self.0.as_ref().map_or(0, |held| held.device_ptr(stream).0))
    }
}

/// Page-locked memory of the host, which the device copies to and from asynchronously.
///
/// A copy is still under way when the call that enqueued it returns; [`Staging::wait`] waits for
/// the last.
#[derive(Debug)]
pub(crate) struct Staging {
    stream: Arc<CudaStream>,
    /// Words of 32 bits.
    memory: Option<PinnedHostSlice<u32>>,
    /// Recorded behind the last copy.
    copied: Option<CudaEvent>,
}

impl Staging {
    /// A buffer without memory yet.
    pub(crate) fn new(stream: &Arc<CudaStream>) -> Self {
        Self { stream: Arc::clone(stream), memory: None, copied: None }
    }

    /// Waits for the last copy, and with it for all work enqueued before.
    ///
    /// # Errors
    /// If the device failed.
    pub(crate) fn wait(&mut self) -> Result<(), CudaError> {
        if let Some(copied) = self.copied.take() {
            copied.synchronize()?;
        }
        Ok(())
    }

    /// The first `words` words of the buffer, once no copy uses it.
    #[allow(unsafe_code, reason = "memory is left uninitialised until a copy or the host writes it")]
    fn staged(&mut self, words: usize) -> Result<&mut [u32], CudaError> {
        self.wait()?;
        if self.memory.as_ref().is_none_or(|held| held.len() < words) {
            self.memory = None;
            let context = self.stream.context();
            // At least a page, and powers of two, so that growth is rare. SAFETY: `upload` or the
            // device's copy writes words before anything reads them, and any bits are a valid u32.
            self.memory =
                Some(unsafe { context.alloc_pinned_with_flags(words.next_power_of_two().max(1_024), 0)? });
        }
        match &mut self.memory {
            Some(held) => Ok(&mut held.as_mut_slice()?[..words]),
            None => Ok(&mut []),
        }
    }

    /// Enqueues a copy of `words` to the device.
    ///
    /// # Errors
    /// If memory cannot be page-locked, or the driver refuses.
    #[allow(unsafe_code, reason = "the device copies by address")]
    pub(crate) fn upload(&mut self, words: &[u32], to: Address) -> Result<(), CudaError> {
        let stream = Arc::clone(&self.stream);
        let staged = self.staged(words.len())?;
        staged.copy_from_slice(words);
        // SAFETY: the caller allocated as many words at `to`. The staged words stay as they are
        // until the copy is done, as `staged` and `drop` wait for the event that is recorded next.
        unsafe { memcpy_htod_async(to, staged, stream.cu_stream())? };
        self.copied = Some(stream.record_event(None)?);
        Ok(())
    }

    /// Enqueues a copy of `count` floats from the device, for [`Staging::numbers`].
    ///
    /// # Errors
    /// If memory cannot be page-locked, or the driver refuses.
    #[allow(unsafe_code, reason = "the device copies by address")]
    pub(crate) fn download(&mut self, from: Address, count: usize) -> Result<(), CudaError> {
        let stream = Arc::clone(&self.stream);
        let staged = self.staged(count)?;
        // SAFETY: the caller has `count` floats at `from`. The staged memory is not accessed until
        // the copy is done, as `staged`, `numbers` and `drop` wait for the event that is recorded
        // next.
        unsafe { memcpy_dtoh_async(staged, from, stream.cu_stream())? };
        self.copied = Some(stream.record_event(None)?);
        Ok(())
    }

    /// The first `count` floats of the last download, once they have arrived.
    ///
    /// # Errors
    /// If the device failed.
    #[allow(unsafe_code, reason = "numbers are held as words")]
    pub(crate) fn numbers(&mut self, count: usize) -> Result<&[f32], CudaError> {
        self.wait()?;
        let words = self.memory.as_ref().map_or(Ok(&[][..]), PinnedHostSlice::as_slice)?;
        let words = &words[..count];
        // SAFETY: u32 and f32 have the same size and alignment, any bits are a valid f32, and the
        // slice was just cut to `count`.
        Ok(unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), count) })
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // The memory must outlive the copies. A device that failed has stopped copying, so its
        // error does not matter here.
        let _ = self.wait();
    }
}
