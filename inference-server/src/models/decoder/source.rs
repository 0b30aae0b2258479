//! Sources of a decoder's tensors: a Hugging Face checkpoint or a GGUF file.
//!
//! Tensors are requested by the names of transformers' checkpoints without prefix and without
//! `.weight`; for a GGUF file these are translated into llama.cpp's. Differences in content (added
//! ones in Gemma's norms, permuted rows of Llama) are undone here.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use candle_core::Device;

use super::config::DecoderConfig;
use super::cpu::linear::Linear;
use super::family::Family;
use crate::kernels::gemm;
use crate::kernels::isa::Isa;
use crate::kernels::paged::AttentionShape;
use crate::kernels::quant::{self, Format};
use crate::models::gguf::Gguf;
use crate::models::gguf::dimensions::{Architecture, unpermute_heads};
use crate::models::load_progress::LoadProgress;
use crate::models::weights::Weights;

/// The token embeddings, by which the prefix of a checkpoint's tensors is found.
const TOKEN_EMBEDDINGS_WEIGHT: &str = "embed_tokens.weight";
/// The token embeddings as a layer.
pub(super) const TOKEN_EMBEDDINGS: &str = "embed_tokens";
/// The output layer of a model whose embeddings are not tied.
pub(super) const HEAD: &str = "lm_head";

/// The tensors of a checkpoint.
pub enum Source {
    /// safetensors or PyTorch's own format; the CPU computes these in f32.
    Checkpoint(Weights),
    /// A GGUF file; quantised layers stay quantised.
    Gguf(GgufWeights),
}

impl Source {
    /// Opens the checkpoint in a model's directory. Tensors are read into host memory, wherever the
    /// network computes: a GPU decoder packs them before it uploads them.
    ///
    /// # Errors
    /// As `Weights::open`.
    pub fn checkpoint(dir: &Path, progress: &Arc<LoadProgress>) -> Result<Self> {
        Weights::open(dir, TOKEN_EMBEDDINGS_WEIGHT, &Device::Cpu, progress).map(Self::Checkpoint)
    }

    /// Number of weights read so far.
    pub fn parameters(&self) -> u64 {
        match self {
            Self::Checkpoint(weights) => weights.parameters(),
            Self::Gguf(weights) => weights.parameters,
        }
    }

    /// Factors of a norm.
    pub(super) fn norm(&mut self, family: Family, name: &str, width: usize) -> Result<Vec<f32>> {
        match self {
            Self::Checkpoint(weights) => {
                let mut scale: Vec<f32> = weights.encoder(&format!("{name}.weight"), &[width])?.to_vec1()?;
                // Gemma stores the distance from 1.
                if family == Family::Gemma3 {
                    scale.iter_mut().for_each(|x| *x += 1.0);
                }
                Ok(scale)
            }
            Self::Gguf(weights) => weights.floats(name, "weight", &[width]),
        }
    }

    /// A weight matrix, outputs × inputs, in the format of the file.
    pub(super) fn matrix(&mut self, name: &str, [outputs, inputs]: [usize; 2]) -> Result<StoredMatrix> {
        let shape = [outputs, inputs];
        match self {
            Self::Checkpoint(weights) => {
                let matrix = if name == HEAD {
                    weights.head(&head_name(weights, name), &shape)
                } else {
                    weights.encoder(&format!("{name}.weight"), &shape)
                };
                Ok(StoredMatrix::Floats(matrix?.flatten_all()?.to_vec1()?))
            }
            Self::Gguf(weights) => {
                let info = weights.file.expect(&weights.name(name, "weight"), &shape)?;
                // F16 and BF16 tensors of a GGUF file are widened; only integer formats stay as
                // they are.
                if info.format().is_quantised() {
                    let (format, bytes) = weights.read(name, "weight", &shape)?;
                    return Ok(StoredMatrix::Blocks(format, bytes));
                }
                weights.floats(name, "weight", &shape).map(StoredMatrix::Floats)
            }
        }
    }

    /// Biases of a layer.
    pub(super) fn biases(&mut self, name: &str, outputs: usize) -> Result<Vec<f32>> {
        match self {
            Self::Checkpoint(weights) => {
                Ok(weights.encoder(&format!("{name}.bias"), &[outputs])?.to_vec1()?)
            }
            Self::Gguf(weights) => weights.floats(name, "bias", &[outputs]),
        }
    }

