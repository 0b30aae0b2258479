//! Tensors of a safetensors checkpoint, one file or many, checked against what the network expects.
//!
//! Tensors are read one by one with plain reads: no memory map, so a file that shrinks under a running server cannot
//! kill it, and the peak is the loaded weights plus one tensor.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use candle_core::{DType, Device, Tensor};
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use serde::Deserialize;

use super::files::read_json;

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// Longest header that is believed, as in the format's own reader.
const LONGEST_HEADER: u64 = 100_000_000;

#[derive(Deserialize)]
struct Index {
    weight_map: HashMap<String, String>,
}

struct Shard {
    name: String,
    file: File,
    data_start: u64,
    metadata: Metadata,
}

/// An open checkpoint.
pub struct Weights {
    shards: Vec<Shard>,
    device: Device,
    prefix: &'static str,
    parameters: u64,
}

impl Weights {
    /// Opens the checkpoint of a model directory and checks that every file is whole.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub fn open(dir: &Path, device: &Device) -> Result<Self> {
        let shards = shard_names(dir)?
            .into_iter()
            .map(|name| Shard::open(dir.join(&name), name))
            .collect::<Result<Vec<_>>>()?;
        let mut weights = Self { shards, device: device.clone(), prefix: "", parameters: 0 };
        weights.prefix = weights.find_prefix()?;
        Ok(weights)
    }

    /// Checkpoints saved with a head keep the encoder under its own name.
    fn find_prefix(&self) -> Result<&'static str> {
        let probe = "embeddings.word_embeddings.weight";
        ["", "bert.", "roberta."]
            .into_iter()
            .find(|prefix| self.find(&format!("{prefix}{probe}")).is_some())
            .with_context(|| {
                format!("{}: no tensor {probe}, bert.{probe} or roberta.{probe}", self.shards[0].name)
            })
    }

    fn find(&self, name: &str) -> Option<(&Shard, &TensorInfo)> {
        self.shards.iter().find_map(|shard| Some((shard, shard.metadata.info(name)?)))
    }

    /// The encoder's tensor `name` as f32 on the device.
    ///
    /// # Errors
    /// Where it is missing, has another shape than `shape`, or is of a type that holds no weights.
    pub fn encoder(&mut self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let full = format!("{}{name}", self.prefix);
        // Checkpoints converted from TensorFlow name the halves of a layer norm gamma and beta.
        let renamed =
            full.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta");
        let chosen = if self.find(&full).is_none() && self.find(&renamed).is_some() { renamed } else { full };
        self.head(&chosen, shape)
    }

    /// The tensor of exactly this name; see [`Weights::encoder`].
    ///
    /// # Errors
    /// As [`Weights::encoder`].
    pub fn head(&mut self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let Some((shard, info)) = self.find(name) else {
            let files: Vec<&str> = self.shards.iter().map(|shard| shard.name.as_str()).collect();
            bail!("{}: no tensor {name}, expected with shape {shape:?}", files.join(", "));
        };
        let file = &shard.name;
        ensure!(
            info.shape == shape,
            "{file}: tensor {name} has shape {:?}, config.json asks for {shape:?}",
            info.shape
        );
        let dtype = candle_dtype(info.dtype).with_context(|| {
            format!("{file}: tensor {name} is {:?}, allowed are F32, F16, BF16, F64", info.dtype)
        })?;
        let bytes = shard.read(info).with_context(|| format!("{file}: cannot read tensor {name}"))?;
        let tensor = Tensor::from_raw_buffer(&bytes, dtype, shape, &Device::Cpu)?;
        let tensor = tensor.to_dtype(DType::F32)?.to_device(&self.device)?;
        self.parameters += tensor.elem_count() as u64;
        Ok(tensor)
    }

    /// Where the tensors are put.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Weights handed out so far.
    pub fn parameters(&self) -> u64 {
        self.parameters
    }
}

/// Files of the checkpoint, relative to the model directory.
pub(super) fn shard_names(dir: &Path) -> Result<Vec<String>> {
    if !dir.join(INDEX).exists() {
        ensure!(dir.join(SINGLE).exists(), "{SINGLE}: not found in {}, and no {INDEX} either", dir.display());
        return Ok(vec![SINGLE.to_owned()]);
    }
    let index: Index = read_json(dir, INDEX)?;
    let mut names: Vec<String> = index.weight_map.into_values().collect();
    names.sort_unstable();
    names.dedup();
    ensure!(!names.is_empty(), "{INDEX}: weight_map is empty");
    for name in &names {
        // A file name only: an index must not reach outside its directory.
        ensure!(
            Path::new(name).components().count() == 1 && name != "..",
            "{INDEX}: {name} is not a file name"
        );
        ensure!(dir.join(name).exists(), "{name}: named by {INDEX}, not found in {}", dir.display());
    }
    Ok(names)
}

fn candle_dtype(dtype: Dtype) -> Option<DType> {
    match dtype {
        Dtype::F32 => Some(DType::F32),
        Dtype::F16 => Some(DType::F16),
        Dtype::BF16 => Some(DType::BF16),
        Dtype::F64 => Some(DType::F64),
        _ => None,
    }
}

impl Shard {
    fn open(path: PathBuf, name: String) -> Result<Self> {
        let file = File::open(&path).with_context(|| format!("{name}: cannot open {}", path.display()))?;
        let (metadata, data_start) = read_header(&file).with_context(|| name.clone())?;
        Ok(Self { name, file, data_start, metadata })
    }

    fn read(&self, info: &TensorInfo) -> Result<Vec<u8>> {
        let (start, end) = info.data_offsets;
        let mut bytes = vec![0; end - start];
        let mut file = &self.file;
        file.seek(SeekFrom::Start(self.data_start + start as u64))?;
        file.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

/// Reads the header, and checks that the file is as long as the header says.
fn read_header(mut file: &File) -> Result<(Metadata, u64)> {
    let length = file.metadata().context("cannot read its size")?.len();
    ensure!(length > 8, "has {length} bytes, too few for a safetensors header");
    let mut size = [0; 8];
    file.read_exact(&mut size)?;
    let header = u64::from_le_bytes(size);
    ensure!(
        header <= LONGEST_HEADER && header + 8 <= length,
        "is not a safetensors file or is truncated: {length} bytes, of which its header alone claims {header}"
    );
    let mut bytes = vec![0; usize::try_from(header)?];
    file.read_exact(&mut bytes)?;
    let metadata: Metadata = serde_json::from_slice(&bytes).context("its safetensors header is not valid")?;
    let expected = 8 + header + metadata.data_len() as u64;
    ensure!(length == expected, "is truncated or damaged: {length} bytes, its header asks for {expected}");
    Ok((metadata, 8 + header))
}
