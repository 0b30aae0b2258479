//! Who is in a cluster and who stands for it, measured between the original vectors.
//!
//! Labels come from the reduced points, but closeness is judged where nothing was lost. Ties go to
//! the lower row number, so the result does not depend on threads.

use crate::matrix::{dot, squared_distance};
use crate::quality::{grouped, to_centre};
use crate::umap::Metric;
use crate::{ClusteringError, Label, Matrix};

/// One cluster as seen among its vectors.
#[derive(Debug, Clone, PartialEq)]
pub struct Cluster {
    /// Its number in the labels.
    pub label: u32,
    /// Its rows, nearest to the centroid first, equal distances by row number.
    pub members: Vec<usize>,
    /// The row with the smallest summed distance to all members; the first of equals.
    pub medoid: usize,
    /// Mean cosine of the members to the centroid of their directions, in [0, 1]: 1 when all
    /// point the same way, near 0 when they point everywhere. A member without direction (a
    /// zero vector, possible only under [`Metric::Euclidean`]) counts 0.
    pub cohesion: f64,
}

/// Describes every cluster that occurs in `labels`, by ascending label; noise is left out.
///
/// The centroid is the mean vector, under [`Metric::Cosine`] the mean of the vectors scaled to
/// unit length. Time is linear in the points under the cosine metric; under the Euclidean one
/// the medoid takes the square of the cluster's size.
///
/// # Errors
/// [`ClusteringError::Length`], [`ClusteringError::NotFinite`], and for the cosine metric
/// [`ClusteringError::ZeroVector`].
pub fn clusters(
    points: Matrix<'_>,
    labels: &[Label],
    metric: Metric,
) -> Result<Vec<Cluster>, ClusteringError> {
    points.check_finite()?;
    if metric == Metric::Cosine {
        points.check_directions()?;
    }
    let groups = grouped(points.rows(), labels)?;
    Ok(groups.into_iter().map(|(label, rows)| describe(points, label, rows, metric)).collect())
}

fn describe(points: Matrix<'_>, label: u32, rows: Vec<usize>, metric: Metric) -> Cluster {
    let directions = sum_of_rows(points, &rows, Metric::Cosine);
    // The mean cosine to the centroid is the length of the mean direction:
    // sum_i (u_i . S / |S|) / m = |S| / m with S the sum of the unit vectors u_i.
    let cohesion = directions.iter().map(|v| v * v).sum::<f64>().sqrt() / rows.len() as f64;
    let from_centre = distances_from_centre(points, &rows, metric);
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by(|&x, &y| from_centre[x].total_cmp(&from_centre[y]).then(rows[x].cmp(&rows[y])));
    let members: Vec<usize> = order.into_iter().map(|at| rows[at]).collect();
    let medoid = match metric {
        // The summed cosine distance of member u is m - u . S: the medoid is nearest to S.
        Metric::Cosine => members[0],
        Metric::Euclidean => euclidean_medoid(points, &rows),
    };
    Cluster { label, members, medoid, cohesion: cohesion.min(1.0) }
}

/// The sum of the rows, scaled to unit length first for the cosine metric.
fn sum_of_rows(points: Matrix<'_>, rows: &[usize], metric: Metric) -> Vec<f64> {
    let mut sum = vec![0.0; points.dims()];
    for &row in rows {
        let row = points.row(row);
        let scale = if metric == Metric::Cosine { inverse_length(row) } else { 1.0 };
        sum.iter_mut().zip(row).for_each(|(s, v)| *s += f64::from(*v) * scale);
    }
    sum
}

fn inverse_length(row: &[f32]) -> f64 {
    let length = dot(row, row).sqrt();
    if length > 0.0 { 1.0 / length } else { 0.0 }
}

/// The distance of each row to the centroid; under the cosine metric minus the projection on
/// the summed direction, which orders the rows in the same way.
fn distances_from_centre(points: Matrix<'_>, rows: &[usize], metric: Metric) -> Vec<f64> {
    let sum = sum_of_rows(points, rows, metric);
    let rows = rows.iter().map(|&row| points.row(row));
    match metric {
        Metric::Cosine => rows.map(|row| -projection(row, &sum) * inverse_length(row)).collect(),
        Metric::Euclidean => {
            let count = rows.len() as f64;
            let centre: Vec<f64> = sum.iter().map(|s| s / count).collect();
            rows.map(|row| to_centre(row, &centre)).collect()
        }
    }
}

