//! The container format of the packaged encoder, read with all bounds checked.
//!
//! Little-endian throughout: `E5S1`, version, seven sizes, epsilon, a flag; the vocabulary (special
//! ids, offsets, scores and text of the pieces); the normaliser's map of single code points; a
//! table of tensors. Weight matrices are blocks of 32 values in 4 bits with one f16 scale (ggml's
//! Q4_0), everything else is f32. Source of the layout: `e5.c` in the package itself (MIT).

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, anyhow, bail, ensure};

/// Magic number.
const MAGIC: &[u8] = b"E5S1";
/// Values per block of quantized weights (Q4_0).
const BLOCK: usize = 32;
/// Bytes of one block: the scale and 32 half-bytes.
const BLOCK_BYTES: usize = 18;

/// Sizes of the encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sizes {
    pub(super) hidden: usize,
    pub(super) layers: usize,
    pub(super) heads: usize,
    pub(super) feed_forward: usize,
    /// Rows of the word embeddings; the vocabulary may have fewer pieces.
    pub(super) vocabulary: usize,
    pub(super) positions: usize,
    pub(super) types: usize,
}

/// Ids of the special tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Special {
    pub(super) begin: usize,
    pub(super) end: usize,
    pub(super) pad: usize,
    pub(super) unknown: usize,
}

/// Storage of the values of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stored {
    F32,
    Q4,
}

/// A container, its tensors still packed.
pub(super) struct Container<'a> {
    pub(super) sizes: Sizes,
    pub(super) epsilon: f32,
    pub(super) special: Special,
    /// Pieces of the vocabulary with their log probabilities, by id.
    pub(super) pieces: Vec<(String, f32)>,
    /// Replacements of code points by the normalizer.
    pub(super) normaliser: BTreeMap<char, String>,
    tensors: HashMap<String, &'a [u8]>,
}

impl<'a> Container<'a> {
    /// Reads everything but the weights.
    ///
    /// # Errors
    /// If the bytes are not a container, or are truncated.
    pub(super) fn read(bytes: &'a [u8]) -> anyhow::Result<Self> {
        let mut from = Reader { bytes, at: 0 };
        ensure!(from.take(MAGIC.len())? == MAGIC, "the container does not start with E5S1");
        // The version, which cannot vary: the package is pinned by its digest.
        from.u32()?;
        let [hidden, layers, heads, feed_forward, vocabulary, positions, types] = from.sizes()?;
        let sizes = Sizes { hidden, layers, heads, feed_forward, vocabulary, positions, types };
        let epsilon = from.f32()?;
        from.u32()?;
        let [count, begin, end, pad, unknown] = from.sizes()?;
        let special = Special { begin, end, pad, unknown };
        let pieces = from.pieces(count)?;
        let normaliser = from.normaliser()?;
        let tensors = from.tensors()?;
        Ok(Self { sizes, epsilon, special, pieces, normaliser, tensors })
    }

    /// Returns the bytes of a tensor with `values` values.
    ///
    /// # Errors
    /// If it is missing or has another size.
    pub(super) fn tensor(&self, name: &str, values: usize, stored: Stored) -> anyhow::Result<&'a [u8]> {
        let bytes = *self.tensors.get(name).with_context(|| format!("tensor {name} is missing"))?;
        let expected = match stored {
            Stored::F32 => values * 4,
            Stored::Q4 => values / BLOCK * BLOCK_BYTES,
        };
        // as_chunks would drop an incomplete block without a word.
        ensure!(bytes.len() == expected, "tensor {name}: expected {expected} bytes, found {}", bytes.len());
        Ok(bytes)
    }

    /// The container as its descriptions would be with the kept pieces alone, by rising id; it has
    /// no tensors.
    ///
    /// # Errors
    /// If a special token is not among them.
    pub(super) fn cut(&self, kept: &[usize]) -> anyhow::Result<Container<'static>> {
        let place = |id: usize| {
            kept.binary_search(&id).map_err(|_| anyhow!("the kept pieces lack the special token {id}"))
        };
        let Special { begin, end, pad, unknown } = self.special;
        let special =
            Special { begin: place(begin)?, end: place(end)?, pad: place(pad)?, unknown: place(unknown)? };
        Ok(Container {
            sizes: Sizes { vocabulary: kept.len(), ..self.sizes },
            epsilon: self.epsilon,
            special,
            pieces: kept.iter().map(|id| self.pieces[*id].clone()).collect(),
            normaliser: self.normaliser.clone(),
            tensors: HashMap::new(),
        })
    }
}

/// Writes the values of a tensor as f16.
pub(super) fn write_f16(stored: Stored, bytes: &[u8], mut write: impl FnMut(&[u8])) {
    match stored {
        Stored::F32 => {
            for value in bytes.as_chunks::<4>().0 {
                write(&half::f16::from_f32(f32::from_le_bytes(*value)).to_le_bytes());
            }
        }
        Stored::Q4 => {
            for block in bytes.as_chunks::<BLOCK_BYTES>().0 {
                write(&block_as_f16(block));
            }
        }
    }
}

