//! Vectors to clusters that can be read: the settings as given, or the first variation of them
//! under which no cluster swallows the rest.

use observatory_clustering::{
    ClusteringError, Label, Matrix, eigenmap,
    hdbscan::{self, Selection},
    umap::Metric,
};

use super::{Engine, Settings};

/// The largest share of all skills that one cluster may hold. Beyond it the clusters say next to
/// nothing: "everything" and a few leftovers is what a method gives that found no structure. The
/// figure is a choice; docs/RUNS.md says what follows from it.
pub(super) const MAX_SHARE: f64 = 0.4;

/// Parameters of the engine for a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Attempt {
    pub(super) n_neighbors: usize,
    pub(super) min_cluster_size: usize,
    pub(super) min_samples: usize,
    pub(super) selection: Selection,
}

/// A partition in which no cluster is too large.
#[derive(Debug)]
pub(super) struct Partition {
    /// Coordinates in which the clusters were found.
    pub(super) space: eigenmap::Eigenmap,
    pub(super) labels: Vec<Label>,
    /// The attempt that gave it.
    pub(super) attempt: Attempt,
    /// Largest shares of the partitions refused before it, in order.
    pub(super) refused: Vec<f64>,
}

/// Reason for which there is no partition.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Clustering(#[from] ClusteringError),
    #[error(
        "the clustering failed: {} partitions were tried, and in each one cluster holds more than {:.0} % of the \
         {skills} skills ({})", shares.len(), limit * 100.0, in_words(shares)
    )]
    OneClusterHoldsAll { limit: f64, skills: usize, shares: Vec<f64> },
}

fn in_words(shares: &[f64]) -> String {
    let shares: Vec<String> = shares.iter().map(|share| format!("{:.0} %", share * 100.0)).collect();
    format!("the largest holds {}", shares.join(", "))
}

/// The attempts in their order, none twice. What is tried first is nearest to what was asked for:
/// the same tree cut at its leaves, then leaves of denser points, then of smaller clusters, then a
/// graph of wider neighbourhoods; and pairs last, which a run of few skills may need, since two
/// clusters can never do. The published crate knows no leaves.
pub(super) fn attempts(settings: &Settings) -> Vec<Attempt> {
    let given = Attempt {
        n_neighbors: settings.n_neighbors,
        min_cluster_size: settings.min_cluster_size,
        min_samples: settings.min_samples,
        selection: Selection::ExcessOfMass,
    };
    let selection = match settings.engine {
        Engine::Own => Selection::Leaf,
        Engine::Crate => Selection::ExcessOfMass,
    };
    let leaves = Attempt { selection, ..given };
    // 0 stays 0, so that it is refused as the setting it is.
    let fine = Attempt { min_samples: 1.min(given.min_samples), ..leaves };
    // Never 1: HDBSCAN knows no cluster of one point.
    let small = Attempt { min_cluster_size: given.min_cluster_size.div_ceil(2).max(2), ..fine };
    let wide = Attempt { n_neighbors: given.n_neighbors.saturating_mul(2), ..leaves };
    let pairs = Attempt { min_cluster_size: 2, ..fine };
    let mut attempts = Vec::new();
    for attempt in [given, leaves, fine, small, wide, pairs] {
        // With small settings some variations are equal, and each costs a clustering that was
        // refused before.
        if !attempts.contains(&attempt) {
            attempts.push(attempt);
        }
    }
    attempts
}

/// The first attempt's partition in which no cluster holds a larger share than `limit`.
pub(super) fn find(vectors: Matrix<'_>, settings: &Settings, limit: f64) -> Result<Partition, Failure> {
    let mut refused = Vec::new();
    let mut space: Option<(usize, eigenmap::Eigenmap)> = None;
    for attempt in attempts(settings) {
        // Most attempts differ in the tree alone, so the eigenvectors are kept for the next one.
        let known = space.take().filter(|(neighbors, _)| *neighbors == attempt.n_neighbors);
        let map = match known {
            Some((_, map)) => map,
            None => eigenmap::eigenmap(vectors, &eigenmap_params(settings, attempt))?,
        };
        let coordinates = Matrix::new(&map.coordinates, map.dims)?;
        let labels = hdbscan::hdbscan(coordinates, &hdbscan_params(settings, attempt))?.labels;
        let share = largest_share(&labels);
        if share <= limit {
            return Ok(Partition { space: map, labels, attempt, refused });
        }
        refused.push(share);
        space = Some((attempt.n_neighbors, map));
    }
    Err(Failure::OneClusterHoldsAll { limit, skills: vectors.rows(), shares: refused })
}

fn eigenmap_params(settings: &Settings, attempt: Attempt) -> eigenmap::EigenmapParams {
    eigenmap::EigenmapParams {
        n_neighbors: attempt.n_neighbors,
        n_components: settings.n_components,
        metric: Metric::Cosine,
        threads: 0,
    }
}

fn hdbscan_params(settings: &Settings, attempt: Attempt) -> hdbscan::HdbscanParams {
    hdbscan::HdbscanParams {
        min_cluster_size: attempt.min_cluster_size,
        min_samples: attempt.min_samples,
        selection: attempt.selection,
        engine: match settings.engine {
            Engine::Crate => hdbscan::Engine::Crate,
            Engine::Own => hdbscan::Engine::Own,
        },
        ..hdbscan::HdbscanParams::default()
    }
}

/// The share of all rows, noise included, that the largest cluster holds; 0 without clusters.
pub(super) fn largest_share(labels: &[Label]) -> f64 {
    // Clusters are numbered by falling size.
    let largest = labels.iter().filter(|label| **label == Some(0)).count();
    if labels.is_empty() { 0.0 } else { largest as f64 / labels.len() as f64 }
}
