//! The kernels of encoders, compiled for one shape, and their launches.
//!
//! Sources are `layers.cu` and `attention.cu`. Every method enqueues one launch on the stream;
//! shapes that the kernels do not support are refused by [`Shape::fits`].

use std::sync::Arc;

use cudarc::driver::sys::CUfunction_attribute;
use cudarc::driver::{CudaFunction, CudaStream, LaunchConfig, PushKernelArg};

use super::error::CudaError;
use super::nvrtc;
use crate::kernels::gpu::{Address, Element, Source, activation_number, encoder_tiles};
use crate::kernels::math::Activation;

/// Values that a thread moves at a time, VECTOR of `element.cu`: 16 bytes of 16-bit elements.
/// Widths and head sizes are multiples of it.
const VECTOR: usize = 8;
/// Vectors of a row that a block of `pool` sums up; POOLED of `layers.cu`.
const POOLED: usize = 32;
/// Rows that a block of `embed` and `layer_norm` works on: one for each of its 4 warps.
const ROWS: usize = 4;
/// Largest grid of the element-wise kernels: 16 blocks for each of the 132 multiprocessors of an
/// H100 or H200; their threads loop over what is left.
const BLOCKS: usize = 132 * 16;

/// Shape of an encoder, which the kernels are compiled for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Shape {
    /// Number of attention heads.
    pub(crate) heads: usize,
    /// Size of a head, a multiple of 8 up to 128.
    pub(crate) head: usize,
    /// Activation between the halves of a feed-forward block.
    pub(crate) activation: Activation,
    /// Element type of weights and activations.
    pub(crate) element: Element,
}

impl Shape {
    /// Width of a hidden state.
    pub(crate) fn width(&self) -> usize {
        self.heads * self.head
    }

    /// Returns true if the kernels support the shape.
    pub(crate) fn fits(&self) -> bool {
        self.head.is_multiple_of(VECTOR) && self.head <= 128
    }
}

/// Pooling of the states of a text into one vector, as `pool` in `layers.cu` numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Pooled {
    /// The mean of the states.
    Mean = 0,
    /// The first state.
    First = 1,
    /// The last state.
    Last = 2,
    /// The largest value of each column.
    Largest = 3,
    /// The sum of the states, divided by the root of their number.
    MeanSqrtLen = 4,
    /// The mean of the states with weights 1, 2, 3, …
    WeightedMean = 5,
}

/// Weights of a layer norm; scale and shift are f32 on the device.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Norm {
    /// Address of the scales.
    pub(crate) scale: Address,
    /// Address of the shifts.
    pub(crate) shift: Address,
    /// ε, added to the variance.
    pub(crate) epsilon: f32,
}

/// Addresses of what `embed` reads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EmbeddingInputs {
    /// Row of each token in the token embeddings.
    pub(crate) ids: Address,
    /// Row of each token in the position embeddings.
    pub(crate) places: Address,
    /// Token embeddings.
    pub(crate) words: Address,
    /// Position embeddings, f32.
    pub(crate) positions: Address,
}

/// The attention tiles of a batch, see [`encoder_tiles::Tiles`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct AttentionTiles {
    /// Address of the slots of tiles of short texts.
    pub(crate) slots: Address,
    /// Number of tiles of short texts.
    pub(crate) short: usize,
    /// Address of the tiles of longer texts.
    pub(crate) tiles: Address,
    /// Number of tiles of longer texts.
    pub(crate) long: usize,
}

/// Compiled kernels on a stream.
#[derive(Debug)]
pub(crate) struct Program {
    stream: Arc<CudaStream>,
    shape: Shape,
    embed: CudaFunction,
    layer_norm: CudaFunction,
    activate: CudaFunction,
    widen: CudaFunction,
    pool: CudaFunction,
    attend_short: CudaFunction,
    attend_long: CudaFunction,
}

impl Program {
    /// Compiles the kernels for a shape that [fits](Shape::fits) and the device of the stream.
    ///
    /// # Errors
    /// If compilation fails, or the driver refuses.
    pub(crate) fn compile(stream: &Arc<CudaStream>, shape: Shape) -> Result<Self, CudaError> {
        let context = stream.context();
        let activation = ("ACTIVATION", activation_number(shape.activation).to_string());
        let width = ("WIDTH", shape.width().to_string());
        let layers = nvrtc::load(context, Source::Layers, shape.element, &[activation, width])?;
        let heads = [("HEADS", shape.heads.to_string()), ("HEAD", shape.head.to_string())];
        let attention = nvrtc::load(context, Source::Attention, shape.element, &heads)?;
        let (attend_short, attend_long) =
            (attention.load_function("attend_short")?, attention.load_function("attend_long")?);
        for (function, bytes) in [(&attend_short, shared(shape, 3)), (&attend_long, shared(shape, 4))] {
            let attribute = CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            function.set_attribute(attribute, bytes as i32)?;
        }
        Ok(Self {
            stream: Arc::clone(stream),
            shape,
            embed: layers.load_function("embed")?,
            layer_norm: layers.load_function("layer_norm")?,
            activate: layers.load_function("activate")?,
            widen: layers.load_function("widen")?,
            pool: layers.load_function("pool")?,
            attend_short,
            attend_long,
        })
    }

    /// The shape that the kernels were compiled for.
    pub(crate) fn shape(&self) -> &Shape {
        &self.shape
    }

