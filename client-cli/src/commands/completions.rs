//! `completions`: completion scripts for shells.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::{Cli, Context};
use crate::output::{self, Outcome};

/// Print the completion script of a shell.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The shell.
    pub shell: Shell,
}

/// Prints the script.
///
/// # Errors
/// If stdout cannot be written.
pub(crate) fn run(_: &Context, arguments: Arguments) -> anyhow::Result<Outcome> {
    // Written in one go: the generator panics when its output is closed.
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "observatory", &mut script);
    output::print(String::from_utf8(script)?)?;
    Ok(Outcome::Done)
}
