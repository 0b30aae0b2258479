//! The result of reading files: advertisements ready to be sent, and what the user should know.
//!
//! Plain data, filled by `rows` and shown by `postings import`.

use observatory_proto::pipeline::v1::{ImportError, ImportPostingsRequest};
use serde_json::{Map, Value};

/// Summary of how a file was understood.
#[derive(Debug, Default)]
pub(crate) struct FileSummary {
    /// Name of the file.
    pub(crate) file: String,
    /// Description of its format.
    pub(crate) form: String,
    /// Number of advertisements.
    pub(crate) rows: u64,
    /// Our fields and the columns they come from.
    pub(crate) columns: Vec<(String, String)>,
    /// Unused columns.
    pub(crate) unused: Vec<String>,
    /// Conclusions from its content.
    pub(crate) notes: Vec<String>,
    /// True if there is anything unexpected to show.
    pub(crate) remarkable: bool,
}

/// Content of all files, ready to be sent.
#[derive(Debug, Default)]
pub(crate) struct Prepared {
    pub(crate) files: Vec<FileSummary>,
    pub(crate) ads: Vec<ImportPostingsRequest>,
    /// Rows that are not sent; equal problems are listed once.
    pub(crate) refused: Vec<ImportError>,
    pub(crate) refused_count: u64,
    /// Values that were changed before sending; equal changes are listed once.
    pub(crate) notes: Vec<ImportError>,
}

/// An advertisement under our field names.
#[derive(Debug)]
pub(super) struct Ad {
    pub(super) file: String,
    pub(super) line: u64,
    pub(super) object: Map<String, Value>,
}

impl Ad {
    pub(super) fn request(self, dry_run: bool) -> ImportPostingsRequest {
        let posting_json = Value::Object(self.object).to_string();
        ImportPostingsRequest { posting_json, line: self.line, file: self.file, dry_run }
    }
}
