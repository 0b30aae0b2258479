//! `stack.json`, which describes the running stack, and the lock of the data directory.
//!
//! Only the holder of the lock, the supervisor, writes the state; everybody else reads it.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::paths::{DataDir, write_atomically};
use super::postgres::Distribution;
use super::process::ProcessId;
use crate::error::{AlreadyRunning, Hinted};

/// Time to wait for a damaged `stack.json` of a running stack. Not tuned: a few of the seconds at
/// which the supervisor restores it.
const RESTORED_WITHIN: Duration = Duration::from_secs(5);

/// Name of the database server among the processes.
pub(crate) const POSTGRES: &str = "postgres";

/// Part of the stack to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Extent {
    /// Everything.
    #[default]
    All,
    /// The database alone.
    Postgres,
}

impl Extent {
    /// True if a stack of this extent includes everything of `wanted`.
    pub fn covers(self, wanted: Self) -> bool {
        self == Self::All || self == wanted
    }
}

/// Phase of a process of the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It is being started, or waits for a dependency.
    Starting,
    /// It was ready when last checked.
    Running,
    /// It died and is restarted after a pause.
    Restarting,
    /// It was stopped on purpose.
    Stopped,
}

/// A process of the stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessState {
    /// Its phase.
    pub phase: Phase,
    /// Its identity, while it runs.
    pub process: Option<ProcessId>,
    /// Its address.
    pub address: Option<SocketAddr>,
    /// Address of its metrics.
    pub metrics: Option<SocketAddr>,
    /// Time of its start.
    pub since: Option<DateTime<Utc>>,
    /// Number of restarts since the stack was started.
    pub restarts: u32,
    /// Failures in a row, without running for a while in between.
    pub failures: u32,
    /// Reason for its last exit, or for a start that failed.
    pub last_end: Option<String>,
}

impl Default for ProcessState {
    fn default() -> Self {
        Self {
            phase: Phase::Starting,
            process: None,
            address: None,
            metrics: None,
            since: None,
            restarts: 0,
            failures: 0,
            last_end: None,
        }
    }
}

/// The supervisor of the stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SupervisorState {
    /// Its identity.
    pub process: ProcessId,
    /// Time of its start.
    pub since: DateTime<Utc>,
    /// The part of the stack that it runs.
    pub extent: Extent,
    /// Version of the program.
    pub version: String,
}

/// The database of the stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseState {
    /// Its URL without the password.
    pub url: String,
    /// The binaries, if the server is embedded.
    pub embedded: Option<Distribution>,
}

/// The content of `stack.json`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StackState {
    /// The supervisor; `None` after a proper shutdown.
    pub supervisor: Option<SupervisorState>,
    /// Reason for the failure of the supervisor, if it failed.
    pub failure: Option<String>,
    /// The database.
    pub database: Option<DatabaseState>,
    /// The processes, by name.
    pub processes: BTreeMap<String, ProcessState>,
    /// Ports, kept across restarts so that peers reconnect by themselves.
    pub ports: BTreeMap<String, u16>,
}

impl StackState {
    /// Reads the file; a missing one is an empty state.
    ///
    /// # Errors
    /// If the file cannot be read or parsed.
    pub fn load(data: &DataDir) -> anyhow::Result<Self> {
        let path = data.state_file();
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        serde_json::from_slice(&text).map_err(|error| {
            Hinted::error(
                format!("{} is damaged: {error}", path.display()),
                "run `observatory up`, which writes a new one and finds running processes by itself",
            )
        })
    }

    /// Replaces the file.
    ///
    /// # Errors
    /// If it cannot be written; the old file stays.
    pub fn save(&self, data: &DataDir) -> anyhow::Result<()> {
        // Readable for all, since it contains no password and other users may ask for the status.
        write_atomically(&data.state_file(), &self.text()?, 0o644)
    }

    fn text(&self) -> anyhow::Result<Vec<u8>> {
        let mut text = serde_json::to_vec_pretty(self).context("cannot encode the state")?;
        text.push(b'\n');
        Ok(text)
    }

