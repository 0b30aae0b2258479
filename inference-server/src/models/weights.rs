//! Tensors of a Hugging Face checkpoint: safetensors or PyTorch pickles, in one file or in shards.
//!
//! A tensor is checked against the shape that the network expects before memory is allocated for
//! it. Tensors are read one by one with plain reads: with a memory map, a file that shrinks under a
//! running server would kill it. A safetensors file is read in pieces straight into the numbers
//! that the network keeps, so that the peak of memory is the loaded weights; for a pickle, and on a
//! GPU, it is the weights plus one tensor.

mod dtype;
pub(crate) mod library;
mod pickle;
mod safetensors;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use candle_core::{Device, Tensor};
use serde::Deserialize;

use super::checkpoint::encoder_config::EncoderConfig;
use super::checkpoint::json::read_json;
use super::load_progress::LoadProgress;

/// Names of a checkpoint in one file and of the index of a sharded one, in order of preference.
const FORMATS: [(&str, &str); 2] = [
    ("model.safetensors", "model.safetensors.index.json"),
    ("pytorch_model.bin", "pytorch_model.bin.index.json"),
];

/// What stands before the names of tensors in checkpoints that were saved with a head.
const PREFIXES: [&str; 12] = [
    "",
    "bert.",
    "roberta.",
    "camembert.",
    "distilbert.",
    "mpnet.",
    "deberta.",
    "nomic_bert.",
    "new.",
    "model.",
    "language_model.model.",
    "model.language_model.",
];

/// The index of a sharded checkpoint: file names by tensor names.
#[derive(Deserialize)]
struct Index {
    weight_map: HashMap<String, String>,
}

/// One file of a checkpoint.
enum Shard {
    Safetensors(safetensors::File),
    Pickle(pickle::File),
}

/// Elements of a tensor of this shape; shapes come from files, so the product saturates.
fn elements(shape: &[usize]) -> usize {
    shape.iter().fold(1, |count, length| count.saturating_mul(*length))
}

impl Shard {
    fn open(dir: &Path, name: &str) -> Result<Self> {
        let path = dir.join(name);
        let shard = if name.ends_with(".safetensors") {
            safetensors::File::open(&path).map(Self::Safetensors)
        } else {
            pickle::File::open(&path).map(Self::Pickle)
        };
        shard.with_context(|| name.to_owned())
    }

    fn shape(&self, name: &str) -> Option<&[usize]> {
        match self {
            Self::Safetensors(file) => file.shape(name),
            Self::Pickle(file) => file.shape(name),
        }
    }

    /// Number of elements of all tensors.
    fn elements(&self) -> usize {
        match self {
            Self::Safetensors(file) => file.shapes().map(elements).fold(0, usize::saturating_add),
            Self::Pickle(file) => file.shapes().map(elements).fold(0, usize::saturating_add),
        }
    }

    /// The tensor as f32 in host memory.
    fn read(&self, name: &str) -> Result<Tensor> {
        match self {
            Self::Safetensors(file) => file.read(name),
            Self::Pickle(file) => file.read(name),
        }
    }
}

/// An open checkpoint.
pub struct Weights {
    shards: Vec<(String, Shard)>,
    device: Device,
    prefix: &'static str,
    /// Parts of the names that are asked for, and what the checkpoint has in their place; they are
    /// replaced in this order.
    names: &'static [(&'static str, &'static str)],
    parameters: u64,
    progress: Arc<LoadProgress>,
}

impl Weights {
    /// Opens the checkpoint in a model's directory and checks that every file is complete and that
    /// the weights keep to the limit of `progress`. `probe` is a tensor that the network must have:
    /// it tells which prefix the names of tensors have in this checkpoint.
    ///
    /// # Errors
    /// Names the file and what is wrong with it, or the memory limit.
    pub fn open(dir: &Path, probe: &str, device: &Device, progress: &Arc<LoadProgress>) -> Result<Self> {
        let mut weights = Self::files(dir, &shard_names(dir)?, device, progress)?;
        weights.prefix = weights.find_prefix(probe)?;
        let elements =
            weights.shards.iter().map(|(_, shard)| shard.elements()).fold(0, usize::saturating_add);
        // In f32, to which every tensor is converted while it is read.
        progress.expect(elements.saturating_mul(size_of::<f32>()) as u64)?;
        Ok(weights)
    }

