//! The kernels of an encoder, compiled for the shape of the model, and their launches.
//!
//! Sources are `cuda/layers.cu` and `cuda/attention.cu`. Shapes are compiled in as constants, so
//! that loops unroll; those that the kernels do not support are refused by [`Shape::fits`].

use crate::kernels::gpu::encoder_tiles::{self, Tiles};
use crate::kernels::gpu::{
    Address, Argument, Element, Entry, Gpu, GpuError, Kernel, Source, activation_number,
};
use crate::kernels::math::Activation;
use crate::models::Pooling;

/// Values that a thread moves at a time, VECTOR of `cuda/element.cu`: 16 bytes of 16-bit elements.
/// Widths and head sizes are multiples of it.
const VECTOR: usize = 8;
/// Largest head size: a thread of `cuda/attention.cu` has no registers for the sums of wider ones.
const WIDEST_HEAD: usize = 128;
/// Vectors of a row that a block of `pool` sums up; POOLED of `cuda/layers.cu`.
const POOLED: usize = 32;
/// Rows that a block of `embed` and `layer_norm` works on: one for each of its 4 warps.
const ROWS_PER_BLOCK: usize = 4;
/// Values that a block of `activate` and `widen` takes at a time, a vector for each of its threads.
const VALUES_PER_BLOCK: usize = 256 * VECTOR;
/// Upper limit on the thread blocks of `activate` and `widen`, which then loop: 16 for each of the
/// 132 multiprocessors of an H100 or H200.
const MAX_BLOCKS: usize = 132 * 16;
/// Rows of a tile in shared memory, KEYS of `cuda/online.cu`.
const TILE_ROWS: usize = 64;

/// Shape of an encoder, which the kernels are compiled for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Shape {
    /// Number of attention heads.
    pub(super) heads: usize,
    /// Size of a head.
    pub(super) head: usize,
    /// Activation between the halves of a feed-forward network.
    pub(super) activation: Activation,
}

impl Shape {
    /// Width of a hidden state.
    pub(super) fn width(&self) -> usize {
        self.heads * self.head
    }

    /// Returns true if the kernels support the shape.
    pub(super) fn fits(&self) -> bool {
        self.head.is_multiple_of(VECTOR) && self.head <= WIDEST_HEAD
    }
}

/// Weights of a layer norm; scale and shift are f32 on the device.
#[derive(Debug, Clone, Copy)]
pub(super) struct Norm {
    /// Address of the scales.
    pub(super) scale: Address,
    /// Address of the shifts.
    pub(super) shift: Address,
    /// ε, added to the variance.
    pub(super) epsilon: f32,
}

/// The tables of an embedding layer, and the norm that follows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tables {
    /// Token embeddings, vocabulary × width, in elements.
    pub(super) tokens: Address,
    /// Position embeddings of both token types, in f32.
    pub(super) positions: Address,
    /// Norm of their sum.
    pub(super) norm: Norm,
}

/// A batch whose words are on the device.
#[derive(Debug, Clone, Copy)]
pub(super) struct Batch<'a> {
    /// Its layout.
    pub(super) tiles: &'a Tiles,
    /// Address of its words.
    pub(super) words: Address,
}

impl Batch<'_> {
    /// Address of a part that begins at this word.
    fn part(&self, word: usize) -> Argument {
        (self.words + (word * size_of::<u32>()) as Address).into()
    }
}

/// Kernels of an encoder. Rows are the tokens of a batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct EncoderKernels {
    shape: Shape,
    /// `embed`: norm(tokens[id] + positions[place]).
    embed: Kernel,
    /// `layer_norm`: row by row.
    layer_norm: Kernel,
    /// `activate`: the activation of every value, in place.
    activate: Kernel,
    /// `widen`: elements to f32.
    widen: Kernel,
    /// `pool`: the states of each text into one vector of f32.
    pool: Kernel,
    /// `attend_short`: attention of texts that share a tile.
    attend_short: Kernel,
    /// `attend_long`: attention of longer texts, by tiles of their queries.
    attend_long: Kernel,
}

impl EncoderKernels {
    /// Compiles the kernels for a shape that [fits](Shape::fits).
    ///
    /// # Errors
    /// If compilation fails.
    pub(super) fn compile<G: Gpu>(gpu: &mut G, shape: Shape) -> Result<Self, GpuError> {
        let defines = [
            ("ACTIVATION", activation_number(shape.activation).to_string()),
            ("WIDTH", shape.width().to_string()),
        ];
        let layers = [("embed", 128), ("layer_norm", 128), ("activate", 256), ("widen", 256), ("pool", 256)]
            .map(|(name, threads)| Entry { name, threads, shared: 0 });
        let layers = gpu.compile(Source::Layers, &defines, &layers)?;
        let defines = [("HEADS", shape.heads.to_string()), ("HEAD", shape.head.to_string())];
        let tile = tile_bytes(shape.head, gpu.element());
        // Short texts need queries, keys and values in shared memory; longer ones two stages of
        // keys and values, of which the second holds the queries at first.
        let attention = [("attend_short", 3 * tile), ("attend_long", 4 * tile)].map(|(name, shared)| Entry {
            name,
            threads: 128,
            shared,
        });
        let attention = gpu.compile(Source::Attention, &defines, &attention)?;
        let (&[embed, layer_norm, activate, widen, pool], &[attend_short, attend_long]) =
            (layers.as_slice(), attention.as_slice())
        else {
            return Err(GpuError::Refused("the device compiled another number of kernels".to_owned()));
        };
        Ok(Self { shape, embed, layer_norm, activate, widen, pool, attend_short, attend_long })
    }

