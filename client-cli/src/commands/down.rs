//! `down`: stops the local stack.
//!
//! Also stops what a dead supervisor left behind; a stack that is not running is no error.

use std::fmt;

use serde::Serialize;

use crate::context::Context;
use crate::local::Stack;
use crate::local::stack::DownOutcome;
use crate::output::Outcome;

/// Stop the local stack; its data is kept.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {}

/// Result of the command.
#[derive(Debug, Serialize)]
struct Answer {
    stopped: bool,
    leftovers_ended: usize,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.stopped, self.leftovers_ended) {
            (true, _) => writeln!(f, "stopped"),
            (false, 0) => writeln!(f, "nothing was running"),
            (false, count) => writeln!(f, "stopped {count} processes left behind by a dead supervisor"),
        }
    }
}

/// Stops the stack. It is no failure if nothing is running.
///
/// # Errors
/// If a process belongs to another user or does not end.
pub(crate) async fn run(context: &Context, _: Arguments) -> anyhow::Result<Outcome> {
    let downed = Stack::new(context.data.clone()).down().await?;
    let answer = match downed {
        DownOutcome::Nothing => Answer { stopped: false, leftovers_ended: 0 },
        DownOutcome::Stopped => Answer { stopped: true, leftovers_ended: 0 },
        DownOutcome::Cleared(count) => Answer { stopped: false, leftovers_ended: count },
    };
    context.output.print(&answer)?;
    Ok(Outcome::Done)
}
