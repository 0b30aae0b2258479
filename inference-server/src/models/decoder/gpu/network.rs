//! The forward pass of a decoder on a GPU: which kernels are launched, in which order, on what.
//!
//! Decode rows and prefill rows go through different products and different attention, each of
//! which gives a row the same bits in any batch. Everything else treats all rows alike.

use anyhow::{Context, Result, ensure};

use super::buffers::Buffers;
use super::layer::{Layer, LayerLoader};
use super::layer_kernels::LayerKernels;
use super::linear::{Epilogue, InputRows, Linear, LinearOps, Target};
use super::step_layout::DeviceOffsets;
use crate::kernels::gpu::memory::{upload, upload_f32};
use crate::kernels::gpu::{Address, Argument, Gpu, GpuError, activation_number};
use crate::kernels::rope::Angles;
use crate::models::decoder::config::DecoderConfig;
use crate::models::decoder::family::Family;
use crate::models::decoder::rope::Rope;
use crate::models::decoder::source::{self, Source};

/// Keys that a thread block of `attend_decode` visits; `SPLIT` of `cuda/decoder.cu`.
pub(super) const SPLIT: usize = 256;
/// Upper limit on the query heads of a thread block of `attend_decode`; `TOGETHER` of
/// `cuda/decoder.cu`.
const TOGETHER: usize = 8;
/// Heads of a thread block of `rope_and_store_kv`, one for each of its warps.
const HEADS_PER_BLOCK: usize = 4;
/// Elements that a thread of `gated_activation` computes at a time, and threads of its blocks.
const GATED_PER_BLOCK: usize = 8 * 256;
/// Upper limit on the thread blocks of `gated_activation`, which then loop: 16 for each of the 132
/// multiprocessors of an H100.
const MAX_BLOCKS: usize = 132 * 16;

/// Sizes and inputs of a step that all layers share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pass {
    pub(super) offsets: DeviceOffsets,
    /// Rows that launches are sized for; the device knows how many there are.
    pub(super) rows: usize,
    /// Those of them that are decode rows.
    pub(super) decode_rows: usize,
    /// Prefill rows of the step, without padding.
    pub(super) prefill_rows: usize,
    /// Tiles of prefill rows.
    pub(super) tiles: usize,
    /// Rows with logits that launches are sized for.
    pub(super) logit_rows: usize,
    /// Splits of the keys of the longest sequence.
    pub(super) splits: usize,
}

/// The rows that a norm is applied to.
#[derive(Debug, Clone, Copy)]
struct NormRows {
    /// Address of a list of row numbers; 0 for all rows.
    chosen: Address,
    /// Address of their number.
    count: Address,
    /// Rows that the launch is sized for.
    launched: usize,
}

/// Second half of a layer's attention or feed-forward network.
#[derive(Debug, Clone, Copy)]
enum Projection {
    Attention,
    FeedForward,
}

/// A decoder's weights, KV cache and activations on a device.
pub(super) struct Network<G: Gpu> {
    pub(super) gpu: G,
    pub(super) config: DecoderConfig,
    kernels: LayerKernels,
    linear_ops: LinearOps,
    /// Vocabulary × width, in elements.
    token_embeddings: Address,
    /// Cosines and sines of every position, for global and for local layers.
    angles: [Address; 2],
    pub(super) layers: Vec<Layer>,
    norm: Address,
    head: Linear,
    pub(super) buffers: Buffers,
}