    /// The shape that the kernels were compiled for.
    pub(super) fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Queries of a longer text in one tile.
    pub(super) fn queries(&self) -> usize {
        encoder_tiles::queries(self.shape.head)
    }

    /// `to` = norm(tokens[id] + positions[place]) for each token of a batch.
    ///
    /// # Errors
    /// If the launch is refused.
    pub(super) fn embed<G: Gpu>(
        &self,
        gpu: &mut G,
        batch: Batch<'_>,
        tables: &Tables,
        to: Address,
    ) -> Result<(), GpuError> {
        let (parts, rows) = (batch.tiles.parts(), batch.tiles.tokens());
        let Norm { scale, shift, epsilon } = tables.norm;
        let arguments: [Argument; 9] = [
            batch.part(parts.ids),
            batch.part(parts.places),
            rows.into(),
            tables.tokens.into(),
            tables.positions.into(),
            scale.into(),
            shift.into(),
            epsilon.into(),
            to.into(),
        ];
        gpu.launch(self.embed, [rows.div_ceil(ROWS_PER_BLOCK), 1, 1], &arguments)
    }

    /// `to` = norm(from), row by row.
    ///
    /// # Errors
    /// If the launch is refused.
    pub(super) fn layer_norm<G: Gpu>(
        &self,
        gpu: &mut G,
        (from, to): (Address, Address),
        rows: usize,
        norm: &Norm,
    ) -> Result<(), GpuError> {
        let Norm { scale, shift, epsilon } = *norm;
        let arguments: [Argument; 6] =
            [from.into(), rows.into(), scale.into(), shift.into(), epsilon.into(), to.into()];
        gpu.launch(self.layer_norm, [rows.div_ceil(ROWS_PER_BLOCK), 1, 1], &arguments)
    }

    /// Applies the activation to `count` values in place.
    ///
    /// # Errors
    /// If the launch is refused.
    pub(super) fn activate<G: Gpu>(
        &self,
        gpu: &mut G,
        values: Address,
        count: usize,
    ) -> Result<(), GpuError> {
        gpu.launch(self.activate, blocks_of(count), &[values.into(), Argument::wide(count)])
    }

    /// Converts `count` values to f32.
    ///
    /// # Errors
    /// If the launch is refused.
    pub(super) fn widen<G: Gpu>(
        &self,
        gpu: &mut G,
        (from, to): (Address, Address),
        count: usize,
    ) -> Result<(), GpuError> {
        gpu.launch(self.widen, blocks_of(count), &[from.into(), Argument::wide(count), to.into()])
    }

    /// Pools the states of each text of a batch into a vector of f32.
    ///
    /// # Errors
    /// If the launch is refused.
    pub(super) fn pool<G: Gpu>(
        &self,
        gpu: &mut G,
        batch: Batch<'_>,
        (from, to): (Address, Address),
        pooling: Pooling,
    ) -> Result<(), GpuError> {
        let starts = batch.part(batch.tiles.parts().starts);
        let grid = [batch.tiles.texts(), self.shape.width().div_ceil(VECTOR * POOLED), 1];
        gpu.launch(self.pool, grid, &[from.into(), starts, pooling_number(pooling).into(), to.into()])
    }

    /// Attention of all texts of a batch. A row of `qkv` is the queries, keys and values of a
    /// token.
    ///
    /// # Errors
    /// If the launch is refused.
    pub(super) fn attend<G: Gpu>(
        &self,
        gpu: &mut G,
        batch: Batch<'_>,
        qkv: Address,
        to: Address,
    ) -> Result<(), GpuError> {
        let (tiles, parts) = (batch.tiles, batch.tiles.parts());
        for (kernel, list, count) in
            [(self.attend_short, parts.slots, tiles.short()), (self.attend_long, parts.tiles, tiles.long())]
        {
            // An empty grid is an error of the driver.
            if count > 0 {
                gpu.launch(kernel, [self.shape.heads, count, 1], &[qkv.into(), batch.part(list), to.into()])?;
            }
        }
        Ok(())
    }
}

/// The number of a pooling in `cuda/layers.cu`.
fn pooling_number(pooling: Pooling) -> usize {
    match pooling {
        Pooling::Mean => 0,
        Pooling::Cls => 1,
        Pooling::Last => 2,
        Pooling::Max => 3,
        Pooling::MeanSqrtLen => 4,
        Pooling::WeightedMean => 5,
    }
}

/// The grid of a kernel that works on values.
fn blocks_of(count: usize) -> [usize; 3] {
    [count.div_ceil(VALUES_PER_BLOCK).min(MAX_BLOCKS), 1, 1]
}

/// Bytes of a tile in shared memory, whose rows are ROW of `cuda/online.cu` apart; the kernels for
/// f32 use none.
fn tile_bytes(head: usize, element: Element) -> usize {
    if element == Element::F32 {
        return 0;
    }
    TILE_ROWS * (head.next_multiple_of(16) + VECTOR) * element.bytes()
}
