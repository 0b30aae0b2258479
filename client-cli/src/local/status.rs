//! The current state of the stack.
//!
//! Everything is checked at the moment of the call; `stack.json` only says where to look.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::disk::{self, FreeSpace};
use super::paths::DataDir;
use super::postgres::{Answer, ConnectionUrl, DATABASE, Psql, probe};
use super::process::ProcessId;
use super::state::{Extent, POSTGRES, Phase, ProcessState, StackLock, StackState};
use super::supervisor::leftovers;
use super::{binaries, health};
use crate::output::columns;

/// Time-out of a health check. Not tuned: `status` should answer before its user gives up on it.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);

/// Name under which an external database is listed.
const EXTERNAL: &str = "database";

/// Current status of a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProcessStatus {
    /// Its name.
    pub name: String,
    /// Phase according to the supervisor; `None` for an external database.
    pub phase: Option<Phase>,
    /// True if it is healthy now.
    pub healthy: bool,
    /// Its pid, while it runs.
    pub pid: Option<i32>,
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
    /// Its problem, if any.
    pub problem: Option<String>,
}

/// Current status of the supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SupervisorStatus {
    /// Its pid.
    pub pid: i32,
    /// Time of its start.
    pub since: Option<DateTime<Utc>>,
    /// Version of the program it runs.
    pub version: Option<String>,
}

/// Current status of the stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StackStatus {
    /// The data directory.
    pub data_dir: PathBuf,
    /// True if everything that should run is healthy.
    pub healthy: bool,
    /// The part of the stack that should run.
    pub extent: Extent,
    /// The supervisor, if one is running.
    pub supervisor: Option<SupervisorStatus>,
    /// The database, without its password.
    pub database: Option<String>,
    /// The processes.
    pub processes: Vec<ProcessStatus>,
    /// Processes that an earlier supervisor left behind.
    pub leftovers: Vec<i32>,
    /// Problem of the stack as a whole, if any.
    pub problem: Option<String>,
}

impl StackStatus {
    /// Checks the stack of a data directory.
    ///
    /// # Errors
    /// If its files cannot be read.
    pub async fn look(data: &DataDir) -> anyhow::Result<Self> {
        let state = StackState::read(data).await?;
        let holder = StackLock::holder(data)?;
        let mut status = Self {
            data_dir: data.root().to_owned(),
            healthy: false,
            extent: state.supervisor.as_ref().map(|supervisor| supervisor.extent).unwrap_or_default(),
            supervisor: holder.map(|pid| supervisor_status(pid, &state)),
            database: state.database.as_ref().map(|database| database.url.clone()),
            processes: Vec::new(),
            leftovers: Vec::new(),
            problem: state.failure.clone(),
        };
        // Each of them may be on a file system of its own.
        let folders = [data.root().to_owned(), data.cluster(), data.models(), data.reports(), data.logs()];
        let space = disk::space(&folders);
        if let FreeSpace::Full(said) = &space {
            status.problem.get_or_insert_with(|| said.clone());
        }
        if holder.is_none() {
            status.look_for_leftovers(data, &state);
            return Ok(status);
        }
        if status.supervisor.as_ref().is_some_and(|supervisor| supervisor.since.is_none()) {
            // The file still describes the leftovers of the predecessor, which are being stopped.
            status.problem = Some("the supervisor is starting".into());
            return Ok(status);
        }
        status.check_processes(data, &state).await;
        // None at all is the instant before the first one is recorded.
        let works = status.processes.iter().all(|process| process.healthy) && !status.processes.is_empty();
        status.healthy = works && !matches!(space, FreeSpace::Full(_));
        if let FreeSpace::Low(said) = space {
            status.problem.get_or_insert(said);
        }
        Ok(status)
    }

    fn look_for_leftovers(&mut self, data: &DataDir, state: &StackState) {
        self.leftovers = leftovers(data, state).iter().map(|process| process.pid).collect();
        if !self.leftovers.is_empty() {
            self.problem =
                Some("the supervisor died; `observatory up` restarts the stack, `observatory down` stops what it left behind".into());
        }
    }

    async fn check_processes(&mut self, data: &DataDir, state: &StackState) {
        for name in expected(self.extent, state) {
            let process = state.processes.get(name).cloned().unwrap_or_default();
            self.processes.push(look_at(name, &process).await);
        }
        if let Some(database) = state.database.as_ref().filter(|database| database.embedded.is_none()) {
            self.processes.push(look_at_external(data, &database.url).await);
        }
    }

    /// True if a supervisor is running.
    pub fn is_running(&self) -> bool {
        self.supervisor.is_some()
    }

    /// Processes that failed several times in a row: three rule out a start that was merely
    /// unlucky.
    pub fn failing(&self) -> Vec<&ProcessStatus> {
        self.processes.iter().filter(|process| !process.healthy && process.failures >= 3).collect()
    }
}

fn supervisor_status(pid: i32, state: &StackState) -> SupervisorStatus {
    // For an instant the file may still be that of the predecessor.
    let own = state.supervisor.as_ref().filter(|supervisor| supervisor.process.pid == pid);
    SupervisorStatus {
        pid,
        since: own.map(|supervisor| supervisor.since),
        version: own.map(|supervisor| supervisor.version.clone()),
    }
}

/// Names of the processes that should run.
fn expected(extent: Extent, state: &StackState) -> Vec<&'static str> {
    let mut names = Vec::new();
    if state.database.as_ref().is_none_or(|database| database.embedded.is_some()) {
        names.push(POSTGRES);
    }
    if extent == Extent::All {
        names.extend([binaries::INFERENCE, binaries::PIPELINE]);
    }
    names
}

