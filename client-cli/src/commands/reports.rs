//! `report`: build and list reports.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use observatory_proto::pipeline::v1::{
    BuildReportRequest, ListReportsRequest, Report, report_service_client::ReportServiceClient,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::cli::Context;
use crate::client::answer;
use crate::output::{Outcome, Table, while_waiting};

/// Build reports and find the ones that were built.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Build the report of a run from the figures as they stand now.
    Build {
        /// Run [default: the one of the latest analysis].
        #[arg(long, default_value = "", hide_default_value = true, value_name = "ID")]
        run: String,
        /// Formats, separated by commas: pdf, html, png, csv [default: all].
        #[arg(long = "format", value_delimiter = ',', value_name = "FORMATS")]
        formats: Vec<String>,
        /// Tables as a Spanish Excel opens them: byte-order mark, semicolons, decimal commas.
        #[arg(long)]
        excel: bool,
        /// Directory on the service's machine [default: the run's own].
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// List reports, newest first.
    List,
    /// Show the files of a report.
    Get {
        /// Report id, as `report list` shows it.
        id: String,
    },
}

/// Does what the subcommand says.
///
/// # Errors
/// When no service answers or it refuses.
pub async fn run(context: &Context, arguments: Arguments) -> anyhow::Result<Outcome> {
    let mut service = ReportServiceClient::new(context.client.pipeline().await?);
    match arguments.action {
        Action::Build { run, formats, excel, out } => {
            let out = out.map(std::path::absolute).transpose()?;
            let detour = match &out {
                Some(out) => Detour::to(context, out)?,
                None => None,
            };
            let directory = detour.as_ref().map(|detour| &detour.written).or(out.as_ref());
            let directory = directory.map(|dir| dir.display().to_string()).unwrap_or_default();
            let request = BuildReportRequest { run_id: run, formats, directory, excel };
            let built = while_waiting("writing the report", service.build_report(request)).await;
            let built = answer(built)?.report.unwrap_or_default();
            match detour {
                None => print_files(context, &built)?,
                Some(detour) => print_files(context, &detour.end(built)?)?,
            }
            Ok(Outcome::Done)
        }
        Action::List => {
            let request = ListReportsRequest { page_size: 500, page_token: String::new() };
            let found = answer(service.list_reports(request).await)?.reports;
            let rows = found
                .iter()
                .map(|report| vec![report.report_id.clone(), report.run_id.clone(), report.directory.clone()])
                .collect();
            let table =
                Table::new(&["report", "run", "directory"], rows, found.iter().map(as_json).collect());
            context.output.list(&table, || {
                "no report is written; `observatory run start --watch` ends with one".to_owned()
            })
        }
        Action::Get { id } => {
            let request = ListReportsRequest { page_size: 500, page_token: String::new() };
            let found = answer(service.list_reports(request).await)?.reports;
            match found.iter().find(|report| report.report_id.starts_with(&id)) {
                Some(report) => print_files(context, report).map(|()| Outcome::Done),
                None => anyhow::bail!("no report `{id}`"),
            }
        }
    }
}

/// The way of a report into a directory of root's, where the service cannot write: it writes elsewhere, and the caller
/// copies.
struct Detour {
    written: PathBuf,
    out: PathBuf,
}

impl Detour {
    /// The detour that a report for `out` takes, if it needs one. The place it is written to is empty.
    fn to(context: &Context, out: &Path) -> anyhow::Result<Option<Self>> {
        let Some(data) = context.client.another_user_writes()? else { return Ok(None) };
        // What cannot be written in the end is said before the work is done.
        create_out(out)?;
        let digest = hex::encode(Sha256::digest(out.as_os_str().as_encoded_bytes()));
        let written = data.reports().join("copied").join(&digest[..16]);
        match fs::remove_dir_all(&written) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot empty {}", written.display()))
            }
            _ => Ok(Some(Self { written, out: out.to_owned() })),
        }
    }

    /// Copies what was built; the report as it lies where it was wanted.
    fn end(self, built: Report) -> anyhow::Result<Report> {
        copy_report(&self.written, &self.out)?;
        Ok(Report { directory: self.out.display().to_string(), ..built })
    }
}

fn create_out(out: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(out).with_context(|| format!("cannot make the directory {}", out.display()))
}

/// Copies the files of a report that the service wrote. Only plain files: no link of the service's leads the caller on.
///
/// # Errors
/// Names the file or directory that cannot be read or written.
pub(crate) fn copy_report(from: &Path, out: &Path) -> anyhow::Result<()> {
    create_out(out)?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        if !entry.file_type()?.is_file() {
            continue;
        }
        let target = out.join(entry.file_name());
        fs::copy(entry.path(), &target).with_context(|| format!("cannot write {}", target.display()))?;
    }
    Ok(())
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
