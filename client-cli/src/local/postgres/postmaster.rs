//! A running PostgreSQL server: readiness, shutdown, and the processes of a cluster.
//!
//! Processes are recognised by their working directory, so that a server is found and ended
//! even if another process started it.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::{Answer, ConnectionUrl, DATABASE, probe};
use crate::local::process::{Escalation, HUNG_POSTGRES_END, POSTGRES_END, ProcessId, Running, describe_exit};
use crate::local::{logs, ports};

/// Polling interval during startup. Not tuned: short, because a start without recovery is.
const READY_INTERVAL: Duration = Duration::from_millis(15);

/// Time-out for startup. Not tuned: generous, because recovery after a crash replays the log first.
const READY_LIMIT: Duration = Duration::from_secs(600);

/// A running server. Dropping it shuts it down immediately; the next start recovers.
#[derive(Debug)]
pub struct Postmaster {
    running: Running,
    port: u16,
    url: ConnectionUrl,
    /// Size of the log before the start.
    log_before: u64,
}

impl Postmaster {
    /// Takes over a server that was just started; `log_before` is the size of its log at that time.
    pub(super) fn new(running: Running, port: u16, url: ConnectionUrl, log_before: u64) -> Self {
        Self { running, port, url, log_before }
    }

    /// The URL of the database, password included.
    pub fn connection_url(&self) -> &ConnectionUrl {
        &self.url
    }

    /// Address of the server.
    pub fn address(&self) -> SocketAddr {
        ports::loopback(self.port)
    }

    /// Identity of the process.
    pub fn id(&self) -> &ProcessId {
        self.running.id()
    }

    /// Waits until the server exits by itself; returns how it did.
    ///
    /// # Errors
    /// If waiting fails.
    pub async fn wait(&mut self) -> anyhow::Result<String> {
        Ok(describe_exit(self.running.wait().await?))
    }

    /// Stops the server by a fast shutdown: open transactions are rolled back.
    ///
    /// # Errors
    /// If it does not end.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.running.end(&POSTGRES_END).await.map(drop)
    }

    /// Kills a hung server. The next start recovers, and waits for orphaned children.
    ///
    /// # Errors
    /// If it does not end.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        self.running.end(&HUNG_POSTGRES_END).await.map(drop)
    }

    /// Returns `None` once the server accepts connections, or the end of its log if it exits.
    pub(super) async fn wait_ready(&mut self, dir: &Path, log: &Path) -> anyhow::Result<Option<String>> {
        let deadline = Instant::now() + READY_LIMIT;
        loop {
            if let Some(status) = self.running.exited()? {
                let said = logs::read_since(log, self.log_before);
                return Ok(Some(format!("{} ({})", failure_lines(&said), describe_exit(status))));
            }
            if is_ready(dir, self.id().pid)
                && probe(self.address(), DATABASE, Duration::from_secs(2)).await == Answer::Accepting
            {
                return Ok(None);
            }
            anyhow::ensure!(
                Instant::now() < deadline,
                "postgres is not ready after {} s",
                READY_LIMIT.as_secs()
            );
            tokio::time::sleep(READY_INTERVAL).await;
        }
    }
}

impl Drop for Postmaster {
    fn drop(&mut self) {
        // Not tuned: an immediate shutdown writes nothing and takes milliseconds.
        let deadline = Instant::now() + Duration::from_secs(5);
        // SIGQUIT is an immediate shutdown: postgres ends its children, which SIGKILL would orphan.
        while matches!(self.running.exited(), Ok(None)) && Instant::now() < deadline {
            let _ = self.running.id().signal(Signal::SIGQUIT);
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.running.id().signal(Signal::SIGKILL);
    }
}

/// True if `postmaster.pid` says that this process is ready, in its eighth line, as `pg_ctl` reads
/// it. An open port alone proves nothing: it may be that of another server.
fn is_ready(dir: &Path, pid: i32) -> bool {
    let Ok(text) = fs::read_to_string(dir.join("postmaster.pid")) else { return false };
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    lines.first().and_then(|line| line.parse().ok()) == Some(pid) && lines.get(7) == Some(&"ready")
}

/// The running postmaster of the cluster in `dir`: named in its lock file, with `dir` as its
/// working directory.
pub(crate) fn postmaster_of(dir: &Path) -> Option<ProcessId> {
    let text = fs::read_to_string(dir.join("postmaster.pid")).ok()?;
    let process = ProcessId::of(text.lines().next()?.trim().parse().ok()?)?;
    let dir = fs::canonicalize(dir).ok()?;
    (process.working_dir()? == dir).then_some(process)
}

/// Stops the server of the cluster in `dir`, and its orphans. A process belongs to the cluster if
/// that is its working directory, as it is for all PostgreSQL processes.
pub(crate) async fn end_server(dir: &Path) -> anyhow::Result<()> {
    /// An orphan that was stopped has to run to notice that its postmaster is gone. Not tuned.
    const ORPHAN_END: Escalation =
        Escalation(&[(Signal::SIGCONT, Duration::from_secs(5)), (Signal::SIGQUIT, Duration::from_secs(5))]);
    if let Some(postmaster) = postmaster_of(dir) {
        postmaster.end(&POSTGRES_END).await?;
    }
    for orphan in processes_in(dir) {
        orphan.end(&ORPHAN_END).await?;
    }
    Ok(())
}

fn processes_in(dir: &Path) -> Vec<ProcessId> {
    let Ok(dir) = fs::canonicalize(dir) else { return Vec::new() };
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(ProcessId::of)
        .filter(|process| process.working_dir().is_some_and(|working| working == dir))
        // Anything else with this working directory is somebody's shell.
        .filter(|process| {
            let name = fs::read_to_string(format!("/proc/{}/comm", process.pid)).unwrap_or_default();
            name.trim() == "postgres"
        })
        .collect()
}

/// The lines of a log that explain why the server exited.
pub(super) fn failure_lines(log: &str) -> String {
    let lines: Vec<&str> = log
        .lines()
        .filter(|line| ["FATAL:", "PANIC:", "ERROR:", "could not"].iter().any(|mark| line.contains(mark)))
        .collect();
    if lines.is_empty() { log.lines().last().unwrap_or("no output").to_owned() } else { lines.join("; ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_file_tells_who_is_ready() {
        let dir = tempfile::tempdir().unwrap();
        let check = |text: &str, expected| {
            fs::write(dir.path().join("postmaster.pid"), text).unwrap();
            assert_eq!(is_ready(dir.path(), 7), expected, "{text:?}");
        };
        check("7\n/d\n1\n5432\n/s\n127.0.0.1\n 1 2\nready   \n", true);
        check("7\n/d\n1\n5432\n/s\n127.0.0.1\n 1 2\nstarting\n", false);
        check("8\n/d\n1\n5432\n/s\n127.0.0.1\n 1 2\nready   \n", false);
        check("", false);
        assert_eq!(postmaster_of(dir.path()), None);
    }

    #[test]
    fn failures_are_picked_out_of_the_log() {
        let log = "LOG: starting\nFATAL:  no space left\nLOG: database system is shut down";
        assert_eq!(failure_lines(log), "FATAL:  no space left");
        assert_eq!(failure_lines("just this"), "just this");
    }
}