    /// As [`StackState::load`], but gives the supervisor of a running stack time to restore a
    /// damaged file.
    ///
    /// # Errors
    /// If the file cannot be read or stays damaged.
    pub async fn read(data: &DataDir) -> anyhow::Result<Self> {
        let deadline = Instant::now() + RESTORED_WITHIN;
        loop {
            let error = match Self::load(data) {
                Ok(state) => return Ok(state),
                Err(error) => error,
            };
            // Without a supervisor nobody restores it, so waiting is in vain.
            let Some(pid) = StackLock::holder(data)? else { return Err(error) };
            if Instant::now() >= deadline {
                let advice = format!(
                    "the supervisor, pid {pid}, does not restore it; run `observatory down`, then `observatory up`"
                );
                return Err(Hinted::error(format!("{error:#}"), advice));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// The state as held by the supervisor, written to the file at every change.
#[derive(Debug, Clone)]
pub(crate) struct SharedState {
    data: DataDir,
    state: Arc<Mutex<StackState>>,
}

impl SharedState {
    /// Starts with `state`.
    pub(crate) fn new(data: DataDir, state: StackState) -> Self {
        Self { data, state: Arc::new(Mutex::new(state)) }
    }

    /// Changes the state and writes it. A failed write is only logged, because a full disk must not
    /// bring the stack down; the next change writes everything.
    pub(crate) fn update(&self, change: impl FnOnce(&mut StackState)) {
        // After a panic in `change` a field may be old, which its next change corrects.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state);
        // Logged only: the stack works without the file, and `restore` tries again every second.
        if let Err(error) = state.save(&self.data) {
            tracing::error!(error.message = format!("{error:#}"), "cannot write the state file");
        }
    }

    /// Rewrites the file if it differs from the state, because somebody changed it or a write
    /// failed.
    pub(crate) fn restore(&self) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.data.state_file();
        let Ok(text) = state.text() else { return };
        if fs::read(&path).is_ok_and(|found| found == text) {
            return;
        }
        match state.save(&self.data) {
            Ok(()) => {
                tracing::warn!(path = %path.display(), "restored the state file, which had been changed from outside")
            }
            // Logged as an error when the state changed; here it would repeat every second.
            Err(error) => {
                tracing::debug!(error.message = format!("{error:#}"), "cannot write the state file")
            }
        }
    }

    /// Changes one process and writes the state.
    pub(crate) fn update_process(&self, name: &str, change: impl FnOnce(&mut ProcessState)) {
        self.update(|state| change(state.processes.entry(name.to_owned()).or_default()));
    }

    /// The last port of a process.
    pub(crate) fn port(&self, name: &str) -> Option<u16> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).ports.get(name).copied()
    }
}

/// The lock on a data directory, held by the supervisor and released by the kernel when it dies.
#[derive(Debug)]
pub struct StackLock {
    file: File,
}

impl StackLock {
    /// Acquires the lock.
    ///
    /// # Errors
    /// `AlreadyRunning` when another process holds it.
    pub fn acquire(data: &DataDir) -> anyhow::Result<Self> {
        let path = data.lock_file();
        let mut file = open_lock(data)?;
        // Others check the lock by taking it for an instant, which is not a second supervisor.
        let deadline = Instant::now() + Duration::from_millis(300);
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(TryLockError::WouldBlock) => {
                    let pid = read_pid(&mut file).unwrap_or(0);
                    return Err(AlreadyRunning { data_dir: data.root().display().to_string(), pid }.into());
                }
                Err(TryLockError::Error(error)) => {
                    return Err(error).with_context(|| format!("cannot lock {}", path.display()));
                }
            }
        }
        let mut lock = Self { file };
        lock.write(&std::process::id().to_string())
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(lock)
    }

    /// Pid of the holder of the lock (0 if the file does not say); `None` if it is free.
    ///
    /// # Errors
    /// If the lock file cannot be opened.
    pub fn holder(data: &DataDir) -> anyhow::Result<Option<i32>> {
        let path = data.lock_file();
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot open {}", path.display())),
        };
        // Shared: two commands that look at once must not take each other for the supervisor.
        match file.try_lock_shared() {
            Ok(()) => Ok(None),
            Err(TryLockError::WouldBlock) => Ok(Some(read_pid(&mut file).unwrap_or(0))),
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("cannot inspect the lock {}", path.display()))
            }
        }
    }

    /// True if the lock file is still the one that was locked. It is not if somebody deleted the
    /// data directory.
    pub fn is_in_place(&self, data: &DataDir) -> bool {
        match (self.file.metadata(), fs::metadata(data.lock_file())) {
            (Ok(held), Ok(named)) => held.ino() == named.ino() && held.dev() == named.dev(),
            _ => false,
        }
    }

    fn write(&mut self, text: &str) -> std::io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.file.write_all(text.as_bytes())
    }
}

impl Drop for StackLock {
    fn drop(&mut self) {
        // The file stays: were it deleted, two processes could lock two files of this name.
        let _ = self.write("");
    }
}

fn open_lock(data: &DataDir) -> anyhow::Result<File> {
    let path = data.lock_file();
    OpenOptions::new()
        .create(true)
        // It holds the pid of the holder.
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o644)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))
}

fn read_pid(file: &mut File) -> Option<i32> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data() -> (tempfile::TempDir, DataDir) {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::new(dir.path()).unwrap();
        (dir, data)
    }

    #[test]
    fn the_state_survives_the_file() {
        let (_dir, data) = data();
        assert_eq!(StackState::load(&data).unwrap(), StackState::default());
        let shared = SharedState::new(data.clone(), StackState::default());
        shared.update_process("postgres", |process| process.restarts = 3);
        shared.update(|state| {
            state.ports.insert("postgres".into(), 5432);
        });
        let read = StackState::load(&data).unwrap();
        assert_eq!((read.processes["postgres"].restarts, read.ports["postgres"]), (3, 5432));
        assert_eq!(shared.port("postgres"), Some(5432));
    }

    #[test]
    fn a_damaged_state_is_said_to_be_damaged() {
        let (_dir, data) = data();
        fs::write(data.state_file(), "{\"ports\": 3}").unwrap();
        let error = StackState::load(&data).unwrap_err();
        assert!(error.to_string().contains("stack.json is damaged"), "{error}");
        assert!(crate::error::hint_of(&error).is_some());
    }

    #[test]
    fn the_lock_has_one_holder() {
        let (_dir, data) = data();
        assert_eq!(StackLock::holder(&data).unwrap(), None);
        let lock = StackLock::acquire(&data).unwrap();
        assert_eq!(StackLock::holder(&data).unwrap(), Some(std::process::id() as i32));
        assert!(lock.is_in_place(&data));
        let refused = StackLock::acquire(&data).unwrap_err();
        let refused = refused.downcast_ref::<AlreadyRunning>().unwrap();
        assert_eq!(refused.pid, std::process::id() as i32);
        fs::remove_file(data.lock_file()).unwrap();
        assert!(!lock.is_in_place(&data));
        drop(lock);
        drop(StackLock::acquire(&data).unwrap());
        assert_eq!(StackLock::holder(&data).unwrap(), None);
    }

    #[test]
    fn extents() {
        let check = |has: Extent, wanted, expected| assert_eq!(has.covers(wanted), expected);
        check(Extent::All, Extent::Postgres, true);
        check(Extent::Postgres, Extent::Postgres, true);
        check(Extent::Postgres, Extent::All, false);
    }
}
