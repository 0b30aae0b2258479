//! The differences of two stored taxonomies as a stream.
//!
//! Both are read in one transaction and compared on a thread for such work; a caller that leaves
//! ends the stream.

use std::pin::Pin;

use observatory_proto::pipeline::v1::{
    DiffTaxonomiesRequest, DiffTaxonomiesResponse, TaxonomyChangeCount, TaxonomyDiffCounts,
    TaxonomyDifference, diff_taxonomies_response::Item,
};
use tonic::Status;

use super::super::{Services, error};
use crate::{
    reading,
    store::{self, PgConnection, SqlResult, taxonomies, taxonomies::Stored},
    taxonomy::difference::{CHANGES, Contents, Difference, differences},
};

/// Counts, then differences.
pub(super) type Stream = Pin<Box<dyn futures::Stream<Item = Result<DiffTaxonomiesResponse, Status>> + Send>>;

/// Compares the taxonomies that a request names.
pub(super) async fn stream(services: &Services, asked: DiffTaxonomiesRequest) -> Result<Stream, Status> {
    let mut connection = services.pool.acquire().await.map_err(error::sql)?;
    // One view of both: an import in between would make of an old version one without concepts.
    let mut transaction = store::begin_view(&mut connection).await.map_err(error::sql)?;
    let from = named(&mut transaction, "from", &asked.from).await?;
    let to = named(&mut transaction, "to", &asked.to).await?;
    let old = contents(&mut transaction, from.taxonomy_id).await.map_err(error::sql)?;
    let new = contents(&mut transaction, to.taxonomy_id).await.map_err(error::sql)?;
    transaction.commit().await.map_err(error::sql)?;
    let found = reading::apart(move || differences(&old, &new)).await;
    let found = found.map_err(|panicked| Status::internal(panicked.to_string()))?;
    let counts = Item::Counts(counts(&from, &to, &found));
    let rows = found.into_iter().map(|difference| Item::Difference(message(difference)));
    let items = std::iter::once(counts).chain(rows);
    let messages = items.map(|item| Ok(DiffTaxonomiesResponse { item: Some(item) }));
    Ok(Box::pin(futures::stream::iter(messages)))
}

async fn named(connection: &mut PgConnection, field: &str, wanted: &str) -> Result<Stored, Status> {
    taxonomies::resolve(connection, wanted).await.map_err(|problem| error::taxonomy(field, problem))
}

async fn contents(connection: &mut PgConnection, taxonomy_id: i32) -> SqlResult<Contents> {
    let concepts = taxonomies::concepts(connection, taxonomy_id).await?;
    let broader = taxonomies::broader(connection, taxonomy_id).await?;
    Ok(Contents { concepts, broader })
}

fn counts(from: &Stored, to: &Stored, found: &[Difference]) -> TaxonomyDiffCounts {
    let count = |change| found.iter().filter(|difference| difference.change == change).count() as u64;
    let changes =
        CHANGES.map(|change| TaxonomyChangeCount { change: change.name().to_owned(), count: count(change) });
    TaxonomyDiffCounts { from: from.to_string(), to: to.to_string(), changes: changes.to_vec() }
}

fn message(difference: Difference) -> TaxonomyDifference {
    TaxonomyDifference {
        change: difference.change.name().to_owned(),
        uri: difference.uri,
        kind: difference.kind.name().to_owned(),
        label: difference.label,
        language: difference.language,
        before: difference.before,
        after: difference.after,
    }
}