    /// Layers, by name and outputs, concatenated into one.
    pub(super) fn linear(&mut self, parts: &[(String, usize)], inputs: usize, bias: bool) -> Result<Linear> {
        match self {
            Self::Gguf(weights) => weights.linear(parts, inputs, bias),
            Self::Checkpoint(weights) => pack_f32(parts, inputs, |name, outputs| {
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

    /// The output layer of a model whose embeddings are not tied.
    pub(super) fn head(&mut self, inputs: usize, outputs: usize) -> Result<Linear> {
        let parts = [(HEAD.to_owned(), outputs)];
        match self {
            Self::Gguf(weights) => weights.linear(&parts, inputs, false),
            Self::Checkpoint(weights) => pack_f32(&parts, inputs, |name, outputs| {
                let matrix = weights.head(&head_name(weights, name), &[outputs, inputs])?;
                Ok((matrix.flatten_all()?.to_vec1()?, vec![0.0; outputs]))
            }),
        }
    }

    /// The token embeddings, vocabulary × width, of a model whose embeddings are not tied.
    pub(super) fn token_embeddings(&mut self, vocabulary: usize, width: usize) -> Result<TokenEmbeddings> {
        match self {
            Self::Checkpoint(weights) => {
                let table = weights.encoder(TOKEN_EMBEDDINGS_WEIGHT, &[vocabulary, width])?;
                Ok(TokenEmbeddings::F32(table.flatten_all()?.to_vec1()?))
            }
            Self::Gguf(weights) => weights.token_embeddings(vocabulary, width),
        }
    }
}

/// Full name of the output layer. It has no prefix, except in models that also read images.
fn head_name(weights: &Weights, name: &str) -> String {
    let (plain, inner) = (format!("{name}.weight"), format!("language_model.{name}.weight"));
    if !weights.has(&plain) && weights.has(&inner) { inner } else { plain }
}

/// A matrix in the format of its file, with a row for each output.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum StoredMatrix {
    /// Numbers in f32.
    Floats(Vec<f32>),
    /// Quantisation blocks.
    Blocks(Format, Vec<u8>),
}

impl StoredMatrix {
    /// Its `count` numbers in f32.
    pub(super) fn to_f32(&self, count: usize) -> Vec<f32> {
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

/// Packs a layer in f32; `read` returns weights and biases of a part by name and outputs.
fn pack_f32(
    parts: &[(String, usize)],
    inputs: usize,
    mut read: impl FnMut(&str, usize) -> Result<(Vec<f32>, Vec<f32>)>,
) -> Result<Linear> {
    let all = parts.iter().map(|(_, outputs)| outputs).sum();
    let mut panels = None;
    let mut first = 0;
    for (name, outputs) in parts {
        let (matrix, bias) = read(name, *outputs)?;
        // Allocated only now: the first part exists, so the sizes are not mere claims of the
        // configuration.
        panels.get_or_insert_with(|| gemm::Panels::zeros(inputs, all)).pack(first, &matrix, &bias);
        first += outputs;
    }
    panels.map(Linear::F32).context("a layer without parts")
}

/// Token embeddings, one row per token.
pub(super) enum TokenEmbeddings {
    F32(Vec<f32>),
    /// In the format of a GGUF file.
    Gguf {
        format: Format,
        bytes: Vec<u8>,
        row_bytes: usize,
    },
}

impl TokenEmbeddings {
    /// Copies the vector of a token.
    pub(super) fn row(&self, token: usize, out: &mut [f32]) {
        match self {
            Self::F32(table) => out.copy_from_slice(&table[token * out.len()..][..out.len()]),
            Self::Gguf { format, bytes, row_bytes } => {
                format.dequantise(&bytes[token * row_bytes..][..*row_bytes], out);
            }
        }
    }

    /// Bytes in memory.
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::F32(table) => size_of_val(table.as_slice()) as u64,
            Self::Gguf { bytes, .. } => bytes.len() as u64,
        }
    }
}

/// The tensors of a GGUF file.
pub struct GgufWeights {
    file: Gguf,
    architecture: Architecture,
    heads: AttentionShape,
    progress: Arc<LoadProgress>,
    parameters: u64,
}

impl GgufWeights {
    /// The tensors of a file whose configuration is `config`.
    ///
    /// # Errors
    /// If they exceed the limit of `progress`, the metadata is incomplete, or the vector
    /// instructions of this processor fail their self-test.
    pub fn new(file: Gguf, config: &DecoderConfig, progress: &Arc<LoadProgress>) -> Result<Self> {
        let architecture = file.dimensions()?.architecture;
        ensure!(quant::check(Isa::detect()), "the vector instructions of this processor give wrong products");
        progress.expect(file.tensors().map(|(_, info)| info.bytes() as u64).sum())?;
        Ok(Self { file, architecture, heads: config.heads, progress: Arc::clone(progress), parameters: 0 })
    }

    /// Name of a tensor in files of llama.cpp's converter.
    fn name(&self, name: &str, kind: &str) -> String {
        let gemma = self.architecture == Architecture::Gemma3;
        let (block, part) = match name.strip_prefix("layers.").and_then(|rest| rest.split_once('.')) {
            Some((index, part)) => (format!("blk.{index}."), part),
            None => (String::new(), name),
        };
        let gguf_part = match part {
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
            // The same name in transformers for two different norms; see `cpu/layer.rs`.
            "post_attention_layernorm" if gemma => "post_attention_norm",
            "post_attention_layernorm" | "pre_feedforward_layernorm" => "ffn_norm",
            "post_feedforward_layernorm" => "post_ffw_norm",
            "mlp.gate_proj" => "ffn_gate",
            "mlp.up_proj" => "ffn_up",
            "mlp.down_proj" => "ffn_down",
            other => other,
        };
        format!("{block}{gguf_part}.{kind}")
    }

    /// Format and bytes of a tensor, with the rows of queries and keys in the order that our
    /// rotation expects.
    fn read(&mut self, name: &str, kind: &str, shape: &[usize]) -> Result<(Format, Vec<u8>)> {
        let full = self.name(name, kind);
        let format = self.file.expect(&full, shape)?.format();
        let mut bytes = self.file.read(&full, shape)?;
        if self.architecture.is_interleaved() {
            // Norms and values have no pairs that are rotated together.
            let heads = if name.ends_with("q_proj") {
                self.heads.kv_heads * self.heads.group
            } else if name.ends_with("k_proj") {
                self.heads.kv_heads
            } else {
                0
            };
            if heads > 0 {
                bytes = unpermute_heads(&bytes, shape[0], heads).with_context(|| full.clone())?;
            }
        }
        self.parameters += shape.iter().product::<usize>() as u64;
        self.progress.advance(bytes.len() as u64);
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

    /// Quantised if every part is and begins on a strip of the packed layout, else in f32.
    fn linear(&mut self, parts: &[(String, usize)], inputs: usize, bias: bool) -> Result<Linear> {
        // Formats may differ from part to part: K quantisations keep values in more bits than
        // queries.
        let mut quantised = true;
        for (index, (name, outputs)) in parts.iter().enumerate() {
            let info = self.file.expect(&self.name(name, "weight"), &[*outputs, inputs])?;
            let is_last = index + 1 == parts.len();
            quantised &= info.format().is_quantised() && (is_last || quant::has_whole_strips(*outputs));
        }
        if !quantised {
            return pack_f32(parts, inputs, |name, outputs| {
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

    fn token_embeddings(&mut self, vocabulary: usize, width: usize) -> Result<TokenEmbeddings> {
        let (format, bytes) = self.read(TOKEN_EMBEDDINGS, "weight", &[vocabulary, width])?;
        let embeddings = TokenEmbeddings::Gguf { format, row_bytes: bytes.len() / vocabulary, bytes };
        let mut row = vec![0.0; width];
        // Checked once: a NaN in one embedding would surface as a failed request much later.
        for token in 0..vocabulary {
            embeddings.row(token, &mut row);
            let finite = row.iter().all(|value| value.is_finite());
            ensure!(finite, "tensor token_embd.weight holds values that are not finite");
        }
        Ok(embeddings)
    }
}
