//! BERT and XLM-RoBERTa on a GPU, by our own kernels.
//!
//! Texts are packed one after the other, as in [`super::cpu`]. A forward pass is enqueued on the
//! device's stream as a whole: ids go up in one copy, vectors come back in one. The residual stream
//! is held in the element type of the device; sums, norms, softmax and pooling are f32.

mod kernels;
mod loader;

use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};
use candle_core::Tensor;

use super::backbone::Backbone;
use super::lookup::EmbeddingLookup;
use crate::kernels::gpu::encoder_tiles::Tiles;
use crate::kernels::gpu::memory::Buffer;
use crate::kernels::gpu::{Address, Download as _, Gpu, GpuError};
use crate::models::checkpoint::encoder_config::EncoderConfig;
use crate::models::weights::Weights;
use crate::models::{ComputeError, Pooling};
use kernels::{Batch, EncoderKernels, Shape, Tables};
use loader::{Layer, Linear, Loader};

/// An encoder with its weights on a device.
pub struct GpuEncoder<G: Gpu> {
    /// Held while a pass is enqueued, so that passes of two threads do not interleave; not while a
    /// thread waits for its vectors.
    device: Mutex<Device<G>>,
    /// Host memory of earlier passes, as many as ever ran at the same time.
    downloads: Mutex<Vec<G::Download>>,
    kernels: EncoderKernels,
    lookup: EmbeddingLookup,
    tables: Tables,
    layers: Vec<Layer>,
    inner: usize,
    element_bytes: usize,
}

/// A device and the activations of a pass on it. Passes run one after the other on the one stream,
/// so the next may overwrite them.
struct Device<G> {
    gpu: G,
    buffers: Buffers,
}

/// Activations of a pass, rows × width each.
#[derive(Debug, Default)]
struct Buffers {
    /// The words of the batch.
    batch: Buffer,
    hidden: Buffer,
    /// A residual and what was added to it, before the norm.
    sum: Buffer,
    qkv_or_inner: Buffer,
    attention_out: Buffer,
    /// Vectors of the texts, or hidden states in f32.
    floats: Buffer,
}

impl<G: Gpu> GpuEncoder<G> {
    /// Compiles the kernels and reads the weights onto the device, tensor by tensor.
    ///
    /// # Errors
    /// Names the tensor that is missing or has another shape. Also if the kernels do not compile or
    /// the device fails.
    pub fn load(mut gpu: G, config: &EncoderConfig, weights: &mut Weights) -> Result<Self> {
        let kernels = EncoderKernels::compile(&mut gpu, shape(config)).context("kernels")?;
        let mut loader = Loader { gpu: &mut gpu, weights, config };
        let tables = loader.tables()?;
        let layers = (0..config.num_hidden_layers).map(|index| loader.layer(index)).collect::<Result<_>>()?;
        let (free, element) = (gpu.memory()?.free, gpu.element());
        tracing::info!(memory.free_mib = free >> 20, precision = ?element, "weights on the device");
        Ok(Self {
            device: Mutex::new(Device { gpu, buffers: Buffers::default() }),
            downloads: Mutex::default(),
            kernels,
            lookup: EmbeddingLookup::new(config),
            tables,
            layers,
            inner: config.intermediate_size,
            element_bytes: element.bytes(),
        })
    }

