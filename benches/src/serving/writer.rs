//! A language model with random weights in a GGUF file.
//!
//! It has the shape of Qwen2.5-0.5B, so that the figures hold for a model that people run.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::BufWriter;
use std::path::Path;

use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Tensor};
use tempfile::TempDir;

/// Name of the model.
pub(crate) const MODEL: &str = "bench/writer";

/// The shape of Qwen2.5-0.5B.
const BLOCKS: usize = 24;
const HIDDEN: usize = 896;
const INNER: usize = 4864;
const KEYS: usize = 128;
const VOCABULARY: usize = 151_936;
/// The token that ends a text, behind the letters of all bytes and a pair of them.
pub(crate) const END: u32 = 257;

/// Messages one after the other, each behind the token that ends a text.
const TEMPLATE: &str =
    "{% for message in messages %}{{ eos_token }}{{ message.content }}{% endfor %}{{ eos_token }}";

/// How the weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Recipe {
    /// Single precision.
    F32,
    /// 8 bits.
    #[value(name = "q8_0")]
    Q8_0,
    /// What llama.cpp's Q4_K_M comes to at rows of 896, which are no multiple of 256.
    #[value(name = "q4_k_m")]
    Q4KM,
}

impl Recipe {
    fn dtype(self, name: &str, block: usize) -> GgmlDType {
        // `use_more_bits` of llama-quant.cpp.
        let eighth = BLOCKS / 8;
        let more = block < eighth || block >= 7 * eighth || (block - eighth) % 3 == 2;
        match (self, name) {
            (Self::F32, _) => GgmlDType::F32,
            (_, name) if name.ends_with("norm") || name.ends_with("bias") => GgmlDType::F32,
            (Self::Q8_0, _) | (_, "token_embd") => GgmlDType::Q8_0,
            (_, "ffn_down") if more => GgmlDType::Q6K,
            (_, "ffn_down") => GgmlDType::Q4K,
            (_, "attn_v") if more => GgmlDType::Q8_0,
            _ => GgmlDType::Q5_0,
        }
    }
}

/// Words and marks of an answer, each one token as in published vocabularies; the space is
/// byte-level BPE's.
const WORDS: [&str; 23] = [
    "confidence",
    "implicit",
    "mention",
    "reason",
    "skills",
    "label",
    "same",
    "_as",
    "null",
    "kind",
    "hard",
    "soft",
    "\u{120}null",
    "\u{120}\"",
    "\":",
    "\",",
    "{\"",
    "},",
    "[{\"",
    "}]",
    "],",
    "}],",
    "\u{120}[",
];

/// Merges that lead to the words letter by letter, and what they make.
fn merges() -> (Vec<String>, Vec<String>) {
    let (mut merges, mut made) = (vec!["d e".to_owned()], Vec::new());
    for word in WORDS {
        let mut letters = word.chars();
        let mut before: String = letters.next().into_iter().collect();
        for letter in letters {
            let whole = format!("{before}{letter}");
            if whole != "de" && !made.contains(&whole) {
                merges.push(format!("{before} {letter}"));
                made.push(whole.clone());
            }
            before = whole;
        }
    }
    (merges, made)
}

/// Words of one to three syllables, small and with a capital, at the start of a text and behind a
/// space: a constraint has to look through as many tokens as in published vocabularies.
fn made_up() -> impl Iterator<Item = String> {
    let syllables =
        || "bcdfghjlmnprstv".chars().flat_map(|c| "aeiou".chars().map(move |v| format!("{c}{v}")));
    let longer = move |words: Vec<String>| -> Vec<String> {
        words.iter().flat_map(|word| syllables().map(move |next| format!("{word}{next}"))).collect()
    };
    let one: Vec<String> = syllables().collect();
    let two = longer(one.clone());
    let three = longer(two.clone());
    one.into_iter().chain(two).chain(three).flat_map(|word| {
        let capital = word[..1].to_uppercase() + &word[1..];
        [format!("\u{120}{word}"), word, format!("\u{120}{capital}"), capital]
    })
}

/// The letters that stand for bytes in byte-level BPE, one pair of them, the end, what merges make,
/// and other words.
fn tokens() -> (Vec<String>, Vec<i32>) {
    let is_plain = |byte: &u32| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let others = (0..256).filter(|byte| !is_plain(byte)).count() as u32;
    let codes = (0..256).filter(is_plain).chain(256..256 + others);
    let mut tokens: Vec<String> = codes.map(|code| char::from_u32(code).unwrap().to_string()).collect();
    tokens.push("de".to_owned());
    assert_eq!(tokens.len(), END as usize);
    let mut types = vec![1; tokens.len()];
    tokens.push("<|im_end|>".to_owned());
    types.push(3);
    tokens.extend(merges().1);
    let known: HashSet<String> = tokens.iter().cloned().collect();
    let missing = VOCABULARY - tokens.len();
    tokens.extend(made_up().filter(|word| !known.contains(word)).take(missing));
    assert_eq!(tokens.len(), VOCABULARY);
    types.resize(VOCABULARY, 1);
    (tokens, types)
}

