//! Rows out of the store.
//!
//! Rows are sent in chunks while they are read, and a caller that reads slowly slows the query
//! down: no export is held in memory. An error is the last item of the stream.

use std::pin::Pin;

use futures::Stream;
use observatory_proto::pipeline::v1::{ExportRequest, ExportResponse, export_service_server::ExportService};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{Services, error};
use crate::{
    export::{Format, Subject, write},
    spreadsheet::Dialect,
};

type Chunks = Pin<Box<dyn Stream<Item = Result<ExportResponse, Status>> + Send>>;

#[tonic::async_trait]
impl ExportService for Services {
    type ExportStream = Chunks;

    async fn export(&self, request: Request<ExportRequest>) -> Result<Response<Self::ExportStream>, Status> {
        let asked = request.into_inner();
        let subject: Subject =
            asked.subject.parse().map_err(|problem: String| error::invalid("subject", problem))?;
        let format: Format =
            asked.format.parse().map_err(|problem: String| error::invalid("format", problem))?;
        let format = match (format, asked.excel) {
            (Format::Csv(_), excel) => Format::Csv(Dialect::excel(excel)),
            (format, false) => format,
            (_, true) => return Err(error::invalid("excel", "is for CSV; expected the format csv")),
        };
        let mut connection = self.pool.acquire().await.map_err(error::sql)?;
        let portal = self.portal(&mut connection, &asked.portal).await?;
        let country = self.country(&mut connection, &asked.country).await?;
        // Given back before the export takes one of its own: a pool of one would wait for itself.
        drop(connection);
        // A short queue: a caller that reads slowly slows the query down instead of filling memory.
        let (sender, receiver) = mpsc::channel::<Result<Vec<u8>, Status>>(4);
        let services = self.clone();
        tokio::spawn(async move {
            let filter = (portal.as_deref(), country.as_deref());
            let result = write(&services.pool, subject, format, filter, |chunk| {
                let sender = sender.clone();
                // The channel closes when the caller leaves, and false ends the export.
                async move { sender.send(Ok(chunk)).await.is_ok() }
            })
            .await;
            if let Err(problem) = result {
                // Where this fails the caller has left, and nobody is there to hear of it.
                let _ = sender.send(Err(error::sql(problem))).await;
            }
        });
        let chunks = futures::StreamExt::map(ReceiverStream::new(receiver), |chunk| {
            chunk.map(|chunk| ExportResponse { chunk })
        });
        Ok(Response::new(Box::pin(chunks)))
    }
}
