//! The `hdbscan` crate behind the same signature as this crate's own engine.
//!
//! Kept to compare with: its time is quadratic in the points, and it gives no probabilities. Its
//! types are seen nowhere else.

use crate::hdbscan::HdbscanParams;
use crate::{ClusteringError, Label, Matrix};
use hdbscan::{DistanceMetric, Hdbscan, HdbscanHyperParams};

/// Runs the `hdbscan` crate in 64 bits. At least `min_cluster_size` finite rows.
pub(super) fn cluster(points: Matrix<'_>, params: &HdbscanParams) -> Result<Vec<Label>, ClusteringError> {
    let data: Vec<Vec<f64>> =
        points.iter_rows().map(|row| row.iter().map(|v| f64::from(*v)).collect()).collect();
    let settings = HdbscanHyperParams::builder()
        .min_cluster_size(params.min_cluster_size)
        .min_samples(params.core_rank(data.len()))
        .dist_metric(DistanceMetric::Euclidean)
        .build();
    let labels = Hdbscan::new(&data, settings)
        .cluster()
        .map_err(|error| ClusteringError::Engine(error.to_string()))?;
    Ok(labels.into_iter().map(|label| u32::try_from(label).ok()).collect())
}
