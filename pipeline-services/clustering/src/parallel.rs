//! Splitting independent rows over threads. Every worker owns the rows it writes, so the
//! result cannot depend on how many there are.

use crate::ClusteringError;

/// More threads than this is a mistake in a setting rather than a machine. Not tuned.
const MAX_THREADS: usize = 1024;

/// Turns the setting (0 = every core this process may use) into a number of workers.
pub(crate) fn workers(threads: usize) -> Result<usize, ClusteringError> {
    match threads {
        0 => Ok(std::thread::available_parallelism().map_or(1, usize::from)),
        1..=MAX_THREADS => Ok(threads),
        _ => Err(ClusteringError::parameter("threads", threads, "0 (all cores) to 1024")),
    }
}

/// Runs `work` on every item, each on its own thread except the last, which the caller runs.
pub(crate) fn for_each<T: Send>(items: Vec<T>, work: impl Fn(T) + Sync) {
    let mut items = items;
    let Some(last) = items.pop() else { return };
    if items.is_empty() {
        return work(last);
    }
    std::thread::scope(|scope| {
        for item in items {
            scope.spawn(|| work(item));
        }
        work(last);
    });
}

/// Cuts `values` (`width` per row) into one run of whole rows per worker, with the index of
/// the first row of each. Cuts fall on multiples of `step` rows.
pub(crate) fn split_rows<T>(
    values: &mut [T],
    width: usize,
    step: usize,
    workers: usize,
) -> Vec<(usize, &mut [T])> {
    let rows = values.len() / width.max(1);
    let per_worker = rows.div_ceil(workers.max(1)).next_multiple_of(step.max(1)).max(1);
    values
        .chunks_mut((per_worker * width).max(1))
        .enumerate()
        .map(|(i, part)| (i * per_worker, part))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_visited_once() {
        for rows in [0, 1, 2, 7, 16, 33] {
            for workers in [1, 2, 3, 8] {
                let mut values = vec![0_usize; rows * 3];
                for_each(split_rows(&mut values, 3, 4, workers), |(first, part)| {
                    assert_eq!(first % 4, 0);
                    for (i, v) in part.iter_mut().enumerate() {
                        *v += first * 3 + i + 1;
                    }
                });
                assert_eq!(values, (1..=rows * 3).collect::<Vec<_>>(), "{rows} rows, {workers} workers");
            }
        }
    }
}
