//! The model store: folders `ORGANISATION/NAME` with the published files of a model and a record of
//! their origin.

mod files;
mod hub;
mod meter;
mod packaged;
mod pull;
mod record;
mod work;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use crate::error::{Hint, Hinted};
use crate::local::paths::create_dir;
use files::{CHECKPOINTS, NEEDED};
use record::RECORD;
use work::{ModelLock, STORE_HINT};

pub(crate) use hub::DEFAULT_HUB;
pub use hub::{HubOptions, RetryPolicy};
pub(crate) use meter::Bytes;
pub use observatory_client::Secret;
pub(crate) use packaged::{Packaged, import_into_empty, import_packaged, wants_encoder};
pub use pull::{Pulled, Request, is_not_found, pull};
pub use record::{Record, Source};

/// Copies a folder of model files, or a GGUF file, into the store under `name`. An existing model
/// is replaced only when the copy is complete. A folder from another store keeps its record, and
/// must match it.
///
/// # Errors
/// If the folder lacks a needed file or differs from its record, the name is invalid, or the store
/// cannot be written to.
pub(crate) fn import(from: &Path, store: &Path, name: &str) -> anyhow::Result<(PathBuf, Record)> {
    check_name(name)?;
    ensure!(from.exists(), "{} does not exist", from.display());
    let is_file = from.is_file();
    if is_file {
        ensure!(files::is_gguf(from), "{} is neither a folder nor a GGUF file", from.display());
    } else {
        check_folder(from)?;
    }
    // Held until the end: a pull of the same model would otherwise replace the folder meanwhile.
    let _lock = ModelLock::on(store, name)?;
    let staging = staging_dir(store)?;
    if is_file {
        copy_file(from, &staging.path().join(from.file_name().unwrap_or_default()))?;
    } else {
        copy_tree(from, staging.path())?;
    }
    let known = if is_file { None } else { Record::read(from)? };
    let record = match known {
        Some(record) => {
            // The copy is checked and not the original, since it is what the store gets.
            check_intact(&record, staging.path())?;
            record
        }
        None => {
            // Absolute, because the record is read from elsewhere.
            let origin = from.canonicalize().unwrap_or_else(|_| from.to_owned()).display().to_string();
            Record::of_folder(Source::Folder, origin, staging.path())?
        }
    };
    record.write(staging.path())?;
    install(&staging.keep(), &store.join(name)).map(|path| (path, record))
}

fn check_intact(record: &Record, folder: &Path) -> anyhow::Result<()> {
    let damages = record.damages(folder)?;
    let Some((path, damage)) = damages.first() else { return Ok(()) };
    let what = damage.text();
    Err(Hinted::error(
        format!("the folder does not match its record {RECORD}: {path} {what}"),
        format!("copy it again, or delete {RECORD} to import it as is"),
    ))
}

/// Lists the models in the store.
///
/// # Errors
/// If the store cannot be read; a missing store is empty.
pub fn stored(store: &Path) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for organisation in folders(store)? {
        for model in folders(&store.join(&organisation))? {
            // The server could not load an incomplete model, so it is not listed.
            if check_folder(&store.join(&organisation).join(&model)).is_ok() {
                names.push(format!("{organisation}/{model}"));
            }
        }
    }
    names.sort();
    Ok(names)
}

fn folders(parent: &Path) -> anyhow::Result<Vec<String>> {
    let entries = match fs::read_dir(parent) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", parent.display())),
    };
    let names = entries.flatten().filter(|entry| entry.path().is_dir());
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    // `.pulls` and `.import-…` are no organisations.
    Ok(names.filter(|name| !name.starts_with('.')).collect())
}

fn check_name(name: &str) -> anyhow::Result<()> {
    match name.split_once('/') {
        Some((organisation, model)) if is_plain(organisation) && is_plain(model) => Ok(()),
        _ => bail!(
            "invalid model name `{name}`: expected ORGANISATION/NAME of letters, digits, `-`, `_` and `.`"
        ),
    }
}

