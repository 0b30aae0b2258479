//! Stored postings under changed patterns: read in order, rewritten, and joined when they became
//! one text.

use sqlx::PgConnection;
use uuid::Uuid;

use crate::domain::posting::Posting;

/// The part of a sighting that can hold personal data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Identity of the sighting.
    pub sighting_id: i64,
    /// Its posting.
    pub job_id: Uuid,
    /// The portal's id of it.
    pub external_id: String,
    /// Its address.
    pub url: String,
}

/// The postings behind `after` in order of their ids, locked until the transaction ends.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn page(
    connection: &mut PgConnection,
    after: Option<Uuid>,
    size: i64,
) -> sqlx::Result<Vec<Posting>> {
    // Locked, so that no stage finishes a posting whose text is about to change.
    sqlx::query_as!(
        Posting,
        r#"select r.job_id, r.portal, r.country, r.url, r.title, r.company, r.location, r.description,
               r.requirements, r.salary_raw, r.contract_type, r.remote_type, r.posted_date, r.scraped_at,
               r.content_hash
           from posting p join raw_jobs r on r.country = p.country and r.job_id = p.job_id
           where $1::uuid is null or p.job_id > $1
           order by p.job_id limit $2 for update of p"#,
        after,
        size
    )
    .fetch_all(connection)
    .await
}

/// The sightings of these postings.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn sightings(connection: &mut PgConnection, job_ids: &[Uuid]) -> sqlx::Result<Vec<Seen>> {
    sqlx::query_as!(
        Seen,
        "select sighting_id, job_id, external_id, url from sighting where job_id = any ($1) order by sighting_id",
        job_ids
    )
    .fetch_all(connection)
    .await
}

/// Another posting with this text.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn same_text(
    connection: &mut PgConnection,
    job_id: Uuid,
    content_hash: &str,
) -> sqlx::Result<Option<Uuid>> {
    // Locked like the page: one of the two is about to be joined into the other.
    sqlx::query_scalar!(
        "select job_id from posting where content_hash = $1 and job_id <> $2 for update",
        content_hash,
        job_id
    )
    .fetch_optional(connection)
    .await
}

