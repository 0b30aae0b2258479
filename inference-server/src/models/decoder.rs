//! Language models on the CPU, by our own kernels: the decoders of Qwen, Llama, Mistral, Gemma 3
//! and Phi 3.
//!
//! A step takes pieces of many texts, packed one after the other: whole prompts, parts of them, or
//! the last token of a text. Keys and values lie in blocks that the caller hands out. What a text's
//! last token gives is the same bits however the text was cut into pieces, whatever shares the step
//! and however many threads work.

pub(crate) mod config;
pub(crate) mod gpu;
mod layer;
mod linear;
pub(crate) mod rotation;
pub(crate) mod source;

use anyhow::{Context, Result};

use crate::kernels::gemm::Epilogue;
use crate::kernels::matrix::Matrix;
use crate::kernels::paged::{self, AttentionParams, AttentionShape, LayerKvCache};
use crate::kernels::parallel;
use crate::kernels::rms_norm::RmsNorm;
use crate::kernels::rope::Angles;
use crate::models::ComputeError;
use config::{DecoderConfig, Family, Kind};
use layer::Layer;
use linear::{Arithmetic, Linear};
use source::{Source, Words};

/// A piece of a text for one step.
#[derive(Debug, Clone)]
pub struct StepPiece<'a> {
    /// Its tokens.
    pub tokens: &'a [u32],
    /// Place of the first of them in the text; everything before it was computed.
    pub start: usize,
    /// Blocks for the keys and values of the text up to the last of them, in order.
    pub blocks: &'a [u32],
    /// Tokens at the text's beginning that are its prompt; those behind were written.
    pub prompt: usize,
    /// Whether the logits behind the last of them are asked for.
    pub logits: bool,
}

/// A language model on a device.
pub trait LanguageModel: Send {
    /// Takes memory for the blocks with numbers below `count`.
    ///
    /// # Errors
    /// [`ComputeError::OutOfMemory`].
    fn reserve(&mut self, count: usize) -> Result<(), ComputeError>;

    /// Computes the pieces, no two of one text; a row of logits for each piece that asks, in their
    /// order.
    ///
    /// # Errors
    /// See [`ComputeError`].
    fn step(&mut self, pieces: &[StepPiece<'_>]) -> Result<&Matrix, ComputeError>;

    /// Bytes that a block takes.
    fn block_bytes(&self) -> usize;

    /// Bytes of the weights.
    fn weight_bytes(&self) -> u64;

    /// Whether keys and values of a prompt's token may differ in their last bits from those of the
    /// same token where it was written, so that one does not stand for the other.
    fn tells_prompts_apart(&self) -> bool {
        false
    }

    /// Whether the processor has little to do during a step.
    fn computes_elsewhere(&self) -> bool {
        false
    }
}

/// Activations of a step.
#[derive(Default)]
struct Buffers {
    hidden: Matrix,
    normed: Matrix,
    wide: Matrix,
    context: Matrix,
    sum: Matrix,
    logits: Matrix,
}

/// What the layers of a step share.
struct Pass<'a> {
    pieces: Vec<paged::Piece<'a>>,
    angles: Angles,
    local_angles: Angles,
}

/// A decoder with its weights, keys and values.
pub struct Decoder {
    arithmetic: Arithmetic,
    config: DecoderConfig,
    /// The token table, where it is not the head.
    words: Option<Words>,
    layers: Vec<Layer>,
    norm: RmsNorm,
    head: Linear,
    pages: Vec<LayerKvCache>,
    buffers: Buffers,
}

impl Decoder {
    /// Reads the weights, tensor by tensor.
    ///
    /// # Errors
    /// Names the tensor that is missing or misshapen.
    pub fn load(config: DecoderConfig, source: &mut Source) -> Result<Self> {
        let (hidden, vocabulary) = (config.hidden, config.vocabulary);
        let (words, head) = if config.tied {
            (None, source.linear(&[("embed_tokens".to_owned(), vocabulary)], hidden, false)?)
        } else {
            (Some(source.words(vocabulary, hidden)?), source.head(hidden, vocabulary)?)
        };
        let load = |index| Layer::load(&config, source, index).with_context(|| format!("layer {index}"));
        let layers = (0..config.layers.len()).map(load).collect::<Result<Vec<_>>>()?;
        let norm = layer::norm(&config, source, "norm", hidden)?;
        let view = |layer: &Kind| AttentionParams { scale: config.score_scale, window: layer.window };
        let pages = config.layers.iter().map(|layer| LayerKvCache::new(config.heads, view(layer))).collect();
        let (arithmetic, buffers) = (Arithmetic::detect(), Buffers::default());
        Ok(Self { arithmetic, config, words, layers, norm, head, pages, buffers })
    }

