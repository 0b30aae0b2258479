//! The revision of a model: one digest over every file that decides its answers.
//!
//! Two directories with the same revision answer alike, so a caller can pin a revision. Digests of
//! files are cached on disk, as reading gigabytes at every start would take longer than loading.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::models::checkpoint::{gguf_file, has_decoder};
use crate::models::weights::shard_names;

/// Files other than weights that change a model's answers; those that exist are digested.
const SMALL_FILES: [&str; 9] = [
    "config.json",
    "tokenizer.json",
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "model.safetensors.index.json",
    "pytorch_model.bin.index.json",
    "sparse_linear.pt",
    "colbert_linear.pt",
];
/// Further files of a language model: end tokens, chat template, and the special tokens that the
/// template refers to.
const GENERATION_FILES: [&str; 4] =
    ["chat_template.jinja", "generation_config.json", "special_tokens_map.json", "tokenizer_config.json"];
/// Files of a sentence-transformers module that change a model's answers.
const MODULE_FILES: [&str; 3] = ["config.json", "model.safetensors", "pytorch_model.bin"];

/// Digest of one file, valid as long as its size and modification time are unchanged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct FileDigest {
    size: u64,
    modified_ns: u128,
    sha256: String,
}

/// SHA-256 over the lines `path NUL digest LF` of the model's files in order of their paths,
/// in hexadecimal.
///
/// Digests of files are cached in `<store>/.digests/`; with a read-only store every start computes
/// them again.
///
/// # Errors
/// Names the file that cannot be read.
pub(crate) fn revision(store: &Path, name: &str) -> Result<String> {
    let dir = store.join(name);
    let cache_path = store.join(".digests").join(format!("{}.json", name.replace('/', "--")));
    let cached: BTreeMap<String, FileDigest> =
        fs::read(&cache_path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    let mut entries = BTreeMap::new();
    for path in relevant_files(&dir)? {
        let entry = digest(&dir.join(&path), cached.get(&path)).with_context(|| path.clone())?;
        entries.insert(path, entry);
    }
    // A start without changes writes nothing, so that a read-only store is no warning.
    if entries != cached {
        write_cache(&cache_path, &entries);
    }
    let mut hash = Sha256::new();
    for (path, entry) in &entries {
        // Paths cannot hold NUL, so no two lists of files give the same lines.
        hash.update(format!("{path}\0{}\n", entry.sha256));
    }
    Ok(hex::encode(hash.finalize()))
}

/// Paths relative to `dir`, in no particular order.
fn relevant_files(dir: &Path) -> Result<Vec<String>> {
    let mut files = match gguf_file(dir)? {
        Some(file) => vec![file],
        None => shard_names(dir)?,
    };
    let more: &[&str] = if has_decoder(dir)? { &GENERATION_FILES } else { &[] };
    let present = SMALL_FILES.iter().chain(more).filter(|name| dir.join(name).exists());
    files.extend(present.map(|name| (*name).to_owned()));
    // Module directories of sentence-transformers are numbered: 1_Pooling, 2_Dense.
    for entry in fs::read_dir(dir)? {
        let folder = entry?.file_name().to_string_lossy().into_owned();
        if folder.starts_with(|c: char| c.is_ascii_digit()) {
            let inside = MODULE_FILES.iter().map(|file| format!("{folder}/{file}"));
            files.extend(inside.filter(|file| dir.join(file).exists()));
        }
    }
    Ok(files)
}

fn digest(path: &Path, cached: Option<&FileDigest>) -> Result<FileDigest> {
    let metadata = fs::metadata(path)?;
    let modified_ns = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let size = metadata.len();
    // Size and time as in make and rsync: a file that was replaced within the clock's resolution by
    // one of the same size would go unnoticed.
    if let Some(entry) = cached.filter(|entry| entry.size == size && entry.modified_ns == modified_ns) {
        return Ok(entry.clone());
    }
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
    }
    Ok(FileDigest { size, modified_ns, sha256: hex::encode(hash.finalize()) })
}

fn write_cache(path: &Path, entries: &BTreeMap<String, FileDigest>) {
    if let Err(error) = replace_file(path, entries) {
        tracing::debug!(error.message = format!("{error:#}"), "file digests not cached");
    }
}

/// Writes to a temporary file first, so that a second process never reads half a cache.
fn replace_file(path: &Path, entries: &BTreeMap<String, FileDigest>) -> Result<()> {
    fs::create_dir_all(path.parent().context("no parent")?)?;
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    fs::write(&temporary, serde_json::to_vec_pretty(entries)?)?;
    fs::rename(&temporary, path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_a_chat_template_counts() {
        let store = tempfile::tempdir().unwrap();
        let dir = store.path().join("org/name");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("config.json"), r#"{"model_type": "llama"}"#).unwrap();
        fs::write(dir.join("model.safetensors"), "weights").unwrap();
        let mut seen = vec![revision(store.path(), "org/name").unwrap()];
        for file in GENERATION_FILES {
            fs::write(dir.join(file), "{}").unwrap();
            let revision = revision(store.path(), "org/name").unwrap();
            assert!(!seen.contains(&revision), "{file}");
            seen.push(revision);
        }
        assert!(GENERATION_FILES.contains(&"special_tokens_map.json"));
    }
}
