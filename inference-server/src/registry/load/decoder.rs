//! Loading of a language model: its network, its tokenizer and chat template, and its engine.
//!
//! A model comes as a Hugging Face checkpoint or as a GGUF file. Both are brought into one form
//! ([`Parts`]) before the network is loaded onto the device; from then on they do not differ.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, ensure};
use serde::Deserialize;

use crate::device::{CPU_KV_BYTES, GenerationLimits, OpenDevice};
use crate::generation::chat_template::ChatTemplate;
use crate::generation::engine::EngineLimits;
use crate::generation::{GenerationProfile, Generator};
#[cfg(feature = "cuda")]
use crate::kernels::cuda::CudaGpu;
use crate::kernels::gpu::Memory;
use crate::kernels::paged::BLOCK_TOKENS;
use crate::models::checkpoint;
use crate::models::checkpoint::json::read_optional;
use crate::models::decoder::LanguageModel;
use crate::models::decoder::config::DecoderConfig;
use crate::models::decoder::cpu::CpuDecoder;
#[cfg(feature = "cuda")]
use crate::models::decoder::gpu::GpuDecoder;
use crate::models::decoder::source::{GgufWeights, Source};
use crate::models::gguf::Gguf;
use crate::models::load_progress::LoadProgress;
use crate::models::{ModelInfo, Task};
use crate::registry::loaded::{LoadedModel, Network};
use crate::registry::{card, revision};
use crate::text::tokenizer::TextTokenizer;

/// A token id or a list of them: both occur as `eos_token_id`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum TokenIds {
    One(u32),
    Many(Vec<u32>),
}

/// The part of `generation_config.json` or `config.json` with the tokens that end a text.
#[derive(Debug, Default, Deserialize)]
struct EosConfig {
    eos_token_id: Option<TokenIds>,
}

/// Loads the model and starts its engine.
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
    let Parts { config, mut source, tokenizer, eos_ids, template } = match checkpoint::gguf_file(&dir)? {
        Some(file) => Parts::from_gguf(&dir, &file, progress).context(file)?,
        None => Parts::from_checkpoint(&dir, progress)?,
    };
    let (family, context, vocabulary) = (config.family, config.context, config.vocabulary);
    let (network, limits) = load_network(device, config, &mut source)?;
    let weight_bytes = network.weight_bytes();
    let profile = GenerationProfile { template, eos_ids, context, vocabulary };
    let generator = Generator::start(network, tokenizer.shared(), profile, limits, device)?;
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
        languages: card::languages(&dir),
        parameters: source.parameters(),
        weight_bytes,
        device: device.name.clone(),
    };
    Ok(LoadedModel { info, tokenizer, network: Network::Decoder(Box::new(generator)) })
}

/// The contents of a model's directory, whichever form they came in.
struct Parts {
    config: DecoderConfig,
    source: Source,
    tokenizer: TextTokenizer,
    /// Tokens that end a text.
    eos_ids: Vec<u32>,
    template: Option<ChatTemplate>,
}

impl Parts {
    fn from_checkpoint(dir: &Path, progress: &Arc<LoadProgress>) -> Result<Self> {
        let config = DecoderConfig::read(dir)?;
        Ok(Self {
            source: Source::checkpoint(dir, progress)?,
            tokenizer: TextTokenizer::read(dir, config.vocabulary, config.context, false)?,
            eos_ids: eos_ids(dir, config.vocabulary)?.unwrap_or_default(),
            template: ChatTemplate::read(dir)?,
            config,
        })
    }

    /// Everything from the GGUF file, except that tokenizer, end tokens and chat template of
    /// separate files take precedence: they are easier to repair than the GGUF file.
    fn from_gguf(dir: &Path, file: &str, progress: &Arc<LoadProgress>) -> Result<Self> {
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
        let eos_ids = match eos_ids(dir, vocabulary)? {
            Some(ids) => ids,
            None => file.eos_ids()?,
        };
        let template = match ChatTemplate::read(dir)? {
            Some(template) => Some(template),
            None => file.chat_template()?.map(|template| chat_template(template, &file)).transpose()?,
        };
        let source = Source::Gguf(GgufWeights::new(file, &config, progress)?);
        Ok(Self { config, source, tokenizer, eos_ids, template })
    }
}

fn chat_template(template: &str, file: &Gguf) -> Result<ChatTemplate> {
    let mut tokens = BTreeMap::new();
    for (name, role) in [("bos_token", "bos"), ("eos_token", "eos"), ("pad_token", "padding")] {
        tokens.extend(file.special_token(role)?.map(|token| (name.to_owned(), token.to_owned())));
    }
    ChatTemplate::new(template, tokens).context("tokenizer.chat_template")
}