/// True if a part of a name can be a folder and stays visible.
fn is_plain(part: &str) -> bool {
    !part.is_empty()
        && !part.starts_with('.')
        && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

/// True if a folder looks like a model, complete or not.
pub(crate) fn looks_like_model(folder: &Path) -> bool {
    folder.join(NEEDED[0]).is_file() || !gguf_files(folder).is_empty()
}

/// Checks that a folder contains everything the inference server needs.
///
/// # Errors
/// Names the missing file.
fn check_folder(folder: &Path) -> anyhow::Result<()> {
    let has_checkpoint = CHECKPOINTS.iter().any(|file| folder.join(file).is_file());
    // A checkpoint comes before GGUF files next to it, which are then only further formats of it.
    if !has_checkpoint {
        match gguf_files(folder).as_slice() {
            [] => {}
            [_] => return Ok(()),
            [first, second, ..] => {
                bail!(
                    "{} is not a model: the folder holds two GGUF files ({first}, {second}); import one of them",
                    folder.display()
                )
            }
        }
    }
    for file in NEEDED {
        if !folder.join(file).is_file() {
            bail!("{} is not a model: {file} is missing", folder.display());
        }
    }
    if !has_checkpoint {
        let known = CHECKPOINTS.join(", ");
        bail!("{} is not a model: it has neither a GGUF file nor one of {known}", folder.display());
    }
    Ok(())
}

fn gguf_files(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let files = entries.filter(|path| files::is_gguf(path) && path.is_file());
    let mut names: Vec<String> =
        files.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())).collect();
    names.sort_unstable();
    names
}

fn staging_dir(store: &Path) -> anyhow::Result<tempfile::TempDir> {
    let cannot = || format!("cannot write to the model store {}", store.display());
    create_dir(store, 0o755).with_context(cannot).hint(STORE_HINT)?;
    // In the store itself, because a rename does not cross file systems.
    tempfile::Builder::new().prefix(".import-").tempdir_in(store).with_context(cannot).hint(STORE_HINT)
}

/// Moves a complete model to its place. An existing one is exchanged with it atomically, if the
/// file system supports that, and deleted; a server that has it open keeps reading the old files.
fn install(staged: &Path, target: &Path) -> anyhow::Result<PathBuf> {
    // Before the rename: a server that sees the model must be able to read it.
    make_readable(staged)?;
    create_dir(target.parent().unwrap_or(target), 0o755)?;
    replace(staged, target).with_context(|| format!("cannot write {}", target.display()))?;
    Ok(target.to_owned())
}

fn replace(staged: &Path, target: &Path) -> io::Result<()> {
    if !target.exists() {
        return fs::rename(staged, target);
    }
    if renameat2(AT_FDCWD, staged, AT_FDCWD, target, RenameFlags::RENAME_EXCHANGE).is_ok() {
        return fs::remove_dir_all(staged);
    }
    // Some file systems, such as NFS, cannot exchange: for an instant the store is without it.
    fs::remove_dir_all(target)?;
    fs::rename(staged, target)
}

/// Makes a model readable for all, since the server may run as another user. A temporary folder is
/// private to its owner, and copied or pulled files may be.
fn make_readable(path: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let cannot = || format!("cannot make {} readable", path.display());
    let folder = path.is_dir();
    let mode = if folder { 0o755 } else { 0o644 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).with_context(cannot)?;
    if folder {
        for entry in fs::read_dir(path).with_context(cannot)? {
            make_readable(&entry.with_context(cannot)?.path())?;
        }
    }
    Ok(())
}

fn copy_tree(from: &Path, to: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default();
        // Hidden files are bookkeeping of download tools, not part of the model.
        if name.to_string_lossy().starts_with('.') {
            continue;
        }
        let target = to.join(name);
        if path.is_dir() {
            fs::create_dir_all(&target)?;
            copy_tree(&path, &target)?;
        } else {
            copy_file(&path, &target)?;
        }
    }
    Ok(())
}

