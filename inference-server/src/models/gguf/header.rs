//! The header of a GGUF file: metadata and descriptions of the tensors.
//!
//! The length of the file bounds every count and every length before memory is allocated for it, so
//! a hostile header cannot take more memory than the file has bytes, up to a small factor.

use std::collections::HashMap;
use std::fs;
use std::io::{BufReader, Read};

use anyhow::{Context, Result, bail, ensure};

use super::value::{Array, Value};
use crate::kernels::quant::Format;

/// First bytes of a file; `GGUF_MAGIC`.
const MAGIC: [u8; 4] = *b"GGUF";
/// Upper limit on keys and on tensors. Not tuned: models have dozens of keys and up to thousands of
/// tensors.
const MAX_ENTRIES: u64 = 1 << 16;
/// Upper limit on the values of an array. Not tuned: the longest are the merges of a tokenizer,
/// about half a million.
const MAX_VALUES: u64 = 1 << 22;
/// Upper limit on the bytes of a string. Not tuned: the longest are chat templates, of some
/// kilobytes.
const MAX_STRING: u64 = 1 << 24;
/// Upper limit on the dimensions of a tensor; `GGML_MAX_DIMS`.
const MAX_DIMENSIONS: u32 = 4;
/// `GGUF_DEFAULT_ALIGNMENT`.
const DEFAULT_ALIGNMENT: u64 = 32;

/// Description of a tensor in the header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    pub(super) shape: Vec<usize>,
    pub(super) format: Format,
    /// From the start of the tensor data.
    pub(super) offset: u64,
    pub(super) bytes: usize,
}

