//! `taxonomy embed`: vectors for the labels of a taxonomy.
//!
//! The service sends running totals and goes on where an earlier call ended.

use anyhow::bail;
use observatory_proto::pipeline::v1::{
    EmbedTaxonomyRequest, EmbedTaxonomyResponse, Taxonomy, taxonomy_service_client::TaxonomyServiceClient,
};
use serde_json::json;

use crate::client::{Connection, answer, refusal};
use crate::context::Context;
use crate::output::{Document, Outcome, Progress, progress};

/// Embeds the labels and prints how many got a vector.
///
/// # Errors
/// If the service or its inference server cannot be reached or refuses, or stops before the end.
pub(super) async fn run(context: &Context, taxonomy: Option<String>) -> anyhow::Result<Outcome> {
    let pipeline = context.client.pipeline().await?;
    let done = embed(pipeline, taxonomy.unwrap_or_default()).await?;
    let text = format!("{}: {} labels embedded by {}", done.taxonomy, done.embedded, done.model_name);
    let value = json!({ "taxonomy": done.taxonomy, "model": done.model_name, "embedded": done.embedded });
    context.output.print(&Document::new(text, value))?;
    Ok(Outcome::Done)
}

/// Embeds the labels of a taxonomy that was imported a moment ago. Without a model the import
/// stands, and ranks by words and letters.
pub(super) async fn embed_imported(pipeline: Connection, taxonomy: &mut Taxonomy) {
    match embed(pipeline, format!("{}@{}", taxonomy.name, taxonomy.version)).await {
        Ok(done) => taxonomy.vectors = done.model_name,
        Err(problem) => progress(format_args!(
            "{}@{} has no vectors, so `link` ranks by words alone until `observatory taxonomy embed`: {problem}",
            taxonomy.name, taxonomy.version
        )),
    }
}

async fn embed(pipeline: Connection, taxonomy: String) -> anyhow::Result<EmbedTaxonomyResponse> {
    let mut service = TaxonomyServiceClient::new(pipeline);
    let mut totals = answer(service.embed_taxonomy(EmbedTaxonomyRequest { taxonomy }).await)?;
    let (mut bar, mut shown) = (None, 0);
    while let Some(now) = totals.message().await.map_err(|status| refusal(&status))? {
        // A stream also ends if the service is stopped; only this mark says that all is done.
        if now.finished {
            return Ok(now);
        }
        let bar = bar.get_or_insert_with(|| Progress::new("labels embedded", now.labels));
        bar.advance(now.embedded - shown);
        shown = now.embedded;
    }
    bail!("the service stopped before the end; `observatory taxonomy embed` goes on")
}
