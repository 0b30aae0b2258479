//! Reads files, and the files inside gzip and zip archives.
//!
//! Sizes and depths are bounded, so that a hostile archive costs no more than an error.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek};
use std::path::{Path, PathBuf};

use anyhow::Context;
use flate2::read::MultiGzDecoder;
use zip::ZipArchive;

/// Maximum size of an uncompressed file, since it is held in memory. Not tuned: about what a laptop
/// can spare.
const LIMIT: u64 = 4 << 30;
/// Maximum depth of nested folders, which also ends cycles of symbolic links. Not tuned: generous
/// for an unpacked download.
const DEPTH: usize = 4;

/// Reads a file; `-` is standard input.
pub(crate) fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    if path.as_os_str() == "-" {
        return limited(io::stdin().lock()).context("cannot read standard input");
    }
    read_file(path).with_context(|| cannot_read(path))
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    // A directory can be opened; only reading it would fail.
    if file.metadata().is_ok_and(|found| found.is_dir()) {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    limited(BufReader::new(file))
}

fn limited(reader: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One byte more than allowed tells a file at the limit from a longer one.
    reader.take(LIMIT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LIMIT {
        return Err(io::Error::other("larger than 4 GiB; split the file"));
    }
    Ok(bytes)
}

/// Decompresses gzip data.
pub(crate) fn gunzip(bytes: &[u8]) -> Result<Vec<u8>, String> {
    limited(MultiGzDecoder::new(bytes))
        .map_err(|error| format!("the gzip data is corrupt or truncated: {error}"))
}

/// Names of the entries in the order of the archive, lossily decoded: old programs write them in
/// encodings of their own.
pub(crate) fn names<R: Read + Seek>(archive: &ZipArchive<R>) -> Vec<String> {
    archive.file_names_raw().map(|name| String::from_utf8_lossy(name).into_owned()).collect()
}

/// The files of an archive with their indexes, without folders and the metadata that macOS adds.
pub(crate) fn entries<R: Read + Seek>(archive: &ZipArchive<R>) -> Vec<(usize, String)> {
    // Folders are entries of their own in a zip, with a slash at the end.
    let names = names(archive).into_iter().enumerate();
    names.filter(|(_, name)| !name.ends_with('/') && !hidden(name)).collect()
}

fn hidden(name: &str) -> bool {
    name.starts_with("__MACOSX/") || name.rsplit('/').next().is_some_and(|file| file.starts_with('.'))
}

/// Reads a file of an archive.
pub(crate) fn entry<R: Read + Seek>(
    archive: &mut ZipArchive<R>,
    place: usize,
    name: &str,
) -> Result<Vec<u8>, String> {
    let entry =
        archive.by_index(place).map_err(|error| format!("cannot read `{name}` in the zip: {error}"))?;
    limited(entry).map_err(|error| format!("`{name}` in the zip is corrupt: {error}"))
}

/// A file, plain or in an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SourceFile {
    /// Name without folders and `.gz`.
    pub(crate) name: String,
    /// Its folder, in the file system or an archive.
    pub(crate) folder: String,
    /// Its path as the user knows it, for messages.
    pub(crate) label: String,
    path: PathBuf,
    place: Option<usize>,
}

/// Finds the files in a folder or a zip archive, or the file itself; archives in folders are
/// searched too.
///
/// # Errors
/// If something cannot be read or an archive is corrupt.
pub(crate) fn find(path: &Path) -> anyhow::Result<Vec<SourceFile>> {
    let mut found = Vec::new();
    gather(path, DEPTH, &mut found)?;
    Ok(found)
}

fn gather(path: &Path, depth: usize, found: &mut Vec<SourceFile>) -> anyhow::Result<()> {
    let metadata = fs::metadata(path).with_context(|| cannot_read(path))?;
    if metadata.is_dir() {
        for inner in list(path).with_context(|| cannot_read(path))? {
            let is_hidden = hidden(&inner.file_name().unwrap_or_default().to_string_lossy());
            if !is_hidden && (depth > 0 || !inner.is_dir()) {
                gather(&inner, depth.saturating_sub(1), found)?;
            }
        }
        return Ok(());
    }
    let label = path.display().to_string();
    if let Some(file) = open_zip(path).with_context(|| cannot_read(path))? {
        let archive = ZipArchive::new(BufReader::new(file))
            .with_context(|| format!("{label}: the zip file is corrupt or truncated"))?;
        for (place, name) in entries(&archive) {
            let (inner, plain) = name.rsplit_once('/').unwrap_or(("", &name));
            found.push(SourceFile {
                name: unpacked(plain),
                folder: format!("{label}/{inner}"),
                label: format!("{label}: {name}"),
                path: path.to_owned(),
                place: Some(place),
            });
        }
        return Ok(());
    }
    let folder = path.parent().unwrap_or(Path::new("")).display().to_string();
    let name = unpacked(&path.file_name().unwrap_or_default().to_string_lossy());
    found.push(SourceFile { name, folder, label, path: path.to_owned(), place: None });
    Ok(())
}

