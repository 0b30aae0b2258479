//! One PostgreSQL cluster: created once, started and stopped many times.
//!
//! A half-created cluster is never taken for a whole one, and no server starts while another or its
//! orphans still run on the same files.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context;
use sha2::{Digest, Sha256};

use super::postmaster::{Postmaster, end_server, failure_lines, postmaster_of};
use super::{ConnectionUrl, DATABASE, Distribution, settings};
use crate::error::Hinted;
use crate::local::paths::{DataDir, create_dir, write_atomically};
use crate::local::privileges::{CHOOSE_DATA_DIR, RunAs};
use crate::local::process::{ProcessId, Running, describe_exit};
use crate::local::{logs, ports};

/// Longest path of a Unix socket on Linux (`sun_path` without its terminating zero).
const MAX_SOCKET_PATH: usize = 107;

/// Parts of a cluster.
#[derive(Debug, Clone)]
pub struct ClusterConfig {
    /// PostgreSQL binaries.
    pub distribution: Distribution,
    /// Directory of the cluster.
    pub dir: PathBuf,
    /// Directory of the Unix socket.
    pub socket_dir: PathBuf,
    /// File with the password of the superuser.
    pub secret: PathBuf,
    /// Log file of the server.
    pub log: PathBuf,
    /// User that the server runs as.
    pub run_as: RunAs,
}

impl ClusterConfig {
    /// The cluster of a data directory, which must exist.
    ///
    /// # Errors
    /// If there is no user for the server to run as.
    pub fn new(distribution: Distribution, data: &DataDir) -> anyhow::Result<Self> {
        let dir = data.cluster();
        Ok(Self {
            run_as: RunAs::for_dir(&dir)?,
            socket_dir: socket_dir(&data.run()),
            secret: data.secrets().join("postgres-password"),
            log: data.log("postgres"),
            dir,
            distribution,
        })
    }
}

/// The major version of the cluster in `dir`; `None` if there is no cluster.
///
/// # Errors
/// If the directory contains something else.
pub(crate) fn pinned_major(dir: &Path) -> anyhow::Result<Option<u32>> {
    match fs::read_to_string(dir.join("PG_VERSION")) {
        Ok(text) => {
            text.trim().parse().map(Some).with_context(|| {
                format!("invalid content of {}/PG_VERSION: {:?}", dir.display(), text.trim())
            })
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}/PG_VERSION", dir.display())),
    }
}

/// A cluster that exists on disk.
#[derive(Debug, Clone)]
pub struct Cluster {
    config: ClusterConfig,
    password: String,
}