    fn files(dir: &Path, names: &[String], device: &Device, progress: &Arc<LoadProgress>) -> Result<Self> {
        let mut shards = Vec::with_capacity(names.len());
        for name in names {
            shards.push((name.clone(), Shard::open(dir, name)?));
        }
        let (device, progress) = (device.clone(), Arc::clone(progress));
        Ok(Self { shards, device, prefix: "", names: &[], parameters: 0, progress })
    }

    /// Opens the checkpoint of an encoder, whose tensors are asked for by BERT's names.
    ///
    /// # Errors
    /// As [`Weights::open`].
    pub fn open_encoder(
        dir: &Path,
        config: &EncoderConfig,
        device: &Device,
        progress: &Arc<LoadProgress>,
    ) -> Result<Self> {
        let architecture = config.architecture;
        let weights = Self::open(dir, architecture.token_embeddings(), device, progress)?;
        Ok(Self { names: architecture.tensor_names(), ..weights })
    }

    /// Checkpoints that were saved with a head have the network under its own name.
    fn find_prefix(&self, probe: &str) -> Result<&'static str> {
        // Plain first: a checkpoint without a head has no prefix.
        let found = PREFIXES.into_iter().find(|prefix| self.has(&format!("{prefix}{probe}")));
        found.with_context(|| {
            format!("{}: no tensor {probe}, also not behind {}", self.file_names(), PREFIXES[1..].join(", "))
        })
    }

    fn file_names(&self) -> String {
        self.shards.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
    }

    fn find(&self, name: &str) -> Option<(&str, &Shard, &[usize])> {
        self.shards.iter().find_map(|(file, shard)| Some((file.as_str(), shard, shard.shape(name)?)))
    }

    /// Returns true if there is a tensor of this full name.
    pub fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// Full name of the network's tensor `name`.
    pub fn encoder_name(&self, name: &str) -> String {
        let own = self.names.iter().fold(name.to_owned(), |own, (part, other)| own.replace(part, other));
        format!("{}{own}", self.prefix)
    }

    /// Returns true if the network has the tensor `name`.
    pub fn encoder_has(&self, name: &str) -> bool {
        self.has(&self.encoder_name(name))
    }

    /// The network's tensor `name` as f32 on the device.
    ///
    /// # Errors
    /// If it is missing, has another shape than `shape`, is not of a floating-point type, or holds
    /// values that are not finite.
    pub fn encoder(&mut self, name: &str, shape: &[usize]) -> Result<Tensor> {
        self.head(&self.stored_name(name), shape)
    }

    /// The values of the network's tensor `name`, row by row, on the host.
    ///
    /// # Errors
    /// As [`Weights::encoder`].
    pub fn encoder_values(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        Ok(self.read(&self.stored_name(name), shape)?.flatten_all()?.to_vec1()?)
    }

    /// Full name under which the checkpoint has the network's tensor `name`.
    fn stored_name(&self, name: &str) -> String {
        let full = self.encoder_name(name);
        // Checkpoints converted from TensorFlow name the halves of a layer norm gamma and beta.
        let renamed =
            full.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta");
        // The published name takes precedence if a checkpoint has both.
        if !self.has(&full) && self.has(&renamed) { renamed } else { full }
    }

    /// Checks that the network has the tensor `name` in this shape, before memory is allocated for
    /// its packed form.
    ///
    /// # Errors
    /// If it is missing or has another shape.
    pub fn expect(&self, name: &str, shape: &[usize]) -> Result<()> {
        self.expected(&self.encoder_name(name), shape).map(|_| ())
    }

    fn expected(&self, name: &str, shape: &[usize]) -> Result<(&str, &Shard)> {
        let Some((file, shard, found)) = self.find(name) else {
            bail!("{}: no tensor {name}, expected with shape {shape:?}", self.file_names());
        };
        ensure!(found == shape, "{file}: tensor {name} has shape {found:?}, config.json asks for {shape:?}");
        Ok((file, shard))
    }

    /// The tensor of this full name; see [`Weights::encoder`].
    ///
    /// # Errors
    /// As [`Weights::encoder`].
    pub fn head(&mut self, name: &str, shape: &[usize]) -> Result<Tensor> {
        Ok(self.read(name, shape)?.to_device(&self.device)?)
    }

    /// The tensor of this full name on the host.
    fn read(&mut self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let (file, shard) = self.expected(name, shape)?;
        let tensor = shard.read(name).with_context(|| format!("{file}: tensor {name}"))?;
        // A single infinity or NaN makes the sum infinite or NaN: cheaper than a test of each
        // value.
        let sum = tensor.sum_all()?.to_scalar::<f32>()?;
        ensure!(sum.is_finite(), "{file}: tensor {name} holds values that are not finite");
        self.parameters += tensor.elem_count() as u64;
        self.progress.advance((tensor.elem_count() * size_of::<f32>()) as u64);
        Ok(tensor)
    }

    /// Device of the tensors.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Shape of the tensor of this full name.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.find(name).map(|(_, _, shape)| shape)
    }

    /// Reads the weights in the directory of a sentence-transformers module.
    ///
    /// # Errors
    /// As [`Weights::open`], and those of `read`.
    pub fn module<T>(
        &mut self,
        dir: &Path,
        folder: &str,
        read: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        let names = FORMATS.map(|(single, _)| format!("{folder}/{single}"));
        let found = names.iter().find(|name| dir.join(name).exists());
        let found = found.with_context(|| {
            format!("{}: not found in {}, and no {} either", names[0], dir.display(), names[1])
        })?;
        self.read_file(dir, found, read)
    }

    /// Reads another file of the model's directory; `None` if it does not exist.
    ///
    /// # Errors
    /// As [`Weights::module`].
    pub fn side_file<T>(
        &mut self,
        dir: &Path,
        name: &str,
        read: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<Option<T>> {
        if !dir.join(name).exists() {
            return Ok(None);
        }
        self.read_file(dir, name, read).map(Some)
    }

    fn read_file<T>(
        &mut self,
        dir: &Path,
        name: &str,
        read: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        let mut file = Self::files(dir, &[name.to_owned()], &self.device, &self.progress)?;
        let result = read(&mut file)?;
        self.parameters += file.parameters;
        Ok(result)
    }

    /// Number of weights read so far.
    pub fn parameters(&self) -> u64 {
        self.parameters
    }
}

