//! The kernels, compiled for one shape.

use std::sync::Arc;

use cudarc::driver::sys::{CUdevice_attribute, CUfunction_attribute};
use cudarc::driver::{CudaFunction, CudaStream, LaunchConfig, PushKernelArg};
use cudarc::nvrtc::{CompileError, CompileOptions, compile_ptx_with_opts};

use super::{Address, CudaError, Element};
use crate::kernels::gpu::{Source, activation_number};
use crate::kernels::math::Activation;
use crate::kernels::tiles;

/// Values that a thread moves at a time: widths and sizes of heads are multiples of it.
const VECTOR: usize = 8;
/// Vectors of a row that a block of `pool` sums up.
const POOLED: usize = 32;
/// Rows that a block of `embed` and `layer_norm` works on.
const ROWS: usize = 4;
/// Blocks of the kernels that work on all values alike, at most.
const BLOCKS: usize = 132 * 16;

/// What the kernels are compiled for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shape {
    /// Heads of the attention.
    pub heads: usize,
    /// Values of a head, a multiple of 8 up to 128.
    pub head: usize,
    /// Activation between the halves of a feed-forward block.
    pub activation: Activation,
    /// How weights and activations are held.
    pub element: Element,
}

impl Shape {
    /// Width of a token vector.
    pub fn width(&self) -> usize {
        self.heads * self.head
    }

    /// Whether there are kernels for it.
    pub fn fits(&self) -> bool {
        self.head.is_multiple_of(VECTOR) && self.head <= 128
    }
}

/// How the rows of a text become one, as `pool` in `layers.cu` numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Pooled {
    /// The mean of the rows.
    Mean = 0,
    /// The first row.
    First = 1,
    /// The last row.
    Last = 2,
    /// The largest value of each column.
    Largest = 3,
    /// The sum of the rows over the root of their number.
    MeanSqrtLen = 4,
    /// The mean of the rows with weights 1, 2, 3, …
    WeightedMean = 5,
}

/// Scale and shift, f32 on the device, and what is added to the variance.
#[derive(Debug, Clone, Copy)]
pub struct Norm {
    /// Address of the scales.
    pub scale: Address,
    /// Address of the shifts.
    pub shift: Address,
    /// Added to the variance.
    pub epsilon: f32,
}

