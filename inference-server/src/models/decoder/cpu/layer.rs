//! One layer of a decoder on the CPU: attention and feed-forward network, each with its norms and
//! the residual.
//!
//! Families differ in which norms there are and in which projections are fused; both are settled
//! while a layer is loaded, so that the forward pass is one for all.

use anyhow::Result;

use super::linear::{Arithmetic, Linear};
use crate::kernels::gated::gate;
use crate::kernels::gemm::Epilogue;
use crate::kernels::isa::Isa;
use crate::kernels::math::Activation;
use crate::kernels::matrix::Matrix;
use crate::kernels::paged::{self, AttentionShape, BLOCK_TOKENS, LayerKvCache};
use crate::kernels::parallel;
use crate::kernels::rms_norm::RmsNorm;
use crate::kernels::rope::Angles;
use crate::models::decoder::config::DecoderConfig;
use crate::models::decoder::family::{Family, LayerKind};
use crate::models::decoder::source::Source;

/// Activations of a step, tokens × width each.
#[derive(Default)]
pub(super) struct Buffers {
    pub(super) hidden: Matrix,
    pub(super) normed: Matrix,
    qkv_or_gate_up: Matrix,
    /// Output of attention, or gated activations.
    attention_or_gated: Matrix,
    sum: Matrix,
    /// Rows with logits × vocabulary.
    pub(super) logits: Matrix,
}

/// Inputs of a step that its layers share.
pub(super) struct Pass<'a> {
    pub(super) pieces: Vec<paged::Piece<'a>>,
    /// Sines and cosines of the rows' positions, for global and for local layers.
    pub(super) angles: Angles,
    pub(super) local_angles: Angles,
}

/// A layer with its weights.
pub(super) struct Layer {
    kind: LayerKind,
    heads: AttentionShape,
    input_norm: RmsNorm,
    qkv: Linear,
    /// Norms of each head of queries, and of keys.
    head_norms: Option<(RmsNorm, RmsNorm)>,
    o_proj: Linear,
    /// Norm of the attention's output, before the residual is added.
    attention_norm: Option<RmsNorm>,
    mlp_norm: RmsNorm,
    gate_up: Linear,
    activation: Activation,
    down: Linear,
    /// Norm of the feed-forward network's output, before the residual is added.
    output_norm: Option<RmsNorm>,
}

/// Reads the RMS norm `name`.
pub(super) fn rms_norm(
    config: &DecoderConfig,
    source: &mut Source,
    name: &str,
    width: usize,
) -> Result<RmsNorm> {
    Ok(RmsNorm { scale: source.norm(config.family, name, width)?, epsilon: config.epsilon })
}

/// Reads the parts of one layer.
struct LayerReader<'a> {
    config: &'a DecoderConfig,
    source: &'a mut Source,
    /// Common prefix of the layer's tensors.
    at: String,
}

impl LayerReader<'_> {
    fn norm(&mut self, name: &str, width: usize) -> Result<RmsNorm> {
        rms_norm(self.config, self.source, &format!("{}.{name}", self.at), width)
    }

    /// The norms of query and key heads, in families that have them.
    fn head_norms(&mut self) -> Result<Option<(RmsNorm, RmsNorm)>> {
        if !matches!(self.config.family, Family::Qwen3 | Family::Gemma3) {
            return Ok(None);
        }
        let size = self.config.heads.size;
        Ok(Some((self.norm("self_attn.q_norm", size)?, self.norm("self_attn.k_norm", size)?)))
    }

    /// Linear layers side by side, with `inputs` and perhaps a bias.
    fn linear(&mut self, parts: &[(&str, usize)], inputs: usize, bias: bool) -> Result<Linear> {
        let parts: Vec<(String, usize)> =
            parts.iter().map(|(name, outputs)| (format!("{}.{name}", self.at), *outputs)).collect();
        self.source.linear(&parts, inputs, bias)
    }

    fn qkv(&mut self) -> Result<Linear> {
        let DecoderConfig { heads, hidden, qkv_bias, .. } = *self.config;
        let (q, kv) = (heads.queries(), heads.keys());
        let parts: &[(&str, usize)] = if self.config.family == Family::Phi3 {
            &[("self_attn.qkv_proj", q + 2 * kv)]
        } else {
            &[("self_attn.q_proj", q), ("self_attn.k_proj", kv), ("self_attn.v_proj", kv)]
        };
        self.linear(parts, hidden, qkv_bias)
    }

    fn gate_up(&mut self) -> Result<Linear> {
        let DecoderConfig { hidden, inner, mlp_bias, .. } = *self.config;
        let parts: &[(&str, usize)] = if self.config.family == Family::Phi3 {
            &[("mlp.gate_up_proj", 2 * inner)]
        } else {
            &[("mlp.gate_proj", inner), ("mlp.up_proj", inner)]
        };
        self.linear(parts, hidden, mlp_bias)
    }
}

