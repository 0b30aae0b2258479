//! Language models on the CPU, by our own kernels.
//!
//! Weights stay in the format of the file: f32, or the quantisation blocks of GGUF. A token's
//! logits are the same bits in prefill and decode, with any other pieces in the step, and with any
//! number of threads.

mod layer;
pub(super) mod linear;

use anyhow::{Context, Result};

use super::config::DecoderConfig;
use super::family::Family;
use super::source::{Source, TokenEmbeddings};
use super::{LanguageModel, StepPiece, check};
use crate::kernels::gemm::Epilogue;
use crate::kernels::matrix::Matrix;
use crate::kernels::paged::{self, AttentionParams, LayerKvCache};
use crate::kernels::parallel;
use crate::kernels::rms_norm::RmsNorm;
use crate::kernels::rope::Angles;
use crate::models::ComputeError;
use layer::{Buffers, Layer, Pass, rms_norm};
use linear::{Arithmetic, Linear};

/// A decoder with its weights and its KV cache.
pub struct CpuDecoder {
    arithmetic: Arithmetic,
    config: DecoderConfig,
    /// `None` if they are tied to the head.
    token_embeddings: Option<TokenEmbeddings>,
    layers: Vec<Layer>,
    norm: RmsNorm,
    head: Linear,
    /// KV cache of each layer.
    pages: Vec<LayerKvCache>,
    buffers: Buffers,
}

impl CpuDecoder {
    /// Reads and packs the weights, tensor by tensor.
    ///
    /// # Errors
    /// Names the tensor that is missing or has another shape.
    pub fn load(config: DecoderConfig, source: &mut Source) -> Result<Self> {
        let (hidden, vocabulary) = (config.hidden, config.vocabulary);
        let (token_embeddings, head) = if config.tied_embeddings {
            // Tied embeddings are kept once, packed for the product; a row is unpacked for each
            // token.
            (None, source.linear(&[("embed_tokens".to_owned(), vocabulary)], hidden, false)?)
        } else {
            (Some(source.token_embeddings(vocabulary, hidden)?), source.head(hidden, vocabulary)?)
        };
        let mut layers = Vec::new();
        for index in 0..config.layers.len() {
            layers.push(Layer::load(&config, source, index).with_context(|| format!("layer {index}"))?);
        }
        let norm = rms_norm(&config, source, "norm", hidden)?;
        let mut pages = Vec::with_capacity(config.layers.len());
        for layer in &config.layers {
            let params = AttentionParams { scale: config.score_scale, window: layer.window };
            pages.push(LayerKvCache::new(config.heads, params));
        }
        let (arithmetic, buffers) = (Arithmetic::detect(), Buffers::default());
        Ok(Self { arithmetic, config, token_embeddings, layers, norm, head, pages, buffers })
    }

    /// Configuration that it was loaded with.
    pub fn config(&self) -> &DecoderConfig {
        &self.config
    }

    fn embed(&mut self, tokens: &[u32]) {
        let width = self.config.hidden;
        // Gemma scales embeddings at run time, since the head has them unscaled.
        let scale = (self.config.family == Family::Gemma3).then(|| (width as f32).sqrt());
        self.buffers.hidden.resize(tokens.len(), width);
        parallel::each_row(&mut self.buffers.hidden, |index, row| {
            let token = tokens[index] as usize;
            match &self.token_embeddings {
                Some(embeddings) => embeddings.row(token, row),
                None => self.head.row(token, row),
            }
            if let Some(scale) = scale {
                row.iter_mut().for_each(|x| *x *= scale);
            }
        });
    }

    /// Runs all layers, then norm and head for the rows in `logit_rows` alone.
    fn forward(&mut self, pass: &Pass<'_>, logit_rows: &[usize]) {
        // Buffers are shared by all layers, so that activations stay in cache.
        for (layer, pages) in self.layers.iter().zip(&mut self.pages) {
            layer.forward(&mut self.arithmetic, pass, pages, &mut self.buffers);
        }
        let Buffers { hidden, normed, logits, .. } = &mut self.buffers;
        // The head is the largest product of small models: rows that need no logits skip it.
        normed.resize(logit_rows.len(), self.config.hidden);
        for (target, row) in logit_rows.iter().enumerate() {
            let target = normed.row_mut(target);
            target.copy_from_slice(hidden.row(*row));
            self.norm.apply_row(self.arithmetic.isa, target);
        }
        self.head.multiply(&mut self.arithmetic, normed, Epilogue::Bias, logits);
    }
}

impl LanguageModel for CpuDecoder {
    fn reserve(&mut self, count: usize) -> Result<(), ComputeError> {
        self.pages.iter_mut().for_each(|pages| pages.reserve(count));
        Ok(())
    }

    fn step(&mut self, pieces: &[StepPiece<'_>]) -> Result<&Matrix, ComputeError> {
        let mut tokens: Vec<u32> = Vec::new();
        let mut positions: Vec<u32> = Vec::new();
        let mut logit_rows = Vec::new();
        let mut pass =
            Pass { pieces: Vec::new(), angles: Angles::default(), local_angles: Angles::default() };
        for piece in pieces {
            check(&self.config, piece)?;
            let rows = tokens.len()..tokens.len() + piece.tokens.len();
            tokens.extend(piece.tokens);
            positions.extend(piece.start as u32..(piece.start + piece.tokens.len()) as u32);
            if piece.logits {
                logit_rows.push(rows.end - 1);
            }
            pass.pieces.push(paged::Piece { rows, start: piece.start, blocks: piece.blocks });
        }
        // Entering the thread pool once for the whole step saves a hand-over for every kernel.
        rayon::scope(|_| {
            let (rope, local) = (&self.config.rope, &self.config.local_rope);
            pass.angles.fill(&positions, &rope.frequencies, rope.attention_factor);
            pass.local_angles.fill(&positions, &local.frequencies, local.attention_factor);
            self.embed(&tokens);
            self.forward(&pass, &logit_rows);
        });
        Ok(&self.buffers.logits)
    }

    fn block_bytes(&self) -> usize {
        self.config.heads.block_bytes() * self.layers.len()
    }

    fn weight_bytes(&self) -> u64 {
        let embeddings = self.token_embeddings.as_ref().map_or(0, TokenEmbeddings::bytes);
        embeddings + self.head.bytes() + self.layers.iter().map(Layer::bytes).sum::<u64>()
    }
}
