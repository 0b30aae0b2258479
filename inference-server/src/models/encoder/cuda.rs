//! BERT and XLM-RoBERTa on an NVIDIA GPU, by our own kernels.
//!
//! Texts are packed one after the other, as in [`super::cpu`]. A forward pass is enqueued on the
//! device's stream as a whole: ids go up in one copy, vectors come back in one. The residual stream
//! is held in the chosen precision; sums, norms, softmax and pooling are f32.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use candle_core::cuda_backend::{CudaStorage, CudaStorageSlice};
use candle_core::{CudaDevice, DType, Storage, Tensor, op::BackpropOp};
use cudarc::driver::sys::CUresult;
use cudarc::driver::{CudaSlice, CudaStream, DevicePtr};

use super::backbone::{Backbone, compute_error};
use super::lookup::{EmbeddingLookup, add_token_type};
use crate::device::Precision;
use crate::kernels::cuda::{
    Address, AttentionTiles, Buffer, CudaError, Element, EmbeddingInputs, GemmShape, Norm, Pooled, Product,
    Products, Program, Shape, Staging,
};
use crate::kernels::gpu::encoder_tiles::Tiles;
use crate::models::checkpoint::encoder_config::EncoderConfig;
use crate::models::weights::Weights;
use crate::models::{ComputeError, Pooling};

/// An encoder with its weights on the device.
pub(crate) struct CudaEncoder {
    device: CudaDevice,
    stream: Arc<CudaStream>,
    program: Program,
    products: Products,
    lookup: EmbeddingLookup,
    token_embeddings: Address,
    /// Position embeddings of both token types, in f32.
    positions: Address,
    norm: Norm,
    layers: Vec<Layer>,
    inner: usize,
    /// Owners of the memory that the addresses above point to.
    _weights: Vec<Tensor>,
    /// Buffers of earlier forward passes, as many as ever ran at the same time.
    buffers: Mutex<Vec<Buffers>>,
    /// Held while a pass is enqueued, so that passes of two threads do not interleave.
    enqueue_lock: Mutex<()>,
}

struct Layer {
    qkv: Product,
    o_proj: Product,
    attention_norm: Norm,
    up: Product,
    down: Product,
    output_norm: Norm,
}

/// Device memory and staging buffers of one forward pass.
struct Buffers {
    batch: Buffer,
    hidden: Buffer,
    sum: Buffer,
    qkv_or_inner: Buffer,
    attention_out: Buffer,
    vectors: Buffer,
    up: Staging,
    down: Staging,
}

/// Reads weights onto the device in the chosen type, and owns them until the encoder does.
struct Loader<'a> {
    weights: &'a mut Weights,
    kind: DType,
    stream: Arc<CudaStream>,
    held: Vec<Tensor>,
    epsilon: f32,
}

impl CudaEncoder {
    /// Returns true if the kernels support a network of this shape.
    pub(crate) fn supports(config: &EncoderConfig) -> bool {
        shape(config, Element::Bf16).fits() && config.intermediate_size.is_multiple_of(8)
    }

    /// Reads the weights of the encoder onto the device, tensor by tensor, and compiles the
    /// kernels.
    ///
    /// # Errors
    /// Names the tensor that is missing or has another shape. Also if the kernels do not compile or
    /// the device fails.
    pub(crate) fn load(config: &EncoderConfig, weights: &mut Weights, precision: Precision) -> Result<Self> {
        let (element, kind) = match precision {
            Precision::F32 => (Element::F32, DType::F32),
            Precision::F16 => (Element::F16, DType::F16),
            Precision::Bf16 | Precision::Auto => (Element::Bf16, DType::BF16),
        };
        let device = weights.device().as_cuda_device()?.clone();
        let stream = device.cuda_stream();
        let program = Program::compile(&stream, shape(config, element))?;
        let products = Products::new(&stream, element)?;
        let epsilon = config.layer_norm_eps as f32;
        let mut loader = Loader { weights, kind, stream: Arc::clone(&stream), held: Vec::new(), epsilon };
        let hidden = config.hidden_size;
        let embeddings = loader.tensor("embeddings.word_embeddings.weight", &[config.vocab_size, hidden])?;
        let token_embeddings = loader.hold(embeddings, kind)?;
        let positions = loader.positions(config)?;
        let norm = loader.norm("embeddings.LayerNorm", hidden)?;
        let layers = (0..config.num_hidden_layers)
            .map(|index| Layer::load(config, &mut loader, &products, &format!("encoder.layer.{index}")))
            .collect::<Result<Vec<_>>>()?;
        let held = loader.held;
        // An error of the uploads is reported here and not by the first request.
        stream.synchronize()?;
        let (free, _) = stream.context().mem_get_info()?;
        tracing::info!(memory.free_mib = free >> 20, precision = ?element, "weights on the device");
        Ok(Self {
            device,
            stream,
            program,
            products,
            lookup: EmbeddingLookup::new(config),
            token_embeddings,
            positions,
            norm,
            layers,
            inner: config.intermediate_size,
            _weights: held,
            buffers: Mutex::default(),
            enqueue_lock: Mutex::default(),
        })
    }

