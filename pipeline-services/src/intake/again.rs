//! What intake does, done again to stored postings after its patterns changed.
//!
//! Texts that become equal are joined, with their sightings. Each batch is a transaction and the
//! whole is safe to repeat; a dry run counts the same and keeps nothing.

use std::collections::{BTreeMap, HashSet};

use chrono::Utc;
use uuid::Uuid;

use super::{Cleaner, SHORT_LIMIT};
use crate::{
    cleaning,
    domain::posting::Posting,
    reading,
    store::{
        Connection, PgConnection, SqlResult, postings,
        scrubs::{self, Seen},
    },
};

/// Postings cleaned in one transaction. Not tuned: few round trips, and rows locked for a moment.
const BATCH: i64 = 200;

/// Totals of cleaning again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scrubbing {
    /// Postings read.
    pub postings: u64,
    /// Postings of which a field or a sighting changed.
    pub changed: u64,
    /// Postings that became the text of another and were joined with it.
    pub joined: u64,
    /// Pieces of personal data removed, by kind.
    pub removed: BTreeMap<String, u64>,
}

/// Cleans every stored posting again, a batch in a transaction: what is done stays done when it is
/// interrupted, and doing it again changes nothing. `seen` hears of the totals after each batch and
/// ends it by `false`.
///
/// A dry run does the same in one transaction that is taken back, so that it counts the same.
///
/// # Errors
/// If a statement fails; the batch in hand is then taken back.
pub async fn scrub_stored(
    connection: &mut PgConnection,
    dry_run: bool,
    mut seen: impl FnMut(&Scrubbing) -> bool + Send,
) -> SqlResult<Scrubbing> {
    let mut totals = Scrubbing::default();
    let mut after = None;
    if dry_run {
        let mut trial = connection.begin().await?;
        while let Some(last) = batch(&mut trial, after, &mut totals).await?
            && seen(&totals)
        {
            after = Some(last);
        }
        trial.rollback().await?;
        return Ok(totals);
    }
    loop {
        let mut transaction = connection.begin().await?;
        let last = batch(&mut transaction, after, &mut totals).await?;
        // Before the caller hears of it, who may leave then.
        transaction.commit().await?;
        if last.is_none() || !seen(&totals) {
            return Ok(totals);
        }
        after = last;
    }
}

/// Cleans the postings behind `after`; returns the last of them.
async fn batch(
    connection: &mut PgConnection,
    after: Option<Uuid>,
    totals: &mut Scrubbing,
) -> SqlResult<Option<Uuid>> {
    let stored = scrubs::page(connection, after, BATCH).await?;
    let Some(last) = stored.last().map(|posting| posting.job_id) else { return Ok(None) };
    let ids: Vec<Uuid> = stored.iter().map(|posting| posting.job_id).collect();
    let mut sightings: BTreeMap<Uuid, Vec<Seen>> = BTreeMap::new();
    for seen in scrubs::sightings(connection, &ids).await? {
        sightings.entry(seen.job_id).or_default().push(seen);
    }
    let mut gone = HashSet::new();
    let mut cleaner = Cleaner::default();
    for posting in &stored {
        totals.postings += 1;
        // An earlier one of this page became its text and took its sightings.
        if gone.contains(&posting.job_id) {
            continue;
        }
        let seen = sightings.remove(&posting.job_id).unwrap_or_default();
        let (changed, vanished) = one(connection, posting, seen, &mut cleaner).await?;
        totals.changed += u64::from(changed);
        totals.joined += u64::from(vanished.is_some());
        gone.extend(vanished);
    }
    if !cleaner.removed.is_empty() {
        postings::count_removed(connection, Utc::now().date_naive(), &cleaner.removed).await?;
    }
    for (kind, count) in cleaner.removed {
        *totals.removed.entry(kind).or_default() += count;
    }
    Ok(Some(last))
}

/// Cleans one posting and its sightings; says whether anything changed, and which posting vanished
/// into another.
async fn one(
    connection: &mut PgConnection,
    stored: &Posting,
    mut seen: Vec<Seen>,
    cleaner: &mut Cleaner,
) -> SqlResult<(bool, Option<Uuid>)> {
    let cleaned = reading::in_place(|| cleaned(stored, cleaner));
    let mut changed = cleaned != *stored;
    let mut vanished = None;
    let mut job_id = stored.job_id;
    if changed {
        if let Some(other) = scrubs::same_text(connection, job_id, &cleaned.content_hash).await? {
            // Ids grow with time: the older one stays, as the younger one would not have been
            // stored next to it.
            let (surviving, vanishing) = (job_id.min(other), job_id.max(other));
            scrubs::join(connection, vanishing, surviving).await?;
            vanished = Some(vanishing);
            seen = scrubs::sightings(connection, &[surviving]).await?;
            job_id = surviving;
        }
        // A surviving older posting has this text already.
        if job_id == stored.job_id {
            scrubs::rewrite(connection, &cleaned, texts(&cleaned) != texts(stored)).await?;
        }
    }
    for sighting in seen {
        let url = cleaner.address(&sighting.url);
        let external_id =
            cleaner.identity(Some(&sighting.external_id), (&stored.portal, &url), &cleaned.content_hash);
        let scrubbed = Seen { url, external_id, ..sighting.clone() };
        if scrubbed != sighting {
            changed = true;
            scrubs::rewrite_sighting(connection, &scrubbed).await?;
        }
    }
    Ok((changed, vanished))
}

/// The fields that mentions of skills point into.
fn texts(posting: &Posting) -> (&str, &str, Option<&str>) {
    (&posting.title, &posting.description, posting.requirements.as_deref())
}

/// The posting as the present patterns leave it.
fn cleaned(stored: &Posting, cleaner: &mut Cleaner) -> Posting {
    let mut posting = stored.clone();
    posting.url = cleaner.address(&stored.url);
    for text in [&mut posting.title, &mut posting.description] {
        *text = cleaner.text(text);
    }
    for text in
        [&mut posting.company, &mut posting.requirements, &mut posting.salary_raw].into_iter().flatten()
    {
        *text = cleaner.text(text);
    }
    if let Some(place) = &mut posting.location {
        *place = cleaner.place_text(place);
    }
    for short in [&mut posting.contract_type, &mut posting.remote_type] {
        // A mark can be longer than what it stands for.
        *short =
            short.take().map(|text| cleaner.text(&text)).filter(|text| text.chars().count() <= SHORT_LIMIT);
    }
    posting.content_hash = cleaning::content_hash(&cleaning::Content {
        title: &posting.title,
        company: posting.company.as_deref().unwrap_or_default(),
        location: posting.location.as_deref().unwrap_or_default(),
        description: &posting.description,
        requirements: posting.requirements.as_deref().unwrap_or_default(),
    });
    posting
}
