//! The fuzzy graph of neighbours (section 3 of the UMAP paper).
//!
//! From distances to symmetric memberships in compressed rows; a row's columns are ascending,
//! whatever the order of the neighbours.

use crate::graph::{FuzzyGraph, union};
use crate::math::{exp, log2};
use crate::umap::Neighbours;

/// Steps of the search for a point's scale, as in umap-learn's `smooth_knn_dist`; more would not
/// change a 64-bit number.
const SEARCH_STEPS: usize = 64;
/// The search stops when the sum of memberships is this close to its target (`SMOOTH_K_TOLERANCE`
/// of umap-learn).
const SEARCH_TOLERANCE: f64 = 1e-5;
/// A scale is at least this share of the mean distance, so that ties cannot collapse it
/// (`MIN_K_DIST_SCALE` of umap-learn).
const MIN_SCALE: f64 = 1e-3;

/// Builds the fuzzy simplicial set: each row's distances become memberships
/// exp(-(d - rho) / sigma) with sigma such that they sum to log2(k), and the two directions
/// are joined by the probabilistic sum p + q - pq (sections 3.1 and 3.2 of the paper;
/// `smooth_knn_dist` and `fuzzy_simplicial_set` of umap-learn).
#[must_use]
pub fn fuzzy_graph(neighbours: &Neighbours) -> FuzzyGraph {
    let k = neighbours.k.max(1);
    let overall_mean = average(&neighbours.distances);
    let (nearest, scales): (Vec<f64>, Vec<f64>) =
        neighbours.distances.chunks_exact(k).map(|distances| smooth(distances, overall_mean)).unzip();
    let mut directed = Vec::with_capacity(neighbours.indices.len());
    for row in 0..neighbours.rows() {
        for at in row * k + 1..(row + 1) * k {
            let beyond = neighbours.distances[at] - nearest[row];
            let strength =
                if beyond <= 0.0 || scales[row] == 0.0 { 1.0 } else { exp(-beyond / scales[row]) as f32 };
            if strength > 0.0 {
                directed.push((row as u32, neighbours.indices[at], strength));
            }
        }
    }
    let (offsets, columns, weights) = union(neighbours.rows(), &directed);
    FuzzyGraph { offsets, columns, weights, nearest, scales }
}

fn average(values: &[f64]) -> f64 {
    if values.is_empty() { 0.0 } else { values.iter().sum::<f64>() / values.len() as f64 }
}

/// (rho, sigma) of one row; `distances` are ascending, the first being the row itself.
fn smooth(distances: &[f64], overall_mean: f64) -> (f64, f64) {
    let nearest = distances.iter().copied().find(|d| *d > 0.0).unwrap_or(0.0);
    let target = log2(distances.len() as f64);
    let (mut low, mut high, mut scale) = (0.0, f64::INFINITY, 1.0);
    for _ in 0..SEARCH_STEPS {
        let beyond = distances[1..].iter().map(|d| d - nearest);
        let sum: f64 = beyond.map(|d| if d > 0.0 { exp(-d / scale) } else { 1.0 }).sum();
        if (sum - target).abs() < SEARCH_TOLERANCE {
            break;
        }
        if sum > target {
            high = scale;
        } else {
            low = scale;
        }
        scale = if high.is_finite() { (low + high) / 2.0 } else { scale * 2.0 };
    }
    let floor = MIN_SCALE * if nearest > 0.0 { average(distances) } else { overall_mean };
    (nearest, scale.max(floor))
}
