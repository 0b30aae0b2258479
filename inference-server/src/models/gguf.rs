//! GGUF files, versions 2 and 3: one file with the weights, dimensions and tokenizer of a decoder.
//!
//! The format is that of ggml's `docs/gguf.md`. Tensors are read with plain reads on request: with
//! a memory map, a file that shrinks under a running server would kill it. All that the header says
//! is checked against the length of the file before memory is allocated for it.
//!
//! Names of tensors, by llama.cpp's converter (`{i}` is the layer): `token_embd.weight`,
//! `blk.{i}.attn_norm.weight`, `blk.{i}.attn_{q,k,v}.{weight,bias}`,
//! `blk.{i}.attn_{q,k}_norm.weight` (qwen3, gemma3), `blk.{i}.attn_output.weight`,
//! `blk.{i}.post_attention_norm.weight` (gemma3), `blk.{i}.ffn_norm.weight`,
//! `blk.{i}.ffn_{gate,up,down}.weight`, `blk.{i}.post_ffw_norm.weight` (gemma3),
//! `output_norm.weight`, and `output.weight` if the head is not tied to `token_embd.weight`.
//! `rope_freqs.weight` (llama 3.1 and later) divides the frequencies of the rotation. The converter
//! has already added one to gemma's norm weights.

pub(crate) mod dimensions;
mod header;
mod pre_tokenizer;
mod value;
mod vocabulary;

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use header::TensorInfo;
use value::Value;

/// An open GGUF file.
#[derive(Debug)]
pub struct Gguf {
    file: fs::File,
    data_start: u64,
    metadata: HashMap<String, Value>,
    tensors: HashMap<String, TensorInfo>,
}

impl Gguf {
    /// Opens a file, reads its header and checks that the file is complete.
    ///
    /// # Errors
    /// Names the key or tensor and what is wrong with it.
    pub fn open(path: &Path) -> Result<Self> {
        let file = fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        let header = header::read(&file)?;
        Ok(Self { file, data_start: header.data_start, metadata: header.metadata, tensors: header.tensors })
    }

    /// The metadata value of a key.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.metadata.get(key)
    }

    /// The tensor of this name.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name)
    }

    /// Returns true if there is a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// All tensors.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &TensorInfo)> {
        self.tensors.iter().map(|(name, info)| (name.as_str(), info))
    }

    /// The tensor of this name and shape.
    ///
    /// # Errors
    /// If it is missing or has another shape.
    pub fn expect(&self, name: &str, shape: &[usize]) -> Result<&TensorInfo> {
        let info = self.tensor(name);
        let info = info.with_context(|| format!("no tensor {name}, expected with shape {shape:?}"))?;
        let found = &info.shape;
        ensure!(found == shape, "tensor {name} has shape {found:?}, expected {shape:?}");
        Ok(info)
    }

    /// The bytes of a tensor, in its format.
    ///
    /// # Errors
    /// As [`Gguf::expect`], and if the file cannot be read.
    pub fn read(&self, name: &str, shape: &[usize]) -> Result<Vec<u8>> {
        let info = self.expect(name, shape)?;
        // The header was checked against the file, so this is no more than the file has.
        let mut bytes = vec![0; info.bytes];
        // At a position, so that reads need no lock on the file.
        let read = self.file.read_exact_at(&mut bytes, self.data_start + info.offset);
        read.with_context(|| format!("tensor {name} cannot be read"))?;
        Ok(bytes)
    }

    /// The numbers of a tensor, dequantised if need be.
    ///
    /// # Errors
    /// As [`Gguf::read`], and if a number is not finite.
    pub fn floats(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let format = self.expect(name, shape)?.format;
        let bytes = self.read(name, shape)?;
        let mut values = vec![0.0; shape.iter().product()];
        format.dequantise(&bytes, &mut values);
        let finite = values.iter().all(|value| value.is_finite());
        ensure!(finite, "tensor {name} holds values that are not finite");
        Ok(values)
    }

    /// The value of a key as an unsigned number; `None` if the key is missing.
    fn number(&self, key: &str) -> Result<Option<usize>> {
        self.typed(key, "a non-negative integer", |value| usize::try_from(value.integer()?).ok())
    }

    /// The value of a key, converted; `None` if the key is missing.
    fn typed<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        convert: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let converted = convert(value)
            .with_context(|| format!("invalid {key} {}: expected {expected}", value.describe()))?;
        Ok(Some(converted))
    }
}

#[cfg(test)]
mod tests;
