//! Extracted and enhanced skills of postings.
//!
//! The rows of a posting are replaced as a whole and have ids that do not depend on the run, so
//! that a stage that runs twice writes the same rows. Values of other versions are reported, not
//! guessed.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::domain::{
    enhancement::{Answerer, Enhancement, Rejected},
    skill::{EnhancedSkill, Makers, Mention},
};

/// Namespace of the ids of derived rows: the same row gets the same id on every run. Its bytes
/// spell "observatory rows", but for the bits of version and variant.
const ROW_NAMESPACE: Uuid = Uuid::from_u128(0x6f62_7365_7276_4174_8f72_7920_726f_7773);

/// Record of a stage that finished a posting.
#[derive(Debug, Clone)]
pub struct Finished<'a> {
    /// Posting.
    pub job_id: Uuid,
    /// Version of the stage that made the rows.
    pub version: &'a str,
    /// Time spent on the posting, milliseconds.
    pub duration_ms: f64,
}

/// Version at which a stage last finished each of the postings.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn versions(
    connection: &mut PgConnection,
    stage: &str,
    ids: &[Uuid],
) -> sqlx::Result<Vec<(Uuid, String)>> {
    let rows = sqlx::query!(
        "select job_id, version from posting_stage where stage = $1 and job_id = any ($2)",
        stage,
        ids
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (row.job_id, row.version)).collect())
}

async fn mark(
    connection: &mut PgConnection,
    stage: &str,
    finished: &Finished<'_>,
    (rows, record): (usize, Value),
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into posting_stage (job_id, stage, version, rows, duration_ms, record)
         values ($1, $2, $3, $4, $5, $6)
         on conflict (job_id, stage) do update set version = excluded.version, rows = excluded.rows,
             duration_ms = excluded.duration_ms, record = excluded.record, finished_at = now()",
        finished.job_id,
        stage,
        finished.version,
        i32::try_from(rows).unwrap_or(i32::MAX),
        finished.duration_ms,
        record
    )
    .execute(&mut *connection)
    .await?;
    // A posting that a later version can read is no longer set aside.
    sqlx::query!("delete from quarantine where job_id = $1 and stage = $2", finished.job_id, stage)
        .execute(connection)
        .await?;
    Ok(())
}

