//! One layer of an encoder on the CPU: attention and feed-forward network, each followed by the
//! residual and a layer norm.
//!
//! A layer is generic over the packing of its weights, f32 or bf16; only the forward pass differs.

use std::ops::Range;

use anyhow::Result;

use crate::kernels::attention::{Heads, attend};
use crate::kernels::bf16::{self, Unit, narrow_rows};
use crate::kernels::gemm::{self, Epilogue};
use crate::kernels::isa::Isa;
use crate::kernels::layer_norm::LayerNorm;
use crate::kernels::math::Activation;
use crate::kernels::matrix::Matrix;
use crate::models::checkpoint::encoder_config::EncoderConfig;
use crate::models::weights::Weights;

/// Activations of a batch, tokens × width each. The last two hold inputs of products in bf16.
#[derive(Default)]
pub(super) struct Buffers {
    pub(super) hidden: Matrix,
    /// Queries, keys and values, or the inner activations of the feed-forward network.
    qkv_or_inner: Matrix,
    attention_out: Matrix,
    sum: Matrix,
    narrow: bf16::Bf16Rows,
    narrow_inner: bf16::Bf16Rows,
}

/// A layer with its weights packed as `W`.
pub(super) struct Layer<W> {
    qkv: W,
    o_proj: W,
    attention_norm: LayerNorm,
    up: W,
    activation: Activation,
    down: W,
    output_norm: LayerNorm,
}

/// Weights of a linear layer, packed for f32 or bf16.
pub(super) trait Linear {
    /// Zero weights.
    fn zeros(inputs: usize, outputs: usize) -> Self;
    /// Packs rows of the weight matrix and their biases as the outputs from `first` on.
    fn pack(&mut self, first: usize, weight: &[f32], bias: &[f32]);
    /// Length of an input row.
    fn inputs(&self) -> usize;
}

impl Linear for gemm::Panels {
    fn zeros(inputs: usize, outputs: usize) -> Self {
        Self::zeros(inputs, outputs)
    }

    fn pack(&mut self, first: usize, weight: &[f32], bias: &[f32]) {
        self.pack(first, weight, bias);
    }

    fn inputs(&self) -> usize {
        self.inputs()
    }
}

impl Linear for bf16::Panels {
    fn zeros(inputs: usize, outputs: usize) -> Self {
        Self::zeros(inputs, outputs)
    }

    fn pack(&mut self, first: usize, weight: &[f32], bias: &[f32]) {
        self.pack(first, weight, bias);
    }

    fn inputs(&self) -> usize {
        self.inputs()
    }
}

/// Reads all layers.
pub(super) fn load_all<W: Linear>(config: &EncoderConfig, weights: &mut Weights) -> Result<Vec<Layer<W>>> {
    let mut layers = Vec::with_capacity(config.num_hidden_layers);
    for index in 0..config.num_hidden_layers {
        layers.push(Layer::load(config, weights, &format!("encoder.layer.{index}"))?);
    }
    Ok(layers)
}

/// Reads a linear layer of `from` inputs and `to` outputs.
fn linear<W: Linear>(weights: &mut Weights, name: &str, from: usize, to: usize) -> Result<W> {
    weights.expect(&format!("{name}.weight"), &[to, from])?;
    let mut panels = W::zeros(from, to);
    pack(weights, name, &mut panels, 0..to)?;
    Ok(panels)
}

impl<W: Linear> Layer<W> {
    fn load(config: &EncoderConfig, weights: &mut Weights, at: &str) -> Result<Self> {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        weights.expect(&format!("{at}.attention.self.query.weight"), &[hidden, hidden])?;
        let mut qkv = W::zeros(hidden, 3 * hidden);
        for (index, part) in ["query", "key", "value"].into_iter().enumerate() {
            pack(
                weights,
                &format!("{at}.attention.self.{part}"),
                &mut qkv,
                index * hidden..(index + 1) * hidden,
            )?;
        }
        let o_proj = linear(weights, &format!("{at}.attention.output.dense"), hidden, hidden)?;
        let up = linear(weights, &format!("{at}.intermediate.dense"), hidden, inner)?;
        let down = linear(weights, &format!("{at}.output.dense"), inner, hidden)?;
        Ok(Self {
            qkv,
            o_proj,
            attention_norm: layer_norm(weights, &format!("{at}.attention.output.LayerNorm"), config)?,
            up,
            activation: config.hidden_act.kernel(),
            down,
            output_norm: layer_norm(weights, &format!("{at}.output.LayerNorm"), config)?,
        })
    }
}

