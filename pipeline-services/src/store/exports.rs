//! Whole rows as JSON objects, page by page. A page is found by its key and holds the rows of a
//! fixed number of postings, so that what it costs does not depend on the size of the store;
//! `offset 0` keeps the planner from reading a whole table for each page where its statistics are
//! old.

use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

/// Which rows.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Filter<'a> {
    /// Portal of a sighting.
    pub portal: Option<&'a str>,
    /// Country of a sighting.
    pub country: Option<&'a str>,
}

/// Rows in order, and where the next page begins; none after the last one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rows<K> {
    /// Column names and values.
    pub objects: Vec<Value>,
    /// Key of the last row of this page.
    pub next: Option<K>,
}

/// A row and its key.
struct Keyed<K> {
    key: K,
    object: Value,
}

// `query_as!` writes a struct literal of this name, in which generic arguments cannot stand.
type OfPosting = Keyed<Uuid>;
type OfSkill = Keyed<i64>;

impl<K: Copy> From<Vec<Keyed<K>>> for Rows<K> {
    fn from(rows: Vec<Keyed<K>>) -> Self {
        // Of a page that is not full as well: only an empty one ends the listing.
        let next = rows.last().map(|row| row.key);
        Self { objects: rows.into_iter().map(|row| row.object).collect(), next }
    }
}

/// Rows of `raw_jobs` without `raw_html`, with their occupations, after this posting.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn postings(
    connection: &mut PgConnection,
    filter: Filter<'_>,
    after: Uuid,
) -> sqlx::Result<Rows<Uuid>> {
    // Materialised, so that the page is cut before any text is read.
    let rows = sqlx::query_as!(
        OfPosting,
        r#"with page as materialized (
               select p.job_id, p.country from posting p
               where p.job_id > $3 and (($1::text is null and $2::text is null) or exists (
                   select from sighting s where s.job_id = p.job_id
                     and ($1 is null or s.portal = $1) and ($2 is null or s.country = $2) offset 0))
               order by p.job_id limit 200)
           select page.job_id as "key!", to_jsonb(r) - 'raw_html' || jsonb_build_object(
               'occupation_uri', o.uri, 'occupation_label', o.label, 'occupation_isco', o.isco,
               'occupation_cuoc', o.cuoc, 'occupation_cuoc_label', o.cuoc_label,
               'occupation_score', o.score) as "object!"
           from page cross join lateral (select * from raw_jobs r
               where r.country = page.country and r.job_id = page.job_id offset 0) r
           left join lateral (select * from posting_occupation o
               where o.job_id = page.job_id offset 0) o on true
           order by page.job_id"#,
        filter.portal,
        filter.country,
        after
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into())
}

/// The postings after this one, as many as a page of their skills has.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn page(
    connection: &mut PgConnection,
    filter: Filter<'_>,
    after: Uuid,
) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!(
        r#"select p.job_id from posting p
           where p.job_id > $3 and (($1::text is null and $2::text is null) or exists (
               select from sighting s where s.job_id = p.job_id
                 and ($1 is null or s.portal = $1) and ($2 is null or s.country = $2) offset 0))
           order by p.job_id limit 100"#,
        filter.portal,
        filter.country,
        after
    )
    .fetch_all(connection)
    .await
}

/// A row of `enhanced_skills` and the mention it stands for.
#[derive(Debug, Clone)]
pub(crate) struct Skill {
    pub enhancement_id: Uuid,
    pub job_id: Uuid,
    pub original_skill_text: Option<String>,
    pub normalized_skill: String,
    pub skill_type: String,
    pub kind: String,
    pub category: String,
    pub esco_concept_uri: Option<String>,
    pub esco_preferred_label: Option<String>,
    pub llm_confidence: f64,
    pub llm_reasoning: Option<String>,
    pub is_duplicate: bool,
    pub duplicate_of_id: Option<Uuid>,
    pub llm_model: String,
    pub source_field: Option<String>,
    pub source_section: Option<String>,
    pub span_start: Option<i32>,
    pub span_end: Option<i32>,
    pub extraction_method: Option<String>,
    pub confidence_score: Option<f64>,
    pub place: Option<String>,
    pub cited_field: Option<String>,
    pub cited_start: Option<i32>,
    pub cited_end: Option<i32>,
}

/// The skills of these postings, in the order of the postings.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn skills(connection: &mut PgConnection, job_ids: &[Uuid]) -> sqlx::Result<Vec<Skill>> {
    sqlx::query_as!(
        Skill,
        r#"select e.enhancement_id, e.job_id, e.original_skill_text, e.normalized_skill, e.skill_type, e.kind,
               e.category, e.esco_concept_uri, e.esco_preferred_label, e.llm_confidence, e.llm_reasoning,
               e.is_duplicate, e.duplicate_of_id, e.llm_model, x.source_field as "source_field?",
               x.source_section as "source_section?", x.span_start as "span_start?", x.span_end as "span_end?",
               x.extraction_method as "extraction_method?", x.confidence_score as "confidence_score?",
               x.place as "place?", e.cited_field, e.cited_start, e.cited_end
           from unnest($1::uuid[]) with ordinality as page (job_id, place)
           cross join lateral (select * from enhanced_skills e where e.job_id = page.job_id offset 0) e
           left join lateral (select * from extracted_skills x
               where x.extraction_id = e.extraction_id offset 0) x on true
           order by page.place, e.is_duplicate, e.skill_type, e.normalized_skill, x.source_field desc,
               x.span_start, e.enhancement_id"#,
        job_ids
    )
    .fetch_all(connection)
    .await
}

/// Members of the latest clustering after this skill; portal and country do not apply to them.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn clusters(connection: &mut PgConnection, after: i64) -> sqlx::Result<Rows<i64>> {
    let rows = sqlx::query_as!(
        OfSkill,
        r#"with page as materialized (
               select k.* from skill_point k
               where k.analysis_id = (select analysis_id from analysis_results
                       where analysis_type = 'clustering' order by created_at desc limit 1)
                 and k.skill_id > $1
               order by k.skill_id limit 1000)
           select k.skill_id as "key!", jsonb_build_object('analysis_id', k.analysis_id,
               'cluster_id', k.cluster_id, 'cluster_label', c.label, 'skill', s.label, 'x', k.x, 'y', k.y,
               'job_count', k.job_count) as "object!"
           from page k join skill s on s.skill_id = k.skill_id
           left join skill_cluster c on c.analysis_id = k.analysis_id and c.cluster_id = k.cluster_id
           order by k.skill_id"#,
        after
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into())
}
