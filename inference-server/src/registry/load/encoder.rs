//! Loading of an encoder with the head of its task: embedding, token classification or ranking.
//!
//! Everything that can be checked without reading weights is checked first: configuration,
//! sentence-transformers modules, tokenizer. The self-test at the end catches weights that load but
//! do not compute.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, ensure};

use crate::device::OpenDevice;
use crate::models::checkpoint::encoder_config::EncoderConfig;
use crate::models::checkpoint::sentence_transformers::SentenceTransformersConfig;
use crate::models::encoder::Encoder;
use crate::models::heads::{EmbeddingHead, Head, SequenceClassificationHead, TokenClassificationHead};
use crate::models::load_progress::LoadProgress;
use crate::models::weights::Weights;
use crate::models::{Extras, Model, ModelInfo, Task};
use crate::registry::loaded::{LoadedModel, Network};
use crate::registry::{card, revision};
use crate::text::tokenizer::TextTokenizer;

/// Loads the encoder in `<store>/<name>`.
///
/// # Errors
/// Names the file at fault and what was expected of it, on one line.
pub(super) fn load(
    store: &Path,
    name: &str,
    device: &OpenDevice,
    progress: &Arc<LoadProgress>,
) -> Result<LoadedModel> {
    let dir = store.join(name);
    let config = EncoderConfig::read(&dir)?;
    let settings = SentenceTransformersConfig::read(&dir, name, config.hidden_size)?;
    let task = config.task()?;
    let limit = config.max_tokens();
    let max_input_tokens = settings.max_seq_length.map_or(limit, |length| length.min(limit));
    let architecture = config.architecture;
    let mut tokenizer = TextTokenizer::read(&dir, config.vocab_size, max_input_tokens, settings.lowercase)?;
    if architecture.is_decoder() {
        tokenizer = tokenizer.with_end_token(&dir)?;
    }
    let tokenizer = tokenizer.with_pair_types(config.has_pair_types());
    let mut weights = Weights::open_encoder(&dir, &config, &device.device, progress)?;
    let labels = if task == Task::TokenClassification { config.labels()? } else { Vec::new() };
    let head = load_head(&dir, &config, &settings, labels.len(), &mut weights)?;
    let (sparse, multi_vector_dimensions) = head.extras();
    let network = Encoder::load(&config, &mut weights, device.precision, head)?;
    let embeds = task == Task::Embedding;
    let info = ModelInfo {
        name: name.to_owned(),
        revision: revision::revision(store, name)?,
        task,
        architecture: architecture.name(),
        max_input_tokens,
        dimensions: if embeds { settings.dimensions } else { 0 },
        pooling: embeds.then_some(settings.pooling),
        matryoshka: if embeds { config.matryoshka(settings.dimensions) } else { Vec::new() },
        sparse,
        multi_vector_dimensions,
        normalize: settings.normalize,
        prompts: if embeds { settings.prompts } else { Default::default() },
        default_prompt: settings.default_prompt.filter(|_| embeds),
        labels,
        languages: card::languages(&dir),
        parameters: weights.parameters(),
        weight_bytes: network.weight_bytes(weights.parameters()),
        device: device.name.clone(),
    };
    let model = LoadedModel { info, tokenizer, network: Network::Encoder(Box::new(network)) };
    self_test(&model)?;
    Ok(model)
}

fn load_head(
    dir: &Path,
    config: &EncoderConfig,
    settings: &SentenceTransformersConfig,
    labels: usize,
    weights: &mut Weights,
) -> Result<Head> {
    match config.task()? {
        Task::Embedding => {
            let head = EmbeddingHead::load(dir, settings, config, weights)?;
            Ok(Head::Embedding(Box::new(head)))
        }
        Task::TokenClassification => {
            TokenClassificationHead::load(config, weights, labels).map(Head::TokenClassification)
        }
        Task::Ranking | Task::Generation => {
            SequenceClassificationHead::load(config, weights, 1).map(Head::SequenceClassification)
        }
    }
}

/// One forward pass over a short text, which has to give finite numbers, and as many as promised.
fn self_test(model: &LoadedModel) -> Result<()> {
    let encoded =
        model.tokenizer.tokens("a", true).map_err(|error| anyhow!("tokenizer.json: self-test: {error}"))?;
    let ids = &encoded.get_ids()[..encoded.len().min(model.info.max_input_tokens)];
    let outputs =
        model.network.run(&[ids], Extras::default()).map_err(|error| anyhow!("self-test: {error}"))?;
    let expected = match model.info.task {
        Task::Embedding => model.info.dimensions,
        Task::TokenClassification => ids.len() * model.info.labels.len(),
        Task::Ranking | Task::Generation => 1,
    };
    let values = &outputs.first().context("self-test: no output")?.values;
    ensure!(values.len() == expected, "self-test: {} values, expected {expected}", values.len());
    ensure!(values.iter().all(|x| x.is_finite()), "self-test: the weights give values that are not finite");
    Ok(())
}
