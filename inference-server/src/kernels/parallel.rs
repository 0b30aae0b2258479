//! Work on the threads of the current rayon pool: rows, chunks, and the tasks of a matrix product.
//!
//! What a task computes never depends on which thread runs it, nor on how many threads there are.
//! With one thread everything runs in place, without a visit to rayon's queues.

use std::ops::Range;

use rayon::prelude::*;

use super::matrix::Matrix;

/// Tasks per thread of a matrix product, so that work stealing evens out threads that are slower or
/// start later. Not tuned: with four, the last task to end is a quarter of a thread's work.
const TASKS_PER_THREAD: usize = 4;

fn threads() -> usize {
    rayon::current_num_threads()
}

/// Runs heavy tasks, any of which any thread may steal.
fn each(tasks: usize, work: impl Fn(usize) + Send + Sync) {
    if tasks == 1 || threads() == 1 {
        (0..tasks).for_each(work);
    } else {
        // Each task by itself: rayon would join neighbours, and a heavy one could not be stolen.
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

/// Runs over the rows of a matrix: `work` gets a row's index and its columns.
pub(crate) fn each_row(out: &mut Matrix, work: impl Fn(usize, &mut [f32]) + Send + Sync) {
    // Rows of one rayon item, as a row alone is too little work to be stolen; not tuned.
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

/// Runs over chunks of `length` items: `work` gets a chunk's index and the chunk.
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

/// Runs a matrix product as tasks: blocks of at most `rows_per_block` rows of activations, times
/// groups of panels of weights, so that there are some tasks for each thread.
///
/// `work` gets the rows and the panels of a task; no two tasks share an output.
pub(super) fn each_block(
    rows: usize,
    rows_per_block: usize,
    panels: usize,
    work: impl Fn(Range<usize>, Range<usize>) + Send + Sync,
) {
    let blocks = pieces(rows, rows_per_block);
    let groups = match threads() {
        // One thread takes a block with all panels, so that activations are read once.
        1 => 1,
        threads => (TASKS_PER_THREAD * threads).div_ceil(blocks.max(1)).min(panels),
    };
    each(blocks * groups, |task| {
        let (block, group) = (task / groups, task % groups);
        work(piece(rows, blocks, block), piece(panels, groups, group));
    });
}

/// Number of pieces that a length is cut into when none may be longer than `most`.
pub(super) fn pieces(length: usize, most: usize) -> usize {
    length.div_ceil(most)
}

/// The piece `index` of `pieces` whose lengths differ by one at most.
pub(super) fn piece(length: usize, pieces: usize, index: usize) -> Range<usize> {
    length * index / pieces..length * (index + 1) / pieces
}

/// A pointer into a buffer that several tasks write, each its own part.
#[derive(Clone, Copy)]
pub(super) struct SyncPtr<T>(*mut T);

#[allow(unsafe_code, reason = "rayon asks for Send and Sync")]
// SAFETY: sending the address is harmless. It is dereferenced only in unsafe blocks, each of which
// shows that its part of the buffer belongs to its task alone, so values of `T` are accessed from
// one thread at a time, which `T: Send` allows.
unsafe impl<T: Send> Send for SyncPtr<T> {}
#[allow(unsafe_code, reason = "rayon asks for Send and Sync")]
// SAFETY: as for `Send`; a shared reference gives nothing but a copy of the address.
unsafe impl<T: Send> Sync for SyncPtr<T> {}

impl<T: Copy> SyncPtr<T> {
    /// The start of a buffer, which must outlive every use of the pointer.
    pub(super) fn new(data: &mut [T]) -> Self {
        Self(data.as_mut_ptr())
    }

    /// The address of the first item.
    pub(super) fn pointer(self) -> *mut T {
        self.0
    }
}
