//! Renders a report document from a file, for authors of templates: `cargo run -p
//! observatory-pipeline --example render -- reports/example.json OUT [pdf,html,...] [TEMPLATE.typ]`

use std::path::PathBuf;

use anyhow::{Context, Result};
use observatory_pipeline::testing::reporter::{FormatSet, ReportDocument, TypesetCommand, render};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let data = arguments.next().context("first argument: the report.json to render")?;
    let out = arguments.next().context("second argument: the directory to write")?;
    let formats = arguments.next().map_or(Ok(FormatSet::all()), |list| list.parse())?;
    let template = arguments.next().map(PathBuf::from);

    let text = std::fs::read(&data).with_context(|| format!("cannot read {data}"))?;
    let document: ReportDocument =
        serde_json::from_slice(&text).with_context(|| format!("cannot use {data}"))?;
    let typeset = TypesetCommand { template, ..TypesetCommand::default() };
    for artefact in render(&document, None, &formats, out.as_ref(), &typeset)? {
        println!("{} {} bytes", artefact.name, artefact.bytes);
    }
    Ok(())
}
