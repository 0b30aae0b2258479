//! The flags that `up` and `doctor` share: what of this machine a local stack is made of.
//!
//! One definition, so that `doctor` examines what `up` would start.

use std::path::PathBuf;

use crate::local::binaries::BIN_DIR_ENV;
use crate::local::postgres::PG_BIN_ENV;

/// Programs, database and models of a local stack.
#[derive(Debug, clap::Args)]
pub(crate) struct MachineOptions {
    /// Directory of PostgreSQL binaries (16 to 18, with pgvector) to use instead of the packaged
    /// ones.
    #[arg(long, env = PG_BIN_ENV, hide_env_values = true, value_name = "DIR")]
    pub pg_bin: Option<PathBuf>,
    /// Database to use instead of an embedded one.
    #[arg(long, env = "DATABASE_URL", value_name = "URL", hide_env_values = true)]
    database_url: Option<String>,
    /// Directory of the server programs [default: the directory of this program].
    #[arg(long, env = BIN_DIR_ENV, hide_env_values = true, value_name = "DIR")]
    pub bin_dir: Option<PathBuf>,
    /// Model store [default: models in the data directory].
    #[arg(long, env = "OBSERVATORY_MODELS", hide_env_values = true, value_name = "DIR")]
    pub models_dir: Option<PathBuf>,
}

impl MachineOptions {
    /// The URL of an external database; one that is set but empty counts as unset.
    pub(crate) fn database_url(&self) -> Option<String> {
        self.database_url.clone().filter(|url| !url.is_empty())
    }
}
