//! GGUF files: metadata, tensors, dimensions by architecture, and files that lie or end early.
//!
//! Valid files are written by candle; broken ones are put together byte by byte.

mod published;
mod vocabulary;

use std::io::Write as _;

use candle_core::quantized::gguf_file::{self, Value as Written};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use tempfile::NamedTempFile;

use super::dimensions::{Architecture, Dimensions, RopeScaling, unpermute_heads};
use super::value::Array;
use super::*;
use crate::kernels::quant::Format;
use crate::kernels::quant::samples::{dtype, inputs, tensor};

fn written(metadata: &[(&str, Written)], tensors: &[(&str, &QTensor)]) -> NamedTempFile {
    let metadata: Vec<(&str, &Written)> = metadata.iter().map(|(key, value)| (*key, value)).collect();
    let mut file = NamedTempFile::new().unwrap();
    gguf_file::write(&mut file, &metadata, tensors).unwrap();
    file
}

fn opened(metadata: &[(&str, Written)], tensors: &[(&str, &QTensor)]) -> Gguf {
    Gguf::open(written(metadata, tensors).path()).unwrap()
}

fn text(text: &str) -> Written {
    Written::String(text.to_owned())
}

fn texts<'a>(texts: impl IntoIterator<Item = &'a str>) -> Written {
    Written::Array(texts.into_iter().map(text).collect())
}

fn integers(values: impl IntoIterator<Item = i32>) -> Written {
    Written::Array(values.into_iter().map(Written::I32).collect())
}

#[test]
fn values_of_every_type_come_back() {
    let file = opened(
        &[
            ("a", Written::U8(200)),
            ("b", Written::I8(-100)),
            ("c", Written::U16(60_000)),
            ("d", Written::I16(-30_000)),
            ("e", Written::U32(u32::MAX)),
            ("f", Written::I32(i32::MIN)),
            ("g", Written::U64(u64::MAX)),
            ("h", Written::I64(i64::MIN)),
            ("i", Written::F32(0.5)),
            ("j", Written::F64(1e300)),
            ("k", Written::Bool(true)),
            ("l", text("ñandú")),
            ("m", texts(["", "b"])),
            ("n", integers([1, -2])),
            ("o", Written::Array(vec![Written::F32(0.25)])),
        ],
        &[],
    );
    let integers =
        [200, -100, 60_000, -30_000, u32::MAX.into(), i32::MIN.into(), u64::MAX.into(), i64::MIN.into()];
    for (key, expected) in "abcdefgh".chars().zip(integers) {
        assert_eq!(file.value(&key.to_string()), Some(&Value::Integer(expected)));
    }
    assert_eq!(file.value("i"), Some(&Value::Float(0.5)));
    assert_eq!(file.value("j"), Some(&Value::Float(1e300)));
    assert_eq!(file.value("k"), Some(&Value::Bool(true)));
    assert_eq!(file.value("l").and_then(Value::string), Some("ñandú"));
    assert_eq!(file.value("m").and_then(Value::strings), Some(["".to_owned(), "b".to_owned()].as_slice()));
    assert_eq!(file.value("n"), Some(&Value::Array(Array::Integers(vec![1, -2]))));
    assert_eq!(file.value("o"), Some(&Value::Array(Array::Floats(vec![0.25]))));
    assert_eq!(file.value("p"), None);
}

#[test]
fn tensors_of_every_format_come_back() {
    let tensors: Vec<(Format, QTensor)> =
        Format::ALL.map(|format| (format, tensor(format, inputs(format), 7, 3))).into();
    let named: Vec<(&str, &QTensor)> =
        tensors.iter().map(|(format, tensor)| (format.name(), tensor)).collect();
    let file = opened(&[], &named);
    assert_eq!(file.tensors().count(), Format::ALL.len());
    for (format, tensor) in &tensors {
        let (name, shape) = (format.name(), [7, inputs(*format)]);
        let info = file.tensor(name).unwrap();
        assert_eq!((info.shape(), info.format()), (shape.as_slice(), *format));
        assert_eq!(tensor.dtype(), dtype(*format));
        let bytes = tensor.data().unwrap();
        assert_eq!(file.read(name, &shape).unwrap(), *bytes, "{name}");
        let expected: Vec<f32> =
            tensor.dequantize(&Device::Cpu).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        assert_eq!(file.floats(name, &shape).unwrap(), expected, "{name}");
    }
}

