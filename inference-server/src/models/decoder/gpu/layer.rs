//! Weights and KV cache of one decoder layer on the device.
//!
//! Addresses of tensors that a family does not have are 0, which the kernels test for.

use anyhow::{Result, ensure};

use super::linear::{Linear, LinearOps};
use crate::kernels::gpu::memory::{Buffer, upload_f32};
use crate::kernels::gpu::{Address, Gpu, GpuError};
use crate::models::decoder::config::DecoderConfig;
use crate::models::decoder::family::Family;
use crate::models::decoder::source::{Source, StoredMatrix};

/// A layer with its weights, keys and values.
#[derive(Debug)]
pub(super) struct Layer {
    /// Maximum keys that a query attends to; 0 for all.
    pub(super) window: usize,
    /// True if the layer takes the RoPE of local layers.
    pub(super) local: bool,
    pub(super) input_norm: Address,
    pub(super) qkv: Linear,
    pub(super) qkv_bias: Address,
    pub(super) query_norm: Address,
    pub(super) key_norm: Address,
    pub(super) o_proj: Linear,
    /// Norm of the attention's output, before the residual is added.
    pub(super) attention_norm: Address,
    pub(super) mlp_norm: Address,
    pub(super) gate_up: Linear,
    pub(super) down: Linear,
    /// Norm of the feed-forward network's output, before the residual is added.
    pub(super) output_norm: Address,
    pub(super) keys: Buffer,
    pub(super) values: Buffer,
}

/// The name of a part of layer number `index`.
fn named(index: usize, part: &str) -> String {
    format!("layers.{index}.{part}")
}

/// Parts of a layer by their full names, each with its outputs.
fn parts(index: usize, parts: &[(&str, usize)]) -> Vec<(String, usize)> {
    parts.iter().map(|(part, outputs)| (named(index, part), *outputs)).collect()
}

fn qkv_parts(config: &DecoderConfig, index: usize) -> Vec<(String, usize)> {
    let (q, kv) = (config.heads.queries(), config.heads.keys());
    if config.family == Family::Phi3 {
        return parts(index, &[("self_attn.qkv_proj", q + 2 * kv)]);
    }
    parts(index, &[("self_attn.q_proj", q), ("self_attn.k_proj", kv), ("self_attn.v_proj", kv)])
}

fn gate_up_parts(config: &DecoderConfig, index: usize) -> Vec<(String, usize)> {
    if config.family == Family::Phi3 {
        return parts(index, &[("mlp.gate_up_proj", 2 * config.inner)]);
    }
    parts(index, &[("mlp.gate_proj", config.inner), ("mlp.up_proj", config.inner)])
}

/// Reads layers of a source onto the device.
pub(super) struct LayerLoader<'a, G: Gpu> {
    pub(super) gpu: &'a mut G,
    pub(super) source: &'a mut Source,
    pub(super) config: &'a DecoderConfig,
    pub(super) linear_ops: &'a mut LinearOps,
}

impl<G: Gpu> LayerLoader<'_, G> {
    /// The factors of an RMS norm.
    pub(super) fn norm(&mut self, name: &str, width: usize) -> Result<Address> {
        let scale = self.source.norm(self.config.family, name, width)?;
        Ok(upload_f32(self.gpu, &scale)?)
    }

    /// The matrices of these names and outputs, concatenated into one linear layer.
    pub(super) fn linear(&mut self, parts: &[(String, usize)], inputs: usize) -> Result<Linear> {
        let matrices = self.matrices(parts, inputs)?;
        self.linear_ops.layer(self.gpu, matrices, inputs)
    }

    fn matrices(&mut self, parts: &[(String, usize)], inputs: usize) -> Result<Vec<(StoredMatrix, usize)>> {
        let mut matrices = Vec::new();
        for (name, outputs) in parts {
            matrices.push((self.source.matrix(name, [*outputs, inputs])?, *outputs));
        }
        Ok(matrices)
    }

    fn qkv_bias(&mut self, parts: &[(String, usize)]) -> Result<Address> {
        if !self.config.qkv_bias {
            return Ok(0);
        }
        let mut biases = Vec::new();
        for (name, outputs) in parts {
            biases.extend(self.source.biases(name, *outputs)?);
        }
        Ok(upload_f32(self.gpu, &biases)?)
    }

    /// Layer number `index`.
    pub(super) fn layer(&mut self, index: usize) -> Result<Layer> {
        let config = self.config;
        let (heads, hidden, inner) = (config.heads, config.hidden, config.inner);
        ensure!(
            !config.o_proj_bias && !config.mlp_bias,
            "biases of o_proj and of the feed-forward network are supported on the CPU only"
        );
        let qkv = qkv_parts(config, index);
        let qkv_bias = self.qkv_bias(&qkv)?;
        let (mut query_norm, mut key_norm) = (0, 0);
        if matches!(config.family, Family::Qwen3 | Family::Gemma3) {
            query_norm = self.norm(&named(index, "self_attn.q_norm"), heads.size)?;
            key_norm = self.norm(&named(index, "self_attn.k_norm"), heads.size)?;
        }
        // In Gemma this norm is applied to the output of attention, in the others to the input of
        // the feed-forward network.
        let after = self.norm(&named(index, "post_attention_layernorm"), hidden)?;
        let (attention_norm, mlp_norm, output_norm) = if config.family == Family::Gemma3 {
            let mlp_norm = self.norm(&named(index, "pre_feedforward_layernorm"), hidden)?;
            (after, mlp_norm, self.norm(&named(index, "post_feedforward_layernorm"), hidden)?)
        } else {
            (0, after, 0)
        };
        // Kept apart from `linear`: rows of gate and up are interleaved before the upload.
        let gate_up = self.matrices(&gate_up_parts(config, index), hidden)?;
        Ok(Layer {
            window: config.layers[index].window.unwrap_or(0),
            local: config.layers[index].local,
            input_norm: self.norm(&named(index, "input_layernorm"), hidden)?,
            qkv: self.linear(&qkv, hidden)?,
            qkv_bias,
            query_norm,
            key_norm,
            o_proj: self.linear(&parts(index, &[("self_attn.o_proj", hidden)]), heads.queries())?,
            attention_norm,
            mlp_norm,
            gate_up: self.linear_ops.gate_up(self.gpu, gate_up, hidden, inner)?,
            down: self.linear(&parts(index, &[("mlp.down_proj", hidden)]), inner)?,
            output_norm,
            keys: Buffer::default(),
            values: Buffer::default(),
        })
    }
}

impl Layer {
    /// Allocates the KV cache: `bytes` for keys and as many for values.
    pub(super) fn reserve<G: Gpu>(&mut self, gpu: &mut G, bytes: usize) -> Result<(), GpuError> {
        self.keys.reserve(gpu, bytes)?;
        self.values.reserve(gpu, bytes)?;
        Ok(())
    }
}
