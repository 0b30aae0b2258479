//! `completions`: shell completion scripts.
//!
//! Generated from the definition of the command line, which `cli` hands in.

use clap_complete::Shell;

use crate::output::{self, Outcome};

/// Print a shell completion script.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Shell to generate the script for.
    pub shell: Shell,
}

/// Prints the script that completes `program`.
///
/// # Errors
/// If stdout cannot be written.
pub(crate) fn run(mut program: clap::Command, arguments: Arguments) -> anyhow::Result<Outcome> {
    // Into memory first, because the generator panics if its output is closed.
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut program, "observatory", &mut script);
    output::print(String::from_utf8(script)?)?;
    Ok(Outcome::Done)
}
