//! The fuzzy graph of neighbours (section 3 of the UMAP paper).
//!
//! From distances to symmetric memberships in compressed rows; a row's columns are ascending,
//! whatever the order of the neighbours.

use crate::math::{exp, log2};
use crate::umap::Neighbours;

/// Steps of the search for a point's scale; more would not change a 64-bit number.
const SEARCH_STEPS: usize = 64;
/// The search stops when the sum of memberships is this close to its target.
const SEARCH_TOLERANCE: f64 = 1e-5;
/// A scale is at least this share of the mean distance, so that ties cannot collapse it.
const MIN_SCALE: f64 = 1e-3;

/// The fuzzy simplicial set of a data set: a symmetric weighted graph in compressed rows.
#[derive(Debug, Clone, PartialEq)]
pub struct FuzzyGraph {
    /// Where each row's entries start; one more than there are rows.
    pub offsets: Vec<usize>,
    /// Column numbers, ascending within a row; never the row itself.
    pub columns: Vec<u32>,
    /// Membership strengths in (0, 1].
    pub weights: Vec<f32>,
    /// Distance to the nearest neighbour that is not a copy, per row (rho).
    pub nearest: Vec<f64>,
    /// Scale of the exponential decay, per row (sigma).
    pub scales: Vec<f64>,
}

impl FuzzyGraph {
    /// No points yet; rows are added by extending `columns` and `weights` and closing `offsets`.
    pub(crate) fn empty() -> Self {
        Self {
            offsets: vec![0],
            columns: Vec::new(),
            weights: Vec::new(),
            nearest: Vec::new(),
            scales: Vec::new(),
        }
    }

    /// Number of points.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Columns and weights of one row.
    pub fn row(&self, row: usize) -> impl ExactSizeIterator<Item = (u32, f32)> + Clone + '_ {
        let range = self.offsets[row]..self.offsets[row + 1];
        self.columns[range.clone()].iter().copied().zip(self.weights[range].iter().copied())
    }

    /// Drops the entries too weak to be sampled once in `epochs` rounds (below max / epochs).
    pub(crate) fn prune(&mut self, epochs: u32) {
        let strongest = self.weights.iter().copied().fold(0.0, f32::max);
        let epochs = if epochs > 10 { epochs } else { 200 };
        let least = strongest / epochs as f32;
        let mut kept = 0;
        let mut start = 0;
        for row in 0..self.rows() {
            let end = self.offsets[row + 1];
            for at in start..end {
                if self.weights[at] >= least {
                    self.columns[kept] = self.columns[at];
                    self.weights[kept] = self.weights[at];
                    kept += 1;
                }
            }
            self.offsets[row + 1] = kept;
            start = end;
        }
        self.columns.truncate(kept);
        self.weights.truncate(kept);
    }

    /// The component of every row, numbered by first appearance, and how many there are.
    pub(crate) fn components(&self) -> (Vec<u32>, usize) {
        let mut component = vec![u32::MAX; self.rows()];
        let mut count = 0;
        let mut open = Vec::new();
        for row in 0..self.rows() {
            if component[row] != u32::MAX {
                continue;
            }
            component[row] = count;
            open.push(row);
            while let Some(at) = open.pop() {
                for (column, _) in self.row(at) {
                    if component[column as usize] == u32::MAX {
                        component[column as usize] = count;
                        open.push(column as usize);
                    }
                }
            }
            count += 1;
        }
        (component, count as usize)
    }
}

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
    let memberships = |scale: f64| -> f64 {
        distances[1..].iter().map(|d| d - nearest).map(|d| if d > 0.0 { exp(-d / scale) } else { 1.0 }).sum()
    };
    let (mut low, mut high, mut scale) = (0.0, f64::INFINITY, 1.0);
    for _ in 0..SEARCH_STEPS {
        let sum = memberships(scale);
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

pub(crate) type CompressedRows = (Vec<usize>, Vec<u32>, Vec<f32>);

/// Joins the directed entries with their transposes: p + q - pq.
pub(crate) fn union(rows: usize, directed: &[(u32, u32, f32)]) -> CompressedRows {
    let mut both: Vec<(u32, u32, f32)> = Vec::with_capacity(directed.len() * 2);
    for &(row, column, weight) in directed {
        both.push((row, column, weight));
        both.push((column, row, weight));
    }
    both.sort_unstable_by_key(|&(row, column, _)| (row, column));
    let (mut columns, mut weights) = (Vec::new(), Vec::new());
    let mut offsets = vec![0; rows + 1];
    for same in both.chunk_by(|x, y| (x.0, x.1) == (y.0, y.1)) {
        // An entry and its transpose meet here at most once each; the sum is symmetric.
        let weight = match same {
            [only] => only.2,
            [one, other, ..] => (one.2 + other.2 - one.2 * other.2).min(1.0),
            [] => continue,
        };
        columns.push(same[0].1);
        weights.push(weight);
        offsets[same[0].0 as usize + 1] = columns.len();
    }
    for row in 1..=rows {
        offsets[row] = offsets[row].max(offsets[row - 1]);
    }
    (offsets, columns, weights)
}
