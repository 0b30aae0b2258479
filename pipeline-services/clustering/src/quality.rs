//! How good a grouping is.
//!
//! Noise is left out of every score here (a library that takes noise for one more cluster
//! gives very different figures). Each function returns `None` where the score is not
//! defined, which for the three scores of separation is fewer than two clusters, or as many
//! clusters as points. Sums run in 64 bits; the conventions are those of scikit-learn 1.9.

use crate::matrix::{cosine_distance, squared_distance};
use crate::umap::Metric;
use crate::{ClusteringError, Label, Matrix};

/// Mean silhouette coefficient over the points in clusters, in [-1, 1], higher is better:
/// (b - a) / max(a, b) with a the mean distance to the own cluster and b to the nearest other
/// (Rousseeuw 1987, J. Comput. Appl. Math. 20). Euclidean; a point alone in its cluster
/// counts 0. Time grows with the square of the number of points.
///
/// # Errors
/// [`ClusteringError::Length`] and [`ClusteringError::NotFinite`].
pub fn silhouette(points: Matrix<'_>, labels: &[Label]) -> Result<Option<f64>, ClusteringError> {
    let groups = Groups::new(points, labels)?;
    if !groups.can_be_compared() {
        return Ok(None);
    }
    let columns = Columns::new(&groups);
    let mut total = 0.0;
    for (own, members) in groups.clusters.iter().enumerate() {
        total += members.iter().map(|&row| columns.silhouette_of(points.row(row), own)).sum::<f64>();
    }
    Ok(Some(total / groups.points() as f64))
}

/// Davies-Bouldin index, at least 0, lower is better: the mean over clusters of the worst
/// ratio of two clusters' spreads to the distance of their centroids (Davies & Bouldin 1979,
/// IEEE PAMI 1). Euclidean.
///
/// # Errors
/// [`ClusteringError::Length`] and [`ClusteringError::NotFinite`].
pub fn davies_bouldin(points: Matrix<'_>, labels: &[Label]) -> Result<Option<f64>, ClusteringError> {
    let groups = Groups::new(points, labels)?;
    if !groups.can_be_compared() {
        return Ok(None);
    }
    let centroids = groups.centroids();
    let spreads: Vec<f64> = groups
        .clusters
        .iter()
        .zip(&centroids)
        .map(|(members, centre)| {
            members.iter().map(|&row| to_centre(points.row(row), centre).sqrt()).sum::<f64>()
                / members.len() as f64
        })
        .collect();
    let count = centroids.len();
    let mut total = 0.0;
    for i in 0..count {
        let mut worst = 0.0_f64;
        for j in (0..count).filter(|j| *j != i) {
            let apart = between(&centroids[i], &centroids[j]).sqrt();
            // Two clusters on one centroid say nothing of their ratio; scikit-learn drops the pair.
            if apart > 0.0 {
                worst = worst.max((spreads[i] + spreads[j]) / apart);
            }
        }
        total += worst;
    }
    Ok(Some(total / count as f64))
}

/// Calinski-Harabasz index, at least 0, higher is better: the dispersion between clusters over
/// that within, each per degree of freedom (Caliński & Harabasz 1974, Commun. Stat. 3).
/// 1 when there is no dispersion within. Euclidean.
///
/// # Errors
/// [`ClusteringError::Length`] and [`ClusteringError::NotFinite`].
pub fn calinski_harabasz(points: Matrix<'_>, labels: &[Label]) -> Result<Option<f64>, ClusteringError> {
    let groups = Groups::new(points, labels)?;
    if !groups.can_be_compared() {
        return Ok(None);
    }
    let centroids = groups.centroids();
    let overall = centroid(points, groups.clusters.iter().flatten().copied());
    let (mut within, mut between_clusters) = (0.0, 0.0);
    for (members, centre) in groups.clusters.iter().zip(&centroids) {
        within += members.iter().map(|&row| to_centre(points.row(row), centre)).sum::<f64>();
        between_clusters += members.len() as f64 * between(centre, &overall);
    }
    if within == 0.0 {
        return Ok(Some(1.0));
    }
    let (n, k) = (groups.points() as f64, centroids.len() as f64);
    Ok(Some(between_clusters * (n - k) / (within * (k - 1.0))))
}

/// The share of rows that are noise, in [0, 1]; `None` for no rows.
#[must_use]
pub fn noise_share(labels: &[Label]) -> Option<f64> {
    if labels.is_empty() {
        return None;
    }
    Some(labels.iter().filter(|label| label.is_none()).count() as f64 / labels.len() as f64)
}

