//! Formats of a GGUF file's tensors, with the names, numbers and sizes of ggml.
//!
//! What the bytes of a block mean is in [`super::decode`].

use anyhow::{Result, bail, ensure};

use super::geometry::{BLOCK, CHUNK};

/// Storage format of the numbers of a tensor: ggml's `ggml_type`.
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
    /// 4 bits, a scale and a minimum of 6 bits for 32 weights, two f16 factors for 256.
    Q4K,
    /// 5 bits, a scale and a minimum of 6 bits for 32 weights, two f16 factors for 256.
    Q5K,
    /// 6 bits, a scale of 8 bits for 16 weights, an f16 factor for 256.
    Q6K,
}

impl Format {
    /// All formats that are supported.
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

    /// Number in a file, that of `ggml_type`.
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

    /// The format with a number of `ggml_type`.
    ///
    /// # Errors
    /// If the format is not supported, with its name and the names of those that are.
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

    /// Name in logs, tables and errors, as llama.cpp prints it.
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

    /// Returns true if weights are blocks of integers, which [`super::Panels`] take.
    pub fn is_quantised(self) -> bool {
        !matches!(self, Self::F32 | Self::F16 | Self::Bf16)
    }

    /// Numbers of a block. A row is a whole number of blocks.
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

    /// Bytes of a row of `length` numbers.
    ///
    /// # Errors
    /// If `length` is not a multiple of the block size.
    pub fn row_bytes(self, length: usize) -> Result<usize> {
        let block = self.block_length();
        ensure!(
            length.is_multiple_of(block),
            "row length {length} is not a multiple of the {} block size {block}",
            self.name()
        );
        Ok(length / block * self.block_bytes())
    }

    /// Offset that is subtracted from each integer of a format without minima.
    pub(super) fn offset(self) -> u8 {
        match self {
            Self::Q4_0 => 8,
            Self::Q5_0 => 16,
            Self::Q6K => 32,
            Self::Q8_0 => 128,
            _ => 0,
        }
    }

    /// The power of two that [`Self::offset`] is; 0 for formats with minima.
    pub(super) fn offset_shift(self) -> u32 {
        u32::from(self.offset()).checked_ilog2().unwrap_or_default()
    }

    /// Returns true if a weight is scale · integer − minimum instead of scale · (integer − offset).
    pub(super) fn has_minima(self) -> bool {
        matches!(self, Self::Q4_1 | Self::Q5_1 | Self::Q4K | Self::Q5K)
    }

    /// Scales for each 32 weights.
    pub(super) fn scales_per_block(self) -> usize {
        if self == Self::Q6K { 2 } else { 1 }
    }
}

/// Names of ggml's formats that are not supported.
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
        assert_eq!(error, "row length 896 is not a multiple of the Q4_K block size 256");
    }
}