fn cannot_read(path: &Path) -> String {
    format!("cannot read {}", path.display())
}

/// The entries of a folder, sorted.
fn list(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut inside = Vec::new();
    for entry in fs::read_dir(folder)? {
        inside.push(entry?.path());
    }
    // The order of read_dir depends on the file system; that of an import must not.
    inside.sort();
    Ok(inside)
}

/// Opens a file that begins as a zip archive does, whatever its name; `None` for any other file.
fn open_zip(path: &Path) -> io::Result<Option<File>> {
    let mut start = [0; 2];
    let mut file = File::open(path)?;
    let is_zip = file.read(&mut start)? == 2 && &start == b"PK";
    Ok(is_zip.then_some(file))
}

/// Strips the extension of a compressed file.
fn unpacked(name: &str) -> String {
    let packed = name.to_lowercase().ends_with(".gz");
    if packed { name[..name.len() - 3].to_owned() } else { name.to_owned() }
}

impl SourceFile {
    /// Reads and decompresses the file.
    ///
    /// # Errors
    /// If it cannot be read or is corrupt; names the file.
    pub(crate) fn read(&self) -> anyhow::Result<Vec<u8>> {
        let bytes = match self.place {
            None => read(&self.path)?,
            Some(place) => {
                let file = BufReader::new(File::open(&self.path)?);
                // Opened for each entry: a folder of archives would otherwise keep all of them
                // open.
                let mut archive = ZipArchive::new(file)?;
                entry(&mut archive, place, &self.name)
                    .map_err(|problem| anyhow::anyhow!("{}: {problem}", self.label))?
            }
        };
        // By content: archives hold compressed files under any name.
        if bytes.starts_with(&[0x1f, 0x8b]) {
            return gunzip(&bytes).map_err(|problem| anyhow::anyhow!("{}: {problem}", self.label));
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};

    use super::*;

    fn zip(files: &[(&str, &str)]) -> Vec<u8> {
        let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (name, text) in files {
            writer.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
            writer.write_all(text.as_bytes()).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    #[test]
    fn files_are_found_alone_in_folders_and_in_archives() {
        let dir = tempfile::tempdir().unwrap();
        let packed =
            zip(&[("ESCO es/", ""), ("ESCO es/skills_es.csv", "a"), ("__MACOSX/._skills_es.csv", "x")]);
        fs::create_dir_all(dir.path().join("deep/er")).unwrap();
        fs::write(dir.path().join("deep/er/esco.zip"), packed).unwrap();
        fs::write(dir.path().join("deep/occupations_es.csv"), "b").unwrap();
        fs::write(dir.path().join("deep/.hidden.csv"), "c").unwrap();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(b"d").unwrap();
        fs::write(dir.path().join("Skills_EN.CSV.GZ"), gzip.finish().unwrap()).unwrap();
        let found = find(dir.path()).unwrap();
        let base = dir.path().display();
        let told: Vec<(&str, String, Vec<u8>)> = found
            .iter()
            .map(|file| {
                (file.name.as_str(), file.label.replace(&format!("{base}/"), ""), file.read().unwrap())
            })
            .collect();
        let expected = [
            ("Skills_EN.CSV", "Skills_EN.CSV.GZ".to_owned(), b"d".to_vec()),
            ("skills_es.csv", "deep/er/esco.zip: ESCO es/skills_es.csv".to_owned(), b"a".to_vec()),
            ("occupations_es.csv", "deep/occupations_es.csv".to_owned(), b"b".to_vec()),
        ];
        assert_eq!(told, expected);
        assert_ne!(found[1].folder, found[2].folder);
        let alone = find(&dir.path().join("deep/occupations_es.csv")).unwrap();
        assert_eq!(alone.len(), 1);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("esco.zip");
        let whole = zip(&[("skills_es.csv", "conceptUri")]);
        fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        let error = format!("{:#}", find(&path).unwrap_err());
        assert!(error.contains("esco.zip: the zip file is corrupt or truncated"), "{error}");
        let error = format!("{:#}", find(&dir.path().join("absent")).unwrap_err());
        assert!(error.contains("cannot read") && error.contains("absent"), "{error}");
    }
}