/// Sets aside a posting that a stage cannot read.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn quarantine(
    connection: &mut PgConnection,
    stage: &str,
    job_id: Uuid,
    reason: &str,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into quarantine (job_id, stage, reason) values ($1, $2, $3)
         on conflict (job_id, stage) do update set reason = excluded.reason, quarantined_at = now()",
        job_id,
        stage,
        reason
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Replaces the extracted skills of a posting.
///
/// # Errors
/// If a statement fails.
pub async fn replace_extracted(
    connection: &mut PgConnection,
    finished: &Finished<'_>,
    mentions: &[Mention],
) -> sqlx::Result<()> {
    let job_id = finished.job_id;
    // Two runs may finish a posting at once: the later one waits here, and replaces whole rows.
    sqlx::query!("select job_id from posting where job_id = $1 for update", job_id)
        .fetch_optional(&mut *connection)
        .await?;
    sqlx::query!("delete from extracted_skills where job_id = $1", job_id).execute(&mut *connection).await?;
    let text = |pick: fn(&Mention) -> String| mentions.iter().map(pick).collect::<Vec<_>>();
    let ids: Vec<Uuid> = mentions.iter().map(|mention| extraction_id(job_id, mention)).collect();
    let starts: Vec<i32> = mentions.iter().map(|mention| mention.start.cast_signed()).collect();
    let ends: Vec<i32> = mentions.iter().map(|mention| mention.end.cast_signed()).collect();
    let confidences: Vec<f64> = mentions.iter().map(|mention| rounded(mention.confidence)).collect();
    let uris: Vec<Option<String>> = mentions.iter().map(|mention| mention.uri.clone()).collect();
    let preferred: Vec<Option<String>> =
        mentions.iter().map(|mention| mention.preferred_label.clone()).collect();
    let places: Vec<Option<String>> =
        mentions.iter().map(|mention| Some(mention.place?.name().to_owned())).collect();
    sqlx::query!(
        "insert into extracted_skills (extraction_id, job_id, skill_text, skill_type, extraction_method,
             confidence_score, source_section, span_start, span_end, esco_uri, label, kind, category,
             source_field, preferred_label, place)
         select id, $1, surface, 'explicit', method, confidence, section, first, past, uri, label, kind,
             category, field, preferred, place
         from unnest($2::uuid[], $3::text[], $4::text[], $5::float8[], $6::text[], $7::int[], $8::int[],
             $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[], $15::text[])
             as item (id, surface, method, confidence, section, first, past, uri, label, kind, category,
                 field, preferred, place)",
        job_id,
        &ids,
        &text(|mention| mention.surface.clone()),
        &text(method_list),
        &confidences,
        &text(|mention| mention.section.clone()),
        &starts,
        &ends,
        &uris as &[Option<String>],
        &text(|mention| mention.label.clone()),
        &text(|mention| mention.kind.name().to_owned()),
        &text(|mention| mention.category.clone()),
        &text(|mention| mention.field.name().to_owned()),
        &preferred as &[Option<String>],
        &places as &[Option<String>]
    )
    .execute(&mut *connection)
    .await?;
    // What was made from the replaced mentions is out of date.
    sqlx::query!("delete from posting_stage where job_id = $1 and stage = 'enhance'", job_id)
        .execute(&mut *connection)
        .await?;
    mark(connection, "extract", finished, (mentions.len(), json!({}))).await
}

/// Result of the enhancer for a posting.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Enhanced<'a> {
    /// Skills; the first ones stand for the mentions, in order.
    pub skills: &'a [EnhancedSkill],
    /// Row of each mention.
    pub sources: &'a [Uuid],
    /// Names of the rules and the model that made them.
    pub makers: &'a Makers,
    /// How they came about.
    pub enhancement: &'a Enhancement,
}