/// Dequantizes a block: the low half-bytes first, then the high ones. A block has only sixteen
/// different values, so each is rounded once.
fn block_as_f16(block: &[u8; BLOCK_BYTES]) -> [u8; 2 * BLOCK] {
    let scale = half::f16::from_le_bytes([block[0], block[1]]).to_f32();
    let mut values = [[0; 2]; 16];
    for (level, value) in (-8_i8..8).zip(&mut values) {
        *value = half::f16::from_f32(f32::from(level) * scale).to_le_bytes();
    }
    let mut written = [0; 2 * BLOCK];
    for (index, byte) in block[2..].iter().enumerate() {
        let (low, high) = (2 * index, BLOCK + 2 * index);
        written[low..low + 2].copy_from_slice(&values[usize::from(byte & 15)]);
        written[high..high + 2].copy_from_slice(&values[usize::from(byte >> 4)]);
    }
    written
}

/// Reads values at a position in the bytes.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> anyhow::Result<&'a [u8]> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.bytes.len());
        let Some(end) = end else { bail!("the container is truncated at byte {}", self.bytes.len()) };
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> anyhow::Result<[u8; N]> {
        Ok(self.take(N)?.try_into()?)
    }

    fn u32(&mut self) -> anyhow::Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn f32(&mut self) -> anyhow::Result<f32> {
        Ok(f32::from_le_bytes(self.array()?))
    }

    fn size(&mut self) -> anyhow::Result<usize> {
        Ok(usize::try_from(self.u32()?)?)
    }

    fn long(&mut self) -> anyhow::Result<usize> {
        Ok(usize::try_from(u64::from_le_bytes(self.array()?))?)
    }

    fn sizes<const N: usize>(&mut self) -> anyhow::Result<[usize; N]> {
        let mut sizes = [0; N];
        for size in &mut sizes {
            *size = self.size()?;
        }
        Ok(sizes)
    }

    fn pieces(&mut self, count: usize) -> anyhow::Result<Vec<(String, f32)>> {
        let text_bytes = self.long()?;
        let offsets = self.take(4 * (count + 1))?.as_chunks::<4>().0;
        let scores = self.take(4 * count)?.as_chunks::<4>().0;
        let text = self.take(text_bytes)?;
        // Safe to reserve: that many offsets have just been read.
        let mut pieces = Vec::with_capacity(count);
        for (ends, score) in offsets.windows(2).zip(scores) {
            let start = usize::try_from(u32::from_le_bytes(ends[0]))?;
            let end = usize::try_from(u32::from_le_bytes(ends[1]))?;
            let piece = text.get(start..end).context("a piece is outside the text")?;
            pieces.push((std::str::from_utf8(piece)?.to_owned(), f32::from_le_bytes(*score)));
        }
        Ok(pieces)
    }

    fn normaliser(&mut self) -> anyhow::Result<BTreeMap<char, String>> {
        let (count, _bytes) = (self.size()?, self.u32()?);
        let mut map = BTreeMap::new();
        for _ in 0..count {
            let from = self.char()?;
            let [length] = self.array()?;
            map.insert(from, (0..length).map(|_| self.char()).collect::<anyhow::Result<String>>()?);
        }
        Ok(map)
    }

    fn char(&mut self) -> anyhow::Result<char> {
        let code = self.u32()?;
        char::from_u32(code).with_context(|| format!("invalid code point {code}"))
    }

    fn tensors(&mut self) -> anyhow::Result<HashMap<String, &'a [u8]>> {
        let mut tensors = HashMap::new();
        for _ in 0..self.size()? {
            let length = usize::from(u16::from_le_bytes(self.array()?));
            let name = std::str::from_utf8(self.take(length)?)?.to_owned();
            // Not needed: the converter knows storage and shape of each tensor by its name.
            let _kind_and_count: [u8; 5] = self.array()?;
            let (offset, size) = (self.long()?, self.long()?);
            let end = offset.checked_add(size);
            let bytes = end.and_then(|end| self.bytes.get(offset..end));
            tensors.insert(name, bytes.context("a tensor is outside the container")?);
        }
        Ok(tensors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A container of two pieces, one replacement and one tensor.
    fn small() -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        let mut add = |part: &[u8]| bytes.extend_from_slice(part);
        for number in [1_u32, 32, 1, 1, 64, 2, 16, 1] {
            add(&number.to_le_bytes());
        }
        add(&1e-12_f32.to_le_bytes());
        for number in [0_u32, 2, 0, 1, 0, 1] {
            add(&number.to_le_bytes());
        }
        add(&3_u64.to_le_bytes());
        for number in [0_u32, 1, 3] {
            add(&number.to_le_bytes());
        }
        add(&[0; 8]);
        add("añ".as_bytes());
        add(&1_u32.to_le_bytes());
        add(&9_u32.to_le_bytes());
        add(&u32::from('Ñ').to_le_bytes());
        add(&[1]);
        add(&u32::from('ñ').to_le_bytes());
        add(&1_u32.to_le_bytes());
        add(&1_u16.to_le_bytes());
        add(b"w");
        add(&[0; 5]);
        add(&4_u64.to_le_bytes());
        add(&8_u64.to_le_bytes());
        bytes
    }

    #[test]
    fn damaged_containers_are_refused() {
        let whole = small();
        let read = Container::read(&whole).expect("a container");
        assert_eq!(read.pieces.len(), 2);
        assert_eq!(read.normaliser[&'Ñ'], "ñ");
        assert_eq!(read.tensor("w", 2, Stored::F32).expect("a tensor").len(), 8);
        observatory_mutator::bytes("containers", std::slice::from_ref(&whole), |bytes| {
            if let Ok(read) = Container::read(bytes) {
                assert!(
                    read.pieces.iter().map(|(piece, _)| piece.len()).sum::<usize>() <= bytes.len().pow(2)
                );
                let _ = read.tensor("w", usize::MAX / 8, Stored::F32);
            }
        });
    }
}
