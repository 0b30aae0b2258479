//! Linear layers of a decoder on the device: dense or quantised weights, by two kinds of products.
//!
//! Decode rows are few, and reading the weights once takes most of the time: our own kernels
//! (`gemv`, source `cuda/product.cu`) multiply the weights in the format of the file. Prefill rows
//! are many, and arithmetic takes most of the time: the library's products (`gemm`) on weights that
//! were dequantised just before. Each kind gives a row the same bits in any batch.

use std::collections::HashMap;

use anyhow::Result;

use crate::kernels::gpu::memory::{Buffer, upload};
use crate::kernels::gpu::{
    Address, Argument, Element, Entry, GemmOperands, GemmShape, Gpu, GpuError, Kernel, Source,
};
use crate::kernels::quant::{IntLayout, SecondScale, TILE_OUTPUTS, pack_gpu_tiles};
use crate::models::decoder::source::StoredMatrix;

/// Operation on a product before it is stored; `cuda/product.cu` has the same numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Epilogue {
    /// Stores elements.
    Elements = 0,
    /// Adds to the f32 that are stored there.
    AddF32 = 1,
    /// Stores act(gate) · up, elements of half the width.
    Gated = 2,
    /// Stores f32.
    F32 = 3,
}

/// Kernels for decode rows: rows that a thread block computes together, and the kernel's name.
const GEMV_KERNELS: [(usize, &str); 4] =
    [(8, "multiply_8"), (16, "multiply_16"), (32, "multiply_32"), (64, "multiply_64")];
/// Number of them that `cuda/product.cu` has for f32.
const GEMV_KERNELS_F32: usize = 2;

/// Inputs of a tile of quantised weights; see `cuda/product.cu`.
const TILE_INPUTS: usize = 32;
/// Tiles that a thread block of `spread` dequantises, one by each of its warps.
const TILES_PER_BLOCK: usize = 8;

/// Kernels for weights of one format.
#[derive(Debug, Clone)]
struct LinearKernels {
    gemv: Vec<(usize, Kernel)>,
    /// `None` for dense weights.
    dequantise: Option<Kernel>,
}

/// Products of linear layers: their kernels by weight format, and scratch space for dequantised
/// weights.
#[derive(Debug)]
pub(super) struct LinearOps {
    activation: usize,
    kernels: HashMap<Option<IntLayout>, LinearKernels>,
    dequantised: Buffer,
    /// Elements of the largest layer that is not dense.
    dequantised_elements: usize,
}

/// Neighbouring outputs of a layer whose weights have one format.
#[derive(Debug)]
struct Part {
    /// Format of quantised weights; `None` for dense ones.
    grain: Option<IntLayout>,
    weights: Address,
    /// 0 for dense weights.
    scales: Address,
    /// Index of its first output in the layer.
    first: usize,
    outputs: usize,
}

/// A linear layer.
#[derive(Debug)]
pub(super) struct Linear {
    parts: Vec<Part>,
    inputs: usize,
    outputs: usize,
}

/// Rows of activations that are multiplied.
#[derive(Debug, Clone, Copy)]
pub(super) struct InputRows {
    pub(super) address: Address,
    /// Rows that the launch is sized for.
    pub(super) launched: usize,
    /// Address of the number of rows. A recorded launch reads it, so that it serves any number of
    /// rows up to `launched`. Only `gemv` needs it.
    pub(super) count: Address,
}

/// Destination of a product.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target {
    pub(super) epilogue: Epilogue,
    pub(super) address: Address,
    /// Columns of a stored row.
    pub(super) columns: usize,
}

impl Target {
    /// The same destination from a later row on.
    pub(super) fn starting_at(self, row: usize, element: Element) -> Self {
        let bytes = row * self.columns * self.epilogue.stored_as(element).bytes();
        Self { address: self.address + bytes as Address, ..self }
    }
}

impl Epilogue {
    fn stored_as(self, element: Element) -> Element {
        match self {
            Self::Elements | Self::Gated => element,
            Self::AddF32 | Self::F32 => Element::F32,
        }
    }
}

impl LinearOps {
    /// No kernels are compiled yet; `activation` is its number in `cuda/activation.cu`.
    pub(super) fn new(activation: usize) -> Self {
        let (kernels, dequantised) = (HashMap::new(), Buffer::default());
        Self { activation, kernels, dequantised, dequantised_elements: 0 }
    }

