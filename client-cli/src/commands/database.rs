//! `db`: migrates the database schema and waits for migrations.
//!
//! The schema belongs to `pipeline-services`, which is run as a child process; this file only finds
//! the database and checks its version.

use std::io;
use std::process::{Output, Stdio};

use anyhow::{Context as _, bail};
use serde_json::json;

use crate::context::Context;
use crate::error::Hint;
use crate::local::postgres::{ConnectionUrl, Psql, check_versions};
use crate::local::state::StackState;
use crate::local::{Stack, binaries};
use crate::output::{Document, Outcome};

/// Migrate the database schema, or wait for a migration.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
    /// Database to use [default: the local stack's].
    #[arg(long, global = true, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    database_url: Option<String>,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Migrate the schema to the latest version.
    Migrate,
    /// Wait until the schema has at least a given version.
    Wait {
        /// Minimum schema version [default: the latest this program knows].
        #[arg(long, value_name = "N")]
        min_version: Option<i64>,
        /// Maximum time to wait, in seconds.
        #[arg(long, default_value_t = 60, value_name = "N")]
        timeout: u64,
    },
}

/// Runs `pipeline-services`, which owns the schema, as a child process.
///
/// # Errors
/// If the program or the database is missing, or the program fails.
pub(crate) async fn run(context: &Context, arguments: Arguments) -> anyhow::Result<Outcome> {
    let url = database_url(context, arguments.database_url)?;
    let program = binaries::find(&binaries::bin_dir()?, binaries::PIPELINE)?;
    let mut command = tokio::process::Command::new(&program);
    // At its usual level the log of the child would hide the one line that matters here.
    if std::env::var_os("OBSERVATORY_LOG").is_none() {
        command.env("OBSERVATORY_LOG", "warn,sqlx=warn");
    }
    // By the environment, because other users can read a command line. Its stdout, the version,
    // becomes our document; its stderr goes to the user as it is.
    command.env("DATABASE_URL", url.expose()).stdin(Stdio::null()).stdout(Stdio::piped());
    match arguments.action {
        Action::Migrate => {
            // A migration that fails halfway on an old server is worse than a refusal.
            check_server(context, &url).await?;
            command.arg("migrate")
        }
        Action::Wait { min_version, timeout } => {
            command.args(["wait-schema", "--timeout"]).arg(timeout.to_string());
            if let Some(version) = min_version {
                command.arg("--min-version").arg(version.to_string());
            }
            &mut command
        }
    };
    let ended = run_to_end(&mut command).await;
    let ended = ended.with_context(|| format!("cannot run {}", program.display()))?;
    if !ended.status.success() {
        // The child has said why on stderr.
        bail!("{} failed: {}", program.display(), ended.status);
    }
    let said = String::from_utf8_lossy(&ended.stdout).into_owned();
    let version = said.split_whitespace().next_back().and_then(|word| word.parse::<i64>().ok());
    context.output.print(&Document::new(said, json!({ "schema_version": version })))?;
    Ok(Outcome::Done)
}

/// The database to use; a URL that is set but empty counts as unset.
fn database_url(context: &Context, given: Option<String>) -> anyhow::Result<ConnectionUrl> {
    match given.filter(|url| !url.is_empty()) {
        Some(url) => ConnectionUrl::parse(&url),
        None => Stack::new(context.data.clone())
            .database_url()
            .context("no database is configured")
            .hint("start the local stack with `observatory up`, or set DATABASE_URL"),
    }
}

/// Runs a command and collects what it writes to the outputs that are piped. Unlike
/// [`tokio::process::Command::output`], it leaves the others as they are: stderr is the user's.
async fn run_to_end(command: &mut tokio::process::Command) -> io::Result<Output> {
    command.spawn()?.wait_with_output().await
}

/// Checks the server as `up` and `doctor` do. Without psql the migration itself reports a server
/// that is too old.
async fn check_server(context: &Context, url: &ConnectionUrl) -> anyhow::Result<()> {
    // A state file that cannot be read only costs a place to look for psql.
    let embedded = StackState::load(&context.data).ok().and_then(|state| state.database?.embedded);
    match Psql::find(embedded.as_ref().map(|distribution| distribution.bin.as_path())) {
        Some(psql) => check_versions(&psql.versions(url).await.context("the database does not respond")?),
        None => Ok(()),
    }
}
