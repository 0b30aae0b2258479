//! The learned differences: a safetensors file with two small factors for each product.
//!
//! `NAME.low` `[rank, columns]` and `NAME.high` `[rows, rank]` are integers of 8 bits with one f16
//! factor for each row in `NAME.low_scale` and `NAME.high_scale`; their product is added to the
//! weights. Other tensors, in f16, are learned as a whole.

use std::collections::HashMap;

use anyhow::{Context, ensure};
use serde::Deserialize;

use super::floats;

/// A tensor of the file.
#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (usize, usize),
}

/// The file.
pub(super) struct Difference<'a> {
    entries: HashMap<String, Entry>,
    data: &'a [u8],
}

/// The factors of one product as numbers, row by row.
pub(super) struct Factors {
    low: Vec<f32>,
    high: Vec<f32>,
    columns: usize,
}

impl<'a> Difference<'a> {
    /// Reads the header.
    ///
    /// # Errors
    /// If the bytes are not a safetensors file, or are truncated.
    pub(super) fn read(bytes: &'a [u8]) -> anyhow::Result<Self> {
        let (size, rest) = bytes.split_first_chunk::<8>().context("the differences are truncated")?;
        let size = usize::try_from(u64::from_le_bytes(*size))?;
        let (header, data) = rest.split_at_checked(size).context("the differences are truncated")?;
        Ok(Self { entries: serde_json::from_slice(header)?, data })
    }

    /// The factors of a product; `None` if it has none.
    ///
    /// # Errors
    /// If they do not fit the product's shape.
    pub(super) fn factors(&self, name: &str, shape: &[usize]) -> anyhow::Result<Option<Factors>> {
        let low_name = format!("{name}.low");
        let (Some(low), [rows, columns]) = (self.entries.get(&low_name), shape) else { return Ok(None) };
        let rank = low.shape.first().copied().unwrap_or(0);
        Ok(Some(Factors {
            low: self.scaled(&low_name, rank, *columns)?,
            high: self.scaled(&format!("{name}.high"), *rows, rank)?,
            columns: *columns,
        }))
    }

    /// The bytes of a tensor that is learned as a whole; `None` if it is not.
    ///
    /// # Errors
    /// If it has another type or shape.
    pub(super) fn learned(&self, name: &str, shape: &[usize]) -> anyhow::Result<Option<&'a [u8]>> {
        if !self.entries.contains_key(name) {
            return Ok(None);
        }
        self.bytes(name, "F16", shape).map(Some)
    }

    fn scaled(&self, name: &str, rows: usize, columns: usize) -> anyhow::Result<Vec<f32>> {
        let integers = self.bytes(name, "I8", &[rows, columns])?;
        let scales = floats(self.bytes(&format!("{name}_scale"), "F16", &[rows, 1])?);
        let mut values = Vec::with_capacity(integers.len());
        for (row, scale) in integers.chunks_exact(columns.max(1)).zip(scales) {
            values.extend(row.iter().map(|byte| f32::from(byte.cast_signed()) * scale));
        }
        Ok(values)
    }

    fn bytes(&self, name: &str, dtype: &str, shape: &[usize]) -> anyhow::Result<&'a [u8]> {
        let entry = self.entries.get(name).with_context(|| format!("the differences lack {name}"))?;
        ensure!(
            entry.dtype == dtype && entry.shape == shape,
            "{name} is {} {:?} in the differences, expected {dtype} {shape:?}",
            entry.dtype,
            entry.shape
        );
        let (start, end) = entry.data_offsets;
        let width = if dtype == "I8" { 1 } else { 2 };
        let bytes = self.data.get(start..end).filter(|bytes| {
            shape.iter().try_fold(width, |all: usize, length| all.checked_mul(*length)) == Some(bytes.len())
        });
        bytes.with_context(|| format!("{name} is outside the differences"))
    }
}

impl Factors {
    /// Adds the product of the factors to weights, in a fixed order, so that every machine gets the
    /// same bits.
    pub(super) fn add_to(&self, weights: &mut [f32]) {
        let rank = self.low.len() / self.columns.max(1);
        let rows = weights.chunks_exact_mut(self.columns.max(1));
        for (row, high) in rows.zip(self.high.chunks_exact(rank.max(1))) {
            for (factor, low) in high.iter().zip(self.low.chunks_exact(self.columns.max(1))) {
                for (weight, value) in row.iter_mut().zip(low) {
                    *weight += factor * value;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with one product of two rows and two columns, and rank 1.
    fn small() -> Vec<u8> {
        let header = serde_json::json!({
            "w.low": { "dtype": "I8", "shape": [1, 2], "data_offsets": [0, 2] },
            "w.low_scale": { "dtype": "F16", "shape": [1, 1], "data_offsets": [2, 4] },
            "w.high": { "dtype": "I8", "shape": [2, 1], "data_offsets": [4, 6] },
            "w.high_scale": { "dtype": "F16", "shape": [2, 1], "data_offsets": [6, 10] },
            "norm": { "dtype": "F16", "shape": [1], "data_offsets": [10, 12] },
        });
        let header = serde_json::to_vec(&header).unwrap();
        let half = |value: f32| half::f16::from_f32(value).to_le_bytes();
        let mut bytes = u64::try_from(header.len()).unwrap().to_le_bytes().to_vec();
        bytes.extend(header);
        for part in [[2, 0xFF], half(0.5), [3, 4], half(1.0), half(2.0), half(7.0)] {
            bytes.extend(part);
        }
        bytes
    }

    #[test]
    fn products_are_added_and_damage_is_refused() {
        let whole = small();
        let read = Difference::read(&whole).unwrap();
        let mut weights = [1.0, 1.0, 0.0, 0.0];
        read.factors("w", &[2, 2]).unwrap().unwrap().add_to(&mut weights);
        assert_eq!(weights, [4.0, -0.5, 8.0, -4.0]);
        assert_eq!(read.learned("norm", &[1]).unwrap().map(floats), Some(vec![7.0]));
        assert!(read.factors("w", &[2, 3]).is_err() && read.learned("norm", &[2]).is_err());
        assert!(
            read.factors("other", &[2, 2]).unwrap().is_none()
                && read.learned("other", &[1]).unwrap().is_none()
        );
        observatory_mutator::bytes("differences", std::slice::from_ref(&whole), |bytes| {
            if let Ok(read) = Difference::read(bytes) {
                let _ = read.factors("w", &[2, 2]);
                let _ = read.learned("norm", &[1]);
            }
        });
    }
}