    /// Compiles the kernels for a weight format, once.
    fn compile<G: Gpu>(&mut self, gpu: &mut G, grain: Option<IntLayout>) -> Result<(), GpuError> {
        if self.kernels.contains_key(&grain) {
            return Ok(());
        }
        let count = if gpu.element() == Element::F32 { GEMV_KERNELS_F32 } else { GEMV_KERNELS.len() };
        let mut entries: Vec<Entry> =
            GEMV_KERNELS[..count].iter().map(|(_, name)| Entry { name, threads: 256, shared: 0 }).collect();
        if grain.is_some() {
            entries.push(Entry { name: "dequantise", threads: 256, shared: 0 });
        }
        // A format is compiled in as constants, so that unpacking costs a few instructions.
        let (bits, second, offset) =
            grain.map_or((0, SecondScale::None, 0), |grain| (grain.bits, grain.second, grain.offset));
        let defines = [
            ("ACTIVATION", self.activation.to_string()),
            ("BITS", bits.to_string()),
            ("SECOND", (second as usize).to_string()),
            ("OFFSET", format!("{offset}.0f")),
        ];
        let kernels = gpu.compile(Source::Product, &defines, &entries)?;
        let rows = GEMV_KERNELS.iter().map(|(rows, _)| *rows);
        let gemv = rows.zip(kernels.iter().copied()).take(count).collect();
        let dequantise = kernels.get(count).copied();
        self.kernels.insert(grain, LinearKernels { gemv, dequantise });
        Ok(())
    }

    /// Uploads matrices with their outputs, concatenated into one layer.
    pub(super) fn layer<G: Gpu>(
        &mut self,
        gpu: &mut G,
        matrices: Vec<(StoredMatrix, usize)>,
        inputs: usize,
    ) -> Result<Linear> {
        let (mut parts, mut first) = (Vec::new(), 0);
        for (stored, outputs) in merge_neighbours(matrices) {
            let order: Vec<usize> = (0..outputs).collect();
            let part = self.upload_part(gpu, &stored, inputs, &order)?;
            parts.push(Part { first, ..part });
            first += outputs;
        }
        Ok(self.finish(parts, inputs, first))
    }

    /// Uploads a gate and an up projection of `width` outputs each as one layer, in which eight
    /// outputs of the gate alternate with eight of the other: so one tile of the product has what
    /// [`Epilogue::Gated`] needs.
    pub(super) fn gate_up<G: Gpu>(
        &mut self,
        gpu: &mut G,
        matrices: Vec<(StoredMatrix, usize)>,
        inputs: usize,
        width: usize,
    ) -> Result<Linear> {
        let mut all = merge_neighbours(matrices);
        if all.len() > 1 {
            // Rows of different formats cannot alternate.
            let numbers = all.iter().flat_map(|(stored, outputs)| stored.to_f32(outputs * inputs)).collect();
            all = vec![(StoredMatrix::Floats(numbers), 2 * width)];
        }
        let order: Vec<usize> = (0..2 * width)
            .map(|output| output / 16 * 8 + output % 8 + if output % 16 < 8 { 0 } else { width })
            .collect();
        let part = self.upload_part(gpu, &all[0].0, inputs, &order)?;
        Ok(self.finish(vec![part], inputs, 2 * width))
    }

    fn finish(&mut self, parts: Vec<Part>, inputs: usize, outputs: usize) -> Linear {
        let layer = Linear { parts, inputs, outputs };
        if !layer.is_dense() {
            self.dequantised_elements = self.dequantised_elements.max(inputs * outputs);
        }
        layer
    }

    /// Uploads the rows of a matrix in the given order.
    fn upload_part<G: Gpu>(
        &mut self,
        gpu: &mut G,
        stored: &StoredMatrix,
        inputs: usize,
        order: &[usize],
    ) -> Result<Part> {
        let outputs = order.len();
        let (grain, weights, scales) = match stored {
            StoredMatrix::Floats(numbers) => {
                let mut bytes = Vec::with_capacity(outputs * inputs * gpu.element().bytes());
                for row in order {
                    bytes.extend(gpu.element().encode(&numbers[row * inputs..][..inputs]));
                }
                // Dense weights have no scales, and kernels for them read none.
                (None, upload(gpu, &bytes)?, 0)
            }
            StoredMatrix::Blocks(format, bytes) => {
                let tiles = pack_gpu_tiles(*format, inputs, bytes, order)?;
                let scales: Vec<u8> = tiles.scales.iter().flat_map(|word| word.to_le_bytes()).collect();
                (IntLayout::of(*format), upload(gpu, &tiles.codes)?, upload(gpu, &scales)?)
            }
        };
        self.compile(gpu, grain)?;
        Ok(Part { grain, weights, scales, first: 0, outputs })
    }

