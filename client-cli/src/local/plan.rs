//! The plan of a supervisor: what to keep running, as decided by `up`.
//!
//! Plain data, below the supervisor that carries it out and the checks that precede it.

use std::path::PathBuf;
use std::time::Duration;

use super::paths::DataDir;
use super::postgres::{ConnectionUrl, Distribution};
use super::privileges::RunAs;
use super::state::Extent;

/// Location of the database.
#[derive(Debug, Clone)]
pub(crate) enum DatabasePlan {
    /// A server that somebody else runs.
    External(ConnectionUrl),
    /// An embedded server with these binaries.
    Embedded(Distribution),
}

/// Everything a supervisor has to know.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// The data directory.
    pub data: DataDir,
    /// The part of the stack to run.
    pub extent: Extent,
    /// The database.
    pub database: DatabasePlan,
    /// Directory of the server programs.
    pub bin_dir: PathBuf,
    /// Directory of the model store.
    pub models: PathBuf,
    /// Interval between health checks.
    pub health_interval: Duration,
    /// The user that the services run as, and Postgres if it is embedded.
    pub run_as: RunAs,
}
