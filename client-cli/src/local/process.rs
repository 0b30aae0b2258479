//! Processes: their identity across pid reuse and reboots, and how they are ended.
//!
//! A signal goes only to the process that was meant, never to a successor with the same pid.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};

/// Polling interval while waiting for a process that is not a child. Not tuned.
const WATCH_INTERVAL: Duration = Duration::from_millis(20);

/// Identity of a process, distinct from later ones with the same pid by start time and boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// The process number.
    pub pid: i32,
    /// Start time in clock ticks since boot (field 22 of `/proc/PID/stat`).
    pub start_ticks: u64,
    /// Boot id of the kernel.
    pub boot_id: String,
}

impl ProcessId {
    /// The process that has `pid` now; `None` if there is none, or only a zombie.
    pub fn of(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (state, start_ticks) = parse_stat(&stat)?;
        // It has ended; only its parent has not asked for the status yet.
        if matches!(state, 'Z' | 'X') {
            return None;
        }
        Some(Self { pid, start_ticks, boot_id: boot_id() })
    }

    /// The current process.
    ///
    /// # Errors
    /// If `/proc` is not mounted.
    pub fn current() -> anyhow::Result<Self> {
        Self::of(std::process::id() as i32).context("cannot read /proc: is it mounted?")
    }

    /// True if this very process is still running.
    pub fn is_alive(&self) -> bool {
        Self::of(self.pid).as_ref() == Some(self)
    }

    /// Sends a signal if this very process is still running; returns whether it did.
    ///
    /// # Errors
    /// If the process belongs to another user.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<bool> {
        if !self.is_alive() {
            return Ok(false);
        }
        // Pids are given in turn, so this one is not reused in the instant since the check.
        match kill(Pid::from_raw(self.pid), signal) {
            Ok(()) => Ok(true),
            Err(nix::errno::Errno::ESRCH) => Ok(false),
            Err(errno) => Err(errno).with_context(|| format!("cannot signal process {}", self.pid)),
        }
    }

    /// Waits for the process to exit, at most `limit`; returns whether it has.
    pub async fn exits_within(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while self.is_alive() {
            if Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(WATCH_INTERVAL).await;
        }
        true
    }

    /// Ends a process that is not a child: sends each signal of `steps` and waits as long as it
    /// says, then sends SIGKILL.
    ///
    /// # Errors
    /// If it cannot be signalled, or survives SIGKILL for five seconds.
    pub async fn end(&self, steps: &Escalation) -> anyhow::Result<()> {
        for &(signal, patience) in steps.0 {
            if !self.signal(signal)? || self.exits_within(patience).await {
                return Ok(());
            }
        }
        if self.signal(Signal::SIGKILL)? && !self.exits_within(Duration::from_secs(5)).await {
            anyhow::bail!("process {} survived SIGKILL", self.pid);
        }
        Ok(())
    }

    /// Working directory of the process; `None` if it is gone or belongs to another user.
    pub fn working_dir(&self) -> Option<PathBuf> {
        fs::read_link(format!("/proc/{}/cwd", self.pid)).ok()
    }
}

/// Signals to send before SIGKILL, each with the time to wait afterwards.
#[derive(Debug, Clone, Copy)]
pub struct Escalation(pub &'static [(Signal, Duration)]);

/// For hung processes: SIGKILL at once.
pub(crate) const KILL_NOW: Escalation = Escalation(&[]);

/// For services, which drain on SIGTERM. Not tuned: longer than most requests.
pub(crate) const SERVICE_END: Escalation = Escalation(&[(Signal::SIGTERM, Duration::from_secs(15))]);

/// For Postgres: fast shutdown, then immediate shutdown, after which the next start recovers. Not
/// tuned: half a minute for the last checkpoint.
pub(crate) const POSTGRES_END: Escalation =
    Escalation(&[(Signal::SIGINT, Duration::from_secs(30)), (Signal::SIGQUIT, Duration::from_secs(5))]);

/// For a hung Postgres: an immediate shutdown, in which the postmaster ends its children. SIGCONT
/// wakes a stopped process, which would not see the signal. Not tuned.
pub(crate) const HUNG_POSTGRES_END: Escalation =
    Escalation(&[(Signal::SIGQUIT, Duration::ZERO), (Signal::SIGCONT, Duration::from_secs(10))]);

/// A child process. Dropping this does not end it.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    id: ProcessId,
}

