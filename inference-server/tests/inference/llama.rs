//! GGUF files against llama.cpp: what it computes on the same bytes.
//!
//! `goldens/llama.json` holds its logits. With OBSERVATORY_LLAMA, a Python that has
//! llama-cpp-python, they are asked for again, and written to the file if OBSERVATORY_LLAMA_WRITE
//! is set too.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use candle_core::quantized::gguf_file::Value;
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use tempfile::NamedTempFile;

use crate::decoders::{Text, cosine, load_gguf};
use crate::gguf;
use crate::support::goldens;

/// Tokens of the prompts; two of them, one longer than a block of keys.
const LENGTHS: [usize; 2] = [5, 40];
const WORDS: usize = 320;

/// A small generator of numbers.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

fn prompt(length: usize) -> Vec<u32> {
    (0..length as u32).map(|place| (place * place * 7 + place * 13 + 3) % 256).collect()
}

/// One block of Qwen 2 with rows of 256, which the K formats need.
pub(crate) fn wide(dtype: GgmlDType) -> NamedTempFile {
    let mut numbers = Numbers(9);
    let mut tensor = |shape: &[usize], size: f32, dtype: GgmlDType| {
        let count = shape.iter().product();
        let values: Vec<f32> = (0..count).map(|_| numbers.next() * size).collect();
        QTensor::quantize(&Tensor::from_vec(values, shape, &Device::Cpu).unwrap(), dtype).unwrap()
    };
    let mut tensors = vec![("token_embd.weight".to_owned(), tensor(&[WORDS, 256], 1.0, dtype))];
    for (name, outputs, inputs) in [
        ("attn_q", 256, 256),
        ("attn_k", 64, 256),
        ("attn_v", 64, 256),
        ("attn_output", 256, 256),
        ("ffn_gate", 512, 256),
        ("ffn_up", 512, 256),
        ("ffn_down", 256, 512),
    ] {
        tensors.push((format!("blk.0.{name}.weight"), tensor(&[outputs, inputs], 0.15, dtype)));
    }
    for (name, width) in [("attn_q", 256), ("attn_k", 64), ("attn_v", 64)] {
        tensors.push((format!("blk.0.{name}.bias"), tensor(&[width], 0.3, GgmlDType::F32)));
    }
    let ones = Tensor::ones(256, candle_core::DType::F32, &Device::Cpu).unwrap();
    for name in ["output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"] {
        tensors.push((format!("{name}.weight"), QTensor::quantize(&ones, GgmlDType::F32).unwrap()));
    }
    let mut metadata = vec![("general.architecture".to_owned(), Value::String("qwen2".to_owned()))];
    for (key, value) in [
        ("block_count", 1),
        ("context_length", 256),
        ("embedding_length", 256),
        ("feed_forward_length", 512),
        ("attention.head_count", 4),
        ("attention.head_count_kv", 1),
    ] {
        metadata.push((format!("qwen2.{key}"), Value::U32(value)));
    }
    metadata.push(("qwen2.attention.layer_norm_rms_epsilon".to_owned(), Value::F32(1e-6)));
    metadata.push(("qwen2.rope.freq_base".to_owned(), Value::F32(1e6)));
    gguf::write(&metadata, &tensors)
}

/// Every file with the least cosine that the logits must have. llama.cpp keeps scales of rounded
/// activations in 16 bits, and rounds them in blocks of 256 for the K formats; these tiny models
/// make much of it.
fn files() -> Vec<(String, NamedTempFile, f64)> {
    let mut files = Vec::new();
    for model in gguf::MODELS {
        for dtype in [GgmlDType::F32, GgmlDType::Q8_0, GgmlDType::Q4_0, GgmlDType::Q5_1] {
            let least = if dtype == GgmlDType::F32 { 0.999_99 } else { 0.998 };
            files.push((format!("{model} {dtype:?}"), gguf::written(model, dtype), least));
        }
    }
    for dtype in [GgmlDType::Q4K, GgmlDType::Q5K, GgmlDType::Q6K, GgmlDType::Q8_0] {
        files.push((format!("wide {dtype:?}"), wide(dtype), 0.998));
    }
    files
}

/// Logits behind each prompt.
type Logits = Vec<Vec<f32>>;

fn asked(python: &Path, file: &Path) -> Logits {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let whole = gguf::with_tokenizer(file);
    let mut child = Command::new(python)
        .arg(root.join("benches/llama_peer.py"))
        .args(["--threads", "2", "--logits", "--model"])
        .arg(whole.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let prompts = LENGTHS.map(prompt);
    child.stdin.take().unwrap().write_all(serde_json::to_string(&prompts).unwrap().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn logits_are_near_those_of_llama_cpp() {
    let kept = goldens().join("llama.json");
    let python = std::env::var_os("OBSERVATORY_LLAMA").map(PathBuf::from);
    let expected: BTreeMap<String, Logits> = match &python {
        Some(python) => {
            files().iter().map(|(name, file, _)| (name.clone(), asked(python, file.path()))).collect()
        }
        None => serde_json::from_str(&std::fs::read_to_string(&kept).unwrap()).unwrap(),
    };
    let mut far = Vec::new();
    for (name, file, least) in files() {
        let mut decoder = load_gguf(file.path());
        for (length, expected) in LENGTHS.into_iter().zip(&expected[&name]) {
            let logits = Text::new(0).step(&mut decoder, &prompt(length));
            let found = cosine(&logits, expected);
            println!("{name}, {length} tokens: cosine {found}");
            if found < least {
                far.push(format!("{name}, {length} tokens: {found} is below {least}"));
            }
        }
    }
    assert!(far.is_empty(), "{far:#?}");
    if python.is_some() && std::env::var_os("OBSERVATORY_LLAMA_WRITE").is_some() {
        let lines: Vec<String> = expected
            .iter()
            .map(|(name, rows)| {
                let short = |x: &f32| format!("{x:.4}");
                let rows: Vec<String> =
                    rows.iter().map(|row| row.iter().map(short).collect::<Vec<_>>().join(",")).collect();
                format!("\"{name}\":[[{}]]", rows.join("],["))
            })
            .collect();
        std::fs::write(kept, format!("{{\n{}\n}}\n", lines.join(",\n"))).unwrap();
    }
}
