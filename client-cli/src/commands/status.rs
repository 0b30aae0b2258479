//! `status`: shows the state of the local stack.
//!
//! The state is checked on each call, see `local::status`.

use crate::context::Context;
use crate::local::StackStatus;
use crate::output::Outcome;

/// Show the state of the local stack; exit code 1 unless all of it is healthy.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {}

/// Checks and prints the state.
///
/// # Errors
/// If the data directory cannot be read.
pub(crate) async fn run(context: &Context, _: Arguments) -> anyhow::Result<Outcome> {
    let status = StackStatus::look(&context.data).await?;
    context.output.print(&status)?;
    Ok(Outcome::done_if(status.healthy))
}