impl Running {
    /// Takes over a child that was just started.
    pub(crate) fn new(child: Child) -> Self {
        let pid = child.id() as i32;
        // A child that died at once is a zombie until it is reaped; this id matches no live
        // process.
        let id = ProcessId::of(pid).unwrap_or(ProcessId { pid, start_ticks: 0, boot_id: boot_id() });
        Self { child, id }
    }

    /// Identity of the process.
    pub(crate) fn id(&self) -> &ProcessId {
        &self.id
    }

    /// Exit status, if it has exited.
    ///
    /// # Errors
    /// If waiting fails.
    pub(crate) fn exited(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        self.child.try_wait().context("cannot wait for a child process")
    }

    /// Waits for the process to exit.
    ///
    /// # Errors
    /// If waiting fails.
    pub(crate) async fn wait(&mut self) -> anyhow::Result<ExitStatus> {
        // Subscribed before the first look: an exit between the two would be missed.
        let mut ended = signal(SignalKind::child()).context("cannot listen for SIGCHLD")?;
        loop {
            if let Some(status) = self.exited()? {
                return Ok(status);
            }
            // The time-out covers a signal that another runtime of this process received.
            let _ = tokio::time::timeout(Duration::from_secs(1), ended.recv()).await;
        }
    }

    /// Ends the process as [`ProcessId::end`] does and reaps it.
    ///
    /// # Errors
    /// If it does not end.
    pub(crate) async fn end(&mut self, steps: &Escalation) -> anyhow::Result<ExitStatus> {
        for &(signal, patience) in steps.0 {
            // A process that has gone is not an error here: waiting for it reaps it and gives the
            // status.
            self.id.signal(signal)?;
            if let Ok(status) = tokio::time::timeout(patience, self.wait()).await {
                return status;
            }
        }
        self.id.signal(Signal::SIGKILL)?;
        tokio::time::timeout(Duration::from_secs(5), self.wait())
            .await
            .with_context(|| format!("process {} survived SIGKILL", self.id.pid))?
    }
}

/// Describes an exit status in words.
pub(crate) fn describe_exit(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(number)) => match Signal::try_from(number) {
            Ok(signal) => format!("killed by {signal}"),
            Err(_) => format!("killed by signal {number}"),
        },
        (None, None) => status.to_string(),
    }
}

/// Boot id of the kernel; empty if unavailable.
fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// Parses state and start time from `/proc/PID/stat`. The command name is in parentheses and may
/// itself contain blanks and parentheses, so fields are counted from the last one.
fn parse_stat(stat: &str) -> Option<(char, u64)> {
    let rest = &stat[stat.rfind(')')? + 1..];
    let mut fields = rest.split_whitespace();
    let state = fields.next()?.chars().next()?;
    // Field 22; the next one here is field 4.
    let start = fields.nth(18)?.parse().ok()?;
    Some((state, start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn stat_lines() {
        let check = |line: &str, expected| assert_eq!(parse_stat(line), expected, "{line}");
        let tail = "S 1 2 3 0 -1 4 5 6 7 8 9 10 11 12 20 0 1 0 4711 99 1";
        check(&format!("12 (postgres) {tail}"), Some(('S', 4711)));
        check(&format!("12 (a) b (c)) {tail}"), Some(('S', 4711)));
        check("12 (cut", None);
        check("12 (short) S 1 2", None);
    }

    #[test]
    fn a_process_is_itself_and_not_its_successor() {
        let me = ProcessId::current().unwrap();
        assert!(me.is_alive());
        assert!(!ProcessId { start_ticks: me.start_ticks + 1, ..me.clone() }.is_alive());
        assert!(!ProcessId { boot_id: "another".into(), ..me }.is_alive());
    }

    #[tokio::test]
    async fn a_stubborn_child_is_killed() {
        const STEPS: Escalation = Escalation(&[(Signal::SIGTERM, Duration::from_millis(100))]);
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"]);
        let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
        let mut ready = [0; 6];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut ready).unwrap();
        let mut running = Running::new(child);
        assert!(running.id().is_alive());
        let status = running.end(&STEPS).await.unwrap();
        assert_eq!(describe_exit(status), "killed by SIGKILL");
        assert!(!running.id().is_alive());
    }

    #[tokio::test]
    async fn the_end_of_a_child_is_noticed() {
        let mut running = Running::new(Command::new("sh").args(["-c", "exit 7"]).spawn().unwrap());
        assert_eq!(describe_exit(running.wait().await.unwrap()), "exit code 7");
    }
}
