//! GGUF files of the golden checkpoints, as llama.cpp's converter would write them; and a server
//! with one.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use candle_core::quantized::gguf_file::{self, Content, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use observatory_inference::Server;
use observatory_proto::inference::v1 as pb;
use pb::prompt::Kind;
use serde_json::Value as Json;
use tempfile::NamedTempFile;

use crate::support::{Running, config, copy, goldens, reference};

/// Those of an architecture that has a GGUF form here, in one safetensors file.
pub(crate) const MODELS: [&str; 4] = ["golden/qwen2", "golden/qwen3", "golden/llama", "golden/gemma3"];

/// A tensor as the converter names it.
fn renamed(name: &str, gemma: bool) -> String {
    let name = name.trim_start_matches("model.");
    let parts = [
        ("layers.", "blk."),
        ("embed_tokens", "token_embd"),
        ("lm_head", "output"),
        ("input_layernorm", "attn_norm"),
        ("post_attention_layernorm", if gemma { "post_attention_norm" } else { "ffn_norm" }),
        ("pre_feedforward_layernorm", "ffn_norm"),
        ("post_feedforward_layernorm", "post_ffw_norm"),
        ("self_attn.o_proj", "attn_output"),
        ("self_attn.q_norm", "attn_q_norm"),
        ("self_attn.k_norm", "attn_k_norm"),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
    ];
    let known = parts.iter().fold(name.to_owned(), |name, (theirs, ours)| name.replace(theirs, ours));
    if known == "norm.weight" { "output_norm.weight".to_owned() } else { known }
}

/// `LlamaModel.permute` of the converter: halves of a head to neighbours.
fn permuted(rows: &Tensor, heads: usize) -> Tensor {
    let (outputs, inputs) = rows.dims2().unwrap();
    let split = rows.reshape((heads, 2, outputs / heads / 2, inputs)).unwrap();
    split.transpose(1, 2).unwrap().reshape((outputs, inputs)).unwrap()
}

fn number(config: &Json, key: &str) -> usize {
    config[key].as_u64().unwrap() as usize
}

fn metadata(config: &Json, architecture: &str) -> Vec<(String, Value)> {
    let mut keys = vec![("general.architecture".to_owned(), Value::String(architecture.to_owned()))];
    let mut put = |key: &str, value: Value| keys.push((format!("{architecture}.{key}"), value));
    for (key, theirs) in [
        ("block_count", "num_hidden_layers"),
        ("context_length", "max_position_embeddings"),
        ("embedding_length", "hidden_size"),
        ("feed_forward_length", "intermediate_size"),
        ("attention.head_count", "num_attention_heads"),
        ("attention.head_count_kv", "num_key_value_heads"),
        ("attention.key_length", "head_dim"),
        ("attention.value_length", "head_dim"),
        ("attention.sliding_window", "sliding_window"),
    ] {
        if let Some(value) = config[theirs].as_u64() {
            put(key, Value::U32(value as u32));
        }
    }
    let rope = &config["rope_parameters"];
    let base = rope["rope_theta"].as_f64().or(rope["full_attention"]["rope_theta"].as_f64()).unwrap();
    put("rope.freq_base", Value::F32(base as f32));
    let epsilon = config["rms_norm_eps"].as_f64().unwrap();
    put("attention.layer_norm_rms_epsilon", Value::F32(epsilon as f32));
    if architecture == "gemma3" {
        put("attention.sliding_window_pattern", Value::U32(3));
    }
    keys
}

/// Llama 3.1's stretched frequencies as factors, by the formula of `convert_hf_to_gguf.py`.
fn frequency_factors(config: &Json) -> Option<Tensor> {
    let rope = &config["rope_parameters"];
    (rope["rope_type"] == "llama3").then(|| {
        let value = |key: &str| rope[key].as_f64().unwrap();
        let (factor, original) = (value("factor"), value("original_max_position_embeddings"));
        let (low, high) = (value("low_freq_factor"), value("high_freq_factor"));
        let size = number(config, "head_dim");
        let one = |column: usize| {
            let wave = std::f64::consts::TAU * value("rope_theta").powf(column as f64 / size as f64);
            if wave < original / high {
                1.0
            } else if wave > original / low {
                factor as f32
            } else {
                let smooth = (original / wave - low) / (high - low);
                (1.0 / ((1.0 - smooth) / factor + smooth)) as f32
            }
        };
        let factors: Vec<f32> = (0..size).step_by(2).map(one).collect();
        Tensor::new(factors, &Device::Cpu).unwrap()
    })
}

