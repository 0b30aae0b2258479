//! UMAP's graph with memberships that are continuous in the distances.
//!
//! A small change of a distance changes the graph by little, also where neighbours are equally far:
//! rounding that differs between machines cannot change a map.

use crate::graph::{FuzzyGraph, union};
use crate::math::{exp, log2};
use crate::umap::Neighbours;

/// Steps of the search for a point's scale: as many halvings as a 64-bit number has bits of
/// fraction, and some doublings before them. Nothing ends it early: where it ended would depend on
/// the last bits of the distances.
const SEARCH_STEPS: usize = 60;
/// A scale is at least this share of the mean distance, so that ties cannot collapse it
/// (`MIN_K_DIST_SCALE` of umap-learn).
const MIN_SCALE: f64 = 1e-3;
/// Neighbours nearer than this are copies: of two equal vectors, rounding makes ones this far
/// apart, and the nearest neighbour that counts must not change with it. Not tuned: some ten times
/// the rounding of a 32-bit number.
const COPY: f64 = 1e-6;

/// UMAP's fuzzy graph with memberships that are continuous in the distances. The last neighbour
/// of each row is not part of its neighbourhood; memberships are measured from its own, so that
/// they fall to 0 there: (e^(-(d - rho) / sigma) - e^(-(d_k - rho) / sigma)) over 1 less the
/// latter. The joining of both directions is that of [`crate::umap::fuzzy_graph`].
pub(super) fn continuous(neighbours: &Neighbours) -> FuzzyGraph {
    let k = neighbours.k;
    let mut directed = Vec::with_capacity(neighbours.indices.len());
    let rows = neighbours.distances.chunks_exact(k).zip(neighbours.indices.chunks_exact(k));
    for (row, (distances, others)) in rows.enumerate() {
        let strengths = memberships(distances);
        for (&other, strength) in others[1..k - 1].iter().zip(strengths) {
            if strength > 0.0 {
                directed.push((row as u32, other, strength as f32));
            }
        }
    }
    let (offsets, columns, weights) = union(neighbours.rows(), &directed);
    FuzzyGraph { offsets, columns, weights, ..FuzzyGraph::empty() }
}

/// Memberships of all neighbours but the point itself and the last one.
fn memberships(distances: &[f64]) -> Vec<f64> {
    let (inside, last) = (&distances[1..distances.len() - 1], distances[distances.len() - 1]);
    let nearest = distances.iter().copied().find(|d| *d > COPY).unwrap_or(0.0);
    let scale = scale_of(distances, nearest);
    let zero = decay(last, nearest, scale);
    // All as near as the last one: there is no boundary to measure from.
    if zero >= 1.0 - 1e-12 {
        return vec![1.0; inside.len()];
    }
    inside.iter().map(|d| ((decay(*d, nearest, scale) - zero) / (1.0 - zero)).max(0.0)).collect()
}

/// UMAP's membership of a neighbour, before any is taken off.
fn decay(distance: f64, nearest: f64, scale: f64) -> f64 {
    exp(-(distance - nearest).max(0.0) / scale)
}

/// The scale at which the memberships of the neighbourhood, before any is taken off, sum to
/// log2 of its size (section 3.1 of the UMAP paper).
fn scale_of(distances: &[f64], nearest: f64) -> f64 {
    let size = distances.len() - 1;
    let target = log2(size as f64);
    let mean = distances.iter().sum::<f64>() / distances.len() as f64;
    let (mut low, mut high, mut scale) = (0.0, f64::INFINITY, 1.0);
    for _ in 0..SEARCH_STEPS {
        let sum: f64 = distances[1..size].iter().map(|d| decay(*d, nearest, scale)).sum();
        if sum > target {
            high = scale;
        } else {
            low = scale;
        }
        scale = if high.is_finite() { (low + high) / 2.0 } else { scale * 2.0 };
    }
    // Where all neighbours are copies the mean is 0, and a scale of 0 would divide 0 by 0.
    scale.max(MIN_SCALE * mean).max(f64::MIN_POSITIVE)
}
