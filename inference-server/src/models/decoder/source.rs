//! Where a decoder's tensors come from.
//!
//! They are asked for by the names of transformers' checkpoints, without prefix and without
//! `.weight`.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};

use super::config::{DecoderConfig, Family};
use super::linear::Linear;
use crate::kernels::gemm;
use crate::kernels::isa::Isa;
use crate::kernels::paged::AttentionShape;
use crate::kernels::quant::{self, Format};
use crate::models::gguf::{Architecture, Gguf, halves_together};
use crate::models::load_progress::LoadProgress;
use crate::models::weights::Weights;

/// The token table's name behind the prefix.
pub(crate) const WORDS: &str = "embed_tokens.weight";
/// The same, as a layer.
pub(super) const TABLE: &str = "embed_tokens";

/// The name of the head that is not the token table.
pub(super) const HEAD: &str = "lm_head";

/// The tensors of a checkpoint.
pub enum Source {
    /// safetensors or PyTorch's own format; everything is computed in f32.
    Checkpoint(Weights),
    /// A GGUF file; layers in its block formats stay in them.
    Gguf(GgufWeights),
}

impl Source {
    /// Opens the checkpoint in a model's folder.
    ///
    /// # Errors
    /// As [`Weights::open`].
    pub fn checkpoint(dir: &Path, device: &candle_core::Device, loading: &Arc<LoadProgress>) -> Result<Self> {
        Weights::open(dir, WORDS, device, loading).map(Self::Checkpoint)
    }

    /// Weights handed out so far.
    pub fn parameters(&self) -> u64 {
        match self {
            Self::Checkpoint(weights) => weights.parameters(),
            Self::Gguf(weights) => weights.parameters,
        }
    }

    /// What the numbers of a normed row are multiplied by.
    pub(super) fn norm(&mut self, family: Family, name: &str, width: usize) -> Result<Vec<f32>> {
        match self {
            Self::Checkpoint(weights) => {
                let mut scale: Vec<f32> = weights.encoder(&format!("{name}.weight"), &[width])?.to_vec1()?;
                // Gemma's are kept as the distance from 1.
                if family == Family::Gemma3 {
                    scale.iter_mut().for_each(|x| *x += 1.0);
                }
                Ok(scale)
            }
            Self::Gguf(weights) => weights.floats(name, "weight", &[width]),
        }
    }

    /// A matrix as it is stored; the head has no prefix before its name.
    pub(super) fn stored(&mut self, name: &str, [outputs, inputs]: [usize; 2]) -> Result<Stored> {
        let shape = [outputs, inputs];
        match self {
            Self::Checkpoint(weights) => {
                let matrix = if name == HEAD {
                    weights.head(&head_name(weights, name), &shape)
                } else {
                    weights.encoder(&format!("{name}.weight"), &shape)
                };
                Ok(Stored::Floats(matrix?.flatten_all()?.to_vec1()?))
            }
            Self::Gguf(weights) => {
                let info = weights.file.expect(&weights.name(name, "weight"), &shape)?;
                if info.format().is_quantised() {
                    let (format, bytes) = weights.read(name, "weight", &shape)?;
                    return Ok(Stored::Blocks(format, bytes));
                }
                weights.floats(name, "weight", &shape).map(Stored::Floats)
            }
        }
    }

    /// The biases of a layer.
    pub(super) fn biases(&mut self, name: &str, outputs: usize) -> Result<Vec<f32>> {
        match self {
            Self::Checkpoint(weights) => {
                Ok(weights.encoder(&format!("{name}.bias"), &[outputs])?.to_vec1()?)
            }
            Self::Gguf(weights) => weights.floats(name, "bias", &[outputs]),
        }
    }

    /// Layers with so many outputs each, one after the other.
    pub(super) fn linear(&mut self, parts: &[(String, usize)], inputs: usize, bias: bool) -> Result<Linear> {
        match self {
            Self::Gguf(weights) => weights.linear(parts, inputs, bias),
            Self::Checkpoint(weights) => dense(parts, inputs, |name, outputs| {
                let matrix = weights.encoder(&format!("{name}.weight"), &[outputs, inputs])?;
                let bias = if bias {
                    weights.encoder(&format!("{name}.bias"), &[outputs])?.to_vec1()?
                } else {
                    vec![0.0; outputs]
                };
                Ok((matrix.flatten_all()?.to_vec1()?, bias))
            }),
        }
    }