/// Trustworthiness of a layout, in [0, 1]: how few points are among the `k` nearest in
/// `layout` without being so in `points`, weighted by how far off they are (Venna & Kaski
/// 2001). Euclidean in the layout. `None` unless 1 <= k < rows / 2.
/// Needs O(rows) memory and O(rows^2 log rows) time.
///
/// # Errors
/// [`ClusteringError::Length`] if the tables differ in rows, [`ClusteringError::NotFinite`].
pub fn trustworthiness(
    points: Matrix<'_>,
    layout: Matrix<'_>,
    k: usize,
    metric: Metric,
) -> Result<Option<f64>, ClusteringError> {
    points.check_finite()?;
    layout.check_finite()?;
    let rows = points.rows();
    if layout.rows() != rows {
        return Err(ClusteringError::Length { name: "layout", expected: rows, actual: layout.rows() });
    }
    if k == 0 || 2 * k >= rows {
        return Ok(None);
    }
    let mut penalty = 0.0;
    for row in 0..rows {
        let near = by_distance(row, rows, |other| squared_distance(layout.row(row), layout.row(other)));
        let order = by_distance(row, rows, |other| match metric {
            Metric::Cosine => cosine_distance(points.row(row), points.row(other)),
            Metric::Euclidean => squared_distance(points.row(row), points.row(other)),
        });
        let mut rank = vec![0_usize; rows];
        order.iter().enumerate().for_each(|(at, other)| rank[*other] = at + 1);
        penalty += near[..k].iter().map(|other| rank[*other].saturating_sub(k) as f64).sum::<f64>();
    }
    let (n, k) = (rows as f64, k as f64);
    Ok(Some(1.0 - penalty * 2.0 / (n * k * (2.0 * n - 3.0 * k - 1.0))))
}

/// All other rows, nearest first, equal distances by row number.
fn by_distance(row: usize, rows: usize, distance: impl Fn(usize) -> f64) -> Vec<usize> {
    let mut others: Vec<(f64, usize)> = (0..rows).filter(|o| *o != row).map(|o| (distance(o), o)).collect();
    others.sort_unstable_by(|x, y| x.0.total_cmp(&y.0).then(x.1.cmp(&y.1)));
    others.into_iter().map(|(_, other)| other).collect()
}

/// The rows of each cluster, noise left out, clusters by ascending label.
struct Groups<'a> {
    matrix: Matrix<'a>,
    clusters: Vec<Vec<usize>>,
}

impl<'a> Groups<'a> {
    fn new(matrix: Matrix<'a>, labels: &[Label]) -> Result<Self, ClusteringError> {
        matrix.check_finite()?;
        let clusters = grouped(matrix.rows(), labels)?.into_iter().map(|(_, rows)| rows).collect();
        Ok(Self { matrix, clusters })
    }

    fn points(&self) -> usize {
        self.clusters.iter().map(Vec::len).sum()
    }

    fn can_be_compared(&self) -> bool {
        self.clusters.len() >= 2 && self.clusters.len() < self.points()
    }

    fn centroids(&self) -> Vec<Vec<f64>> {
        self.clusters.iter().map(|rows| centroid(self.matrix, rows.iter().copied())).collect()
    }
}

/// Points one distance computation handles at once: the columns of two registers of AVX2.
const BLOCK: usize = 8;

/// The clusters' points by coordinate, each cluster padded to whole blocks, so that distances
/// to a whole cluster vectorise.
struct Columns {
    clusters: Vec<ClusterColumns>,
}

struct ClusterColumns {
    size: usize,
    /// Block by block, and within a block coordinate by coordinate.
    values: Vec<[f64; BLOCK]>,
}

impl Columns {
    fn new(groups: &Groups<'_>) -> Self {
        let clusters = groups
            .clusters
            .iter()
            .map(|rows| {
                let dims = groups.matrix.dims();
                let mut values = Vec::with_capacity(rows.len().div_ceil(BLOCK) * dims);
                for block in rows.chunks(BLOCK) {
                    for d in 0..dims {
                        values.push(std::array::from_fn(|lane| {
                            block.get(lane).map_or(0.0, |row| f64::from(groups.matrix.row(*row)[d]))
                        }));
                    }
                }
                ClusterColumns { size: rows.len(), values }
            })
            .collect();
        Self { clusters }
    }

    fn silhouette_of(&self, point: &[f32], own: usize) -> f64 {
        if self.clusters[own].size == 1 {
            return 0.0;
        }
        let inside = self.clusters[own].summed_distance(point) / (self.clusters[own].size - 1) as f64;
        let outside = self
            .clusters
            .iter()
            .enumerate()
            .filter(|(cluster, _)| *cluster != own)
            .map(|(_, cluster)| cluster.summed_distance(point) / cluster.size as f64)
            .fold(f64::INFINITY, f64::min);
        let larger = inside.max(outside);
        if larger > 0.0 { (outside - inside) / larger } else { 0.0 }
    }
}

impl ClusterColumns {
    /// The sum of the Euclidean distances from `point` to the cluster's points.
    fn summed_distance(&self, point: &[f32]) -> f64 {
        let mut sums = [0.0; BLOCK];
        let mut left = self.size;
        for block in self.values.chunks_exact(point.len()) {
            let mut squares = [0.0; BLOCK];
            for (column, at) in block.iter().zip(point) {
                let at = f64::from(*at);
                (0..BLOCK).for_each(|l| squares[l] += (column[l] - at) * (column[l] - at));
            }
            // The last block's padding lies at the origin and would count as points.
            if left < BLOCK {
                squares[left..].fill(0.0);
            }
            left = left.saturating_sub(BLOCK);
            (0..BLOCK).for_each(|l| sums[l] += squares[l].sqrt());
        }
        sums.iter().sum()
    }
}