impl TensorInfo {
    /// Dimensions, the outermost first: a linear layer has outputs × inputs. The file has them in
    /// the opposite order.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Format of the numbers.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Bytes of the tensor in the file.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// A header that is consistent with the length of its file.
pub(super) struct Header {
    /// Offset of the tensor data in the file.
    pub(super) data_start: u64,
    pub(super) metadata: HashMap<String, Value>,
    pub(super) tensors: HashMap<String, TensorInfo>,
}

/// Reads the header from the start of a file.
pub(super) fn read(file: &fs::File) -> Result<Header> {
    let length = file.metadata().context("cannot read its size")?.len();
    let mut reader = Reader { inner: BufReader::with_capacity(1 << 16, file), at: 0, length };
    let magic = reader.array::<4>().context("the magic number")?;
    ensure!(magic == MAGIC, "is not a GGUF file: it begins with {magic:02x?}");
    let version = reader.u32().context("the version")?;
    // A big-endian file shows by its version, which is then far out of range.
    ensure!(!(2..=3).contains(&version.swap_bytes()), "is a GGUF file of the other byte order");
    ensure!((2..=3).contains(&version), "is GGUF version {version}; expected 2 or 3");
    // The description of a tensor takes at least 32 bytes, a key with its value at least 13.
    let tensors = reader.count("tensors", MAX_ENTRIES, 32)?;
    let keys = reader.count("keys", MAX_ENTRIES, 13)?;
    let metadata = read_metadata(&mut reader, keys)?;
    let alignment = alignment(&metadata)?;
    check_not_split(&metadata)?;
    let tensors = read_tensors(&mut reader, tensors, alignment)?;
    let data_start = reader.at.next_multiple_of(alignment);
    check_extents(&tensors, length.saturating_sub(data_start))?;
    Ok(Header { data_start, metadata, tensors: tensors.into_iter().collect() })
}

fn read_metadata(reader: &mut Reader<'_>, count: u64) -> Result<HashMap<String, Value>> {
    let mut metadata = HashMap::new();
    for index in 0..count {
        let key = reader.string().with_context(|| format!("key {index} of {count}"))?;
        let value = read_value(reader).with_context(|| format!("key {key}"))?;
        // A second value would win in some readers and lose in others.
        ensure!(!metadata.contains_key(&key), "duplicate key {key}");
        metadata.insert(key, value);
    }
    Ok(metadata)
}

fn alignment(metadata: &HashMap<String, Value>) -> Result<u64> {
    let Some(value) = metadata.get("general.alignment") else { return Ok(DEFAULT_ALIGNMENT) };
    let found = value.integer().and_then(|value| u64::try_from(value).ok());
    found.filter(|alignment| alignment.is_power_of_two() && (8..=1 << 20).contains(alignment)).with_context(
        || format!("invalid general.alignment {}: expected a power of two from 8", value.describe()),
    )
}

fn check_not_split(metadata: &HashMap<String, Value>) -> Result<()> {
    let parts = metadata.get("split.count").and_then(Value::integer).unwrap_or(1);
    ensure!(parts <= 1, "is one of {parts} files of a model; merge them with llama-gguf-split");
    Ok(())
}

fn read_tensors(reader: &mut Reader<'_>, count: u64, alignment: u64) -> Result<Vec<(String, TensorInfo)>> {
    let mut tensors = Vec::new();
    for index in 0..count {
        let name = reader.string().with_context(|| format!("tensor {index} of {count}"))?;
        let info = read_tensor(reader, alignment).with_context(|| format!("tensor {name}"))?;
        tensors.push((name, info));
    }
    let mut names: Vec<&str> = tensors.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    for pair in names.windows(2) {
        ensure!(pair[0] != pair[1], "duplicate tensor {}", pair[0]);
    }
    Ok(tensors)
}

fn read_tensor(reader: &mut Reader<'_>, alignment: u64) -> Result<TensorInfo> {
    let dimensions = reader.u32()?;
    ensure!((1..=MAX_DIMENSIONS).contains(&dimensions), "has {dimensions} dimensions; expected 1 to 4");
    let mut shape = Vec::new();
    for _ in 0..dimensions {
        shape.push(usize::try_from(reader.u64()?)?);
    }
    // ggml counts dimensions from the innermost.
    shape.reverse();
    let format = Format::from_number(reader.u32()?)?;
    let offset = reader.u64()?;
    let count = shape.iter().try_fold(1usize, |count, length| count.checked_mul(*length));
    // 2⁴⁰ elements are far above any model, and their bytes still fit into 64 bits.
    let count = count.filter(|count| (1..=1 << 40).contains(count));
    let count = count.with_context(|| format!("invalid shape {shape:?}"))?;
    let row = shape[shape.len() - 1];
    // By rows, as quantisation blocks do not cross them.
    let bytes = count / row * format.row_bytes(row)?;
    ensure!(offset.is_multiple_of(alignment), "data offset {offset} is not a multiple of {alignment}");
    Ok(TensorInfo { shape, format, offset, bytes })
}

/// Checks that tensors do not overlap and end within the data of `length` bytes.
fn check_extents(tensors: &[(String, TensorInfo)], length: u64) -> Result<()> {
    let mut order: Vec<&(String, TensorInfo)> = tensors.iter().collect();
    order.sort_unstable_by_key(|(_, info)| info.offset);
    let mut before: (&str, u64) = ("", 0);
    for (name, info) in order {
        let TensorInfo { offset, bytes, .. } = info;
        // Sorted by offset, so comparing neighbours finds every overlap.
        ensure!(*offset >= before.1, "tensor {name} overlaps tensor {}", before.0);
        let end = offset.checked_add(*bytes as u64).filter(|end| *end <= length);
        let end = end.with_context(|| {
            format!(
                "tensor {name} needs {bytes} bytes from offset {offset}, the file has {length} bytes of data: it is \
                 truncated or damaged"
            )
        })?;
        before = (name, end);
    }
    Ok(())
}

/// Reads a value; the numbers of types are those of `gguf_metadata_value_type`.
fn read_value(reader: &mut Reader<'_>) -> Result<Value> {
    let kind = reader.u32()?;
    Ok(match kind {
        7 => Value::Bool(reader.bool()?),
        8 => Value::String(reader.string()?),
        9 => Value::Array(read_array(reader)?),
        6 | 12 => Value::Float(reader.float(kind)?),
        _ => Value::Integer(reader.integer(kind)?),
    })
}

fn read_array(reader: &mut Reader<'_>) -> Result<Array> {
    let kind = reader.u32()?;
    let min_bytes = match kind {
        0 | 1 | 7 => 1,
        2 | 3 => 2,
        4..=6 => 4,
        8 | 10..=12 => 8,
        9 => bail!("is an array of arrays, which is not supported"),
        _ => bail!("has the unknown type {kind}"),
    };
    let count = reader.count("values", MAX_VALUES, min_bytes)?;
    Ok(match kind {
        7 => Array::Bools((0..count).map(|_| reader.bool()).collect::<Result<_>>()?),
        8 => Array::Strings((0..count).map(|_| reader.string()).collect::<Result<_>>()?),
        6 | 12 => Array::Floats((0..count).map(|_| reader.float(kind)).collect::<Result<_>>()?),
        _ => {
            let mut integers = Vec::new();
            for _ in 0..count {
                integers.push(i64::try_from(reader.integer(kind)?)?);
            }
            Array::Integers(integers)
        }
    })
}

/// Reads forward through a file, with errors instead of reads past its end.
struct Reader<'a> {
    inner: BufReader<&'a fs::File>,
    at: u64,
    length: u64,
}

