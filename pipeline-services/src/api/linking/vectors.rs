//! How near concepts are to texts by vectors.
//!
//! Cosines of one model are not those of another, so they are read relative to the farthest of the
//! concepts that come back: it is 0 and an equal vector 1.

use tonic::Status;

use super::super::{Services, error};
use crate::{
    domain::taxonomy::ConceptKind,
    inference::EmbeddingModelInfo,
    store::{
        Connection,
        embeddings::EmbeddingModel,
        label_vectors::{self, Near},
        taxonomies::{self, ResolveError},
    },
    taxonomy::{Nearness, Taxonomy},
};

/// The nearness of concepts to each text; `None` where the taxonomy has no vectors or their model
/// does not answer, which is no failure of the call.
pub(super) async fn near(
    services: &Services,
    (taxonomy, kind): (&Taxonomy, ConceptKind),
    texts: &[String],
) -> Result<Option<Vec<Nearness>>, Status> {
    let mut connection = services.pool.acquire().await.map_err(error::sql)?;
    let reference = format!("{}@{}", taxonomy.name(), taxonomy.version());
    let stored = match taxonomies::resolve(&mut connection, &reference).await {
        Ok(stored) => stored,
        // Replaced since it was read.
        Err(ResolveError::Unknown { .. }) => return Ok(None),
        Err(problem) => return Err(error::taxonomy("taxonomy", problem)),
    };
    let model = label_vectors::model_of(&mut connection, stored.taxonomy_id).await.map_err(error::sql)?;
    // Given back before the server is asked.
    drop(connection);
    let Some(model) = model else { return Ok(None) };
    let Some(vectors) = embedded(services, &model, texts).await else { return Ok(None) };
    // A text that cannot be embedded is ranked without vectors.
    let (numbers, vectors): (Vec<usize>, Vec<Vec<f32>>) =
        vectors.into_iter().enumerate().filter_map(|(number, row)| Some((number, row?))).unzip();
    let mut connection = services.pool.acquire().await.map_err(error::sql)?;
    // A transaction, since `set local` sets the parameters of the search.
    let mut transaction = connection.begin().await.map_err(error::sql)?;
    let scope = (stored.taxonomy_id, kind);
    let found = label_vectors::nearest(&mut transaction, &model, scope, vectors).await.map_err(error::sql)?;
    drop(transaction);
    let mut near = vec![Vec::new(); texts.len()];
    found.into_iter().for_each(|one| near[numbers[one.text]].push(one));
    Ok(Some(near.into_iter().map(relative).collect()))
}

/// The vectors of texts under the prompt of queries, or `None` if their model does not answer.
async fn embedded(
    services: &Services,
    model: &EmbeddingModel,
    texts: &[String],
) -> Option<Vec<Option<Vec<f32>>>> {
    // By the name of the stored model: the server's default may be another one by now.
    let served = services.embeddings.inference().embedding_model(Some(&model.name)).await;
    let rows = match served.map(|info| (info.revision == model.revision).then_some(info)) {
        Ok(Some(info)) => rows(services, &info, texts).await,
        Ok(None) => Err("another revision of it is served".to_owned()),
        Err(problem) => Err(problem.to_string()),
    };
    rows.inspect_err(|problem| {
        tracing::warn!(model.name = model.name, error.message = problem, "linking without vectors");
    })
    .ok()
}

async fn rows(
    services: &Services,
    model: &EmbeddingModelInfo,
    texts: &[String],
) -> Result<Vec<Option<Vec<f32>>>, String> {
    let rows = services.embeddings.embed(model, &model.query_prompt, texts.to_vec()).await;
    Ok(rows.map_err(|problem| problem.to_string())?.into_iter().map(Result::ok).collect())
}

/// Cosines between that of the farthest concept and 1, as 0..1.
fn relative(found: Vec<Near>) -> Nearness {
    let farthest = found.iter().map(|near| near.cosine).fold(1.0, f32::min);
    let scale = 1.0 - farthest;
    let share = |cosine: f32| if scale > 0.0 { ((cosine - farthest) / scale).clamp(0.0, 1.0) } else { 1.0 };
    found.into_iter().map(|near| (near.uri, share(near.cosine))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cosines_count_from_the_farthest_concept() {
        let near = |uri: &str, cosine| Near { text: 0, uri: uri.to_owned(), cosine };
        let found = relative(vec![near("a", 0.9), near("b", 0.8), near("c", 1.0)]);
        assert_eq!(found.len(), 3);
        for (uri, expected) in [("a", 0.5), ("b", 0.0), ("c", 1.0)] {
            assert!((found[uri] - expected).abs() < 1e-6, "{found:?}");
        }
        assert_eq!(relative(vec![near("a", 1.0)])["a"], 1.0);
        assert!(relative(Vec::new()).is_empty());
    }
}
