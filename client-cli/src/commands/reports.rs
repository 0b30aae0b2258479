//! `report`: build and list reports.

use std::path::PathBuf;

use observatory_proto::pipeline::v1::{
    BuildReportRequest, ListReportsRequest, Report, report_service_client::ReportServiceClient,
};
use serde_json::{Value, json};

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
            let directory = match out {
                None => String::new(),
                Some(path) => std::path::absolute(path)?.display().to_string(),
            };
            let request = BuildReportRequest { run_id: run, formats, directory, excel };
            let built = while_waiting("writing the report", service.build_report(request)).await;
            let built = answer(built)?.report.unwrap_or_default();
            print_files(context, &built)?;
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
