//! The header of a file, read with the length of the file as the bound of everything.

use std::collections::HashMap;
use std::fs;
use std::io::{BufReader, Read};

use anyhow::{Context, Result, bail, ensure};

use super::Info;
use super::value::{List, Value};
use crate::kernels::quant::Format;

const MAGIC: [u8; 4] = *b"GGUF";
/// Most keys and most tensors that are believed; models have some dozens and some thousands.
const MOST_ENTRIES: u64 = 1 << 16;
/// Most values of a list that are believed; the longest are the merges of a tokenizer, about half a
/// million.
const MOST_VALUES: u64 = 1 << 22;
/// Longest text that is believed; the longest are chat templates.
const LONGEST_TEXT: u64 = 1 << 24;
/// Most dimensions of a tensor, as in ggml.
const MOST_DIMENSIONS: u32 = 4;
const DEFAULT_ALIGNMENT: u64 = 32;

/// A header that agrees with the length of its file.
pub(super) struct Header {
    /// Where the tensors' offsets are counted from.
    pub(super) data_start: u64,
    pub(super) metadata: HashMap<String, Value>,
    pub(super) tensors: HashMap<String, Info>,
}

/// Reads the header from the start of a file.
pub(super) fn read(file: &fs::File) -> Result<Header> {
    let length = file.metadata().context("cannot read its size")?.len();
    let mut reader = Reader { inner: BufReader::with_capacity(1 << 16, file), at: 0, length };
    let magic = reader.array::<4>().context("the magic number")?;
    ensure!(magic == MAGIC, "is not a GGUF file: it begins with {magic:02x?}");
    let version = reader.u32().context("the version")?;
    ensure!(!(2..=3).contains(&version.swap_bytes()), "is a GGUF file of the other byte order");
    ensure!((2..=3).contains(&version), "is GGUF version {version}, allowed are 2 and 3");
    // A tensor takes at least 32 bytes of the directory and a key at least 13 of the metadata.
    let tensors = reader.count("tensors", MOST_ENTRIES, 32)?;
    let keys = reader.count("keys", MOST_ENTRIES, 13)?;
    let metadata = read_metadata(&mut reader, keys)?;
    let alignment = alignment(&metadata)?;
    whole_model(&metadata)?;
    let tensors = read_tensors(&mut reader, tensors, alignment)?;
    let data_start = reader.at.next_multiple_of(alignment);
    check_places(&tensors, length.saturating_sub(data_start))?;
    Ok(Header { data_start, metadata, tensors: tensors.into_iter().collect() })
}

fn read_metadata(reader: &mut Reader<'_>, count: u64) -> Result<HashMap<String, Value>> {
    let mut metadata = HashMap::new();
    for index in 0..count {
        let key = reader.text().with_context(|| format!("key {index} of {count}"))?;
        let value = read_value(reader).with_context(|| format!("key {key}"))?;
        ensure!(!metadata.contains_key(&key), "key {key} is there twice");
        metadata.insert(key, value);
    }
    Ok(metadata)
}

fn alignment(metadata: &HashMap<String, Value>) -> Result<u64> {
    let Some(value) = metadata.get("general.alignment") else { return Ok(DEFAULT_ALIGNMENT) };
    let found = value.integer().and_then(|value| u64::try_from(value).ok());
    found
        .filter(|alignment| alignment.is_power_of_two() && (8..=1 << 20).contains(alignment))
        .with_context(|| format!("general.alignment is {}, expected a power of two from 8", value.describe()))
}

fn whole_model(metadata: &HashMap<String, Value>) -> Result<()> {
    let parts = metadata.get("split.count").and_then(Value::integer).unwrap_or(1);
    ensure!(parts <= 1, "is one of {parts} files of a model; merge them with llama-gguf-split");
    Ok(())
}

fn read_tensors(reader: &mut Reader<'_>, count: u64, alignment: u64) -> Result<Vec<(String, Info)>> {
    let mut tensors = Vec::new();
    for index in 0..count {
        let name = reader.text().with_context(|| format!("tensor {index} of {count}"))?;
        let info = read_tensor(reader, alignment).with_context(|| format!("tensor {name}"))?;
        tensors.push((name, info));
    }
    let mut names: Vec<&str> = tensors.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    for pair in names.windows(2) {
        ensure!(pair[0] != pair[1], "tensor {} is there twice", pair[0]);
    }
    Ok(tensors)
}

