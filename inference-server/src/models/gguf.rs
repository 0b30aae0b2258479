//! GGUF files, versions 2 and 3: one file with the weights, dimensions and tokenizer of a decoder.
//!
//! The format is that of ggml's `docs/gguf.md`. Tensors are read with plain reads where they are
//! asked for: no memory map, so a file that shrinks under a running server cannot kill it. All that
//! the header says is checked against the length of the file before anything is allocated for it.
//!
//! Names of tensors, as llama.cpp's converter gives them (`{i}` is the block): `token_embd.weight`,
//! `blk.{i}.attn_norm.weight`, `blk.{i}.attn_{q,k,v}.{weight,bias}`,
//! `blk.{i}.attn_{q,k}_norm.weight` (qwen3, gemma3), `blk.{i}.attn_output.weight`,
//! `blk.{i}.post_attention_norm.weight` (gemma3), `blk.{i}.ffn_norm.weight`,
//! `blk.{i}.ffn_{gate,up,down}.weight`, `blk.{i}.post_ffw_norm.weight` (gemma3),
//! `output_norm.weight`, and `output.weight` where the head is not tied to `token_embd.weight`.
//! `rope_freqs.weight` (llama 3.1 and later) divides the frequencies of the rotation. The converter
//! has already added one to gemma's norm weights.

mod dimensions;
mod header;
mod value;
mod vocabulary;

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};

pub(crate) use dimensions::{Architecture, Scaling, halves_together};
pub(crate) use value::Value;

use crate::kernels::quant::Format;

/// What the directory says of a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    shape: Vec<usize>,
    format: Format,
    offset: u64,
    bytes: usize,
}

impl Info {
    /// Lengths, the outermost first: a matrix of a layer has outputs × inputs. The file has them
    /// the other way round.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// How the numbers are stored.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Bytes of the tensor.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// An open file.
#[derive(Debug)]
pub struct Gguf {
    file: fs::File,
    data_start: u64,
    metadata: HashMap<String, Value>,
    tensors: HashMap<String, Info>,
}

impl Gguf {
    /// Opens a file, reads its header and checks that the file is whole.
    ///
    /// # Errors
    /// Names the key or tensor and what is wrong with it.
    pub fn open(path: &Path) -> Result<Self> {
        let file = fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        let header = header::read(&file)?;
        Ok(Self { file, data_start: header.data_start, metadata: header.metadata, tensors: header.tensors })
    }

    /// The value of a key.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.metadata.get(key)
    }

    /// The tensor of this name.
    pub fn tensor(&self, name: &str) -> Option<&Info> {
        self.tensors.get(name)
    }

    /// All tensors.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &Info)> {
        self.tensors.iter().map(|(name, info)| (name.as_str(), info))
    }

    /// The tensor of this name and shape.
    ///
    /// # Errors
    /// If it is missing or has another shape.
    pub fn expect(&self, name: &str, shape: &[usize]) -> Result<&Info> {
        let info = self.tensor(name);
        let info = info.with_context(|| format!("no tensor {name}, expected with shape {shape:?}"))?;
        let found = &info.shape;
        ensure!(found == shape, "tensor {name} has shape {found:?}, the dimensions ask for {shape:?}");
        Ok(info)
    }

    /// The bytes of a tensor.
    ///
    /// # Errors
    /// As [`Gguf::expect`], and where the file cannot be read.
    pub fn read(&self, name: &str, shape: &[usize]) -> Result<Vec<u8>> {
        let info = self.expect(name, shape)?;
        let mut bytes = vec![0; info.bytes];
        let read = self.file.read_exact_at(&mut bytes, self.data_start + info.offset);
        read.with_context(|| format!("tensor {name} cannot be read"))?;
        Ok(bytes)
    }

    /// The numbers of a tensor, whatever its format.
    ///
    /// # Errors
    /// As [`Gguf::read`], and where a number is not finite.
    pub fn floats(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let format = self.expect(name, shape)?.format;
        let bytes = self.read(name, shape)?;
        let mut values = vec![0.0; shape.iter().product()];
        format.dequantise(&bytes, &mut values);
        let finite = values.iter().all(|value| value.is_finite());
        ensure!(finite, "tensor {name} holds values that are not finite");
        Ok(values)
    }

    /// The unsigned number of a key, if there is one.
    fn number(&self, key: &str) -> Result<Option<usize>> {
        self.typed(key, "a number that is not negative", |value| usize::try_from(value.integer()?).ok())
    }

    /// The value of a key as `read` sees it, if there is one.
    fn typed<'a, T>(
        &'a self,
        key: &str,
        wanted: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let read =
            read(value).with_context(|| format!("{key} is {}, expected {wanted}", value.describe()))?;
        Ok(Some(read))
    }
}

#[cfg(test)]
mod tests;
