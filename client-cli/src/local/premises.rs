//! Prepares this machine for services that root starts as another user: directories they may write,
//! files they can read, and programs they can reach.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::binaries::{self, INFERENCE, PIPELINE, TYPESET};
use super::paths::{create_dir, variable};
use super::plan::Plan;
use super::privileges::RunAs;

/// Variables with paths of files that the services read.
const FILES: [(&str, &str); 7] = [
    ("OBSERVATORY_CONFIG", "the configuration"),
    ("OBSERVATORY_CLIENTS_FILE", "the clients file"),
    ("OBSERVATORY_INFERENCE_CLIENTS_FILE", "the clients file"),
    ("OBSERVATORY_INFERENCE_TOKEN_FILE", "the token file"),
    ("PGSSLROOTCERT", "the certificate"),
    ("PGSSLCERT", "the certificate"),
    ("PGSSLKEY", "the key"),
];

/// Checks that the services can read the files they are configured with.
///
/// # Errors
/// Names the file that their user cannot reach or read, and suggests fixes.
pub(crate) fn check(plan: &Plan) -> anyhow::Result<()> {
    plan.data.check_reach(&plan.run_as)?;
    check_store(&plan.run_as, &plan.models)?;
    let named = FILES.iter().filter_map(|(name, what)| Some((variable(name)?, *what)));
    let config = variable("OBSERVATORY_CONFIG").is_none().then(|| (plan.data.config(), FILES[0].1));
    // The services report missing files themselves.
    named
        .chain(config)
        .filter(|(path, _)| path.exists())
        .try_for_each(|(path, what)| plan.run_as.check_readable(&path, what))?;
    match variable("OBSERVATORY_REPORTS") {
        Some(reports) => plan.run_as.check_writable(&reports, "the reports directory"),
        None => Ok(()),
    }
}

/// Checks that the inference server can reach the model store, or its future place.
///
/// # Errors
/// As [`check`].
pub(crate) fn check_store(run_as: &RunAs, store: &Path) -> anyhow::Result<()> {
    let existing = store.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("/"));
    run_as.check_reach(
        existing,
        "the model store",
        "choose another with --models-dir DIR or OBSERVATORY_MODELS",
    )
}

/// Prepares everything the services need, also in a data directory where they ran as root before.
/// Returns the directory to start them from: one in the data directory if their user cannot reach
/// the programs.
///
/// # Errors
/// As [`check`], or if an owner cannot be changed.
pub(crate) fn prepare(plan: &Plan) -> anyhow::Result<PathBuf> {
    let (data, run_as) = (&plan.data, &plan.run_as);
    check(plan)?;
    // Not the models, which the services only read.
    for dir in [data.run(), data.reports(), data.cache()] {
        run_as.chown_tree(&dir)?;
    }
    // The one folder of the store that the inference server writes to.
    let digests = plan.models.join(".digests");
    let prepared = create_dir(&digests, 0o755).and_then(|()| run_as.chown_tree(&digests));
    if let Err(error) = prepared {
        // Without this cache only loading is slower.
        tracing::debug!(error.message = format!("{error:#}"), "cannot cache the checksums of models");
    }
    reachable_bin_dir(plan)
}

/// The directory to start the services from.
fn reachable_bin_dir(plan: &Plan) -> anyhow::Result<PathBuf> {
    let mut found = vec![binaries::find(&plan.bin_dir, INFERENCE)?, binaries::find(&plan.bin_dir, PIPELINE)?];
    // Optional; the pipeline looks for it in its own directory.
    found.extend(Some(plan.bin_dir.join(TYPESET)).filter(|program| program.is_file()));
    let mut reached = true;
    for program in &found {
        reached = reached && plan.run_as.can_run(program)?;
    }
    if reached {
        return Ok(plan.bin_dir.clone());
    }
    let dir = plan.data.programs();
    create_dir(&dir, 0o755)?;
    for program in &found {
        let place = dir.join(program.file_name().unwrap_or_default());
        install(program, &place)
            .with_context(|| format!("cannot copy {} to {}", program.display(), dir.display()))?;
    }
    tracing::info!(directory = %dir.display(), "starting the services from here, since {} cannot reach their programs", plan.run_as);
    Ok(dir)
}

/// Installs a program at `place` unless it is up to date: as a hard link if the file system
/// supports that and others may run it, else as a copy.
fn install(program: &Path, place: &Path) -> std::io::Result<()> {
    let program = fs::canonicalize(program)?;
    let wanted = fs::metadata(&program)?;
    if let Ok(there) = fs::metadata(place) {
        let linked = (there.dev(), there.ino()) == (wanted.dev(), wanted.ino());
        let copied = there.len() == wanted.len() && there.modified()? == wanted.modified()?;
        if there.mode() & 0o005 == 0o005 && (linked || copied) {
            return Ok(());
        }
    }
    // A link cannot replace an existing file, so it gets another name and is renamed.
    let new = place.with_extension("new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // A link shares the mode of the original, so it helps only if others may run that.
    if wanted.mode() & 0o005 != 0o005 || fs::hard_link(&program, &new).is_err() {
        fs::copy(&program, &new)?;
        fs::set_permissions(&new, Permissions::from_mode(0o755))?;
        // The next call compares the times to see whether the copy is current.
        File::open(&new)?.set_modified(wanted.modified()?)?;
    }
    // A running program cannot be overwritten, but its name can be given to another file.
    fs::rename(&new, place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_put_once_and_again_when_it_changed() {
        let dir = tempfile::tempdir().unwrap();
        let (program, place) = (dir.path().join("program"), dir.path().join("place"));
        let chmod = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        let inode = |path: &Path| fs::metadata(path).unwrap().ino();
        fs::write(&program, "one").unwrap();
        chmod(&program, 0o755);
        install(&program, &place).unwrap();
        assert_eq!(inode(&place), inode(&program));
        install(&program, &place).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);

        // As a compiler leaves it: another file under the same name, which here others may not run.
        fs::remove_file(&program).unwrap();
        fs::write(&program, "two").unwrap();
        chmod(&program, 0o700);
        install(&program, &place).unwrap();
        assert_eq!(
            (fs::read(&place).unwrap(), fs::metadata(&place).unwrap().mode() & 0o777),
            (b"two".to_vec(), 0o755)
        );
        let copy = inode(&place);
        assert_ne!(copy, inode(&program));
        install(&program, &place).unwrap();
        assert_eq!(inode(&place), copy);
        assert_eq!(fs::metadata(&program).unwrap().mode() & 0o777, 0o700);
    }
}
