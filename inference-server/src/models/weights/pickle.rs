//! One file of PyTorch's own format: a zip archive with a pickle that names the tensors.
//!
//! candle's reader interprets the few instructions that a state dict needs and builds plain data
//! from them; whatever function the pickle names is never called. What it would build is measured
//! before, so a hostile file is refused.

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

use super::check_dtype;

/// First bytes of a zip archive.
const ZIP: [u8; 4] = *b"PK\x03\x04";
/// Files of an archive; a checkpoint has one for each tensor.
const MOST_FILES: usize = 1 << 17;
/// Longest pickle, unpacked.
const LONGEST: u64 = 64 << 20;

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
        // A pickle by itself begins with the instruction that tells its version.
        ensure!(
            start.first() != Some(&0x80),
            "is in the format of PyTorch before 1.6, which is not read; save it again with a newer one"
        );
        ensure!(
            start == ZIP,
            "is not a PyTorch checkpoint: {length} bytes without the head of a zip archive"
        );
        measure(path)?;
        // The reader indexes into what the pickle holds without looking, so a damaged one can make
        // it panic.
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
        ensure!(bytes <= self.length, "claims {bytes} bytes of a file of {}", self.length);
        let tensor = self.tensors.get(name).context("cannot be read")?.context("is not in the file")?;
        Ok(tensor.to_dtype(DType::F32)?.contiguous()?)
    }
}

/// Refuses a file whose pickles ask for more than a checkpoint does.
fn measure(path: &Path) -> Result<()> {
    let file = fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut archive =
        ZipArchive::new(BufReader::new(file)).context("is not a zip archive or is truncated")?;
    ensure!(archive.len() <= MOST_FILES, "holds {} files, allowed: at most {MOST_FILES}", archive.len());
    for index in 0..archive.len() {
        let file = archive.by_index(index).context("is a damaged zip archive")?;
        if file.name().is_ok_and(|name| name.ends_with("data.pkl")) {
            scan::scan(&mut BufReader::new(file.take(LONGEST))).context("its pickle")?;
        }
    }
    Ok(())
}