impl Layer<gemm::Panels> {
    pub(super) fn forward(&self, isa: Isa, heads: Heads, texts: &[Range<usize>], buffers: &mut Buffers) {
        let Buffers { hidden, qkv_or_inner, attention_out, sum, .. } = buffers;
        gemm::multiply(isa, hidden, &self.qkv, Epilogue::Bias, qkv_or_inner);
        attend(isa, qkv_or_inner, texts, heads, attention_out);
        gemm::multiply(isa, attention_out, &self.o_proj, Epilogue::Residual(hidden), sum);
        self.attention_norm.apply(isa, sum, hidden);
        gemm::multiply(isa, hidden, &self.up, Epilogue::Activation(self.activation), qkv_or_inner);
        gemm::multiply(isa, qkv_or_inner, &self.down, Epilogue::Residual(hidden), sum);
        self.output_norm.apply(isa, sum, hidden);
    }
}

impl Layer<bf16::Panels> {
    pub(super) fn forward(&self, unit: Unit, heads: Heads, texts: &[Range<usize>], buffers: &mut Buffers) {
        let isa = Isa::detect();
        let Buffers { hidden, qkv_or_inner, attention_out, sum, narrow, narrow_inner } = buffers;
        // Products read bf16 and sum in f32; the residual stream stays in f32.
        narrow_rows(isa, hidden, narrow);
        bf16::multiply(unit, narrow, &self.qkv, Epilogue::Bias, qkv_or_inner);
        attend(isa, qkv_or_inner, texts, heads, attention_out);
        narrow_rows(isa, attention_out, narrow);
        bf16::multiply(unit, narrow, &self.o_proj, Epilogue::Residual(hidden), sum);
        self.attention_norm.apply(isa, sum, hidden);
        narrow_rows(isa, hidden, narrow);
        let activated = Epilogue::Activation(self.activation);
        // The inner activations are only read by the next product, so they are stored in bf16 at
        // once.
        bf16::multiply_narrow(unit, narrow, &self.up, activated, narrow_inner);
        bf16::multiply(unit, narrow_inner, &self.down, Epilogue::Residual(hidden), sum);
        self.output_norm.apply(isa, sum, hidden);
    }

    /// Bytes that packing in bf16 saves over f32.
    pub(super) fn bytes_saved(&self) -> u64 {
        let weights = |panels: &bf16::Panels| (panels.inputs() * panels.outputs()) as u64;
        [&self.qkv, &self.o_proj, &self.up, &self.down].map(weights).iter().sum::<u64>() * 2
    }
}

fn pack(weights: &mut Weights, at: &str, panels: &mut impl Linear, outputs: Range<usize>) -> Result<()> {
    let weight = weights.encoder_values(&format!("{at}.weight"), &[outputs.len(), panels.inputs()])?;
    let bias = weights.encoder_values(&format!("{at}.bias"), &[outputs.len()])?;
    panels.pack(outputs.start, &weight, &bias);
    Ok(())
}

pub(super) fn layer_norm(weights: &mut Weights, at: &str, config: &EncoderConfig) -> Result<LayerNorm> {
    let shape = [config.hidden_size];
    Ok(LayerNorm {
        scale: weights.encoder_values(&format!("{at}.weight"), &shape)?,
        shift: weights.encoder_values(&format!("{at}.bias"), &shape)?,
        epsilon: config.layer_norm_eps as f32,
    })
}