    /// What it is.
    pub fn config(&self) -> &DecoderConfig {
        &self.config
    }

    fn embed(&mut self, tokens: &[u32]) {
        let width = self.config.hidden;
        let scale = (self.config.family == Family::Gemma3).then(|| (width as f32).sqrt());
        self.buffers.hidden.resize(tokens.len(), width);
        parallel::each_row(&mut self.buffers.hidden, |index, row| {
            let token = tokens[index] as usize;
            match &self.words {
                Some(words) => words.row(token, row),
                None => self.head.row(token, row),
            }
            if let Some(scale) = scale {
                row.iter_mut().for_each(|x| *x *= scale);
            }
        });
    }

    fn forward(&mut self, pass: &Pass<'_>, asked: &[usize]) {
        for (layer, pages) in self.layers.iter().zip(&mut self.pages) {
            layer.forward(&mut self.arithmetic, pass, pages, &mut self.buffers);
        }
        let Buffers { hidden, normed, logits, .. } = &mut self.buffers;
        normed.resize(asked.len(), self.config.hidden);
        for (target, row) in asked.iter().enumerate() {
            let target = normed.row_mut(target);
            target.copy_from_slice(hidden.row(*row));
            self.norm.apply_row(self.arithmetic.isa, target);
        }
        self.head.multiply(&mut self.arithmetic, normed, Epilogue::Bias, logits);
    }
}

/// Whether a piece is one that a model of this shape can compute.
fn check(config: &DecoderConfig, piece: &StepPiece<'_>) -> Result<(), ComputeError> {
    let (vocabulary, context) = (config.vocabulary, config.context);
    let end = piece.start + piece.tokens.len();
    let fault = if piece.tokens.is_empty() {
        "a piece without tokens".to_owned()
    } else if let Some(id) = piece.tokens.iter().find(|id| **id as usize >= vocabulary) {
        format!("token id {id} is outside of the table of {vocabulary} words")
    } else if end > context {
        format!("a text of {end} tokens, the context has room for {context}")
    } else if piece.blocks.len() < end.div_ceil(paged::BLOCK_TOKENS) {
        format!("{} blocks for {end} tokens", piece.blocks.len())
    } else {
        return Ok(());
    };
    Err(ComputeError::Failed(fault))
}

impl LanguageModel for Decoder {
    fn reserve(&mut self, count: usize) -> Result<(), ComputeError> {
        self.pages.iter_mut().for_each(|pages| pages.reserve(count));
        Ok(())
    }

    fn step(&mut self, pieces: &[StepPiece<'_>]) -> Result<&Matrix, ComputeError> {
        pieces.iter().try_for_each(|piece| check(&self.config, piece))?;
        let tokens: Vec<u32> = pieces.iter().flat_map(|piece| piece.tokens).copied().collect();
        let place = |piece: &StepPiece<'_>| {
            let end = piece.start + piece.tokens.len();
            piece.start as u32..end as u32
        };
        let positions: Vec<u32> = pieces.iter().flat_map(place).collect();
        let mut row = 0;
        let mut asked = Vec::new();
        let mut pass =
            Pass { pieces: Vec::new(), angles: Angles::default(), local_angles: Angles::default() };
        for piece in pieces {
            let rows = row..row + piece.tokens.len();
            row = rows.end;
            if piece.logits {
                asked.push(row - 1);
            }
            pass.pieces.push(paged::Piece { rows, start: piece.start, blocks: piece.blocks });
        }
        // Entering the pool once spares a hand-over between threads for every kernel.
        rayon::scope(|_| {
            let (rotation, local) = (&self.config.rotation, &self.config.local_rotation);
            pass.angles.fill(&positions, &rotation.frequencies, rotation.scale);
            pass.local_angles.fill(&positions, &local.frequencies, local.scale);
            self.embed(&tokens);
            self.forward(&pass, &asked);
        });
        Ok(&self.buffers.logits)
    }

    fn block_bytes(&self) -> usize {
        let shape: AttentionShape = self.config.heads;
        shape.block_bytes() * self.layers.len()
    }

    fn weight_bytes(&self) -> u64 {
        let words = self.words.as_ref().map_or(0, Words::bytes);
        words + self.head.bytes() + self.layers.iter().map(Layer::bytes).sum::<u64>()
    }
}
