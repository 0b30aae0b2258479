//! Postings, their sightings, and what is removed from them on the way in.
//!
//! One distinct text is one row, however often it was seen; storing is safe to repeat and to run in
//! several processes at once. Texts arrive cleaned: nothing here looks for personal data.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, NaiveDate, Utc};
use serde_json::Value;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::Page;
use crate::domain::posting::{NewPosting, Posting};

/// Result of storing an advertisement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// The text is new.
    New(Uuid),
    /// The text was stored before; the sighting was recorded.
    Duplicate(Uuid),
}

/// A cleaned advertisement with its identity.
#[derive(Debug, Clone)]
pub(crate) struct Storable<'a> {
    /// Cleaned advertisement.
    pub posting: &'a NewPosting,
    /// The portal's id of it.
    pub external_id: &'a str,
    /// SHA-256 of the folded text, hexadecimal.
    pub content_hash: &'a str,
    /// Time at which it was seen; that of its import where nobody knows.
    pub seen_at: DateTime<Utc>,
    /// Time of its collection, where that is known.
    pub collected_at: Option<DateTime<Utc>>,
}

/// First key of the advisory locks of [`reserve`], "obse" in ASCII, so that no other program's
/// locks are met; the second is the group of texts.
const INTAKE_LOCK: i32 = 0x6f62_7365;

/// Makes portals known and keeps other batches with texts of these hashes waiting until the
/// transaction ends. Portals and groups of texts are taken in one order by everybody, so that no
/// two batches wait for each other.
///
/// # Errors
/// If a statement fails.
pub(crate) async fn reserve(
    connection: &mut PgConnection,
    portals: &[String],
    hashes: &[&str],
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into portal (name) select name from unnest($1::text[]) as item (name) order by name
         on conflict do nothing",
        portals
    )
    .execute(&mut *connection)
    .await?;
    // Sorted, so that two batches take the locks they share in the same order.
    let groups: Vec<i32> =
        hashes.iter().map(|hash| group(hash)).collect::<BTreeSet<_>>().into_iter().collect();
    sqlx::query!(
        r#"select pg_advisory_xact_lock($1, item) as "locked" from unnest($2::int[]) as item"#,
        INTAKE_LOCK,
        &groups
    )
    .fetch_all(connection)
    .await?;
    Ok(())
}

/// Group of a text, one of 64 by the first digits of its hash: a transaction holds few locks, and
/// batches of few texts seldom meet. Not tuned.
fn group(hash: &str) -> i32 {
    i32::from_str_radix(hash.get(..2).unwrap_or_default(), 16).unwrap_or(0) / 4
}

/// Stores an advertisement of a known portal once, with every sighting of it.
///
/// The same text is one row whatever portal or country shows it; a text that replaces another under
/// the same external id points to the one it replaced. Safe to repeat and to run at the same time
/// elsewhere.
///
/// # Errors
/// If a statement fails; then nothing is stored.
pub(crate) async fn store(connection: &mut PgConnection, item: &Storable<'_>) -> sqlx::Result<Stored> {
    // A savepoint where the caller has a transaction: a refused row takes back only itself.
    let mut transaction = connection.begin().await?;
    // Identities grow with time, so that the order of the ids is that of the first storing.
    let candidate = Uuid::now_v7();
    // Inserted without a look before it: another process may store the same text in between.
    let inserted = sqlx::query_scalar!(
        "insert into posting (job_id, content_hash, country, previous_job_id, first_seen, last_seen)
         values ($1, $2, $3,
             (select job_id from sighting where portal = $4 and country = $3 and external_id = $5
              order by last_seen desc, sighting_id desc limit 1), $6, $6)
         on conflict (content_hash) do nothing returning job_id",
        candidate,
        item.content_hash,
        item.posting.country,
        item.posting.portal,
        item.external_id,
        item.seen_at
    )
    .fetch_optional(&mut *transaction)
    .await?;
    let stored = match inserted {
        Some(job_id) => {
            insert_payload(&mut transaction, job_id, item).await?;
            Stored::New(job_id)
        }
        None => Stored::Duplicate(touch(&mut transaction, item).await?),
    };
    let (Stored::New(job_id) | Stored::Duplicate(job_id)) = stored;
    record_sighting(&mut transaction, job_id, item).await?;
    transaction.commit().await?;
    Ok(stored)
}