#[test]
fn tensors_that_are_not_as_expected() {
    let file = opened(&[], &[("x", &tensor(Format::F32, 3, 2, 1))]);
    let error = |result: Result<Vec<u8>>| result.unwrap_err().to_string();
    assert_eq!(error(file.read("y", &[1])), "no tensor y, expected with shape [1]");
    assert_eq!(error(file.read("x", &[3, 2])), "tensor x has shape [2, 3], expected [3, 2]");
    let infinite = Tensor::new(&[1.0f32, f32::INFINITY], &Device::Cpu).unwrap();
    let file = opened(&[], &[("x", &QTensor::quantize(&infinite, GgmlDType::F32).unwrap())]);
    let error = file.floats("x", &[2]).unwrap_err().to_string();
    assert_eq!(error, "tensor x holds values that are not finite");
}

/// A file put together byte by byte.
#[derive(Default)]
struct Draft(Vec<u8>);

impl Draft {
    fn new(tensors: u64, keys: u64) -> Self {
        Self::default().bytes(b"GGUF").u32(3).u64(tensors).u64(keys)
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn u32(self, value: u32) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    fn u64(self, value: u64) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    fn text(self, text: &str) -> Self {
        self.u64(text.len() as u64).bytes(text.as_bytes())
    }

    fn tensor(self, name: &str, dimensions: &[u64], format: u32, offset: u64) -> Self {
        let draft = self.text(name).u32(dimensions.len() as u32);
        dimensions.iter().fold(draft, |draft, length| draft.u64(*length)).u32(format).u64(offset)
    }

    fn zeros(mut self, count: usize) -> Self {
        self.0.resize(self.0.len() + count, 0);
        self
    }

    fn error(self) -> String {
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(&self.0).unwrap();
        format!("{:#}", Gguf::open(file.path()).unwrap_err())
    }
}

#[test]
fn broken_files_are_refused() {
    fn check(draft: Draft, expected: &str) {
        assert_eq!(draft.error(), expected);
    }
    let huge = u64::MAX / 2;
    check(Draft::default(), "the magic number: the file ends at 0 where 4 more bytes are expected");
    check(Draft::default().bytes(b"GGML"), "is not a GGUF file: it begins with [47, 47, 4d, 4c]");
    check(Draft::default().bytes(b"GGUF").u32(1), "is GGUF version 1; expected 2 or 3");
    check(Draft::default().bytes(b"GGUF").u32(3 << 24), "is a GGUF file of the other byte order");
    check(Draft::default().bytes(b"GGUF").u32(3).u64(1), "claims 1 tensors, the file has space for 0");
    check(Draft::new(huge, 0), &format!("claims {huge} tensors; expected at most 65536"));
    check(Draft::new(40_000, 0).zeros(64), "claims 40000 tensors, the file has space for 2");
    check(Draft::new(0, huge).zeros(64), &format!("claims {huge} keys; expected at most 65536"));
    check(
        Draft::new(0, 1).u64(1 << 40).zeros(64),
        "key 0 of 1: claims a string of 1099511627776 bytes; 64 are left in the file and 16777216 are allowed",
    );
    check(
        Draft::new(0, 1).text("k").u32(9).u32(4).u64(1 << 21).zeros(64),
        "key k: claims 2097152 values, the file has space for 16",
    );
    check(
        Draft::new(0, 1).text("k").u32(9).u32(4).u64(huge).zeros(64),
        &format!("key k: claims {huge} values; expected at most 4194304"),
    );
    check(
        Draft::new(0, 1).text("k").u32(9).u32(9).u64(1).zeros(64),
        "key k: is an array of arrays, which is not supported",
    );
    check(Draft::new(0, 1).text("k").u32(13).zeros(64), "key k: has the unknown type 13");
    check(Draft::new(0, 1).text("k").u32(7).bytes(&[2]).zeros(9), "key k: invalid bool 2: expected 0 or 1");
    check(
        Draft::new(0, 1).text("key").u32(10).bytes(&[0]),
        "key key: the file ends at 40 where 8 more bytes are expected",
    );
    check(Draft::new(0, 2).text("k").u32(0).bytes(&[1]).text("k").u32(0).bytes(&[2]), "duplicate key k");
    check(
        Draft::new(0, 1).text("general.alignment").u32(4).u32(24),
        "invalid general.alignment 24: expected a power of two from 8",
    );
    check(
        Draft::new(0, 1).text("split.count").u32(2).bytes(&[3, 0]),
        "is one of 3 files of a model; merge them with llama-gguf-split",
    );
}

#[test]
fn broken_tensors_are_refused() {
    fn check(draft: Draft, expected: &str) {
        assert_eq!(draft.error(), expected);
    }
    let one = |dimensions: &[u64], format, offset| {
        Draft::new(1, 0).tensor("t", dimensions, format, offset).zeros(64 + 32)
    };
    check(one(&[], 0, 0), "tensor t: has 0 dimensions; expected 1 to 4");
    check(one(&[1, 1, 1, 1, 1], 0, 0), "tensor t: has 5 dimensions; expected 1 to 4");
    check(one(&[3, 0], 0, 0), "tensor t: invalid shape [0, 3]");
    check(one(&[1 << 40, 1 << 40], 0, 0), "tensor t: invalid shape [1099511627776, 1099511627776]");
    check(one(&[33], 8, 0), "tensor t: row length 33 is not a multiple of the Q8_0 block size 32");
    check(one(&[4], 0, 8), "tensor t: data offset 8 is not a multiple of 32");
    let error = one(&[256], 11, 0).error();
    assert!(error.starts_with("tensor t: the format Q3_K is not supported, allowed are F32"), "{error}");
    let error = one(&[1000], 0, 0).error();
    assert!(
        error.starts_with("tensor t needs 4000 bytes from offset 0, the file has ")
            && error.ends_with("bytes of data: it is truncated or damaged"),
        "{error}"
    );
    let error = one(&[4], 0, u64::MAX - 31).error();
    assert!(error.starts_with("tensor t needs 16 bytes from offset 18446744073709551584"), "{error}");
    let two = |first, second| {
        Draft::new(2, 0).tensor("a", &[16], 0, first).tensor("b", &[16], 0, second).zeros(256)
    };
    check(two(0, 32), "tensor b overlaps tensor a");
    check(two(32, 32), "tensor b overlaps tensor a");
    check(Draft::new(2, 0).tensor("a", &[8], 0, 0).tensor("a", &[8], 0, 32).zeros(128), "duplicate tensor a");
    // Shorter than the header itself.
    let whole = Draft::new(1, 0).tensor("t", &[8], 0, 0).0;
    let error = Draft(whole[..whole.len() - 4].to_vec()).error();
    assert_eq!(
        error,
        "tensor t: the file ends at 61 where 8 more bytes are expected"
            .replace("61", &(whole.len() - 4).to_string())
    );
}

/// Every prefix of a file is an error and none is a panic.
#[test]
fn truncated_files_are_refused() {
    let file = written(
        &[("general.architecture", text("qwen2")), ("list", texts(["a", "b"]))],
        &[("x", &tensor(Format::Q8_0, 64, 3, 1)), ("y", &tensor(Format::F32, 2, 2, 1))],
    );
    let bytes = std::fs::read(file.path()).unwrap();
    // What the last tensor is filled up with is not needed.
    for length in 0..bytes.len() - 16 {
        let error = Draft(bytes[..length].to_vec()).error();
        assert!(!error.is_empty(), "{length}");
    }
}

fn network<'a>(architecture: &'a str, more: &[(&'a str, Written)]) -> Vec<(String, Written)> {
    let mut keys = vec![("general.architecture".to_owned(), text(architecture))];
    let numbers = [
        ("block_count", 2),
        ("context_length", 4096),
        ("embedding_length", 64),
        ("feed_forward_length", 96),
        ("attention.head_count", 4),
        ("attention.head_count_kv", 2),
    ];
    let numbers = numbers.map(|(key, value)| (key, Written::U32(value)));
    let epsilon = [("attention.layer_norm_rms_epsilon", Written::F32(1e-6))];
    for (key, value) in numbers.into_iter().chain(epsilon).chain(more.iter().cloned()) {
        keys.retain(|(known, _)| *known != format!("{architecture}.{key}"));
        keys.push((format!("{architecture}.{key}"), value));
    }
    keys
}

fn dimensions(architecture: &str, more: &[(&str, Written)]) -> Result<Dimensions> {
    let keys = network(architecture, more);
    let keys: Vec<(&str, Written)> = keys.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
    opened(&keys, &[("token_embd.weight", &tensor(Format::F32, 64, 300, 1))]).dimensions()
}

#[test]
fn dimensions_by_architecture() {
    let plain = dimensions("qwen2", &[]).unwrap();
    let expected = Dimensions {
        architecture: Architecture::Qwen2,
        layers: 2,
        hidden: 64,
        feed_forward: 96,
        heads: 4,
        kv_heads: 2,
        head_size: 16,
        vocabulary: 300,
        context: 4096,
        norm_epsilon: 1e-6,
        rope_theta: 10_000.0,
        rope_scaling: RopeScaling::None,
        window: None,
        window_pattern: None,
        local_rope_theta: None,
    };
    assert_eq!(plain, expected);
    assert!(!plain.architecture.is_interleaved());
    let wide = dimensions(
        "qwen3",
        &[
            ("attention.key_length", Written::U32(32)),
            ("attention.value_length", Written::U32(32)),
            ("rope.freq_base", Written::F32(1e6)),
            ("rope.scaling.type", text("yarn")),
            ("rope.scaling.factor", Written::F32(4.0)),
            ("rope.scaling.original_context_length", Written::U32(32_768)),
        ],
    );
    let yarn = RopeScaling::Yarn { factor: 4.0, original_context: 32_768, attention_factor: None };
    assert_eq!(
        wide.unwrap(),
        Dimensions {
            architecture: Architecture::Qwen3,
            head_size: 32,
            rope_theta: 1e6,
            rope_scaling: yarn,
            ..expected
        }
    );
    let gemma = dimensions("gemma3", &[("attention.sliding_window", Written::U32(512))]).unwrap();
    assert_eq!((gemma.window, gemma.window_pattern, gemma.local_rope_theta), (Some(512), Some(6), Some(1e4)));
    let llama = dimensions("llama", &[("rope.scaling.factor", Written::F32(2.0))]).unwrap();
    assert_eq!((llama.architecture.is_interleaved(), llama.rope_scaling), (true, RopeScaling::Linear(2.0)));
}

#[test]
fn dimensions_that_contradict() {
    fn check(architecture: &str, key: &str, value: Written, expected: &str) {
        assert_eq!(dimensions(architecture, &[(key, value)]).unwrap_err().to_string(), expected);
    }
    check(
        "bert",
        "x",
        Written::U8(0),
        "invalid general.architecture `bert`: expected one of llama, qwen2, qwen3, gemma3",
    );
    check("qwen2", "block_count", Written::U32(0), "invalid qwen2.block_count 0: expected a positive number");
    check(
        "qwen2",
        "embedding_length",
        text("many"),
        "invalid qwen2.embedding_length \"many\": expected a non-negative integer",
    );
    check(
        "qwen2",
        "attention.head_count",
        integers([1, 2]),
        "invalid qwen2.attention.head_count of 2 integers: expected a non-negative integer",
    );
    check(
        "qwen2",
        "attention.head_count_kv",
        Written::U32(3),
        "invalid attention.head_count 4: expected a multiple of attention.head_count_kv 3",
    );
    check(
        "llama",
        "rope.dimension_count",
        Written::U32(8),
        "invalid llama.rope.dimension_count 8: expected that of the keys, 16",
    );
    check(
        "llama",
        "rope.scaling.type",
        text("longrope"),
        "invalid llama.rope.scaling.type `longrope`: expected none, linear or yarn",
    );
    check(
        "llama",
        "rope.freq_base",
        Written::F32(-1.0),
        "invalid llama.rope.freq_base: expected a positive number",
    );
    let error = opened(&[("general.architecture", text("qwen3"))], &[]).dimensions().unwrap_err().to_string();
    assert_eq!(error, "missing key qwen3.embedding_length");
}

/// What the converter does to q and k: each head's halves interleaved.
#[test]
fn permuted_rows_come_back() {
    let (heads, width, row) = (3, 8, 5);
    let rows: Vec<Vec<u8>> = (0..heads * width).map(|index| vec![index as u8; row]).collect();
    let mut permuted = Vec::new();
    for head in rows.chunks(width) {
        for index in 0..width / 2 {
            permuted.extend([head[index].clone(), head[width / 2 + index].clone()]);
        }
    }
    let restored = unpermute_heads(&permuted.concat(), heads * width, heads).unwrap();
    assert_eq!(restored, rows.concat());
    let error = unpermute_heads(&[0; 12], 12, 5).unwrap_err().to_string();
    assert_eq!(error, "12 bytes are not 12 rows of 5 heads");
}

#[test]
fn damaged_headers_are_read_or_refused() {
    let tensor = tensor(Format::Q8_0, 32, 2, 1);
    let metadata =
        [("general.architecture", text("qwen2")), ("a", texts(["ñ", ""])), ("b", integers([1, -2]))];
    let file = written(&metadata, &[("token_embd.weight", &tensor)]);
    let corpus = [std::fs::read(file.path()).unwrap()];
    observatory_mutator::bytes("headers of GGUF", &corpus, |content| {
        std::fs::write(file.path(), content).unwrap();
        if let Ok(gguf) = Gguf::open(file.path()) {
            let names: Vec<String> = gguf.tensors().map(|(name, _)| name.to_owned()).collect();
            for name in names {
                let shape = gguf.tensor(&name).map(|info| info.shape().to_vec()).unwrap_or_default();
                // What the file cannot hold is refused before memory is taken for it.
                let _ = gguf.read(&name, &shape).map(|bytes| assert!(bytes.len() <= content.len()));
            }
        }
    });
}
