//! Tensors of a checkpoint, safetensors or PyTorch's own format, one file or many, checked against
//! what the network expects.
//!
//! Tensors are read one by one with plain reads: no memory map, so a file that shrinks under a
//! running server cannot kill it. A safetensors file is read in pieces straight into the numbers
//! that the network keeps, so that the peak is the loaded weights; of a PyTorch file, and on
//! another device than the CPU, it is the weights plus one tensor.

mod pickle;
mod safetensors;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use candle_core::{DType, Device, Tensor};
use serde::Deserialize;

use crate::models::checkpoint::read_json;
use crate::models::load_progress::LoadProgress;

/// A checkpoint in one file, and the index of one in several, in order of preference.
const FORMATS: [(&str, &str); 2] = [
    ("model.safetensors", "model.safetensors.index.json"),
    ("pytorch_model.bin", "pytorch_model.bin.index.json"),
];

#[derive(Deserialize)]
struct Index {
    weight_map: HashMap<String, String>,
}

/// One file of a checkpoint.
enum Shard {
    Safetensors(safetensors::File),
    Pickle(pickle::File),
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

    /// How many numbers its tensors hold together.
    fn numbers(&self) -> usize {
        let count =
            |shape: &[usize]| shape.iter().fold(1, |count: usize, length| count.saturating_mul(*length));
        match self {
            Self::Safetensors(file) => file.shapes().map(count).fold(0, usize::saturating_add),
            Self::Pickle(file) => file.shapes().map(count).fold(0, usize::saturating_add),
        }
    }

    /// The tensor as f32 in the memory of the CPU.
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
    parameters: u64,
    loading: Arc<LoadProgress>,
}

impl Weights {
    /// Opens the checkpoint of a model directory whose encoder has the tensor `probe`, and checks
    /// that every file is whole and that there is room for all of them.
    ///
    /// # Errors
    /// Names the file and what is wrong with it, or the room there is.
    pub fn open(dir: &Path, probe: &str, device: &Device, loading: &Arc<LoadProgress>) -> Result<Self> {
        let mut weights = Self::files(dir, &shard_names(dir)?, device, loading)?;
        weights.prefix = weights.find_prefix(probe)?;
        let numbers = weights.shards.iter().map(|(_, shard)| shard.numbers()).fold(0, usize::saturating_add);
        loading.expect(numbers.saturating_mul(size_of::<f32>()) as u64)?;
        Ok(weights)
    }

    fn files(dir: &Path, names: &[String], device: &Device, loading: &Arc<LoadProgress>) -> Result<Self> {
        let open = |name: &String| Ok((name.clone(), Shard::open(dir, name)?));
        let shards = names.iter().map(open).collect::<Result<_>>()?;
        Ok(Self { shards, device: device.clone(), prefix: "", parameters: 0, loading: Arc::clone(loading) })
    }

