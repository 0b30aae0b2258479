//! `version`: the version of this program and of the packages it pins.
//!
//! Asks nobody, so that it works without a stack.

use std::fmt;

use serde::Serialize;

use crate::context::Context;
use crate::local::postgres::pinned;
use crate::output::Outcome;

/// Show the version of this program and of the packages it pins.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {}

#[derive(Debug, Serialize)]
struct Answer {
    version: &'static str,
    packages: Vec<Package>,
}

#[derive(Debug, Serialize)]
struct Package {
    name: String,
    version: String,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "observatory {}", self.version)?;
        self.packages.iter().try_for_each(|package| writeln!(f, "{} {}", package.name, package.version))
    }
}

/// Prints the versions.
///
/// # Errors
/// If stdout cannot be written.
pub(crate) fn run(context: &Context, _: Arguments) -> anyhow::Result<Outcome> {
    let packages = pinned().into_iter().map(|pin| Package { name: pin.name, version: pin.version }).collect();
    context.output.print(&Answer { version: env!("CARGO_PKG_VERSION"), packages })?;
    Ok(Outcome::Done)
}
