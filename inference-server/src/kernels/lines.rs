//! Memory for weights, on large pages where the system has them: a forward pass reads all of it,
//! and a processor finds some thousand pages without asking for their addresses again.

use std::alloc::{Layout, alloc, alloc_zeroed, dealloc};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use super::matrix::Line;

/// A large page of x86-64 and, mostly, of AArch64.
const PAGE: usize = 2 << 20;

/// Cache lines, zero at first, whose number stays.
pub(super) struct Lines {
    start: NonNull<Line>,
    count: usize,
}

impl Lines {
    /// Room for at least so many bytes.
    ///
    /// # Panics
    /// Where the system has no room for them.
    #[allow(unsafe_code, reason = "memory is asked for and given back by hand")]
    pub(super) fn zeros(bytes: usize) -> Self {
        let count = bytes.div_ceil(size_of::<Line>());
        if count == 0 {
            return Self { start: NonNull::dangling(), count };
        }
        let layout = Self::layout(count);
        let start = if layout.size() < PAGE {
            // SAFETY: the layout is not empty.
            unsafe { alloc_zeroed(layout) }
        } else {
            // SAFETY: the layout is not empty, and the memory is written before anybody reads it.
            unsafe {
                let start = alloc(layout);
                if !start.is_null() {
                    ask_for_large_pages(start, layout.size());
                    start.write_bytes(0, layout.size());
                }
                start
            }
        };
        // A panic, since the thread that loads a model survives one; the process does not survive
        // what the standard library does.
        let Some(start) = NonNull::new(start.cast()) else { panic!("there is no memory for {bytes} bytes") };
        Self { start, count }
    }

    fn layout(count: usize) -> Layout {
        let bytes = count.checked_mul(size_of::<Line>()).expect("fewer bytes than there are addresses");
        let align = if bytes < PAGE { align_of::<Line>() } else { PAGE };
        Layout::from_size_align(bytes, align).expect("fewer bytes than there are addresses")
    }
}

/// The system may do so or not; it has to be asked before the memory is touched.
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "a call of the C library")]
fn ask_for_large_pages(start: *mut u8, bytes: usize) {
    // SAFETY: advice on memory that is ours changes nothing that it holds.
    unsafe {
        libc::madvise(start.cast(), bytes, libc::MADV_HUGEPAGE);
    }
}

#[cfg(not(target_os = "linux"))]
fn ask_for_large_pages(_: *mut u8, _: usize) {}

impl Drop for Lines {
    #[allow(unsafe_code, reason = "memory is asked for and given back by hand")]
    fn drop(&mut self) {
        if self.count > 0 {
            // SAFETY: `zeros` got the memory with this layout.
            unsafe { dealloc(self.start.as_ptr().cast(), Self::layout(self.count)) }
        }
    }
}

impl Deref for Lines {
    type Target = [Line];

    #[allow(unsafe_code, reason = "memory is asked for and given back by hand")]
    fn deref(&self) -> &[Line] {
        // SAFETY: so many lines were got and written by `zeros`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.count) }
    }
}

impl DerefMut for Lines {
    #[allow(unsafe_code, reason = "memory is asked for and given back by hand")]
    fn deref_mut(&mut self) -> &mut [Line] {
        // SAFETY: as in `deref`; the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.count) }
    }
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} lines", self.count)
    }
}

#[allow(unsafe_code, reason = "memory is asked for and given back by hand")]
// SAFETY: the memory belongs to the value alone.
unsafe impl Send for Lines {}
#[allow(unsafe_code, reason = "memory is asked for and given back by hand")]
// SAFETY: shared, it is only read.
unsafe impl Sync for Lines {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_zero_aligned_and_independent() {
        for bytes in [0, 1, 64, 65, PAGE - 64, PAGE, 3 * PAGE + 100] {
            let mut lines = Lines::zeros(bytes);
            assert!(lines.len() * 64 >= bytes && lines.as_ptr().is_aligned());
            assert!(bytes < PAGE || lines.as_ptr().cast::<u8>().align_offset(PAGE) == 0);
            let other = Lines::zeros(bytes);
            assert!(Line::floats(&lines).iter().all(|x| *x == 0.0));
            Line::floats_mut(&mut lines).fill(1.0);
            assert!(Line::floats(&other).iter().all(|x| *x == 0.0), "{other:?}");
        }
    }
}
