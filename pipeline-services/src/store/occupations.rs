//! Occupations of postings.
//!
//! A posting has one at most. It is replaced with the mentions of the posting, in the same
//! transaction, and goes with the posting.

use chrono::NaiveDate;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    runs::Scope,
    skills::{Finished, rounded},
};
use crate::domain::taxonomy::Occupation;

/// Replaces the occupation of a posting; `taxonomy` is the NAME@VERSION it was found with.
///
/// # Errors
/// If a statement fails.
pub async fn replace(
    connection: &mut PgConnection,
    finished: &Finished<'_>,
    occupation: Option<&Occupation>,
    taxonomy: Option<&str>,
) -> sqlx::Result<()> {
    sqlx::query!("delete from posting_occupation where job_id = $1", finished.job_id)
        .execute(&mut *connection)
        .await?;
    let Some(occupation) = occupation else { return Ok(()) };
    sqlx::query!(
        "insert into posting_occupation (job_id, uri, label, score, isco, cuoc, cuoc_label, taxonomy, version)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        finished.job_id,
        occupation.uri,
        occupation.label,
        rounded(occupation.score),
        occupation.isco,
        occupation.cuoc,
        occupation.cuoc_label,
        taxonomy,
        finished.version
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// An occupation with its postings.
#[derive(Debug, Clone)]
pub(crate) struct OccupationFigures {
    /// Concept; none where only a CUOC code is known.
    pub uri: Option<String>,
    /// The label that most of its postings have: each has that of its language.
    pub label: String,
    /// Unit group of ISCO-08 that most of its postings have.
    pub isco: Option<String>,
    /// CUOC code that most of its postings have.
    pub cuoc: Option<String>,
    /// Postings.
    pub job_count: i64,
}

/// Every occupation in scope, the one of most postings first.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn figures(
    connection: &mut PgConnection,
    scope: &Scope,
) -> sqlx::Result<Vec<OccupationFigures>> {
    // Without a concept the CUOC code tells occupations apart.
    sqlx::query_as!(
        OccupationFigures,
        r#"select o.uri, mode() within group (order by o.label) as "label!",
               mode() within group (order by o.isco) as isco, mode() within group (order by o.cuoc) as cuoc,
               count(*) as "job_count!"
           from posting_occupation o
           where o.job_id in (select s.job_id from covered_sightings($1, $2, $3, $4) s)
           group by o.uri, case when o.uri is null then o.cuoc end
           order by 5 desc, 2, 1"#,
        &scope.portals,
        &scope.countries,
        scope.since,
        scope.limit
    )
    .fetch_all(connection)
    .await
}

/// Postings in scope without an occupation.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn without(connection: &mut PgConnection, scope: &Scope) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"select count(distinct s.job_id) as "count!" from covered_sightings($1, $2, $3, $4) s
           where not exists (select from posting_occupation o where o.job_id = s.job_id)"#,
        &scope.portals,
        &scope.countries,
        scope.since,
        scope.limit
    )
    .fetch_one(connection)
    .await
}

/// A posting with the title that its occupation was read from.
#[derive(Debug, Clone)]
pub(crate) struct Titled {
    /// Place of the occupation among those asked for, from 1.
    pub place: i64,
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
    /// Title.
    pub title: String,
    /// Score of the occupation, 0..1.
    pub score: f64,
}

/// Up to `each` postings of each of the occupations, the surest first.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn titles(
    connection: &mut PgConnection,
    scope: &Scope,
    occupations: &[OccupationFigures],
    each: i64,
) -> sqlx::Result<Vec<Titled>> {
    let uris: Vec<Option<String>> = occupations.iter().map(|row| row.uri.clone()).collect();
    let codes: Vec<Option<String>> = occupations.iter().map(|row| row.cuoc.clone()).collect();
    // Ordered down to unique columns, so that a report made again shows the same titles.
    sqlx::query_as!(
        Titled,
        r#"with seen as (
               select distinct on (s.job_id) s.job_id, s.portal, s.country, s.url,
                   s.posted_date
               from covered_sightings($1, $2, $3, $4) s order by s.job_id, s.sighting_id)
           select place as "place!", job_id as "job_id!", portal as "portal!", country as "country!",
               url as "url!", posted_date, title as "title!", score as "score!"
           from (
               select asked.place, s.job_id, s.portal, s.country, s.url, s.posted_date, r.title, o.score,
                   row_number() over (partition by asked.place order by o.score desc, s.job_id) as rank
               from unnest($5::text[], $6::text[]) with ordinality as asked (uri, cuoc, place)
               join posting_occupation o
                   on o.uri = asked.uri or (o.uri is null and asked.uri is null and o.cuoc = asked.cuoc)
               join seen s on s.job_id = o.job_id
               join posting p on p.job_id = o.job_id
               join raw_jobs r on r.country = p.country and r.job_id = p.job_id
           ) ranked
           where rank <= $7 order by place, rank"#,
        &scope.portals,
        &scope.countries,
        scope.since,
        scope.limit,
        &uris as &[Option<String>],
        &codes as &[Option<String>],
        each
    )
    .fetch_all(connection)
    .await
}