/// The network on its device, and the limits of its engine there.
fn load_network(
    device: &OpenDevice,
    config: DecoderConfig,
    source: &mut Source,
) -> Result<(Box<dyn LanguageModel>, EngineLimits)> {
    let context = config.context;
    #[cfg(feature = "cuda")]
    if !device.device.is_cpu() {
        let gpu = CudaGpu::new(device.device.as_cuda_device()?, device.precision.element())?;
        let mut decoder = GpuDecoder::load(gpu, config, source)?;
        // Only after the weights are on the device is it known what they leave for the KV cache.
        let kv_bytes = gpu_kv_bytes(&device.generation, decoder.memory()?)?;
        let limits = engine_limits(device, kv_bytes, decoder.block_bytes(), context)?;
        decoder.reserve(limits.blocks)?;
        return Ok((Box::new(decoder), limits));
    }
    let decoder = CpuDecoder::load(config, source)?;
    let kv_bytes = device.generation.kv_bytes.unwrap_or(CPU_KV_BYTES);
    let limits = engine_limits(device, kv_bytes, decoder.block_bytes(), context)?;
    Ok((Box::new(decoder), limits))
}

/// Bytes of the KV cache on a GPU that holds the weights already: the configured number, or what
/// the weights leave of the fraction of its memory that models may use.
#[cfg_attr(not(feature = "cuda"), allow(dead_code, reason = "the CPU takes bytes only; tested everywhere"))]
fn gpu_kv_bytes(limits: &GenerationLimits, memory: Memory) -> Result<u64> {
    if let Some(bytes) = limits.kv_bytes {
        return Ok(bytes);
    }
    let used = memory.total - memory.free;
    let usable = (memory.total as f64 * limits.kv_fraction) as u64;
    ensure!(
        usable > used,
        "--kv-cache-fraction {} of {} MiB leaves nothing for the KV cache: {} MiB are in use",
        limits.kv_fraction,
        memory.total >> 20,
        used >> 20
    );
    Ok(usable - used)
}

/// Limits of the engine: as many KV blocks as fit into `kv_bytes`, but no more than its running
/// sequences can fill.
fn engine_limits(
    device: &OpenDevice,
    kv_bytes: u64,
    block_bytes: usize,
    context: usize,
) -> Result<EngineLimits> {
    let on_cpu = device.device.is_cpu();
    let (max_running_sequences, step_tokens) =
        (device.generation.running_sequences(on_cpu), device.generation.step_tokens(on_cpu));
    let fitting = usize::try_from(kv_bytes / block_bytes as u64).unwrap_or(usize::MAX);
    let blocks = fitting.min(context.div_ceil(BLOCK_TOKENS).saturating_mul(max_running_sequences));
    ensure!(
        blocks > 0,
        "a KV cache of {} MiB cannot hold one block of {block_bytes} bytes; see --kv-cache-mib",
        kv_bytes >> 20
    );
    Ok(EngineLimits { step_tokens, max_running_sequences, blocks })
}

/// Tokens that end a text, by `generation_config.json` or else by `config.json`; `None` if neither
/// names any.
fn eos_ids(dir: &Path, vocabulary: usize) -> Result<Option<Vec<u32>>> {
    for file in ["generation_config.json", "config.json"] {
        let config: EosConfig = read_optional(dir, file)?.unwrap_or_default();
        let ids = match config.eos_token_id {
            Some(TokenIds::One(id)) => vec![id],
            Some(TokenIds::Many(ids)) => ids,
            None => continue,
        };
        if let Some(id) = ids.iter().find(|id| **id as usize >= vocabulary) {
            return Err(anyhow!("eos_token_id {id} is outside of vocab_size {vocabulary}")).context(file);
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
        let limits = |kv_bytes| GenerationLimits { kv_bytes, ..GenerationLimits::default() };
        let memory = |free: u64| Memory { free, total: 1_000 << 20 };
        assert_eq!(gpu_kv_bytes(&limits(Some(5)), memory(1)).unwrap(), 5);
        assert_eq!(gpu_kv_bytes(&limits(None), memory(900 << 20)).unwrap(), 700 << 20);
        assert_eq!(
            gpu_kv_bytes(&limits(None), memory(200 << 20)).unwrap_err().to_string(),
            "--kv-cache-fraction 0.8 of 1000 MiB leaves nothing for the KV cache: 800 MiB are in use"
        );
    }
}