/// Writes a posting's fields and hash again. Where the texts that mentions point into changed, what
/// was made of them goes, and the next run makes it again.
///
/// # Errors
/// If a statement fails.
pub(crate) async fn rewrite(
    connection: &mut PgConnection,
    posting: &Posting,
    texts_changed: bool,
) -> sqlx::Result<()> {
    let job_id = posting.job_id;
    sqlx::query!(
        "update raw_jobs set url = $3, title = $4, company = $5, location = $6, description = $7,
             requirements = $8, salary_raw = $9, contract_type = $10, remote_type = $11, content_hash = $12,
             is_processed = is_processed and not $13
         where country = $1 and job_id = $2",
        posting.country,
        job_id,
        posting.url,
        posting.title,
        posting.company,
        posting.location,
        posting.description,
        posting.requirements,
        posting.salary_raw,
        posting.contract_type,
        posting.remote_type,
        posting.content_hash,
        texts_changed
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!("update posting set content_hash = $2 where job_id = $1", job_id, posting.content_hash)
        .execute(&mut *connection)
        .await?;
    if texts_changed {
        // Before the mentions: the database would set their places in these rows to null first.
        sqlx::query!("delete from enhanced_skills where job_id = $1", job_id)
            .execute(&mut *connection)
            .await?;
        sqlx::query!("delete from extracted_skills where job_id = $1", job_id)
            .execute(&mut *connection)
            .await?;
        sqlx::query!("delete from posting_occupation where job_id = $1", job_id)
            .execute(&mut *connection)
            .await?;
        // What was judged holds on for the wording; where it was seen, and as what, is of the old
        // text.
        sqlx::query!(
            "update verdict set shown = shown - 'wording', job_id = null, field = null, span_start = null,
                 span_end = null where job_id = $1",
            job_id
        )
        .execute(&mut *connection)
        .await?;
        // Without a version on record, the next run takes the posting up again.
        sqlx::query!("delete from posting_stage where job_id = $1", job_id).execute(&mut *connection).await?;
    }
    Ok(())
}

/// Joins a posting into an older one of the same text: its sightings with their visits and the
/// versions after it move, and it goes with all that was made of it.
///
/// # Errors
/// If a statement fails.
pub(crate) async fn join(
    connection: &mut PgConnection,
    vanishing: Uuid,
    surviving: Uuid,
) -> sqlx::Result<()> {
    // Every part of a statement sees the rows as they were before it, so the visits can be read
    // although the sightings go.
    sqlx::query!(
        "with kept as (
             select s.portal, s.country, s.external_id, v.visit_id from sighting s
             join sighting_visit v using (sighting_id) where s.job_id = $1),
         moved as (delete from sighting where job_id = $1 returning *),
         placed as (insert into sighting (portal, external_id, country, url, job_id, posted_date, first_seen, last_seen,
             first_collected, last_collected, times_seen)
         select portal, external_id, country, url, $2, posted_date, first_seen, last_seen,
             first_collected, last_collected, times_seen
         from moved order by sighting_id
         on conflict (portal, country, external_id, job_id) do update
         set first_seen = least(sighting.first_seen, excluded.first_seen),
             last_seen = greatest(sighting.last_seen, excluded.last_seen),
             first_collected = least(sighting.first_collected, excluded.first_collected),
             last_collected = greatest(sighting.last_collected, excluded.last_collected),
             times_seen = sighting.times_seen + excluded.times_seen
         returning sighting_id, portal, country, external_id)
         insert into sighting_visit (sighting_id, visit_id)
         select placed.sighting_id, kept.visit_id from placed join kept using (portal, country, external_id)
         on conflict do nothing",
        vanishing,
        surviving
    )
    .execute(&mut *connection)
    .await?;
    // The survivor is the older one, so that what replaced the other is younger than it too: no
    // ring arises.
    sqlx::query!(
        "update posting set previous_job_id = nullif($2, job_id) where previous_job_id = $1",
        vanishing,
        surviving
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "with gone as (delete from posting where job_id = $1 returning first_seen, last_seen)
         update posting set first_seen = least(posting.first_seen, gone.first_seen),
             last_seen = greatest(posting.last_seen, gone.last_seen)
         from gone where posting.job_id = $2",
        vanishing,
        surviving
    )
    .execute(&mut *connection)
    .await?;
    Ok(())
}

/// Writes a sighting's address and identifier again; one that becomes like another of its posting
/// joins that.
///
/// # Errors
/// If a statement fails.
pub(crate) async fn rewrite_sighting(connection: &mut PgConnection, seen: &Seen) -> sqlx::Result<()> {
    // Tried before the update, which would break the unique key.
    let joined = sqlx::query!(
        "with same as (
             select other.sighting_id, mine.first_seen, mine.last_seen, mine.first_collected,
                 mine.last_collected, mine.times_seen
             from sighting mine join sighting other on other.portal = mine.portal
                 and other.country = mine.country and other.job_id = mine.job_id
                 and other.external_id = $2 and other.sighting_id <> mine.sighting_id
             where mine.sighting_id = $1)
         update sighting set first_seen = least(sighting.first_seen, same.first_seen),
             last_seen = greatest(sighting.last_seen, same.last_seen),
             first_collected = least(sighting.first_collected, same.first_collected),
             last_collected = greatest(sighting.last_collected, same.last_collected),
             times_seen = sighting.times_seen + same.times_seen
         from same where sighting.sighting_id = same.sighting_id",
        seen.sighting_id,
        seen.external_id
    )
    .execute(&mut *connection)
    .await?;
    if joined.rows_affected() > 0 {
        sqlx::query!("delete from sighting where sighting_id = $1", seen.sighting_id)
            .execute(connection)
            .await?;
        return Ok(());
    }
    sqlx::query!(
        "update sighting set external_id = $2, url = $3 where sighting_id = $1",
        seen.sighting_id,
        seen.external_id,
        seen.url
    )
    .execute(connection)
    .await?;
    Ok(())
}