async fn insert_payload(
    connection: &mut PgConnection,
    job_id: Uuid,
    item: &Storable<'_>,
) -> sqlx::Result<()> {
    let posting = item.posting;
    sqlx::query!(
        "insert into raw_jobs (job_id, portal, country, url, title, company, location, description,
             requirements, salary_raw, contract_type, remote_type, posted_date, scraped_at, content_hash)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
        job_id,
        posting.portal,
        posting.country,
        posting.url,
        posting.title,
        posting.company,
        posting.location,
        posting.description,
        posting.requirements,
        posting.salary_raw,
        posting.contract_type,
        posting.remote_type,
        posting.posted_date,
        item.collected_at,
        item.content_hash
    )
    .execute(connection)
    .await?;
    Ok(())
}

async fn touch(connection: &mut PgConnection, item: &Storable<'_>) -> sqlx::Result<Uuid> {
    // Files are imported in any order of time, so neither end may simply be overwritten.
    // The insert waited for the transaction that stored the text, and this statement reads a later
    // snapshot, so the row is there.
    let job_id = sqlx::query_scalar!(
        "update posting set last_seen = greatest(last_seen, $2), first_seen = least(first_seen, $2)
         where content_hash = $1 returning job_id",
        item.content_hash,
        item.seen_at
    )
    .fetch_one(&mut *connection)
    .await?;
    // The partition is that of the country that stored the text, which may not be the item's.
    if let Some(collected_at) = item.collected_at {
        sqlx::query!(
            "update raw_jobs r set scraped_at = $2 from posting p
             where p.job_id = $1 and r.country = p.country and r.job_id = p.job_id
               and (r.scraped_at is null or r.scraped_at > $2)",
            job_id,
            collected_at
        )
        .execute(connection)
        .await?;
    }
    Ok(job_id)
}

async fn record_sighting(
    connection: &mut PgConnection,
    job_id: Uuid,
    item: &Storable<'_>,
) -> sqlx::Result<()> {
    let posting = item.posting;
    sqlx::query!(
        "insert into sighting (portal, external_id, country, url, job_id, posted_date, first_seen, last_seen,
             first_collected, last_collected)
         values ($1, $2, $3, $4, $5, $6, $7, $7, $8, $8)
         on conflict (portal, country, external_id, job_id) do update
         set last_seen = greatest(sighting.last_seen, excluded.last_seen),
             first_seen = least(sighting.first_seen, excluded.first_seen),
             first_collected = least(sighting.first_collected, excluded.first_collected),
             last_collected = greatest(sighting.last_collected, excluded.last_collected),
             times_seen = sighting.times_seen + 1, url = excluded.url",
        posting.portal,
        item.external_id,
        posting.country,
        posting.url,
        job_id,
        posting.posted_date,
        item.seen_at,
        item.collected_at
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The portal's ids of every advertisement seen on it in a country.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn external_ids(
    connection: &mut PgConnection,
    portal: &str,
    country: &str,
) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        "select distinct external_id from sighting where portal = $1 and country = $2",
        portal,
        country
    )
    .fetch_all(connection)
    .await
}

/// Those of these texts that are stored, by their hashes.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn known_hashes(
    connection: &mut PgConnection,
    hashes: &[String],
) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!("select content_hash from posting where content_hash = any ($1::text[])", hashes)
        .fetch_all(connection)
        .await
}

