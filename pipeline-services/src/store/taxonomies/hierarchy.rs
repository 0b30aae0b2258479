//! Which concepts are above which.
//!
//! The relation `broader` leads from a concept to the one above it; there may be several.

use std::collections::HashMap;

use sqlx::PgConnection;

use super::read_concepts;
use crate::domain::taxonomy::{BROADER, Concept};

/// Steps up to the top that are followed. Not tuned: ESCO has at most nine, and taxonomies stored
/// by earlier versions may hold a cycle.
const STEPS: i32 = 64;

/// The concepts above a concept up to the top, the nearest first, each with its distance.
///
/// # Errors
/// If a statement fails.
pub(crate) async fn above(
    connection: &mut PgConnection,
    taxonomy_id: i32,
    uri: &str,
) -> sqlx::Result<Vec<(Concept, u32)>> {
    let rows = sqlx::query!(
        r#"with recursive above (uri, distance) as (
               select to_uri, 1 from concept_relation
               where taxonomy_id = $1 and from_uri = $2 and kind = $3
               union
               select r.to_uri, a.distance + 1 from above a
               join concept_relation r on r.taxonomy_id = $1 and r.from_uri = a.uri and r.kind = $3
               where a.distance < $4
           )
           select uri as "uri!", min(distance) as "distance!" from above where uri <> $2 group by uri"#,
        taxonomy_id,
        uri,
        BROADER,
        STEPS
    )
    .fetch_all(&mut *connection)
    .await?;
    let uris: Vec<String> = rows.iter().map(|row| row.uri.clone()).collect();
    let concepts = read_concepts(connection, taxonomy_id, Some(&uris)).await?;
    let distances: HashMap<String, u32> =
        rows.into_iter().map(|row| (row.uri, row.distance.unsigned_abs())).collect();
    let mut found = Vec::with_capacity(concepts.len());
    for concept in concepts {
        let distance = distances.get(&concept.uri).copied().unwrap_or_default();
        found.push((concept, distance));
    }
    // Stable: of one distance in the order of their URIs.
    found.sort_by_key(|(_, distance)| *distance);
    Ok(found)
}

/// Pairs of a concept and the one above it, in the order of the URIs.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn broader(
    connection: &mut PgConnection,
    taxonomy_id: i32,
) -> sqlx::Result<Vec<(String, String)>> {
    let rows = sqlx::query!(
        r#"select from_uri, to_uri from concept_relation where taxonomy_id = $1 and kind = $2
           order by from_uri collate "C", to_uri collate "C""#,
        taxonomy_id,
        BROADER
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (row.from_uri, row.to_uri)).collect())
}