fn read_tensor(reader: &mut Reader<'_>, alignment: u64) -> Result<Info> {
    let dimensions = reader.u32()?;
    ensure!((1..=MOST_DIMENSIONS).contains(&dimensions), "has {dimensions} dimensions, allowed are 1 to 4");
    let mut shape = Vec::new();
    for _ in 0..dimensions {
        shape.push(usize::try_from(reader.u64()?)?);
    }
    shape.reverse();
    let format = Format::from_number(reader.u32()?)?;
    let offset = reader.u64()?;
    let count = shape.iter().try_fold(1usize, |count, length| count.checked_mul(*length));
    let count = count.filter(|count| (1..=1 << 40).contains(count));
    let count = count.with_context(|| format!("has the shape {shape:?}, which no tensor can have"))?;
    let row = shape[shape.len() - 1];
    let bytes = count / row * format.row_bytes(row)?;
    ensure!(
        offset.is_multiple_of(alignment),
        "begins at {offset} of the data, which is no multiple of {alignment}"
    );
    Ok(Info { shape, format, offset, bytes })
}

/// Tensors lie one after the other inside the data.
fn check_places(tensors: &[(String, Info)], length: u64) -> Result<()> {
    let mut order: Vec<&(String, Info)> = tensors.iter().collect();
    order.sort_unstable_by_key(|(_, info)| info.offset);
    let mut before: (&str, u64) = ("", 0);
    for (name, info) in order {
        let Info { offset, bytes, .. } = info;
        ensure!(*offset >= before.1, "tensor {name} overlaps tensor {}", before.0);
        let end = offset.checked_add(*bytes as u64).filter(|end| *end <= length);
        let end = end.with_context(|| {
            format!(
                "tensor {name} needs {bytes} bytes from {offset} on, the file has {length} bytes of data: it is \
                 truncated or damaged"
            )
        })?;
        before = (name, end);
    }
    Ok(())
}

fn read_value(reader: &mut Reader<'_>) -> Result<Value> {
    let kind = reader.u32()?;
    Ok(match kind {
        7 => Value::Bool(reader.bool()?),
        8 => Value::Text(reader.text()?),
        9 => Value::List(read_list(reader)?),
        6 | 12 => Value::Float(reader.float(kind)?),
        _ => Value::Integer(reader.integer(kind)?),
    })
}

fn read_list(reader: &mut Reader<'_>) -> Result<List> {
    let kind = reader.u32()?;
    let least = match kind {
        0 | 1 | 7 => 1,
        2 | 3 => 2,
        4..=6 => 4,
        8 | 10..=12 => 8,
        9 => bail!("is a list of lists"),
        _ => bail!("is of the type {kind}, which is unknown"),
    };
    let count = reader.count("values", MOST_VALUES, least)?;
    Ok(match kind {
        7 => List::Bools((0..count).map(|_| reader.bool()).collect::<Result<_>>()?),
        8 => List::Texts((0..count).map(|_| reader.text()).collect::<Result<_>>()?),
        6 | 12 => List::Floats((0..count).map(|_| reader.float(kind)).collect::<Result<_>>()?),
        _ => {
            let mut integer = || Ok(i64::try_from(reader.integer(kind)?)?);
            List::Integers((0..count).map(|_| integer()).collect::<Result<_>>()?)
        }
    })
}

/// Reads forward through a file, never past its end.
struct Reader<'a> {
    inner: BufReader<&'a fs::File>,
    at: u64,
    length: u64,
}

impl Reader<'_> {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<()> {
        let wanted = bytes.len() as u64;
        let left = self.length - self.at;
        ensure!(wanted <= left, "the file ends at {} where {wanted} bytes more are expected", self.length);
        self.inner.read_exact(bytes).context("cannot be read")?;
        self.at += wanted;
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

    /// How many things follow, of which each takes at least `least` bytes of the file.
    fn count(&mut self, things: &str, most: u64, least: u64) -> Result<u64> {
        let count = self.u64().with_context(|| format!("the number of {things}"))?;
        let room = (self.length - self.at) / least;
        ensure!(count <= most, "claims {count} {things}, allowed are {most}");
        ensure!(count <= room, "claims {count} {things}, the file has room for {room} at most");
        Ok(count)
    }

    fn text(&mut self) -> Result<String> {
        let length = self.u64()?;
        let left = self.length - self.at;
        ensure!(
            length <= left.min(LONGEST_TEXT),
            "claims a text of {length} bytes, {left} are left in the file and {LONGEST_TEXT} are allowed"
        );
        let mut bytes = vec![0; usize::try_from(length)?];
        self.fill(&mut bytes)?;
        String::from_utf8(bytes).context("a text is not UTF-8")
    }

    fn bool(&mut self) -> Result<bool> {
        let [byte] = self.array()?;
        ensure!(byte <= 1, "a truth value is {byte}");
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
            _ => bail!("is of the type {kind}, which is unknown"),
        })
    }
}
