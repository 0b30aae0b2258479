//! Taxonomies of skills and occupations.
//!
//! Importing a version replaces it whole; the active one is what extractor and enhancer link to.

mod hierarchy;
mod resolve;

use sqlx::PgConnection;

pub(crate) use hierarchy::{above, broader};
pub(crate) use resolve::{ResolveError, Stored, resolve};

use crate::domain::taxonomy::{Concept, ConceptKind, Description, Label, Relation};

/// A taxonomy with its size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TaxonomySummary {
    /// Key.
    pub taxonomy_id: i32,
    /// Name, e.g. `esco`.
    pub name: String,
    /// Version as published.
    pub version: String,
    /// True if extraction links to it.
    pub active: bool,
    /// Skill concepts.
    pub skills: i64,
    /// Occupation concepts.
    pub occupations: i64,
    /// Groups of the hierarchy.
    pub groups: i64,
    /// Labels in all languages.
    pub labels: i64,
    /// Relations.
    pub relations: i64,
    /// Model whose vectors all preferred labels have.
    pub vectors: Option<String>,
}

/// Rows sent in one statement. Not tuned: ESCO has some 17,000 concepts, and a statement of some
/// megabytes is no burden.
const CHUNK: usize = 5_000;

/// Stores a taxonomy in place of one with the same name and version. Run it inside a transaction.
///
/// # Errors
/// If a statement fails.
pub(crate) async fn replace(
    connection: &mut PgConnection,
    name: &str,
    version: &str,
    concepts: &[Concept],
    relations: &[Relation],
) -> sqlx::Result<i32> {
    sqlx::query!("delete from taxonomy where name = $1 and version = $2", name, version)
        .execute(&mut *connection)
        .await?;
    let taxonomy_id = sqlx::query_scalar!(
        "insert into taxonomy (name, version) values ($1, $2) returning taxonomy_id",
        name,
        version
    )
    .fetch_one(&mut *connection)
    .await?;
    // Labels refer to their concepts, so those go first; relations hold bare URIs.
    for chunk in concepts.chunks(CHUNK) {
        insert_concepts(connection, taxonomy_id, chunk).await?;
        insert_labels(connection, taxonomy_id, chunk).await?;
    }
    for chunk in relations.chunks(CHUNK) {
        insert_relations(connection, taxonomy_id, chunk).await?;
    }
    Ok(taxonomy_id)
}

async fn insert_concepts(
    connection: &mut PgConnection,
    taxonomy_id: i32,
    concepts: &[Concept],
) -> sqlx::Result<()> {
    let uris: Vec<String> = concepts.iter().map(|concept| concept.uri.clone()).collect();
    let kinds: Vec<String> = concepts.iter().map(|concept| concept.kind.name().to_owned()).collect();
    let classes: Vec<String> = concepts.iter().map(|concept| concept.class.clone()).collect();
    sqlx::query!(
        "insert into concept (taxonomy_id, uri, kind, class)
         select $1, uri, kind, class from unnest($2::text[], $3::text[], $4::text[]) as item (uri, kind, class)",
        taxonomy_id,
        &uris,
        &kinds,
        &classes
    )
    .execute(connection)
    .await?;
    Ok(())
}

async fn insert_labels(
    connection: &mut PgConnection,
    taxonomy_id: i32,
    concepts: &[Concept],
) -> sqlx::Result<()> {
    let labels: Vec<(&str, &Label)> = concepts
        .iter()
        .flat_map(|concept| concept.labels.iter().map(move |label| (concept.uri.as_str(), label)))
        .collect();
    let uris: Vec<String> = labels.iter().map(|(uri, _)| (*uri).to_owned()).collect();
    let languages: Vec<String> = labels.iter().map(|(_, label)| label.language.clone()).collect();
    let texts: Vec<String> = labels.iter().map(|(_, label)| label.text.clone()).collect();
    let preferred: Vec<bool> = labels.iter().map(|(_, label)| label.preferred).collect();
    // Files list some labels both as preferred and as alternative ones; they are preferred.
    sqlx::query!(
        "insert into concept_label (taxonomy_id, uri, language, label, preferred)
         select $1, uri, language, label, bool_or(preferred)
         from unnest($2::text[], $3::text[], $4::text[], $5::bool[]) as item (uri, language, label, preferred)
         group by uri, language, label",
        taxonomy_id,
        &uris,
        &languages,
        &texts,
        &preferred
    )
    .execute(connection)
    .await?;
    Ok(())
}