/// Name of the checkpoint in a model's directory: its index, or its only file.
pub(crate) fn checkpoint(dir: &Path) -> Option<&'static str> {
    // The index first: it names all files, and one of them may be called like a single checkpoint.
    let names = FORMATS.into_iter().flat_map(|(single, index)| [index, single]);
    names.into_iter().find(|name| dir.join(name).exists())
}

/// Files of the checkpoint, relative to the model's directory.
///
/// # Errors
/// If there is no checkpoint, or its index is malformed or names a file that does not exist.
pub(crate) fn shard_names(dir: &Path) -> Result<Vec<String>> {
    if let Some(name) = checkpoint(dir) {
        return if name.ends_with(".json") { indexed(dir, name) } else { Ok(vec![name.to_owned()]) };
    }
    let [(first, first_index), (second, second_index)] = FORMATS;
    bail!("{first}: not found in {}, and no {first_index}, {second} or {second_index} either", dir.display())
}

fn indexed(dir: &Path, index: &str) -> Result<Vec<String>> {
    let Index { weight_map } = read_json(dir, index)?;
    let mut names: Vec<String> = weight_map.into_values().collect();
    names.sort_unstable();
    names.dedup();
    ensure!(!names.is_empty(), "{index}: weight_map is empty");
    for name in &names {
        // An index must not reach outside of its directory.
        ensure!(
            Path::new(name).components().count() == 1 && name != "..",
            "{index}: {name} is not a file name"
        );
        ensure!(dir.join(name).exists(), "{name}: named by {index}, not found in {}", dir.display());
    }
    Ok(names)
}
