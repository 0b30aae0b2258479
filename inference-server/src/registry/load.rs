//! From a directory of the store to a model that answers.

mod decoder;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};

use crate::device::OpenDevice;
use crate::models::checkpoint::EncoderConfig;
use crate::models::encoder::Encoder;
use crate::models::heads::Pooled;
use crate::models::load_progress::LoadProgress;
use crate::models::sentence_transformers::SentenceSettings;
use crate::models::weights::Weights;
use crate::models::{ComputeError, Extras, Model, ModelInfo, Task, checkpoint};
use crate::registry::loaded::{LoadedModel, Network};
use crate::registry::{card, revision};
use crate::text::tokenizer::TextTokenizer;

/// Loads `<store>/<name>` onto the device and runs it once, so that a model that cannot compute
/// never becomes ready.
///
/// # Errors
/// One line that names the file and what was expected of it.
pub fn load(store: &Path, name: &str, device: &OpenDevice) -> Result<LoadedModel> {
    load_within(store, name, device, &Arc::default())
}

/// As [`load`], telling `loading` how far it is and keeping to the room it gives.
///
/// # Errors
/// As [`load`], and where there is no room for the weights.
pub(crate) fn load_within(
    store: &Path,
    name: &str,
    device: &OpenDevice,
    loading: &Arc<LoadProgress>,
) -> Result<LoadedModel> {
    let dir = store.join(name);
    if checkpoint::is_decoder(&dir)? {
        return decoder::load(store, name, device, loading);
    }
    let config = EncoderConfig::read(&dir)?;
    let settings = SentenceSettings::read(&dir, name, config.hidden_size)?;
    let task = config.task()?;
    let limit = config.max_tokens();
    let max_input_tokens = settings.max_seq_length.map_or(limit, |asked| asked.min(limit));
    let tokenizer = TextTokenizer::read(&dir, config.vocab_size, max_input_tokens, settings.lowercase)?
        .with_pair_types(config.has_pair_types());
    let mut weights = Weights::open(&dir, config.word_table(), &device.device, loading)?;
    let embeds = task == Task::Embedding;
    let labels = if task == Task::TokenClassification { config.labels()? } else { Vec::new() };
    let (mut sparse, mut multi_vector_dimensions) = (false, 0);
    let network = match task {
        Task::Embedding => {
            let head = Pooled::load(&dir, &settings, &config, &mut weights)?;
            (sparse, multi_vector_dimensions) = head.extras();
            Encoder::pooled(&config, &mut weights, device.precision, head)?
        }
        Task::TokenClassification => {
            Encoder::labelling(&config, &mut weights, device.precision, labels.len())?
        }
        Task::Ranking | Task::Generation => Encoder::classifying(&config, &mut weights, device.precision, 1)?,
    };
    let info = ModelInfo {
        name: name.to_owned(),
        revision: revision::revision(store, name)?,
        task,
        architecture: config.family()?,
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
        languages: languages(&dir),
        parameters: weights.parameters(),
        weight_bytes: network.weight_bytes(weights.parameters()),
        device: device.name.clone(),
    };
    let model = LoadedModel { info, tokenizer, network: Network::Encoder(Box::new(network)) };
    self_test(&model)?;
    Ok(model)
}

/// Languages that the model's card names.
fn languages(dir: &Path) -> Vec<String> {
    fs::read_to_string(dir.join("README.md")).map_or_else(|_| Vec::new(), |text| card::languages(&text))
}

/// One forward pass over a short text: finite numbers of the promised length, or the model is not
/// served.
fn self_test(model: &LoadedModel) -> Result<()> {
    let encoded =
        model.tokenizer.tokens("a", true).map_err(|error| anyhow!("tokenizer.json: self-test: {error}"))?;
    let ids = &encoded.get_ids()[..encoded.len().min(model.info.max_input_tokens)];
    let outputs = model
        .network
        .run(&[ids], Extras::default())
        .map_err(|error: ComputeError| anyhow!("self-test: {error}"))?;
    let expected = match model.info.task {
        Task::Embedding => model.info.dimensions,
        Task::TokenClassification => ids.len() * model.info.labels.len(),
        Task::Ranking | Task::Generation => 1,
    };
    let output = &outputs.first().context("self-test: no output")?.values;
    anyhow::ensure!(output.len() == expected, "self-test: {} values, expected {expected}", output.len());
    anyhow::ensure!(
        output.iter().all(|x| x.is_finite()),
        "self-test: the weights give values that are not finite"
    );
    Ok(())
}
