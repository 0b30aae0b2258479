//! One safetensors file: a JSON header and the bytes of the tensors.
//!
//! The header is checked against the length of the file when it is opened, so that a truncated
//! download is refused before anything is loaded.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use candle_core::{DType, Device, Tensor};
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

use super::dtype::check_dtype;

/// Upper limit on the bytes of a header, as in the `safetensors` crate.
const MAX_HEADER: u64 = 100_000_000;
/// Bytes read at once; a multiple of the size of every number. A tensor is never in memory twice,
/// once as bytes and once as f32.
const PIECE: usize = 1 << 20;

pub(super) struct File {
    file: fs::File,
    data_start: u64,
    metadata: Metadata,
}

impl File {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        let (metadata, data_start) = read_header(&file)?;
        Ok(Self { file, data_start, metadata })
    }

    pub(super) fn shape(&self, name: &str) -> Option<&[usize]> {
        self.metadata.info(name).map(|info| info.shape.as_slice())
    }

    pub(super) fn shapes(&self) -> impl Iterator<Item = &[usize]> {
        self.metadata.tensors().into_values().map(|info| info.shape.as_slice())
    }

    /// The tensor as f32; rows of 8-bit integers are multiplied by their factors.
    pub(super) fn read(&self, name: &str) -> Result<Tensor> {
        let info = self.metadata.info(name).context("is not in the file")?;
        let values =
            if info.dtype == Dtype::I8 { self.scaled(name, info)? } else { self.floating_point(info)? };
        Ok(Tensor::from_vec(values, info.shape.as_slice(), &Device::Cpu)?)
    }

    fn floating_point(&self, info: &TensorInfo) -> Result<Vec<f32>> {
        let dtype = check_dtype(candle_dtype(info.dtype), &format!("{:?}", info.dtype))?;
        let mut values = Vec::with_capacity(length(info) / dtype.size_in_bytes());
        self.pieces(info, |bytes| extend(&mut values, bytes, dtype))?;
        Ok(values)
    }

    /// Integers of 8 bits with one factor for each row, as the library compressed-tensors writes
    /// them (format `int-quantized`, strategy `channel`, symmetric).
    fn scaled(&self, name: &str, info: &TensorInfo) -> Result<Vec<f32>> {
        let [rows, columns] = info.shape[..] else {
            bail!("is of type I8 and has shape {:?}, expected rows and columns", info.shape)
        };
        let scale = format!("{name}_scale");
        let factors = self.metadata.info(&scale);
        let factors = factors.with_context(|| format!("is of type I8, and there is no {scale}"))?;
        ensure!(
            factors.shape == [rows, 1] && columns > 0,
            "{scale} has shape {:?}, expected {:?}",
            factors.shape,
            [rows, 1]
        );
        let factors = self.floating_point(factors).with_context(|| scale.clone())?;
        let mut values = Vec::with_capacity(length(info));
        self.pieces(info, |bytes| {
            values.extend(bytes.iter().map(|byte| f32::from(byte.cast_signed())));
            Ok(())
        })?;
        for (row, factor) in values.chunks_exact_mut(columns).zip(factors) {
            row.iter_mut().for_each(|value| *value *= factor);
        }
        Ok(values)
    }

    /// Hands on the bytes of a tensor in pieces.
    fn pieces(&self, info: &TensorInfo, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        // A shared reference is enough: only `Weights`, by `&mut self`, moves the position.
        let mut file = &self.file;
        file.seek(SeekFrom::Start(self.data_start + info.data_offsets.0 as u64))?;
        let mut left = length(info);
        let mut piece = vec![0; PIECE.min(left)];
        while left > 0 {
            let bytes = &mut piece[..left.min(PIECE)];
            file.read_exact(bytes).context("cannot be read")?;
            left -= bytes.len();
            take(bytes)?;
        }
        Ok(())
    }
}

/// Bytes of a tensor.
fn length(info: &TensorInfo) -> usize {
    info.data_offsets.1 - info.data_offsets.0
}

fn extend(values: &mut Vec<f32>, bytes: &[u8], dtype: DType) -> Result<()> {
    // f32 needs no conversion, and so no tensor in between.
    if dtype == DType::F32 {
        values.extend(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])));
        return Ok(());
    }
    let count = bytes.len() / dtype.size_in_bytes();
    let part = Tensor::from_raw_buffer(bytes, dtype, &[count], &Device::Cpu)?;
    values.extend(part.to_dtype(DType::F32)?.to_vec1::<f32>()?);
    Ok(())
}

fn candle_dtype(dtype: Dtype) -> Option<DType> {
    match dtype {
        Dtype::F32 => Some(DType::F32),
        Dtype::F16 => Some(DType::F16),
        Dtype::BF16 => Some(DType::BF16),
        Dtype::F64 => Some(DType::F64),
        _ => None,
    }
}

/// Reads the header, and checks that the file is as long as the header says.
fn read_header(mut file: &fs::File) -> Result<(Metadata, u64)> {
    let length = file.metadata().context("cannot read its size")?.len();
    ensure!(length > 8, "has {length} bytes, too few for a safetensors header");
    let mut size = [0; 8];
    file.read_exact(&mut size)?;
    let header = u64::from_le_bytes(size);
    ensure!(
        header <= MAX_HEADER && header + 8 <= length,
        "is not a safetensors file or is truncated: {length} bytes, of which its header claims {header}"
    );
    let mut bytes = vec![0; usize::try_from(header)?];
    file.read_exact(&mut bytes)?;
    let metadata: Metadata = serde_json::from_slice(&bytes).context("its safetensors header is not valid")?;
    // The crate has checked that tensors are contiguous, so the end of the last is the length of
    // all.
    let expected = 8 + header + metadata.data_len() as u64;
    ensure!(length == expected, "is truncated or damaged: {length} bytes, its header asks for {expected}");
    Ok((metadata, 8 + header))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads `weight` of a file with the given tensors.
    fn read(tensors: &[(&str, Dtype, &[usize], &[u8])]) -> Result<Vec<f32>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.safetensors");
        let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
            (*name, safetensors::tensor::TensorView::new(*dtype, shape.to_vec(), bytes).unwrap())
        });
        safetensors::serialize_to_file(views.collect::<Vec<_>>(), None, &path).unwrap();
        Ok(File::open(&path)?.read("weight")?.flatten_all()?.to_vec1()?)
    }

    #[test]
    fn rows_of_integers_are_multiplied_by_their_factors() {
        let integers = ("weight", Dtype::I8, &[2, 3][..], &[1, 127, 0x80, 0xFF, 0, 2][..]);
        let factors = [0.5_f32.to_le_bytes(), 2_f32.to_le_bytes()].concat();
        let found = read(&[integers, ("weight_scale", Dtype::F32, &[2, 1], &factors)]).unwrap();
        assert_eq!(found, [0.5, 63.5, -64.0, -2.0, 0.0, 4.0]);
        let refused = |tensors: &[_], expected: &str| {
            let error = format!("{:#}", read(tensors).unwrap_err());
            assert!(error.contains(expected), "{error}");
        };
        refused(&[integers], "is of type I8, and there is no weight_scale");
        refused(&[integers, ("weight_scale", Dtype::F32, &[1, 2], &factors)], "expected [2, 1]");
        refused(&[integers, ("weight_scale", Dtype::I8, &[2, 1], &[1, 1])], "invalid type I8");
        refused(&[("weight", Dtype::I8, &[6], integers.3)], "expected rows and columns");
        refused(&[("weight", Dtype::U8, &[6], integers.3)], "invalid type U8");
    }
}
