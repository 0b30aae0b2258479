//! The linear layers of a decoder on the device, in whatever form their weights are held.

use std::collections::HashMap;

use anyhow::Result;

use super::memory::{Buffer, upload};
use crate::kernels::gpu::{
    Address, Argument, Element, Entry, GemmOperands, GemmShape, Gpu, GpuError, Kernel, Source,
};
use crate::kernels::quant::{IntLayout, SecondScale, TILE_OUTPUTS, pack_gpu_tiles};
use crate::models::decoder::source::Stored;

/// What becomes of a product, as `cuda/product.cu` numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Elements.
    Elements = 0,
    /// Floats that are added to those that are there.
    Added = 1,
    /// act(gate) · up, elements of half the width.
    Gated = 2,
    /// Floats.
    Floats = 3,
}

/// Rows that one launch of a kernel takes together, and its name.
const ROWS: [(usize, &str); 4] =
    [(8, "multiply_8"), (16, "multiply_16"), (32, "multiply_32"), (64, "multiply_64")];

/// Kernels for weights of one kind.
#[derive(Debug, Clone)]
struct Kernels {
    multiply: Vec<(usize, Kernel)>,
    spread: Option<Kernel>,
}

/// The kernels that a model's layers need, and memory for weights that are spread out.
#[derive(Debug)]
pub(super) struct Products {
    activation: usize,
    kernels: HashMap<Option<IntLayout>, Kernels>,
    spread: Buffer,
    spread_bytes: usize,
}

/// Weights as they lie on the device.
#[derive(Debug)]
struct Part {
    grain: Option<IntLayout>,
    weights: Address,
    scales: Address,
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

/// Rows of activations: where they lie, how many there are at most, and where their number is
/// written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows {
    pub(super) at: Address,
    pub(super) most: usize,
    pub(super) count: Address,
}

/// Where a product goes: what becomes of it, the place of its first row, and the columns of a row
/// there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target {
    pub(super) outcome: Outcome,
    pub(super) at: Address,
    pub(super) columns: usize,
}

impl Target {
    /// The same from a later row on.
    pub(super) fn at_row(self, row: usize, element: Element) -> Self {
        let bytes = row * self.columns * self.outcome.result(element).bytes();
        Self { at: self.at + bytes as Address, ..self }
    }
}

impl Outcome {
    /// How the results are held.
    fn result(self, element: Element) -> Element {
        match self {
            Self::Elements | Self::Gated => element,
            Self::Added | Self::Floats => Element::F32,
        }
    }
}

impl Products {
    /// Without kernels yet; `activation` is its number in `cuda/activation.cu`.
    pub(super) fn new(activation: usize) -> Self {
        Self { activation, kernels: HashMap::new(), spread: Buffer::default(), spread_bytes: 0 }
    }

    fn prepare<G: Gpu>(&mut self, gpu: &mut G, grain: Option<IntLayout>) -> Result<(), GpuError> {
        if self.kernels.contains_key(&grain) {
            return Ok(());
        }
        let count = if gpu.element() == Element::F32 { 2 } else { ROWS.len() };
        let mut entries: Vec<Entry> =
            ROWS[..count].iter().map(|(_, name)| Entry { name, threads: 256, shared: 0 }).collect();
        if grain.is_some() {
            entries.push(Entry { name: "dequantise", threads: 256, shared: 0 });
        }
        let (bits, second, offset) =
            grain.map_or((0, SecondScale::None, 0), |grain| (grain.bits, grain.second, grain.offset));
        let defines = [
            ("ACTIVATION", self.activation.to_string()),
            ("BITS", bits.to_string()),
            ("SECOND", (second as usize).to_string()),
            ("OFFSET", format!("{offset}.0f")),
        ];
        let kernels = gpu.compile(Source::Product, &defines, &entries)?;
        let multiply = ROWS.iter().map(|(rows, _)| *rows).zip(kernels.iter().copied()).take(count).collect();
        let spread = kernels.get(count).copied();
        self.kernels.insert(grain, Kernels { multiply, spread });
        Ok(())
    }

    /// The layer with these matrices, one below the other.
    pub(super) fn layer<G: Gpu>(
        &mut self,
        gpu: &mut G,
        matrices: Vec<(Stored, usize)>,
        inputs: usize,
    ) -> Result<Linear> {
        let (mut parts, mut first) = (Vec::new(), 0);
        for (stored, outputs) in joined(matrices) {
            let order: Vec<usize> = (0..outputs).collect();
            let part = self.part(gpu, &stored, inputs, &order)?;
            parts.push(Part { first, ..part });
            first += outputs;
        }
        Ok(self.finished(parts, inputs, first))
    }

    /// The layer of a gate and what it opens, of `width` outputs each, eight of one and eight of
    /// the other in turns.
    pub(super) fn gates<G: Gpu>(
        &mut self,
        gpu: &mut G,
        matrices: Vec<(Stored, usize)>,
        inputs: usize,
        width: usize,
    ) -> Result<Linear> {
        let mut all = joined(matrices);
        if all.len() > 1 {
            // Formats that differ cannot lie in turns.
            let numbers = all.iter().flat_map(|(stored, outputs)| stored.numbers(outputs * inputs)).collect();
            all = vec![(Stored::Floats(numbers), 2 * width)];
        }
        let order: Vec<usize> = (0..2 * width)
            .map(|output| output / 16 * 8 + output % 8 + if output % 16 < 8 { 0 } else { width })
            .collect();
        let part = self.part(gpu, &all[0].0, inputs, &order)?;
        Ok(self.finished(vec![part], inputs, 2 * width))
    }

