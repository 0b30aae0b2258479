//! A CSV file, plain or gzip, whose errors name the line.

use std::{fs::File, io::Read, path::Path};

use csv::StringRecord;
use flate2::read::MultiGzDecoder;

use crate::taxonomy::TaxonomyError;

/// An open CSV file with a header.
pub struct Table {
    path: String,
    reader: csv::Reader<Box<dyn Read>>,
    header: StringRecord,
    line: u64,
}

impl Table {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    /// If the file cannot be opened or its header is no CSV.
    pub fn open(path: &Path) -> Result<Self, TaxonomyError> {
        let name = path.display().to_string();
        let file = File::open(path).map_err(|source| TaxonomyError::Read { path: name.clone(), source })?;
        let packed = path.extension().is_some_and(|extension| extension == "gz");
        let source: Box<dyn Read> = if packed { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
        let mut reader = csv::Reader::from_reader(source);
        let header = reader.headers().map_err(|error| broken(&name, 1, &error))?.clone();
        let header = header.iter().map(|name| name.trim_start_matches('\u{feff}').trim()).collect();
        Ok(Self { path: name, reader, header, line: 1 })
    }

    /// Position of a column, if there is one of this name.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.header.iter().position(|column| column == name)
    }

    /// Position of a column.
    ///
    /// # Errors
    /// If the header lacks it.
    pub fn needed(&self, name: &str) -> Result<usize, TaxonomyError> {
        self.column(name).ok_or_else(|| {
            let found = self.header.iter().collect::<Vec<_>>().join(", ");
            self.error(1, format!("column `{name}` is missing; found {found}"))
        })
    }

    /// The next row, or `None` at the end.
    ///
    /// # Errors
    /// If the row has another number of cells than the header or is not UTF-8.
    pub fn read_row(&mut self) -> Result<Option<StringRecord>, TaxonomyError> {
        let mut row = StringRecord::new();
        let fallback = self.line + 1;
        let more = self.reader.read_record(&mut row).map_err(|error| {
            let line = error.position().map_or(fallback, csv::Position::line);
            broken(&self.path, line, &error)
        })?;
        self.line = row.position().map_or(fallback, csv::Position::line);
        Ok(more.then_some(row))
    }

    /// Line of the row read last.
    pub const fn line(&self) -> u64 {
        self.line
    }

    /// An error at a line of this file.
    pub fn error(&self, line: u64, problem: String) -> TaxonomyError {
        TaxonomyError::Row { path: self.path.clone(), line, problem }
    }
}

fn broken(path: &str, line: u64, error: &csv::Error) -> TaxonomyError {
    TaxonomyError::Row { path: path.to_owned(), line, problem: error.to_string() }
}
