//! Work on the threads of the current rayon pool. What a task computes never depends on which
//! thread runs it.

use rayon::prelude::*;

use super::matrix::Matrix;

/// Threads that share the work.
pub(super) fn threads() -> usize {
    rayon::current_num_threads()
}

/// Runs heavy tasks, each of which any thread may take.
pub(super) fn each(tasks: usize, work: impl Fn(usize) + Send + Sync) {
    if tasks == 1 || threads() == 1 {
        (0..tasks).for_each(work);
    } else {
        (0..tasks).into_par_iter().with_max_len(1).for_each(work);
    }
}

/// Runs many light tasks, neighbours mostly on the same thread.
pub(super) fn each_light(tasks: usize, work: impl Fn(usize) + Send + Sync) {
    if threads() == 1 {
        (0..tasks).for_each(work);
    } else {
        (0..tasks).into_par_iter().for_each(work);
    }
}

/// Runs over the rows of a matrix.
pub(crate) fn each_row(out: &mut Matrix, work: impl Fn(usize, &mut [f32]) + Send + Sync) {
    const ROWS: usize = 16;
    let (width, stride) = (out.width(), out.stride());
    let chunk = |(index, rows): (usize, &mut [f32])| {
        for (offset, row) in rows.chunks_mut(stride).enumerate() {
            work(index * ROWS + offset, &mut row[..width]);
        }
    };
    if threads() == 1 {
        out.data_mut().chunks_mut(stride * ROWS).enumerate().for_each(chunk);
    } else {
        out.data_mut().par_chunks_mut(stride * ROWS).enumerate().for_each(chunk);
    }
}

/// Runs over pieces of `length` items.
pub(super) fn each_chunk<T: Send>(
    items: &mut [T],
    length: usize,
    work: impl Fn(usize, &mut [T]) + Send + Sync,
) {
    if threads() == 1 {
        items.chunks_mut(length).enumerate().for_each(|(index, chunk)| work(index, chunk));
    } else {
        items.par_chunks_mut(length).enumerate().for_each(|(index, chunk)| work(index, chunk));
    }
}

/// A pointer into a buffer that several tasks write, each its own part.
#[derive(Clone, Copy)]
pub(super) struct Shared<T>(*mut T);

#[allow(unsafe_code, reason = "rayon asks for Send and Sync")]
// SAFETY: the pointer is only followed in unsafe blocks, where the parts are shown to be disjoint.
unsafe impl<T: Send> Send for Shared<T> {}
#[allow(unsafe_code, reason = "rayon asks for Send and Sync")]
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T: Copy> Shared<T> {
    pub(super) fn new(data: &mut [T]) -> Self {
        Self(data.as_mut_ptr())
    }

    pub(super) fn pointer(self) -> *mut T {
        self.0
    }
}