impl Reader<'_> {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<()> {
        let count = bytes.len() as u64;
        let left = self.length - self.at;
        ensure!(count <= left, "the file ends at {} where {count} more bytes are expected", self.length);
        self.inner.read_exact(bytes).context("cannot be read")?;
        self.at += count;
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// Reads the number of `things` that follow, each of which takes at least `min_bytes` of the
    /// file.
    fn count(&mut self, things: &str, max: u64, min_bytes: u64) -> Result<u64> {
        let count = self.u64().with_context(|| format!("the number of {things}"))?;
        let fitting = (self.length - self.at) / min_bytes;
        ensure!(count <= max, "claims {count} {things}; expected at most {max}");
        ensure!(count <= fitting, "claims {count} {things}, the file has space for {fitting}");
        Ok(count)
    }

    fn string(&mut self) -> Result<String> {
        let length = self.u64()?;
        let left = self.length - self.at;
        ensure!(
            length <= left.min(MAX_STRING),
            "claims a string of {length} bytes; {left} are left in the file and {MAX_STRING} are allowed"
        );
        let mut bytes = vec![0; usize::try_from(length)?];
        self.fill(&mut bytes)?;
        String::from_utf8(bytes).context("a string is not UTF-8")
    }

    fn bool(&mut self) -> Result<bool> {
        let [byte] = self.array()?;
        ensure!(byte <= 1, "invalid bool {byte}: expected 0 or 1");
        Ok(byte == 1)
    }

    fn float(&mut self, kind: u32) -> Result<f64> {
        Ok(if kind == 6 {
            f64::from(f32::from_le_bytes(self.array()?))
        } else {
            f64::from_le_bytes(self.array()?)
        })
    }

    fn integer(&mut self, kind: u32) -> Result<i128> {
        Ok(match kind {
            0 => u8::from_le_bytes(self.array()?).into(),
            1 => i8::from_le_bytes(self.array()?).into(),
            2 => u16::from_le_bytes(self.array()?).into(),
            3 => i16::from_le_bytes(self.array()?).into(),
            4 => u32::from_le_bytes(self.array()?).into(),
            5 => i32::from_le_bytes(self.array()?).into(),
            10 => u64::from_le_bytes(self.array()?).into(),
            11 => i64::from_le_bytes(self.array()?).into(),
            _ => bail!("has the unknown type {kind}"),
        })
    }
}
