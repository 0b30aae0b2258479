//! From a directory of the store to a model that writes text.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::languages;
use crate::device::OpenDevice;
use crate::generation::engine::EngineLimits;
use crate::generation::template::ChatTemplate;
use crate::generation::{Generator, Manner};
use crate::kernels::paged::BLOCK;
use crate::model::decoder::config::DecoderConfig;
use crate::model::decoder::{Decoder, LanguageModel, WORDS};
use crate::model::files::read_optional;
use crate::model::loading::Loading;
use crate::model::weights::Weights;
use crate::model::{LoadedModel, ModelInfo, Network, Task, revision};
use crate::tokenizer::TextTokenizer;

/// One token or several.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Ids {
    One(u32),
    Many(Vec<u32>),
}

/// `generation_config.json` or `config.json`, as far as it says where texts end.
#[derive(Debug, Default, Deserialize)]
struct Ends {
    eos_token_id: Option<Ids>,
}

/// Loads the model and starts its engine.
///
/// # Errors
/// One line that names the file and what was expected of it.
pub(super) fn load(
    store: &Path,
    name: &str,
    device: &OpenDevice,
    loading: &Arc<Loading>,
) -> Result<LoadedModel> {
    let dir = store.join(name);
    let config = DecoderConfig::read(&dir)?;
    let tokenizer = TextTokenizer::read(&dir, config.vocabulary, config.context, false)?;
    let end_ids = end_ids(&dir, config.vocabulary)?;
    let template = ChatTemplate::read(&dir)?;
    let mut weights = Weights::open(&dir, WORDS, &device.device, loading)?;
    let (family, context, vocabulary) = (config.family, config.context, config.vocabulary);
    let decoder = Decoder::load(config, &mut weights)?;
    let weight_bytes = decoder.weight_bytes();
    let limits = limits(device, decoder.block_bytes(), context)?;
    let manner = Manner { template, end_ids, context, vocabulary };
    let generator = Generator::start(Box::new(decoder), tokenizer.shared(), manner, limits, device)?;
    let info = ModelInfo {
        name: name.to_owned(),
        revision: revision::revision(store, name)?,
        task: Task::Generation,
        architecture: family.name(),
        max_input_tokens: generator.context(),
        dimensions: 0,
        pooling: None,
        matryoshka: Vec::new(),
        sparse: false,
        multi_vector_dimensions: 0,
        normalize: false,
        prompts: Default::default(),
        default_prompt: None,
        labels: Vec::new(),
        languages: languages(&dir),
        parameters: weights.parameters(),
        weight_bytes,
        device: device.name.clone(),
    };
    Ok(LoadedModel { info, tokenizer, network: Network::Text(Box::new(generator)) })
}

/// What the engine takes on: blocks in the memory it is given, and no more than its texts can use.
fn limits(device: &OpenDevice, block_bytes: usize, context: usize) -> Result<EngineLimits> {
    let text = device.text;
    let room = usize::try_from(text.kv_bytes / block_bytes as u64).unwrap_or(usize::MAX);
    let blocks = room.min(context.div_ceil(BLOCK).saturating_mul(text.texts));
    ensure!(
        blocks > 0,
        "--kv-cache-mib {} has no room for a block of {block_bytes} bytes",
        text.kv_bytes >> 20
    );
    Ok(EngineLimits { step_tokens: text.step_tokens, texts: text.texts, blocks })
}

/// Tokens that end texts, by `generation_config.json`, else by `config.json`.
fn end_ids(dir: &Path, vocabulary: usize) -> Result<Vec<u32>> {
    for file in ["generation_config.json", "config.json"] {
        let ends: Ends = read_optional(dir, file)?.unwrap_or_default();
        let ids = match ends.eos_token_id {
            Some(Ids::One(id)) => vec![id],
            Some(Ids::Many(ids)) => ids,
            None => continue,
        };
        let outside = ids.iter().find(|id| **id as usize >= vocabulary);
        if let Some(id) = outside {
            return Err(anyhow::anyhow!("eos_token_id {id} is outside of vocab_size {vocabulary}"))
                .context(file);
        }
        return Ok(ids);
    }
    Ok(Vec::new())
}
