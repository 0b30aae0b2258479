//! Memory that is kept between forward passes and grows with the largest.

use std::sync::Arc;

use cudarc::driver::result::{memcpy_dtoh_async, memcpy_htod_async};
use cudarc::driver::{CudaEvent, CudaSlice, CudaStream, DevicePtr, PinnedHostSlice};

use super::{Address, CudaError};

/// Memory of the device.
#[derive(Debug, Default)]
pub struct Buffer(Option<CudaSlice<u8>>);

impl Buffer {
    /// Room for so many bytes; what was there is lost where it grows.
    ///
    /// # Errors
    /// If the device has no room.
    #[allow(
        unsafe_code,
        reason = "memory is left unset, and every reader comes after a writer on the same stream"
    )]
    pub fn room(&mut self, stream: &Arc<CudaStream>, bytes: usize) -> Result<Address, CudaError> {
        if self.0.as_ref().is_none_or(|held| held.len() < bytes) {
            self.0 = None;
            // SAFETY: the kernels write what they read later.
            self.0 = Some(unsafe { stream.alloc::<u8>(bytes.max(1))? });
        }
        Ok(self.0.as_ref().map_or(0, |held| held.device_ptr(stream).0))
    }
}

/// Page-locked memory of the host, from which and to which the device copies beside other work.
///
/// A copy goes on after the call that asked for it; [`Staging::wait`] returns once the last is
/// through.
#[derive(Debug)]
pub struct Staging {
    stream: Arc<CudaStream>,
    /// Words of 32 bits.
    memory: Option<PinnedHostSlice<u32>>,
    copied: Option<CudaEvent>,
}

impl Staging {
    /// Without memory yet.
    pub fn new(stream: &Arc<CudaStream>) -> Self {
        Self { stream: Arc::clone(stream), memory: None, copied: None }
    }

    /// Waits until the last copy is through, and all that was asked of the stream before it.
    ///
    /// # Errors
    /// If the device failed.
    pub fn wait(&mut self) -> Result<(), CudaError> {
        if let Some(copied) = self.copied.take() {
            copied.synchronize()?;
        }
        Ok(())
    }

    #[allow(unsafe_code, reason = "memory is left unset, and only what was written is read")]
    fn room(&mut self, words: usize) -> Result<&mut [u32], CudaError> {
        self.wait()?;
        if self.memory.as_ref().is_none_or(|held| held.len() < words) {
            self.memory = None;
            let context = self.stream.context();
            // SAFETY: any bits are a word.
            self.memory =
                Some(unsafe { context.alloc_pinned_with_flags(words.next_power_of_two().max(1_024), 0)? });
        }
        match &mut self.memory {
            Some(held) => Ok(&mut held.as_mut_slice()?[..words]),
            None => Ok(&mut []),
        }
    }

    /// Copies words to the device.
    ///
    /// # Errors
    /// If there is no room, or the driver refuses.
    #[allow(unsafe_code, reason = "the device copies by address")]
    pub fn upload(&mut self, words: &[u32], to: Address) -> Result<(), CudaError> {
        let stream = Arc::clone(&self.stream);
        let staged = self.room(words.len())?;
        staged.copy_from_slice(words);
        // SAFETY: the caller made room there; this memory is not touched before the copy is
        // through.
        unsafe { memcpy_htod_async(to, staged, stream.cu_stream())? };
        self.copied = Some(stream.record_event(None)?);
        Ok(())
    }

    /// Copies so many numbers from the device, for [`Staging::numbers`].
    ///
    /// # Errors
    /// If there is no room, or the driver refuses.
    #[allow(unsafe_code, reason = "the device copies by address")]
    pub fn download(&mut self, from: Address, count: usize) -> Result<(), CudaError> {
        let stream = Arc::clone(&self.stream);
        let staged = self.room(count)?;
        // SAFETY: the caller made so many there; this memory is not touched before the copy is
        // through.
        unsafe { memcpy_dtoh_async(staged, from, stream.cu_stream())? };
        self.copied = Some(stream.record_event(None)?);
        Ok(())
    }

    /// The first numbers of the last download, once they are there.
    ///
    /// # Errors
    /// If the device failed.
    #[allow(unsafe_code, reason = "numbers are held as words")]
    pub fn numbers(&mut self, count: usize) -> Result<&[f32], CudaError> {
        self.wait()?;
        let words = self.memory.as_ref().map_or(Ok(&[][..]), PinnedHostSlice::as_slice)?;
        let words = &words[..count];
        // SAFETY: words and numbers have the same size and alignment, and any bits are a number.
        Ok(unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), count) })
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Memory must outlast the copies; a device that failed does not copy any more.
        let _ = self.wait();
    }
}
