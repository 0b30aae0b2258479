//! Vectors by text: what was embedded before is not asked for again.
//!
//! Memory first, then files, then the inference server; what a lower level knows is put into the
//! ones above. Below them stands the database: a skill that has a vector of the current model there
//! is never planned. Entries name model, revision and prompt, so another model finds none of them.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use hashlink::LruCache;
use sha2::{Digest, Sha256};

use crate::inference::{EmbeddingModelInfo, InferenceClient, InferenceError};

/// Limits of a level: number and age of its vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Vectors at most; 0 switches the level off.
    pub entries: usize,
    /// Age at which a vector is forgotten.
    pub lifetime: Duration,
}

/// Sizes and lifetimes of the levels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Options {
    /// In memory.
    pub memory: Limits,
    /// In files.
    pub disk: Limits,
    /// Directory of the files; without one there are none.
    pub directory: Option<PathBuf>,
}

type Key = [u8; 32];

/// An inference client that remembers vectors; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct CachedEmbeddings {
    inference: InferenceClient,
    levels: Arc<Levels>,
}

#[derive(Debug)]
struct Levels {
    memory: Mutex<LruCache<Key, (Instant, Vec<f32>)>>,
    memory_lifetime: Duration,
    disk: Option<Disk>,
    hits: AtomicU64,
    misses: AtomicU64,
}

/// One vector or the reason why there is none.
pub(crate) type Row = Result<Vec<f32>, String>;

impl CachedEmbeddings {
    /// Vectors of `inference`, remembered within `options`.
    pub(crate) fn new(inference: InferenceClient, options: &Options) -> Self {
        let directory = options.directory.as_ref().filter(|_| options.disk.entries > 0);
        let levels = Levels {
            memory: Mutex::new(LruCache::new(options.memory.entries)),
            memory_lifetime: options.memory.lifetime,
            disk: directory.map(|directory| Disk { directory: directory.clone(), limits: options.disk }),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        };
        Self { inference, levels: Arc::new(levels) }
    }

    /// The client underneath.
    pub(crate) fn inference(&self) -> &InferenceClient {
        &self.inference
    }

    /// L2-normalised vectors of `texts` in order; see [`InferenceClient::embed`].
    ///
    /// # Errors
    /// If a vector is not remembered and the server does not answer.
    pub(crate) async fn embed(
        &self,
        model: &EmbeddingModelInfo,
        prompt_name: &str,
        texts: Vec<String>,
    ) -> Result<Vec<Row>, InferenceError> {
        let keys: Vec<Key> = texts.iter().map(|text| key(model, prompt_name, text)).collect();
        let mut rows: Vec<Option<Row>> = self
            .known(keys.clone(), model.dimensions as usize)
            .await
            .into_iter()
            .map(|row| row.map(Ok))
            .collect();
        let missing: Vec<usize> = (0..rows.len()).filter(|index| rows[*index].is_none()).collect();
        self.levels.hits.fetch_add((rows.len() - missing.len()) as u64, Ordering::Relaxed);
        self.levels.misses.fetch_add(missing.len() as u64, Ordering::Relaxed);
        if !missing.is_empty() {
            let asked = missing.iter().map(|index| texts[*index].clone()).collect();
            let found = self.inference.embed(model, prompt_name, asked).await?;
            // Failures are not remembered, since another try may succeed.
            let made: Vec<(Key, Vec<f32>)> = missing
                .iter()
                .zip(&found)
                .filter_map(|(index, row)| Some((keys[*index], row.as_ref().ok()?.clone())))
                .collect();
            for (index, row) in missing.into_iter().zip(found) {
                rows[index] = Some(row);
            }
            self.remember(made).await;
        }
        // A row is missing where the server's list of items, with which rows are zipped, is shorter
        // than the texts.
        Ok(rows.into_iter().map(|row| row.unwrap_or_else(|| Err("no answer".to_owned()))).collect())
    }

    async fn known(&self, keys: Vec<Key>, dimensions: usize) -> Vec<Option<Vec<f32>>> {
        let (levels, count) = (Arc::clone(&self.levels), keys.len());
        // Reads files, which no thread that serves calls may wait for.
        let found =
            tokio::task::spawn_blocking(move || keys.iter().map(|key| levels.get(key, dimensions)).collect());
        // A panic of the reading task costs the remembered vectors and not the new ones.
        found.await.unwrap_or_else(|_| vec![None; count])
    }