    /// Enqueues a forward pass and, after it, `work` on the hidden states; then lets `take` wait
    /// for the result. Only enqueueing is serialised: while one thread waits, the next pass is
    /// already on the stream.
    fn with_states<T>(
        &self,
        rows: &[&[u32]],
        work: impl FnOnce(&Tiles, Address, &mut Buffers) -> Result<(), CudaError>,
        take: impl FnOnce(&Tiles, &mut Buffers) -> Result<T, CudaError>,
    ) -> Result<T, ComputeError> {
        let places = self.lookup.places(rows)?;
        let lengths: Vec<usize> = rows.iter().map(|row| row.len()).collect();
        let table = places.iter().map(|place| (place.token as u32, place.position as u32));
        let tiles = Tiles::cut(table, &lengths, self.program.queries());
        let pooled = self.buffers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut buffers = pooled.unwrap_or_else(|| Buffers::new(&self.stream));
        let enqueue = |buffers: &mut Buffers| {
            // The driver has one current context per thread, and passes come from several threads.
            self.stream.context().bind_to_thread()?;
            let _lock = self.enqueue_lock.lock().unwrap_or_else(PoisonError::into_inner);
            let states = self.forward(&tiles, buffers)?;
            work(&tiles, states, buffers)
        };
        let done = enqueue(&mut buffers).and_then(|()| take(&tiles, &mut buffers)).map_err(device_error)?;
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner).push(buffers);
        Ok(done)
    }

    /// Enqueues a forward pass. Returns the address of its hidden states, tokens × width.
    fn forward(&self, tiles: &Tiles, buffers: &mut Buffers) -> Result<Address, CudaError> {
        let (program, products, stream) = (&self.program, &self.products, &self.stream);
        let (width, rows) = (program.shape().width(), tiles.tokens());
        let of = |columns: usize| rows * columns * program.shape().element.bytes();
        let batch = buffers.batch.reserve(stream, size_of_val(tiles.words()))?;
        let hidden = buffers.hidden.reserve(stream, of(width))?;
        let sum = buffers.sum.reserve(stream, of(width))?;
        let qkv_or_inner = buffers.qkv_or_inner.reserve(stream, of(self.inner.max(3 * width)))?;
        let attention_out = buffers.attention_out.reserve(stream, of(width))?;
        // Ids, positions, attention tiles and row starts, all in one copy.
        buffers.up.upload(tiles.words(), batch)?;
        let parts = tiles.parts();
        let at = |part: usize| batch + (part * size_of::<u32>()) as Address;
        let inputs = EmbeddingInputs {
            ids: at(parts.ids),
            places: at(parts.places),
            words: self.token_embeddings,
            positions: self.positions,
        };
        program.embed(&inputs, rows, &self.norm, hidden)?;
        let attention_tiles = AttentionTiles {
            slots: at(parts.slots),
            short: tiles.short(),
            tiles: at(parts.tiles),
            long: tiles.long(),
        };
        for layer in &self.layers {
            products.multiply(&layer.qkv, hidden, rows, None, qkv_or_inner)?;
            program.attend(qkv_or_inner, attention_tiles, attention_out)?;
            products.multiply(&layer.o_proj, attention_out, rows, Some(hidden), sum)?;
            program.layer_norm(sum, rows, &layer.attention_norm, hidden)?;
            products.multiply(&layer.up, hidden, rows, None, qkv_or_inner)?;
            program.activate(qkv_or_inner, rows * self.inner)?;
            products.multiply(&layer.down, qkv_or_inner, rows, Some(hidden), sum)?;
            program.layer_norm(sum, rows, &layer.output_norm, hidden)?;
        }
        Ok(hidden)
    }

    /// Uninitialised memory for `count` numbers in f32.
    #[allow(unsafe_code, reason = "memory is left unset, to be written by the kernel that is launched next")]
    fn uninitialised(&self, count: usize) -> candle_core::Result<(CudaSlice<f32>, Address)> {
        // SAFETY: every reader comes after the kernel on the one stream.
        let slice = unsafe { self.device.alloc::<f32>(count)? };
        let address = slice.device_ptr(&self.stream).0;
        Ok((slice, address))
    }
}

