//! `doctor`: what stands in the way of a working stack.

mod examination;

use std::path::PathBuf;

use crate::context::Context;
use crate::local::binaries::BIN_DIR_ENV;
use crate::local::postgres::PG_BIN_ENV;
use crate::output::Outcome;
use examination::Examination;

/// Look for problems and say what to do about them; exit code 1 when there are any.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Directory of PostgreSQL binaries instead of the packaged ones.
    #[arg(long, env = PG_BIN_ENV, hide_env_values = true, value_name = "DIR")]
    pub pg_bin: Option<PathBuf>,
    /// The database that is used instead of one of our own.
    #[arg(long, env = "DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub database_url: Option<String>,
    /// Directory of the server programs [default: where this program lies].
    #[arg(long, env = BIN_DIR_ENV, hide_env_values = true, value_name = "DIR")]
    pub bin_dir: Option<PathBuf>,
    /// Model store [default: models in the data directory].
    #[arg(long, env = "OBSERVATORY_MODELS", hide_env_values = true, value_name = "DIR")]
    pub models_dir: Option<PathBuf>,
}

/// Looks at everything and prints what was found.
///
/// # Errors
/// If the report cannot be printed.
pub(crate) async fn run(context: &Context, arguments: Arguments) -> anyhow::Result<Outcome> {
    let examination = Examination {
        data: context.data.clone(),
        pg_bin: arguments.pg_bin,
        database_url: arguments.database_url.filter(|url| !url.is_empty()),
        bin_dir: arguments.bin_dir,
        models: arguments.models_dir.unwrap_or_else(|| context.data.models()),
    };
    let report = examination.run().await;
    context.output.print(&report)?;
    Ok(Outcome::from_fine(report.problems == 0))
}
