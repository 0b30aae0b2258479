//! What a supervisor is to keep alive, decided by `up` and handed over as arguments.
//!
//! Plain data, below the supervisor that carries it out and the checks that are made before.

use std::path::PathBuf;
use std::time::Duration;

use super::paths::DataDir;
use super::postgres::{ConnectionUrl, Distribution};
use super::privileges::RunAs;
use super::state::Extent;

/// Where the database is.
#[derive(Debug, Clone)]
pub(crate) enum DatabasePlan {
    /// A server somebody else runs.
    External(ConnectionUrl),
    /// A server of ours, with these binaries.
    Embedded(Distribution),
}

/// What to keep alive.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Where everything lies.
    pub data: DataDir,
    /// How much of the stack.
    pub extent: Extent,
    /// The database.
    pub database: DatabasePlan,
    /// Directory of the server programs.
    pub bin_dir: PathBuf,
    /// Directory of the model store.
    pub models: PathBuf,
    /// How often each process is asked whether it still answers.
    pub health_interval: Duration,
    /// Who the services run as; Postgres too, where it is ours.
    pub run_as: RunAs,
}
