//! Lines of tab-separated files, with errors that name the file, the line and the column.
//!
//! Every file of a lexicon is read through here: a header that names the columns, comments, and
//! cells without blanks around them.

use std::{io, path::PathBuf};

use crate::domain::taxonomy::{Concept, ConceptKind, Label};

const COLUMNS: &str = "label, kind, category, es, en, flags, uri";

/// A mistake in a lexicon.
#[derive(Debug, thiserror::Error)]
pub enum LexiconError {
    /// A file or directory cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No `.tsv` file holds an entry.
    #[error("the lexicon holds no entry; it needs at least one `.tsv` file with the columns {COLUMNS}")]
    Empty,
    /// A cell is wrong.
    #[error("{file}, line {line}, column {column}: {problem}")]
    Cell {
        /// File name.
        file: String,
        /// Line, from 1.
        line: usize,
        /// Name of the column.
        column: &'static str,
        /// The mistake, and the values that are allowed.
        problem: String,
    },
}

/// One line of a file, split into cells.
pub(super) struct Row<'text> {
    file: &'text str,
    line: usize,
    cells: Vec<&'text str>,
}

impl Row<'_> {
    /// Cell `index`, empty where the line is shorter.
    pub(super) fn cell(&self, index: usize) -> &str {
        // Editors cut empty cells off the end of a line.
        self.cells.get(index).map_or("", |cell| cell.trim())
    }

    /// A problem with a column of this line.
    pub(super) fn error(&self, column: &'static str, problem: impl Into<String>) -> LexiconError {
        LexiconError::Cell { file: self.file.to_owned(), line: self.line, column, problem: problem.into() }
    }
}

/// The lines below the header that are neither blank nor a comment (`#`).
pub(super) fn rows<'text>(
    file: &'text str,
    text: &'text str,
    names: &[&'static str],
) -> Result<Vec<Row<'text>>, LexiconError> {
    let mut rows = text
        // Spreadsheets write a byte order mark before the first column's name.
        .trim_start_matches('\u{feff}')
        .lines()
        .enumerate()
        // Only at the beginning of a line: `C#` is a skill.
        .filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'))
        .map(|(index, line)| Row { file, line: index + 1, cells: line.split('\t').collect() });
    let Some(header) = rows.next() else { return Ok(Vec::new()) };
    if header.cells != names {
        let wanted = names.join(", ");
        return Err(
            header.error(names[0], format!("the first line must name the columns {wanted}, tab-separated"))
        );
    }
    rows.map(|row| match row.cells.len() > names.len() {
        true => Err(row.error(names[names.len() - 1], format!("more than {} columns", names.len()))),
        false => Ok(row),
    })
    .collect()
}

/// A concept with its preferred labels, written `es / en`, or English alone.
pub(super) fn concept(kind: ConceptKind, uri: String, labels: &str) -> Concept {
    let labels = match labels.split_once(" / ") {
        Some((spanish, english)) => vec![label("es", spanish), label("en", english)],
        None => vec![label("en", labels)],
    };
    Concept { uri, kind, class: String::new(), labels }
}

fn label(language: &str, text: &str) -> Label {
    Label { language: language.to_owned(), text: text.trim().to_owned(), preferred: true }
}
