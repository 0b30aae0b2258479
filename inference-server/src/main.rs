//! The `inference-server` binary.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use observatory_inference::Stop;
use observatory_inference::config::Args;
use observatory_inference::{Outcome, Server, telemetry};

fn main() -> ExitCode {
    let args = Args::parse();
    telemetry::init();
    match run(&args) {
        Ok(outcome) => ExitCode::from(outcome.exit_code()),
        Err(error) => {
            // A closed stderr is nobody's problem.
            let _ = writeln!(std::io::stderr(), "inference-server: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(args: &Args) -> anyhow::Result<Outcome> {
    let config = args.check()?;
    let runtime = tokio::runtime::Runtime::new().context("the async runtime cannot be started")?;
    let outcome = runtime.block_on(async {
        let stop = Stop::on_signals().context("signal handlers cannot be installed")?;
        Server::bind(&config).await?.run(stop).await
    });
    // A tokeniser still at work on a cancelled request must not hold up the exit.
    runtime.shutdown_background();
    outcome
}
