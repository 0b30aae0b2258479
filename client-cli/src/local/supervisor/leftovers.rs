//! Processes of a stack whose supervisor died.
//!
//! They are found by state, environment and lock file, so that none survives the next start.

use std::collections::BTreeMap;
use std::fs;

use crate::local::paths::DataDir;
use crate::local::postgres::{end_server, postmaster_of};
use crate::local::process::{ProcessId, SERVICE_END};
use crate::local::state::StackState;

/// Environment variable that marks every process of a stack with its data directory.
pub(crate) const STACK_ENV: &str = "OBSERVATORY_STACK";

/// Finds the processes that are still running: those in the state, those with the mark of this data
/// directory in their environment (a supervisor may die between starting a process and recording
/// it), and the postmaster of the cluster.
pub(crate) fn found(data: &DataDir, state: &StackState) -> Vec<ProcessId> {
    let named = state.processes.values().filter_map(|process| process.process.clone());
    let alive = named.filter(ProcessId::is_alive).chain(marked(data)).chain(postmaster_of(&data.cluster()));
    // The three sources overlap; a process must not be signalled twice.
    let unique: BTreeMap<i32, ProcessId> = alive.map(|process| (process.pid, process)).collect();
    unique.into_values().collect()
}

/// Stops everything that [`found`] finds, and Postgres last by a fast shutdown, since the services
/// use it.
pub(crate) async fn clear(data: &DataDir, state: &StackState) -> anyhow::Result<usize> {
    let left = found(data, state);
    let postmaster = postmaster_of(&data.cluster());
    for process in left.iter().filter(|process| postmaster.as_ref() != Some(process)) {
        tracing::info!(process.pid = process.pid, "stopping a leftover process");
        process.end(&SERVICE_END).await?;
    }
    // Also without a postmaster: its children may have survived it.
    end_server(&data.cluster()).await?;
    Ok(left.len())
}

/// Processes with this data directory in their environment. A supervisor is known by its lock, so
/// it has no mark.
fn marked(data: &DataDir) -> Vec<ProcessId> {
    let mark = format!("{STACK_ENV}={}", data.root().display());
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| {
            // Readable for the own processes, and for root all: others could not be stopped anyway.
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|&byte| byte == 0).any(|variable| variable == mark.as_bytes())
        })
        .filter_map(ProcessId::of)
        .collect()
}
