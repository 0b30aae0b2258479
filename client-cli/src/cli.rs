//! Command-line arguments, dispatch and exit codes.
//!
//! The only place that knows every command; commands never know each other's arguments.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::client::{Client, ClientOptions};
use crate::commands::{
    completions, countries, database, demo, doctor, down, eval, export, extract, infer, insights, link,
    models, postings, privacy, reports, review, runs, status, supervise, taxonomies, up, version,
};
use crate::context::Context;
use crate::error::report;
use crate::local::DataDir;
use crate::local::paths::DATA_ENV;
use crate::output::{self, Outcome, Output};

/// Labour-market reports from job advertisements, on your own machine.
#[derive(Debug, Parser)]
#[command(name = "observatory", version, disable_help_subcommand = true, arg_required_else_help = true)]
struct Cli {
    /// Directory for everything the local stack writes.
    #[arg(long, global = true, env = DATA_ENV, hide_env_values = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Print one JSON document instead of text.
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    client: ClientOptions,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Arguments),
    Up(up::Arguments),
    Down(down::Arguments),
    Status(status::Arguments),
    Doctor(doctor::Arguments),
    #[command(name = "run")]
    Runs(runs::Arguments),
    Postings(postings::Arguments),
    Privacy(privacy::Arguments),
    #[command(name = "taxonomy")]
    Taxonomies(taxonomies::Arguments),
    Extract(extract::Arguments),
    Link(link::Arguments),
    Eval(eval::Arguments),
    Countries(countries::Arguments),
    Skills(insights::SkillArguments),
    Clusters(insights::ClusterArguments),
    #[command(name = "report")]
    Reports(reports::Arguments),
    Review(review::Arguments),
    Export(export::Arguments),
    Infer(infer::Arguments),
    Models(models::Arguments),
    #[command(name = "db")]
    Database(database::Arguments),
    Completions(completions::Arguments),
    Version(version::Arguments),
    #[command(hide = true)]
    Supervise(supervise::Arguments),
}

/// The command that calls this program on the same stack again: with the options that select the
/// stack, unless the environment selects it.
fn program(cli: &Cli) -> String {
    let mut program = "observatory".to_owned();
    let dir = cli.data_dir.as_ref().map(|dir| dir.display().to_string());
    if let Some(dir) = dir.filter(|dir| !is_set_to(DATA_ENV, dir)) {
        // Enough for a line that a person copies; a shell never gets it unseen.
        let quote = if dir.contains(char::is_whitespace) { "'" } else { "" };
        program.push_str(&format!(" --data-dir {quote}{dir}{quote}"));
    }
    if let Some(url) = cli.client.endpoint.as_ref().filter(|url| !is_set_to("OBSERVATORY_ENDPOINT", url)) {
        program.push_str(&format!(" --endpoint {url}"));
    }
    program
}

/// True if an environment variable has exactly this value.
fn is_set_to(name: &str, value: &str) -> bool {
    std::env::var(name).is_ok_and(|found| found == value)
}

/// Parses the arguments, runs the command and returns the exit code: 0 done, 1 finished with
/// failures or nothing found, 2 usage or I/O error, 130 interrupted.
pub fn main() -> ExitCode {
    // Not `parse`, which would print and exit by itself; see `print_parse_error`.
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(said) => return print_parse_error(&said),
    };
    start_log(matches!(cli.command, Command::Supervise(_)));
    let ended = tokio::runtime::Builder::new_multi_thread()
        // The work is done by the services; two threads suffice to wait and to read files.
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(run(cli)));
    exit_code(ended)
}

fn exit_code(ended: anyhow::Result<Outcome>) -> ExitCode {
    match ended {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Failures) => ExitCode::from(1),
        Ok(Outcome::Interrupted) => ExitCode::from(130),
        // The reader has closed the pipe, as `head` does.
        Err(error) if output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            report(&error);
            ExitCode::from(2)
        }
    }
}

/// Prints help and version to stdout, as data, and usage errors to stderr.
fn print_parse_error(said: &clap::Error) -> ExitCode {
    if said.use_stderr() || output::is_terminal() {
        // clap prints in colour if the terminal supports it and NO_COLOR does not forbid it.
        let _ = said.print();
        return if said.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS };
    }
    // Into a pipe help is data: `observatory --help | head` ends like every other command.
    exit_code(output::print(said.render()).map(|()| Outcome::Done))
}

async fn run(cli: Cli) -> anyhow::Result<Outcome> {
    let data = DataDir::resolve(cli.data_dir.as_deref())?;
    let program = program(&cli);
    let client = Client::new(cli.client, data.clone());
    // Both know the data directory: services of the local stack are found by its files.
    let context = Context { data, output: Output::new(cli.json), client, program };
    match cli.command {
        Command::Demo(arguments) => demo::run(&context, arguments).await,
        Command::Up(arguments) => up::run(&context, arguments).await,
        Command::Down(arguments) => down::run(&context, arguments).await,
        Command::Status(arguments) => status::run(&context, arguments).await,
        Command::Doctor(arguments) => doctor::run(&context, arguments).await,
        Command::Runs(arguments) => runs::run(&context, arguments).await,
        Command::Postings(arguments) => postings::run(&context, arguments).await,
        Command::Privacy(arguments) => privacy::run(&context, arguments).await,
        Command::Taxonomies(arguments) => taxonomies::run(&context, arguments).await,
        Command::Extract(arguments) => extract::run(&context, arguments).await,
        Command::Link(arguments) => link::run(&context, arguments).await,
        Command::Eval(arguments) => eval::run(&context, arguments).await,
        Command::Countries(arguments) => countries::run(&context, arguments).await,
        Command::Skills(arguments) => insights::run_skills(&context, arguments).await,
        Command::Clusters(arguments) => insights::run_clusters(&context, arguments).await,
        Command::Reports(arguments) => reports::run(&context, arguments).await,
        Command::Review(arguments) => review::run(&context, arguments).await,
        Command::Export(arguments) => export::run(&context, arguments).await,
        Command::Infer(arguments) => infer::run(&context, arguments).await,
        Command::Models(arguments) => models::run(&context, arguments).await,
        Command::Database(arguments) => database::run(&context, arguments).await,
        Command::Completions(arguments) => completions::run(Cli::command(), arguments),
        Command::Version(arguments) => version::run(&context, arguments),
        Command::Supervise(arguments) => supervise::run(&context, arguments).await,
    }
}

/// Starts logging to stderr: as JSON for the supervisor, whose stderr is a file, and only warnings
/// for other commands.
fn start_log(supervisor: bool) {
    let default = if supervisor { "info" } else { "warn" };
    // Not RUST_LOG, which people set for other programs of the same shell.
    let filter = tracing_subscriber::EnvFilter::try_from_env("OBSERVATORY_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if supervisor {
        log.json().init();
    } else {
        // A person reads a warning at once, next to the output that it belongs to.
        log.without_time().with_target(false).init();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn mistakes_are_named_with_the_nearest_right_word() {
        let check = |arguments: &[&str], expected: &str| {
            let error = Cli::try_parse_from([&["observatory"], arguments].concat()).unwrap_err().to_string();
            assert!(error.contains(expected), "{arguments:?}: {error}");
        };
        check(&["stauts"], "a similar subcommand exists: 'status'");
        check(&["up", "--wait-second", "3"], "'--wait-seconds'");
        check(&["up", "--only", "redis"], "[possible values: postgres]");
        check(&["up", "--wait-seconds", "soon"], "invalid value 'soon'");
        check(&["up", "--pg-major", "15"], "15 is not in 16..=18");
    }
}
