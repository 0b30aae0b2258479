//! One safetensors file: a JSON header and the bytes of the tensors.
//!
//! The header is checked against the length of the file when it is opened, so that a truncated
//! download is refused before anything is loaded.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Device, Tensor};
use safetensors::Dtype;
use safetensors::tensor::Metadata;

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

    pub(super) fn read(&self, name: &str) -> Result<Tensor> {
        let info = self.metadata.info(name).context("is not in the file")?;
        let dtype = check_dtype(candle_dtype(info.dtype), &format!("{:?}", info.dtype))?;
        let (start, end) = info.data_offsets;
        // A shared reference is enough: only `Weights`, by `&mut self`, moves the position.
        let mut file = &self.file;
        file.seek(SeekFrom::Start(self.data_start + start as u64))?;
        let mut values: Vec<f32> = Vec::with_capacity((end - start) / dtype.size_in_bytes());
        let mut piece = vec![0; PIECE.min(end - start)];
        let mut left = end - start;
        while left > 0 {
            let bytes = &mut piece[..left.min(PIECE)];
            file.read_exact(bytes).context("cannot be read")?;
            left -= bytes.len();
            extend(&mut values, bytes, dtype)?;
        }
        Ok(Tensor::from_vec(values, info.shape.as_slice(), &Device::Cpu)?)
    }
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