/// Replaces the enhanced skills of a posting.
///
/// # Errors
/// If a statement fails.
pub(crate) async fn replace_enhanced(
    connection: &mut PgConnection,
    finished: &Finished<'_>,
    enhanced: &Enhanced<'_>,
) -> sqlx::Result<()> {
    let Enhanced { skills, makers, .. } = *enhanced;
    let made_by: Vec<String> = skills.iter().map(|skill| makers.name(skill.maker)).collect();
    let job_id = finished.job_id;
    // The later of two runs waits here, as in `replace_extracted`.
    sqlx::query!("select job_id from posting where job_id = $1 for update", job_id)
        .fetch_optional(&mut *connection)
        .await?;
    // Replaced as a whole: what an earlier version of the rules made must not stand next to what
    // this one makes.
    sqlx::query!("delete from enhanced_skills where job_id = $1", job_id).execute(&mut *connection).await?;
    // Before the rows, which find the key of each skill by its label.
    register(&mut *connection, skills).await?;
    let ids: Vec<Uuid> = (0..skills.len()).map(|index| enhancement_id(job_id, index)).collect();
    let originals: Vec<Option<Uuid>> =
        skills.iter().map(|skill| skill.duplicate_of.and_then(|index| ids.get(index).copied())).collect();
    let text = |pick: fn(&EnhancedSkill) -> String| skills.iter().map(pick).collect::<Vec<_>>();
    let optional =
        |pick: fn(&EnhancedSkill) -> Option<String>| skills.iter().map(pick).collect::<Vec<Option<String>>>();
    let number = |pick: fn(&EnhancedSkill) -> u32| {
        skills.iter().map(|skill| pick(skill).cast_signed()).collect::<Vec<_>>()
    };
    let confidences: Vec<f64> = skills.iter().map(|skill| rounded(skill.confidence)).collect();
    let sources: Vec<Option<Uuid>> =
        (0..skills.len()).map(|index| enhanced.sources.get(index).copied()).collect();
    sqlx::query!(
        "insert into enhanced_skills (enhancement_id, job_id, original_skill_text, normalized_skill,
             skill_type, esco_concept_uri, esco_preferred_label, llm_confidence, llm_reasoning, is_duplicate,
             duplicate_of_id, llm_model, skill_id, kind, category, extraction_id,
             cited_field, cited_start, cited_end)
         select item.id, $1, item.original, item.label, item.type, item.uri, item.preferred,
             item.confidence, item.reasoning, item.repeats is not null, item.repeats, item.made_by,
             s.skill_id,
             item.kind, item.category, item.source, item.field, item.first, item.past
         from unnest($3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::float8[],
             $10::text[], $11::uuid[], $12::text[], $13::text[], $14::uuid[], $2::text[],
             $15::text[], $16::int[], $17::int[])
             as item (id, original, label, type, uri, preferred, confidence, reasoning, repeats, kind,
                 category, source, made_by, field, first, past)
         join skill s on s.label = item.label",
        job_id,
        &made_by,
        &ids,
        &optional(|skill| skill.original_skill_text.clone()) as &[Option<String>],
        &text(|skill| skill.normalized_skill.clone()),
        &text(|skill| if skill.explicit { "explicit" } else { "implicit" }.to_owned()),
        &optional(|skill| skill.esco_concept_uri.clone()) as &[Option<String>],
        &optional(|skill| skill.esco_preferred_label.clone()) as &[Option<String>],
        &confidences,
        &optional(|skill| skill.reasoning.clone()) as &[Option<String>],
        &originals as &[Option<Uuid>],
        &text(|skill| skill.kind.name().to_owned()),
        &text(|skill| skill.category.clone()),
        &sources as &[Option<Uuid>],
        &text(|skill| skill.citation.field.name().to_owned()),
        &number(|skill| skill.citation.start),
        &number(|skill| skill.citation.end)
    )
    .execute(&mut *connection)
    .await?;
    // A struct of names and numbers: serialising it cannot fail.
    let record = serde_json::to_value(enhanced.enhancement).unwrap_or_default();
    mark(connection, "enhance", finished, (skills.len(), record)).await
}

/// How the enhancement of a run's postings came about.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Answers {
    /// Postings by who answered.
    pub answered_by: BTreeMap<Answerer, u64>,
    /// What was not taken, by reason.
    pub rejected: Rejected,
    /// Why models were passed over, with the number of postings; the most frequent first.
    pub passed_over: Vec<(String, u64)>,
}

/// Sums how the postings that a run enhanced came to their skills.
///
/// # Errors
/// If a statement fails.
pub(crate) async fn answers(connection: &mut PgConnection, run_id: Uuid) -> sqlx::Result<Answers> {
    // A name of another release is left out.
    let read = |name: &str| serde_json::from_value(name.into()).ok();
    let rows = sqlx::query!(
        r#"select s.record ->> 'answered_by' as "name!", count(*) as "count!"
           from task t join posting_stage s on s.job_id = t.job_id and s.stage = 'enhance'
           where t.run_id = $1 and t.stage = 'enhance' and s.record ? 'answered_by'
           group by 1"#,
        run_id
    )
    .fetch_all(&mut *connection)
    .await?;
    let answered_by =
        rows.into_iter().filter_map(|row| Some((read(&row.name)?, row.count.unsigned_abs()))).collect();
    let read = |name: &str| serde_json::from_value(name.into()).ok();
    let rows = sqlx::query!(
        r#"select r.key as "name!", sum(r.value::bigint)::bigint as "count!"
           from task t join posting_stage s on s.job_id = t.job_id and s.stage = 'enhance'
           cross join jsonb_each_text(s.record -> 'rejected') r
           where t.run_id = $1 and t.stage = 'enhance'
           group by 1"#,
        run_id
    )
    .fetch_all(&mut *connection)
    .await?;
    let rejected =
        rows.into_iter().filter_map(|row| Some((read(&row.name)?, row.count.unsigned_abs()))).collect();
    let rows = sqlx::query!(
        r#"select (p ->> 'model') || ': ' || (p ->> 'why') as "why!", count(*) as "count!"
           from task t join posting_stage s on s.job_id = t.job_id and s.stage = 'enhance'
           cross join jsonb_array_elements(s.record -> 'passed_over') p
           where t.run_id = $1 and t.stage = 'enhance'
           group by 1 order by 2 desc, 1 limit 3"#,
        run_id
    )
    .fetch_all(connection)
    .await?;
    let passed_over = rows.into_iter().map(|row| (row.why, row.count.unsigned_abs())).collect();
    Ok(Answers { answered_by, rejected, passed_over })
}

