//! The figures of a report, over the postings that a run covers.
//!
//! Figures of postings take the scope as their parameter, so that none is about more than the
//! report says.

use chrono::{DateTime, NaiveDate, Utc};
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use super::runs::Scope;

/// Amounts and days of the material.
#[derive(Debug, Clone)]
pub struct Extent {
    /// Distinct texts.
    pub postings: i64,
    /// Places where they were seen.
    pub sightings: i64,
    /// First day of publication.
    pub published_from: Option<NaiveDate>,
    /// Last day of publication.
    pub published_to: Option<NaiveDate>,
    /// First time of collection that is known.
    pub collected_from: Option<DateTime<Utc>>,
    /// Last time of collection that is known.
    pub collected_to: Option<DateTime<Utc>>,
    /// Postings without a day of publication.
    pub undated: i64,
    /// Postings that name no skill.
    pub without_skills: i64,
    /// Postings that a stage set aside.
    pub quarantined: i64,
}

/// Size and time of the postings in scope.
///
/// # Errors
/// If the statement fails.
pub async fn extent(connection: &mut PgConnection, scope: &Scope) -> sqlx::Result<Extent> {
    // Scalar subqueries: each figure counts other rows, which a join would multiply.
    sqlx::query_as!(
        Extent,
        r#"with seen as (select * from covered_sightings($1, $2, $3, $4)),
           covered as (select job_id, max(posted_date) as posted from seen group by job_id)
           select (select count(*) from covered) as "postings!",
               (select count(*) from seen) as "sightings!",
               (select min(posted_date) from seen) as published_from,
               (select max(posted_date) from seen) as published_to,
               (select min(first_collected) from seen) as collected_from,
               (select max(last_collected) from seen) as collected_to,
               (select count(*) from covered where posted is null) as "undated!",
               (select count(*) from covered c where not exists (select from enhanced_skills e
                   where e.job_id = c.job_id and not e.is_duplicate and e.skill_type = 'explicit'))
                   as "without_skills!",
               (select count(distinct q.job_id) from quarantine q join covered using (job_id))
                   as "quarantined!""#,
        &scope.portals,
        &scope.countries,
        scope.since,
        scope.limit
    )
    .fetch_one(connection)
    .await
}

/// A place of sightings.
#[derive(Debug, Clone)]
pub(crate) struct PlaceCount {
    /// Portal.
    pub portal: String,
    /// Country code.
    pub country: String,
    /// Sightings.
    pub sightings: i64,
}

/// Sightings by portal and country, most first.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn places(connection: &mut PgConnection, scope: &Scope) -> sqlx::Result<Vec<PlaceCount>> {
    sqlx::query_as!(
        PlaceCount,
        r#"select s.portal as "portal!", s.country as "country!", count(*) as "sightings!"
           from covered_sightings($1, $2, $3, $4) s
           group by s.portal, s.country order by 3 desc, 1, 2"#,
        &scope.portals,
        &scope.countries,
        scope.since,
        scope.limit
    )
    .fetch_all(connection)
    .await
}

/// Distinct postings of a country.
#[derive(Debug, Clone)]
pub(crate) struct CountryTotal {
    /// Country code.
    pub code: String,
    /// Country name.
    pub name: String,
    /// Distinct postings.
    pub postings: i64,
}

/// Postings by country, most first; one seen in two countries counts in both.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn countries(
    connection: &mut PgConnection,
    scope: &Scope,
) -> sqlx::Result<Vec<CountryTotal>> {
    sqlx::query_as!(
        CountryTotal,
        r#"select c.code, c.name, count(distinct s.job_id) as "postings!"
           from covered_sightings($1, $2, $3, $4) s join country c on c.code = s.country
           group by c.code order by 3 desc, 1"#,
        &scope.portals,
        &scope.countries,
        scope.since,
        scope.limit
    )
    .fetch_all(connection)
    .await
}

/// A skill with its figures.
#[derive(Debug, Clone)]
pub(crate) struct SkillFigures {
    /// Normalised label.
    pub label: String,
    /// `hard` or `soft`.
    pub kind: String,
    /// Category.
    pub category: String,
    /// Taxonomy concept.
    pub uri: Option<String>,
    /// Its preferred label.
    pub preferred_label: Option<String>,
    /// Postings that name it.
    pub job_count: i64,
    /// Further postings that only imply it.
    pub implicit_count: i64,
    /// Country code to postings that name it.
    pub countries: Value,
}