/// The checkpoint as a GGUF file, its matrices in this format where their rows allow it.
pub(crate) fn written(model: &str, dtype: GgmlDType) -> NamedTempFile {
    let dir = goldens().join("models").join(model);
    let config: Json = serde_json::from_str(&fs::read_to_string(dir.join("config.json")).unwrap()).unwrap();
    let architecture = config["model_type"].as_str().unwrap().trim_end_matches("_text");
    let gemma = architecture == "gemma3";
    let mut tensors = candle_core::safetensors::load(dir.join("model.safetensors"), &Device::Cpu).unwrap();
    if let Some(factors) = frequency_factors(&config) {
        tensors.insert("rope_freqs.weight".to_owned(), factors);
    }
    let tensors = tensors.into_iter().map(|(name, tensor)| {
        let mut tensor = tensor.to_dtype(candle_core::DType::F32).unwrap();
        if architecture == "llama" && name.ends_with("q_proj.weight") {
            tensor = permuted(&tensor, number(&config, "num_attention_heads"));
        }
        if architecture == "llama" && name.ends_with("k_proj.weight") {
            tensor = permuted(&tensor, number(&config, "num_key_value_heads"));
        }
        if gemma && name.ends_with("norm.weight") {
            tensor = (tensor + 1.0).unwrap();
            if name.ends_with("q_norm.weight") {
                // A file has no factor of the scores but the width of a head; this checkpoint has
                // another.
                let scalar = config["query_pre_attn_scalar"].as_f64().unwrap();
                tensor = (tensor * (number(&config, "head_dim") as f64 / scalar).sqrt()).unwrap();
            }
        }
        let dtype = if tensor.dims().len() == 2 { dtype } else { GgmlDType::F32 };
        (renamed(&name, gemma), QTensor::quantize(&tensor, dtype).unwrap())
    });
    write(&metadata(&config, architecture), &tensors.collect::<Vec<_>>())
}

/// The same file with every number in f32.
pub(crate) fn dense(path: &Path) -> NamedTempFile {
    let mut file = fs::File::open(path).unwrap();
    let content = Content::read(&mut file).unwrap();
    let tensors = content.tensor_infos.keys().map(|name| {
        let tensor = content.tensor(&mut file, name, &Device::Cpu).unwrap();
        let dense = tensor.dequantize(&Device::Cpu).unwrap();
        (name.clone(), QTensor::quantize(&dense, GgmlDType::F32).unwrap())
    });
    let tensors: Vec<(String, QTensor)> = tensors.collect();
    write(&content.metadata.into_iter().collect::<Vec<_>>(), &tensors)
}

pub(crate) fn write(metadata: &[(String, Value)], tensors: &[(String, QTensor)]) -> NamedTempFile {
    let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(key, value)| (key.as_str(), value)).collect();
    let tensors: Vec<(&str, &QTensor)> =
        tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let mut file = NamedTempFile::new().unwrap();
    gguf_file::write(&mut file, &metadata, &tensors).unwrap();
    file
}

/// A byte-level tokenizer, a chat template and the token that ends a turn, put into a file's
/// metadata.
pub(crate) fn with_tokenizer(path: &Path) -> NamedTempFile {
    let mut file = fs::File::open(path).unwrap();
    let content = Content::read(&mut file).unwrap();
    let vocabulary = content.tensor_infos["token_embd.weight"].shape.dims()[0];
    // The letters that stand for bytes in byte-level BPE.
    let is_plain = |byte: u32| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let others = (0..256).filter(|byte| !is_plain(*byte)).count() as u32;
    let mut tokens: Vec<String> = (0..256)
        .filter(|byte| is_plain(*byte))
        .chain(256..256 + others)
        .map(|code| char::from_u32(code).unwrap().to_string())
        .collect();
    tokens.push("de".to_owned());
    let end = tokens.len();
    tokens.push("<|im_end|>".to_owned());
    tokens.extend((tokens.len()..vocabulary).map(|index| format!("[{index}]")));
    let types = (0..vocabulary).map(|index| Value::I32(if index == end { 3 } else { 1 })).collect();
    let texts = |texts: Vec<String>| Value::Array(texts.into_iter().map(Value::String).collect());
    let mut metadata: HashMap<String, Value> = content.metadata.clone();
    for (key, value) in [
        ("tokenizer.ggml.model", Value::String("gpt2".to_owned())),
        ("tokenizer.ggml.pre", Value::String("qwen2".to_owned())),
        ("tokenizer.ggml.tokens", texts(tokens)),
        ("tokenizer.ggml.token_type", Value::Array(types)),
        ("tokenizer.ggml.merges", texts(vec!["d e".to_owned()])),
        ("tokenizer.ggml.eos_token_id", Value::U32(end as u32)),
        (
            "tokenizer.chat_template",
            Value::String("{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}".to_owned()),
        ),
    ] {
        metadata.insert(key.to_owned(), value);
    }
    let tensors = content.tensor_infos.keys().map(|name| {
        let tensor = content.tensor(&mut file, name, &Device::Cpu).unwrap();
        (name.clone(), tensor)
    });
    let tensors: Vec<(String, QTensor)> = tensors.collect();
    write(&metadata.into_iter().collect::<Vec<_>>(), &tensors)
}