impl Cluster {
    /// Opens the cluster, creating it if there is none. Blocks meanwhile, for about two seconds.
    ///
    /// # Errors
    /// If the user of the server cannot reach the directories, the major version differs from that
    /// of the cluster, or `initdb` fails.
    pub fn prepare(config: ClusterConfig) -> anyhow::Result<Self> {
        let parent = config.dir.parent().context("the cluster directory has no parent")?;
        // Before initdb, whose own message would not name the directory at fault.
        config.run_as.check_reach(
            &config.distribution.bin,
            "the PostgreSQL installation",
            CHOOSE_DATA_DIR,
        )?;
        config.run_as.check_reach(parent, "the database", CHOOSE_DATA_DIR)?;
        let major = pinned_major(&config.dir)?;
        let password = match fs::read_to_string(&config.secret) {
            Ok(password) => Some(password),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", config.secret.display()));
            }
        };
        // A new password is written only once the cluster has it: after a crash in between, the
        // file is missing and the password is set again.
        let known = password.is_some();
        let cluster = Self { password: password.unwrap_or_else(new_password), config };
        match major {
            None => cluster.create()?,
            Some(major) => cluster.check_major(major)?,
        }
        if !known {
            if major.is_some() {
                cluster.change_password()?;
            }
            write_atomically(&cluster.config.secret, cluster.password.as_bytes(), 0o600)?;
        }
        cluster.prepare_socket_dir()?;
        Ok(cluster)
    }

    /// Parts of the cluster.
    pub fn config(&self) -> &ClusterConfig {
        &self.config
    }

    /// The URL of the database once the server listens on `port`.
    pub fn connection_url(&self, port: u16) -> ConnectionUrl {
        ConnectionUrl::embedded(port, DATABASE, &self.password, DATABASE)
    }

    /// The server that runs on the cluster now, even if another process started it.
    pub fn postmaster(&self) -> Option<ProcessId> {
        postmaster_of(&self.config.dir)
    }

    /// Starts the server on `port` if it is free, else on another one, and waits until it accepts
    /// connections. Remains of a crash are removed first.
    ///
    /// # Errors
    /// If a server is already running on the cluster, or it does not start; the message includes
    /// the end of its log.
    pub async fn start(&self, port: Option<u16>) -> anyhow::Result<Postmaster> {
        if let Some(other) = self.postmaster() {
            return Err(Hinted::error(
                format!("postgres is already running on {}, pid {}", self.config.dir.display(), other.pid),
                "stop it with `observatory down`",
            ));
        }
        self.clear_remains().await?;
        let mut kept = port;
        // Not tuned: each failure needs another program that takes the port within milliseconds.
        for _ in 0..5 {
            let mut server = self.spawn(ports::choose(kept)?)?;
            match server.wait_ready(&self.config.dir, &self.config.log).await? {
                None => return Ok(server),
                // Another program took the port between the choice and the start.
                Some(said) if said.contains("could not bind") => kept = None,
                Some(said) => {
                    return Err(Hinted::error(
                        format!("postgres failed to start: {said}"),
                        format!("see {}", self.config.log.display()),
                    ));
                }
            }
        }
        anyhow::bail!("no free port for postgres after five attempts")
    }

    fn check_major(&self, major: u32) -> anyhow::Result<()> {
        let wanted = self.config.distribution.major;
        if major == wanted {
            return Ok(());
        }
        Err(Hinted::error(
            format!(
                "the database in {} was created by PostgreSQL {major}, not {wanted}",
                self.config.dir.display()
            ),
            format!("pass --pg-major {major}, or choose another --data-dir"),
        ))
    }

    /// Creates the cluster under a temporary name, so that an incomplete one is never used.
    fn create(&self) -> anyhow::Result<()> {
        let config = &self.config;
        let occupied = config.dir.exists()
            && fs::read_dir(&config.dir)
                .with_context(|| format!("cannot read {}", config.dir.display()))?
                .next()
                .is_some();
        anyhow::ensure!(!occupied, "{} is not empty and is not a PostgreSQL cluster", config.dir.display());
        let parent = config.dir.parent().context("the cluster directory has no parent")?;
        let staging = tempfile::Builder::new()
            .prefix(".making-postgres-")
            .tempdir_in(parent)
            .with_context(|| format!("cannot create a directory in {}", parent.display()))?;
        config.run_as.chown(staging.path())?;
        self.initdb(staging.path())?;
        // Before the rename, so that no cluster is ever without its database.
        self.single_user(staging.path(), "postgres", &format!("create database {DATABASE}\n"))?;
        fs::rename(staging.path(), &config.dir)
            .with_context(|| format!("cannot create {}", config.dir.display()))?;
        // Its directory has moved; the guard must not delete one of that name.
        let _ = staging.keep();
        Ok(())
    }

    fn initdb(&self, dir: &Path) -> anyhow::Result<()> {
        let config = &self.config;
        let mut secret = tempfile::Builder::new()
            .prefix(".password-")
            .tempfile_in(dir.parent().unwrap_or(dir))
            .context("cannot write the password file")?;
        std::io::Write::write_all(&mut secret, self.password.as_bytes())
            .context("cannot write the password file")?;
        // By a file, because a command line is public; initdb reads it as the other user.
        config.run_as.chown(secret.path())?;
        let mut command = config.run_as.command(config.distribution.program("initdb"));
        command
            // Checksums, which are off by default before PostgreSQL 18, find a damaged disk early.
            .args(["--no-instructions", "--data-checksums", "--encoding=UTF8", "--auth=scram-sha-256"])
            .args(["--username", DATABASE, "--pgdata"])
            .args([dir.as_os_str(), "--pwfile".as_ref(), secret.path().as_os_str()]);
        // The builtin provider of PostgreSQL 17 sorts alike on every machine; before, libc must do.
        if config.distribution.major >= 17 {
            command.args(["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]);
        } else {
            command.args(["--locale=C.UTF-8", "--locale-provider=libc"]);
        }
        let memory = settings::memory("MemTotal").unwrap_or(0);
        for (name, value) in settings::initial(memory) {
            command.args(["--set".to_owned(), format!("{name}={value}")]);
        }
        run_quietly(&mut command, "initdb", "")
    }

    /// Runs statements in single-user mode; no other server may run.
    fn single_user(&self, dir: &Path, database: &str, sql: &str) -> anyhow::Result<()> {
        let config = &self.config;
        let mut command = config.run_as.command(config.distribution.program("postgres"));
        // Without exit_on_error a statement that fails ends with status 0.
        command.args(["--single", "-c", "exit_on_error=on", "-D"]).args([dir, Path::new(database)]);
        run_quietly(&mut command, "postgres --single", sql)
    }

    /// Sets a new password, since the password file was lost. Owning the cluster is enough for
    /// that.
    fn change_password(&self) -> anyhow::Result<()> {
        if self.postmaster().is_some() {
            return Err(Hinted::error(
                format!("the password file {} is missing while postgres runs", self.config.secret.display()),
                "run `observatory down`, then `observatory up`, which sets a new password",
            ));
        }
        let sql = format!("alter role {DATABASE} password '{}'\n", self.password);
        self.single_user(&self.config.dir, DATABASE, &sql)
    }

    fn prepare_socket_dir(&self) -> anyhow::Result<()> {
        let dir = &self.config.socket_dir;
        // The longest name that Postgres may give the socket: ports have up to five digits.
        let path = dir.join(".s.PGSQL.65535");
        anyhow::ensure!(
            path.as_os_str().len() <= MAX_SOCKET_PATH,
            "the path of the socket directory {} is too long",
            dir.display()
        );
        if let Some(parent) = dir.parent() {
            create_dir(parent, 0o755)?;
        }
        // Not by create_dir: one that exists is not trusted but checked below.
        match fs::DirBuilder::new().mode(0o700).create(dir) {
            Ok(()) => self.config.run_as.chown(dir)?,
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(|| format!("cannot create {}", dir.display())),
        }
        let metadata =
            fs::symlink_metadata(dir).with_context(|| format!("cannot inspect {}", dir.display()))?;
        // In a directory that others can write to, somebody else may have created it first.
        anyhow::ensure!(
            metadata.is_dir()
                && metadata.uid() == self.config.run_as.uid()
                && metadata.permissions().mode() & 0o077 == 0,
            "the socket directory {} belongs to another user",
            dir.display()
        );
        self.config.run_as.check_reach(dir, "the socket", CHOOSE_DATA_DIR)
    }

    /// Removes the remains of a killed postmaster. Its backends exit by themselves, but not at
    /// once, and no new server may start before they are gone; its lock file stays.
    async fn clear_remains(&self) -> anyhow::Result<()> {
        end_server(&self.config.dir).await?;
        let lock = self.config.dir.join("postmaster.pid");
        match fs::remove_file(&lock) {
            Ok(()) => tracing::info!("removed the lock file of a dead postmaster"),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("cannot remove {}", lock.display())),
        }
        Ok(())
    }

    fn spawn(&self, port: u16) -> anyhow::Result<Postmaster> {
        let config = &self.config;
        let log = logs::open(&config.log)?;
        // An earlier start may have failed for another reason.
        let log_before = logs::size(&config.log);
        let program = config.distribution.program("postgres");
        let mut command = config.run_as.command(&program);
        command.arg("-D").arg(&config.dir);
        for (name, value) in settings::of_start(port, &config.socket_dir) {
            command.args(["-c".to_owned(), format!("{name}={value}")]);
        }
        let errors = log.try_clone().context("cannot open the log file twice")?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .with_context(|| format!("cannot run {}", program.display()))?;
        Ok(Postmaster::new(Running::new(child), port, self.connection_url(port), log_before))
    }
}