fn copy_file(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn model(dir: &Path) {
        fs::create_dir_all(dir).unwrap();
        for file in ["config.json", "tokenizer.json", "model.safetensors"] {
            fs::write(dir.join(file), file).unwrap();
        }
    }

    #[test]
    fn a_folder_becomes_a_model_of_the_store() {
        let dir = tempfile::tempdir().unwrap();
        let (source, store) = (dir.path().join("download"), dir.path().join("store"));
        model(&source);
        fs::create_dir_all(source.join(".cache")).unwrap();
        // As a download by somebody who keeps everything private leaves it.
        fs::set_permissions(source.join("config.json"), fs::Permissions::from_mode(0o600)).unwrap();
        import(&source, &store, "org/encoder").unwrap();
        fs::write(source.join("config.json"), "newer").unwrap();
        let (target, record) = import(&source, &store, "org/encoder").unwrap();
        assert_eq!(stored(&store).unwrap(), ["org/encoder"]);
        assert_eq!(fs::read_to_string(target.join("config.json")).unwrap(), "newer");
        assert!(!target.join(".cache").exists());
        for (path, mode) in [(&target, 0o755), (&target.join("config.json"), 0o644)] {
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, mode, "{}", path.display());
        }
        assert_eq!((record.source, record.files.len()), (Source::Folder, 3));
        assert_eq!(Record::read(&target).unwrap(), Some(record));
        let left = fs::read_dir(&store).unwrap().flatten().map(|entry| entry.file_name());
        let left: Vec<_> = left.filter(|name| name.to_string_lossy().starts_with(".import")).collect();
        assert!(left.is_empty(), "{left:?}");
        assert!(stored(&dir.path().join("absent")).unwrap().is_empty());
    }

    #[test]
    fn a_gguf_file_becomes_a_model_of_the_store() {
        let dir = tempfile::tempdir().unwrap();
        let (source, store) = (dir.path().join("download"), dir.path().join("store"));
        fs::create_dir(&source).unwrap();
        let file = source.join("one-q8_0.gguf");
        fs::write(&file, "GGUF").unwrap();
        for from in [&file, &source] {
            let (target, record) = import(from, &store, "org/one").unwrap();
            assert_eq!(stored(&store).unwrap(), ["org/one"]);
            assert!(target.join("one-q8_0.gguf").is_file());
            assert_eq!(record.files.len(), 1);
        }
        fs::write(source.join("two.gguf"), "GGUF").unwrap();
        fs::write(source.join("notes.txt"), "").unwrap();
        for (from, part) in [
            (&source, "the folder holds two GGUF files (one-q8_0.gguf, two.gguf); import one of them"),
            (&source.join("notes.txt"), "is neither a folder nor a GGUF file"),
            (&source.join("absent"), "does not exist"),
        ] {
            let error = import(from, &store, "org/other").unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_model_of_another_store_keeps_its_record() {
        let dir = tempfile::tempdir().unwrap();
        let (source, store) = (dir.path().join("download"), dir.path().join("store"));
        model(&source);
        let mut record = Record::of_folder(Source::Hub, "https://hub.example".to_owned(), &source).unwrap();
        record.revision = Some("a".repeat(40));
        record.write(&source).unwrap();
        let (target, kept) = import(&source, &store, "org/encoder").unwrap();
        assert_eq!((&kept, Record::read(&target).unwrap().as_ref()), (&record, Some(&record)));
        fs::write(source.join("tokenizer.json"), "damaged").unwrap();
        let error = import(&source, &store, "org/encoder").unwrap_err().to_string();
        assert!(error.ends_with("tokenizer.json does not match its recorded checksum"), "{error}");
        assert!(record.damages(&target).unwrap().is_empty());
    }

    #[test]
    fn what_is_missing_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("download");
        model(&source);
        fs::remove_file(source.join("tokenizer.json")).unwrap();
        let error = import(&source, dir.path(), "org/encoder").unwrap_err().to_string();
        assert!(error.ends_with("tokenizer.json is missing"), "{error}");
        model(&source);
        for name in ["encoder", "../x", "a/../b", "a/b/c", "/x"] {
            let error = import(&source, dir.path(), name).unwrap_err().to_string();
            assert!(error.contains("expected ORGANISATION/NAME"), "{error}");
        }
    }
}
