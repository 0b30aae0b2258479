//! Vectors for the labels of a taxonomy, by which `Link` also ranks.
//!
//! Labels that have one are left as they are, so that a call goes on where an earlier one ended; a
//! caller that leaves ends it after the labels in hand.

use std::pin::Pin;

use futures::Stream;
use observatory_proto::pipeline::v1::{EmbedTaxonomyRequest, EmbedTaxonomyResponse};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{super::Services, asked_or_active, error};
use crate::{
    inference::EmbeddingModelInfo,
    store::{
        Connection,
        embeddings::{self, EmbeddingModel, ModelIdentity},
        label_vectors,
        taxonomies::Stored,
    },
};

/// Labels of one request to the inference server. Not tuned: some tenths of a second on two cores,
/// so that progress is seen.
const LABELS: usize = 256;

/// Running totals.
pub(super) type Totals = Pin<Box<dyn Stream<Item = Result<EmbedTaxonomyResponse, Status>> + Send>>;

/// Embeds the labels of the taxonomy that a request names.
pub(super) async fn embed(services: &Services, asked: EmbedTaxonomyRequest) -> Result<Totals, Status> {
    let mut connection = services.pool.acquire().await.map_err(error::sql)?;
    let taxonomy = asked_or_active(&mut connection, &asked.taxonomy).await?;
    let model = services.embeddings.inference().embedding_model(None).await;
    let model = model.map_err(|problem| error::inference(&problem))?;
    let (sender, receiver) = mpsc::channel(4);
    let services = services.clone();
    tokio::spawn(async move {
        let work = Work { services: &services, taxonomy: &taxonomy, model: &model };
        if let Err(status) = work.run(&mut connection, &sender).await {
            // Nobody waits for it where the caller has left.
            let _ = sender.send(Err(status)).await;
        }
    });
    Ok(Box::pin(ReceiverStream::new(receiver)))
}

struct Work<'call> {
    services: &'call Services,
    taxonomy: &'call Stored,
    model: &'call EmbeddingModelInfo,
}

type Sender = mpsc::Sender<Result<EmbedTaxonomyResponse, Status>>;

impl Work<'_> {
    async fn run(&self, connection: &mut crate::store::PgConnection, sender: &Sender) -> Result<(), Status> {
        let EmbeddingModelInfo { name, revision, passage_prompt, dimensions, .. } = self.model;
        let identity = ModelIdentity::new(name, revision, passage_prompt, *dimensions);
        let row = embeddings::register(connection, &identity).await.map_err(error::sql)?;
        let id = self.taxonomy.taxonomy_id;
        let labels = label_vectors::pending(connection, id, row.model_id).await.map_err(error::sql)?;
        let mut embedded = 0;
        for chunk in labels.chunks(LABELS) {
            let rows = self.vectors(chunk).await?;
            label_vectors::insert(connection, &row, rows).await.map_err(error::sql)?;
            embedded += chunk.len();
            if sender.send(Ok(self.totals(embedded, labels.len(), false))).await.is_err() {
                return Ok(());
            }
        }
        self.complete(connection, &row).await?;
        let _ = sender.send(Ok(self.totals(embedded, labels.len(), true))).await;
        Ok(())
    }

    async fn complete(
        &self,
        connection: &mut crate::store::PgConnection,
        row: &EmbeddingModel,
    ) -> Result<(), Status> {
        // As a whole: an index without the record would be made again for nothing.
        let mut transaction = connection.begin().await.map_err(error::sql)?;
        let id = self.taxonomy.taxonomy_id;
        label_vectors::complete(&mut transaction, id, row.model_id).await.map_err(error::sql)?;
        transaction.commit().await.map_err(error::sql)
    }

    /// Vectors of labels, those of stored texts. Not by way of the cache: a taxonomy has more
    /// labels than it keeps, and they are stored here.
    async fn vectors(&self, labels: &[String]) -> Result<Vec<(String, Vec<f32>)>, Status> {
        let inference = self.services.embeddings.inference();
        let rows = inference.embed(self.model, &self.model.passage_prompt, labels.to_vec()).await;
        let rows = rows.map_err(|problem| error::inference(&problem))?;
        let mut vectors = Vec::with_capacity(labels.len());
        for (label, row) in labels.iter().zip(rows) {
            let vector = row.map_err(|problem| {
                error::precondition(format!("the label `{label}` cannot be embedded: {problem}"))
            })?;
            vectors.push((label.clone(), vector));
        }
        Ok(vectors)
    }

    fn totals(&self, embedded: usize, labels: usize, finished: bool) -> EmbedTaxonomyResponse {
        EmbedTaxonomyResponse {
            taxonomy: self.taxonomy.to_string(),
            model_name: self.model.name.clone(),
            embedded: embedded as u64,
            labels: labels as u64,
            finished,
        }
    }
}