impl Backbone for CudaEncoder {
    fn hidden(&self, rows: &[&[u32]]) -> Result<Tensor, ComputeError> {
        let width = self.program.shape().width();
        let count: usize = rows.iter().map(|row| row.len()).sum();
        let (states, to) = self.uninitialised((count * width).max(1)).map_err(compute_error)?;
        if count > 0 {
            let widen = |_: &Tiles, from, _: &mut Buffers| self.program.widen(from, count * width, to);
            self.with_states(rows, widen, |_, _| Ok(()))?;
        }
        let storage = Storage::Cuda(CudaStorage::wrap_cuda_slice(states, self.device.clone()));
        Ok(Tensor::from_storage(storage, (count, width), BackpropOp::none(), false))
    }

    fn pooled(&self, rows: &[&[u32]], pooling: Pooling) -> Result<Option<Vec<Vec<f32>>>, ComputeError> {
        let width = self.program.shape().width();
        let how = match pooling {
            Pooling::Mean => Pooled::Mean,
            Pooling::Cls => Pooled::First,
            Pooling::Last => Pooled::Last,
            Pooling::Max => Pooled::Largest,
            Pooling::MeanSqrtLen => Pooled::MeanSqrtLen,
            Pooling::WeightedMean => Pooled::WeightedMean,
        };
        if rows.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let pool = |tiles: &Tiles, states, buffers: &mut Buffers| {
            let starts = (tiles.parts().starts * size_of::<u32>()) as Address;
            let starts = buffers.batch.reserve(&self.stream, 0)? + starts;
            let count = tiles.texts() * width;
            let to = buffers.vectors.reserve(&self.stream, count * size_of::<f32>())?;
            self.program.pool(states, starts, tiles.texts(), how, to)?;
            buffers.down.download(to, count)
        };
        let vectors = self.with_states(rows, pool, |tiles, buffers| {
            let vectors = buffers.down.numbers(tiles.texts() * width)?;
            Ok(vectors.chunks_exact(width).map(<[f32]>::to_vec).collect())
        })?;
        Ok(Some(vectors))
    }

    fn weight_bytes(&self, parameters: u64) -> u64 {
        parameters * self.program.shape().element.bytes() as u64
    }
}

impl Buffers {
    fn new(stream: &Arc<CudaStream>) -> Self {
        Self {
            batch: Buffer::default(),
            hidden: Buffer::default(),
            sum: Buffer::default(),
            qkv_or_inner: Buffer::default(),
            attention_out: Buffer::default(),
            vectors: Buffer::default(),
            up: Staging::new(stream),
            down: Staging::new(stream),
        }
    }
}

impl Layer {
    fn load(config: &EncoderConfig, loader: &mut Loader<'_>, products: &Products, at: &str) -> Result<Self> {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let parts = ["query", "key", "value"].map(|part| format!("{at}.attention.self.{part}"));
        let mut product = |names: &[String], shape| loader.product(products, names, shape);
        let qkv = product(&parts, [hidden, hidden])?;
        let o_proj = product(&[format!("{at}.attention.output.dense")], [hidden, hidden])?;
        let up = product(&[format!("{at}.intermediate.dense")], [hidden, inner])?;
        let down = product(&[format!("{at}.output.dense")], [inner, hidden])?;
        Ok(Self {
            qkv,
            o_proj,
            attention_norm: loader.norm(&format!("{at}.attention.output.LayerNorm"), hidden)?,
            up,
            down,
            output_norm: loader.norm(&format!("{at}.output.LayerNorm"), hidden)?,
        })
    }
}

