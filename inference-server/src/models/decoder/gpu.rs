//! Language models on a GPU, by our own kernels and a library's products of many rows.
//!
//! A step is a list of launches without a word to the host between them. Where it only writes texts
//! on, it is recorded once for each size, and launched as a whole after that. Tokens of prompts and
//! written tokens go through different products and different attention, each of which gives a row
//! the same bits whatever the other rows are; a token that is computed again after its text had to
//! give way is computed as it was the first time. So a text depends on its prompt, settings and
//! seed alone, as on the CPU.

mod between;
mod layer;
mod linear;
mod memory;
mod sheet;

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};

use super::config::{DecoderConfig, Family};
use super::rotation::Rotation;
use super::source::{self, Source};
use super::{LanguageModel, StepPiece, check};
use crate::kernels::gpu::{Address, Argument, Gpu, GpuError, Memory, activation_number};
use crate::kernels::matrix::Matrix;
use crate::kernels::paged::BLOCK_TOKENS;
use crate::kernels::rope::Angles;
use crate::models::ComputeError;
use between::Between;
use layer::{Layer, Loader};
use linear::{Linear, Outcome, Products, Rows, Target};
use memory::{Buffer, floats, upload};
use sheet::{Places, Sheet};

/// Keys that one block of a launch visits; `SPLIT` of `cuda/decoder.cu`.
const SPLIT: usize = 256;
/// Heads that one block of a launch takes at most; `TOGETHER` of `cuda/decoder.cu`.
const TOGETHER: usize = 8;
/// Rows of activations are a multiple of this many, so that no product reads past them.
const ROOM: usize = 64;
/// Blocks of a launch that works on all values alike, at most.
const BLOCKS: usize = 132 * 16;

/// Activations of a step, and what it is told.
#[derive(Debug, Default)]
struct Buffers {
    sheet: Buffer,
    states: Buffer,
    sum: Buffer,
    normed: Buffer,
    wide: Buffer,
    context: Buffer,
    found: Buffer,
    logits: Buffer,
}

/// What the layers of a step share.
#[derive(Debug, Clone, Copy)]
struct Pass {
    places: Places,
    /// Rows that launches are made for.
    room: usize,
    written: usize,
    prompts: usize,
    tiles: usize,
    asked: usize,
    /// Blocks of launches for the keys of one query.
    splits: usize,
}

/// A decoder on a device.
pub struct GpuDecoder<G: Gpu> {
    gpu: G,
    config: DecoderConfig,
    between: Between,
    products: Products,
    words: Address,
    angles: [Address; 2],
    layers: Vec<Layer>,
    norm: Address,
    head: Linear,
    blocks: usize,
    buffers: Buffers,
    /// Steps that write texts on, by their rows and their splits.
    graphs: HashMap<(usize, usize), G::Graph>,
    weight_bytes: u64,
    logits: Matrix,
}