/// The socket directory: `run/socket`, or a short one below /tmp if that path is too long.
fn socket_dir(run: &Path) -> PathBuf {
    let usual = run.join("socket");
    if usual.join(".s.PGSQL.65535").as_os_str().len() <= MAX_SOCKET_PATH {
        return usual;
    }
    // By digest, so that two data directories of a machine do not share a socket.
    let digest = hex::encode(Sha256::digest(run.as_os_str().as_encoded_bytes()));
    PathBuf::from(format!("/tmp/observatory-{}", &digest[..12]))
}

fn new_password() -> String {
    format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple())
}

fn run_quietly(command: &mut Command, name: &str, input: &str) -> anyhow::Result<()> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {name}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that exits before reading explains itself on stderr.
        let _ = std::io::Write::write_all(&mut stdin, input.as_bytes());
    }
    let output = child.wait_with_output().with_context(|| format!("cannot wait for {name}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::bail!("{name} failed ({}): {}", describe_exit(output.status), failure_lines(&said))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_paths_get_a_short_socket_directory() {
        let short = socket_dir(Path::new("/var/lib/observatory/run"));
        assert_eq!(short, Path::new("/var/lib/observatory/run/socket"));
        let long = PathBuf::from(format!("/{}", "x".repeat(100)));
        let found = socket_dir(&long);
        assert!(found.starts_with("/tmp") && found.as_os_str().len() < 40, "{}", found.display());
        assert_ne!(found, socket_dir(&long.join("y")));
    }

    #[test]
    fn the_major_version_is_pinned_by_the_cluster() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(pinned_major(dir.path()).unwrap(), None);
        fs::write(dir.path().join("PG_VERSION"), "16\n").unwrap();
        assert_eq!(pinned_major(dir.path()).unwrap(), Some(16));
        fs::write(dir.path().join("PG_VERSION"), "junk").unwrap();
        assert!(pinned_major(dir.path()).is_err());
    }
}
