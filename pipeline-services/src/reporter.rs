//! From a finished report document to files: PDF, HTML, PNG, CSV, JSON.
//!
//! Rendering reads no database and no clock: the same document gives the same bytes.

mod accuracy;
mod artefact;
pub(crate) mod charts;
mod comparison;
pub(crate) mod document;
mod findings;
mod gather;
mod html;
mod readme;
#[cfg(test)]
mod sample;
pub(crate) mod stage;
mod statements;
mod tables;
mod typeset;
mod words;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

pub use artefact::FormatSet;
use artefact::{Artefact, Format};
pub use document::ReportDocument;
use html::html;
use readme::README_FILE;
use tables::tables;
pub use typeset::TypesetCommand;

use charts::{Heading, charts};

/// File name of the document.
pub(crate) const DOCUMENT_FILE: &str = "report.json";
/// File name of the run's summary.
pub(crate) const RUN_FILE: &str = "run.json";

/// Renders `document` into the directory `out`, which is made if it does not exist, and describes
/// the files. `run_summary`, if given, is written unchanged as `run.json`.
///
/// All files are made before the first one is moved into place, each by an atomic rename: on an
/// error `out` is as it was. Blocks; a PDF takes about a second.
pub fn render(
    document: &ReportDocument,
    run_summary: Option<&serde_json::Value>,
    formats: &FormatSet,
    out: &Path,
    typeset: &TypesetCommand,
) -> Result<Vec<Artefact>> {
    // First, so that a document that contradicts itself leaves no directory behind.
    document.validate()?;
    let made_here = !out.exists();
    let result = render_into(document, run_summary, formats, out, typeset);
    if result.is_err() && made_here {
        // Fails if somebody else put a file there meanwhile, which is as it should be.
        let _ = std::fs::remove_dir(out);
    }
    result
}

fn render_into(
    document: &ReportDocument,
    run_summary: Option<&serde_json::Value>,
    formats: &FormatSet,
    out: &Path,
    typeset: &TypesetCommand,
) -> Result<Vec<Artefact>> {
    std::fs::create_dir_all(out).with_context(|| format!("cannot make the directory {}", out.display()))?;
    // Inside of the target, since a rename does not cross file systems.
    let staging = tempfile::Builder::new().prefix(".report-").tempdir_in(out);
    let staging = staging.with_context(|| format!("cannot write in the directory {}", out.display()))?;

    let mut stage = Staging { folder: staging.path(), artefacts: Vec::new() };
    stage.put_json(DOCUMENT_FILE, document)?;
    if let Some(summary) = run_summary {
        stage.put_json(RUN_FILE, summary)?;
    }
    if formats.contains(Format::Csv) {
        for table in tables(document, formats.tables())? {
            stage.put(table.name, Format::Csv, &table.csv)?;
        }
    }
    if formats.contains(Format::Png) {
        for chart in charts(document, Heading::Shown) {
            stage.put(&format!("{}.png", chart.name), Format::Png, &chart.png()?)?;
        }
    }
    if formats.contains(Format::Html) {
        stage.put("report.html", Format::Html, html(document)?.as_bytes())?;
    }
    if formats.contains(Format::Pdf) {
        stage.put("report.pdf", Format::Pdf, &pdf(document, staging.path(), typeset)?)?;
    }
    // Last, since it lists the others.
    let readme = readme::readme(document, &stage.artefacts);
    stage.put(README_FILE, Format::Md, readme.as_bytes())?;
    let artefacts = stage.artefacts;
    publish(&artefacts, staging.path(), out)?;
    Ok(artefacts)
}

fn pdf(document: &ReportDocument, staging: &Path, typeset: &TypesetCommand) -> Result<Vec<u8>> {
    let scratch = staging.join("typeset");
    std::fs::create_dir(&scratch).with_context(|| format!("cannot make {}", scratch.display()))?;
    // A directory of its own, so that neither the data nor a chart is found where the PDF will be.
    let path = staging.join("typeset.pdf");
    typeset.run(document, &scratch, &path)?;
    std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// Files on their way to the report's directory.
struct Staging<'a> {
    folder: &'a Path,
    artefacts: Vec<Artefact>,
}

impl Staging<'_> {
    fn put(&mut self, name: &str, format: Format, content: &[u8]) -> Result<()> {
        let path = self.folder.join(name);
        artefact::replace_file(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
        self.artefacts.push(Artefact::describe(name, format, content));
        Ok(())
    }

    fn put_json(&mut self, name: &str, value: &impl serde::Serialize) -> Result<()> {
        let mut content = serde_json::to_vec_pretty(value).with_context(|| format!("cannot write {name}"))?;
        content.push(b'\n');
        self.put(name, Format::Json, &content)
    }
}

fn publish(artefacts: &[Artefact], staging: &Path, out: &Path) -> Result<()> {
    for artefact in artefacts {
        let target: PathBuf = out.join(&artefact.name);
        std::fs::rename(staging.join(&artefact.name), &target)
            .with_context(|| format!("cannot write {}", target.display()))?;
    }
    // Once for all names: the contents are on the disk already.
    artefact::sync_folder(out).with_context(|| format!("cannot sync the directory {}", out.display()))
}

#[cfg(test)]
mod tests;
