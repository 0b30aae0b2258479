//! Personal data in what is stored.
//!
//! Runs the removal again and sends running totals. A caller that leaves ends it after the batch in
//! hand; a slow one only misses totals on the way.

use std::pin::Pin;

use futures::Stream;
use observatory_proto::pipeline::v1::{ScrubRequest, ScrubResponse, privacy_service_server::PrivacyService};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{Services, error};
use crate::intake::again::{Scrubbing, scrub_stored};

type Totals = Pin<Box<dyn Stream<Item = Result<ScrubResponse, Status>> + Send>>;

#[tonic::async_trait]
impl PrivacyService for Services {
    type ScrubStream = Totals;

    async fn scrub(&self, request: Request<ScrubRequest>) -> Result<Response<Self::ScrubStream>, Status> {
        let dry_run = request.into_inner().dry_run;
        // One connection for the whole: a dry run is a single transaction.
        let mut connection = self.pool.acquire().await.map_err(error::sql)?;
        let (sender, receiver) = mpsc::channel::<Result<ScrubResponse, Status>>(4);
        tokio::spawn(async move {
            // A caller who is slow misses some of the totals on the way; one who left ends it.
            let result = scrub_stored(&mut connection, dry_run, |totals: &Scrubbing| {
                match sender.try_send(Ok(message(totals, false))) {
                    Err(mpsc::error::TrySendError::Closed(_)) => false,
                    Ok(()) | Err(mpsc::error::TrySendError::Full(_)) => true,
                }
            })
            .await;
            let last = result.map(|totals| message(&totals, true)).map_err(error::sql);
            // Awaited, unlike the totals before it: the last ones must arrive.
            let _ = sender.send(last).await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

fn message(totals: &Scrubbing, finished: bool) -> ScrubResponse {
    ScrubResponse {
        postings: totals.postings,
        changed: totals.changed,
        joined: totals.joined,
        entities_removed: totals.removed.clone().into_iter().collect(),
        finished,
    }
}
