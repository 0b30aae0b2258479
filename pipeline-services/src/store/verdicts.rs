//! Verdicts of people, and the finds that they are asked about.
//!
//! Verdicts are only added: the latest one on a subject is in force, the others are its history.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::domain::verdict::Ruling;

/// A find and in how many postings it stands.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    /// Row that stands for the others.
    pub item_id: Uuid,
    /// Text of the postings.
    pub wording: String,
    /// The implied skill; none for a mention.
    pub implied: Option<String>,
    /// Postings.
    pub postings: i64,
    /// Mean confidence, 0 to 1.
    pub confidence: f64,
}

/// Finds by wording and concept; first those by which most postings are expected to be wrong.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn groups(connection: &mut PgConnection, kind: Option<&str>) -> sqlx::Result<Vec<Group>> {
    sqlx::query_as!(
        Group,
        r#"select item_id as "item_id!", wording as "wording!", implied, postings as "postings!",
               confidence as "confidence!"
           from (
               select min(x.extraction_id::text)::uuid as item_id, x.skill_text as wording,
                   null::text as implied, count(distinct x.job_id) as postings,
                   avg(x.confidence_score) as confidence
               from extracted_skills x
               where $1::text is null or $1 = case when x.esco_uri is null then 'skill' else 'link' end
               group by x.skill_text, x.esco_uri
               union all
               select min(e.enhancement_id::text)::uuid, c.wording, e.normalized_skill,
                   count(distinct e.job_id), avg(e.llm_confidence)
               from enhanced_skills e
               join posting p using (job_id)
               join raw_jobs r on r.country = p.country and r.job_id = p.job_id
               cross join lateral (select substr(case e.cited_field when 'title' then r.title
                       when 'description' then r.description else r.requirements end,
                   e.cited_start + 1, e.cited_end - e.cited_start) as wording) c
               where e.skill_type = 'implicit' and c.wording is not null
                   and ($1::text is null or $1 = 'implied')
               group by 2, 3
           ) g
           order by postings * (1 - confidence) desc, wording, implied"#,
        kind
    )
    .fetch_all(connection)
    .await
}

/// What a person is asked about.
#[derive(Debug, Clone)]
pub(crate) struct Find {
    /// Row: an extraction or an enhancement.
    pub item_id: Uuid,
    /// `link`, `skill` or `implied`.
    pub kind: String,
    /// Posting that is shown.
    pub job_id: Option<Uuid>,
    /// Text of the posting.
    pub wording: String,
    /// Name of the skill.
    pub label: String,
    /// Concept.
    pub uri: Option<String>,
    /// Its preferred label.
    pub preferred_label: Option<String>,
    /// As in `Mention::category`.
    pub category: String,
    /// Why an implied skill was inferred.
    pub reason: Option<String>,
    /// 0 to 1.
    pub confidence: f64,
    /// Field of the span.
    pub field: String,
    /// First code point.
    pub span_start: i32,
    /// One past the last.
    pub span_end: i32,
}

/// The finds of these rows; rows that are gone are left out.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn finds(connection: &mut PgConnection, ids: &[Uuid]) -> sqlx::Result<Vec<Find>> {
    sqlx::query_as!(
        Find,
        r#"select extraction_id as "item_id!",
               case when esco_uri is null then 'skill' else 'link' end as "kind!", job_id,
               skill_text as "wording!", label as "label!", esco_uri as uri, preferred_label,
               category as "category!", null::text as reason, confidence_score as "confidence!",
               source_field as "field!", span_start as "span_start!", span_end as "span_end!"
           from extracted_skills where extraction_id = any ($1)
           union all
           select e.enhancement_id, 'implied', e.job_id,
               substr(case e.cited_field when 'title' then r.title when 'description' then r.description
                   else r.requirements end, e.cited_start + 1, e.cited_end - e.cited_start),
               e.normalized_skill, e.esco_concept_uri, e.esco_preferred_label, e.category, e.llm_reasoning,
               e.llm_confidence, e.cited_field, e.cited_start, e.cited_end
           from enhanced_skills e
           join posting p using (job_id)
           join raw_jobs r on r.country = p.country and r.job_id = p.job_id
           where e.enhancement_id = any ($1) and e.skill_type = 'implicit' and e.cited_field is not null"#,
        ids
    )
    .fetch_all(connection)
    .await
}

/// A verdict to be stored.
#[derive(Debug, Clone)]
pub(crate) struct NewVerdict<'a> {
    /// What was seen.
    pub find: &'a Find,
    /// What it holds for.
    pub subject: &'a str,
    /// `accept`, `reject` or `correct`.
    pub verdict: &'a str,
    /// Concept that holds.
    pub uri: Option<&'a str>,
    /// Name that holds.
    pub label: Option<&'a str>,
    /// Who.
    pub reviewer: &'a str,
    /// Why.
    pub why: &'a str,
}

