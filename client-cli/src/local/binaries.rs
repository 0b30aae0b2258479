//! The server programs that belong to the stack.
//!
//! Hides where they are; names the package to build if one is missing.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context;

use super::paths::variable;
use crate::error::Hinted;

/// Environment variable for the directory of the server programs.
pub(crate) const BIN_DIR_ENV: &str = "OBSERVATORY_BIN_DIR";

/// The program of the inference server.
pub(crate) const INFERENCE: &str = "inference-server";

/// The program of all pipeline services.
pub(crate) const PIPELINE: &str = "pipeline-services";

/// The program that typesets PDF files, started by the pipeline services.
pub(crate) const TYPESET: &str = "typeset";

/// Directory of the server programs: `OBSERVATORY_BIN_DIR`, else the directory of this program.
///
/// # Errors
/// If the path of this program cannot be determined.
pub(crate) fn bin_dir() -> anyhow::Result<PathBuf> {
    if let Some(dir) = variable(BIN_DIR_ENV) {
        return Ok(dir);
    }
    let program = std::env::current_exe().context("cannot determine the path of this program")?;
    Ok(program.parent().unwrap_or(Path::new("/")).to_owned())
}

/// The path of a server program in `dir`.
///
/// # Errors
/// If it is not there.
pub(crate) fn find(dir: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let program = dir.join(name);
    if program.is_file() {
        return Ok(program);
    }
    Err(Hinted::error(
        format!("{name} not found in {}", dir.display()),
        format!("build it with `cargo build -p {}`, or set {BIN_DIR_ENV}", package(name)),
    ))
}

/// Asks the program for its version.
///
/// # Errors
/// If it cannot be run.
pub(crate) fn version(program: &Path) -> anyhow::Result<String> {
    let output = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {}", program.display()))?;
    anyhow::ensure!(output.status.success(), "{} --version failed", program.display());
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The crate that a program is built from.
fn package(name: &str) -> &str {
    match name {
        INFERENCE => "observatory-inference",
        PIPELINE => "observatory-pipeline",
        TYPESET => "observatory-typeset",
        // The simulator, which only the demo needs.
        _ => "observatory-tests",
    }
}
