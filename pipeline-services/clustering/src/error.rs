//! The one error of this crate.
//!
//! Every message says which row, setting or argument was refused and why, so that a caller can pass
//! it on as it is.

use thiserror::Error;

/// A fault of the numbers or settings handed to this crate.
///
/// All of these are faults of the input: trying again gives the same answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ClusteringError {
    /// The flat slice is not a whole number of rows, or a row has no columns.
    #[error("{values} values do not fill rows of {dims} columns (allowed: a multiple of dims, dims >= 1)")]
    Shape {
        /// Length of the slice.
        values: usize,
        /// Columns per row.
        dims: usize,
    },
    /// A value is NaN or infinite.
    #[error("row {row}, column {column} is not a finite number")]
    NotFinite {
        /// Row index, from 0.
        row: usize,
        /// Column index, from 0.
        column: usize,
    },
    /// A vector has length zero, so its cosine with anything is undefined.
    #[error("row {row} is a zero vector, which has no direction for the cosine metric")]
    ZeroVector {
        /// Row index, from 0.
        row: usize,
    },
    /// A setting is out of its range.
    #[error("{name} is {value} (allowed: {allowed})")]
    Parameter {
        /// The field's name.
        name: &'static str,
        /// The refused value.
        value: String,
        /// Values that would be accepted.
        allowed: &'static str,
    },
    /// Two arguments that describe the same rows differ in length.
    #[error("{name} has {actual} entries for {expected} rows")]
    Length {
        /// The argument that does not fit.
        name: &'static str,
        /// Rows of the matrix.
        expected: usize,
        /// Entries given.
        actual: usize,
    },
    /// More rows than 32-bit row numbers can name.
    #[error("{rows} rows are more than the {limit} that can be handled")]
    TooManyRows {
        /// Rows given.
        rows: usize,
        /// Rows allowed.
        limit: usize,
    },
    /// The `hdbscan` crate refused data that passed our own checks.
    #[error("the hdbscan crate refused the data: {0}")]
    Engine(String),
}

impl ClusteringError {
    /// A parameter outside of what is allowed.
    pub(crate) fn parameter(name: &'static str, value: impl ToString, allowed: &'static str) -> Self {
        Self::Parameter { name, value: value.to_string(), allowed }
    }
}