    /// The head that is not the token table.
    pub(super) fn head(&mut self, inputs: usize, outputs: usize) -> Result<Linear> {
        let parts = [(HEAD.to_owned(), outputs)];
        match self {
            Self::Gguf(weights) => weights.linear(&parts, inputs, false),
            // Its name has no prefix, but that of a model that also reads images.
            Self::Checkpoint(weights) => dense(&parts, inputs, |name, outputs| {
                let matrix = weights.head(&head_name(weights, name), &[outputs, inputs])?;
                Ok((matrix.flatten_all()?.to_vec1()?, vec![0.0; outputs]))
            }),
        }
    }

    /// The token table, where it is not the head too.
    pub(super) fn words(&mut self, rows: usize, width: usize) -> Result<Words> {
        match self {
            Self::Checkpoint(weights) => {
                let table = weights.encoder(WORDS, &[rows, width])?;
                Ok(Words::F32(table.flatten_all()?.to_vec1()?))
            }
            Self::Gguf(weights) => weights.words(rows, width),
        }
    }
}

fn head_name(weights: &Weights, name: &str) -> String {
    let names = [format!("{name}.weight"), format!("language_model.{name}.weight")];
    let [plain, inner] = names;
    if !weights.has(&plain) && weights.has(&inner) { inner } else { plain }
}

/// A matrix as it is stored, a row for each output.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Stored {
    /// Numbers.
    Floats(Vec<f32>),
    /// Blocks of integers.
    Blocks(Format, Vec<u8>),
}

impl Stored {
    /// Its numbers, so many of them.
    pub(super) fn numbers(&self, count: usize) -> Vec<f32> {
        match self {
            Self::Floats(numbers) => numbers.clone(),
            Self::Blocks(format, bytes) => {
                let mut numbers = vec![0.0; count];
                format.dequantise(bytes, &mut numbers);
                numbers
            }
        }
    }
}

/// A layer in f32, whose parts `read` gives as weights and biases.
fn dense(
    parts: &[(String, usize)],
    inputs: usize,
    mut read: impl FnMut(&str, usize) -> Result<(Vec<f32>, Vec<f32>)>,
) -> Result<Linear> {
    let all = parts.iter().map(|(_, outputs)| outputs).sum();
    let mut panels = None;
    let mut first = 0;
    for (name, outputs) in parts {
        let (matrix, bias) = read(name, *outputs)?;
        // The first part is there, so the sizes are those of the file and not of its description
        // alone.
        panels.get_or_insert_with(|| gemm::Panels::zeros(inputs, all)).pack(first, &matrix, &bias);
        first += outputs;
    }
    panels.map(Linear::F32).context("a layer without parts")
}

/// The vectors of the tokens.
pub(super) enum Words {
    F32(Vec<f32>),
    /// As they lie in a GGUF file.
    Stored {
        format: Format,
        bytes: Vec<u8>,
        row: usize,
    },
}

impl Words {
    /// The vector of a token.
    pub(super) fn row(&self, token: usize, out: &mut [f32]) {
        match self {
            Self::F32(table) => out.copy_from_slice(&table[token * out.len()..][..out.len()]),
            Self::Stored { format, bytes, row } => format.dequantise(&bytes[token * row..][..*row], out),
        }
    }

    /// Bytes in memory.
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::F32(table) => size_of_val(table.as_slice()) as u64,
            Self::Stored { bytes, .. } => bytes.len() as u64,
        }
    }
}

/// The tensors of a GGUF file.
pub struct GgufWeights {
    file: Gguf,
    architecture: Architecture,
    heads: AttentionShape,
    loading: Arc<LoadProgress>,
    parameters: u64,
}

impl GgufWeights {
    /// The tensors of a file whose dimensions are `config`.
    ///
    /// # Errors
    /// If there is no room for them, the file does not say what it is, or this processor's
    /// instructions do not give what plain arithmetic gives.
    pub fn new(file: Gguf, config: &DecoderConfig, loading: &Arc<LoadProgress>) -> Result<Self> {
        let architecture = file.dimensions()?.architecture;
        ensure!(quant::check(Isa::detect()), "the vector instructions of this processor give wrong products");
        loading.expect(file.tensors().map(|(_, info)| info.bytes() as u64).sum())?;
        Ok(Self { file, architecture, heads: config.heads, loading: Arc::clone(loading), parameters: 0 })
    }