    /// Multiplies decode rows, by the smallest kernel that takes all of them at once if there is
    /// one.
    pub(super) fn gemv<G: Gpu>(
        &self,
        gpu: &mut G,
        layer: &Linear,
        x: InputRows,
        target: Target,
    ) -> Result<(), GpuError> {
        let bytes = target.epilogue.stored_as(gpu.element()).bytes();
        for part in &layer.parts {
            let kernels = &self.kernels[&part.grain].gemv;
            // The largest one loops over row tiles if none takes all at once, and reads the weights
            // again for each.
            let fitting = kernels.iter().find(|(rows, _)| *rows >= x.launched).or(kernels.last());
            let Some((rows, kernel)) = fitting else { return Ok(()) };
            // A part stores its columns of every row; `columns` is the stride.
            let to = target.address + (part.first * bytes) as Address;
            let grid = [x.launched.div_ceil(*rows), part.outputs.div_ceil(TILE_OUTPUTS), 1];
            let arguments: [Argument; 9] = [
                part.weights.into(),
                part.scales.into(),
                layer.inputs.into(),
                part.outputs.into(),
                x.address.into(),
                x.count.into(),
                (target.epilogue as usize).into(),
                to.into(),
                target.columns.into(),
            ];
            gpu.launch(*kernel, grid, &arguments)?;
        }
        Ok(())
    }

    /// Multiplies prefill rows, exactly `x.launched`. [`Epilogue::Gated`] is not among the
    /// library's; a stored row is as wide as the layer.
    pub(super) fn gemm<G: Gpu>(
        &mut self,
        gpu: &mut G,
        layer: &Linear,
        x: InputRows,
        target: Target,
    ) -> Result<(), GpuError> {
        let element = gpu.element();
        // A dense layer is multiplied where it is; anything else is dequantised for each step.
        let mut weight = layer.parts[0].weights;
        if !layer.is_dense() {
            self.dequantised.reserve(gpu, self.dequantised_elements * element.bytes())?;
            weight = self.dequantised.address();
            for part in &layer.parts {
                self.dequantise(gpu, part, layer.inputs)?;
            }
        }
        let shape = GemmShape {
            inputs: layer.inputs,
            outputs: layer.outputs,
            result: target.epilogue.stored_as(element),
        };
        let addend = (target.epilogue == Epilogue::AddF32).then_some(target.address);
        let operands = GemmOperands { weight, bias: None, input: x.address, addend, output: target.address };
        gpu.multiply(shape, operands, x.launched)
    }

    /// Dequantises a part into its place in the scratch space.
    fn dequantise<G: Gpu>(&self, gpu: &mut G, part: &Part, inputs: usize) -> Result<(), GpuError> {
        let bytes = gpu.element().bytes();
        let to = self.dequantised.address() + (part.first * inputs * bytes) as Address;
        match self.kernels[&part.grain].dequantise {
            Some(kernel) => {
                let tiles = part.outputs.div_ceil(TILE_OUTPUTS) * (inputs / TILE_INPUTS);
                let arguments: [Argument; 5] =
                    [part.weights.into(), part.scales.into(), inputs.into(), part.outputs.into(), to.into()];
                gpu.launch(kernel, [tiles.div_ceil(TILES_PER_BLOCK), 1, 1], &arguments)
            }
            None => gpu.copy(part.weights, to, part.outputs * inputs * bytes),
        }
    }
}

impl Linear {
    /// Returns true if the weights are one dense matrix.
    fn is_dense(&self) -> bool {
        self.parts.len() == 1 && self.parts[0].grain.is_none()
    }

    /// Width of an input row.
    pub(super) fn inputs(&self) -> usize {
        self.inputs
    }

    /// Width of an output row.
    pub(super) fn outputs(&self) -> usize {
        self.outputs
    }
}

/// Merges neighbouring matrices of one format.
fn merge_neighbours(matrices: Vec<(StoredMatrix, usize)>) -> Vec<(StoredMatrix, usize)> {
    let mut all: Vec<(StoredMatrix, usize)> = Vec::new();
    for (stored, outputs) in matrices {
        match (all.last_mut(), stored) {
            (Some((StoredMatrix::Floats(before), count)), StoredMatrix::Floats(numbers)) => {
                before.extend(numbers);
                *count += outputs;
            }
            (Some((StoredMatrix::Blocks(format, before), count)), StoredMatrix::Blocks(other, bytes))
                if *format == other =>
            {
                before.extend(bytes);
                *count += outputs;
            }
            (_, stored) => all.push((stored, outputs)),
        }
    }
    all
}