/// Every skill asked for, the one that most postings name first.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn skills(connection: &mut PgConnection, scope: &Scope) -> sqlx::Result<Vec<SkillFigures>> {
    // `asked` folds the rows of a posting first: one that both names and implies a skill only names
    // it.
    sqlx::query_as!(
        SkillFigures,
        r#"with seen as (
               select distinct s.job_id, s.country from covered_sightings($1, $2, $3, $4) s),
           asked as (
               select e.skill_id, e.job_id, bool_or(e.skill_type = 'explicit') as named,
                   min(e.esco_concept_uri) as uri, min(e.esco_preferred_label) as preferred
               from enhanced_skills e
               where not e.is_duplicate and exists (select from seen where seen.job_id = e.job_id)
               group by e.skill_id, e.job_id),
           placed as (
               select a.skill_id, jsonb_object_agg(a.country, a.jobs) as countries
               from (select a.skill_id, s.country, count(*) as jobs from asked a join seen s using (job_id)
                   where a.named group by a.skill_id, s.country) a
               group by a.skill_id)
           select k.label, k.kind, k.category, min(a.uri) as uri, min(a.preferred) as preferred_label,
               count(*) filter (where a.named) as "job_count!",
               count(*) filter (where not a.named) as "implicit_count!",
               coalesce(p.countries, '{}') as "countries!"
           from asked a join skill k using (skill_id) left join placed p using (skill_id)
           group by k.skill_id, p.countries order by 6 desc, 7 desc, 1"#,
        &scope.portals,
        &scope.countries,
        scope.since,
        scope.limit
    )
    .fetch_all(connection)
    .await
}

/// Sums over the rows of `enhanced_skills`.
#[derive(Debug, Clone)]
pub(crate) struct Mentions {
    /// Postings that name at least one skill.
    pub postings_with_skills: i64,
    /// Postings that name at least one technology or program the lexicon knows.
    pub postings_with_digital: i64,
    /// Named skills.
    pub explicit: i64,
    /// Inferred skills.
    pub implicit: i64,
    /// Skills with a concept.
    pub with_uri: i64,
}

/// Sums of named, inferred and linked skills after deduplication.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn mentions(connection: &mut PgConnection, scope: &Scope) -> sqlx::Result<Mentions> {
    sqlx::query_as!(
        Mentions,
        r#"select count(distinct e.job_id) filter (where e.skill_type = 'explicit') as "postings_with_skills!",
               count(distinct e.job_id) filter (where e.skill_type = 'explicit'
                   and e.category in ('technology', 'tool') and x.extraction_method <> 'pattern')
                   as "postings_with_digital!",
               count(*) filter (where e.skill_type = 'explicit') as "explicit!",
               count(*) filter (where e.skill_type = 'implicit') as "implicit!",
               count(e.esco_concept_uri) as "with_uri!"
           from enhanced_skills e left join extracted_skills x on x.extraction_id = e.extraction_id
           where not e.is_duplicate and e.job_id in (
               select s.job_id from covered_sightings($1, $2, $3, $4) s)"#,
        &scope.portals,
        &scope.countries,
        scope.since,
        scope.limit
    )
    .fetch_one(connection)
    .await
}

/// Skills and postings of a category.
#[derive(Debug, Clone)]
pub(crate) struct CategoryFigures {
    /// Category.
    pub category: String,
    /// Distinct skills that are named.
    pub skills: i64,
    /// Postings that name at least one of them.
    pub job_count: i64,
}

/// Categories by number of postings.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn categories(
    connection: &mut PgConnection,
    scope: &Scope,
) -> sqlx::Result<Vec<CategoryFigures>> {
    sqlx::query_as!(
        CategoryFigures,
        r#"select k.category, count(distinct k.skill_id) as "skills!", count(distinct e.job_id) as "job_count!"
           from enhanced_skills e join skill k using (skill_id)
           where not e.is_duplicate and e.skill_type = 'explicit'
               and e.job_id in (select s.job_id from covered_sightings($1, $2, $3, $4) s)
           group by k.category order by 3 desc, 1"#,
        &scope.portals,
        &scope.countries,
        scope.since,
        scope.limit
    )
    .fetch_all(connection)
    .await
}