    /// Enqueues a forward pass and, after it, `work` on the hidden states.
    fn with_states<T>(
        &self,
        rows: &[&[u32]],
        work: impl FnOnce(&mut Device<G>, Batch<'_>, Address) -> Result<T, GpuError>,
    ) -> Result<T, ComputeError> {
        let places = self.lookup.places(rows)?;
        let lengths: Vec<usize> = rows.iter().map(|row| row.len()).collect();
        let table = places.iter().map(|place| (place.token as u32, place.position as u32));
        let tiles = Tiles::cut(table, &lengths, self.kernels.queries());
        // Only enqueueing is serialised: while one thread waits for its vectors, the next pass is
        // already on the stream.
        let mut device = self.device.lock().unwrap_or_else(PoisonError::into_inner);
        let words = device.upload(&tiles)?;
        let batch = Batch { tiles: &tiles, words };
        let states = self.forward(&mut device, batch)?;
        Ok(work(&mut device, batch, states)?)
    }

    /// Enqueues a forward pass. Returns the address of its hidden states, tokens × width.
    fn forward(
        &self,
        Device { gpu, buffers }: &mut Device<G>,
        batch: Batch<'_>,
    ) -> Result<Address, GpuError> {
        let (kernels, rows) = (&self.kernels, batch.tiles.tokens());
        let width = kernels.shape().width();
        let row_bytes = rows * self.element_bytes;
        let hidden = buffers.hidden.at_least(gpu, row_bytes * width)?;
        let sum = buffers.sum.at_least(gpu, row_bytes * width)?;
        // One buffer for both, as neither is needed while the other is in use.
        let qkv_or_inner = buffers.qkv_or_inner.at_least(gpu, row_bytes * self.inner.max(3 * width))?;
        let attention_out = buffers.attention_out.at_least(gpu, row_bytes * width)?;
        kernels.embed(gpu, batch, &self.tables, hidden)?;
        for Layer { qkv, o_proj, attention_norm, up, down, output_norm } in &self.layers {
            multiply(gpu, qkv, rows, (hidden, None, qkv_or_inner))?;
            kernels.attend(gpu, batch, qkv_or_inner, attention_out)?;
            multiply(gpu, o_proj, rows, (attention_out, Some(hidden), sum))?;
            kernels.layer_norm(gpu, (sum, hidden), rows, attention_norm)?;
            multiply(gpu, up, rows, (hidden, None, qkv_or_inner))?;
            kernels.activate(gpu, qkv_or_inner, rows * self.inner)?;
            multiply(gpu, down, rows, (qkv_or_inner, Some(hidden), sum))?;
            kernels.layer_norm(gpu, (sum, hidden), rows, output_norm)?;
        }
        Ok(hidden)
    }
}

impl<G: Gpu> Device<G> {
    /// Enqueues the copy of a batch's words, all of them at once. Returns their address.
    fn upload(&mut self, tiles: &Tiles) -> Result<Address, GpuError> {
        let bytes: Vec<u8> = tiles.words().iter().flat_map(|word| word.to_le_bytes()).collect();
        let words = self.buffers.batch.at_least(&mut self.gpu, bytes.len())?;
        self.gpu.upload(words, &bytes)?;
        Ok(words)
    }
}

/// Enqueues a product with a linear layer, from an input and a residual to an output.
fn multiply<G: Gpu>(
    gpu: &mut G,
    linear: &Linear,
    rows: usize,
    (input, residual, output): (Address, Option<Address>, Address),
) -> Result<(), GpuError> {
    gpu.multiply(linear.shape, linear.operands(input, residual, output), rows)
}

impl<G: Gpu> Backbone for GpuEncoder<G> {
    fn hidden(&self, rows: &[&[u32]]) -> Result<Tensor, ComputeError> {
        self.with_states(rows, |Device { gpu, buffers }, batch, states| {
            let (count, width) = (batch.tiles.tokens(), self.kernels.shape().width());
            let floats = buffers.floats.at_least(gpu, count * width * size_of::<f32>())?;
            self.kernels.widen(gpu, (states, floats), count * width)?;
            gpu.tensor(floats, (count, width))
        })
    }

    fn pooled(&self, rows: &[&[u32]], pooling: Pooling) -> Result<Option<Vec<Vec<f32>>>, ComputeError> {
        let width = self.kernels.shape().width();
        let held = self.downloads.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut download = self.with_states(rows, |Device { gpu, buffers }, batch, states| {
            let count = batch.tiles.texts() * width;
            let vectors = buffers.floats.at_least(gpu, count * size_of::<f32>())?;
            self.kernels.pool(gpu, batch, (states, vectors), pooling)?;
            let mut download = held.unwrap_or_else(|| gpu.new_download());
            gpu.download(vectors, count, &mut download)?;
            Ok(download)
        })?;
        let vectors = download.wait()?.chunks_exact(width).map(<[f32]>::to_vec).collect();
        self.downloads.lock().unwrap_or_else(PoisonError::into_inner).push(download);
        Ok(Some(vectors))
    }

    fn weight_bytes(&self, parameters: u64) -> u64 {
        parameters * self.element_bytes as u64
    }
}

/// Returns true if the kernels support a network of this shape.
#[cfg_attr(not(feature = "cuda"), allow(dead_code, reason = "asked only where there is a GPU"))]
pub(crate) fn supports(config: &EncoderConfig) -> bool {
    shape(config).fits() && config.intermediate_size.is_multiple_of(8)
}

fn shape(config: &EncoderConfig) -> Shape {
    let heads = config.num_attention_heads;
    Shape { heads, head: config.hidden_size / heads, activation: config.hidden_act.kernel() }
}