/// Compiled kernels on a stream.
#[derive(Debug)]
pub struct Program {
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
    /// Compiles the kernels for a shape that fits, for the device of the stream.
    ///
    /// # Errors
    /// What the compiler or the driver has against it.
    pub fn compile(stream: &Arc<CudaStream>, shape: Shape) -> Result<Self, CudaError> {
        let context = stream.context();
        let (major, minor) = context.compute_capability()?;
        let defines =
            [("ELEMENT", shape.element as usize), ("ACTIVATION", activation_number(shape.activation))];
        let options = |more: &[(&str, usize)]| CompileOptions {
            options: [format!("--gpu-architecture=compute_{major}{minor}"), "--std=c++17".to_owned()]
                .into_iter()
                .chain(defines.iter().chain(more).map(|(name, value)| format!("-D{name}={value}")))
                .collect(),
            ..CompileOptions::default()
        };
        let load = |source: Source, more: &[(&str, usize)]| {
            let text = compile_ptx_with_opts(source.text(), options(more)).map_err(refused)?;
            Ok::<_, CudaError>(context.load_module(text)?)
        };
        let layers = load(Source::Layers, &[("WIDTH", shape.width())])?;
        let attention = load(Source::Attention, &[("HEADS", shape.heads), ("HEAD", shape.head)])?;
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

    /// Multiprocessors and bytes of memory of the stream's device.
    ///
    /// # Errors
    /// If the driver does not say.
    pub fn device(stream: &CudaStream) -> Result<(usize, usize), CudaError> {
        let context = stream.context();
        let count = context.attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
        Ok((count as usize, context.total_mem()?))
    }

    /// The shape it was compiled for.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// `to` = norm(words[id] + positions[place]) for each row; `positions` are f32.
    ///
    /// # Errors
    /// If the driver refuses.
    pub fn embed(
        &self,
        [ids, places]: [Address; 2],
        rows: usize,
        [words, positions]: [Address; 2],
        norm: &Norm,
        to: Address,
    ) -> Result<(), CudaError> {
        let count = rows as u32;
        let Norm { scale, shift, epsilon } = norm;
        let mut launch = self.stream.launch_builder(&self.embed);
        launch.arg(&ids).arg(&places).arg(&count).arg(&words).arg(&positions);
        launch.arg(scale).arg(shift).arg(epsilon).arg(&to);
        start(&mut launch, grid(rows.div_ceil(ROWS), 1, 128, 0))
    }

    /// `to` = norm(from), row by row.
    ///
    /// # Errors
    /// If the driver refuses.
    pub fn layer_norm(&self, from: Address, rows: usize, norm: &Norm, to: Address) -> Result<(), CudaError> {
        let count = rows as u32;
        let Norm { scale, shift, epsilon } = norm;
        let mut launch = self.stream.launch_builder(&self.layer_norm);
        launch.arg(&from).arg(&count).arg(scale).arg(shift).arg(epsilon).arg(&to);
        start(&mut launch, grid(rows.div_ceil(ROWS), 1, 128, 0))
    }

    /// The activation of so many values, in place.
    ///
    /// # Errors
    /// If the driver refuses.
    pub fn activate(&self, values: Address, count: usize) -> Result<(), CudaError> {
        let mut launch = self.stream.launch_builder(&self.activate);
        launch.arg(&values).arg(&count);
        start(&mut launch, grid(count.div_ceil(VECTOR * 256).min(BLOCKS), 1, 256, 0))
    }

    /// So many values as f32.
    ///
    /// # Errors
    /// If the driver refuses.
    pub fn widen(&self, from: Address, count: usize, to: Address) -> Result<(), CudaError> {
        let mut launch = self.stream.launch_builder(&self.widen);
        launch.arg(&from).arg(&count).arg(&to);
        start(&mut launch, grid(count.div_ceil(VECTOR * 256).min(BLOCKS), 1, 256, 0))
    }

    /// One vector of f32 per text from the rows between its start and the next.
    ///
    /// # Errors
    /// If the driver refuses.
    pub fn pool(
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

    /// Attention of the texts of so many tiles of [`tiles::Tiles`], short and long ones.
    ///
    /// # Errors
    /// If the driver refuses.
    pub fn attend(
        &self,
        qkv: Address,
        [slots, tiles]: [Address; 2],
        [short, long]: [usize; 2],
        to: Address,
    ) -> Result<(), CudaError> {
        for (function, list, count, parts) in
            [(&self.attend_short, slots, short, 3), (&self.attend_long, tiles, long, 4)]
        {
            if count > 0 {
                let mut launch = self.stream.launch_builder(function);
                launch.arg(&qkv).arg(&list).arg(&to);
                start(&mut launch, grid(self.shape.heads, count, 128, shared(self.shape, parts)))?;
            }
        }
        Ok(())
    }

    /// Queries of a longer text in one tile.
    pub fn queries(&self) -> usize {
        tiles::queries(self.shape.head)
    }
}

/// Bytes of so many tiles of 64 rows in the shared memory of `attention.cu`.
fn shared(shape: Shape, tiles: usize) -> usize {
    if shape.element == Element::F32 {
        return 0;
    }
    tiles * 64 * (shape.head.next_multiple_of(16) + VECTOR) * shape.element.bytes()
}

fn grid(x: usize, y: usize, threads: u32, shared: usize) -> LaunchConfig {
    LaunchConfig {
        grid_dim: (x as u32, y as u32, 1),
        block_dim: (threads, 1, 1),
        shared_mem_bytes: shared as u32,
    }
}

#[allow(unsafe_code, reason = "kernels work on addresses")]
fn start(launch: &mut cudarc::driver::LaunchArgs<'_>, config: LaunchConfig) -> Result<(), CudaError> {
    // SAFETY: every launch above passes what its kernel declares; the addresses are those of
    // buffers that the caller made large enough and keeps until the stream is through.
    unsafe { launch.launch(config)? };
    Ok(())
}

pub(super) fn refused(error: CompileError) -> CudaError {
    CudaError::Compiler(match error {
        CompileError::CompileError { log, .. } => log.to_string_lossy().into_owned(),
        other => other.to_string(),
    })
}