    /// `to` = norm(words[id] + positions[place]) for each of `rows` tokens.
    ///
    /// # Errors
    /// If the driver refuses.
    pub(crate) fn embed(
        &self,
        inputs: &EmbeddingInputs,
        rows: usize,
        norm: &Norm,
        to: Address,
    ) -> Result<(), CudaError> {
        let count = rows as u32;
        let EmbeddingInputs { ids, places, words, positions } = inputs;
        let Norm { scale, shift, epsilon } = norm;
        let mut launch = self.stream.launch_builder(&self.embed);
        launch.arg(ids).arg(places).arg(&count).arg(words).arg(positions);
        launch.arg(scale).arg(shift).arg(epsilon).arg(&to);
        start(&mut launch, grid(rows.div_ceil(ROWS), 1, 128, 0))
    }

    /// `to` = norm(from), row by row.
    ///
    /// # Errors
    /// If the driver refuses.
    pub(crate) fn layer_norm(
        &self,
        from: Address,
        rows: usize,
        norm: &Norm,
        to: Address,
    ) -> Result<(), CudaError> {
        let count = rows as u32;
        let Norm { scale, shift, epsilon } = norm;
        let mut launch = self.stream.launch_builder(&self.layer_norm);
        launch.arg(&from).arg(&count).arg(scale).arg(shift).arg(epsilon).arg(&to);
        start(&mut launch, grid(rows.div_ceil(ROWS), 1, 128, 0))
    }

    /// Applies the activation to `count` values in place.
    ///
    /// # Errors
    /// If the driver refuses.
    pub(crate) fn activate(&self, values: Address, count: usize) -> Result<(), CudaError> {
        let mut launch = self.stream.launch_builder(&self.activate);
        launch.arg(&values).arg(&count);
        start(&mut launch, grid(count.div_ceil(VECTOR * 256).min(BLOCKS), 1, 256, 0))
    }

    /// Converts `count` values to f32.
    ///
    /// # Errors
    /// If the driver refuses.
    pub(crate) fn widen(&self, from: Address, count: usize, to: Address) -> Result<(), CudaError> {
        let mut launch = self.stream.launch_builder(&self.widen);
        launch.arg(&from).arg(&count).arg(&to);
        start(&mut launch, grid(count.div_ceil(VECTOR * 256).min(BLOCKS), 1, 256, 0))
    }

    /// Pools each of `texts` texts into a vector of f32; `starts` are the first rows of the texts,
    /// then the number of rows.
    ///
    /// # Errors
    /// If the driver refuses.
    pub(crate) fn pool(
        &self,
        from: Address,
        starts: Address,
        texts: usize,
        how: Pooled,
        to: Address,
    ) -> Result<(), CudaError> {
        let how = how as u32;
        let mut launch = self.stream.launch_builder(&self.pool);
        launch.arg(&from).arg(&starts).arg(&how).arg(&to);
        let blocks = self.shape.width().div_ceil(VECTOR * POOLED);
        start(&mut launch, grid(texts, blocks, 256, 0))
    }

    /// Attention of all texts of a batch. A row of `qkv` is the queries, keys and values of a
    /// token.
    ///
    /// # Errors
    /// If the driver refuses.
    pub(crate) fn attend(
        &self,
        qkv: Address,
        AttentionTiles { slots, short, tiles, long }: AttentionTiles,
        to: Address,
    ) -> Result<(), CudaError> {
        // Short texts need queries, keys and values in shared memory; longer ones two stages of
        // keys and values, of which the second holds the queries at first.
        for (function, list, count, shared_tiles) in
            [(&self.attend_short, slots, short, 3), (&self.attend_long, tiles, long, 4)]
        {
            if count > 0 {
                let mut launch = self.stream.launch_builder(function);
                launch.arg(&qkv).arg(&list).arg(&to);
                start(&mut launch, grid(self.shape.heads, count, 128, shared(self.shape, shared_tiles)))?;
            }
        }
        Ok(())
    }

    /// Queries of a longer text in one tile.
    pub(crate) fn queries(&self) -> usize {
        encoder_tiles::queries(self.shape.head)
    }
}

/// Bytes of shared memory for `tiles` tiles of 64 rows, ROW of `online.cu` apart; the kernels for
/// f32 use none.
fn shared(shape: Shape, tiles: usize) -> usize {
    if shape.element == Element::F32 {
        return 0;
    }
    tiles * 64 * (shape.head.next_multiple_of(16) + VECTOR) * shape.element.bytes()
}

/// A grid of x × y blocks.
fn grid(x: usize, y: usize, threads: u32, shared: usize) -> LaunchConfig {
    LaunchConfig {
        grid_dim: (x as u32, y as u32, 1),
        block_dim: (threads, 1, 1),
        shared_mem_bytes: shared as u32,
    }
}

/// Launches a kernel with its arguments.
#[allow(unsafe_code, reason = "kernels work on addresses")]
fn start(launch: &mut cudarc::driver::LaunchArgs<'_>, config: LaunchConfig) -> Result<(), CudaError> {
    // SAFETY: every launch above passes the arguments that its kernel declares, in order and type.
    // The addresses are those of buffers that the caller made large enough, and keeps until the
    // stream has run the kernel.
    unsafe { launch.launch(config)? };
    Ok(())
}