    /// What the file calls a tensor.
    fn name(&self, name: &str, kind: &str) -> String {
        let gemma = self.architecture == Architecture::Gemma3;
        let (block, part) = match name.strip_prefix("layers.").and_then(|rest| rest.split_once('.')) {
            Some((index, part)) => (format!("blk.{index}."), part),
            None => (String::new(), name),
        };
        let theirs = match part {
            "embed_tokens" => "token_embd",
            "norm" => "output_norm",
            "lm_head" => "output",
            "input_layernorm" => "attn_norm",
            "self_attn.q_norm" => "attn_q_norm",
            "self_attn.k_norm" => "attn_k_norm",
            "self_attn.q_proj" => "attn_q",
            "self_attn.k_proj" => "attn_k",
            "self_attn.v_proj" => "attn_v",
            "self_attn.o_proj" => "attn_output",
            "post_attention_layernorm" if gemma => "post_attention_norm",
            "post_attention_layernorm" | "pre_feedforward_layernorm" => "ffn_norm",
            "post_feedforward_layernorm" => "post_ffw_norm",
            "mlp.gate_proj" => "ffn_gate",
            "mlp.up_proj" => "ffn_up",
            "mlp.down_proj" => "ffn_down",
            other => other,
        };
        format!("{block}{theirs}.{kind}")
    }

    /// The bytes of a tensor and their format; rows of queries and keys in the order that rotation
    /// expects.
    fn read(&mut self, name: &str, kind: &str, shape: &[usize]) -> Result<(Format, Vec<u8>)> {
        let full = self.name(name, kind);
        let format = self.file.expect(&full, shape)?.format();
        let mut bytes = self.file.read(&full, shape)?;
        if self.architecture.has_pairs() {
            let heads = if name.ends_with("q_proj") {
                self.heads.kv_heads * self.heads.group
            } else if name.ends_with("k_proj") {
                self.heads.kv_heads
            } else {
                0
            };
            if heads > 0 {
                bytes = halves_together(&bytes, shape[0], heads).with_context(|| full.clone())?;
            }
        }
        self.parameters += shape.iter().product::<usize>() as u64;
        self.loading.advance(bytes.len() as u64);
        Ok((format, bytes))
    }

    fn floats(&mut self, name: &str, kind: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let (format, bytes) = self.read(name, kind, shape)?;
        let mut values = vec![0.0; shape.iter().product()];
        format.dequantise(&bytes, &mut values);
        let finite = values.iter().all(|value| value.is_finite());
        ensure!(finite, "tensor {} holds values that are not finite", self.name(name, kind));
        Ok(values)
    }

    fn biases(&mut self, name: &str, outputs: usize, has_bias: bool) -> Result<Option<Vec<f32>>> {
        has_bias.then(|| self.floats(name, "bias", &[outputs])).transpose()
    }

    /// Quantised where every part is in blocks and begins on a strip, else in f32.
    fn linear(&mut self, parts: &[(String, usize)], inputs: usize, bias: bool) -> Result<Linear> {
        let mut in_blocks = true;
        for (index, (name, outputs)) in parts.iter().enumerate() {
            let info = self.file.expect(&self.name(name, "weight"), &[*outputs, inputs])?;
            let is_last = index + 1 == parts.len();
            in_blocks &= info.format().is_quantised() && (is_last || quant::has_whole_strips(*outputs));
        }
        if !in_blocks {
            return dense(parts, inputs, |name, outputs| {
                let matrix = self.floats(name, "weight", &[outputs, inputs])?;
                let bias = self.biases(name, outputs, bias)?;
                Ok((matrix, bias.unwrap_or_else(|| vec![0.0; outputs])))
            });
        }
        let mut layers = Vec::new();
        for (name, outputs) in parts {
            let (format, bytes) = self.read(name, "weight", &[*outputs, inputs])?;
            let bias = self.biases(name, *outputs, bias)?;
            let layer = quant::Panels::of(format, inputs, *outputs, &bytes, bias.as_deref());
            layers.push(layer.with_context(|| format!("tensor {}", self.name(name, "weight")))?);
        }
        Ok(Linear::Quantised(layers))
    }

    fn words(&mut self, rows: usize, width: usize) -> Result<Words> {
        let (format, bytes) = self.read(TABLE, "weight", &[rows, width])?;
        let words = Words::Stored { format, row: bytes.len() / rows, bytes };
        let mut row = vec![0.0; width];
        for token in 0..rows {
            words.row(token, &mut row);
            let finite = row.iter().all(|value| value.is_finite());
            ensure!(finite, "tensor token_embd.weight holds values that are not finite");
        }
        Ok(words)
    }
}