    fn finished(&mut self, parts: Vec<Part>, inputs: usize, outputs: usize) -> Linear {
        let layer = Linear { parts, inputs, outputs };
        if !layer.is_dense() {
            self.spread_bytes = self.spread_bytes.max(inputs * outputs);
        }
        layer
    }

    fn part<G: Gpu>(&mut self, gpu: &mut G, stored: &Stored, inputs: usize, order: &[usize]) -> Result<Part> {
        let outputs = order.len();
        let (grain, weights, scales) = match stored {
            Stored::Floats(numbers) => {
                let mut bytes = Vec::with_capacity(outputs * inputs * gpu.element().bytes());
                for row in order {
                    bytes.extend(gpu.element().encode(&numbers[row * inputs..][..inputs]));
                }
                (None, upload(gpu, &bytes)?, 0)
            }
            Stored::Blocks(format, bytes) => {
                let tiles = pack_gpu_tiles(*format, inputs, bytes, order)?;
                let scales: Vec<u8> = tiles.scales.iter().flat_map(|word| word.to_le_bytes()).collect();
                (IntLayout::of(*format), upload(gpu, &tiles.codes)?, upload(gpu, &scales)?)
            }
        };
        self.prepare(gpu, grain)?;
        Ok(Part { grain, weights, scales, first: 0, outputs })
    }

    /// The product of rows of written tokens.
    pub(super) fn few<G: Gpu>(
        &self,
        gpu: &mut G,
        layer: &Linear,
        x: Rows,
        target: Target,
    ) -> Result<(), GpuError> {
        let bytes = target.outcome.result(gpu.element()).bytes();
        for part in &layer.parts {
            let kernels = &self.kernels[&part.grain].multiply;
            let fits = kernels.iter().find(|(rows, _)| *rows >= x.most).or(kernels.last());
            let Some((rows, kernel)) = fits else { return Ok(()) };
            let to = target.at + (part.first * bytes) as Address;
            let grid = [x.most.div_ceil(*rows), part.outputs.div_ceil(TILE_OUTPUTS), 1];
            let arguments: [Argument; 9] = [
                part.weights.into(),
                part.scales.into(),
                layer.inputs.into(),
                part.outputs.into(),
                x.at.into(),
                x.count.into(),
                (target.outcome as usize).into(),
                to.into(),
                target.columns.into(),
            ];
            gpu.launch(*kernel, grid, &arguments)?;
        }
        Ok(())
    }

    /// The product of rows of prompts, as many as `x` has at most; its result is as wide as the
    /// layer.
    pub(super) fn many<G: Gpu>(
        &mut self,
        gpu: &mut G,
        layer: &Linear,
        x: Rows,
        target: Target,
    ) -> Result<(), GpuError> {
        let element = gpu.element();
        let mut weight = layer.parts[0].weights;
        if !layer.is_dense() {
            self.spread.room(gpu, self.spread_bytes * element.bytes())?;
            weight = self.spread.address();
            for part in &layer.parts {
                self.spread_out(gpu, part, layer.inputs)?;
            }
        }
        let result = target.outcome.result(element);
        let shape = GemmShape { inputs: layer.inputs, outputs: layer.outputs, result };
        let operands = GemmOperands { weight, input: x.at, output: target.at };
        gpu.multiply(shape, operands, x.most, target.outcome == Outcome::Added)
    }

    /// A part's weights as elements, in their place of the whole layer's.
    fn spread_out<G: Gpu>(&self, gpu: &mut G, part: &Part, inputs: usize) -> Result<(), GpuError> {
        let bytes = gpu.element().bytes();
        let to = self.spread.address() + (part.first * inputs * bytes) as Address;
        match self.kernels[&part.grain].spread {
            Some(kernel) => {
                let tiles = part.outputs.div_ceil(TILE_OUTPUTS) * (inputs / 32);
                let arguments: [Argument; 5] =
                    [part.weights.into(), part.scales.into(), inputs.into(), part.outputs.into(), to.into()];
                gpu.launch(kernel, [tiles.div_ceil(8), 1, 1], &arguments)
            }
            None => gpu.copy(part.weights, to, part.outputs * inputs * bytes),
        }
    }
}

impl Linear {
    /// Whether it is one matrix of elements.
    fn is_dense(&self) -> bool {
        self.parts.len() == 1 && self.parts[0].grain.is_none()
    }

    /// Columns of what it is applied to.
    pub(super) fn inputs(&self) -> usize {
        self.inputs
    }

    /// Columns of its result.
    pub(super) fn outputs(&self) -> usize {
        self.outputs
    }
}

/// Neighbours of one kind as one matrix.
fn joined(matrices: Vec<(Stored, usize)>) -> Vec<(Stored, usize)> {
    let mut all: Vec<(Stored, usize)> = Vec::new();
    for (stored, outputs) in matrices {
        match (all.last_mut(), stored) {
            (Some((Stored::Floats(before), count)), Stored::Floats(numbers)) => {
                before.extend(numbers);
                *count += outputs;
            }
            (Some((Stored::Blocks(format, before), count)), Stored::Blocks(other, bytes))
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