async fn insert_relations(
    connection: &mut PgConnection,
    taxonomy_id: i32,
    relations: &[Relation],
) -> sqlx::Result<()> {
    let froms: Vec<String> = relations.iter().map(|relation| relation.from.clone()).collect();
    let kinds: Vec<String> = relations.iter().map(|relation| relation.kind.clone()).collect();
    let tos: Vec<String> = relations.iter().map(|relation| relation.to.clone()).collect();
    sqlx::query!(
        "insert into concept_relation (taxonomy_id, from_uri, kind, to_uri)
         select $1, source, kind, target
         from unnest($2::text[], $3::text[], $4::text[]) as item (source, kind, target)
         on conflict do nothing",
        taxonomy_id,
        &froms,
        &kinds,
        &tos
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Stores descriptions of concepts of a taxonomy, which are stored already.
///
/// # Errors
/// If a statement fails.
pub(crate) async fn describe(
    connection: &mut PgConnection,
    taxonomy_id: i32,
    descriptions: &[Description],
) -> sqlx::Result<()> {
    for chunk in descriptions.chunks(CHUNK) {
        let uris: Vec<String> = chunk.iter().map(|one| one.uri.clone()).collect();
        let languages: Vec<String> = chunk.iter().map(|one| one.language.clone()).collect();
        let texts: Vec<String> = chunk.iter().map(|one| one.text.clone()).collect();
        sqlx::query!(
            "insert into concept_description (taxonomy_id, uri, language, description)
             select $1, uri, language, description
             from unnest($2::text[], $3::text[], $4::text[]) as item (uri, language, description)",
            taxonomy_id,
            &uris,
            &languages,
            &texts
        )
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// Makes a taxonomy the one that extraction links to; false when it does not exist.
///
/// # Errors
/// If a statement fails.
pub(crate) async fn activate(connection: &mut PgConnection, name: &str, version: &str) -> sqlx::Result<bool> {
    let found = sqlx::query_scalar!(
        "select taxonomy_id from taxonomy where name = $1 and version = $2",
        name,
        version
    )
    .fetch_optional(&mut *connection)
    .await?;
    let Some(taxonomy_id) = found else { return Ok(false) };
    // The other one first: a unique index allows one active taxonomy at any time.
    sqlx::query!("update taxonomy set active = false where active and taxonomy_id <> $1", taxonomy_id)
        .execute(&mut *connection)
        .await?;
    sqlx::query!("update taxonomy set active = true where taxonomy_id = $1", taxonomy_id)
        .execute(connection)
        .await?;
    Ok(true)
}

/// Every stored taxonomy.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn list(connection: &mut PgConnection) -> sqlx::Result<Vec<TaxonomySummary>> {
    // Subqueries, since joins of all of these would multiply their rows.
    sqlx::query_as!(
        TaxonomySummary,
        r#"select t.taxonomy_id, t.name, t.version, t.active,
               (select count(*) from concept c where c.taxonomy_id = t.taxonomy_id and c.kind = 'skill')
                   as "skills!",
               (select count(*) from concept c where c.taxonomy_id = t.taxonomy_id and c.kind = 'occupation')
                   as "occupations!",
               (select count(*) from concept c where c.taxonomy_id = t.taxonomy_id and c.kind = 'group')
                   as "groups!",
               (select count(*) from concept_label l where l.taxonomy_id = t.taxonomy_id) as "labels!",
               (select count(*) from concept_relation r where r.taxonomy_id = t.taxonomy_id) as "relations!",
               (select m.name from taxonomy_vectors v join embedding_model m using (model_id)
                where v.taxonomy_id = t.taxonomy_id order by v.embedded_at desc, m.model_id desc limit 1) as vectors
           from taxonomy t order by t.name, t.version"#
    )
    .fetch_all(connection)
    .await
}

/// Key, name and version of the active taxonomy.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn active(connection: &mut PgConnection) -> sqlx::Result<Option<(i32, String, String)>> {
    let row = sqlx::query!("select taxonomy_id, name, version from taxonomy where active")
        .fetch_optional(connection)
        .await?;
    Ok(row.map(|row| (row.taxonomy_id, row.name, row.version)))
}

/// Every concept of a taxonomy in the order of the URIs.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn concepts(connection: &mut PgConnection, taxonomy_id: i32) -> sqlx::Result<Vec<Concept>> {
    read_concepts(connection, taxonomy_id, None).await
}

/// One concept of a taxonomy.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn concept(
    connection: &mut PgConnection,
    taxonomy_id: i32,
    uri: &str,
) -> sqlx::Result<Option<Concept>> {
    Ok(read_concepts(connection, taxonomy_id, Some(&[uri.to_owned()])).await?.pop())
}

