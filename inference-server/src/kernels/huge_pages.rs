//! Memory for packed weights, on huge pages if the system has them.
//!
//! A forward pass reads every weight once. On pages of 4 KiB that costs a TLB miss for each 64
//! cache lines: the second-level TLB holds some 1,500 to 2,000 entries, so at most 8 MiB of a
//! model. On pages of 2 MiB the same entries cover 3 to 4 GiB. Transparent huge pages are only
//! asked for, so that nothing depends on the system's settings.

use std::alloc::{Layout, alloc, alloc_zeroed, dealloc};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use super::matrix::CacheLine;

/// Bytes of a huge page on x86-64, and on AArch64 with base pages of 4 KiB.
const HUGE_PAGE: usize = 2 << 20;

/// A fixed number of cache lines, zero at first.
pub(super) struct WeightBuffer {
    start: NonNull<CacheLine>,
    count: usize,
}

impl WeightBuffer {
    /// Zeroed lines that hold at least `bytes`.
    ///
    /// # Panics
    /// If the system is out of memory.
    #[allow(unsafe_code, reason = "memory is allocated and freed by hand")]
    pub(super) fn zeros(bytes: usize) -> Self {
        let count = bytes.div_ceil(size_of::<CacheLine>());
        if count == 0 {
            return Self { start: NonNull::dangling(), count };
        }
        let layout = Self::layout(count);
        let start = if layout.size() < HUGE_PAGE {
            // SAFETY: the layout is not empty, as `count` is above zero.
            unsafe { alloc_zeroed(layout) }
        } else {
            // Not `alloc_zeroed`, which may touch the pages before `madvise` has been called.
            // SAFETY: the layout is not empty, and all its bytes are written, if there are any,
            // before `start` leaves this block.
            unsafe {
                let start = alloc(layout);
                if !start.is_null() {
                    advise_huge_pages(start, layout.size());
                    start.write_bytes(0, layout.size());
                }
                start
            }
        };
        // A panic costs the load of one model; `handle_alloc_error` would abort the process.
        let Some(start) = NonNull::new(start.cast()) else {
            panic!("out of memory: cannot allocate {bytes} bytes of weights")
        };
        Self { start, count }
    }

    fn layout(count: usize) -> Layout {
        let bytes = count.checked_mul(size_of::<CacheLine>()).expect("a size below isize::MAX");
        let align = if bytes < HUGE_PAGE { align_of::<CacheLine>() } else { HUGE_PAGE };
        Layout::from_size_align(bytes, align).expect("a size below isize::MAX")
    }
}

/// Asks for huge pages, which the system may ignore; only pages that have not been touched yet
/// become huge at once.
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "a call of the C library")]
fn advise_huge_pages(start: *mut u8, bytes: usize) {
    // SAFETY: the range was just allocated, and MADV_HUGEPAGE changes neither contents nor mapping.
    // Its result does not matter: without huge pages weights are read more slowly.
    unsafe {
        libc::madvise(start.cast(), bytes, libc::MADV_HUGEPAGE);
    }
}

#[cfg(not(target_os = "linux"))]
fn advise_huge_pages(_: *mut u8, _: usize) {}

impl Drop for WeightBuffer {
    #[allow(unsafe_code, reason = "memory is allocated and freed by hand")]
    fn drop(&mut self) {
        if self.count > 0 {
            // SAFETY: `zeros` allocated the memory with this very layout, which depends on `count`
            // alone, and nothing borrows from `self` any longer.
            unsafe { dealloc(self.start.as_ptr().cast(), Self::layout(self.count)) }
        }
    }
}

impl Deref for WeightBuffer {
    type Target = [CacheLine];

    #[allow(unsafe_code, reason = "memory is allocated and freed by hand")]
    fn deref(&self) -> &[CacheLine] {
        // SAFETY: `zeros` allocated and initialised `count` lines; without any the pointer is
        // dangling but aligned, as an empty slice needs it.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.count) }
    }
}

impl DerefMut for WeightBuffer {
    #[allow(unsafe_code, reason = "memory is allocated and freed by hand")]
    fn deref_mut(&mut self) -> &mut [CacheLine] {
        // SAFETY: as in `deref`; `self` is borrowed exclusively for as long as the result.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.count) }
    }
}

impl fmt::Debug for WeightBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} lines", self.count)
    }
}

#[allow(unsafe_code, reason = "memory is allocated and freed by hand")]
// SAFETY: the value owns its memory alone, as a `Vec` does, and floats may change threads.
unsafe impl Send for WeightBuffer {}
#[allow(unsafe_code, reason = "memory is allocated and freed by hand")]
// SAFETY: a shared reference gives read access only.
unsafe impl Sync for WeightBuffer {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_zero_aligned_and_independent() {
        for bytes in [0, 1, 64, 65, HUGE_PAGE - 64, HUGE_PAGE, 3 * HUGE_PAGE + 100] {
            let mut lines = WeightBuffer::zeros(bytes);
            assert!(lines.len() * 64 >= bytes && lines.as_ptr().is_aligned());
            assert!(bytes < HUGE_PAGE || lines.as_ptr().cast::<u8>().align_offset(HUGE_PAGE) == 0);
            let other = WeightBuffer::zeros(bytes);
            assert!(CacheLine::floats(&lines).iter().all(|x| *x == 0.0));
            CacheLine::floats_mut(&mut lines).fill(1.0);
            assert!(CacheLine::floats(&other).iter().all(|x| *x == 0.0), "{other:?}");
        }
    }
}