impl<G: Gpu> GpuDecoder<G> {
    /// Reads the weights onto the device, tensor by tensor, and compiles the kernels.
    ///
    /// # Errors
    /// Names the tensor that is missing or misshapen, what the kernels are not made for, or what
    /// the device has against it.
    pub fn load(mut gpu: G, config: DecoderConfig, source: &mut Source) -> Result<Self> {
        let (heads, hidden, vocabulary) = (config.heads, config.hidden, config.vocabulary);
        let fits = heads.size.is_multiple_of(8) && heads.size <= 256;
        ensure!(fits, "heads of {} columns, a GPU takes multiples of 8 up to 256", heads.size);
        let whole = hidden.is_multiple_of(8) && config.inner.is_multiple_of(8);
        ensure!(whole, "hidden_size and intermediate_size must be multiples of 8 on a GPU");
        let before = gpu.memory()?;
        let between = Between::compile(&mut gpu, &config).context("kernels")?;
        let mut products = Products::new(activation_number(config.activation));
        let table = source.stored(source::TABLE, [vocabulary, hidden])?;
        let numbers = table.numbers(vocabulary * hidden);
        ensure!(numbers.iter().all(|x| x.is_finite()), "the token table holds values that are not finite");
        let encoded = gpu.element().encode(&numbers);
        drop(numbers);
        let words = upload(&mut gpu, &encoded)?;
        drop(encoded);
        let tied = config.tied.then_some(table);
        let angles = [&config.rotation, &config.local_rotation];
        let [whole, local] = angles.map(|rotation| floats(&mut gpu, &angles_of(rotation, config.context)));
        let angles = [whole?, local?];
        let mut loader = Loader { gpu: &mut gpu, source, config: &config, products: &mut products };
        let read = |index| loader.layer(index).with_context(|| format!("layer {index}"));
        let layers = (0..config.layers.len()).map(read).collect::<Result<Vec<_>>>()?;
        let norm = loader.norm("norm", hidden)?;
        let head = match tied {
            Some(table) => products.layer(&mut gpu, vec![(table, vocabulary)], hidden)?,
            None => loader.linear(&[(source::HEAD.to_owned(), vocabulary)], hidden)?,
        };
        let weight_bytes = before.free.saturating_sub(gpu.memory()?.free);
        Ok(Self {
            gpu,
            between,
            products,
            words,
            angles,
            layers,
            norm,
            head,
            blocks: 0,
            buffers: Buffers::default(),
            graphs: HashMap::new(),
            weight_bytes,
            logits: Matrix::default(),
            config,
        })
    }

    /// The device.
    pub fn gpu(&self) -> &G {
        &self.gpu
    }

    /// Memory of the device.
    ///
    /// # Errors
    /// If it does not say.
    pub fn memory(&self) -> Result<Memory, ComputeError> {
        self.gpu.memory().map_err(compute_error)
    }

    /// Bytes of a block's keys, or values, in one layer.
    fn page_bytes(&self) -> usize {
        self.config.heads.keys() * BLOCK_TOKENS * self.gpu.element().bytes()
    }