/// A stored verdict.
#[derive(Debug, Clone)]
pub(crate) struct Verdict {
    /// Key: a later verdict has a higher one.
    pub verdict_id: i64,
    /// Row that was judged.
    pub item_id: Uuid,
    /// Kind of the find.
    pub kind: String,
    /// What it holds for.
    pub subject: String,
    /// `accept`, `reject` or `correct`.
    pub verdict: String,
    /// Concept that holds.
    pub uri: Option<String>,
    /// Name that holds.
    pub label: Option<String>,
    /// What was seen.
    pub shown: Value,
    /// Posting that was seen, if it is still stored.
    pub job_id: Option<Uuid>,
    /// Field of the span.
    pub field: Option<String>,
    /// First code point.
    pub span_start: Option<i32>,
    /// One past the last.
    pub span_end: Option<i32>,
    /// Who.
    pub reviewer: String,
    /// Why.
    pub why: String,
    /// When.
    pub decided_at: DateTime<Utc>,
}

impl Verdict {
    /// What was seen, as it was then.
    pub(crate) fn find(&self) -> Find {
        let text = |name: &str| self.shown[name].as_str().map(str::to_owned);
        Find {
            item_id: self.item_id,
            kind: self.kind.clone(),
            job_id: self.job_id,
            wording: text("wording").unwrap_or_default(),
            label: text("label").unwrap_or_default(),
            uri: text("uri"),
            preferred_label: text("preferred_label"),
            category: text("category").unwrap_or_default(),
            reason: text("reason"),
            confidence: self.shown["confidence"].as_f64().unwrap_or_default(),
            field: self.field.clone().unwrap_or_default(),
            span_start: self.span_start.unwrap_or_default(),
            span_end: self.span_end.unwrap_or_default(),
        }
    }
}

/// Stores a verdict, unless the latest one on its subject is the same.
///
/// # Errors
/// If a statement fails.
pub(crate) async fn add(connection: &mut PgConnection, new: &NewVerdict<'_>) -> sqlx::Result<()> {
    let find = new.find;
    let shown = json!({ "wording": find.wording, "label": find.label, "uri": find.uri,
        "preferred_label": find.preferred_label, "category": find.category, "reason": find.reason,
        "confidence": find.confidence });
    // Two people may judge at once: the later statement finds the earlier row, or is stored too.
    sqlx::query!(
        "insert into verdict (item_id, kind, subject, verdict, uri, label, shown, job_id, field, span_start,
             span_end, reviewer, why)
         select $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13
         where not exists (
             select from (select * from verdict where subject = $3 order by verdict_id desc limit 1) last
             where last.item_id = $1 and last.verdict = $4 and last.uri is not distinct from $5
                 and last.label is not distinct from $6 and last.reviewer = $12 and last.why = $13)",
        find.item_id,
        find.kind,
        new.subject,
        new.verdict,
        new.uri,
        new.label,
        shown,
        find.job_id,
        find.field,
        find.span_start,
        find.span_end,
        new.reviewer,
        new.why
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The latest verdict on a row, or on a subject.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn latest_on(
    connection: &mut PgConnection,
    item_id: Option<Uuid>,
    subject: Option<&str>,
) -> sqlx::Result<Option<Verdict>> {
    sqlx::query_as!(
        Verdict,
        "select verdict_id, item_id, kind, subject, verdict, uri, label, shown, job_id, field, span_start,
             span_end, reviewer, why, decided_at
         from verdict where item_id = $1 or subject = $2 order by verdict_id desc limit 1",
        item_id,
        subject
    )
    .fetch_optional(connection)
    .await
}

/// Verdicts before a key, newest first: those in force, or all.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn list(
    connection: &mut PgConnection,
    history: bool,
    before: Option<i64>,
    limit: i64,
) -> sqlx::Result<Vec<Verdict>> {
    sqlx::query_as!(
        Verdict,
        "select verdict_id, item_id, kind, subject, verdict, uri, label, shown, job_id, field, span_start,
             span_end, reviewer, why, decided_at
         from verdict v
         where ($1 or not exists (select from verdict l
                 where l.subject = v.subject and l.verdict_id > v.verdict_id))
             and ($2::bigint is null or verdict_id < $2)
         order by verdict_id desc limit $3",
        history,
        before,
        limit
    )
    .fetch_all(connection)
    .await
}

/// Subjects that somebody has judged.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn subjects(connection: &mut PgConnection) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!("select distinct subject from verdict").fetch_all(connection).await
}

/// Key of the last verdict: changes with every one.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn last(connection: &mut PgConnection) -> sqlx::Result<Option<i64>> {
    sqlx::query_scalar!("select max(verdict_id) from verdict").fetch_one(connection).await
}

/// What holds by the verdicts in force, by subject.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn rulings(connection: &mut PgConnection) -> sqlx::Result<Vec<(String, Ruling)>> {
    let rows = sqlx::query!(
        "select distinct on (subject) subject, kind, verdict, uri, label
         from verdict order by subject, verdict_id desc"
    )
    .fetch_all(connection)
    .await?;
    let rulings = rows.into_iter().filter_map(|row| {
        let meaning = (row.label.unwrap_or_default(), row.uri);
        Some((row.subject, Ruling::of(&row.kind, &row.verdict, meaning)?))
    });
    Ok(rulings.collect())
}
