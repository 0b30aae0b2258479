//! Reports and their files.

use std::path::PathBuf;

use observatory_proto::pipeline::v1::{
    Artefact as ArtefactMessage, BuildReportRequest, BuildReportResponse, ListReportsRequest,
    ListReportsResponse, Report as ReportMessage, report_service_server::ReportService,
};
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
        let missing =
            || error::precondition("reports are not built by this process; run the role reporter or all");
        self.reporter.as_deref().ok_or_else(missing)
    }

    /// The run a report is asked for: the named one, else the one of the latest analysis.
    async fn reported_run(&self, run_id: &str) -> Result<Uuid, Status> {
        let mut connection = self.pool.acquire().await.map_err(error::sql)?;
        if let Some(text) = non_empty(run_id) {
            return self.run_id(&mut connection, text).await;
        }
        let latest = analyses::find(&mut connection, None).await.map_err(error::sql)?;
        let missing = || error::precondition("there is no analysis to report; start a run first");
        latest.map(|analysis| analysis.run_id).ok_or_else(missing)
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

#[tonic::async_trait]
impl ReportService for Services {
    async fn build_report(
        &self,
        request: Request<BuildReportRequest>,
    ) -> Result<Response<BuildReportResponse>, Status> {
        let asked = request.into_inner();
        let reporter = self.reporter()?;
        let run_id = self.reported_run(&asked.run_id).await?;
        let directory = non_empty(&asked.directory).map(PathBuf::from);
        let tables = Dialect::excel(asked.excel);
        let (directory, artefacts) =
            reporter.build(run_id, &asked.formats, tables, directory).await.map_err(error::stage)?;
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
