//! `pipeline-services ROLE`: the stages and runs of the Labor Market Observatory.
//!
//! Parses the command line, starts telemetry and the runtime, and turns the outcome into an exit
//! status: 0 when the role ended in order; with one line on stderr 1 when a part of it broke down,
//! and 2 when it could not begin. Everything else is in the library.

use std::{io::Write, process::ExitCode, time::Duration};

use clap::Parser;
use observatory_pipeline::Cli;

/// Longest time that computations whose results are no longer wanted may hold up the end of the
/// process: a choice, not noticed by a person and far below any grace period.
const LAST_WORK: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    let cli = Cli::parse();
    // First, so that whatever fails at the start is logged.
    observatory_pipeline::start_telemetry();
    let ended = tokio::runtime::Runtime::new().map_err(anyhow::Error::from).and_then(|runtime| {
        let ended = runtime.block_on(observatory_pipeline::run(&cli));
        // A runtime that is dropped waits for its blocking threads without limit.
        runtime.shutdown_timeout(LAST_WORK);
        ended
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // A closed stderr is nobody's problem.
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::from(observatory_pipeline::exit_code(&error))
        }
    }
}
