//! A CSV file, plain or gzip, with any of the usual separators, whose errors name the line.
//!
//! Hides compression, separator and the order of columns from the importers, which ask for columns
//! by name. Rows are read one at a time.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
};

use csv::StringRecord;
use flate2::read::MultiGzDecoder;

use crate::taxonomy::{Source, TaxonomyError};

/// An open CSV file with a header.
pub(crate) struct Table {
    shown: String,
    reader: csv::Reader<Box<dyn BufRead>>,
    header: StringRecord,
    line: u64,
}

impl Table {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    /// If the file cannot be opened, is empty or not UTF-8, or its header is no CSV.
    pub(crate) fn open(source: &Source) -> Result<Self, TaxonomyError> {
        Self::open_with(source, false)
    }

    /// Opens a file whose rows may end before their last cells, as those of ESCO's hierarchy do.
    ///
    /// # Errors
    /// As [`Table::open`].
    pub(crate) fn open_ragged(source: &Source) -> Result<Self, TaxonomyError> {
        Self::open_with(source, true)
    }

    fn open_with(source: &Source, ragged: bool) -> Result<Self, TaxonomyError> {
        let shown = source.shown.clone();
        let failed = |source| TaxonomyError::Read { path: shown.clone(), source };
        let file = File::open(&source.path).map_err(failed)?;
        let packed = source.path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gz"));
        // Files that were packed in parts are several gzip members; a plain decoder would stop at
        // the first.
        let plain: Box<dyn Read> = if packed { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
        let mut plain: Box<dyn BufRead> = Box::new(BufReader::with_capacity(1 << 16, plain));
        let start = plain.fill_buf().map_err(failed)?;
        if let Some(problem) = unfit(start) {
            return Err(TaxonomyError::Row { path: shown, line: 1, problem: problem.to_owned() });
        }
        let delimiter = delimiter(start);
        let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).flexible(ragged).from_reader(plain);
        let header = reader.headers().map_err(|error| broken(&shown, 1, &error))?.clone();
        // What spreadsheets save as UTF-8 begins with a byte order mark, which would be part of the
        // first name.
        let header = header.iter().map(|name| name.trim_start_matches('\u{feff}').trim()).collect();
        Ok(Self { shown, reader, header, line: 1 })
    }

    /// Position of a column, if there is one of this name.
    pub(crate) fn column(&self, name: &str) -> Option<usize> {
        self.header.iter().position(|column| column == name)
    }

    /// Position of a column.
    ///
    /// # Errors
    /// If the header lacks it.
    pub(crate) fn needed(&self, name: &str) -> Result<usize, TaxonomyError> {
        self.column(name)
            .ok_or_else(|| self.error(1, format!("column `{name}` is missing; found {}", self.header())))
    }

    /// The names of the columns, for messages.
    pub(crate) fn header(&self) -> String {
        self.header.iter().collect::<Vec<_>>().join(", ")
    }

    /// The next row, or `None` at the end.
    ///
    /// # Errors
    /// If the row has another number of cells than the header, more of them if rows may end early,
    /// or is not UTF-8.
    pub(crate) fn read_row(&mut self) -> Result<Option<StringRecord>, TaxonomyError> {
        let mut row = StringRecord::new();
        let fallback = self.line + 1;
        let more = self.reader.read_record(&mut row).map_err(|error| {
            let line = error.position().map_or(fallback, csv::Position::line);
            broken(&self.shown, line, &error)
        })?;
        self.line = row.position().map_or(fallback, csv::Position::line);
        if row.len() > self.header.len() {
            let problem = format!("the row has {} cells, the header {}", row.len(), self.header.len());
            return Err(self.error(self.line, problem));
        }
        Ok(more.then_some(row))
    }

    /// Line of the row read last.
    pub(crate) const fn line(&self) -> u64 {
        self.line
    }

    /// An error at a line of this file.
    pub(crate) fn error(&self, line: u64, problem: String) -> TaxonomyError {
        TaxonomyError::Row { path: self.shown.clone(), line, problem }
    }
}

/// What is wrong with a file that begins like this.
fn unfit(start: &[u8]) -> Option<&'static str> {
    let wide = [[0xff, 0xfe], [0xfe, 0xff]].iter().any(|mark| start.starts_with(mark));
    match start {
        [] => Some("the file is empty"),
        // From callers of the RPC: the command-line tool decodes what it sends.
        _ if wide => Some("the file is UTF-16: expected UTF-8"),
        _ => None,
    }
}

/// The separator that the header has most of.
fn delimiter(start: &[u8]) -> u8 {
    let header = start.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let count = |delimiter: u8| header.iter().filter(|byte| **byte == delimiter).count();
    // Of equal counts the last one wins, so a header of one column is separated by commas.
    [b'\t', b';', b','].into_iter().max_by_key(|delimiter| count(*delimiter)).unwrap_or(b',')
}

fn broken(path: &str, line: u64, error: &csv::Error) -> TaxonomyError {
    let problem = match error.kind() {
        csv::ErrorKind::Utf8 { .. } => "the row is not UTF-8: save the file as UTF-8".to_owned(),
        _ => error.to_string(),
    };
    TaxonomyError::Row { path: path.to_owned(), line, problem }
}