impl<G: Gpu> Network<G> {
    /// Compiles the kernels and reads the weights onto the device, tensor by tensor.
    ///
    /// # Errors
    /// Names the tensor that is missing or has another shape, or the number that the kernels do not
    /// support. Also if the kernels do not compile or the device is out of memory.
    pub(super) fn load(mut gpu: G, config: DecoderConfig, source: &mut Source) -> Result<Self> {
        // Before gigabytes are read for a model that the kernels cannot compute.
        check_shape(&config)?;
        let (hidden, vocabulary) = (config.hidden, config.vocabulary);
        let kernels = LayerKernels::compile(&mut gpu, &config).context("kernels")?;
        let mut linear_ops = LinearOps::new(activation_number(config.activation));
        let table = source.matrix(source::TOKEN_EMBEDDINGS, [vocabulary, hidden])?;
        let numbers = table.to_f32(vocabulary * hidden);
        ensure!(
            numbers.iter().all(|x| x.is_finite()),
            "the token embeddings hold values that are not finite"
        );
        let encoded = gpu.element().encode(&numbers);
        // These are the largest tensors of many models: no copy is kept longer than needed.
        drop(numbers);
        let token_embeddings = upload(&mut gpu, &encoded)?;
        drop(encoded);
        let tied = config.tied_embeddings.then_some(table);
        // For the whole context once, instead of sines and cosines in every layer of every step.
        let angles = [
            upload_f32(&mut gpu, &angles_of(&config.rope, config.context))?,
            upload_f32(&mut gpu, &angles_of(&config.local_rope, config.context))?,
        ];
        let mut loader = LayerLoader { gpu: &mut gpu, source, config: &config, linear_ops: &mut linear_ops };
        let mut layers = Vec::new();
        for index in 0..config.layers.len() {
            layers.push(loader.layer(index).with_context(|| format!("layer {index}"))?);
        }
        let norm = loader.norm("norm", hidden)?;
        let head = match tied {
            Some(table) => linear_ops.layer(&mut gpu, vec![(table, vocabulary)], hidden)?,
            None => loader.linear(&[(source::HEAD.to_owned(), vocabulary)], hidden)?,
        };
        let buffers = Buffers::default();
        Ok(Self { gpu, config, kernels, linear_ops, token_embeddings, angles, layers, norm, head, buffers })
    }

    /// True if prefill rows have attention of their own, by tiles. In f32 they go row by row.
    pub(super) fn has_prefill_attention(&self) -> bool {
        self.kernels.attend_prefill.is_some()
    }

    /// Enqueues a step; its logits will be in their buffer.
    pub(super) fn forward(&mut self, pass: &Pass) -> Result<(), GpuError> {
        self.embed(pass)?;
        for index in 0..self.layers.len() {
            self.attention(pass, index)?;
            self.feed_forward(pass, index)?;
        }
        if pass.logit_rows == 0 {
            return Ok(());
        }
        let DeviceOffsets { logit_rows, logit_count, .. } = pass.offsets;
        let rows = NormRows { chosen: logit_rows, count: logit_count, launched: pass.logit_rows };
        self.rms_norm(rows, self.norm)?;
        let address = self.buffers.normed.address();
        let x = InputRows { address, launched: pass.logit_rows, count: logit_count };
        let logits = self.buffers.logits.address();
        let target = Target { epilogue: Epilogue::F32, address: logits, columns: self.config.vocabulary };
        // By gemv even in prefill: there is one such row per sequence at most.
        self.linear_ops.gemv(&mut self.gpu, &self.head, x, target)
    }

    /// `embed_tokens`: token embeddings into the hidden states.
    fn embed(&mut self, pass: &Pass) -> Result<(), GpuError> {
        // Gemma scales embeddings at run time, since the head has them unscaled.
        let scale =
            if self.config.family == Family::Gemma3 { (self.config.hidden as f32).sqrt() } else { 1.0 };
        let arguments: [Argument; 6] = [
            pass.offsets.token_ids.into(),
            pass.offsets.row_count.into(),
            self.token_embeddings.into(),
            self.config.hidden.into(),
            scale.into(),
            self.buffers.hidden.address().into(),
        ];
        self.gpu.launch(self.kernels.embed, [pass.rows, 1, 1], &arguments)
    }

    /// `normalise_rows`: RMS norm of hidden states.
    fn rms_norm(&mut self, rows: NormRows, norm: Address) -> Result<(), GpuError> {
        let arguments: [Argument; 7] = [
            self.buffers.hidden.address().into(),
            rows.chosen.into(),
            rows.count.into(),
            norm.into(),
            self.config.epsilon.into(),
            self.config.hidden.into(),
            self.buffers.normed.address().into(),
        ];
        self.gpu.launch(self.kernels.rms_norm, [rows.launched, 1, 1], &arguments)
    }

    fn attention(&mut self, pass: &Pass, index: usize) -> Result<(), GpuError> {
        let rows = NormRows { chosen: 0, count: pass.offsets.row_count, launched: pass.rows };
        self.rms_norm(rows, self.layers[index].input_norm)?;
        let qkv = self.buffers.qkv_or_gate_up.address();
        let layer = &self.layers[index];
        let target = Target { epilogue: Epilogue::Elements, address: qkv, columns: layer.qkv.outputs() };
        let normed = self.buffers.normed.address();
        linear(&mut self.gpu, &mut self.linear_ops, pass, (&layer.qkv, normed), target)?;
        self.rope_and_store_kv(pass, index)?;
        // After keys and values are stored, which a token's attention includes.
        self.attend_decode(pass, index)?;
        self.attend_prefill(pass, index)?;
        self.project(pass, index, Projection::Attention)
    }

