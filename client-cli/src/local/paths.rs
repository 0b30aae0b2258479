//! The layout of the data directory, and how files in it are written.
//!
//! Every path of the stack has a method here. Files are replaced atomically; secrets are readable
//! by their owner alone.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use uuid::Uuid;

use super::privileges::{CHOOSE_DATA_DIR, RunAs};
use crate::error::{Hint, Hinted};

/// Environment variable for the data directory.
pub(crate) const DATA_ENV: &str = "OBSERVATORY_DATA";

/// The directory that holds everything the local stack writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataDir {
    root: PathBuf,
}

impl DataDir {
    /// The data directory at `root`, which is not created.
    ///
    /// # Errors
    /// If a relative path cannot be made absolute.
    pub fn new(root: impl AsRef<Path>) -> anyhow::Result<Self> {
        let root = root.as_ref();
        if root.as_os_str().is_empty() {
            anyhow::bail!("the data directory must not be empty");
        }
        // Not canonicalized, because the directory need not exist yet.
        let root = std::path::absolute(root).with_context(|| format!("cannot resolve {}", root.display()))?;
        Ok(Self { root })
    }

    /// The directory at `explicit`, or the default for this user.
    ///
    /// # Errors
    /// If no default exists: neither `XDG_DATA_HOME` nor `HOME` is set.
    pub fn resolve(explicit: Option<&Path>) -> anyhow::Result<Self> {
        match explicit {
            Some(path) => Self::new(path),
            None => {
                let (xdg, home) = (variable("XDG_DATA_HOME"), variable("HOME"));
                let root = default_root(nix::unistd::geteuid().is_root(), xdg, home);
                Self::new(root.ok_or_else(|| {
                    Hinted::error(
                        "no data directory: neither XDG_DATA_HOME nor HOME is set",
                        format!("pass --data-dir DIR or set {DATA_ENV}"),
                    )
                })?)
            }
        }
    }

    /// Creates the directory and the subdirectories that every command needs, and checks that it
    /// can be written to. Other users may traverse it only if root owns it, because Postgres then
    /// runs as another user.
    ///
    /// # Errors
    /// Names the directory that could not be created or written.
    pub fn create(&self) -> anyhow::Result<()> {
        let mode = if nix::unistd::geteuid().is_root() { 0o755 } else { 0o700 };
        let advice = format!("choose another directory with --data-dir DIR or {DATA_ENV}");
        let open = [self.logs(), self.run(), self.wheels(), self.models(), self.reports(), self.cache()];
        for dir in [self.root.clone()].into_iter().chain(open) {
            create_dir(&dir, mode).hint(advice.clone())?;
        }
        // Closed even if root owns it: services get what they need by their environment and read
        // none of these files.
        create_dir(&self.secrets(), 0o700).hint(advice.clone())?;
        // The directory may exist and be read-only, or belong to another user.
        tempfile::tempfile_in(&self.root)
            .with_context(|| format!("cannot write to the data directory {}", self.root.display()))
            .hint(advice)?;
        Ok(())
    }

    /// Checks that the user of the database can reach the directory, or its future place.
    ///
    /// # Errors
    /// Names the directory that the user cannot traverse, and suggests fixes.
    pub fn check_reach(&self, user: &RunAs) -> anyhow::Result<()> {
        let existing = self.root.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("/"));
        user.check_reach(existing, "the data directory", CHOOSE_DATA_DIR)
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The state of the stack: `stack.json`.
    pub fn state_file(&self) -> PathBuf {
        self.root.join("stack.json")
    }

    /// Lock file, held by the supervisor as long as it runs.
    pub fn lock_file(&self) -> PathBuf {
        self.root.join("supervisor.lock")
    }

    /// One log file per process.
    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// The log of one process.
    pub fn log(&self, name: &str) -> PathBuf {
        self.logs().join(format!("{name}.log"))
    }

    /// Sockets and announce files of the running stack.
    pub fn run(&self) -> PathBuf {
        self.root.join("run")
    }

    /// File in which a service announces its addresses.
    pub fn announce(&self, name: &str) -> PathBuf {
        self.run().join(format!("{name}.json"))
    }

    /// The Postgres cluster.
    pub fn cluster(&self) -> PathBuf {
        self.root.join("postgres")
    }

    /// Unpacked Postgres binaries, one directory per wheel and major version.
    pub fn postgres_dist(&self) -> PathBuf {
        self.root.join("postgres-dist")
    }

    /// Downloaded wheels.
    pub fn wheels(&self) -> PathBuf {
        self.root.join("wheels")
    }

    /// Configuration of the pipeline services, if the user has written one.
    pub fn config(&self) -> PathBuf {
        self.root.join("observatory.toml")
    }

    /// Caches of the services.
    pub fn cache(&self) -> PathBuf {
        self.root.join("cache")
    }

    /// Cache of embeddings.
    pub fn embedding_cache(&self) -> PathBuf {
        self.cache().join("embeddings")
    }

    /// Copies of the server programs, for a user that cannot reach the originals.
    pub fn programs(&self) -> PathBuf {
        self.root.join("bin")
    }

