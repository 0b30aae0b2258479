//! HDBSCAN: clusters of any density and shape, and noise.
//!
//! Campello, Moulavi & Sander, *Density-Based Clustering Based on Hierarchical Density
//! Estimates*, PAKDD 2013. The whole data set is never one cluster. Distances are Euclidean.

mod condense;
mod dense;
mod published;
mod spanning;
mod tree;

use crate::dispatch::with_dims;
use crate::{ClusteringError, Label, Matrix};

/// Which implementation runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Engine {
    /// The published `hdbscan` crate: time quadratic in the points, no probabilities, clusters by
    /// excess of mass only. Edges of equal length are merged in the order it finds them, so a few
    /// points may change sides when the rows are given in another order; five or more
    /// identical points may come out as noise.
    Crate,
    /// Ours, with probabilities: about n log n up to 8 columns, quadratic beyond. Edges of equal
    /// length are merged at once, which makes the tree unique: the grouping does not depend on
    /// the order of the rows.
    #[default]
    Own,
}

/// Which clusters of the hierarchy are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Selection {
    /// Those more stable than all that they split into (excess of mass, section 3.5 of the paper).
    #[default]
    ExcessOfMass,
    /// Those that split no further: more, smaller and more even ones, and more noise.
    Leaf,
}

/// Settings of [`hdbscan()`]; the defaults are those of the specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HdbscanParams {
    /// Fewest points of a cluster; at least 2.
    pub min_cluster_size: usize,
    /// The distance to this neighbour is a point's core distance; at least 1, capped at the
    /// number of points. Larger turns more points into noise.
    pub min_samples: usize,
    /// True if `min_samples` counts the point itself, as scikit-learn does (the default), false if
    /// it does not, as in the `hdbscan` package of PyPI and cuML.
    pub min_samples_counts_itself: bool,
    /// Which clusters of the hierarchy are taken.
    pub selection: Selection,
    /// Which implementation runs.
    pub engine: Engine,
}

impl Default for HdbscanParams {
    fn default() -> Self {
        Self {
            min_cluster_size: 5,
            min_samples: 3,
            min_samples_counts_itself: true,
            selection: Selection::ExcessOfMass,
            engine: Engine::Own,
        }
    }
}

impl HdbscanParams {
    /// The rank of the core neighbour among `rows` points, the point itself being the first.
    fn core_rank(&self, rows: usize) -> usize {
        self.min_samples.saturating_add(usize::from(!self.min_samples_counts_itself)).min(rows)
    }

    fn check(&self) -> Result<(), ClusteringError> {
        if self.min_cluster_size < 2 {
            return Err(ClusteringError::parameter("min_cluster_size", self.min_cluster_size, "2 or more"));
        }
        if self.min_samples < 1 {
            return Err(ClusteringError::parameter("min_samples", self.min_samples, "1 or more"));
        }
        if self.engine == Engine::Crate && self.selection == Selection::Leaf {
            return Err(ClusteringError::parameter("selection", "leaf", "excess of mass for the crate"));
        }
        Ok(())
    }
}

/// The result of [`hdbscan()`].
#[derive(Debug, Clone, PartialEq)]
pub struct Clustering {
    /// The cluster of each row. Clusters are numbered from 0 by falling size, equal sizes by
    /// their first row.
    pub labels: Vec<Label>,
    /// Number of clusters.
    pub clusters: usize,
    /// Strength of each row's membership in its cluster, in [0, 1], 0 for noise: the density at
    /// which it leaves over the cluster's highest. `None` from [`Engine::Crate`].
    pub probabilities: Option<Vec<f64>>,
}

/// Groups the points. Fewer points than `min_cluster_size` are all noise.
///
/// # Errors
/// [`ClusteringError::NotFinite`] names the first bad value, [`ClusteringError::Parameter`]
/// the setting out of range, [`ClusteringError::Engine`] repeats what the crate refused.
pub fn hdbscan(points: Matrix<'_>, params: &HdbscanParams) -> Result<Clustering, ClusteringError> {
    params.check()?;
    // Checked before an engine starts: with a NaN the order of distances would contradict
    // itself.
    points.check_finite()?;
    let rows = points.rows();
    let (labels, probabilities) = if rows < params.min_cluster_size {
        (vec![None; rows], (params.engine == Engine::Own).then(|| vec![0.0; rows]))
    } else {
        match params.engine {
            Engine::Crate => (published::cluster(points, params)?, None),
            Engine::Own => {
                let (labels, probabilities) = own(points, params)?;
                (labels, Some(probabilities))
            }
        }
    };
    // Both engines number in their own way, which the caller must not be able to tell.
    let (labels, clusters) = canonical(&labels);
    Ok(Clustering { labels, clusters, probabilities })
}

fn own(points: Matrix<'_>, params: &HdbscanParams) -> Result<(Vec<Label>, Vec<f64>), ClusteringError> {
    let rank = params.core_rank(points.rows());
    let edges = with_dims!(
        points.dims(),
        minimum_spanning_tree(points, rank),
        dense::minimum_spanning_tree(points, rank)?
    );
    Ok(condense::cluster(points.rows(), edges, params.min_cluster_size, params.selection))
}

fn minimum_spanning_tree<const D: usize>(points: Matrix<'_>, core_rank: usize) -> Vec<spanning::Edge> {
    let points: Vec<[f64; D]> =
        points.iter_rows().map(|row| std::array::from_fn(|d| f64::from(row[d]))).collect();
    let tree = tree::Tree::build(&points);
    spanning::minimum_spanning_tree(&tree, core_rank)
}

/// Renumbers clusters by falling size, then by first row; returns the number of clusters.
fn canonical(labels: &[Label]) -> (Vec<Label>, usize) {
    let slots = labels.iter().flatten().max().map_or(0, |m| *m as usize + 1);
    let mut clusters: Vec<(usize, usize, usize)> = (0..slots).map(|label| (0, usize::MAX, label)).collect();
    for (row, label) in labels.iter().enumerate().filter_map(|(row, l)| l.map(|l| (row, l as usize))) {
        clusters[label].0 += 1;
        clusters[label].1 = clusters[label].1.min(row);
    }
    clusters.retain(|c| c.0 > 0);
    clusters.sort_unstable_by_key(|&(size, first, _)| (std::cmp::Reverse(size), first));
    let mut number = vec![None; slots];
    for (new, &(_, _, old)) in clusters.iter().enumerate() {
        number[old] = Some(new as u32);
    }
    (labels.iter().map(|label| label.and_then(|l| number[l as usize])).collect(), clusters.len())
}

#[cfg(test)]
mod tests;