    /// `rope_and_store_kv`: biases, norms and rotation of heads; keys and values go into the KV
    /// cache, queries stay where they are.
    fn rope_and_store_kv(&mut self, pass: &Pass, index: usize) -> Result<(), GpuError> {
        let (layer, heads) = (&self.layers[index], self.config.heads);
        let rope = if layer.local { &self.config.local_rope } else { &self.config.rope };
        let arguments: [Argument; 13] = [
            self.buffers.qkv_or_gate_up.address().into(),
            pass.offsets.row_count.into(),
            pass.offsets.positions.into(),
            pass.offsets.table_starts.into(),
            pass.offsets.block_tables.into(),
            layer.qkv_bias.into(),
            layer.query_norm.into(),
            layer.key_norm.into(),
            self.config.epsilon.into(),
            self.angles[usize::from(layer.local)].into(),
            rope.frequencies.len().into(),
            layer.keys.address().into(),
            layer.values.address().into(),
        ];
        let all_heads = heads.kv_heads * (heads.group + 2);
        let grid = [pass.rows, all_heads.div_ceil(HEADS_PER_BLOCK), 1];
        self.gpu.launch(self.kernels.rope_and_store_kv, grid, &arguments)
    }

    /// `attend_decode` and `reduce_splits`: attention row by row. One row has too few heads to fill
    /// a GPU, so its keys are split among thread blocks, whose partial results are reduced after
    /// that (split-K, as in Flash-Decoding). Splits are at fixed positions, so that a row's bits do
    /// not depend on how long the other sequences are.
    fn attend_decode(&mut self, pass: &Pass, index: usize) -> Result<(), GpuError> {
        let (rows, count) = if self.has_prefill_attention() {
            (pass.decode_rows, pass.offsets.decode_count)
        } else {
            (pass.rows, pass.offsets.row_count)
        };
        if rows == 0 {
            return Ok(());
        }
        let (layer, heads) = (&self.layers[index], self.config.heads);
        let partial = self.buffers.partial_attention.address();
        let arguments: [Argument; 9] = [
            self.buffers.qkv_or_gate_up.address().into(),
            count.into(),
            pass.offsets.positions.into(),
            pass.offsets.table_starts.into(),
            pass.offsets.block_tables.into(),
            layer.keys.address().into(),
            layer.values.address().into(),
            layer.window.into(),
            partial.into(),
        ];
        let groups = heads.kv_heads * heads.group.div_ceil(TOGETHER);
        self.gpu.launch(self.kernels.attend_decode, [rows, groups, pass.splits], &arguments)?;
        let arguments: [Argument; 6] = [
            partial.into(),
            count.into(),
            pass.offsets.positions.into(),
            layer.window.into(),
            pass.splits.into(),
            self.buffers.attention_or_gated.address().into(),
        ];
        self.gpu.launch(self.kernels.reduce_splits, [rows, heads.kv_heads * heads.group, 1], &arguments)
    }

    /// `attend_prefill`: attention of tiles of prefill rows, on tensor cores.
    fn attend_prefill(&mut self, pass: &Pass, index: usize) -> Result<(), GpuError> {
        let Some(kernel) = self.kernels.attend_prefill else { return Ok(()) };
        if pass.tiles == 0 {
            return Ok(());
        }
        let (layer, heads) = (&self.layers[index], self.config.heads);
        let arguments: [Argument; 7] = [
            self.buffers.qkv_or_gate_up.address().into(),
            pass.offsets.tiles.into(),
            pass.offsets.block_tables.into(),
            layer.keys.address().into(),
            layer.values.address().into(),
            layer.window.into(),
            self.buffers.attention_or_gated.address().into(),
        ];
        self.gpu.launch(kernel, [heads.kv_heads * heads.group, pass.tiles, 1], &arguments)
    }

