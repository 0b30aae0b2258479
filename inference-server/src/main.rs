//! The `inference-server` binary.
//!
//! Parses and checks the configuration, then runs the server until a signal or a failure.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use observatory_inference::Stop;
use observatory_inference::config::{Args, Deprecated};
use observatory_inference::{Outcome, Server, telemetry};

fn main() -> ExitCode {
    let (args, deprecated) = Args::read();
    telemetry::init();
    for Deprecated { old, new } in deprecated {
        tracing::warn!(
            option.old = old,
            option.new = new,
            "deprecated option, it goes with the next release"
        );
    }
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
