//! One file in PyTorch's own format: a zip archive with a pickle that names the tensors.
//!
//! candle's reader interprets the few instructions that a state dict needs and builds plain data
//! from them; functions that the pickle names are never called. How much it would build is measured
//! first (`scan`), so that a hostile file is refused.

mod scan;

use std::collections::HashMap;
use std::fs;
use std::io::{BufReader, Read};
use std::panic::catch_unwind;
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use candle_core::pickle::{PthTensors, TensorInfo};
use candle_core::{DType, Tensor};
use zip::ZipArchive;

use super::dtype::check_dtype;

/// First bytes of a zip archive.
const ZIP_MAGIC: [u8; 4] = *b"PK\x03\x04";
/// Upper limit on the files of an archive; a checkpoint has one for each tensor.
const MAX_FILES: usize = 1 << 17;
/// Upper limit on the unpacked bytes of a pickle; that of a large checkpoint has some megabytes.
const MAX_PICKLE_BYTES: u64 = 64 << 20;

pub(super) struct File {
    length: u64,
    tensors: PthTensors,
}

impl File {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let mut start = Vec::new();
        let file = fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        let length = file.metadata().context("cannot read its size")?.len();
        file.take(4).read_to_end(&mut start)?;
        // A bare pickle begins with the instruction PROTO.
        ensure!(
            start.first() != Some(&0x80),
            "is in the format of PyTorch before 1.6, which is not supported; save it again with a newer version"
        );
        ensure!(
            start == ZIP_MAGIC,
            "is not a PyTorch checkpoint: {length} bytes that do not begin like a zip archive"
        );
        measure(path)?;
        // The reader indexes without checks, so a damaged pickle can make it panic.
        let tensors = catch_unwind(|| PthTensors::new(path, None))
            .map_err(|_| anyhow!("its pickle is malformed"))?
            .map_err(|error| {
                anyhow!("is not a PyTorch checkpoint or is truncated: {length} bytes: {error}")
            })?;
        Ok(Self { length, tensors })
    }

    fn infos(&self) -> &HashMap<String, TensorInfo> {
        self.tensors.tensor_infos()
    }

    pub(super) fn shape(&self, name: &str) -> Option<&[usize]> {
        self.infos().get(name).map(|info| info.layout.dims())
    }

    pub(super) fn shapes(&self) -> impl Iterator<Item = &[usize]> {
        self.infos().values().map(|info| info.layout.dims())
    }

    pub(super) fn read(&self, name: &str) -> Result<Tensor> {
        let info = self.infos().get(name).context("is not in the file")?;
        check_dtype(Some(info.dtype), &format!("{:?}", info.dtype))?;
        let dims = info.layout.dims().iter();
        let bytes = dims
            .fold(info.dtype.size_in_bytes() as u64, |bytes, length| bytes.saturating_mul(*length as u64));
        // A tensor with a stride of 0 claims any size while the file holds a single value.
        ensure!(bytes <= self.length, "claims {bytes} bytes of a file of {}", self.length);
        let tensor = self.tensors.get(name).context("cannot be read")?.context("is not in the file")?;
        // A view is saved with the strides of the tensor it was taken from.
        Ok(tensor.to_dtype(DType::F32)?.contiguous()?)
    }
}

/// Refuses a file whose pickles would take more memory than that of a checkpoint.
fn measure(path: &Path) -> Result<()> {
    let file = fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut archive =
        ZipArchive::new(BufReader::new(file)).context("is not a zip archive or is truncated")?;
    ensure!(archive.len() <= MAX_FILES, "holds {} files; expected at most {MAX_FILES}", archive.len());
    for index in 0..archive.len() {
        let file = archive.by_index(index).context("is a damaged zip archive")?;
        if file.name().is_ok_and(|name| name.ends_with("data.pkl")) {
            scan::scan(&mut BufReader::new(file.take(MAX_PICKLE_BYTES))).context("its pickle")?;
        }
    }
    Ok(())
}