/// Creates the skills that do not exist; sorted, so that two workers lock them in the same order.
async fn register(connection: &mut PgConnection, skills: &[EnhancedSkill]) -> sqlx::Result<()> {
    let mut distinct: Vec<&EnhancedSkill> = skills.iter().collect();
    // Stable, so that of equal labels the first one's kind and category stay.
    distinct.sort_by(|left, right| left.normalized_skill.cmp(&right.normalized_skill));
    distinct.dedup_by(|left, right| left.normalized_skill == right.normalized_skill);
    let labels: Vec<String> = distinct.iter().map(|skill| skill.normalized_skill.clone()).collect();
    let kinds: Vec<String> = distinct.iter().map(|skill| skill.kind.name().to_owned()).collect();
    let categories: Vec<String> = distinct.iter().map(|skill| skill.category.clone()).collect();
    // Looked for first: a conflict would use up a number of the sequence for each known skill.
    sqlx::query!(
        "insert into skill (label, kind, category)
         select label, kind, category from unnest($1::text[], $2::text[], $3::text[])
             as item (label, kind, category)
         where not exists (select from skill s where s.label = item.label)
         order by label on conflict (label) do nothing",
        &labels,
        &kinds,
        &categories
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// A row of `extracted_skills`, not yet checked.
#[derive(Debug, sqlx::FromRow)]
struct MentionRow {
    job_id: Uuid,
    skill_text: String,
    label: String,
    kind: String,
    category: String,
    place: Option<String>,
    extraction_method: String,
    confidence_score: f64,
    source_section: String,
    source_field: String,
    span_start: i32,
    span_end: i32,
    esco_uri: Option<String>,
    preferred_label: Option<String>,
}

/// A row that holds a value this version does not know.
#[derive(Debug, thiserror::Error)]
#[error("extracted_skills.{column} holds `{value}`, which this version does not know")]
pub struct UnreadableRow {
    column: &'static str,
    value: String,
}

fn known<T: DeserializeOwned>(column: &'static str, value: &str) -> Result<T, UnreadableRow> {
    serde_json::from_value(value.into()).map_err(|_| UnreadableRow { column, value: value.to_owned() })
}

impl TryFrom<MentionRow> for Mention {
    type Error = UnreadableRow;

    fn try_from(row: MentionRow) -> Result<Self, UnreadableRow> {
        let methods = row.extraction_method.split('+').map(|name| known("extraction_method", name));
        Ok(Self {
            kind: known("kind", &row.kind)?,
            methods: methods.collect::<Result<_, _>>()?,
            field: known("source_field", &row.source_field)?,
            place: row.place.map(|place| known("place", &place)).transpose()?,
            label: row.label,
            surface: row.skill_text,
            category: row.category,
            confidence: row.confidence_score as f32,
            section: row.source_section,
            start: row.span_start.cast_unsigned(),
            end: row.span_end.cast_unsigned(),
            uri: row.esco_uri,
            preferred_label: row.preferred_label,
        })
    }
}

/// Mentions of postings in reading order; a posting with an unreadable row carries the reason
/// instead.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn mentions(
    connection: &mut PgConnection,
    ids: &[Uuid],
) -> sqlx::Result<BTreeMap<Uuid, Result<Vec<Mention>, UnreadableRow>>> {
    let rows = sqlx::query_as!(
        MentionRow,
        "select job_id, skill_text, label, kind, category, place, extraction_method, confidence_score,
             source_section, source_field, span_start, span_end, esco_uri, preferred_label
         from extracted_skills where job_id = any ($1)
         order by job_id, array_position(array['title', 'description', 'requirements'], source_field),
             span_start, span_end desc, label",
        ids
    )
    .fetch_all(connection)
    .await?;
    let mut found: BTreeMap<Uuid, Result<Vec<Mention>, UnreadableRow>> = BTreeMap::new();
    for row in rows {
        let entry = found.entry(row.job_id).or_insert_with(|| Ok(Vec::new()));
        // The first row that cannot be read stays the reason.
        if let Ok(mentions) = entry {
            match Mention::try_from(row) {
                Ok(mention) => mentions.push(mention),
                Err(error) => *entry = Err(error),
            }
        }
    }
    Ok(found)
}

/// A skill and how many postings ask for it.
#[derive(Debug, Clone)]
pub struct SkillCount {
    /// Normalised label.
    pub skill: String,
    /// Postings that name it.
    pub job_count: i64,
    /// Further postings that only imply it.
    pub implicit_count: i64,
    /// Mentions after deduplication.
    pub total_mentions: i64,
    /// Countries of the sightings.
    pub countries: Vec<String>,
}

/// The skills that most postings name, in one country or in all.
///
/// # Errors
/// If the statement fails.
pub async fn top(
    connection: &mut PgConnection,
    country: Option<&str>,
    limit: i64,
) -> sqlx::Result<Vec<SkillCount>> {
    // Distinct, since the join repeats a row for every sighting of its posting.
    sqlx::query_as!(
        SkillCount,
        r#"select e.normalized_skill as skill,
               count(distinct e.job_id) filter (where e.skill_type = 'explicit') as "job_count!",
               count(distinct e.job_id) filter (where e.skill_type = 'implicit') as "implicit_count!",
               count(distinct e.enhancement_id) as "total_mentions!",
               array_agg(distinct s.country::text order by s.country::text) as "countries!"
           from enhanced_skills e join sighting s on s.job_id = e.job_id
           where not e.is_duplicate and ($1::text is null or s.country = $1)
           group by e.normalized_skill order by 2 desc, 3 desc, 1 limit $2"#,
        country,
        limit
    )
    .fetch_all(connection)
    .await
}

/// Number of distinct skills in use.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn count(connection: &mut PgConnection) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"select count(distinct skill_id) as "count!" from enhanced_skills where not is_duplicate"#
    )
    .fetch_one(connection)
    .await
}

fn method_list(mention: &Mention) -> String {
    mention.methods.iter().map(|method| method.name()).collect::<Vec<_>>().join("+")
}

/// Confidence as stored: four decimals, so that a value reads back as it was written.
pub(super) fn rounded(confidence: f32) -> f64 {
    (f64::from(confidence) * 10_000.0).round() / 10_000.0
}

/// Id of a mention's row: the same on every run.
pub(crate) fn extraction_id(job_id: Uuid, mention: &Mention) -> Uuid {
    let name =
        format!("{job_id} {} {} {} {}", mention.field.name(), mention.start, mention.end, mention.label);
    Uuid::new_v5(&ROW_NAMESPACE, name.as_bytes())
}

fn enhancement_id(job_id: Uuid, index: usize) -> Uuid {
    Uuid::new_v5(&ROW_NAMESPACE, format!("{job_id} enhanced {index}").as_bytes())
}