/// Counts what was refused on the way in from `source`, by the field at fault.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn count_refused(
    connection: &mut PgConnection,
    source: &str,
    refused: &BTreeMap<String, u64>,
) -> sqlx::Result<()> {
    // The map's order is that of the row locks, so two batches cannot wait for each other.
    let fields: Vec<String> = refused.keys().cloned().collect();
    let counts: Vec<i64> = refused.values().map(|count| count.cast_signed()).collect();
    sqlx::query!(
        "insert into refused_item (source, field, count)
         select $1, field, count from unnest($2::text[], $3::bigint[]) as item (field, count)
         on conflict (source, field) do update
             set count = refused_item.count + excluded.count, last_at = now()",
        source,
        &fields,
        &counts
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Adds to the day's figures of removed personal data.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn count_removed(
    connection: &mut PgConnection,
    day: NaiveDate,
    removed: &BTreeMap<String, u64>,
) -> sqlx::Result<()> {
    // In the map's order as well, which keeps the row locks of two batches from crossing.
    let kinds: Vec<String> = removed.keys().cloned().collect();
    let pieces: Vec<i64> = removed.values().map(|count| i64::try_from(*count).unwrap_or(i64::MAX)).collect();
    sqlx::query!(
        "insert into privacy_count (day, kind, pieces)
         select $1, kind, pieces from unnest($2::text[], $3::bigint[]) as item (kind, pieces)
         on conflict (day, kind) do update set pieces = privacy_count.pieces + excluded.pieces",
        day,
        &kinds,
        &pieces
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The postings with these ids, in no particular order; unknown ids are left out.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn by_ids(connection: &mut PgConnection, ids: &[Uuid]) -> sqlx::Result<Vec<Posting>> {
    sqlx::query_as!(
        Posting,
        r#"select r.job_id, r.portal, r.country, r.url, r.title, r.company, r.location, r.description,
               r.requirements, r.salary_raw, r.contract_type, r.remote_type, r.posted_date, r.scraped_at,
               r.content_hash
           from posting p join raw_jobs r on r.country = p.country and r.job_id = p.job_id
           where p.job_id = any ($1)"#,
        ids
    )
    .fetch_all(connection)
    .await
}

/// Postings in order of their ids, filtered by portal and country of a sighting.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn list(
    connection: &mut PgConnection,
    portal: Option<&str>,
    country: Option<&str>,
    page: Page<Uuid>,
) -> sqlx::Result<Vec<Posting>> {
    // `exists` instead of a join, which would list a posting once for each of its sightings.
    sqlx::query_as!(
        Posting,
        r#"select r.job_id, r.portal, r.country, r.url, r.title, r.company, r.location, r.description,
               r.requirements, r.salary_raw, r.contract_type, r.remote_type, r.posted_date, r.scraped_at,
               r.content_hash
           from posting p join raw_jobs r on r.country = p.country and r.job_id = p.job_id
           where ($1::uuid is null or p.job_id > $1)
             and (($2::text is null and $3::text is null) or exists (
                 select from sighting s where s.job_id = p.job_id
                   and ($2::text is null or s.portal = $2) and ($3::text is null or s.country = $3)))
           order by p.job_id limit $4"#,
        page.after,
        portal,
        country,
        page.size
    )
    .fetch_all(connection)
    .await
}

/// A posting with its sightings, its occupation, its skills and how they came about, as one JSON
/// object under the published column names.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn show(connection: &mut PgConnection, job_id: Uuid) -> sqlx::Result<Option<Value>> {
    sqlx::query_scalar!(
        r#"select to_jsonb(r) - 'raw_html' || jsonb_build_object(
               'previous_job_id', p.previous_job_id,
               'sightings', (select coalesce(jsonb_agg(to_jsonb(s) - 'job_id' order by s.sighting_id), '[]')
                   from sighting s where s.job_id = p.job_id),
               'occupation', (select to_jsonb(o) - 'job_id' from posting_occupation o where o.job_id = p.job_id),
               'extracted_skills', (select coalesce(jsonb_agg(to_jsonb(x) - 'job_id'
                       order by x.source_field desc, x.span_start), '[]')
                   from extracted_skills x where x.job_id = p.job_id),
               'enhanced_skills', (select coalesce(jsonb_agg(to_jsonb(e) - 'job_id' - 'skill_id'
                       order by e.normalized_skill, e.enhancement_id), '[]')
                   from enhanced_skills e where e.job_id = p.job_id),
               'enhancement', (select s.record from posting_stage s
                   where s.job_id = p.job_id and s.stage = 'enhance')) as "posting!"
           from posting p join raw_jobs r on r.country = p.country and r.job_id = p.job_id
           where p.job_id = $1"#,
        job_id
    )
    .fetch_optional(connection)
    .await
}

/// Number of stored postings.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn count(connection: &mut PgConnection) -> sqlx::Result<i64> {
    sqlx::query_scalar!(r#"select count(*) as "count!" from posting"#).fetch_one(connection).await
}
