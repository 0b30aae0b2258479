//! Encoders that candle-transformers computes: DeBERTa, NomicBERT, JinaBERT, GTE, and the decoders
//! that embed.
//!
//! Its networks take rows of one length as a rectangle. So rows of equal length run together and no
//! others: nothing is padded, and no mask is needed, whose treatment differs between its networks.
//! A row's output depends on the other rows only by the rounding of matrix products.

use candle_core::{DType, Device, Module, Result, Tensor};
use candle_transformers::models::{
    debertav2::DebertaV2Model, jina_bert, nomic_bert::NomicBertModel, qwen2, qwen3, stella_en_v5,
};

use super::backbone::{Backbone, compute_error};
use super::candle::in_length_order;
use crate::models::ComputeError;
use crate::models::checkpoint::encoder_config::EncoderConfig;
use crate::models::checkpoint::library_config::{LibraryConfig, LibraryNetwork};
use crate::models::weights::Weights;
use crate::models::weights::library::{LibraryNames, library_weights};
use crate::text::tokenizer::SECOND_TEXT;

/// Attention scores of rows that run together, 128 MiB in f32; one row may exceed it alone.
const MAX_SCORES: usize = 32 << 20;

/// Decoders' tensors are asked for behind `model.`. Mistral has none of Qwen 2's biases.
const DECODER: LibraryNames =
    LibraryNames { prefix: "model.", zeros: &["q_proj.bias", "k_proj.bias", "v_proj.bias"] };
/// GTE's tensors are asked for behind `new.`. The smallest of its models has no token types.
const GTE: LibraryNames = LibraryNames { prefix: "new.", zeros: &["token_type_embeddings.weight"] };

/// An encoder with its weights on a device.
pub(crate) struct LibraryEncoder {
    device: Device,
    heads: usize,
    network: Network,
    /// True if every row runs alone: candle-transformers adds DeBERTa's absolute positions to a
    /// single row.
    one_by_one: bool,
    /// Bytes of biases that are computed while loading and stay in memory.
    bias_bytes: u64,
}

/// Networks whose forward pass changes them are cloned for each: the tensors are shared, and the
/// clone has no keys and values of earlier rows.
enum Network {
    Deberta(Box<DebertaV2Model>),
    Nomic(NomicBertModel),
    Jina(jina_bert::BertModel),
    Gte(stella_en_v5::Model),
    Qwen2 { model: qwen2::Model, bidirectional: bool },
    Qwen3(qwen3::Model),
}

impl LibraryEncoder {
    /// Reads the weights, tensor by tensor.
    ///
    /// # Errors
    /// Names the tensor that is missing or has another shape.
    pub(crate) fn load(
        config: &EncoderConfig,
        library: &LibraryConfig,
        weights: &mut Weights,
    ) -> anyhow::Result<Self> {
        let device = weights.device().clone();
        let heads = config.num_attention_heads;
        let alibi = matches!(library.network, LibraryNetwork::Jina(_));
        let biases = if alibi { heads * library.positions * library.positions } else { 0 };
        let one_by_one =
            matches!(&library.network, LibraryNetwork::Deberta(config, _) if config.position_biased_input);
        // The message alone: candle's error would carry a backtrace of the reader.
        let network = Network::load(&library.network, weights).map_err(|error| anyhow::anyhow!("{error}"))?;
        Ok(Self { device, heads, network, one_by_one, bias_bytes: (biases * size_of::<f32>()) as u64 })
    }

    /// Hidden states of rows that are sorted by length.
    fn sorted(&self, rows: &[&[u32]]) -> Result<Tensor> {
        let mut parts = Vec::new();
        for equal in rows.chunk_by(|one, other| one.len() == other.len()) {
            let length = equal.first().map_or(1, |row| row.len()).max(1);
            let fitting = if self.one_by_one { 1 } else { MAX_SCORES / (self.heads * length * length) };
            for some in equal.chunks(fitting.max(1)) {
                parts.push(self.network.forward(some, &self.device)?.flatten(0, 1)?);
            }
        }
        Tensor::cat(&parts, 0)
    }
}

impl Backbone for LibraryEncoder {
    fn hidden(&self, rows: &[&[u32]]) -> std::result::Result<Tensor, ComputeError> {
        self.device.with_context(|| in_length_order(rows, |rows| self.sorted(rows))).map_err(compute_error)
    }

    fn weight_bytes(&self, parameters: u64) -> u64 {
        parameters * size_of::<f32>() as u64 + self.bias_bytes
    }
}

impl Network {
    fn load(config: &LibraryNetwork, weights: &mut Weights) -> Result<Self> {
        let names = match config {
            LibraryNetwork::Gte(_) => GTE,
            LibraryNetwork::Qwen2 { .. } => DECODER,
            LibraryNetwork::Qwen3(_) => LibraryNames { zeros: &[], ..DECODER },
            _ => LibraryNames::default(),
        };
        let source = library_weights(weights, names);
        match config {
            LibraryNetwork::Deberta(config, _) => {
                DebertaV2Model::load(source, config).map(|model| Self::Deberta(Box::new(model)))
            }
            LibraryNetwork::Nomic(config) => NomicBertModel::load(source, config).map(Self::Nomic),
            LibraryNetwork::Jina(config) => jina_bert::BertModel::new(source, config).map(Self::Jina),
            LibraryNetwork::Gte(config) => stella_en_v5::Model::new(config, source).map(Self::Gte),
            LibraryNetwork::Qwen2 { config, bidirectional } => qwen2::Model::new(config, source)
                .map(|model| Self::Qwen2 { model, bidirectional: *bidirectional }),
            LibraryNetwork::Qwen3(config) => qwen3::Model::new(config, source).map(Self::Qwen3),
        }
    }

    /// Hidden states of rows of equal length, rows × length × width.
    fn forward(&self, rows: &[&[u32]], device: &Device) -> Result<Tensor> {
        let shape = (rows.len(), rows.first().map_or(0, |row| row.len()));
        let ids: Vec<u32> = rows.iter().flat_map(|row| row.iter().map(|id| id & !SECOND_TEXT)).collect();
        let ids = Tensor::from_vec(ids, shape, device)?;
        match self {
            Self::Deberta(model) => model.forward(&ids, Some(token_types(rows, shape, device)?), None),
            Self::Nomic(model) => model.forward(&ids, None, None),
            Self::Jina(model) => model.forward(&ids),
            Self::Gte(model) => model.clone().forward(&ids, &ids.ones_like()?),
            Self::Qwen2 { model, bidirectional } => {
                // Given a mask, candle-transformers adds no causal one of its own.
                let mask = bidirectional.then(|| ids.ones_like()).transpose()?;
                model.clone().forward(&ids, 0, mask.as_ref())
            }
            Self::Qwen3(model) => model.clone().forward(&ids, 0),
        }?
        .to_dtype(DType::F32)
    }
}

/// 1 for the tokens of a pair's second text, 0 for all others.
fn token_types(rows: &[&[u32]], shape: (usize, usize), device: &Device) -> Result<Tensor> {
    let types: Vec<u32> =
        rows.iter().flat_map(|row| row.iter().map(|id| u32::from(id & SECOND_TEXT != 0))).collect();
    Tensor::from_vec(types, shape, device)
}
