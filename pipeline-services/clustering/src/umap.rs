//! UMAP: a few coordinates per point such that neighbours stay neighbours.
//!
//! McInnes, Healy & Melville, *UMAP: Uniform Manifold Approximation and Projection for
//! Dimension Reduction*, arXiv:1802.03426 (2018). The graph (neighbours, smoothed distances,
//! fuzzy union, pruning), the curve and the schedule of the layout follow the reference
//! implementation, umap-learn 0.5. Two things differ on purpose:
//!
//! * neighbours are exact at every size (umap-learn approximates from 4096 points on);
//! * within one epoch every point moves against the positions of the epoch's start and draws
//!   its own random numbers, so the result is the same for any number of threads, which
//!   umap-learn gives up for speed or pins to one thread for a seed.

mod curve;
mod graph;
mod knn;
mod layout;
mod spectral;

pub use curve::{Curve, fit_curve};
pub use graph::fuzzy_graph;
pub use knn::{Neighbours, nearest_neighbours};

pub use crate::graph::FuzzyGraph;
use crate::matrix::{cosine_distance, squared_distance};
use crate::{ClusteringError, MAX_COORDINATES, Matrix, parallel};

/// Distance of two input vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Metric {
    /// One minus the cosine of the angle, in [0, 2]. For embeddings; their length is ignored.
    #[default]
    Cosine,
    /// Straight-line distance.
    Euclidean,
}

impl Metric {
    /// The distance of two rows.
    pub(crate) fn distance(self, a: &[f32], b: &[f32]) -> f64 {
        match self {
            Self::Cosine => cosine_distance(a, b),
            Self::Euclidean => squared_distance(a, b).sqrt(),
        }
    }
}

/// Settings of [`umap`]; the defaults are those of the specification and of umap-learn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UmapParams {
    /// Points in a neighbourhood, the point itself included; at least 2. Larger keeps more of
    /// the overall shape, smaller more detail. Capped at the number of points.
    pub n_neighbors: usize,
    /// Smallest distance between points in the result, in [0, `spread`].
    pub min_dist: f64,
    /// Scale of the result; above 0.
    pub spread: f64,
    /// Coordinates per point in the result, 1 to 8.
    pub n_components: usize,
    /// Distance of the input vectors.
    pub metric: Metric,
    /// Rounds of the layout; `None` is 500 up to 10,000 points and 200 beyond.
    pub n_epochs: Option<u32>,
    /// Step length at the start, falling to 0 over the epochs; above 0.
    pub learning_rate: f64,
    /// Random points each sampled neighbour is weighed against, 0 to 100.
    pub negative_sample_rate: u32,
    /// Seed of every random number used.
    pub seed: u64,
    /// Threads; 0 is one per core. Does not change the result.
    pub threads: usize,
}

impl Default for UmapParams {
    fn default() -> Self {
        Self {
            n_neighbors: 15,
            min_dist: 0.1,
            spread: 1.0,
            n_components: 2,
            metric: Metric::Cosine,
            n_epochs: None,
            learning_rate: 1.0,
            negative_sample_rate: 5,
            seed: 42,
            threads: 1,
        }
    }
}

impl UmapParams {
    fn check(&self) -> Result<(), ClusteringError> {
        if self.n_neighbors < 2 {
            return Err(ClusteringError::parameter("n_neighbors", self.n_neighbors, "2 or more"));
        }
        if !(1..=MAX_COORDINATES).contains(&self.n_components) {
            return Err(ClusteringError::parameter("n_components", self.n_components, "1 to 8"));
        }
        if !(self.learning_rate > 0.0 && self.learning_rate.is_finite()) {
            return Err(ClusteringError::parameter("learning_rate", self.learning_rate, "above 0"));
        }
        if self.negative_sample_rate > 100 {
            return Err(ClusteringError::parameter(
                "negative_sample_rate",
                self.negative_sample_rate,
                "0 to 100",
            ));
        }
        Ok(())
    }

    fn epochs(&self, rows: usize) -> u32 {
        // The figures of umap-learn.
        self.n_epochs.unwrap_or(if rows <= 10_000 { 500 } else { 200 })
    }
}

/// Lays the points out in `n_components` coordinates; returns `rows * n_components` values,
/// row-major, all finite.
///
/// Same input and settings, same bytes, for any `threads` and with or without wide vector
/// instructions. It is a picture, though: another last bit of one value gives another picture,
/// since errors grow over the epochs. [`crate::eigenmap`] is made for what must not change so.
/// No points give no values, one point lies at the origin, fewer points than `n_neighbors` are
/// all each other's neighbours.
/// Repeated vectors are allowed: their points attract each other and need not coincide.
/// Time grows with the square of the number of points times the columns.
///
/// # Errors
/// [`ClusteringError::NotFinite`] and, for the cosine metric, [`ClusteringError::ZeroVector`]
/// name the first bad row; [`ClusteringError::Parameter`] names the setting out of range.
pub fn umap(points: Matrix<'_>, params: &UmapParams) -> Result<Vec<f32>, ClusteringError> {
    params.check()?;
    let curve = fit_curve(params.spread, params.min_dist)?;
    let neighbours = nearest_neighbours(points, params.n_neighbors, params.metric, params.threads)?;
    let (rows, dims) = (points.rows(), params.n_components);
    if rows < 2 {
        return Ok(vec![0.0; rows * dims]);
    }
    let epochs = params.epochs(rows);
    let mut graph = fuzzy_graph(&neighbours);
    graph.prune(epochs);
    let start = spectral::initial_layout(points, &graph, params);
    let schedule = layout::Schedule {
        curve,
        epochs,
        learning_rate: params.learning_rate as f32,
        negative_rate: params.negative_sample_rate,
        seed: params.seed,
        workers: parallel::workers(params.threads)?,
    };
    Ok(layout::optimise(start, dims, &graph, &schedule))
}

#[cfg(test)]
mod tests;
