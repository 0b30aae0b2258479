//! Language models on a GPU, by our own kernels and a library's products for prefill.
//!
//! A step is a list of launches that the host does not wait for in between. One that only decodes
//! is recorded as a graph, once for each size, and launched as a whole from then on. A token is
//! computed in the same way whenever it is computed: as part of a prompt or as a generated token,
//! the latter also if its sequence was preempted and is prefilled again. So a sequence depends on
//! its prompt, settings and seed alone, as on the CPU.

mod buffers;
mod layer;
mod layer_kernels;
mod linear;
mod network;
mod step_layout;

use std::collections::HashMap;

use anyhow::Result;

use super::config::DecoderConfig;
use super::source::Source;
use super::{LanguageModel, StepPiece, check};
use crate::kernels::gpu::{Download as _, Gpu, GpuError, Memory};
use crate::kernels::matrix::Matrix;
use crate::kernels::paged::BLOCK_TOKENS;
use crate::models::ComputeError;
use buffers::BufferSizes;
use network::{Network, Pass, SPLIT};
use step_layout::StepLayout;

/// Rows of the smallest recorded step: the smallest kernel for decode rows computes this many
/// together, so fewer would not be faster.
const MIN_RECORDED_ROWS: usize = 8;

/// Size of a recorded step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct GraphKey {
    rows: usize,
    splits: usize,
}

/// A decoder on a device.
pub struct GpuDecoder<G: Gpu> {
    network: Network<G>,
    /// KV blocks that memory is allocated for.
    blocks: usize,
    /// Recorded steps that only decode.
    graphs: HashMap<GraphKey, G::Graph>,
    weight_bytes: u64,
    download: G::Download,
    logits: Matrix,
}

impl<G: Gpu> GpuDecoder<G> {
    /// Compiles the kernels and reads the weights onto the device, tensor by tensor.
    ///
    /// # Errors
    /// Names the tensor that is missing or has another shape, or the number that the kernels do not
    /// support. Also if the kernels do not compile or the device is out of memory.
    pub fn load(gpu: G, config: DecoderConfig, source: &mut Source) -> Result<Self> {
        let before = gpu.memory()?.free;
        let network = Network::load(gpu, config, source)?;
        // By the device's own count: padding and tables are memory too.
        let weight_bytes = before.saturating_sub(network.gpu.memory()?.free);
        let download = network.gpu.new_download();
        let (graphs, logits) = (HashMap::new(), Matrix::default());
        Ok(Self { network, blocks: 0, graphs, weight_bytes, download, logits })
    }

    /// The device.
    pub fn gpu(&self) -> &G {
        &self.network.gpu
    }

    /// Free and total memory of the device.
    ///
    /// # Errors
    /// If the device fails.
    pub fn memory(&self) -> Result<Memory, ComputeError> {
        Ok(self.network.gpu.memory()?)
    }

    /// Bytes of the keys, or of the values, of a KV block in one layer.
    fn page_bytes(&self) -> usize {
        self.network.config.heads.keys() * BLOCK_TOKENS * self.network.gpu.element().bytes()
    }

    fn compute(&mut self, pieces: &[StepPiece<'_>]) -> Result<(), GpuError> {
        let layout = StepLayout::new(pieces, |rows, prefill| {
            // Powers of two keep the number of recorded steps small.
            if prefill { rows.next_multiple_of(8) } else { rows.next_power_of_two().max(MIN_RECORDED_ROWS) }
        });
        let pass = self.prepare(&layout)?;
        self.network.gpu.upload(self.network.buffers.layout.address(), &layout.bytes())?;
        if pass.prefill_rows == 0 {
            self.replay(&pass)?;
        } else {
            self.network.forward(&pass)?;
        }
        self.download_logits(layout.logit_rows)
    }

    /// Sizes the launches of a step and grows the buffers for it.
    fn prepare(&mut self, layout: &StepLayout) -> Result<Pass, GpuError> {
        // A power of two, so that a growing sequence is recorded again after doubling only.
        let splits = layout.longest.div_ceil(SPLIT).next_power_of_two();
        let prefill_rows = layout.rows - layout.decode_rows;
        // A recorded step is sized for the capacity of its layout, any other for its actual rows.
        let (rows, decode_rows, logit_rows) = if prefill_rows == 0 {
            (layout.capacity, layout.capacity, layout.capacity)
        } else {
            (layout.rows, layout.decode_rows, layout.logit_rows)
        };
        let split_rows = if self.network.has_prefill_attention() { decode_rows } else { rows };
        let sizes = BufferSizes {
            rows: rows.max(layout.capacity),
            logit_rows,
            splits: split_rows * splits,
            layout_bytes: layout.bytes().len(),
        };
        let Network { gpu, config, buffers, .. } = &mut self.network;
        if !buffers.reserve(gpu, config, sizes)? {
            // Recorded launches contain the addresses of the buffers.
            self.graphs.clear();
        }
        let offsets = layout.offsets(buffers.layout.address());
        Ok(Pass { offsets, rows, decode_rows, prefill_rows, tiles: layout.tiles, logit_rows, splits })
    }

    /// Launches a step that only decodes; the first of its size is recorded before.
    fn replay(&mut self, pass: &Pass) -> Result<(), GpuError> {
        let key = GraphKey { rows: pass.rows, splits: pass.splits };
        if !self.graphs.contains_key(&key) {
            // Recording launches nothing, so the step is replayed below even the first time.
            self.network.gpu.begin_capture()?;
            let forward = self.network.forward(pass);
            // Recording has to end even if a launch failed.
            let graph = self.network.gpu.end_capture();
            forward?;
            self.graphs.insert(key, graph?);
        }
        self.network.gpu.replay(&self.graphs[&key])
    }

    fn download_logits(&mut self, rows: usize) -> Result<(), GpuError> {
        let vocabulary = self.network.config.vocabulary;
        self.logits.resize(rows, vocabulary);
        if rows > 0 {
            let address = self.network.buffers.logits.address();
            self.network.gpu.download(address, rows * vocabulary, &mut self.download)?;
            for (index, row) in self.download.wait()?.chunks_exact(vocabulary).enumerate() {
                self.logits.row_mut(index).copy_from_slice(row);
            }
        }
        Ok(())
    }
}

impl<G: Gpu> LanguageModel for GpuDecoder<G>
where
    G::Graph: Send,
{
    fn reserve(&mut self, count: usize) -> Result<(), ComputeError> {
        if count <= self.blocks {
            return Ok(());
        }
        // Growing would lose the contents of the blocks.
        if self.blocks > 0 {
            let message = format!("{count} KV blocks exceed the {} that are allocated", self.blocks);
            return Err(ComputeError::Failed(message));
        }
        let bytes = count * self.page_bytes();
        for layer in &mut self.network.layers {
            layer.reserve(&mut self.network.gpu, bytes)?;
        }
        self.blocks = count;
        Ok(())
    }

    fn step(&mut self, pieces: &[StepPiece<'_>]) -> Result<&Matrix, ComputeError> {
        for piece in pieces {
            check(&self.network.config, piece)?;
        }
        self.compute(pieces)?;
        Ok(&self.logits)
    }

    fn block_bytes(&self) -> usize {
        2 * self.page_bytes() * self.network.layers.len()
    }

    fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }

    /// The two kinds of rows go through different products and different attention.
    fn prefill_kv_differs(&self) -> bool {
        true
    }

    fn runs_off_cpu(&self) -> bool {
        true
    }
}