/// Descriptions of a concept in the order of their languages.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn descriptions(
    connection: &mut PgConnection,
    taxonomy_id: i32,
    uri: &str,
) -> sqlx::Result<Vec<Description>> {
    sqlx::query_as!(
        Description,
        r#"select uri, language, description as "text" from concept_description
           where taxonomy_id = $1 and uri = $2 order by language"#,
        taxonomy_id,
        uri
    )
    .fetch_all(connection)
    .await
}

async fn read_concepts(
    connection: &mut PgConnection,
    taxonomy_id: i32,
    uris: Option<&[String]>,
) -> sqlx::Result<Vec<Concept>> {
    // Looked up concept by concept: of a taxonomy that was stored a moment ago the planner expects
    // one row, and would read all of its labels for each concept.
    //
    // Ordered by bytes: by a locale's order, the same taxonomy would be indexed in another order
    // elsewhere.
    let rows = sqlx::query!(
        r#"select c.uri, c.kind, c.class, l.language as "language?", l.label as "label?",
               l.preferred as "preferred?"
           from concept c
           left join lateral (select * from concept_label l
               where l.taxonomy_id = c.taxonomy_id and l.uri = c.uri offset 0) l on true
           where c.taxonomy_id = $1 and ($2::text[] is null or c.uri = any($2))
           order by c.uri collate "C", l.preferred desc, l.language, l.label collate "C""#,
        taxonomy_id,
        uris
    )
    .fetch_all(connection)
    .await?;
    let mut concepts: Vec<Concept> = Vec::new();
    for row in rows {
        if concepts.last().is_none_or(|last| last.uri != row.uri) {
            // The check on the column allows no other kind.
            let kind = ConceptKind::of(&row.kind).unwrap_or(ConceptKind::Skill);
            concepts.push(Concept { uri: row.uri, kind, class: row.class, labels: Vec::new() });
        }
        if let (Some(language), Some(text), Some(preferred)) = (row.language, row.label, row.preferred)
            && let Some(concept) = concepts.last_mut()
        {
            concept.labels.push(Label { language, text, preferred });
        }
    }
    Ok(concepts)
}

/// Relations from and to one concept.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn relations_of(
    connection: &mut PgConnection,
    taxonomy_id: i32,
    uri: &str,
) -> sqlx::Result<Vec<Relation>> {
    sqlx::query_as!(
        Relation,
        r#"select from_uri as "from!", kind, to_uri as "to!" from concept_relation
           where taxonomy_id = $1 and (from_uri = $2 or to_uri = $2)
           order by from_uri collate "C", kind, to_uri collate "C""#,
        taxonomy_id,
        uri
    )
    .fetch_all(connection)
    .await
}

/// Languages of a taxonomy's labels.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn languages(connection: &mut PgConnection, taxonomy_id: i32) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        "select distinct language from concept_label where taxonomy_id = $1 order by 1",
        taxonomy_id
    )
    .fetch_all(connection)
    .await
}
