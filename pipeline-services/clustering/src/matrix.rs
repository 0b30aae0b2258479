//! Rows of numbers, and the products and distances between them.
//!
//! Points are borrowed and never copied. Sums run in 64 bits in a fixed order, so that the same
//! rows give the same distance on every machine.

use crate::ClusteringError;

/// Row numbers are kept in 32 bits, with the largest value reserved.
const MAX_ROWS: usize = u32::MAX as usize - 1;

/// A borrowed row-major table: `rows` points of `dims` columns each.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Matrix<'a> {
    values: &'a [f32],
    dims: usize,
}

impl<'a> Matrix<'a> {
    /// Views `values` as rows of `dims` columns. An empty slice is a table of no rows.
    ///
    /// # Errors
    /// [`ClusteringError::Shape`] if `dims` is 0 or does not divide the length;
    /// [`ClusteringError::TooManyRows`] beyond 2^32 - 2 rows.
    pub fn new(values: &'a [f32], dims: usize) -> Result<Self, ClusteringError> {
        if dims == 0 || !values.len().is_multiple_of(dims) {
            return Err(ClusteringError::Shape { values: values.len(), dims });
        }
        let rows = values.len() / dims;
        if rows > MAX_ROWS {
            return Err(ClusteringError::TooManyRows { rows, limit: MAX_ROWS });
        }
        Ok(Self { values, dims })
    }

    /// Number of points.
    #[must_use]
    pub fn rows(self) -> usize {
        self.values.len() / self.dims
    }

    /// Number of columns, at least 1.
    #[must_use]
    pub fn dims(self) -> usize {
        self.dims
    }

    /// Returns whether there are no points.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.values.is_empty()
    }

    /// The columns of point `row`.
    ///
    /// # Panics
    /// If `row` is not below [`Matrix::rows`].
    #[must_use]
    pub fn row(self, row: usize) -> &'a [f32] {
        &self.values[row * self.dims..(row + 1) * self.dims]
    }

    /// All points in order.
    pub(crate) fn iter_rows(self) -> impl ExactSizeIterator<Item = &'a [f32]> + Clone {
        self.values.chunks_exact(self.dims)
    }

    /// Refuses NaN and infinities, naming the first one.
    pub(crate) fn check_finite(self) -> Result<(), ClusteringError> {
        match self.values.iter().position(|v| !v.is_finite()) {
            Some(at) => Err(ClusteringError::NotFinite { row: at / self.dims, column: at % self.dims }),
            None => Ok(()),
        }
    }

    /// Refuses rows without a direction, which the cosine metric cannot place.
    pub(crate) fn check_directions(self) -> Result<(), ClusteringError> {
        match self.iter_rows().position(|row| row.iter().all(|v| *v == 0.0)) {
            Some(row) => Err(ClusteringError::ZeroVector { row }),
            None => Ok(()),
        }
    }
}

/// Dot product in 64 bits over eight lanes, so that it vectorises and its order of summation
/// does not depend on the machine.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f64 {
    fold_pairs(a, b, |x, y| x * y)
}

/// Squared Euclidean distance, summed like [`dot`].
pub(crate) fn squared_distance(a: &[f32], b: &[f32]) -> f64 {
    fold_pairs(a, b, |x, y| (x - y) * (x - y))
}

/// Cosine distance of two rows: exactly 0 for identical rows, never below 0.
pub(crate) fn cosine_distance(a: &[f32], b: &[f32]) -> f64 {
    let norms = (dot(a, a) * dot(b, b)).sqrt();
    if norms == 0.0 { 1.0 } else { (1.0 - dot(a, b) / norms).max(0.0) }
}

fn fold_pairs(a: &[f32], b: &[f32], term: impl Fn(f64, f64) -> f64) -> f64 {
    let mut lanes = [0.0_f64; 8];
    let (a_chunks, b_chunks) = (a.chunks_exact(8), b.chunks_exact(8));
    let (a_rest, b_rest) = (a_chunks.remainder(), b_chunks.remainder());
    for (x, y) in a_chunks.zip(b_chunks) {
        for l in 0..8 {
            lanes[l] += term(f64::from(x[l]), f64::from(y[l]));
        }
    }
    for (l, (x, y)) in a_rest.iter().zip(b_rest).enumerate() {
        lanes[l] += term(f64::from(*x), f64::from(*y));
    }
    lanes.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_checked() {
        let check = |len: usize, dims: usize, rows: Option<usize>| {
            let values = vec![0.0; len];
            assert_eq!(
                Matrix::new(&values, dims).ok().map(Matrix::rows),
                rows,
                "{len} values, {dims} columns"
            );
        };
        check(0, 3, Some(0));
        check(6, 3, Some(2));
        check(7, 3, None);
        check(0, 0, None);
        check(3, 0, None);
    }

    #[test]
    fn faults_name_their_place() {
        let values = [1.0, 2.0, 3.0, f32::NAN];
        let matrix = Matrix::new(&values, 2).unwrap();
        assert_eq!(matrix.check_finite(), Err(ClusteringError::NotFinite { row: 1, column: 1 }));
        let values = [1.0, 2.0, 0.0, -0.0];
        let matrix = Matrix::new(&values, 2).unwrap();
        assert_eq!(matrix.check_directions(), Err(ClusteringError::ZeroVector { row: 1 }));
    }

    #[test]
    fn identical_rows_have_distance_zero() {
        let row: Vec<f32> = (0..77).map(|i| (i as f32 * 0.37).sin() * 1e-3 + 1.7).collect();
        assert_eq!(cosine_distance(&row, &row), 0.0);
        assert_eq!(squared_distance(&row, &row), 0.0);
    }
}
