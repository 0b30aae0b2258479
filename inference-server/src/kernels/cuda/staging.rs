//! Page-locked memory of the host, which the device copies to and from asynchronously.
//!
//! It is kept between passes and grows with the largest, as page-locking synchronises with all work
//! under way. From pageable memory the driver copies more than 64 KiB synchronously ("API
//! synchronization behavior" in the documentation of the driver API), so that a pass could not be
//! enqueued while another runs.

use std::sync::Arc;

use cudarc::driver::result::{memcpy_dtoh_async, memcpy_htod_async};
use cudarc::driver::{CudaEvent, CudaStream, DeviceRepr, PinnedHostSlice, ValidAsZeroBits};

use super::error::CudaError;
use crate::kernels::gpu::{Address, Download, GpuError};

/// Page-locked memory for copies of one stream.
///
/// A copy is still under way when the call that enqueued it returns; [`Staging::wait`] waits for
/// the last.
#[derive(Debug)]
pub struct Staging<T> {
    stream: Arc<CudaStream>,
    memory: Option<PinnedHostSlice<T>>,
    /// Recorded behind the last copy.
    copied: Option<CudaEvent>,
    /// Elements of the last copy.
    length: usize,
}

impl<T: DeviceRepr + ValidAsZeroBits + Copy> Staging<T> {
    /// Least number of bytes that are page-locked: a page.
    const LEAST: usize = 4_096;

    /// A buffer without memory yet.
    pub(super) fn new(stream: &Arc<CudaStream>) -> Self {
        Self { stream: Arc::clone(stream), memory: None, copied: None, length: 0 }
    }

    /// The first `length` elements of the buffer, once no copy uses it.
    #[allow(unsafe_code, reason = "memory is left uninitialised until a copy or the host writes it")]
    fn staged(&mut self, length: usize) -> Result<&mut [T], CudaError> {
        wait(&mut self.copied)?;
        if self.memory.as_ref().is_none_or(|held| held.len() < length) {
            // Freed first, so that two buffers are never page-locked at a time.
            self.memory = None;
            // Powers of two, so that growth is rare.
            let least = length.next_power_of_two().max(Self::LEAST / size_of::<T>());
            // SAFETY: `upload` or the device's copy writes elements before anything reads them, and
            // any bits are a valid element.
            self.memory = Some(unsafe { self.stream.context().alloc_pinned_with_flags(least, 0)? });
        }
        self.length = length;
        match &mut self.memory {
            Some(held) => Ok(&mut held.as_mut_slice()?[..length]),
            None => Ok(&mut []),
        }
    }

    /// Enqueues a copy to the device.
    ///
    /// # Errors
    /// If memory cannot be page-locked, or the driver refuses.
    #[allow(unsafe_code, reason = "the device copies by address")]
    pub(super) fn upload(&mut self, elements: &[T], to: Address) -> Result<(), CudaError> {
        let stream = Arc::clone(&self.stream);
        let staged = self.staged(elements.len())?;
        staged.copy_from_slice(elements);
        // SAFETY: the caller allocated as many elements at `to`. The staged ones stay as they are
        // until the copy is done, as `staged` and `drop` wait for the event that is recorded next.
        unsafe { memcpy_htod_async(to, staged, stream.cu_stream())? };
        self.copied = Some(stream.record_event(None)?);
        Ok(())
    }

    /// Enqueues a copy of `length` elements from the device, for [`Staging::arrived`].
    ///
    /// # Errors
    /// If memory cannot be page-locked, or the driver refuses.
    #[allow(unsafe_code, reason = "the device copies by address")]
    pub(super) fn download(&mut self, from: Address, length: usize) -> Result<(), CudaError> {
        let stream = Arc::clone(&self.stream);
        let staged = self.staged(length)?;
        // SAFETY: the caller has `length` elements at `from`. The staged memory is not accessed
        // until the copy is done, as `staged`, `arrived` and `drop` wait for the event that is
        // recorded next.
        unsafe { memcpy_dtoh_async(staged, from, stream.cu_stream())? };
        self.copied = Some(stream.record_event(None)?);
        Ok(())
    }

    /// The elements of the last copy, once it is done.
    fn arrived(&mut self) -> Result<&[T], CudaError> {
        wait(&mut self.copied)?;
        let held = self.memory.as_ref().map_or(Ok(&[][..]), PinnedHostSlice::as_slice)?;
        Ok(&held[..self.length])
    }
}

impl Download for Staging<f32> {
    fn wait(&mut self) -> Result<&[f32], GpuError> {
        Ok(self.arrived()?)
    }
}

impl<T> Drop for Staging<T> {
    fn drop(&mut self) {
        // The memory must outlive the copies. A device that failed has stopped copying, so its
        // error does not matter here.
        let _ = wait(&mut self.copied);
    }
}

/// Waits for a copy, and with it for all work enqueued before.
fn wait(copied: &mut Option<CudaEvent>) -> Result<(), CudaError> {
    copied.take().map_or(Ok(()), |event| Ok(event.synchronize()?))
}
