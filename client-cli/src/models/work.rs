//! The working folder of a pull, until its model is complete.
//!
//! `STORE/.pulls/ORGANISATION--NAME/` contains one file for each file of the model, named after its
//! expected digest, so that a partial file is never continued with bytes of another version. The
//! lock file next to it is never deleted: if it were while another process waits for it, two
//! processes could hold the lock.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use super::meter::Bytes;
use super::record::PublishedDigest;
use crate::error::{Hint, Hinted};
use crate::local::paths::create_dir;
use crate::output::progress;

/// Folder of the store for pulls in progress.
const FOLDER: &str = ".pulls";
/// Suffix of files in progress.
const PARTIAL: &str = ".partial";

/// Hint for a store that cannot be written to.
pub(super) const STORE_HINT: &str = "choose another store with --models-dir DIR or OBSERVATORY_MODELS";

/// Lock for changing a model in the store, released on drop.
#[derive(Debug)]
pub(super) struct ModelLock {
    _lock: File,
}

impl ModelLock {
    /// Acquires the lock, waiting for other processes.
    ///
    /// # Errors
    /// If the store cannot be written.
    pub(super) fn on(store: &Path, name: &str) -> anyhow::Result<Self> {
        let path = store.join(FOLDER).join(format!("{}.lock", flat(name)));
        let cannot = || format!("cannot write to the model store {}", store.display());
        create_dir(&store.join(FOLDER), 0o755).with_context(cannot).hint(STORE_HINT)?;
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let lock = lock.with_context(cannot).hint(STORE_HINT)?;
        // A lock of the kernel, which ends with the process even after SIGKILL.
        // Tried first, only to say why it takes long.
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                progress(format_args!("waiting for another process that is changing {name}"));
                lock.lock().with_context(|| format!("cannot lock {}", path.display()))?;
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
        Ok(Self { _lock: lock })
    }
}

/// The working folder of one pull.
#[derive(Debug)]
pub(super) struct WorkingFolder {
    folder: PathBuf,
}

/// A partial file, or a complete one that is not verified yet.
#[derive(Debug)]
pub(super) struct Partial {
    pub(super) path: PathBuf,
    pub(super) digest: PublishedDigest,
    pub(super) len: u64,
}

impl WorkingFolder {
    /// Opens the folder for a locked model, with the files of an earlier pull.
    ///
    /// # Errors
    /// If it cannot be created.
    pub(super) fn of(store: &Path, name: &str) -> anyhow::Result<Self> {
        let folder = store.join(FOLDER).join(flat(name));
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(Self { folder })
    }

    /// Path of the partial file of `file` with this digest.
    pub(super) fn partial(&self, file: &str, digest: &PublishedDigest) -> PathBuf {
        self.folder.join(format!("{}.{}{PARTIAL}", flat(file), digest.hex()))
    }

    /// Finds the partial file of `file`. If `digest` is given, deletes those with another one.
    ///
    /// # Errors
    /// If the folder cannot be read or changed.
    pub(super) fn find(
        &self,
        file: &str,
        digest: Option<&PublishedDigest>,
    ) -> anyhow::Result<Option<Partial>> {
        let before = format!("{}.", flat(file));
        let mut found = None;
        for entry in self.entries()? {
            let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let hex = name.strip_prefix(&before).and_then(|rest| rest.strip_suffix(PARTIAL));
            let Some(of) = hex.and_then(PublishedDigest::of_hex) else { continue };
            // Another version of the file, which no pull will ask for again.
            if digest.is_some_and(|digest| *digest != of) {
                fs::remove_file(&entry).with_context(|| format!("cannot delete {}", entry.display()))?;
                continue;
            }
            let len = fs::metadata(&entry).with_context(|| format!("cannot read {}", entry.display()))?.len();
            found = Some(Partial { path: entry, digest: of, len });
        }
        Ok(found)
    }

    /// Bytes downloaded so far.
    pub(super) fn bytes(&self) -> anyhow::Result<u64> {
        Ok(self.entries()?.iter().filter_map(|path| Some(fs::metadata(path).ok()?.len())).sum())
    }