fn metadata() -> Vec<(&'static str, Value)> {
    let (tokens, types) = tokens();
    let texts = |texts: Vec<String>| Value::Array(texts.into_iter().map(Value::String).collect());
    vec![
        ("general.architecture", Value::String("qwen2".to_owned())),
        ("general.name", Value::String("random".to_owned())),
        ("qwen2.block_count", Value::U32(BLOCKS as u32)),
        ("qwen2.context_length", Value::U32(32_768)),
        ("qwen2.embedding_length", Value::U32(HIDDEN as u32)),
        ("qwen2.feed_forward_length", Value::U32(INNER as u32)),
        ("qwen2.attention.head_count", Value::U32(14)),
        ("qwen2.attention.head_count_kv", Value::U32(2)),
        ("qwen2.attention.layer_norm_rms_epsilon", Value::F32(1e-6)),
        ("qwen2.rope.freq_base", Value::F32(1_000_000.0)),
        ("tokenizer.ggml.model", Value::String("gpt2".to_owned())),
        ("tokenizer.ggml.pre", Value::String("qwen2".to_owned())),
        ("tokenizer.ggml.tokens", texts(tokens)),
        ("tokenizer.ggml.token_type", Value::Array(types.into_iter().map(Value::I32).collect())),
        ("tokenizer.ggml.merges", texts(merges().0)),
        ("tokenizer.ggml.bos_token_id", Value::U32(END)),
        ("tokenizer.ggml.eos_token_id", Value::U32(END)),
        ("tokenizer.ggml.add_bos_token", Value::Bool(false)),
        ("tokenizer.chat_template", Value::String(TEMPLATE.to_owned())),
    ]
}

/// Scales are ones and biases zeros, as they are nothing to the speed.
fn tensor(name: &str, dtype: GgmlDType, shape: &[usize]) -> QTensor {
    let values = if name.ends_with("norm") {
        Tensor::ones(shape, DType::F32, &Device::Cpu)
    } else if name.ends_with("bias") {
        Tensor::zeros(shape, DType::F32, &Device::Cpu)
    } else {
        Tensor::randn(0.0f32, 0.02, shape, &Device::Cpu)
    };
    QTensor::quantize(&values.unwrap(), dtype).unwrap()
}

/// A store with the model alone.
pub(crate) fn store(recipe: Recipe) -> TempDir {
    let store = tempfile::tempdir().unwrap();
    let dir = store.path().join(MODEL);
    fs::create_dir_all(&dir).unwrap();
    write(recipe, &dir.join("random.gguf"));
    store
}

/// Writes the file, which llama.cpp reads too.
pub(crate) fn write(recipe: Recipe, path: &Path) {
    let mut tensors: Vec<(String, QTensor)> = Vec::new();
    let mut put = |name: String, part: &str, block: usize, shape: &[usize]| {
        tensors.push((name, tensor(part, recipe.dtype(part, block), shape)));
    };
    put("token_embd.weight".to_owned(), "token_embd", 0, &[VOCABULARY, HIDDEN]);
    put("output_norm.weight".to_owned(), "norm", 0, &[HIDDEN]);
    for block in 0..BLOCKS {
        let shapes: HashMap<&str, Vec<usize>> = HashMap::from([
            ("attn_norm", vec![HIDDEN]),
            ("attn_q", vec![HIDDEN, HIDDEN]),
            ("attn_k", vec![KEYS, HIDDEN]),
            ("attn_v", vec![KEYS, HIDDEN]),
            ("attn_output", vec![HIDDEN, HIDDEN]),
            ("ffn_norm", vec![HIDDEN]),
            ("ffn_gate", vec![INNER, HIDDEN]),
            ("ffn_up", vec![INNER, HIDDEN]),
            ("ffn_down", vec![HIDDEN, INNER]),
        ]);
        for (name, shape) in shapes {
            put(format!("blk.{block}.{name}.weight"), name, block, &shape);
        }
        for (name, width) in [("attn_q", HIDDEN), ("attn_k", KEYS), ("attn_v", KEYS)] {
            put(format!("blk.{block}.{name}.bias"), "bias", block, &[width]);
        }
    }
    let metadata = metadata();
    let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(key, value)| (*key, value)).collect();
    let tensors: Vec<(&str, &QTensor)> =
        tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    gguf_file::write(&mut BufWriter::new(fs::File::create(path).unwrap()), &metadata, &tensors).unwrap();
}
