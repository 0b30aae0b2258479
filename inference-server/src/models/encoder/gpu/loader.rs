//! Reading of an encoder's weights onto a GPU: linear layers, norms and embedding tables.
//!
//! A tensor is read, checked and encoded on the host, and uploaded by itself, so that the host
//! never holds more than one of them twice.

use anyhow::Result;

use super::kernels::{Norm, Tables};
use crate::kernels::gpu::memory::{upload, upload_f32};
use crate::kernels::gpu::{Address, GemmOperands, GemmShape, Gpu};
use crate::models::checkpoint::encoder_config::EncoderConfig;
use crate::models::encoder::lookup::add_token_type;
use crate::models::weights::Weights;

/// A linear layer, y = x·Wᵀ + b.
#[derive(Debug, Clone, Copy)]
pub(super) struct Linear {
    /// Widths of its rows.
    pub(super) shape: GemmShape,
    weight: Address,
    bias: Address,
}

impl Linear {
    /// The operands of a product with this layer; `addend` is added to it, the residual of a block.
    pub(super) fn operands(&self, input: Address, addend: Option<Address>, output: Address) -> GemmOperands {
        GemmOperands { weight: self.weight, bias: Some(self.bias), input, addend, output }
    }
}

/// A layer: attention and a feed-forward network, each followed by the residual and a norm.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layer {
    /// Query, key and value projections stacked, so that one product computes all three.
    pub(super) qkv: Linear,
    pub(super) o_proj: Linear,
    pub(super) attention_norm: Norm,
    pub(super) up: Linear,
    pub(super) down: Linear,
    pub(super) output_norm: Norm,
}

/// Reads weights onto a device, in its element type.
pub(super) struct Loader<'a, G: Gpu> {
    /// The device.
    pub(super) gpu: &'a mut G,
    /// The checkpoint.
    pub(super) weights: &'a mut Weights,
    /// Shapes that the tensors must have.
    pub(super) config: &'a EncoderConfig,
}

impl<G: Gpu> Loader<'_, G> {
    /// The embedding tables. Position embeddings are stored once for each token type, with the
    /// type's embedding added.
    pub(super) fn tables(&mut self) -> Result<Tables> {
        let EncoderConfig { hidden_size: width, vocab_size, max_position_embeddings, .. } = *self.config;
        let tokens =
            self.elements(&["embeddings.word_embeddings.weight".to_owned()], &[vocab_size, width])?;
        let name = "embeddings.position_embeddings.weight";
        let mut positions = self.weights.encoder_values(name, &[max_position_embeddings, width])?;
        if self.config.type_vocab_size > 0 {
            let name = "embeddings.token_type_embeddings.weight";
            let types = self.weights.encoder_values(name, &[self.config.type_vocab_size, width])?;
            let types = types.chunks_exact(width).take(2);
            positions = types.flat_map(|kind| add_token_type(&positions, kind)).collect();
        }
        let positions = upload_f32(self.gpu, &positions)?;
        Ok(Tables { tokens, positions, norm: self.norm("embeddings.LayerNorm")? })
    }

    /// Layer `index`.
    pub(super) fn layer(&mut self, index: usize) -> Result<Layer> {
        let (width, inner) = (self.config.hidden_size, self.config.intermediate_size);
        let at = format!("encoder.layer.{index}");
        let qkv = ["query", "key", "value"].map(|part| format!("{at}.attention.self.{part}"));
        Ok(Layer {
            qkv: self.linear(&qkv, [width, width])?,
            o_proj: self.linear(&[format!("{at}.attention.output.dense")], [width, width])?,
            attention_norm: self.norm(&format!("{at}.attention.output.LayerNorm"))?,
            up: self.linear(&[format!("{at}.intermediate.dense")], [width, inner])?,
            down: self.linear(&[format!("{at}.output.dense")], [inner, width])?,
            output_norm: self.norm(&format!("{at}.output.LayerNorm"))?,
        })
    }

    fn norm(&mut self, at: &str) -> Result<Norm> {
        let width = self.config.hidden_size;
        let scale = self.weights.encoder_values(&format!("{at}.weight"), &[width])?;
        let shift = self.weights.encoder_values(&format!("{at}.bias"), &[width])?;
        Ok(Norm {
            scale: upload_f32(self.gpu, &scale)?,
            shift: upload_f32(self.gpu, &shift)?,
            epsilon: self.config.layer_norm_eps as f32,
        })
    }

    /// The linear layers of these names stacked into one, each inputs × outputs.
    fn linear(&mut self, names: &[String], [inputs, outputs]: [usize; 2]) -> Result<Linear> {
        let named = |half: &str| names.iter().map(|name| format!("{name}.{half}")).collect::<Vec<_>>();
        let weight = self.elements(&named("weight"), &[outputs, inputs])?;
        let bias = self.elements(&named("bias"), &[outputs])?;
        let shape = GemmShape { inputs, outputs: names.len() * outputs, result: self.gpu.element() };
        Ok(Linear { shape, weight, bias })
    }

    /// Tensors of one shape, one after the other, in the element type of the device.
    fn elements(&mut self, names: &[String], shape: &[usize]) -> Result<Address> {
        let mut encoded = Vec::new();
        for name in names {
            encoded.extend(self.gpu.element().encode(&self.weights.encoder_values(name, shape)?));
        }
        Ok(upload(self.gpu, &encoded)?)
    }
}