/// (label, its rows ascending) for every label that occurs, by ascending label.
pub(crate) fn grouped(rows: usize, labels: &[Label]) -> Result<Vec<(u32, Vec<usize>)>, ClusteringError> {
    if labels.len() != rows {
        return Err(ClusteringError::Length { name: "labels", expected: rows, actual: labels.len() });
    }
    let mut groups = std::collections::BTreeMap::<u32, Vec<usize>>::new();
    for (row, label) in labels.iter().enumerate() {
        if let Some(label) = label {
            groups.entry(*label).or_default().push(row);
        }
    }
    Ok(groups.into_iter().collect())
}

fn centroid(points: Matrix<'_>, rows: impl Iterator<Item = usize>) -> Vec<f64> {
    let mut sum = vec![0.0; points.dims()];
    let mut count = 0.0;
    for row in rows {
        sum.iter_mut().zip(points.row(row)).for_each(|(s, v)| *s += f64::from(*v));
        count += 1.0;
    }
    sum.iter().map(|s| s / count).collect()
}

/// The squared distance of a row to a centroid.
pub(crate) fn to_centre(row: &[f32], centre: &[f64]) -> f64 {
    row.iter().zip(centre).map(|(v, c)| (f64::from(*v) - c).powi(2)).sum()
}

fn between(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| (x - y).powi(2)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    type Score = fn(Matrix<'_>, &[Label]) -> Result<Option<f64>, ClusteringError>;

    #[test]
    fn scores_are_undefined_without_two_clusters() {
        let values = [0.0, 1.0, 5.0, 6.0];
        let points = Matrix::new(&values, 1).unwrap();
        let check = |labels: [Label; 4], defined: bool| {
            for score in [silhouette as Score, davies_bouldin, calinski_harabasz] {
                assert_eq!(score(points, &labels).unwrap().is_some(), defined, "{labels:?}");
            }
        };
        check([None; 4], false);
        check([Some(0); 4], false);
        check([Some(0), Some(0), None, None], false);
        check([Some(0), Some(1), Some(2), Some(3)], false);
        check([Some(0), Some(1), None, None], false);
        check([Some(0), Some(0), Some(7), None], true);
        check([Some(0), Some(0), Some(7), Some(7)], true);
    }

    #[test]
    fn scores_by_hand() {
        // Clusters {0, 1} and {5, 6}; the noise point at 100 must not count.
        let values = [0.0, 1.0, 5.0, 6.0, 100.0];
        let points = Matrix::new(&values, 1).unwrap();
        let labels = [Some(3), Some(3), Some(1), Some(1), None];
        let close = |found: Option<f64>, expected: f64| assert!((found.unwrap() - expected).abs() < 1e-12);
        // Outer points: 1 - 1/5.5; inner points: 1 - 1/4.5.
        close(silhouette(points, &labels).unwrap(), 1.0 - (1.0 / 5.5 + 1.0 / 4.5) / 2.0);
        close(davies_bouldin(points, &labels).unwrap(), 0.2);
        close(calinski_harabasz(points, &labels).unwrap(), 25.0 * 2.0);
        close(noise_share(&labels), 0.2);
    }

    #[test]
    fn coinciding_clusters_have_scores() {
        let values = [1.0; 6];
        let points = Matrix::new(&values, 1).unwrap();
        let labels = [Some(0), Some(0), Some(0), Some(1), Some(1), Some(1)];
        assert_eq!(silhouette(points, &labels).unwrap(), Some(0.0));
        assert_eq!(davies_bouldin(points, &labels).unwrap(), Some(0.0));
        assert_eq!(calinski_harabasz(points, &labels).unwrap(), Some(1.0));
    }

    #[test]
    fn a_layout_equal_to_its_source_is_trusted() {
        let values: Vec<f32> = (0..40).map(|i| (i as f32 * 1.7).sin()).collect();
        let points = Matrix::new(&values, 2).unwrap();
        assert_eq!(trustworthiness(points, points, 4, Metric::Euclidean).unwrap(), Some(1.0));
        assert_eq!(trustworthiness(points, points, 10, Metric::Euclidean).unwrap(), None);
        assert_eq!(trustworthiness(points, points, 0, Metric::Euclidean).unwrap(), None);
    }

    #[test]
    fn wrong_lengths_are_named() {
        let points = Matrix::new(&[0.0, 1.0], 1).unwrap();
        let error = silhouette(points, &[None]).unwrap_err();
        assert_eq!(error, ClusteringError::Length { name: "labels", expected: 2, actual: 1 });
        assert_eq!(noise_share(&[]), None);
    }
}