impl Layer {
    pub(super) fn load(config: &DecoderConfig, source: &mut Source, index: usize) -> Result<Self> {
        let (heads, hidden, inner) = (config.heads, config.hidden, config.inner);
        let mut read = LayerReader { config, source, at: format!("layers.{index}") };
        let input_norm = read.norm("input_layernorm", hidden)?;
        let head_norms = read.head_norms()?;
        // In Gemma this norm is applied to the output of attention, in the others to the input of
        // the feed-forward network.
        let after = read.norm("post_attention_layernorm", hidden)?;
        let (attention_norm, mlp_norm, output_norm) = if config.family == Family::Gemma3 {
            let mlp_norm = read.norm("pre_feedforward_layernorm", hidden)?;
            (Some(after), mlp_norm, Some(read.norm("post_feedforward_layernorm", hidden)?))
        } else {
            (None, after, None)
        };
        Ok(Self {
            kind: config.layers[index],
            heads,
            input_norm,
            qkv: read.qkv()?,
            head_norms,
            o_proj: read.linear(&[("self_attn.o_proj", hidden)], heads.queries(), config.o_proj_bias)?,
            attention_norm,
            mlp_norm,
            gate_up: read.gate_up()?,
            activation: config.activation,
            down: read.linear(&[("mlp.down_proj", hidden)], inner, config.mlp_bias)?,
            output_norm,
        })
    }

    /// Bytes of its weights.
    pub(super) fn bytes(&self) -> u64 {
        [&self.qkv, &self.o_proj, &self.gate_up, &self.down].into_iter().map(Linear::bytes).sum()
    }

    pub(super) fn forward(
        &self,
        arithmetic: &mut Arithmetic,
        pass: &Pass<'_>,
        pages: &mut LayerKvCache,
        buffers: &mut Buffers,
    ) {
        let isa = arithmetic.isa;
        let Buffers { hidden, normed, qkv_or_gate_up, attention_or_gated, sum, .. } = buffers;
        self.input_norm.apply(isa, hidden, normed);
        self.qkv.multiply(arithmetic, normed, Epilogue::Bias, qkv_or_gate_up);
        self.rotate(isa, pass, qkv_or_gate_up);
        // Before attention, which reads all keys from the cache, those of this step included.
        self.store_kv(pass, pages, qkv_or_gate_up);
        paged::attend(isa, qkv_or_gate_up, &pass.pieces, pages, attention_or_gated);
        let attention = Projection { linear: &self.o_proj, norm: self.attention_norm.as_ref() };
        attention.add(arithmetic, attention_or_gated, hidden, sum);
        self.mlp_norm.apply(isa, hidden, normed);
        self.gate_up.multiply(arithmetic, normed, Epilogue::Bias, qkv_or_gate_up);
        gate(isa, self.activation, qkv_or_gate_up, attention_or_gated);
        let mlp = Projection { linear: &self.down, norm: self.output_norm.as_ref() };
        mlp.add(arithmetic, attention_or_gated, hidden, sum);
    }

    /// Normalises and rotates the heads of queries and keys.
    fn rotate(&self, isa: Isa, pass: &Pass<'_>, qkv: &mut Matrix) {
        let (queries, size) = (self.heads.queries(), self.heads.size);
        let rotated = queries + self.heads.keys();
        let angles = if self.kind.local { &pass.local_angles } else { &pass.angles };
        parallel::each_row(qkv, |index, row| {
            for (number, head) in row[..rotated].chunks_exact_mut(size).enumerate() {
                // Before the rotation, as Qwen 3 and Gemma 3 were trained.
                if let Some((query_norm, key_norm)) = &self.head_norms {
                    let norm = if number * size < queries { query_norm } else { key_norm };
                    norm.apply_row(isa, head);
                }
                angles.rotate(isa, index, head);
            }
        });
    }

    /// Stores keys and values in the KV blocks of their sequences.
    fn store_kv(&self, pass: &Pass<'_>, pages: &mut LayerKvCache, qkv: &Matrix) {
        let (queries, keys) = (self.heads.queries(), self.heads.keys());
        for piece in &pass.pieces {
            for (offset, row) in piece.rows.clone().enumerate() {
                let position = piece.start + offset;
                let row = &qkv.row(row)[queries..];
                // One thread for all: copying a few rows costs less than sharing them out.
                let block = piece.blocks[position / BLOCK_TOKENS];
                pages.write(block, position % BLOCK_TOKENS, &row[..keys], &row[keys..2 * keys]);
            }
        }
    }
}

/// The second half of attention or of the feed-forward network.
struct Projection<'a> {
    linear: &'a Linear,
    norm: Option<&'a RmsNorm>,
}

impl Projection<'_> {
    /// Adds norm(W·x) to the hidden states; `sum` is scratch space.
    fn add(&self, arithmetic: &mut Arithmetic, x: &Matrix, hidden: &mut Matrix, sum: &mut Matrix) {
        if let Some(norm) = self.norm {
            self.linear.multiply(arithmetic, x, Epilogue::Bias, sum);
            norm.add(arithmetic.isa, sum, hidden);
        } else {
            self.linear.multiply(arithmetic, x, Epilogue::Residual(hidden), sum);
            // The sum is the new hidden state; the old buffer becomes scratch space.
            std::mem::swap(hidden, sum);
        }
    }
}
