//! One block of a decoder: attention and feed-forward, each with its norms and residual.

use anyhow::Result;

use super::config::{DecoderConfig, Family, Kind};
use super::linear::{Arithmetic, Linear};
use super::source::Source;
use super::{Buffers, Pass};
use crate::kernels::gated::gate;
use crate::kernels::gemm::Epilogue;
use crate::kernels::isa::Isa;
use crate::kernels::math::Activation;
use crate::kernels::matrix::Matrix;
use crate::kernels::paged::{self, AttentionShape, BLOCK_TOKENS, LayerKvCache};
use crate::kernels::parallel;
use crate::kernels::rms_norm::RmsNorm;

/// A block with its weights.
pub(super) struct Layer {
    kind: Kind,
    heads: AttentionShape,
    input_norm: RmsNorm,
    qkv: Linear,
    /// Norms of each head of queries and of keys.
    head_norms: Option<(RmsNorm, RmsNorm)>,
    attended: Linear,
    /// Of what attention gives, before the residual.
    attended_norm: Option<RmsNorm>,
    inner_norm: RmsNorm,
    gate_up: Linear,
    activation: Activation,
    down: Linear,
    /// Of what the feed-forward block gives, before the residual.
    output_norm: Option<RmsNorm>,
}

/// A norm of the checkpoint.
pub(super) fn norm(config: &DecoderConfig, source: &mut Source, name: &str, width: usize) -> Result<RmsNorm> {
    Ok(RmsNorm { scale: source.norm(config.family, name, width)?, epsilon: config.epsilon })
}

impl Layer {
    pub(super) fn load(config: &DecoderConfig, source: &mut Source, index: usize) -> Result<Self> {
        let at = format!("layers.{index}");
        let kind = config.layers[index];
        let (heads, hidden, inner) = (config.heads, config.hidden, config.inner);
        let gemma = config.family == Family::Gemma3;
        let normed = matches!(config.family, Family::Qwen3 | Family::Gemma3);
        let mut norm = |name: &str, width: usize| norm(config, source, &format!("{at}.{name}"), width);
        let input_norm = norm("input_layernorm", hidden)?;
        let head_norms = if normed {
            Some((norm("self_attn.q_norm", heads.size)?, norm("self_attn.k_norm", heads.size)?))
        } else {
            None
        };
        let after = norm("post_attention_layernorm", hidden)?;
        let (attended_norm, inner_norm, output_norm) = if gemma {
            let inner = norm("pre_feedforward_layernorm", hidden)?;
            (Some(after), inner, Some(norm("post_feedforward_layernorm", hidden)?))
        } else {
            (None, after, None)
        };
        let fused = config.family == Family::Phi3;
        let (q, kv) = (heads.queries(), heads.keys());
        let qkv: &[(&str, usize)] = if fused {
            &[("self_attn.qkv_proj", q + 2 * kv)]
        } else {
            &[("self_attn.q_proj", q), ("self_attn.k_proj", kv), ("self_attn.v_proj", kv)]
        };
        let gate_up: &[(&str, usize)] = if fused {
            &[("mlp.gate_up_proj", 2 * inner)]
        } else {
            &[("mlp.gate_proj", inner), ("mlp.up_proj", inner)]
        };
        let mut linear = |parts: &[(&str, usize)], inputs: usize, bias: bool| {
            let parts: Vec<(String, usize)> =
                parts.iter().map(|(name, outputs)| (format!("{at}.{name}"), *outputs)).collect();
            source.linear(&parts, inputs, bias)
        };
        Ok(Self {
            kind,
            heads,
            input_norm,
            qkv: linear(qkv, hidden, config.qkv_bias)?,
            head_norms,
            attended: linear(&[("self_attn.o_proj", hidden)], q, config.output_bias)?,
            attended_norm,
            inner_norm,
            gate_up: linear(gate_up, hidden, config.mlp_bias)?,
            activation: config.activation,
            down: linear(&[("mlp.down_proj", hidden)], inner, config.mlp_bias)?,
            output_norm,
        })
    }

    /// Bytes of its weights.
    pub(super) fn bytes(&self) -> u64 {
        [&self.qkv, &self.attended, &self.gate_up, &self.down].into_iter().map(Linear::bytes).sum()
    }

    pub(super) fn forward(
        &self,
        arithmetic: &mut Arithmetic,
        pass: &Pass<'_>,
        pages: &mut LayerKvCache,
        buffers: &mut Buffers,
    ) {
        let isa = arithmetic.isa;
        let Buffers { hidden, normed, wide, context, sum, .. } = buffers;
        self.input_norm.apply(isa, hidden, normed);
        self.qkv.multiply(arithmetic, normed, Epilogue::Bias, wide);
        self.rotate(isa, pass, wide);
        self.store(pass, pages, wide);
        paged::attend(isa, wide, &pass.pieces, pages, context);
        residual(arithmetic, (&self.attended, self.attended_norm.as_ref()), context, hidden, sum);
        self.inner_norm.apply(isa, hidden, normed);
        self.gate_up.multiply(arithmetic, normed, Epilogue::Bias, wide);
        gate(isa, self.activation, wide, context);
        residual(arithmetic, (&self.down, self.output_norm.as_ref()), context, hidden, sum);
    }

    /// Norms and rotation of the heads of queries and keys.
    fn rotate(&self, isa: Isa, pass: &Pass<'_>, wide: &mut Matrix) {
        let (queries, size) = (self.heads.queries(), self.heads.size);
        let rotated = queries + self.heads.keys();
        let angles = if self.kind.local { &pass.local_angles } else { &pass.angles };
        parallel::each_row(wide, |index, row| {
            for (place, head) in row[..rotated].chunks_exact_mut(size).enumerate() {
                if let Some((query_norm, key_norm)) = &self.head_norms {
                    let norm = if place * size < queries { query_norm } else { key_norm };
                    norm.apply_row(isa, head);
                }
                angles.rotate(isa, index, head);
            }
        });
    }

    /// Keys and values into their places.
    fn store(&self, pass: &Pass<'_>, pages: &mut LayerKvCache, wide: &Matrix) {
        let (queries, keys) = (self.heads.queries(), self.heads.keys());
        for piece in &pass.pieces {
            for (offset, row) in piece.rows.clone().enumerate() {
                let place = piece.start + offset;
                let row = &wide.row(row)[queries..];
                pages.write(
                    piece.blocks[place / BLOCK_TOKENS],
                    place % BLOCK_TOKENS,
                    &row[..keys],
                    &row[keys..2 * keys],
                );
            }
        }
    }
}

/// Adds what a linear layer and its norm make of `x` to the states.
fn residual(
    arithmetic: &mut Arithmetic,
    (linear, norm): (&Linear, Option<&RmsNorm>),
    x: &Matrix,
    hidden: &mut Matrix,
    sum: &mut Matrix,
) {
    if let Some(norm) = norm {
        linear.multiply(arithmetic, x, Epilogue::Bias, sum);
        norm.add(arithmetic.isa, sum, hidden);
    } else {
        linear.multiply(arithmetic, x, Epilogue::Residual(hidden), sum);
        std::mem::swap(hidden, sum);
    }
}
