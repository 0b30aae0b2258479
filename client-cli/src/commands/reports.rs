//! `report`: builds, lists and downloads reports.
//!
//! A downloaded file appears whole and with the checksum that the report states, or none does.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use observatory_proto::pipeline::v1::{
    BuildReportRequest, DownloadReportRequest, ListReportsRequest, Report,
    report_service_client::ReportServiceClient,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use crate::client::{Connection, answer, refusal};
use crate::context::Context;
use crate::output::{Outcome, Table, while_waiting};

/// Build, list and download reports.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Build the report of a run from the current figures.
    Build {
        /// Run to report on [default: the run of the latest analysis].
        #[arg(long, default_value = "", hide_default_value = true, value_name = "ID")]
        run: String,
        /// Comma-separated formats: pdf, html, png, csv [default: all].
        #[arg(long = "format", value_delimiter = ',', value_name = "FORMATS")]
        formats: Vec<String>,
        /// Write tables that a Spanish Excel opens correctly: byte-order mark, semicolons, decimal
        /// commas.
        #[arg(long)]
        excel: bool,
        /// Download the files to this directory.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// List reports, newest first.
    List,
    /// Show the files of a report.
    Get {
        /// Report id, as shown by `report list`, or its beginning.
        id: String,
        /// Download the files to this directory.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
}

type Reports = ReportServiceClient<Connection>;

/// Runs the subcommand.
///
/// # Errors
/// If the service cannot be reached or refuses.
pub(crate) async fn run(context: &Context, arguments: Arguments) -> anyhow::Result<Outcome> {
    let mut service = ReportServiceClient::new(context.client.pipeline().await?);
    match arguments.action {
        Action::Build { run, formats, excel, out } => {
            // Before the work, so that an unwritable folder does not waste it.
            let out = out.map(folder).transpose()?;
            let request = BuildReportRequest { run_id: run, formats, directory: String::new(), excel };
            let built = while_waiting("writing the report", service.build_report(request)).await;
            let built = answer(built)?.report.unwrap_or_default();
            deliver(context, &mut service, built, out).await
        }
        Action::List => {
            let found = list(&mut service).await?;
            let rows = found
                .iter()
                .map(|report| vec![report.report_id.clone(), report.run_id.clone(), report.directory.clone()])
                .collect();
            let table =
                Table::new(&["report", "run", "directory"], rows, found.iter().map(as_json).collect());
            context
                .output
                .list(&table, || "no reports yet; `observatory run start --watch` writes one".to_owned())
        }
        Action::Get { id, out } => {
            let out = out.map(folder).transpose()?;
            let found = list(&mut service).await?;
            // The list begins with the newest, which is the one that is meant by a short beginning.
            match found.into_iter().find(|report| report.report_id.starts_with(&id)) {
                Some(report) => deliver(context, &mut service, report, out).await,
                None => bail!("report `{id}` not found"),
            }
        }
    }
}

/// Lists the latest reports, newest first; 500 is the largest page.
async fn list(service: &mut Reports) -> anyhow::Result<Vec<Report>> {
    let request = ListReportsRequest { page_size: 500, page_token: String::new() };
    Ok(answer(service.list_reports(request).await)?.reports)
}

/// Creates the output directory and checks that it can be written to; returns its absolute path.
fn folder(out: PathBuf) -> anyhow::Result<PathBuf> {
    let out = std::path::absolute(out)?;
    fs::create_dir_all(&out).with_context(|| format!("cannot create the directory {}", out.display()))?;
    // Permission bits do not tell: the file system may be read-only or full.
    tempfile::tempfile_in(&out)
        .with_context(|| format!("cannot write to the directory {}", out.display()))?;
    Ok(out)
}

/// Downloads the report if `out` is given, then prints the paths of its files.
async fn deliver(
    context: &Context,
    service: &mut Reports,
    mut report: Report,
    out: Option<PathBuf>,
) -> anyhow::Result<Outcome> {
    if let Some(out) = out {
        download(service, &report, &out).await?;
        report.directory = out.display().to_string();
    }
    print_files(context, &report)?;
    Ok(Outcome::Done)
}

/// Downloads the report of a run; returns whether the run has one.
///
/// # Errors
/// If the service refuses, or the files cannot be written.
pub(crate) async fn copy_report_of(pipeline: Connection, run_id: &str, out: PathBuf) -> anyhow::Result<bool> {
    let mut service = Reports::new(pipeline);
    let out = folder(out)?;
    // The list begins with the newest, and a run may have several reports.
    let report = list(&mut service).await?.into_iter().find(|report| report.run_id == run_id);
    let Some(report) = report else { return Ok(false) };
    download(&mut service, &report, &out).await?;
    Ok(true)
}

/// Downloads the files of a report. Each appears complete, and only if all match the checksums of
/// the report.
async fn download(service: &mut Reports, report: &Report, out: &Path) -> anyhow::Result<()> {
    let request = DownloadReportRequest { report_id: report.report_id.clone() };
    let mut chunks = answer(service.download_report(request).await)?;
    let mut files: Vec<(String, NamedTempFile)> = Vec::new();
    while let Some(part) = chunks.message().await.map_err(|status| refusal(&status))? {
        // Files are sent one after the other, so another name begins the next one.
        if files.last().is_none_or(|(name, _)| *name != part.name) {
            // A name with a path would write outside the directory.
            let is_name = Path::new(&part.name).file_name().is_some_and(|plain| plain == part.name.as_str());
            ensure!(is_name, "the server sent an invalid file name `{}`", part.name.escape_debug());
            // tempfile defaults to 0600; use the mode that any new file of the user gets.
            let mode = fs::Permissions::from_mode(0o666);
            let file = tempfile::Builder::new().permissions(mode).tempfile_in(out);
            files.push((part.name.clone(), file.with_context(|| unwritable(out, &part.name))?));
        }
        if let Some((name, file)) = files.last_mut() {
            file.write_all(&part.chunk).with_context(|| unwritable(out, name))?;
        }
    }
    // As sets, because the order of the files on the wire is not part of the report.
    let expected: BTreeSet<_> =
        report.artefacts.iter().map(|file| (&*file.name, file.sha256.clone())).collect();
    let mut received = BTreeSet::new();
    for (name, file) in &files {
        // Of the file, not of the bytes received: what is on the disk counts.
        received.insert((name.as_str(), digest(file.path())?));
    }
    // Nothing has a name yet: on an error the temporary files vanish with the guards.
    ensure!(received == expected, "the downloaded files do not match the report; build it again");
    // Only now, so that a damaged download does not replace a report that was fine.
    for (name, file) in files {
        file.persist(out.join(&name)).with_context(|| unwritable(out, &name))?;
    }
    Ok(())
}

fn unwritable(out: &Path, name: &str) -> String {
    format!("cannot write {}", out.join(name).display())
}

/// SHA-256 of a file, in hexadecimal.
fn digest(file: &Path) -> anyhow::Result<String> {
    let mut hash = Sha256::new();
    let mut content = fs::File::open(file)?;
    std::io::copy(&mut content, &mut hash)?;
    Ok(hex::encode(hash.finalize()))
}

fn print_files(context: &Context, report: &Report) -> anyhow::Result<()> {
    let rows = report
        .artefacts
        .iter()
        .map(|file| {
            vec![format!("{}/{}", report.directory, file.name), file.format.clone(), file.bytes.to_string()]
        })
        .collect();
    context.output.print(&Table::new(&["file", "format", "bytes"], rows, as_json(report)))
}

fn as_json(report: &Report) -> Value {
    let files: Vec<Value> = report
        .artefacts
        .iter()
        .map(|file| json!({ "name": file.name, "format": file.format, "bytes": file.bytes, "sha256": file.sha256 }))
        .collect();
    json!({ "report_id": report.report_id, "run_id": report.run_id, "directory": report.directory,
        "artefacts": files })
}
