//! The files of a model as published: which task it is for and what its configuration says.
//!
//! A directory holds either a Hugging Face checkpoint (`config.json` and weights as safetensors or
//! pickles) or one GGUF file. Numbers are bounded here before anything is computed or allocated by
//! them, so everything above may trust a configuration.

pub(crate) mod activation;
pub(crate) mod architecture;
pub(crate) mod encoder_config;
pub(crate) mod json;
pub(crate) mod library_config;
pub(crate) mod modernbert_config;
pub(crate) mod sentence_transformers;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::decoder::config::DecoderConfig;
use super::decoder::family::family;
use super::gguf::Gguf;
use super::{Task, weights};
use encoder_config::EncoderConfig;
use json::read_json;
use sentence_transformers::MODULES;

/// The task of the model in a directory, by its GGUF file or its `config.json`.
///
/// # Errors
/// If there are several GGUF files, and as [`EncoderConfig::read`] and [`DecoderConfig::read`].
pub(crate) fn task(dir: &Path) -> Result<Task> {
    // First, because a GGUF file contains its configuration and needs no `config.json`.
    if let Some(file) = gguf_file(dir)? {
        let gguf = Gguf::open(&dir.join(&file)).with_context(|| file.clone())?;
        return DecoderConfig::from_gguf(&gguf).context(file).map(|_| Task::Generation);
    }
    if is_decoder(dir)? {
        return DecoderConfig::read(dir).map(|_| Task::Generation);
    }
    EncoderConfig::read(dir)?.task()
}

/// Name of the GGUF file in a directory; `None` if there is none, or if the directory holds a
/// Hugging Face checkpoint.
///
/// # Errors
/// If there are several.
pub(crate) fn gguf_file(dir: &Path) -> Result<Option<String>> {
    if weights::checkpoint(dir).is_some() {
        return Ok(None);
    }
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        // Hidden files are bookkeeping of other programs, such as `._NAME` of macOS.
        if name.ends_with(".gguf") && !name.starts_with('.') {
            names.push(name);
        }
    }
    names.sort_unstable();
    ensure!(
        names.len() <= 1,
        "the folder holds {} GGUF files ({}): expected one",
        names.len(),
        names.join(", ")
    );
    Ok(names.pop())
}

/// Returns true if the model generates text: its network is a decoder, and no sentence-transformers
/// package is around it.
///
/// # Errors
/// As [`has_decoder`].
pub(crate) fn is_decoder(dir: &Path) -> Result<bool> {
    Ok(gguf_file(dir)?.is_some() || has_decoder(dir)? && !dir.join(MODULES).exists())
}

/// Returns true if the network is a decoder, whatever it serves: it is in a GGUF file, or its
/// `model_type` is a decoder's.
///
/// # Errors
/// As [`gguf_file`], and if there is neither a GGUF file nor a readable `config.json`.
pub(crate) fn has_decoder(dir: &Path) -> Result<bool> {
    #[derive(Deserialize)]
    struct ModelType {
        #[serde(default)]
        model_type: String,
    }
    if gguf_file(dir)?.is_some() {
        return Ok(true);
    }
    let config: ModelType = read_json(dir, "config.json")?;
    Ok(family(&config.model_type).is_some())
}
