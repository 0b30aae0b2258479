//! Vectors of the preferred labels of taxonomies, by which texts are linked to them.
//!
//! A vector belongs to a text and a model, so that versions of a taxonomy share it. Searches read a
//! taxonomy only once all of its labels have one: before, the nearest of those would pass for the
//! nearest of all.

use pgvector::Vector;
use sqlx::PgConnection;

use super::embeddings::{self, EmbeddingModel};
use crate::domain::taxonomy::ConceptKind;

/// Labels that a search looks at, so that some 200 concepts remain of labels in two languages. Not
/// tuned between 100 and 400 concepts, which rank alike.
const LABELS: i64 = 400;

/// Preferred labels of a taxonomy without a vector of the model, in the order of their bytes.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn pending(
    connection: &mut PgConnection,
    taxonomy_id: i32,
    model_id: i16,
) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        r#"select distinct l.label collate "C" as "label!" from concept_label l
           where l.taxonomy_id = $1 and l.preferred
             and not exists (select from label_vector v where v.model_id = $2 and v.label = l.label)
           order by 1"#,
        taxonomy_id,
        model_id
    )
    .fetch_all(connection)
    .await
}

/// Stores the vectors of labels; those that exist are left as they are.
///
/// # Errors
/// If the statement fails, or a length is not the model's.
pub(crate) async fn insert(
    connection: &mut PgConnection,
    model: &EmbeddingModel,
    rows: Vec<(String, Vec<f32>)>,
) -> sqlx::Result<()> {
    let (labels, vectors): (Vec<String>, Vec<Vector>) =
        rows.into_iter().map(|(label, vector)| (label, Vector::from(vector))).unzip();
    sqlx::query!(
        "insert into label_vector (model_id, label, dimensions, vec)
         select $1, label, $2, vec from unnest($3::text[], $4::vector[]) as item (label, vec)
         on conflict (model_id, label) do nothing",
        model.model_id,
        model.dimensions,
        &labels,
        &vectors as &[Vector]
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Records that every preferred label of a taxonomy has its vector, makes the index that searches
/// read, and forgets vectors of labels that no taxonomy has any more.
///
/// # Errors
/// If a statement fails.
pub(crate) async fn complete(
    connection: &mut PgConnection,
    taxonomy_id: i32,
    model_id: i16,
) -> sqlx::Result<()> {
    sqlx::query!(
        "delete from label_vector v where model_id = $1
           and not exists (select from concept_label l where l.label = v.label and l.preferred)",
        model_id
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!("select ensure_label_index($1)", model_id).fetch_one(&mut *connection).await?;
    sqlx::query!(
        "insert into taxonomy_vectors (taxonomy_id, model_id) values ($1, $2) on conflict do nothing",
        taxonomy_id,
        model_id
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The model that last gave every preferred label of a taxonomy its vector.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn model_of(
    connection: &mut PgConnection,
    taxonomy_id: i32,
) -> sqlx::Result<Option<EmbeddingModel>> {
    sqlx::query_as!(
        EmbeddingModel,
        "select m.model_id, m.name, m.revision, m.prompt, m.dimensions
         from taxonomy_vectors t join embedding_model m using (model_id)
         where t.taxonomy_id = $1 order by t.embedded_at desc, m.model_id desc limit 1",
        taxonomy_id
    )
    .fetch_optional(connection)
    .await
}

/// A concept near a text.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Near {
    /// Number of the text.
    pub text: usize,
    /// URI of the concept.
    pub uri: String,
    /// Cosine similarity of the nearest of its preferred labels.
    pub cosine: f32,
}

/// The concepts of a kind nearest to each of `texts`, in no particular order; some concepts fewer
/// than the labels looked at, of which several may be of one concept.
///
/// Must run inside a transaction, as [`embeddings::search`] does.
///
/// # Errors
/// If a statement fails.
pub(crate) async fn nearest(
    connection: &mut PgConnection,
    model: &EmbeddingModel,
    (taxonomy_id, kind): (i32, ConceptKind),
    texts: Vec<Vec<f32>>,
) -> sqlx::Result<Vec<Near>> {
    // Groups are ranked among the occupations.
    let kinds = match kind {
        ConceptKind::Occupation => vec![kind.name(), ConceptKind::Group.name()],
        _ => vec![kind.name()],
    };
    let kinds: Vec<String> = kinds.into_iter().map(str::to_owned).collect();
    embeddings::read_by_index(connection, LABELS).await?;
    // Lateral, so that each text is a scan of its own through the index; the expression must be the
    // index's own, so the dimension and the model stand as literals. `offset 0` keeps the filter a
    // filter: as a join, the planner would compare every label of the taxonomy. `+ 0`, since of one
    // that was stored a moment ago the planner expects one row, and would read all of its labels
    // for each of these.
    let statement = format!(
        "select q.place, l.uri, max(n.cosine)::real
         from unnest($1::vector[]) with ordinality as q (vec, place)
         cross join lateral (
             select v.label, 1 - (v.vec::vector({dimensions}) <=> q.vec::vector({dimensions})) as cosine
             from label_vector v
             where v.model_id = {model_id} and exists (
                 select from concept_label k join concept c on c.taxonomy_id = k.taxonomy_id and c.uri = k.uri
                 where k.label = v.label and k.taxonomy_id + 0 = $2 and k.preferred and c.kind = any($3)
                 offset 0)
             order by v.vec::vector({dimensions}) <=> q.vec::vector({dimensions}) limit $4
         ) n
         join concept_label l on l.label = n.label and l.taxonomy_id + 0 = $2 and l.preferred
         group by q.place, l.uri",
        dimensions = model.dimensions,
        model_id = model.model_id
    );
    let texts: Vec<Vector> = texts.into_iter().map(Vector::from).collect();
    // Safe: only two integers of the model's row are written into the text.
    let rows: Vec<(i64, String, f32)> = sqlx::query_as(sqlx::AssertSqlSafe(statement))
        .bind(texts)
        .bind(taxonomy_id)
        .bind(kinds)
        .bind(LABELS)
        .fetch_all(connection)
        .await?;
    // Places count from 1.
    let near = |(place, uri, cosine): (i64, String, f32)| Near {
        text: usize::try_from(place - 1).unwrap_or_default(),
        uri,
        cosine,
    };
    Ok(rows.into_iter().map(near).collect())
}
