//! Coordinates in which clusters are sought: the leading eigenvectors of the neighbour graph.
//!
//! UMAP's layout is a picture. Over its epochs it multiplies a difference in the last bit of
//! one value until points lie elsewhere, and clusters found in it change with the processor that
//! computed the vectors. The coordinates here come from the same kind of graph by linear
//! algebra alone, and every step is continuous in the vectors:
//!
//! * a membership falls to exactly 0 at the first neighbour that is left out, so that two
//!   neighbours of nearly one distance may change places;
//! * an eigenvector's share falls to exactly 0 at the first one that is left out, for the same
//!   reason; those of nearly one eigenvalue may turn among themselves, which moves no distance.
//!
//! Belkin & Niyogi, *Laplacian Eigenmaps for Dimensionality Reduction and Data Representation*
//! (2003); the rows are scaled to unit length as by Ng, Jordan & Weiss, *On Spectral Clustering*
//! (2001).

mod graph;

use crate::eigen::{self, Effort};
use crate::umap::{Metric, nearest_neighbours};
use crate::{ClusteringError, Matrix};

/// Width of the iterated block of eigenvectors. At least a quarter of it is left to make the others
/// converge. Not tuned.
const WIDTH: usize = 80;
/// The most coordinates: three quarters of `WIDTH`.
pub const MAX_COMPONENTS: usize = 60;
/// Width of the block for up to this many coordinates: the dense part of the work grows with the
/// width's third power. Not tuned; the same share as above is left.
const NARROW: (usize, usize) = (32, 24);
/// Points per coordinate at least. A cluster takes about one coordinate; more coordinates than
/// clusters tell single points apart. With 15 neighbours it is also fewer than the points of the
/// smallest part of a graph that has several, so that each part can have a coordinate.
const POINTS_PER_COMPONENT: usize = 12;
/// The values the iteration starts from do not show in its result, so they are no setting.
const SEED: u64 = 42;

/// Settings of [`eigenmap()`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EigenmapParams {
    /// Points in a neighbourhood, the point itself included; at least 2. Capped at the number
    /// of points less one.
    pub n_neighbors: usize,
    /// Eigenvectors used, 1 to [`MAX_COMPONENTS`]; fewer where there are not twelve points
    /// for each. More tell more and smaller groups apart.
    pub n_components: usize,
    /// Distance of the input vectors.
    pub metric: Metric,
    /// Threads; 0 is one per core. Does not change the result.
    pub threads: usize,
}

impl Default for EigenmapParams {
    fn default() -> Self {
        Self { n_neighbors: 15, n_components: 60, metric: Metric::Cosine, threads: 1 }
    }
}

/// The result of [`eigenmap()`].
#[derive(Debug, Clone, PartialEq)]
pub struct Eigenmap {
    /// Coordinates per point, at least 1.
    pub dims: usize,
    /// `rows * dims` coordinates, row-major; each row has unit length.
    pub coordinates: Vec<f32>,
}

impl EigenmapParams {
    fn check(&self) -> Result<(), ClusteringError> {
        if self.n_neighbors < 2 {
            return Err(ClusteringError::parameter("n_neighbors", self.n_neighbors, "2 or more"));
        }
        if !(1..=MAX_COMPONENTS).contains(&self.n_components) {
            return Err(ClusteringError::parameter("n_components", self.n_components, "1 to 60"));
        }
        Ok(())
    }
}

/// Gives every point its place among the eigenvectors of the neighbour graph. The first
/// coordinate belongs to the trivial vector: it holds the length of a row up where the others
/// are all near 0.
///
/// Same input and settings, same bytes, for any `threads` and with or without wide vector
/// instructions. Time grows with the square of the number of points times the columns.
///
/// # Errors
/// [`ClusteringError::NotFinite`] and, for the cosine metric, [`ClusteringError::ZeroVector`]
/// name the first bad row; [`ClusteringError::Parameter`] names the setting out of range.
pub fn eigenmap(points: Matrix<'_>, params: &EigenmapParams) -> Result<Eigenmap, ClusteringError> {
    params.check()?;
    let rows = points.rows();
    // One more than asked for: the membership of the first one left out is the zero of the scale.
    let k = params.n_neighbors.min(rows.saturating_sub(1)) + 1;
    let neighbours = nearest_neighbours(points, k, params.metric, params.threads)?;
    let components = params.n_components.min(rows / POINTS_PER_COMPONENT).max(1);
    let dims = components + 1;
    if rows < 3 {
        return Ok(Eigenmap { dims, coordinates: vec![0.0; rows * dims] });
    }
    let graph = graph::continuous(&neighbours);
    // The coordinates are stored in 32 bits, whose rounding is about as large as the tolerance.
    let effort = Effort { wanted: components, tolerance: 1e-7, rounds: 60 };
    let coordinates = if components <= NARROW.1 {
        places(&eigen::leading::<{ NARROW.0 }>(&graph, effort, SEED), components)
    } else {
        places(&eigen::leading::<WIDTH>(&graph, effort, SEED), components)
    };
    Ok(Eigenmap { dims, coordinates })
}

/// The rows of D^-1/2 V with each column weighed by the square root of how far its eigenvalue
/// lies above the first one left out, scaled to unit length.
fn places<const W: usize>(spectrum: &eigen::Spectrum<W>, components: usize) -> Vec<f32> {
    let used = components.min(spectrum.rank);
    let cut = if used < spectrum.rank { spectrum.values[used] } else { 0.0 };
    let weights: Vec<f64> =
        (0..components).map(|c| if c < used { above(spectrum.values[c], cut).sqrt() } else { 0.0 }).collect();
    let mut coordinates = Vec::with_capacity(spectrum.vectors.len() * (components + 1));
    for (row, trivial) in spectrum.vectors.iter().zip(&spectrum.trivial) {
        // D^-1/2 divides a row by the root of its degree, which scaling to unit length undoes.
        let values = row.iter().zip(&weights).map(|(v, w)| v * w);
        let length = values.clone().fold(trivial * trivial, |sum, v| sum + v * v).sqrt();
        let scale = if length > 0.0 { 1.0 / length } else { 0.0 };
        coordinates.push((trivial * scale) as f32);
        coordinates.extend(values.map(|v| (v * scale) as f32));
    }
    coordinates
}

/// The part of an eigenvalue above the first one left out, in [0, 1].
fn above(value: f64, cut: f64) -> f64 {
    // A graph of more parts than coordinates has a cut of 1, and its vectors are of equal worth.
    if cut < 1.0 - 1e-9 { ((value - cut) / (1.0 - cut)).clamp(0.0, 1.0) } else { 1.0 }
}

#[cfg(test)]
mod tests;
