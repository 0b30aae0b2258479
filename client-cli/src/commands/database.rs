//! `db`: the schema of the database, by the program that owns it.

use std::process::Stdio;

use anyhow::{Context as _, bail};

use crate::cli::Context;
use crate::error::Hint;
use crate::local::{Stack, binaries};
use crate::output::Outcome;

/// Look after the database schema.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
    /// Database to look after [default: the local stack's].
    #[arg(long, global = true, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    database_url: Option<String>,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Bring the schema up to date.
    Migrate,
    /// Wait until the schema is recent enough.
    Wait {
        /// Version to wait for [default: the newest this program knows].
        #[arg(long, value_name = "N")]
        min_version: Option<i64>,
        /// Seconds to wait.
        #[arg(long, default_value_t = 60, value_name = "N")]
        timeout: u64,
    },
}

/// Runs the owner of the schema as a child.
///
/// # Errors
/// When the program or the database is missing.
pub async fn run(context: &Context, arguments: Arguments) -> anyhow::Result<Outcome> {
    let url = match arguments.database_url.filter(|url| !url.is_empty()) {
        Some(url) => url,
        None => Stack::new(context.data.clone())
            .database_url()
            .map(|url| url.expose().to_owned())
            .context("no database is known")
            .hint("start the local stack with `observatory up`, or set DATABASE_URL")?,
    };
    let program = binaries::find(&binaries::bin_dir()?, binaries::PIPELINE)?;
    let mut command = tokio::process::Command::new(&program);
    command.env("DATABASE_URL", url).stdin(Stdio::null());
    match arguments.action {
        Action::Migrate => command.arg("migrate"),
        Action::Wait { min_version, timeout } => {
            command.args(["wait-schema", "--timeout"]).arg(timeout.to_string());
            if let Some(version) = min_version {
                command.arg("--min-version").arg(version.to_string());
            }
            &mut command
        }
    };
    let ended = command.status().await.with_context(|| format!("cannot run {}", program.display()))?;
    if !ended.success() {
        bail!("{} ended with {ended}", program.display());
    }
    Ok(Outcome::Done)
}
