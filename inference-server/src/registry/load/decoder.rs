//! From a directory of the store to a model that writes text.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use candle_core::Device;
use serde::Deserialize;

use super::languages;
#[cfg(feature = "cuda")]
use crate::device::Precision;
use crate::device::{CPU_KV_BYTES, GenerationLimits, OpenDevice};
use crate::generation::chat_template::ChatTemplate;
use crate::generation::engine::EngineLimits;
use crate::generation::{GenerationProfile, Generator};
#[cfg(feature = "cuda")]
use crate::kernels::cuda::CudaGpu;
#[cfg(feature = "cuda")]
use crate::kernels::gpu::Element;
use crate::kernels::gpu::Memory;
use crate::kernels::paged::BLOCK_TOKENS;
use crate::models::checkpoint::{self, read_optional};
use crate::models::decoder::config::DecoderConfig;
#[cfg(feature = "cuda")]
use crate::models::decoder::gpu::GpuDecoder;
use crate::models::decoder::source::{GgufWeights, Source};
use crate::models::decoder::{Decoder, LanguageModel};
use crate::models::gguf::Gguf;
use crate::models::load_progress::LoadProgress;
use crate::models::{ModelInfo, Task};
use crate::registry::loaded::{LoadedModel, Network};
use crate::registry::revision;
use crate::text::tokenizer::TextTokenizer;

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
    loading: &Arc<LoadProgress>,
) -> Result<LoadedModel> {
    let dir = store.join(name);
    let Parts { config, mut source, tokenizer, end_ids, template } = match checkpoint::gguf(&dir)? {
        Some(file) => Parts::of_gguf(&dir, &file, loading).context(file)?,
        None => Parts::of_checkpoint(&dir, loading)?,
    };
    let (family, context, vocabulary) = (config.family, config.context, config.vocabulary);
    let (decoder, limits) = decoder(device, config, &mut source)?;
    let weight_bytes = decoder.weight_bytes();
    let profile = GenerationProfile { template, eos_ids: end_ids, context, vocabulary };
    let generator = Generator::start(decoder, tokenizer.shared(), profile, limits, device)?;
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
    Ok(LoadedModel { info, tokenizer, network: Network::Decoder(Box::new(generator)) })
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
    fn of_checkpoint(dir: &Path, loading: &Arc<LoadProgress>) -> Result<Self> {
        let config = DecoderConfig::read(dir)?;
        Ok(Self {
            // Wherever it computes, the network takes its weights from the memory of the host.
            source: Source::checkpoint(dir, &Device::Cpu, loading)?,
            tokenizer: TextTokenizer::read(dir, config.vocabulary, config.context, false)?,
            end_ids: end_ids(dir, config.vocabulary)?.unwrap_or_default(),
            template: ChatTemplate::read(dir)?,
            config,
        })
    }

    /// From the file alone, but what lies beside it under the names of a published checkpoint comes
    /// first.
    fn of_gguf(dir: &Path, file: &str, loading: &Arc<LoadProgress>) -> Result<Self> {
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

/// The network on its device, and what its engine takes on.
fn decoder(
    device: &OpenDevice,
    config: DecoderConfig,
    source: &mut Source,
) -> Result<(Box<dyn LanguageModel>, EngineLimits)> {
    let context = config.context;
    #[cfg(feature = "cuda")]
    if !device.device.is_cpu() {
        let element = match device.precision {
            Precision::F32 => Element::F32,
            Precision::F16 => Element::F16,
            Precision::Bf16 | Precision::Auto => Element::Bf16,
        };
        let cuda = device.device.as_cuda_device()?.cuda_stream();
        let mut decoder = GpuDecoder::load(CudaGpu::new(cuda.context(), element)?, config, source)?;
        let room = kv_room(&device.text, decoder.memory()?)?;
        let limits = limits(device, room, decoder.block_bytes(), context)?;
        decoder.reserve(limits.blocks)?;
        return Ok((Box::new(decoder), limits));
    }
    let decoder = Decoder::load(config, source)?;
    let room = device.text.kv_bytes.unwrap_or(CPU_KV_BYTES);
    let limits = limits(device, room, decoder.block_bytes(), context)?;
    Ok((Box::new(decoder), limits))
}

/// Bytes for keys and values on a GPU whose weights are there: those that were asked for, or what
/// is left of the part of its memory that models may take.
#[cfg_attr(not(feature = "cuda"), allow(dead_code, reason = "the CPU takes bytes only; tested everywhere"))]
fn kv_room(text: &GenerationLimits, memory: Memory) -> Result<u64> {
    if let Some(bytes) = text.kv_bytes {
        return Ok(bytes);
    }
    let taken = memory.total - memory.free;
    let room = (memory.total as f64 * text.kv_fraction) as u64;
    ensure!(
        room > taken,
        "--kv-cache-fraction {} of {} MiB has no room for keys and values, {} MiB are taken",
        text.kv_fraction,
        memory.total >> 20,
        taken >> 20
    );
    Ok(room - taken)
}

/// What the engine takes on: blocks in the memory it is given, and no more than its texts can use.
fn limits(device: &OpenDevice, room: u64, block_bytes: usize, context: usize) -> Result<EngineLimits> {
    let on_cpu = device.device.is_cpu();
    let (texts, step_tokens) = (device.text.texts(on_cpu), device.text.step_tokens(on_cpu));
    let held = usize::try_from(room / block_bytes as u64).unwrap_or(usize::MAX);
    let blocks = held.min(context.div_ceil(BLOCK_TOKENS).saturating_mul(texts));
    ensure!(
        blocks > 0,
        "{} MiB for keys and values have no room for a block of {block_bytes} bytes; see --kv-cache-mib",
        room >> 20
    );
    Ok(EngineLimits { step_tokens, max_running_sequences: texts, blocks })
}

/// Tokens that end texts, by `generation_config.json`, else by `config.json`; nothing where neither
/// says so.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_take_what_models_may() {
        let text = |kv_bytes| GenerationLimits { kv_bytes, ..GenerationLimits::default() };
        let memory = |free: u64| Memory { free, total: 1_000 << 20 };
        assert_eq!(kv_room(&text(Some(5)), memory(1)).unwrap(), 5);
        assert_eq!(kv_room(&text(None), memory(900 << 20)).unwrap(), 700 << 20);
        assert_eq!(
            kv_room(&text(None), memory(200 << 20)).unwrap_err().to_string(),
            "--kv-cache-fraction 0.8 of 1000 MiB has no room for keys and values, 800 MiB are taken"
        );
    }
}
