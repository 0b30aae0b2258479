//! `pipeline-services ROLE`: the stages and runs of the Labor Market Observatory.

use std::process::ExitCode;

use clap::Parser;
use observatory_pipeline::{config::Cli, service, telemetry};

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    telemetry::start();
    match service::run(&cli).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}
