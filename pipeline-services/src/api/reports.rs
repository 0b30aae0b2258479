//! Reports and their files.
//!
//! Directories are resolved below the reporter's own, so that no request reads or writes elsewhere.
//! A new report of a run replaces the record of the earlier one.

use std::{path::PathBuf, pin::Pin};

use futures::Stream;
use observatory_proto::pipeline::v1::{
    Artefact as ArtefactMessage, BuildReportRequest, BuildReportResponse, DownloadReportRequest,
    DownloadReportResponse, ListReportsRequest, ListReportsResponse, Report as ReportMessage,
    report_service_server::ReportService,
};
use tokio::{io::AsyncReadExt, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{Services, error, non_empty, page_size};
use crate::{
    reporter::stage::ReporterStage,
    spreadsheet::Dialect,
    store::{Connection, analyses, reports, reports::Report},
};

impl Services {
    fn reporter(&self) -> Result<&ReporterStage, Status> {
        self.reporter.as_deref().ok_or_else(|| {
            error::precondition("reports are not built by this process; run the role reporter or all")
        })
    }

    /// The run a report is asked for: the named one, else the one of the latest analysis.
    async fn reported_run(&self, run_id: &str) -> Result<Uuid, Status> {
        let mut connection = self.pool.acquire().await.map_err(error::sql)?;
        if let Some(text) = non_empty(run_id) {
            return self.run_id(&mut connection, text).await;
        }
        let latest = analyses::find(&mut connection, None).await.map_err(error::sql)?;
        latest
            .map(|analysis| analysis.run_id)
            .ok_or_else(|| error::precondition("there is no analysis to report; start a run first"))
    }
}

fn message(report: Report) -> ReportMessage {
    let artefacts = report
        .artefacts
        .into_iter()
        .map(|artefact| ArtefactMessage {
            name: artefact.name,
            format: artefact.format,
            bytes: artefact.bytes.unsigned_abs(),
            sha256: artefact.sha256,
        })
        .collect();
    ReportMessage {
        report_id: report.report_id.to_string(),
        run_id: report.run_id.to_string(),
        directory: report.directory,
        artefacts,
    }
}

/// Bytes of a file in one message. Not tuned: far below the limit of a message, and some hundred of
/// them for the largest report.
const CHUNK: usize = 256 << 10;

type Files = Pin<Box<dyn Stream<Item = Result<DownloadReportResponse, Status>> + Send>>;

/// Sends the files of a report, until the caller goes away.
async fn send(
    report: Report,
    folder: PathBuf,
    sender: &mpsc::Sender<Result<DownloadReportResponse, Status>>,
) -> Result<(), Status> {
    for artefact in report.artefacts {
        let name = artefact.name;
        let opened = tokio::fs::File::open(folder.join(&name)).await;
        let mut file = opened.map_err(|cause| unreadable(&name, &cause))?;
        let mut begun = false;
        loop {
            let mut chunk = Vec::with_capacity(CHUNK);
            // A read may give a few bytes; full chunks keep the messages few.
            let read = (&mut file).take(CHUNK as u64).read_to_end(&mut chunk).await;
            read.map_err(|cause| unreadable(&name, &cause))?;
            // An empty file is sent as one empty chunk, so that its reader makes it too.
            if chunk.is_empty() && begun {
                break;
            }
            begun = true;
            let message = DownloadReportResponse { name: name.clone(), chunk };
            if sender.send(Ok(message)).await.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn unreadable(name: &str, cause: &std::io::Error) -> Status {
    // The path stays in the log; the caller gets the kind of error.
    tracing::warn!(file.name = name, error.message = %cause, "file of a report not read");
    error::precondition(format!("{name} cannot be read ({}); build the report again", cause.kind()))
}

#[tonic::async_trait]
impl ReportService for Services {
    type DownloadReportStream = Files;

    async fn download_report(
        &self,
        request: Request<DownloadReportRequest>,
    ) -> Result<Response<Self::DownloadReportStream>, Status> {
        let asked = request.into_inner().report_id;
        let report_id = error::id("report_id", &asked)?;
        let mut connection = self.pool.acquire().await.map_err(error::sql)?;
        let report = reports::get(&mut connection, report_id).await.map_err(error::sql)?;
        drop(connection);
        let report = report.ok_or_else(|| error::not_found("report", &asked))?;
        // A report of an older version may lie anywhere.
        let folder = self.reporter()?.folder(&report.directory);
        let folder =
            folder.map_err(|problem| error::precondition(format!("the report is not served: {problem}")))?;
        let (sender, receiver) = mpsc::channel(4);
        tokio::spawn(async move {
            if let Err(status) = send(report, folder, &sender).await {
                let _ = sender.send(Err(status)).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn build_report(
        &self,
        request: Request<BuildReportRequest>,
    ) -> Result<Response<BuildReportResponse>, Status> {
        let asked = request.into_inner();
        let reporter = self.reporter()?;
        let run_id = self.reported_run(&asked.run_id).await?;
        let directory = non_empty(&asked.directory).map(|asked| reporter.folder(asked));
        let directory = directory.transpose().map_err(|problem| error::invalid("directory", problem))?;
        let tables = Dialect::excel(asked.excel);
        let (directory, artefacts) =
            reporter.build(run_id, &asked.formats, tables, directory).await.map_err(error::stage)?;
        // Taken only now: building takes minutes, in which others need connections.
        let mut connection = self.pool.acquire().await.map_err(error::sql)?;
        let mut transaction = connection.begin().await.map_err(error::sql)?;
        reports::replace(&mut transaction, run_id, &directory, &artefacts).await.map_err(error::sql)?;
        transaction.commit().await.map_err(error::sql)?;
        let found = reports::list(&mut connection, Some(run_id), None, 1).await.map_err(error::sql)?;
        Ok(Response::new(BuildReportResponse { report: found.into_iter().next().map(message) }))
    }

    async fn list_reports(
        &self,
        request: Request<ListReportsRequest>,
    ) -> Result<Response<ListReportsResponse>, Status> {
        let asked = request.into_inner();
        let size = page_size(asked.page_size)?;
        let after = non_empty(&asked.page_token).map(|token| error::id("page_token", token)).transpose()?;
        let mut connection = self.pool.acquire().await.map_err(error::sql)?;
        let found = reports::list(&mut connection, None, after, size).await.map_err(error::sql)?;
        let full = found.len() as i64 == size;
        let next = found.last().filter(|_| full).map(|last| last.report_id.to_string());
        Ok(Response::new(ListReportsResponse {
            reports: found.into_iter().map(message).collect(),
            next_page_token: next.unwrap_or_default(),
        }))
    }
}
