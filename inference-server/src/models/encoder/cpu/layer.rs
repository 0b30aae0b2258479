//! One block of the encoder: attention and feed-forward, each with its residual and normalisation.

use std::ops::Range;

use anyhow::Result;

use super::{Buffers, activation, norm, values};
use crate::kernels::attention::{Heads, attend};
use crate::kernels::bf16::{self, Unit, narrow_rows};
use crate::kernels::gemm::{self, Epilogue};
use crate::kernels::isa::Isa;
use crate::kernels::layer_norm::LayerNorm;
use crate::kernels::math::Activation;
use crate::models::checkpoint::EncoderConfig;
use crate::models::weights::Weights;

/// A block with its weights packed as `W`.
pub(super) struct Layer<W> {
    qkv: W,
    attended: W,
    attention_norm: LayerNorm,
    up: W,
    activation: Activation,
    down: W,
    output_norm: LayerNorm,
}

/// Weights of a linear layer, packed for one kind of arithmetic.
pub(super) trait Linear {
    /// Zero weights.
    fn zeros(inputs: usize, outputs: usize) -> Self;
    /// Packs rows of W and their biases from an output on.
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

/// Reads every block of the encoder.
pub(super) fn load_all<W: Linear>(config: &EncoderConfig, weights: &mut Weights) -> Result<Vec<Layer<W>>> {
    let at = |index: usize| format!("encoder.layer.{index}");
    (0..config.num_hidden_layers).map(|index| Layer::load(config, weights, &at(index))).collect()
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
        let mut linear = |name: &str, from: usize, to: usize| {
            weights.expect(&format!("{at}.{name}.weight"), &[to, from])?;
            let mut panels = W::zeros(from, to);
            pack(weights, &format!("{at}.{name}"), &mut panels, 0..to)?;
            anyhow::Ok(panels)
        };
        let attended = linear("attention.output.dense", hidden, hidden)?;
        let up = linear("intermediate.dense", hidden, inner)?;
        let down = linear("output.dense", inner, hidden)?;
        Ok(Self {
            qkv,
            attended,
            attention_norm: norm(weights, &format!("{at}.attention.output.LayerNorm"), config)?,
            up,
            activation: activation(config.hidden_act),
            down,
            output_norm: norm(weights, &format!("{at}.output.LayerNorm"), config)?,
        })
    }
}

impl Layer<gemm::Panels> {
    pub(super) fn forward(&self, isa: Isa, heads: Heads, texts: &[Range<usize>], buffers: &mut Buffers) {
        let Buffers { hidden, wide, context, sum, .. } = buffers;
        gemm::multiply(isa, hidden, &self.qkv, Epilogue::Bias, wide);
        attend(isa, wide, texts, heads, context);
        gemm::multiply(isa, context, &self.attended, Epilogue::Residual(hidden), sum);
        self.attention_norm.apply(isa, sum, hidden);
        gemm::multiply(isa, hidden, &self.up, Epilogue::Activation(self.activation), wide);
        gemm::multiply(isa, wide, &self.down, Epilogue::Residual(hidden), sum);
        self.output_norm.apply(isa, sum, hidden);
    }
}

impl Layer<bf16::Panels> {
    pub(super) fn forward(&self, unit: Unit, heads: Heads, texts: &[Range<usize>], buffers: &mut Buffers) {
        let isa = Isa::detect();
        let Buffers { hidden, wide, context, sum, narrow, narrow_wide } = buffers;
        narrow_rows(isa, hidden, narrow);
        bf16::multiply(unit, narrow, &self.qkv, Epilogue::Bias, wide);
        attend(isa, wide, texts, heads, context);
        narrow_rows(isa, context, narrow);
        bf16::multiply(unit, narrow, &self.attended, Epilogue::Residual(hidden), sum);
        self.attention_norm.apply(isa, sum, hidden);
        narrow_rows(isa, hidden, narrow);
        let activated = Epilogue::Activation(self.activation);
        bf16::multiply_narrow(unit, narrow, &self.up, activated, narrow_wide);
        bf16::multiply(unit, narrow_wide, &self.down, Epilogue::Residual(hidden), sum);
        self.output_norm.apply(isa, sum, hidden);
    }

    /// By how many bytes the weights are smaller than in f32.
    pub(super) fn bytes_saved(&self) -> u64 {
        let weights = |panels: &bf16::Panels| (panels.inputs() * panels.outputs()) as u64;
        [&self.qkv, &self.attended, &self.up, &self.down].map(weights).iter().sum::<u64>() * 2
    }
}

fn pack(weights: &mut Weights, at: &str, panels: &mut impl Linear, outputs: Range<usize>) -> Result<()> {
    let weight = values(weights, &format!("{at}.weight"), &[outputs.len(), panels.inputs()])?;
    let bias = values(weights, &format!("{at}.bias"), &[outputs.len()])?;
    panels.pack(outputs.start, &weight, &bias);
    Ok(())
}
