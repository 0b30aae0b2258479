//! One block of a decoder on the device.

use anyhow::{Result, ensure};

use super::linear::{Linear, Products};
use super::memory::{Buffer, floats};
use crate::kernels::gpu::{Address, Gpu, GpuError};
use crate::models::decoder::config::{DecoderConfig, Family};
use crate::models::decoder::source::{Source, Stored};

/// A block with its weights, keys and values. Addresses of what is not there are 0.
#[derive(Debug)]
pub(super) struct Layer {
    /// Tokens that a query sees at most; 0 sees all.
    pub(super) window: usize,
    /// Whether it rotates as the layers with a window do.
    pub(super) local: bool,
    pub(super) input_norm: Address,
    pub(super) qkv: Linear,
    pub(super) qkv_bias: Address,
    pub(super) query_norm: Address,
    pub(super) key_norm: Address,
    pub(super) attended: Linear,
    pub(super) attended_norm: Address,
    pub(super) inner_norm: Address,
    pub(super) gate_up: Linear,
    pub(super) down: Linear,
    pub(super) output_norm: Address,
    pub(super) keys: Buffer,
    pub(super) values: Buffer,
}

/// What reads a layer's weights.
pub(super) struct Loader<'a, G: Gpu> {
    pub(super) gpu: &'a mut G,
    pub(super) source: &'a mut Source,
    pub(super) config: &'a DecoderConfig,
    pub(super) products: &'a mut Products,
}

impl<G: Gpu> Loader<'_, G> {
    /// The factors of a norm.
    pub(super) fn norm(&mut self, name: &str, width: usize) -> Result<Address> {
        let scale = self.source.norm(self.config.family, name, width)?;
        Ok(floats(self.gpu, &scale)?)
    }

    /// The layer with these matrices, one below the other.
    pub(super) fn linear(&mut self, parts: &[(String, usize)], inputs: usize) -> Result<Linear> {
        let matrices = self.matrices(parts, inputs)?;
        self.products.layer(self.gpu, matrices, inputs)
    }

    fn matrices(&mut self, parts: &[(String, usize)], inputs: usize) -> Result<Vec<(Stored, usize)>> {
        let read =
            |(name, outputs): &(String, usize)| Ok((self.source.stored(name, [*outputs, inputs])?, *outputs));
        parts.iter().map(read).collect()
    }

    /// Block number `index`.
    pub(super) fn layer(&mut self, index: usize) -> Result<Layer> {
        let config = self.config;
        let (heads, hidden, inner) = (config.heads, config.hidden, config.inner);
        ensure!(!config.output_bias && !config.mlp_bias, "biases of its layers are served on the CPU only");
        let named = |part: &str| format!("layers.{index}.{part}");
        let of = |parts: &[(&str, usize)]| -> Vec<(String, usize)> {
            parts.iter().map(|(part, outputs)| (named(part), *outputs)).collect()
        };
        let (fused, gemma) = (config.family == Family::Phi3, config.family == Family::Gemma3);
        let (q, kv) = (heads.queries(), heads.keys());
        let separate = [("self_attn.q_proj", q), ("self_attn.k_proj", kv), ("self_attn.v_proj", kv)];
        let qkv = if fused { of(&[("self_attn.qkv_proj", q + 2 * kv)]) } else { of(&separate) };
        let gate_up = if fused {
            of(&[("mlp.gate_up_proj", 2 * inner)])
        } else {
            of(&[("mlp.gate_proj", inner), ("mlp.up_proj", inner)])
        };
        let mut qkv_bias = 0;
        if config.qkv_bias {
            let mut biases = Vec::new();
            for (name, outputs) in &qkv {
                biases.extend(self.source.biases(name, *outputs)?);
            }
            qkv_bias = floats(self.gpu, &biases)?;
        }
        let (mut query_norm, mut key_norm) = (0, 0);
        if matches!(config.family, Family::Qwen3 | Family::Gemma3) {
            query_norm = self.norm(&named("self_attn.q_norm"), heads.size)?;
            key_norm = self.norm(&named("self_attn.k_norm"), heads.size)?;
        }
        let after = self.norm(&named("post_attention_layernorm"), hidden)?;
        let (attended_norm, inner_norm, output_norm) = if gemma {
            let inner = self.norm(&named("pre_feedforward_layernorm"), hidden)?;
            (after, inner, self.norm(&named("post_feedforward_layernorm"), hidden)?)
        } else {
            (0, after, 0)
        };
        let gates = self.matrices(&gate_up, hidden)?;
        Ok(Layer {
            window: config.layers[index].window.unwrap_or(0),
            local: config.layers[index].local,
            input_norm: self.norm(&named("input_layernorm"), hidden)?,
            qkv: self.linear(&qkv, hidden)?,
            qkv_bias,
            query_norm,
            key_norm,
            attended: self.linear(&of(&[("self_attn.o_proj", hidden)]), q)?,
            attended_norm,
            inner_norm,
            gate_up: self.products.gates(self.gpu, gates, hidden, inner)?,
            down: self.linear(&of(&[("mlp.down_proj", hidden)]), inner)?,
            output_norm,
            keys: Buffer::default(),
            values: Buffer::default(),
        })
    }
}

impl Layer {
    /// Takes memory for so many bytes of keys, and of values.
    pub(super) fn reserve<G: Gpu>(&mut self, gpu: &mut G, bytes: usize) -> Result<(), GpuError> {
        self.keys.room(gpu, bytes)?;
        self.values.room(gpu, bytes)?;
        Ok(())
    }
}