    /// Folder in which the model is assembled.
    pub(super) fn model(&self) -> PathBuf {
        self.folder.join("model")
    }

    /// Creates the empty folder in which the model is assembled.
    ///
    /// # Errors
    /// If it cannot be created.
    pub(super) fn empty_model(&self) -> anyhow::Result<PathBuf> {
        let model = self.model();
        recreate(&model).with_context(|| format!("cannot create {}", model.display()))?;
        Ok(model)
    }

    /// Deletes the folder. Remains are harmless.
    pub(super) fn clear(self) {
        let _ = fs::remove_dir_all(self.folder);
    }

    fn entries(&self) -> anyhow::Result<Vec<PathBuf>> {
        let entries = fs::read_dir(&self.folder);
        let entries = entries.with_context(|| format!("cannot read {}", self.folder.display()))?;
        // Not the folder of the assembled model, which is next to the partial files.
        Ok(entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect())
    }
}

/// Creates a folder, in the place of one that an interrupted pull left.
fn recreate(folder: &Path) -> io::Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir(folder)
}

/// Flattens a path to a file name. Names rarely contain two hyphens in a row, and a clash would
/// only cost a download.
fn flat(path: &str) -> String {
    path.replace('/', "--")
}

/// Checks that there is enough free space.
///
/// # Errors
/// If `needed` bytes exceed the free space.
pub(super) fn check_room(store: &Path, name: &str, needed: u64) -> anyhow::Result<()> {
    let free = nix::sys::statvfs::statvfs(store)
        .with_context(|| format!("cannot get the free space of {}", store.display()))?;
    // Not all free blocks: some are reserved for root.
    let free = free.blocks_available() as u64 * free.fragment_size() as u64;
    ensure!(
        needed <= free,
        Hinted::error(
            format!(
                "{name} needs {} more, but the model store {} has {} free",
                Bytes(needed),
                store.display(),
                Bytes(free)
            ),
            STORE_HINT,
        )
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partial_file_belongs_to_its_digest() {
        let store = tempfile::tempdir().unwrap();
        let work = WorkingFolder::of(store.path(), "a/b").unwrap();
        let [one, two] = ["1", "2"].map(|digit| PublishedDigest::of_hex(&digit.repeat(40)).unwrap());
        assert!(work.find("1_Pooling/config.json", None).unwrap().is_none());
        fs::write(work.partial("1_Pooling/config.json", &one), "abc").unwrap();
        fs::write(work.partial("config.json", &one), "x").unwrap();
        let found = work.find("1_Pooling/config.json", None).unwrap().unwrap();
        assert_eq!((found.len, &found.digest), (3, &one));
        assert_eq!(work.bytes().unwrap(), 4);
        assert!(work.find("1_Pooling/config.json", Some(&two)).unwrap().is_none());
        assert!(!found.path.exists());
        assert!(work.find("config.json", Some(&one)).unwrap().is_some());
    }

    #[test]
    fn a_claim_waits_for_the_other() {
        let store = tempfile::tempdir().unwrap();
        let claim = ModelLock::on(store.path(), "a/b").unwrap();
        drop(ModelLock::on(store.path(), "a/c").unwrap());
        let (said, heard) = std::sync::mpsc::channel();
        let path = store.path().to_owned();
        let other = std::thread::spawn(move || {
            let claim = ModelLock::on(&path, "a/b").unwrap();
            said.send(()).unwrap();
            claim
        });
        assert!(heard.try_recv().is_err());
        drop(claim);
        heard.recv().unwrap();
        other.join().unwrap();
    }

    #[test]
    fn a_full_disk_is_noticed_before() {
        let store = tempfile::tempdir().unwrap();
        check_room(store.path(), "a/b", 1).unwrap();
        let error = check_room(store.path(), "a/b", 1 << 62).unwrap_err().to_string();
        assert!(error.starts_with("a/b needs 4611686018.4 GB more, but the model store "), "{error}");
    }
}
