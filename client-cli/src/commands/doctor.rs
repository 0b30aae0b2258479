//! `doctor`: diagnoses a stack and suggests fixes.
//!
//! The checks themselves are in `examination`.

mod examination;

use crate::commands::machine::MachineOptions;
use crate::context::Context;
use crate::output::Outcome;
use examination::Examination;

/// Diagnose problems and suggest fixes; exit code 1 if there are any.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    machine: MachineOptions,
}

/// Runs all checks and prints the results.
///
/// # Errors
/// If the report cannot be printed.
pub(crate) async fn run(context: &Context, arguments: Arguments) -> anyhow::Result<Outcome> {
    let Arguments { machine } = arguments;
    let examination = Examination {
        data: context.data.clone(),
        database_url: machine.database_url(),
        pg_bin: machine.pg_bin,
        bin_dir: machine.bin_dir,
        models: machine.models_dir.unwrap_or_else(|| context.data.models()),
    };
    let report = examination.run().await;
    context.output.print(&report)?;
    Ok(Outcome::done_if(report.problems == 0))
}