#[tokio::test]
async fn a_file_alone_is_a_model() {
    let store = tempfile::tempdir().unwrap();
    let dir = store.path().join("golden/one");
    fs::create_dir_all(&dir).unwrap();
    let file = with_tokenizer(written("golden/qwen2", GgmlDType::Q8_0).path());
    copy_file(file.path(), &dir.join("one-q8_0.gguf"));
    // A folder with two, and one that was cut off.
    let two = store.path().join("golden/two");
    fs::create_dir_all(&two).unwrap();
    ["a.gguf", "b.gguf"].iter().for_each(|name| copy_file(file.path(), &two.join(name)));
    let cut = store.path().join("golden/cut");
    fs::create_dir_all(&cut).unwrap();
    let bytes = fs::read(file.path()).unwrap();
    fs::write(cut.join("cut.gguf"), &bytes[..bytes.len() - 1_000]).unwrap();

    let server = Server::bind(&config(store.path(), &[])).await.unwrap();
    let running = Running::start(server, Some(store)).await;
    running.loaded().await;
    let listed =
        running.models().list_models(pb::ListModelsRequest::default()).await.unwrap().into_inner().models;
    let by_name: HashMap<&str, &pb::Model> =
        listed.iter().map(|model| (model.name.as_str(), model)).collect();
    assert_eq!(by_name["golden/one"].state(), pb::ModelState::Ready);
    assert_eq!(by_name["golden/one"].architecture, "qwen2");
    for (name, part) in [
        ("golden/two", "the folder holds 2 GGUF files (a.gguf, b.gguf): expected one"),
        ("golden/cut", "cut.gguf: tensor "),
    ] {
        assert_eq!(by_name[name].state(), pb::ModelState::Failed);
        assert!(by_name[name].error.contains(part), "{}", by_name[name].error);
    }
    let message = pb::ChatMessage { role: "user".to_owned(), content: "desde ñandú".to_owned() };
    let chat = Kind::Chat(pb::Chat { messages: vec![message], ..Default::default() });
    let settings = pb::GenerationSettings {
        model: reference("golden/one"),
        limits: Some(pb::GenerationLimits { max_new_tokens: 8, ignore_end: true, ..Default::default() }),
        ..Default::default()
    };
    let request =
        pb::GenerateBatchRequest { settings: Some(settings), prompts: vec![pb::Prompt { kind: Some(chat) }] };
    let answer = running.generation().generate_batch(request).await.unwrap().into_inner();
    // "de", "s", "de", a space, "ñ" in two bytes, "and", "ú" in two, and the end of the turn.
    assert_eq!(answer.usage.unwrap().prompt_tokens, 12);
    running.finish().await;
}

fn copy_file(from: &Path, to: &Path) {
    fs::copy(from, to).unwrap();
}

#[tokio::test]
async fn a_tokenizer_next_to_the_file_comes_first() {
    let store = tempfile::tempdir().unwrap();
    let dir = store.path().join("golden/adjacent");
    fs::create_dir_all(&dir).unwrap();
    copy(&goldens().join("models/golden/qwen2"), &dir);
    fs::remove_file(dir.join("model.safetensors")).unwrap();
    copy_file(written("golden/qwen2", GgmlDType::F32).path(), &dir.join("x.gguf"));
    let server = Server::bind(&config(store.path(), &[])).await.unwrap();
    let running = Running::start(server, Some(store)).await;
    running.loaded().await;
    let listed =
        running.models().list_models(pb::ListModelsRequest::default()).await.unwrap().into_inner().models;
    assert_eq!(listed[0].error, "");
    assert_eq!(listed[0].state(), pb::ModelState::Ready);
    running.finish().await;
}