    async fn remember(&self, made: Vec<(Key, Vec<f32>)>) {
        let levels = Arc::clone(&self.levels);
        if let Err(error) = tokio::task::spawn_blocking(move || levels.put(made)).await {
            tracing::warn!(error.message = %error, "vectors not remembered");
        }
    }

    /// Vectors that were remembered, and vectors that were asked for, since the process started.
    pub(crate) fn hits_and_misses(&self) -> (u64, u64) {
        (self.levels.hits.load(Ordering::Relaxed), self.levels.misses.load(Ordering::Relaxed))
    }

    /// Frees the memory; files stay.
    pub(crate) fn forget(&self) {
        self.levels.memory.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

fn key(model: &EmbeddingModelInfo, prompt_name: &str, text: &str) -> Key {
    let mut hash = Sha256::new();
    // With its length before it no part can run into the next one.
    for part in [model.name.as_str(), &model.revision, prompt_name, text] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

impl Levels {
    fn get(&self, key: &Key, dimensions: usize) -> Option<Vec<f32>> {
        if let Some(vector) = self.in_memory(key) {
            return Some(vector);
        }
        let vector = self.disk.as_ref()?.get(key, dimensions)?;
        self.keep_in_memory(*key, vector.clone());
        Some(vector)
    }

    fn in_memory(&self, key: &Key) -> Option<Vec<f32>> {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, vector) = memory.get(key)?;
        if since.elapsed() < self.memory_lifetime {
            return Some(vector.clone());
        }
        // Old vectors go when they are asked for; the others are pushed out by newer ones.
        memory.remove(key);
        None
    }

    fn keep_in_memory(&self, key: Key, vector: Vec<f32>) {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        if memory.capacity() > 0 {
            // A vector from a file starts a new life here: its key names the revision, so age does
            // not make it wrong.
            memory.insert(key, (Instant::now(), vector));
        }
    }

    fn put(&self, made: Vec<(Key, Vec<f32>)>) {
        // A full disk costs the remembering and not the vectors.
        if let Some(disk) = &self.disk
            && let Err(error) = disk.put(&made)
        {
            tracing::warn!(
                directory.path = %disk.directory.display(),
                error.message = %error,
                "vectors not written to the cache"
            );
        }
        for (key, vector) in made {
            self.keep_in_memory(key, vector);
        }
    }
}

/// One file for each vector: little-endian f32, named by its key.
#[derive(Debug)]
struct Disk {
    directory: PathBuf,
    limits: Limits,
}

impl Disk {
    fn path(&self, key: &Key) -> PathBuf {
        self.directory.join(format!("{}.f32", hex::encode(key)))
    }

    /// A vector of the right length that is young enough; anything else counts as absent.
    fn get(&self, key: &Key, dimensions: usize) -> Option<Vec<f32>> {
        let path = self.path(key);
        let age = age(&path)?;
        // Not removed here: `shrink` does that after the next write.
        if age >= self.limits.lifetime {
            return None;
        }
        let bytes = fs::read(path).ok()?;
        let words =
            bytes.chunks_exact(4).map(|word| f32::from_le_bytes([word[0], word[1], word[2], word[3]]));
        let vector: Vec<f32> = words.collect();
        let norm = vector.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
        // A file that was damaged in place is noticed by its length or its norm.
        (bytes.len() == dimensions * 4 && (norm - 1.0).abs() < 1e-3).then_some(vector)
    }

    fn put(&self, made: &[(Key, Vec<f32>)]) -> std::io::Result<()> {
        fs::create_dir_all(&self.directory)?;
        for (key, vector) in made {
            let path = self.path(key);
            // Renamed when it is whole: no reader, and no process that dies, leaves half a file
            // behind. The process id keeps apart two that write the same vector.
            let scratch = path.with_extension(format!("{}.tmp", std::process::id()));
            let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
            fs::write(&scratch, bytes)?;
            fs::rename(&scratch, &path)?;
        }
        // After every batch, so that the limits hold however the process ends.
        self.shrink()
    }

    /// Removes what is too old, and the oldest of what is too much.
    fn shrink(&self) -> std::io::Result<()> {
        let mut files: Vec<(SystemTime, PathBuf)> = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            // Skipped where another process has just removed it. Scratch files of dead processes
            // count like others.
            if let Ok(written) = entry.metadata().and_then(|metadata| metadata.modified()) {
                files.push((written, entry.path()));
            }
        }
        files.sort_unstable();
        let too_many = files.len().saturating_sub(self.limits.entries);
        for (index, (_, path)) in files.iter().enumerate() {
            if index < too_many || age(path).is_some_and(|age| age >= self.limits.lifetime) {
                // Another process may have removed it already.
                let _ = fs::remove_file(path);
            }
        }
        Ok(())
    }
}

fn age(path: &Path) -> Option<Duration> {
    let written = fs::metadata(path).and_then(|metadata| metadata.modified()).ok()?;
    // A clock that was set back makes a file of the future: young.
    Some(written.elapsed().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn levels(memory: (usize, Duration), disk: (usize, Duration), directory: &Path) -> Arc<Levels> {
        let limits = |(entries, lifetime)| Limits { entries, lifetime };
        let options =
            Options { memory: limits(memory), disk: limits(disk), directory: Some(directory.to_owned()) };
        CachedEmbeddings::new(InferenceClient::new(&Default::default()).unwrap(), &options).levels
    }

    fn unit(index: usize) -> Vec<f32> {
        let mut vector = vec![0.0; 3];
        vector[index] = 1.0;
        vector
    }

    fn files(directory: &Path) -> usize {
        fs::read_dir(directory).map_or(0, Iterator::count)
    }

    #[test]
    fn a_vector_outlives_the_process_on_disk_and_comes_back_into_memory() {
        let directory = tempfile::tempdir().unwrap();
        let first = levels((2, HOUR), (10, HOUR), directory.path());
        first.put(vec![([1; 32], unit(0)), ([2; 32], unit(1))]);
        let second = levels((2, HOUR), (10, HOUR), directory.path());
        assert_eq!(second.in_memory(&[1; 32]), None);
        assert_eq!(second.get(&[1; 32], 3), Some(unit(0)));
        assert_eq!(second.in_memory(&[1; 32]), Some(unit(0)));
        assert_eq!(second.get(&[3; 32], 3), None);
        assert_eq!(second.get(&[2; 32], 4), None, "another length is not taken");
    }

    #[test]
    fn levels_forget_by_number_and_by_age() {
        let directory = tempfile::tempdir().unwrap();
        let small = levels((1, HOUR), (2, HOUR), directory.path());
        for number in 0..4_u8 {
            small.put(vec![([number; 32], unit(0))]);
        }
        assert_eq!(files(directory.path()), 2);
        assert_eq!(small.memory.lock().unwrap().len(), 1);
        let brief = levels((5, Duration::ZERO), (5, Duration::ZERO), directory.path());
        brief.put(vec![([9; 32], unit(0))]);
        assert_eq!(brief.get(&[9; 32], 3), None);
        assert_eq!(files(directory.path()), 0, "what is too old is removed");
    }

    #[test]
    fn a_damaged_file_and_an_unwritable_directory_are_as_good_as_absent() {
        let directory = tempfile::tempdir().unwrap();
        let cache = levels((0, HOUR), (5, HOUR), directory.path());
        cache.put(vec![([1; 32], unit(0))]);
        let path = cache.disk.as_ref().unwrap().path(&[1; 32]);
        fs::write(&path, [7; 12]).unwrap();
        assert_eq!(cache.get(&[1; 32], 3), None);
        let blocked = levels((1, HOUR), (5, HOUR), &path);
        blocked.put(vec![([2; 32], unit(1))]);
        assert_eq!(blocked.get(&[2; 32], 3), Some(unit(1)), "memory serves all the same");
    }

    #[tokio::test]
    async fn only_what_is_not_remembered_is_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let limits = Limits { entries: 9, lifetime: HOUR };
        let options = Options { memory: limits, disk: limits, directory: Some(directory.path().to_owned()) };
        let cache = CachedEmbeddings::new(InferenceClient::new(&Default::default()).unwrap(), &options);
        let model = EmbeddingModelInfo {
            name: "m".to_owned(),
            revision: "r".to_owned(),
            dimensions: 3,
            passage_prompt: String::new(),
            query_prompt: String::new(),
            languages: Vec::new(),
        };
        cache.levels.put(vec![(key(&model, "", "Excel"), unit(2))]);
        let rows = cache.embed(&model, "", vec!["Excel".to_owned()]).await.unwrap();
        assert_eq!(rows, [Ok(unit(2))]);
        let other = EmbeddingModelInfo { revision: "other".to_owned(), ..model.clone() };
        assert!(cache.embed(&other, "", vec!["Excel".to_owned()]).await.is_err(), "another revision");
        assert!(cache.embed(&model, "query", vec!["Excel".to_owned()]).await.is_err(), "another prompt");
        assert_eq!(cache.hits_and_misses(), (1, 2));
        cache.forget();
        assert!(cache.levels.in_memory(&key(&model, "", "Excel")).is_none());
    }
}
