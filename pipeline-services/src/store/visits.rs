//! Visits of portals: when which search was gone through, how far, and what it saw.
//!
//! A visit is one search of one run. Progress can be written again after an interruption: it goes
//! on with the open row, and an advertisement that is met again counts once.

use sqlx::PgConnection;
use uuid::Uuid;

/// Progress of a visit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VisitProgress {
    /// Portal.
    pub portal: String,
    /// Country, ISO 3166-1 alpha-2.
    pub country: String,
    /// Words searched for; empty for the whole listing.
    pub query: String,
    /// Listing pages read since the worker began or took over.
    pub pages: u32,
    /// Reason of its end; none while it goes on.
    pub stop: Option<&'static str>,
}

/// Notes how far a visit of a run is and returns its id: a new one, or that of the same search
/// where it has not ended.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn progress(
    connection: &mut PgConnection,
    run_id: Uuid,
    visit: &VisitProgress,
) -> sqlx::Result<i64> {
    // The row of the portal must be there before the visit refers to it, and in the order of locks
    // that everybody keeps.
    super::postings::reserve(&mut *connection, std::slice::from_ref(&visit.portal), &[]).await?;
    // A worker that took over counts from its own beginning, so the number must not shrink.
    let visit_id = sqlx::query_scalar!(
        "insert into visit (run_id, portal, country, query, pages) values ($1, $2, $3, $4, $5)
         on conflict (run_id, portal, country, query) where ended_at is null do update
         set pages = greatest(visit.pages, excluded.pages), last_at = now()
         returning visit_id",
        run_id,
        visit.portal,
        visit.country,
        visit.query,
        i32::try_from(visit.pages).unwrap_or(i32::MAX)
    )
    .fetch_one(&mut *connection)
    .await?;
    // An ended row is no longer in the index of open ones, so it cannot be inserted as one.
    if let Some(stop) = visit.stop {
        sqlx::query!(
            "update visit set stop_reason = $2, ended_at = now() where visit_id = $1",
            visit_id,
            stop
        )
        .execute(connection)
        .await?;
    }
    Ok(visit_id)
}

/// Adds advertisements to a visit's counts.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn count(
    connection: &mut PgConnection,
    visit_id: i64,
    new: i64,
    folded: i64,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update visit set new = new + $2, folded = folded + $3 where visit_id = $1",
        visit_id,
        new,
        folded
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// New and folded advertisements of a run's visits of a portal in a country.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn stored(
    connection: &mut PgConnection,
    run_id: Uuid,
    portal: &str,
    country: &str,
) -> sqlx::Result<(i64, i64)> {
    let row = sqlx::query!(
        r#"select coalesce(sum(new), 0)::bigint as "new!", coalesce(sum(folded), 0)::bigint as "folded!"
           from visit where run_id = $1 and portal = $2 and country = $3"#,
        run_id,
        portal,
        country
    )
    .fetch_one(connection)
    .await?;
    Ok((row.new, row.folded))
}

/// Records which sightings a visit made, by the portal's id and the posting.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn saw(
    connection: &mut PgConnection,
    visit_id: i64,
    (portal, country): (&str, &str),
    stored: &[(String, Uuid)],
) -> sqlx::Result<()> {
    // Not by the portal's id alone: earlier texts under it have sightings of their own.
    let ids: Vec<String> = stored.iter().map(|(id, _)| id.clone()).collect();
    let postings: Vec<Uuid> = stored.iter().map(|(_, job_id)| *job_id).collect();
    sqlx::query!(
        "insert into sighting_visit (sighting_id, visit_id)
         select s.sighting_id, $1 from unnest($4::text[], $5::uuid[]) as item (external_id, job_id)
         join sighting s on s.portal = $2 and s.country = $3 and s.external_id = item.external_id
             and s.job_id = item.job_id
         on conflict do nothing",
        visit_id,
        portal,
        country,
        &ids,
        &postings
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Records that a visit met advertisements which are stored already; one that the visits of its run
/// met before counts once.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn saw_again(
    connection: &mut PgConnection,
    visit_id: i64,
    (portal, country): (&str, &str),
    external_ids: &[String],
) -> sqlx::Result<()> {
    // Of the sightings of an id the latest is meant: earlier ones are of texts that it replaced.
    // All parts of a statement see the rows from before it, so this visit is not taken for an
    // earlier one.
    sqlx::query!(
        "with met as (
             select distinct on (s.external_id) s.sighting_id, s.job_id from sighting s
             where s.portal = $2 and s.country = $3 and s.external_id = any ($4)
             order by s.external_id, s.sighting_id desc),
         noted as (
             insert into sighting_visit (sighting_id, visit_id) select sighting_id, $1 from met
             on conflict do nothing returning sighting_id),
         seen as (
             update sighting s set last_seen = now(), times_seen = times_seen + 1,
                 first_collected = coalesce(first_collected, now()), last_collected = now()
             from noted where s.sighting_id = noted.sighting_id
               and not exists (select from sighting_visit o join visit v using (visit_id)
                   where o.sighting_id = s.sighting_id
                     and v.run_id = (select run_id from visit where visit_id = $1))
             returning s.job_id)
         update posting set last_seen = now() from seen where posting.job_id = seen.job_id",
        visit_id,
        portal,
        country,
        external_ids
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The portal's ids of what a run's visits of a portal in a country have seen so far.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn seen(
    connection: &mut PgConnection,
    run_id: Uuid,
    portal: &str,
    country: &str,
) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        "select distinct s.external_id from visit v join sighting_visit using (visit_id)
         join sighting s using (sighting_id)
         where v.run_id = $1 and v.portal = $2 and v.country = $3",
        run_id,
        portal,
        country
    )
    .fetch_all(connection)
    .await
}
