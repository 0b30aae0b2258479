//! From a directory of the store to a model that writes text.

use std::collections::BTreeMap;
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
use crate::model::decoder::source::{GgufWeights, Source};
use crate::model::decoder::{Decoder, LanguageModel};
use crate::model::files::{self, read_optional};
use crate::model::gguf::Gguf;
use crate::model::loading::Loading;
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
    ensure!(device.device.is_cpu(), "language models are computed on the CPU only; use --device cpu");
    let Parts { config, mut source, tokenizer, end_ids, template } = match files::gguf(&dir)? {
        Some(file) => Parts::of_gguf(&dir, &file, loading).context(file)?,
        None => Parts::of_checkpoint(&dir, device, loading)?,
    };
    let (family, context, vocabulary) = (config.family, config.context, config.vocabulary);
    let decoder = Decoder::load(config, &mut source)?;
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
        parameters: source.parameters(),
        weight_bytes,
        device: device.name.clone(),
    };
    Ok(LoadedModel { info, tokenizer, network: Network::Text(Box::new(generator)) })
}

/// What a model's folder holds.
struct Parts {
    config: DecoderConfig,
    source: Source,
    tokenizer: TextTokenizer,
    end_ids: Vec<u32>,
    template: Option<ChatTemplate>,
}

impl Parts {
    fn of_checkpoint(dir: &Path, device: &OpenDevice, loading: &Arc<Loading>) -> Result<Self> {
        let config = DecoderConfig::read(dir)?;
        Ok(Self {
            source: Source::checkpoint(dir, &device.device, loading)?,
            tokenizer: TextTokenizer::read(dir, config.vocabulary, config.context, false)?,
            end_ids: end_ids(dir, config.vocabulary)?.unwrap_or_default(),
            template: ChatTemplate::read(dir)?,
            config,
        })
    }

    /// From the file alone, but what lies beside it under the names of a published checkpoint comes first.
    fn of_gguf(dir: &Path, file: &str, loading: &Arc<Loading>) -> Result<Self> {
        let file = Gguf::open(&dir.join(file))?;
        let config = DecoderConfig::from_gguf(&file)?;
        let (vocabulary, context) = (config.vocabulary, config.context);
        let tokenizer = if dir.join("tokenizer.json").exists() {
            TextTokenizer::read(dir, vocabulary, context, false)?
        } else {
            TextTokenizer::new(file.tokenizer()?, context, false)?
        };
        let tokens = tokenizer.shared().get_vocab_size(true);
        ensure!(tokens <= vocabulary, "{tokens} tokens, but token_embd.weight has {vocabulary} rows");
        let end_ids = match end_ids(dir, vocabulary)? {
            Some(ids) => ids,
            None => file.end_ids()?,
        };
        let template = match ChatTemplate::read(dir)? {
            Some(template) => Some(template),
            None => file.chat_template()?.map(|source| chat_template(source, &file)).transpose()?,
        };
        let source = Source::Gguf(GgufWeights::new(file, &config, loading)?);
        Ok(Self { config, source, tokenizer, end_ids, template })
    }
}

fn chat_template(source: &str, file: &Gguf) -> Result<ChatTemplate> {
    let mut tokens = BTreeMap::new();
    for (name, role) in [("bos_token", "bos"), ("eos_token", "eos"), ("pad_token", "padding")] {
        tokens.extend(file.special_token(role)?.map(|token| (name.to_owned(), token.to_owned())));
    }
    ChatTemplate::new(source, tokens).context("tokenizer.chat_template")
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

/// Tokens that end texts, by `generation_config.json`, else by `config.json`; nothing where neither says so.
fn end_ids(dir: &Path, vocabulary: usize) -> Result<Option<Vec<u32>>> {
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
        return Ok(Some(ids));
    }
    Ok(None)
}