async fn look_at(name: &str, state: &ProcessState) -> ProcessStatus {
    let alive = state.process.as_ref().filter(|process| process.is_alive());
    // The state keeps the address of a process that has ended, so the phase decides.
    let problem = match (alive, state.address.filter(|_| state.phase == Phase::Running)) {
        (Some(_), Some(address)) => ask(name, address).await,
        (None, Some(_)) => Some("not running".to_owned()),
        (_, None) => Some(waiting(state)),
    };
    ProcessStatus {
        name: name.to_owned(),
        phase: Some(state.phase),
        healthy: problem.is_none(),
        pid: alive.map(|process: &ProcessId| process.pid),
        address: state.address,
        metrics: state.metrics,
        since: state.since,
        restarts: state.restarts,
        failures: state.failures,
        problem,
    }
}

/// Explains why a process is not running.
fn waiting(state: &ProcessState) -> String {
    match (state.phase, &state.last_end) {
        (Phase::Starting, None) => "starting".into(),
        (Phase::Starting, Some(end)) => format!("restarting after: {end}"),
        (Phase::Stopped, _) => "stopped".into(),
        (_, Some(end)) => format!("exited: {end}"),
        (_, None) => "exited".into(),
    }
}

async fn ask(name: &str, address: SocketAddr) -> Option<String> {
    if name == POSTGRES {
        return match probe(address, DATABASE, ANSWER_LIMIT).await {
            Answer::Accepting => None,
            Answer::Refusing(why) => Some(why),
            Answer::Silent => Some("no response".into()),
        };
    }
    match health::check(address, ANSWER_LIMIT).await {
        health::Health::Serving => None,
        health::Health::NotReady(why) | health::Health::Silent(why) => Some(why),
    }
}

/// Checks an external database with `psql`, which supports every form of URL and TLS.
async fn look_at_external(data: &DataDir, shown: &str) -> ProcessStatus {
    let problem = match (database_url(data), Psql::find(None)) {
        // The query itself does not matter: it shows that login, TLS and server work.
        (Some(url), Some(psql)) => psql.query(&url, "select 1").await.err().map(|error| format!("{error:#}")),
        (None, _) => Some(format!("cannot read the URL of {shown}")),
        (_, None) => Some("not checked: psql is not on the PATH".into()),
    };
    ProcessStatus {
        name: EXTERNAL.to_owned(),
        phase: None,
        healthy: problem.is_none(),
        pid: None,
        address: None,
        metrics: None,
        since: None,
        restarts: 0,
        failures: 0,
        problem,
    }
}

/// The URL of the database, including the password, as written by the supervisor.
pub(crate) fn database_url(data: &DataDir) -> Option<ConnectionUrl> {
    let text = std::fs::read_to_string(data.secrets().join("database-url")).ok()?;
    ConnectionUrl::parse(text.trim()).ok()
}

impl fmt::Display for StackStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.supervisor {
            None => writeln!(f, "not running on {}", self.data_dir.display())?,
            Some(supervisor) => {
                let health = if self.healthy { "healthy" } else { "not healthy" };
                writeln!(
                    f,
                    "running on {}, supervisor pid {}, {health}",
                    self.data_dir.display(),
                    supervisor.pid
                )?;
                let mut rows = vec![header()];
                rows.extend(self.processes.iter().map(row));
                columns(f, &rows)?;
            }
        }
        if let Some(database) = &self.database {
            writeln!(f, "database {database}")?;
        }
        if !self.leftovers.is_empty() {
            let pids: Vec<String> = self.leftovers.iter().map(ToString::to_string).collect();
            writeln!(f, "left behind: pid {}", pids.join(", "))?;
        }
        self.problem.iter().try_for_each(|problem| writeln!(f, "problem: {problem}"))
    }
}

fn header() -> Vec<String> {
    ["process", "health", "pid", "address", "up since", "restarts", "problem"].map(str::to_owned).to_vec()
}

fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

fn row(process: &ProcessStatus) -> Vec<String> {
    vec![
        process.name.clone(),
        if process.healthy { "healthy" } else { "not healthy" }.to_owned(),
        or_dash(process.pid),
        or_dash(process.address),
        or_dash(process.since.map(|since| since.format("%Y-%m-%d %H:%M:%S UTC"))),
        process.restarts.to_string(),
        process.problem.clone().unwrap_or_default(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_that_is_not_there_is_not_called_healthy() {
        let me = ProcessId::current().unwrap();
        let gone = ProcessId { start_ticks: 1, ..me.clone() };
        let port = super::super::ports::choose(None).unwrap();
        let check = async |phase, process: Option<ProcessId>, expected: &str| {
            let address = Some(super::super::ports::loopback(port));
            let state = ProcessState { phase, process, address, ..ProcessState::default() };
            let found = look_at(POSTGRES, &state).await;
            assert!(!found.healthy);
            assert_eq!(found.problem.as_deref(), Some(expected));
        };
        check(Phase::Running, Some(gone), "not running").await;
        check(Phase::Running, Some(me.clone()), "no response").await;
        check(Phase::Starting, Some(me), "starting").await;
        check(Phase::Restarting, None, "exited").await;
    }

    #[tokio::test]
    async fn an_empty_data_directory_runs_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::new(dir.path()).unwrap();
        let status = StackStatus::look(&data).await.unwrap();
        assert!(!status.is_running() && !status.healthy && status.leftovers.is_empty());
        assert_eq!(status.to_string(), format!("not running on {}\n", dir.path().display()));
    }
}
