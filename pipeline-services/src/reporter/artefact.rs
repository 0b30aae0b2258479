//! Files of a report: which to make, and writing them whole or not at all.
//!
//! A file that is replaced is written to a temporary one, synced and renamed, so a reader or a
//! crash never meets half of it. What is recorded of a file (size, SHA-256) is of the bytes
//! written.

use std::collections::BTreeSet;
use std::fmt;
use std::io::Write;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::spreadsheet::Dialect;

/// A kind of output a user can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// The printable report.
    Pdf,
    /// The interactive page, one file.
    Html,
    /// The charts.
    Png,
    /// The tables.
    Csv,
    /// The document itself and the run's summary; always written.
    Json,
    /// The page that says what the files are and what they do not mean; always written.
    Md,
}

impl Format {
    /// Every format, in the order they are written.
    pub const ALL: [Self; 6] = [Self::Json, Self::Csv, Self::Png, Self::Html, Self::Pdf, Self::Md];

    /// The name a user types.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pdf => "pdf",
            Self::Html => "html",
            Self::Png => "png",
            Self::Csv => "csv",
            Self::Json => "json",
            Self::Md => "md",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The formats of one report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormatSet {
    wanted: BTreeSet<Format>,
    tables: Dialect,
}

impl FormatSet {
    /// Every format.
    pub fn all() -> Self {
        Format::ALL.into_iter().collect()
    }

    /// The same formats with tables of this dialect.
    pub fn with_tables(self, tables: Dialect) -> Self {
        Self { tables, ..self }
    }

    /// Dialect of the tables.
    pub fn tables(&self) -> Dialect {
        self.tables
    }

    /// Returns whether `format` is wanted; the document and the page about the files always are.
    pub fn contains(&self, format: Format) -> bool {
        matches!(format, Format::Json | Format::Md) || self.wanted.contains(&format)
    }
}

impl FromIterator<Format> for FormatSet {
    fn from_iter<I: IntoIterator<Item = Format>>(formats: I) -> Self {
        Self { wanted: formats.into_iter().collect(), tables: Dialect::Plain }
    }
}

/// A list of formats that names one this program does not make.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown report format `{0}` (allowed: pdf, html, png, csv, json, md)")]
pub struct UnknownFormat(String);

/// Reads `pdf,html`.
impl FromStr for FormatSet {
    type Err = UnknownFormat;

    fn from_str(list: &str) -> Result<Self, UnknownFormat> {
        let mut formats = Vec::new();
        for name in list.split(',').map(str::trim) {
            let found = Format::ALL.into_iter().find(|format| format.name() == name);
            formats.push(found.ok_or_else(|| UnknownFormat(name.to_owned()))?);
        }
        Ok(formats.into_iter().collect())
    }
}

/// A file of a report, as written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artefact {
    /// File name inside the report's directory.
    pub name: String,
    /// Its format.
    pub format: Format,
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of its content, in hexadecimal.
    pub sha256: String,
}

impl Artefact {
    /// Describes `content` as the file `name`.
    pub fn describe(name: &str, format: Format, content: &[u8]) -> Self {
        Self {
            name: name.to_owned(),
            format,
            bytes: content.len() as u64,
            sha256: hex::encode(Sha256::digest(content)),
        }
    }
}

/// Puts `content` at `path` so that a reader sees the old file or the whole new one, also after a
/// crash.
pub(super) fn replace_file(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".report-").tempfile_in(folder)?;
    file.write_all(content)?;
    // Before it gets its name: no reader may meet it private or half written.
    make_readable(file.as_file())?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    // The new name is a change of the folder and lost in a crash without this.
    sync_folder(folder)
}

/// Makes the names of files in `folder` survive a crash.
pub(super) fn sync_folder(folder: &Path) -> std::io::Result<()> {
    std::fs::File::open(folder)?.sync_all()
}

/// Temporary files are private; a report is as readable as any other file.
#[cfg(unix)]
fn make_readable(file: &std::fs::File) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn make_readable(_file: &std::fs::File) -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_formats_are_read() {
        let check = |list: &str, expected: Result<&[Format], &str>| {
            let expected = expected
                .map(|f| f.iter().copied().collect::<FormatSet>())
                .map_err(|name| UnknownFormat(name.to_owned()));
            assert_eq!(list.parse::<FormatSet>(), expected, "{list}");
        };
        check("pdf", Ok(&[Format::Pdf]));
        check("html, csv,html", Ok(&[Format::Csv, Format::Html]));
        check("", Err(""));
        check("pdf,docx", Err("docx"));
        check("PDF", Err("PDF"));
    }

    #[test]
    fn a_file_is_replaced_whole_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        replace_file(&path, b"old").unwrap();
        replace_file(&path, b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(replace_file(&folder.path().join("none/a.csv"), b"x").is_err());
    }

    #[test]
    fn artefacts_carry_size_and_digest() {
        let artefact = Artefact::describe("a.csv", Format::Csv, b"abc");
        assert_eq!(artefact.bytes, 3);
        assert!(artefact.sha256.starts_with("ba7816bf8f01cfea414140de5dae2223"));
    }
}
