//! The record stored with each model: its origin and the checksums of its files.
//!
//! A model can be verified against it at any time.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sha1::Digest as _;
use sha2::Digest as _;

/// File name of the record.
pub(super) const RECORD: &str = ".observatory.json";

/// Way in which a model got into the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Pulled from a hub.
    Hub,
    /// Copied from a folder.
    Folder,
    /// Unpacked from a pinned package.
    Package,
}

/// Origin of a stored model, and the digests of its files at that time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Way in which the model got into the store.
    pub source: Source,
    /// Address of the hub without credentials, or name of the folder or package.
    pub origin: String,
    /// The requested branch, tag or commit of a hub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested: Option<String>,
    /// Commit of the hub or version of the package; a folder has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Time of the record.
    pub recorded_at: DateTime<Utc>,
    /// The files, by path.
    pub files: Vec<FileRecord>,
}

/// A file of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// Path in the folder of the model.
    pub path: String,
    /// Size in bytes.
    pub size: u64,
    /// SHA-256 in hexadecimal.
    pub sha256: String,
    /// Git blob hash, if the hub identifies the file by that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git_blob: Option<String>,
}

/// Difference between a file and its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Damage {
    /// The file is missing.
    Missing,
    /// The content has changed.
    Changed,
}

impl Damage {
    /// Description for messages, following the name of the file.
    pub fn text(self) -> &'static str {
        match self {
            Self::Missing => "is missing",
            Self::Changed => "does not match its recorded checksum",
        }
    }
}

impl Record {
    /// Creates a record of the files in `folder`.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub(super) fn of_folder(source: Source, origin: String, folder: &Path) -> anyhow::Result<Self> {
        let mut files = Vec::new();
        for path in files_below(folder, Path::new(""))? {
            let sums = Digests::of(&folder.join(&path))?;
            files.push(sums.into_record(path.to_string_lossy().into_owned()));
        }
        Ok(Self { source, origin, requested: None, revision: None, recorded_at: Utc::now(), files })
    }

    /// Reads the record of the model in `folder`, if it has one.
    ///
    /// # Errors
    /// If there is one, but it cannot be read.
    pub fn read(folder: &Path) -> anyhow::Result<Option<Self>> {
        let path = folder.join(RECORD);
        let cannot = || format!("cannot read {}", path.display());
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).with_context(cannot),
            // A model that was never recorded is normal; only a record that cannot be read is an
            // error.
            // The folder itself may be missing.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Ok(None)
            }
            Err(error) => Err(error).with_context(cannot),
        }
    }

    /// Writes the record to `folder`.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(super) fn write(&self, folder: &Path) -> anyhow::Result<()> {
        let path = folder.join(RECORD);
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Total size of the files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    /// Checks existence and size of all files, without reading them.
    pub(super) fn looks_whole(&self, folder: &Path) -> bool {
        self.files.iter().all(|file| {
            fs::metadata(folder.join(&file.path))
                .is_ok_and(|found| found.is_file() && found.len() == file.size)
        })
    }

    /// Reads all files and returns those that differ from the record.
    ///
    /// # Errors
    /// If an existing file cannot be read.
    pub fn damages(&self, folder: &Path) -> anyhow::Result<Vec<(String, Damage)>> {
        let mut damages = Vec::new();
        for file in &self.files {
            let path = folder.join(&file.path);
            let damage = if !path.is_file() {
                Some(Damage::Missing)
            } else if Digests::of(&path)?.sha256 != file.sha256 {
                Some(Damage::Changed)
            } else {
                None
            };
            damages.extend(damage.map(|damage| (file.path.clone(), damage)));
        }
        Ok(damages)
    }
}

/// Lists all files below `root/inner` relative to `root`, in order, without hidden ones.
fn files_below(root: &Path, inner: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let folder = root.join(inner);
    let mut files = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let name = entry?.file_name();
        let path = inner.join(&name);
        // The record itself, and bookkeeping of other tools.
        if name.to_string_lossy().starts_with('.') {
            continue;
        }
        if root.join(&path).is_dir() {
            files.extend(files_below(root, &path)?);
        } else {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// A digest as hubs publish it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PublishedDigest {
    /// SHA-256 of the content: large files.
    Sha256(String),
    /// SHA-1 of git's blob object: small files.
    GitBlob(String),
}

impl PublishedDigest {
    /// Parses the digest in an ETag header, which may contain anything else.
    pub(super) fn of_etag(value: &str) -> Option<Self> {
        Self::of_hex(value.trim().trim_start_matches("W/").trim_matches('"'))
    }

    /// Parses a hexadecimal digest; its length tells the kind.
    pub(super) fn of_hex(hex: &str) -> Option<Self> {
        let hex = hex.to_ascii_lowercase();
        match hex.len() {
            _ if !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) => None,
            64 => Some(Self::Sha256(hex)),
            40 => Some(Self::GitBlob(hex)),
            _ => None,
        }
    }

    /// Its hexadecimal digits.
    pub(super) fn hex(&self) -> &str {
        match self {
            Self::Sha256(hex) | Self::GitBlob(hex) => hex,
        }
    }
}

