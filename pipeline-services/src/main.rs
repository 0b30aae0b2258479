//! `pipeline-services ROLE`: the stages and runs of the Labor Market Observatory.

use std::{io::Write, process::ExitCode};

use clap::Parser;
use observatory_pipeline::{config::Cli, service, telemetry};

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    telemetry::start();
    match service::run(&cli).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // A closed stderr is nobody's problem.
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::from(2)
        }
    }
}
