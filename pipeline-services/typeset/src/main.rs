//! `typeset`: turns report data and charts into a PDF.
//!
//! The process that the pipeline starts: reads its inputs, compiles, and replaces the output only
//! when it is complete. A fault ends it with an error on stderr that names the place in the
//! template.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use observatory_typeset::{BUILTIN_TEMPLATES, Job, Template, typeset};

/// Turns report data and charts into a PDF. The same inputs give the same bytes.
#[derive(Debug, Parser)]
#[command(name = "typeset", version)]
struct Arguments {
    /// Template: a built-in name ("report") or the path of a .typ file
    #[arg(long, default_value = BUILTIN_TEMPLATES[0])]
    template: String,
    /// JSON file the template reads as /report.json
    #[arg(long)]
    data: PathBuf,
    /// Directory of images the template sees as /assets
    #[arg(long)]
    assets: Option<PathBuf>,
    /// Directory of additional .ttf and .otf fonts
    #[arg(long)]
    fonts: Option<PathBuf>,
    /// PDF standard the output must meet, repeatable: ua-1, a-2a, 1.7 ...
    #[arg(long = "standard", value_name = "STANDARD")]
    standards: Vec<String>,
    /// PDF file to write; replaced only when complete
    #[arg(long)]
    out: PathBuf,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // A closed stderr is nobody's problem, here and below.
            let _ = writeln!(std::io::stderr(), "typeset: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let data = std::fs::read(&arguments.data)
        .with_context(|| format!("cannot read the data file {}", arguments.data.display()))?;
    let job = Job {
        template: Template::parse(&arguments.template),
        data,
        assets: arguments.assets.clone(),
        fonts: arguments.fonts.clone(),
        standards: arguments.standards.clone(),
    };
    let typeset = typeset(&job)?;
    // Not fatal: a report with one odd character is better than none.
    for warning in &typeset.warnings {
        let _ = writeln!(std::io::stderr(), "typeset: {warning}");
    }
    replace_file(&arguments.out, &typeset.pdf)
        .with_context(|| format!("cannot write {}", arguments.out.display()))
}

/// A reader sees the old file or the whole new one, also after a crash.
fn replace_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".typeset-").tempfile_in(folder)?;
    file.write_all(bytes)?;
    set_mode_of_a_new_file(file.as_file())?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    // The rename is durable only once the directory is synced.
    std::fs::File::open(folder)?.sync_all()?;
    Ok(())
}

/// Temporary files are private; a finished report is as readable as any other file here.
#[cfg(unix)]
fn set_mode_of_a_new_file(file: &std::fs::File) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn set_mode_of_a_new_file(_file: &std::fs::File) -> std::io::Result<()> {
    Ok(())
}
