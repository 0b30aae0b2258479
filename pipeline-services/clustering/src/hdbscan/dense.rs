//! The minimum spanning tree of the mutual reachability distances by Prim's algorithm: for
//! more columns than a tree of boxes can prune, where looking at every pair is the fastest way.

use crate::hdbscan::spanning::Edge;
use crate::matrix::squared_distance;
use crate::{ClusteringError, Matrix, parallel};

/// The `rows - 1` edges of a minimum spanning tree, in no particular order; see
/// [`super::spanning::minimum_spanning_tree`]. Needs at least one row.
/// O(rows^2 * columns) time, O(rows) memory.
pub(super) fn minimum_spanning_tree(
    points: Matrix<'_>,
    core_rank: usize,
) -> Result<Vec<Edge>, ClusteringError> {
    let cores = squared_core_distances(points, core_rank)?;
    let rows = points.rows();
    let mut edges = Vec::with_capacity(rows.saturating_sub(1));
    // The shortest way from each row that is left into the tree, and the row it leads to.
    let mut left: Vec<(u32, f64, u32)> = (1..rows as u32).map(|row| (row, f64::INFINITY, 0)).collect();
    let mut last = 0_u32;
    while !left.is_empty() {
        let (own, core) = (points.row(last as usize), cores[last as usize]);
        let mut nearest = 0;
        for at in 0..left.len() {
            let (row, shortest, _) = left[at];
            // A core distance alone may already be too long.
            let floor = core.max(cores[row as usize]);
            if floor < shortest {
                let squared = squared_distance(own, points.row(row as usize)).max(floor);
                if squared < shortest {
                    (left[at].1, left[at].2) = (squared, last);
                }
            }
            if left[at].1 < left[nearest].1 {
                nearest = at;
            }
        }
        let (row, squared, other) = left.swap_remove(nearest);
        edges.push(Edge { squared, one: row, other });
        last = row;
    }
    Ok(edges)
}

/// Squared distance of every row to its `rank`-th nearest, itself being the first.
fn squared_core_distances(points: Matrix<'_>, rank: usize) -> Result<Vec<f64>, ClusteringError> {
    // Prim's steps follow one another; only the core distances can be spread over threads.
    let workers = parallel::workers(0)?;
    let mut cores = vec![0.0; points.rows()];
    let parts = parallel::split_rows(&mut cores, 1, 1, workers);
    parallel::for_each(parts, |(first, part)| {
        let mut distances = Vec::with_capacity(points.rows());
        for (at, core) in part.iter_mut().enumerate() {
            let own = points.row(first + at);
            distances.clear();
            distances.extend(points.iter_rows().map(|other| squared_distance(own, other)));
            *core = *distances.select_nth_unstable_by(rank - 1, f64::total_cmp).1;
        }
    });
    Ok(cores)
}