    /// Checkpoints saved with a head keep the encoder under its own name.
    fn find_prefix(&self, probe: &str) -> Result<&'static str> {
        let prefixes = ["", "bert.", "roberta.", "model.", "language_model.model.", "model.language_model."];
        let found = prefixes.into_iter().find(|prefix| self.has(&format!("{prefix}{probe}")));
        found.with_context(|| {
            format!("{}: no tensor {probe}, also not behind {}", self.names(), prefixes[1..].join(", "))
        })
    }

    fn names(&self) -> String {
        self.shards.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
    }

    fn find(&self, name: &str) -> Option<(&str, &Shard, &[usize])> {
        self.shards.iter().find_map(|(file, shard)| Some((file.as_str(), shard, shard.shape(name)?)))
    }

    /// Whether there is a tensor of exactly this name.
    pub fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// What the encoder's tensor `name` is called in the checkpoint.
    pub fn encoder_name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Whether the encoder has the tensor `name`.
    pub fn encoder_has(&self, name: &str) -> bool {
        self.has(&self.encoder_name(name))
    }

    /// The encoder's tensor `name` as f32 on the device.
    ///
    /// # Errors
    /// If it is missing, has another shape than `shape`, is of a type that holds no weights, or is
    /// not finite.
    pub fn encoder(&mut self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let full = self.encoder_name(name);
        // Checkpoints converted from TensorFlow name the halves of a layer norm gamma and beta.
        let renamed =
            full.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta");
        let chosen = if !self.has(&full) && self.has(&renamed) { renamed } else { full };
        self.head(&chosen, shape)
    }

    /// Checks that the encoder has the tensor `name` in this shape, before memory is taken for what
    /// is made of it.
    ///
    /// # Errors
    /// If it is missing or has another shape.
    pub fn expect(&self, name: &str, shape: &[usize]) -> Result<()> {
        self.expected(&self.encoder_name(name), shape).map(|_| ())
    }

    fn expected(&self, name: &str, shape: &[usize]) -> Result<(&str, &Shard)> {
        let Some((file, shard, found)) = self.find(name) else {
            bail!("{}: no tensor {name}, expected with shape {shape:?}", self.names());
        };
        ensure!(found == shape, "{file}: tensor {name} has shape {found:?}, config.json asks for {shape:?}");
        Ok((file, shard))
    }

    /// The tensor of exactly this name; see [`Weights::encoder`].
    ///
    /// # Errors
    /// As [`Weights::encoder`].
    pub fn head(&mut self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let (file, shard) = self.expected(name, shape)?;
        let tensor = shard.read(name).with_context(|| format!("{file}: tensor {name}"))?;
        // One infinite or missing number makes the sum so.
        let sum = tensor.sum_all()?.to_scalar::<f32>()?;
        ensure!(sum.is_finite(), "{file}: tensor {name} holds values that are not finite");
        let tensor = tensor.to_device(&self.device)?;
        self.parameters += tensor.elem_count() as u64;
        self.loading.advance((tensor.elem_count() * size_of::<f32>()) as u64);
        Ok(tensor)
    }

    /// Where the tensors are put.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The shape of the tensor of exactly this name.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.find(name).map(|(_, _, shape)| shape)
    }

    /// What `read` makes of the weights in the folder of a sentence-transformers module.
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
        self.other(dir, found, read)
    }

    /// What `read` makes of a file beside the checkpoint, or `None` where there is none.
    ///
    /// # Errors
    /// As [`Weights::module`].
    pub fn beside<T>(
        &mut self,
        dir: &Path,
        name: &str,
        read: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<Option<T>> {
        if !dir.join(name).exists() {
            return Ok(None);
        }
        self.other(dir, name, read).map(Some)
    }

    fn other<T>(&mut self, dir: &Path, name: &str, read: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let mut file = Self::files(dir, &[name.to_owned()], &self.device, &self.loading)?;
        let made = read(&mut file)?;
        self.parameters += file.parameters;
        Ok(made)
    }

    /// Weights handed out so far.
    pub fn parameters(&self) -> u64 {
        self.parameters
    }
}

/// The checkpoint of a model directory: its index, or its only file.
pub(crate) fn checkpoint(dir: &Path) -> Option<&'static str> {
    let names = FORMATS.into_iter().flat_map(|(single, index)| [index, single]);
    names.into_iter().find(|name| dir.join(name).exists())
}

/// Files of the checkpoint, relative to the model directory.
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
        // A file name only: an index must not reach outside its directory.
        ensure!(
            Path::new(name).components().count() == 1 && name != "..",
            "{index}: {name} is not a file name"
        );
        ensure!(dir.join(name).exists(), "{name}: named by {index}, not found in {}", dir.display());
    }
    Ok(names)
}

/// Refuses types that hold no weights.
fn check_dtype(dtype: Option<DType>, found: &str) -> Result<DType> {
    let dtype = dtype.filter(|dtype| matches!(dtype, DType::F32 | DType::F16 | DType::BF16 | DType::F64));
    dtype.with_context(|| format!("is {found}, allowed are F32, F16, BF16, F64"))
}
