//! A value built from files, and rebuilt when they change: certificates and clients are replaced
//! without a restart. A file that cannot be used leaves the value as it was.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// Polling interval. Not tuned: certificates and clients change rarely, and a digest of small files
/// is cheap.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

type Make<T> = dyn Fn(&[Vec<u8>]) -> Result<T> + Send + Sync;

/// A value that follows its files.
pub struct Watched<T> {
    files: Vec<PathBuf>,
    make: Box<Make<T>>,
    current: RwLock<Arc<T>>,
    seen: Mutex<[u8; 32]>,
}

impl<T> std::fmt::Debug for Watched<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watched").field("files", &self.files).finish_non_exhaustive()
    }
}

impl<T: Send + Sync + 'static> Watched<T> {
    /// Builds the value with `make` from the contents of the files, in their order.
    ///
    /// # Errors
    /// If a file cannot be read, and those of `make`.
    pub fn new(
        files: Vec<PathBuf>,
        make: impl Fn(&[Vec<u8>]) -> Result<T> + Send + Sync + 'static,
    ) -> Result<Arc<Self>> {
        let contents = read(&files)?;
        let current = RwLock::new(Arc::new(make(&contents)?));
        let seen = Mutex::new(digest(&contents));
        Ok(Arc::new(Self { files, make: Box::new(make), current, seen }))
    }

    /// The current value.
    pub fn get(&self) -> Arc<T> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Rebuilds the value if the files have changed since the last attempt; returns true if it did.
    /// On failure the value stays as it was.
    ///
    /// # Errors
    /// As [`Watched::new`].
    fn look(&self) -> Result<bool> {
        let contents = read(&self.files)?;
        let digest = digest(&contents);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // Also for content that turns out to be bad: it is not tried again until it changes.
        if std::mem::replace(&mut *seen, digest) == digest {
            return Ok(false);
        }
        let made = Arc::new((self.make)(&contents)?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = made;
        Ok(true)
    }

    /// Starts polling the files, until all other references to the value are dropped.
    pub fn watch(self: &Arc<Self>) {
        let watched = Arc::downgrade(self);
        tokio::spawn(async move {
            let mut told = None;
            loop {
                tokio::time::sleep(LOOK_AGAIN).await;
                let Some(watched) = watched.upgrade() else { return };
                let files = watched.files.iter().map(|file| file.display().to_string());
                let files = files.collect::<Vec<_>>().join(", ");
                match watched.look() {
                    Ok(true) => tracing::info!(files, "reloaded files"),
                    Ok(false) => continue,
                    Err(error) => {
                        let message = format!("{error:#}");
                        // A missing file is still missing at the next poll: report it once.
                        if told.as_ref() != Some(&message) {
                            tracing::error!(
                                files,
                                error.message = message,
                                "cannot reload files; keeping the previous content"
                            );
                        }
                        told = Some(message);
                        continue;
                    }
                }
                told = None;
            }
        });
    }
}

fn read(files: &[PathBuf]) -> Result<Vec<Vec<u8>>> {
    files
        .iter()
        .map(|file| fs::read(file).with_context(|| format!("cannot read {}", file.display())))
        .collect()
}

fn digest(contents: &[Vec<u8>]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for content in contents {
        // Otherwise bytes could move from one file to the next unnoticed.
        hash.update((content.len() as u64).to_le_bytes());
        hash.update(content);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_seen_once_and_a_bad_one_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("number");
        fs::write(&file, "1").unwrap();
        let number = Watched::new(vec![file.clone()], |contents| {
            String::from_utf8_lossy(&contents[0]).parse::<u32>().context("no number")
        })
        .unwrap();
        assert!(!number.look().unwrap());
        fs::write(&file, "2").unwrap();
        assert!(number.look().unwrap());
        assert_eq!(*number.get(), 2);
        fs::write(&file, "x").unwrap();
        assert!(number.look().is_err());
        assert!(!number.look().unwrap(), "the same bad content is not tried again");
        fs::remove_file(&file).unwrap();
        assert!(number.look().is_err());
        assert_eq!(*number.get(), 2);
        fs::write(&file, "3").unwrap();
        assert!(number.look().unwrap());
        assert_eq!(*number.get(), 3);
    }
}