/// Postings in scope that name at least one skill of a cluster, by cluster.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn cluster_postings(
    connection: &mut PgConnection,
    scope: &Scope,
    analysis_id: Uuid,
) -> sqlx::Result<Vec<(i32, i64)>> {
    // Distinct, since a posting may name several skills of a cluster.
    let rows = sqlx::query!(
        r#"select p.cluster_id as "cluster_id!", count(distinct e.job_id) as "postings!"
           from skill_point p join enhanced_skills e using (skill_id)
           where p.analysis_id = $5 and p.cluster_id is not null
               and not e.is_duplicate and e.skill_type = 'explicit'
               and e.job_id in (select s.job_id from covered_sightings($1, $2, $3, $4) s)
           group by p.cluster_id"#,
        &scope.portals,
        &scope.countries,
        scope.since,
        scope.limit,
        analysis_id
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (row.cluster_id, row.postings)).collect())
}

/// A mention with the text it stands in.
#[derive(Debug, Clone)]
pub(crate) struct Evidence {
    /// Skill.
    pub label: String,
    /// Posting.
    pub job_id: Uuid,
    /// Portal of the posting's first sighting in scope.
    pub portal: String,
    /// Country of that sighting.
    pub country: String,
    /// Address of that sighting.
    pub url: String,
    /// Day of publication.
    pub posted_date: Option<NaiveDate>,
    /// Field of the posting.
    pub field: String,
    /// First code point of the span.
    pub start: i32,
    /// One past the last.
    pub end: i32,
    /// Methods joined by `+`.
    pub method: String,
    /// Confidence.
    pub confidence: f64,
    /// The whole field.
    pub text: String,
}

/// Up to `each` mentions of each of the skills, the surest first, one of a posting.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn evidence(
    connection: &mut PgConnection,
    scope: &Scope,
    labels: &[String],
    each: i64,
) -> sqlx::Result<Vec<Evidence>> {
    // Ordered down to unique columns, so that a report made again shows the same quotations.
    sqlx::query_as!(
        Evidence,
        r#"with seen as (select * from covered_sightings($1, $2, $3, $4))
           select label as "label!", job_id as "job_id!", portal as "portal!", country as "country!",
               url as "url!", posted_date, field as "field!", first as "start!", past as "end!",
               method as "method!", confidence as "confidence!", text as "text!"
           from (
               select m.*, row_number() over (partition by label order by confidence desc, job_id) as place
               from (
                   select distinct on (e.normalized_skill, e.job_id) e.normalized_skill as label, e.job_id,
                       s.portal, s.country, s.url, s.posted_date, x.source_field as field,
                       x.span_start as first, x.span_end as past, x.extraction_method as method,
                       x.confidence_score as confidence,
                       case x.source_field when 'title' then r.title when 'description' then r.description
                           else r.requirements end as text
                   from enhanced_skills e
                   join extracted_skills x on x.extraction_id = e.extraction_id
                   join posting p on p.job_id = e.job_id
                   join raw_jobs r on r.country = p.country and r.job_id = p.job_id
                   join seen s on s.job_id = e.job_id
                   where e.normalized_skill = any ($5) and e.skill_type = 'explicit' and not e.is_duplicate
                   order by e.normalized_skill, e.job_id, x.confidence_score desc, x.source_field, x.span_start,
                       s.sighting_id
               ) m
           ) ranked
           where place <= $6 order by label, place"#,
        &scope.portals,
        &scope.countries,
        scope.since,
        scope.limit,
        labels,
        each
    )
    .fetch_all(connection)
    .await
}

/// Pieces of personal data removed so far, by kind.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn removed(connection: &mut PgConnection) -> sqlx::Result<Vec<(String, i64)>> {
    // PostgreSQL sums `bigint` to `numeric`, hence the cast.
    let rows = sqlx::query!(
        r#"select kind, sum(pieces)::bigint as "pieces!" from privacy_count group by kind order by 2 desc, 1"#
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (row.kind, row.pieces)).collect())
}

/// Items refused on the way in so far, by the field at fault.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn refused(connection: &mut PgConnection) -> sqlx::Result<Vec<(String, i64)>> {
    let rows = sqlx::query!(
        r#"select field, sum(count)::bigint as "count!" from refused_item group by field order by 2 desc, 1"#
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (row.field, row.count)).collect())
}