    fn feed_forward(&mut self, pass: &Pass, index: usize) -> Result<(), GpuError> {
        let rows = NormRows { chosen: 0, count: pass.offsets.row_count, launched: pass.rows };
        self.rms_norm(rows, self.layers[index].mlp_norm)?;
        let gate_up = &self.layers[index].gate_up;
        let (hidden, inner, element) = (self.config.hidden, self.config.inner, self.gpu.element().bytes());
        let (normed, gated) = (self.buffers.normed.address(), self.buffers.attention_or_gated.address());
        if pass.decode_rows > 0 {
            let x =
                InputRows { address: normed, launched: pass.decode_rows, count: pass.offsets.decode_count };
            let target = Target { epilogue: Epilogue::Gated, address: gated, columns: inner };
            self.linear_ops.gemv(&mut self.gpu, gate_up, x, target)?;
        }
        if pass.prefill_rows > 0 {
            let address = normed + (pass.decode_rows * hidden * element) as Address;
            let x = InputRows { address, launched: pass.prefill_rows, count: 0 };
            let products = self.buffers.qkv_or_gate_up.address();
            let target = Target { epilogue: Epilogue::Elements, address: products, columns: 2 * inner };
            self.linear_ops.gemm(&mut self.gpu, gate_up, x, target)?;
            let to = gated + (pass.decode_rows * inner * element) as Address;
            let arguments: [Argument; 4] =
                [products.into(), pass.prefill_rows.into(), inner.into(), to.into()];
            let blocks = (pass.prefill_rows * inner).div_ceil(GATED_PER_BLOCK).min(MAX_BLOCKS);
            self.gpu.launch(self.kernels.gated_activation, [blocks, 1, 1], &arguments)?;
        }
        self.project(pass, index, Projection::FeedForward)
    }

    /// Adds the projection of attention or of gated activations, with its norm if the family has
    /// one, to the hidden states.
    fn project(&mut self, pass: &Pass, index: usize, projection: Projection) -> Result<(), GpuError> {
        let layer = &self.layers[index];
        let (weights, norm) = match projection {
            Projection::Attention => (&layer.o_proj, layer.attention_norm),
            Projection::FeedForward => (&layer.down, layer.output_norm),
        };
        let columns = self.config.hidden;
        let x = self.buffers.attention_or_gated.address();
        let hidden = self.buffers.hidden.address();
        if norm == 0 {
            let target = Target { epilogue: Epilogue::AddF32, address: hidden, columns };
            return linear(&mut self.gpu, &mut self.linear_ops, pass, (weights, x), target);
        }
        let sum = self.buffers.sum.address();
        let target = Target { epilogue: Epilogue::F32, address: sum, columns };
        linear(&mut self.gpu, &mut self.linear_ops, pass, (weights, x), target)?;
        let arguments: [Argument; 6] = [
            sum.into(),
            pass.offsets.row_count.into(),
            norm.into(),
            self.config.epsilon.into(),
            columns.into(),
            hidden.into(),
        ];
        self.gpu.launch(self.kernels.add_rms_norm, [pass.rows, 1, 1], &arguments)
    }
}

/// A linear layer on all rows: gemv for decode rows, gemm for the prefill rows after them.
fn linear<G: Gpu>(
    gpu: &mut G,
    ops: &mut LinearOps,
    pass: &Pass,
    (layer, x): (&Linear, Address),
    target: Target,
) -> Result<(), GpuError> {
    let element = gpu.element();
    if pass.decode_rows > 0 {
        let rows = InputRows { address: x, launched: pass.decode_rows, count: pass.offsets.decode_count };
        ops.gemv(gpu, layer, rows, target)?;
    }
    if pass.prefill_rows > 0 {
        let address = x + (pass.decode_rows * layer.inputs() * element.bytes()) as Address;
        let rows = InputRows { address, launched: pass.prefill_rows, count: 0 };
        ops.gemm(gpu, layer, rows, target.starting_at(pass.decode_rows, element))?;
    }
    Ok(())
}

/// Checks the numbers that the kernels have limits on.
fn check_shape(config: &DecoderConfig) -> Result<()> {
    let size = config.heads.size;
    ensure!(
        size.is_multiple_of(8) && size <= 256,
        "invalid head_dim {size}: expected a multiple of 8 up to 256 on a GPU"
    );
    ensure!(
        config.hidden.is_multiple_of(8) && config.inner.is_multiple_of(8),
        "invalid hidden_size {} or intermediate_size {}: expected multiples of 8 on a GPU",
        config.hidden,
        config.inner
    );
    Ok(())
}

/// Cosines of half a head, then its sines, for every position.
fn angles_of(rope: &Rope, context: usize) -> Vec<f32> {
    let mut angles = Angles::default();
    let positions: Vec<u32> = (0..context as u32).collect();
    angles.fill(&positions, &rope.frequencies, rope.attention_factor);
    (0..context).flat_map(|position| angles.row(position)).copied().collect()
}
