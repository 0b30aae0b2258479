//! Rows of a file under the names of its columns: the output of every reader, whatever the format.
//!
//! Cells are JSON values, so that numbers, lists and objects of typed formats keep their type.

use serde_json::Value;

use super::problems::Problems;

/// A row of a file.
#[derive(Debug, Clone, Default)]
pub(super) struct Row {
    /// Line of a text file, or number of a row.
    pub(super) place: u64,
    /// One cell per column; missing ones are empty.
    pub(super) cells: Vec<Value>,
}

/// The rows of a file with the names of its columns.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// Description of the format.
    pub(super) form: String,
    pub(super) columns: Vec<String>,
    pub(super) rows: Vec<Row>,
    /// Rows that could not be read.
    pub(super) problems: Problems,
    /// Conclusions about the whole file, for the user.
    pub(super) notes: Vec<String>,
}