    /// Reports.
    pub fn reports(&self) -> PathBuf {
        self.root.join("reports")
    }

    /// The model store.
    pub fn models(&self) -> PathBuf {
        self.root.join("models")
    }

    /// Passwords, readable by their owner only.
    pub fn secrets(&self) -> PathBuf {
        self.root.join("secrets")
    }

    /// Password of the login of the pipeline in the embedded database.
    pub fn pipeline_password(&self) -> PathBuf {
        self.secrets().join("pipeline-password")
    }

    /// Admin token of a server of the stack.
    pub fn token(&self, server: &str) -> PathBuf {
        self.secrets().join(format!("{server}-token"))
    }
}

/// The path in an environment variable. One that is empty counts as unset, since some environments
/// unset a variable by making it empty.
pub(crate) fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// The default data directory. Root's home is usually closed to other users and Postgres refuses to
/// run as root, so root gets a directory that others can enter.
fn default_root(root: bool, xdg: Option<PathBuf>, home: Option<PathBuf>) -> Option<PathBuf> {
    if root {
        return Some(PathBuf::from("/var/lib/observatory"));
    }
    // A relative path is invalid and to be ignored (XDG Base Directory Specification).
    xdg.filter(|path| path.is_absolute())
        .or_else(|| home.map(|home| home.join(".local/share")))
        .map(|base| base.join("observatory"))
}

/// Creates a directory and its parents with `mode`; existing ones keep theirs. The umask of root is
/// ignored, because the stack runs as another user that has to get there.
///
/// # Errors
/// Names the directory.
pub(crate) fn create_dir(dir: &Path, mode: u32) -> anyhow::Result<()> {
    try_create_dir(dir, mode).with_context(|| format!("cannot create the directory {}", dir.display()))
}

fn try_create_dir(dir: &Path, mode: u32) -> std::io::Result<()> {
    // Collected first: once they are created, none is missing.
    let missing: Vec<&Path> = dir.ancestors().take_while(|dir| !dir.exists()).collect();
    fs::DirBuilder::new().recursive(true).mode(mode).create(dir)?;
    if nix::unistd::geteuid().is_root() {
        for dir in missing {
            fs::set_permissions(dir, fs::Permissions::from_mode(mode))?;
        }
    }
    Ok(())
}

/// Returns the secret in a file, which is created if missing and readable by its owner alone.
///
/// # Errors
/// Names the file.
pub(crate) fn secret(file: &Path) -> anyhow::Result<String> {
    let known = fs::read_to_string(file).unwrap_or_default();
    if !known.trim().is_empty() {
        return Ok(known.trim().to_owned());
    }
    // Hexadecimal needs no quoting in SQL, URLs or headers.
    let made = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
    write_atomically(file, made.as_bytes(), 0o600)?;
    Ok(made)
}

/// Replaces a file atomically: writes a temporary file in the same directory, syncs and renames it.
///
/// # Errors
/// Names the file.
pub(crate) fn write_atomically(path: &Path, content: &[u8], mode: u32) -> anyhow::Result<()> {
    try_write(path, content, mode).with_context(|| format!("cannot write {}", path.display()))
}

fn try_write(path: &Path, content: &[u8], mode: u32) -> std::io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".writing-").tempfile_in(dir)?;
    std::io::Write::write_all(&mut file, content)?;
    // Mode and content before the name: nobody reads a secret in between, and after a crash the
    // name does not lead to an empty file.
    file.as_file().set_permissions(fs::Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    // The rename itself is only durable once the directory is synced.
    fs::File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_follow_the_user() {
        let check = |root, xdg: Option<&str>, home: Option<&str>, expected: Option<&str>| {
            let found = default_root(root, xdg.map(PathBuf::from), home.map(PathBuf::from));
            assert_eq!(found, expected.map(PathBuf::from), "{root} {xdg:?} {home:?}");
        };
        check(true, Some("/x"), Some("/root"), Some("/var/lib/observatory"));
        check(false, Some("/x"), Some("/home/a"), Some("/x/observatory"));
        check(false, Some("relative"), Some("/home/a"), Some("/home/a/.local/share/observatory"));
        check(false, None, Some("/home/a"), Some("/home/a/.local/share/observatory"));
        check(false, None, None, None);
    }

    #[test]
    fn a_file_is_replaced_whole_with_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        write_atomically(&path, b"one", 0o600).unwrap();
        write_atomically(&path, b"two", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_relative_directory_becomes_absolute_and_an_empty_one_is_refused() {
        assert!(DataDir::new("a/b").unwrap().root().is_absolute());
        assert!(DataDir::new("").is_err());
    }

    #[test]
    fn a_secret_is_made_once_and_read_by_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::new(dir.path()).unwrap();
        data.create().unwrap();
        let file = data.token("one");
        let made = secret(&file).unwrap();
        assert!(made.len() == 64 && made.bytes().all(|byte| byte.is_ascii_hexdigit()), "{made}");
        assert_ne!(secret(&data.token("other")).unwrap(), made);
        assert_eq!(secret(&file).unwrap(), made);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&file, "\n").unwrap();
        assert_ne!(secret(&file).unwrap(), made);
    }
}