/// Both digests of a file.
#[derive(Debug)]
pub(super) struct Digests {
    pub(super) size: u64,
    pub(super) sha256: String,
    pub(super) git_blob: String,
}

impl Digests {
    /// Computes both in one pass over the file.
    ///
    /// # Errors
    /// If it cannot be read, or changes during that.
    pub(super) fn of(path: &Path) -> anyhow::Result<Self> {
        Self::read(path).with_context(|| format!("cannot read {}", path.display()))
    }

    fn read(path: &Path) -> anyhow::Result<Self> {
        let mut file = File::open(path)?;
        let size = file.metadata()?.len();
        // Both in one pass: a hub publishes either, and gigabytes are read slowly.
        let mut sha256 = sha2::Sha256::new();
        // Git hashes the size before the content, so it has to be known first.
        let mut git_blob = sha1::Sha1::new_with_prefix(format!("blob {size}\0"));
        let mut buffer = vec![0; 1 << 20];
        let mut total = 0;
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            total += read as u64;
            sha2::Digest::update(&mut sha256, &buffer[..read]);
            sha1::Digest::update(&mut git_blob, &buffer[..read]);
        }
        if total != size {
            bail!("its size changed from {size} to {total} bytes");
        }
        let (sha256, git_blob) = (hex::encode(sha256.finalize()), hex::encode(git_blob.finalize()));
        Ok(Self { size, sha256, git_blob })
    }

    /// Compares with a published digest: returns its kind, the computed value, and whether they
    /// match.
    pub(super) fn compare(&self, published: &PublishedDigest) -> (&'static str, &str, bool) {
        let (kind, own) = match published {
            PublishedDigest::Sha256(_) => ("sha256", &self.sha256),
            PublishedDigest::GitBlob(_) => ("git blob sha1", &self.git_blob),
        };
        (kind, own, own == published.hex())
    }

    /// A record for a file that is not from a hub.
    fn into_record(self, path: String) -> FileRecord {
        FileRecord { path, size: self.size, sha256: self.sha256, git_blob: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_git_and_sha256sum() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "hello\n").unwrap();
        let sums = Digests::of(&path).unwrap();
        // `git hash-object` and `sha256sum` of the same six bytes.
        assert_eq!(sums.git_blob, "ce013625030ba8dba906f756967f9e9ca394464a");
        assert_eq!(sums.sha256, "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03");
        assert!(sums.compare(&PublishedDigest::of_hex(&sums.git_blob).unwrap()).2);
        assert!(!sums.compare(&PublishedDigest::of_hex(&"0".repeat(64)).unwrap()).2);
    }

    #[test]
    fn an_etag_is_a_digest_or_something_else() {
        let check = |etag: &str, expected: Option<&str>| {
            assert_eq!(PublishedDigest::of_etag(etag).as_ref().map(PublishedDigest::hex), expected, "{etag}");
        };
        let (long, short) = ("ab".repeat(32), "cd".repeat(20));
        check(&format!("\"{long}\""), Some(&long));
        check(&format!("W/\"{short}\""), Some(&short));
        check(&short.to_uppercase(), Some(&short));
        check("\"d41d8cd98f00b204e9800998ecf8427e-5\"", None);
        check(&format!("\"{}\"", "zz".repeat(20)), None);
    }

    #[test]
    fn a_record_finds_what_changed() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        fs::create_dir_all(at("1_Pooling")).unwrap();
        for path in ["a", "b", "1_Pooling/c", ".hidden"] {
            fs::write(at(path), path).unwrap();
        }
        assert_eq!(Record::read(dir.path()).unwrap(), None);
        let record = Record::of_folder(Source::Folder, "x".to_owned(), dir.path()).unwrap();
        record.write(dir.path()).unwrap();
        assert_eq!(Record::read(dir.path()).unwrap(), Some(record.clone()));
        let paths: Vec<&str> = record.files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, ["1_Pooling/c", "a", "b"]);
        assert!(record.looks_whole(dir.path()) && record.damages(dir.path()).unwrap().is_empty());
        fs::write(at("a"), "A").unwrap();
        assert!(record.looks_whole(dir.path()));
        fs::remove_file(at("1_Pooling/c")).unwrap();
        assert!(!record.looks_whole(dir.path()));
        let damages = record.damages(dir.path()).unwrap();
        assert_eq!(damages, [("1_Pooling/c".to_owned(), Damage::Missing), ("a".to_owned(), Damage::Changed)]);
    }
}