impl Loader<'_> {
    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Tensor> {
        self.weights.encoder(name, shape)
    }

    /// Keeps a tensor alive as long as the encoder. Returns its address.
    fn hold(&mut self, tensor: Tensor, kind: DType) -> Result<Address> {
        let tensor = tensor.to_dtype(kind)?.contiguous()?;
        let address = address(&tensor, &self.stream)?;
        self.held.push(tensor);
        Ok(address)
    }

    /// Position embeddings with those of token type 0 added, followed by the same with type 1.
    fn positions(&mut self, config: &EncoderConfig) -> Result<Address> {
        let (hidden, rows) = (config.hidden_size, config.max_position_embeddings);
        let shape = [rows, hidden];
        let name = "embeddings.position_embeddings.weight";
        let mut positions: Vec<f32> = self.tensor(name, &shape)?.flatten_all()?.to_vec1()?;
        if config.type_vocab_size > 0 {
            let shape = [config.type_vocab_size, hidden];
            let types = self.tensor("embeddings.token_type_embeddings.weight", &shape)?;
            let types: Vec<f32> = types.flatten_all()?.to_vec1()?;
            let types = types.chunks_exact(hidden).take(2);
            positions = types.flat_map(|kind| add_token_type(&positions, kind)).collect();
        }
        let shape = (positions.len() / hidden, hidden);
        let positions = Tensor::from_vec(positions, shape, self.weights.device())?;
        self.hold(positions, DType::F32)
    }

    fn norm(&mut self, at: &str, width: usize) -> Result<Norm> {
        let [scale, shift] = ["weight", "bias"].map(|half| self.tensor(&format!("{at}.{half}"), &[width]));
        let (scale, shift) = (self.hold(scale?, DType::F32)?, self.hold(shift?, DType::F32)?);
        Ok(Norm { scale, shift, epsilon: self.epsilon })
    }

    /// The linear layers of these names stacked into one, each inputs × outputs.
    fn product(
        &mut self,
        products: &Products,
        names: &[String],
        [inputs, outputs]: [usize; 2],
    ) -> Result<Product> {
        let (mut weights, mut biases) = (Vec::new(), Vec::new());
        for name in names {
            weights.push(self.tensor(&format!("{name}.weight"), &[outputs, inputs])?.to_dtype(self.kind)?);
            biases.push(self.tensor(&format!("{name}.bias"), &[outputs])?.to_dtype(self.kind)?);
        }
        let weight = self.hold(Tensor::cat(&weights, 0)?, self.kind)?;
        let bias = self.hold(Tensor::cat(&biases, 0)?, self.kind)?;
        let shape = GemmShape { inputs, outputs: names.len() * outputs, result: products.element() };
        Ok(products.product(weight, Some(bias), shape)?)
    }
}

fn shape(config: &EncoderConfig, element: Element) -> Shape {
    let heads = config.num_attention_heads;
    let head = config.hidden_size / heads;
    Shape { heads, head, activation: config.hidden_act.kernel(), element }
}

/// Device address of a contiguous tensor.
fn address(tensor: &Tensor, stream: &CudaStream) -> Result<Address> {
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cuda(storage) = &*storage else { anyhow::bail!("a weight is not on the device") };
    let start = layout.contiguous_offsets().context("a weight is not contiguous")?.0;
    let begin = match &storage.slice {
        CudaStorageSlice::BF16(slice) => slice.device_ptr(stream).0,
        CudaStorageSlice::F16(slice) => slice.device_ptr(stream).0,
        CudaStorageSlice::F32(slice) => slice.device_ptr(stream).0,
        _ => anyhow::bail!("a weight is neither bf16, f16 nor f32"),
    };
    let address = begin + (start * tensor.dtype().size_in_bytes()) as Address;
    ensure!(address.is_multiple_of(16), "a weight is not aligned to 16 bytes");
    Ok(address)
}

/// Classifies an error of the driver: any but a lack of memory has invalidated the context.
fn device_error(error: CudaError) -> ComputeError {
    match &error {
        CudaError::Driver(cause) if cause.0 == CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
            ComputeError::OutOfMemory(error.to_string())
        }
        CudaError::Driver(_) => ComputeError::DeviceLost(error.to_string()),
        _ => ComputeError::Failed(error.to_string()),
    }
}
