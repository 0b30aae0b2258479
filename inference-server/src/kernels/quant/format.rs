//! The formats of a file's tensors.

use anyhow::{Result, bail, ensure};

use super::{BLOCK, CHUNK, decode};

/// How the numbers of a tensor are stored; names and numbers are those of ggml's `ggml_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of single precision.
    Bf16,
    /// 4 bits and a scale for 32 weights.
    Q4_0,
    /// 4 bits, a scale and a minimum for 32 weights.
    Q4_1,
    /// 5 bits and a scale for 32 weights.
    Q5_0,
    /// 5 bits, a scale and a minimum for 32 weights.
    Q5_1,
    /// 8 bits and a scale for 32 weights.
    Q8_0,
    /// 4 bits, a scale and a minimum of 6 bits for 32 weights, two factors for 256.
    Q4K,
    /// 5 bits, a scale and a minimum of 6 bits for 32 weights, two factors for 256.
    Q5K,
    /// 6 bits, a scale of 8 bits for 16 weights, a factor for 256.
    Q6K,
}

impl Format {
    /// All that are read.
    pub const ALL: [Self; 11] = [
        Self::F32,
        Self::F16,
        Self::Bf16,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
    ];

    /// Number in a file.
    pub fn number(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q4_1 => 3,
            Self::Q5_0 => 6,
            Self::Q5_1 => 7,
            Self::Q8_0 => 8,
            Self::Q4K => 12,
            Self::Q5K => 13,
            Self::Q6K => 14,
            Self::Bf16 => 30,
        }
    }

    /// The format of this number.
    ///
    /// # Errors
    /// Names the format where ggml has one that is not read here, and those that are.
    pub fn from_number(number: u32) -> Result<Self> {
        if let Some(format) = Self::ALL.into_iter().find(|format| format.number() == number) {
            return Ok(format);
        }
        let names = Self::ALL.map(Self::name).join(", ");
        match other_name(number) {
            Some(name) => bail!("the format {name} is not supported, allowed are {names}"),
            None => bail!("the format number {number} is unknown, allowed are {names}"),
        }
    }

    /// Its name in logs and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q8_0 => "Q8_0",
            Self::Q4K => "Q4_K",
            Self::Q5K => "Q5_K",
            Self::Q6K => "Q6_K",
        }
    }

    /// Whether it has blocks of integers, which [`super::Panels`] take.
    pub fn is_quantised(self) -> bool {
        !matches!(self, Self::F32 | Self::F16 | Self::Bf16)
    }

    /// Numbers of a block; a row is a whole number of blocks.
    pub fn block_length(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 => BLOCK,
            Self::Q4K | Self::Q5K | Self::Q6K => CHUNK,
        }
    }

    /// Bytes of a block.
    pub fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Q4_0 => 2 + 16,
            Self::Q4_1 => 4 + 16,
            Self::Q5_0 => 2 + 4 + 16,
            Self::Q5_1 => 4 + 4 + 16,
            Self::Q8_0 => 2 + 32,
            Self::Q4K => 4 + 12 + 128,
            Self::Q5K => 4 + 12 + 32 + 128,
            Self::Q6K => 128 + 64 + 16 + 2,
        }
    }

    /// Bytes of a row of this many numbers.
    ///
    /// # Errors
    /// If that is no whole number of blocks.
    pub fn row_bytes(self, length: usize) -> Result<usize> {
        let block = self.block_length();
        ensure!(
            length.is_multiple_of(block),
            "a row of {length} is no whole number of blocks of {block} as {} asks for",
            self.name()
        );
        Ok(length / block * self.block_bytes())
    }

    /// The numbers that whole blocks stand for.
    ///
    /// # Panics
    /// Where `bytes` and `out` do not hold the same number of whole blocks.
    pub fn dequantise(self, bytes: &[u8], out: &mut [f32]) {
        let (blocks, values) = (bytes.len() / self.block_bytes(), out.len() / self.block_length());
        assert!(
            blocks == values
                && bytes.len().is_multiple_of(self.block_bytes())
                && out.len().is_multiple_of(self.block_length()),
            "whole blocks"
        );
        let blocks = bytes.chunks_exact(self.block_bytes()).zip(out.chunks_exact_mut(self.block_length()));
        blocks.for_each(|(block, out)| decode::dequantise(self, block, out));
    }
}

/// Formats of ggml that are not read.
fn other_name(number: u32) -> Option<&'static str> {
    Some(match number {
        9 => "Q8_1",
        10 => "Q2_K",
        11 => "Q3_K",
        15 => "Q8_K",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        20 => "IQ4_NL",
        21 => "IQ3_S",
        22 => "IQ2_S",
        23 => "IQ4_XS",
        24 => "I8",
        25 => "I16",
        26 => "I32",
        27 => "I64",
        28 => "F64",
        29 => "IQ1_M",
        34 => "TQ1_0",
        35 => "TQ2_0",
        39 => "MXFP4",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_lead_back() {
        for format in Format::ALL {
            assert_eq!(Format::from_number(format.number()).unwrap(), format);
        }
    }

    #[test]
    fn other_formats_are_named() {
        fn check(number: u32, expected: &str) {
            let error = Format::from_number(number).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
        check(10, "the format Q2_K is not supported, allowed are F32, F16, BF16, Q4_0");
        check(4, "the format number 4 is unknown, allowed are F32");
        check(u32::MAX, "the format number 4294967295 is unknown");
    }

    #[test]
    fn rows_are_whole_blocks() {
        assert_eq!(Format::Q8_0.row_bytes(896).unwrap(), 952);
        assert_eq!(Format::Q4K.row_bytes(4864).unwrap(), 2736);
        let error = Format::Q4K.row_bytes(896).unwrap_err().to_string();
        assert_eq!(error, "a row of 896 is no whole number of blocks of 256 as Q4_K asks for");
    }
}