    fn compute(&mut self, pieces: &[StepPiece<'_>]) -> Result<(), GpuError> {
        let sheet = Sheet::of(pieces, |rows, prompts| {
            if prompts { rows.next_multiple_of(8) } else { rows.next_power_of_two().max(8) }
        });
        let splits = sheet.longest.div_ceil(SPLIT).next_power_of_two();
        let in_prompts = sheet.rows - sheet.written;
        let only_written = in_prompts == 0;
        // Launches that are recorded are made for the room there is, others for the rows there are.
        let room = if only_written { sheet.room() } else { sheet.rows };
        let asked = if only_written { room } else { sheet.asked };
        let written = if only_written { room } else { sheet.written };
        let alone = if self.between.attend_prompts.is_some() { written } else { room };
        let parts = alone * splits;
        if !self.grow([room.max(sheet.room()), asked, parts], sheet.bytes().len())? {
            self.graphs.clear();
        }
        let pass = Pass {
            places: sheet.places(self.buffers.sheet.address()),
            room,
            written,
            prompts: in_prompts,
            tiles: sheet.tiles,
            asked,
            splits,
        };
        self.gpu.upload(self.buffers.sheet.address(), &sheet.bytes())?;
        if only_written {
            let key = (room, splits);
            if !self.graphs.contains_key(&key) {
                self.gpu.begin_capture()?;
                let forward = self.forward(&pass);
                let graph = self.gpu.end_capture();
                forward?;
                self.graphs.insert(key, graph?);
            }
            self.gpu.replay(&self.graphs[&key])?;
        } else {
            self.forward(&pass)?;
        }
        let vocabulary = self.config.vocabulary;
        self.logits.resize(sheet.asked, vocabulary);
        if sheet.asked > 0 {
            let numbers = self.gpu.download(self.buffers.logits.address(), sheet.asked * vocabulary)?;
            for (index, row) in numbers.chunks_exact(vocabulary).enumerate() {
                self.logits.row_mut(index).copy_from_slice(row);
            }
        }
        Ok(())
    }

    /// Room for so many rows, rows of logits and parts of a head's attention, and for a sheet of so
    /// many bytes; whether everything lies where it lay before.
    fn grow(&mut self, [rows, asked, parts]: [usize; 3], sheet: usize) -> Result<bool, GpuError> {
        let (rows, asked) = (rows.next_multiple_of(ROOM), asked.next_multiple_of(ROOM));
        let DecoderConfig { heads, hidden, inner, vocabulary, .. } = self.config;
        let (bytes, float) = (self.gpu.element().bytes(), size_of::<f32>());
        let wide = (heads.queries() + 2 * heads.keys()).max(2 * inner);
        let parts = parts * heads.kv_heads * heads.group * (heads.size + 2);
        let Buffers { sheet: told, states, sum, normed, wide: row, context, found, logits } =
            &mut self.buffers;
        let mut same = true;
        for (buffer, bytes) in [
            // Lists of blocks grow with the texts; they are the last part, and no launch depends on
            // their length.
            (told, sheet.next_power_of_two().max(1 << 16)),
            (states, rows * hidden * float),
            (sum, rows * hidden * float),
            (normed, rows.max(asked) * hidden * bytes),
            (row, rows * wide * bytes),
            (context, rows * heads.queries().max(inner) * bytes),
            (found, parts * float),
            (logits, asked * vocabulary * float),
        ] {
            same &= buffer.room(&mut self.gpu, bytes)?;
        }
        Ok(same)
    }

    /// Puts a step on the device, and its logits into their buffer.
    fn forward(&mut self, pass: &Pass) -> Result<(), GpuError> {
        let scale =
            if self.config.family == Family::Gemma3 { (self.config.hidden as f32).sqrt() } else { 1.0 };
        let Places { ids, rows, .. } = pass.places;
        let states = self.buffers.states.address();
        let arguments: [Argument; 6] = [
            ids.into(),
            rows.into(),
            self.words.into(),
            self.config.hidden.into(),
            scale.into(),
            states.into(),
        ];
        self.gpu.launch(self.between.embed, [pass.room, 1, 1], &arguments)?;
        for index in 0..self.layers.len() {
            self.attention(pass, index)?;
            self.feed_forward(pass, index)?;
        }
        let Places { chosen, asked, .. } = pass.places;
        if pass.asked == 0 {
            return Ok(());
        }
        self.normalise([chosen, asked], pass.asked, self.norm)?;
        let (at, logits) = (self.buffers.normed.address(), self.buffers.logits.address());
        let x = Rows { at, most: pass.asked, count: asked };
        let target = Target { outcome: Outcome::Floats, at: logits, columns: self.config.vocabulary };
        self.products.few(&mut self.gpu, &self.head, x, target)
    }

    /// The norm of rows of states, of those that are chosen where `chosen` is not 0.
    fn normalise(
        &mut self,
        [chosen, count]: [Address; 2],
        rows: usize,
        norm: Address,
    ) -> Result<(), GpuError> {
        let arguments: [Argument; 7] = [
            self.buffers.states.address().into(),
            chosen.into(),
            count.into(),
            norm.into(),
            self.config.epsilon.into(),
            self.config.hidden.into(),
            self.buffers.normed.address().into(),
        ];
        self.gpu.launch(self.between.normalise, [rows, 1, 1], &arguments)
    }

    fn attention(&mut self, pass: &Pass, index: usize) -> Result<(), GpuError> {
        let Places { rows, positions, lists, blocks, .. } = pass.places;
        self.normalise([0, rows], pass.room, self.layers[index].input_norm)?;
        let (gpu, layer) = (&mut self.gpu, &self.layers[index]);
        let heads = self.config.heads;
        let (normed, wide) = (self.buffers.normed.address(), self.buffers.wide.address());
        let columns = layer.qkv.outputs();
        let target = Target { outcome: Outcome::Elements, at: wide, columns };
        product(gpu, &mut self.products, pass, (&layer.qkv, normed), target)?;
        let rotation = if layer.local { &self.config.local_rotation } else { &self.config.rotation };
        let arguments: [Argument; 13] = [
            wide.into(),
            rows.into(),
            positions.into(),
            lists.into(),
            blocks.into(),
            layer.qkv_bias.into(),
            layer.query_norm.into(),
            layer.key_norm.into(),
            self.config.epsilon.into(),
            self.angles[usize::from(layer.local)].into(),
            rotation.frequencies.len().into(),
            layer.keys.address().into(),
            layer.values.address().into(),
        ];
        let all_heads = heads.kv_heads * (heads.group + 2);
        gpu.launch(self.between.place, [pass.room, all_heads.div_ceil(4), 1], &arguments)?;
        self.attend(pass, index)?;
        let context = self.buffers.context.address();
        self.residual(pass, index, context, true)
    }

    fn attend(&mut self, pass: &Pass, index: usize) -> Result<(), GpuError> {
        let (gpu, layer, heads) = (&mut self.gpu, &self.layers[index], self.config.heads);
        let Places { rows, written, positions, lists, blocks, tiles, .. } = pass.places;
        let (wide, context) = (self.buffers.wide.address(), self.buffers.context.address());
        let (keys, values) = (layer.keys.address(), layer.values.address());
        let found = self.buffers.found.address();
        // In f32 there are no tensor cores to make tiles for.
        let (alone, count) = match self.between.attend_prompts {
            Some(_) => (pass.written, written),
            None => (pass.room, rows),
        };
        if alone > 0 {
            let arguments: [Argument; 9] = [
                wide.into(),
                count.into(),
                positions.into(),
                lists.into(),
                blocks.into(),
                keys.into(),
                values.into(),
                layer.window.into(),
                found.into(),
            ];
            let groups = heads.kv_heads * heads.group.div_ceil(TOGETHER);
            gpu.launch(self.between.attend_rows, [alone, groups, pass.splits], &arguments)?;
            let arguments: [Argument; 6] = [
                found.into(),
                count.into(),
                positions.into(),
                layer.window.into(),
                pass.splits.into(),
                context.into(),
            ];
            gpu.launch(self.between.join, [alone, heads.kv_heads * heads.group, 1], &arguments)?;
        }
        if let (Some(kernel), true) = (self.between.attend_prompts, pass.tiles > 0) {
            let arguments: [Argument; 7] = [
                wide.into(),
                tiles.into(),
                blocks.into(),
                keys.into(),
                values.into(),
                layer.window.into(),
                context.into(),
            ];
            gpu.launch(kernel, [heads.kv_heads * heads.group, pass.tiles, 1], &arguments)?;
        }
        Ok(())
    }

    fn feed_forward(&mut self, pass: &Pass, index: usize) -> Result<(), GpuError> {
        self.normalise([0, pass.places.rows], pass.room, self.layers[index].inner_norm)?;
        let (gpu, layer) = (&mut self.gpu, &self.layers[index]);
        let (inner, bytes) = (self.config.inner, gpu.element().bytes());
        let (normed, opened) = (self.buffers.normed.address(), self.buffers.context.address());
        let few = Rows { at: normed, most: pass.written, count: pass.places.written };
        if pass.written > 0 {
            let target = Target { outcome: Outcome::Gated, at: opened, columns: inner };
            self.products.few(gpu, &layer.gate_up, few, target)?;
        }
        if pass.prompts > 0 {
            let at = normed + (pass.written * self.config.hidden * bytes) as Address;
            let many = Rows { at, most: pass.prompts, count: 0 };
            let wide = self.buffers.wide.address();
            let target = Target { outcome: Outcome::Elements, at: wide, columns: 2 * inner };
            self.products.many(gpu, &layer.gate_up, many, target)?;
            let to = opened + (pass.written * inner * bytes) as Address;
            let arguments: [Argument; 4] = [wide.into(), pass.prompts.into(), inner.into(), to.into()];
            let blocks = (pass.prompts * inner).div_ceil(8 * 256).min(BLOCKS);
            gpu.launch(self.between.open, [blocks, 1, 1], &arguments)?;
        }
        self.residual(pass, index, opened, false)
    }

    /// Adds what the second half of a block makes of `x`, and its norm where there is one, to the
    /// states.
    fn residual(&mut self, pass: &Pass, index: usize, x: Address, attended: bool) -> Result<(), GpuError> {
        let (gpu, layer, hidden) = (&mut self.gpu, &self.layers[index], self.config.hidden);
        let (linear, norm) =
            if attended { (&layer.attended, layer.attended_norm) } else { (&layer.down, layer.output_norm) };
        let states = self.buffers.states.address();
        if norm == 0 {
            let target = Target { outcome: Outcome::Added, at: states, columns: hidden };
            return product(gpu, &mut self.products, pass, (linear, x), target);
        }
        let sum = self.buffers.sum.address();
        let target = Target { outcome: Outcome::Floats, at: sum, columns: hidden };
        product(gpu, &mut self.products, pass, (linear, x), target)?;
        let arguments: [Argument; 6] = [
            sum.into(),
            pass.places.rows.into(),
            norm.into(),
            self.config.epsilon.into(),
            hidden.into(),
            states.into(),
        ];
        gpu.launch(self.between.add_normalised, [pass.room, 1, 1], &arguments)
    }
}

/// A layer's product of all rows: of those that are written by our kernels, of those of prompts by
/// the library.
fn product<G: Gpu>(
    gpu: &mut G,
    products: &mut Products,
    pass: &Pass,
    (layer, x): (&Linear, Address),
    target: Target,
) -> Result<(), GpuError> {
    let element = gpu.element();
    if pass.written > 0 {
        let rows = Rows { at: x, most: pass.written, count: pass.places.written };
        products.few(gpu, layer, rows, target)?;
    }
    if pass.prompts > 0 {
        let at = x + (pass.written * layer.inputs() * element.bytes()) as Address;
        let rows = Rows { at, most: pass.prompts, count: 0 };
        products.many(gpu, layer, rows, target.at_row(pass.written, element))?;
    }
    Ok(())
}

impl<G: Gpu> LanguageModel for GpuDecoder<G>
where
    G::Graph: Send,
{
    fn reserve(&mut self, count: usize) -> Result<(), ComputeError> {
        if count <= self.blocks {
            return Ok(());
        }
        // What lies in the blocks would be lost.
        if self.blocks > 0 {
            return Err(ComputeError::Failed(format!("{count} blocks, room was taken for {}", self.blocks)));
        }
        let bytes = count * self.page_bytes();
        for layer in &mut self.layers {
            layer.reserve(&mut self.gpu, bytes).map_err(compute_error)?;
        }
        self.blocks = count;
        Ok(())
    }

    fn step(&mut self, pieces: &[StepPiece<'_>]) -> Result<&Matrix, ComputeError> {
        pieces.iter().try_for_each(|piece| check(&self.config, piece))?;
        self.compute(pieces).map_err(compute_error)?;
        Ok(&self.logits)
    }

    fn block_bytes(&self) -> usize {
        2 * self.page_bytes() * self.layers.len()
    }

    fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }

    fn tells_prompts_apart(&self) -> bool {
        true
    }

    fn computes_elsewhere(&self) -> bool {
        true
    }
}

/// Cosines of half a head and its sines, for every place of a text.
fn angles_of(rotation: &Rotation, context: usize) -> Vec<f32> {
    let mut angles = Angles::default();
    let places: Vec<u32> = (0..context as u32).collect();
    angles.fill(&places, &rotation.frequencies, rotation.scale);
    (0..context).flat_map(|place| angles.row(place)).copied().collect()
}

/// What an error of the device means for the step and the device.
fn compute_error(error: GpuError) -> ComputeError {
    match error {
        GpuError::OutOfMemory(words) => ComputeError::OutOfMemory(words),
        GpuError::Lost(words) => ComputeError::DeviceLost(words),
        GpuError::Refused(words) => ComputeError::Failed(words),
    }
}