fn projection(row: &[f32], direction: &[f64]) -> f64 {
    row.iter().zip(direction).map(|(v, s)| f64::from(*v) * s).sum()
}

fn euclidean_medoid(points: Matrix<'_>, rows: &[usize]) -> usize {
    rows.iter()
        .map(|&row| (summed_distance(points, rows, row), row))
        .min_by(|x, y| x.0.total_cmp(&y.0).then(x.1.cmp(&y.1)))
        .map_or(0, |m| m.1)
}

/// The sum of the distances from `row` to all of `rows`.
fn summed_distance(points: Matrix<'_>, rows: &[usize], row: usize) -> f64 {
    rows.iter().map(|&other| squared_distance(points.row(row), points.row(other)).sqrt()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::cosine_distance;

    fn spread(rows: usize, dims: usize) -> Vec<f32> {
        (0..rows * dims).map(|i| ((i * 7919 % 997) as f32 / 997.0) - 0.2).collect()
    }

    /// The medoid by its definition.
    fn slow_medoid(points: Matrix<'_>, rows: &[usize], metric: Metric) -> usize {
        let total = |row: usize| -> f64 {
            rows.iter()
                .map(|&other| match metric {
                    Metric::Cosine => cosine_distance(points.row(row), points.row(other)),
                    Metric::Euclidean => squared_distance(points.row(row), points.row(other)).sqrt(),
                })
                .sum()
        };
        *rows.iter().min_by(|x, y| total(**x).total_cmp(&total(**y))).unwrap()
    }

    #[test]
    fn medoids_minimise_the_summed_distance() {
        let values = spread(30, 5);
        let points = Matrix::new(&values, 5).unwrap();
        let labels: Vec<Label> = (0..30).map(|i| [Some(4), None, Some(9)][i % 3]).collect();
        for metric in [Metric::Cosine, Metric::Euclidean] {
            let found = clusters(points, &labels, metric).unwrap();
            assert_eq!(found.iter().map(|c| c.label).collect::<Vec<_>>(), [4, 9]);
            for cluster in found {
                assert_eq!(cluster.members.len(), 10);
                assert_eq!(cluster.medoid, slow_medoid(points, &cluster.members, metric), "{metric:?}");
            }
        }
    }

    #[test]
    fn members_are_ordered_from_the_centre() {
        let values = [0.0, 0.0, 4.0, 0.0, 2.0, 0.0, 2.0, 1.0];
        let points = Matrix::new(&values, 2).unwrap();
        let found = clusters(points, &[Some(0); 4], Metric::Euclidean).unwrap();
        assert_eq!(found[0].members, [2, 3, 0, 1]);
        assert_eq!(found[0].medoid, 2);
    }

    #[test]
    fn cohesion_is_the_mean_cosine_to_the_centroid() {
        let check = |values: &[f32], expected: f64| {
            let points = Matrix::new(values, 2).unwrap();
            let found = clusters(points, &vec![Some(0); points.rows()], Metric::Cosine).unwrap();
            assert!((found[0].cohesion - expected).abs() < 1e-12, "{values:?}: {}", found[0].cohesion);
        };
        check(&[1.0, 0.0, 5.0, 0.0], 1.0);
        check(&[1.0, 0.0, 0.0, 3.0], std::f64::consts::FRAC_1_SQRT_2);
        check(&[1.0, 0.0, -2.0, 0.0], 0.0);
    }

    #[test]
    fn faults_are_refused() {
        let points = Matrix::new(&[1.0, 0.0, 0.0, 0.0], 2).unwrap();
        let labels = [Some(0), Some(0)];
        assert_eq!(clusters(points, &labels, Metric::Cosine), Err(ClusteringError::ZeroVector { row: 1 }));
        assert!(clusters(points, &labels, Metric::Euclidean).is_ok());
        assert_eq!(clusters(points, &[None, None], Metric::Euclidean), Ok(Vec::new()));
    }
}
