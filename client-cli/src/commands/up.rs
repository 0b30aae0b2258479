//! `up`: starts the local stack.
//!
//! Everything that could be missing is checked before minutes are spent.

use std::time::Duration;

use crate::commands::machine::MachineOptions;
use crate::context::Context;
use crate::local::binaries;
use crate::local::postgres::wheel_folders;
use crate::local::privileges::RunAs;
use crate::local::state::Extent;
use crate::local::status::StackStatus;
use crate::local::supervisor::DEFAULT_HEALTH_INTERVAL;
use crate::local::{Stack, UpOptions, premises};
use crate::models;
use crate::output::{Outcome, progress};

/// Parts of the stack that can run alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Part {
    /// The database.
    Postgres,
}

/// Start the local stack and keep it running; does nothing if it is running.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Start only this part.
    #[arg(long, value_name = "PART")]
    only: Option<Part>,
    /// Maximum time to wait until everything is healthy, in seconds.
    #[arg(long, default_value_t = 60, value_name = "N")]
    wait_seconds: u64,
    #[command(flatten)]
    machine: MachineOptions,
    /// PostgreSQL major version for a new database; an existing one keeps its version [default:
    /// 18].
    #[arg(long, value_name = "MAJOR", value_parser = clap::value_parser!(u32).range(16..=18))]
    pg_major: Option<u32>,
    /// Seconds between health checks; a service that fails 6 in a row is killed and restarted,
    /// Postgres after 12.
    #[arg(long, env = "OBSERVATORY_HEALTH_SECONDS", hide_env_values = true, default_value_t = DEFAULT_HEALTH_INTERVAL.as_secs(),
        value_name = "N", value_parser = clap::value_parser!(u64).range(1..=3600))]
    health_seconds: u64,
    /// Do not fill an empty model store with observatory/e5-small-skills, which is built from the
    /// package that `make setup` downloads.
    #[arg(long)]
    no_model: bool,
}

/// Starts the stack and prints its status.
///
/// # Errors
/// If something needed is missing or cannot be started.
pub(crate) async fn run(context: &Context, arguments: Arguments) -> anyhow::Result<Outcome> {
    let stack = Stack::new(context.data.clone());
    // Only to tell whether it runs already: `up` repairs a state that cannot be read.
    let before = stack.status().await.ok();
    let options = UpOptions {
        extent: if arguments.only.is_some() { Extent::Postgres } else { Extent::All },
        wait: Duration::from_secs(arguments.wait_seconds),
        database_url: arguments.machine.database_url(),
        pg_bin: arguments.machine.pg_bin,
        pg_major: arguments.pg_major,
        bin_dir: arguments.machine.bin_dir,
        models: arguments.machine.models_dir,
        health_interval: Duration::from_secs(arguments.health_seconds),
        ..UpOptions::from_environment()?
    };
    let starts = !before.as_ref().is_some_and(StackStatus::is_running);
    if options.extent == Extent::All && starts && !arguments.no_model {
        // Check first what may be missing, since converting the model takes minutes.
        let programs = options.bin_dir.clone().map_or_else(binaries::bin_dir, Ok)?;
        for name in [binaries::INFERENCE, binaries::PIPELINE] {
            binaries::find(&programs, name)?;
        }
        let store = options.models.clone().unwrap_or_else(|| context.data.models());
        premises::check_store(&RunAs::for_dir(&context.data.cluster())?, &store)?;
        models::import_into_empty(&wheel_folders(&context.data), &store).await?;
    }
    let after = stack.up(&options).await?;
    // Healthy before and the same supervisor now: nothing was started or replaced.
    let same = before.is_some_and(|before| before.healthy && before.supervisor == after.supervisor);
    if same {
        progress("already running");
    }
    context.output.print(&after)?;
    if !after.healthy {
        progress(format_args!(
            "not healthy; run `observatory doctor` or see the logs in {}",
            context.data.logs().display()
        ));
    }
    Ok(Outcome::done_if(after.healthy))
}
