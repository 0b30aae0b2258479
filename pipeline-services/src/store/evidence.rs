//! The postings and sentences behind a skill.
//!
//! Reads only. Pages go on from the last posting seen rather than by offset, so that they stay
//! right while rows are added.

use chrono::NaiveDate;
use sqlx::PgConnection;
use uuid::Uuid;

/// Which postings.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filter {
    /// Portal of a sighting.
    pub portal: Option<String>,
    /// Country of a sighting.
    pub country: Option<String>,
}

/// A posting that names or implies a skill.
#[derive(Debug, Clone)]
pub(crate) struct Ad {
    /// Posting.
    pub job_id: Uuid,
    /// Title.
    pub title: String,
    /// Employer.
    pub company: Option<String>,
    /// Portal of the first sighting that fits.
    pub portal: String,
    /// Country of it.
    pub country: String,
    /// Address of it.
    pub url: String,
    /// Day of publication.
    pub posted_date: Option<NaiveDate>,
    /// `explicit` or `implicit`.
    pub skill_type: String,
    /// Confidence of the mention, or of the conclusion.
    pub confidence: f64,
    /// Reason for which a skill is implicit.
    pub reason: Option<String>,
    /// Field of the mention.
    pub field: Option<String>,
    /// Section of the mention.
    pub section: Option<String>,
    /// First code point of the span.
    pub start: Option<i32>,
    /// One past the last.
    pub end: Option<i32>,
    /// Methods joined by `+`.
    pub method: Option<String>,
    /// The whole field.
    pub text: Option<String>,
}

/// Postings behind a skill after a place: those that name it first, each of both in order of their
/// ids.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn ads(
    connection: &mut PgConnection,
    skill: &str,
    filter: &Filter,
    (kind, after): (&str, Uuid),
    limit: i64,
) -> sqlx::Result<Vec<Ad>> {
    // "explicit" sorts before "implicit", so the two parts need no further column.
    // A lateral join takes one sighting, or a posting seen on two portals would be listed twice.
    sqlx::query_as!(
        Ad,
        r#"select e.job_id, r.title, r.company, s.portal, s.country, s.url, s.posted_date, e.skill_type,
               coalesce(x.confidence_score, e.llm_confidence) as "confidence!", e.llm_reasoning as reason,
               x.source_field as "field?", x.source_section as "section?", x.span_start as "start?",
               x.span_end as "end?", x.extraction_method as "method?",
               case x.source_field when 'title' then r.title when 'description' then r.description
                   when 'requirements' then r.requirements end as text
           from enhanced_skills e
           join posting p on p.job_id = e.job_id
           join raw_jobs r on r.country = p.country and r.job_id = p.job_id
           join lateral (select * from sighting s where s.job_id = e.job_id
               and ($2::text is null or s.portal = $2) and ($3::text is null or s.country = $3)
               order by s.sighting_id limit 1) s on true
           left join extracted_skills x on x.extraction_id = e.extraction_id
           where e.normalized_skill = $1 and not e.is_duplicate and (e.skill_type, e.job_id) > ($4, $5)
           order by e.skill_type, e.job_id limit $6"#,
        skill,
        filter.portal.as_deref(),
        filter.country.as_deref(),
        kind,
        after,
        limit
    )
    .fetch_all(connection)
    .await
}

/// Number of postings that name a skill, and of further ones that only imply it.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn count(
    connection: &mut PgConnection,
    skill: &str,
    filter: &Filter,
) -> sqlx::Result<(i64, i64)> {
    let row = sqlx::query!(
        r#"select count(distinct e.job_id) filter (where e.skill_type = 'explicit') as "explicit!",
               count(distinct e.job_id) filter (where e.skill_type = 'implicit') as "implicit!"
           from enhanced_skills e
           where e.normalized_skill = $1 and not e.is_duplicate and exists (select from sighting s
               where s.job_id = e.job_id and ($2::text is null or s.portal = $2)
                 and ($3::text is null or s.country = $3))"#,
        skill,
        filter.portal.as_deref(),
        filter.country.as_deref()
    )
    .fetch_one(connection)
    .await?;
    Ok((row.explicit, row.implicit))
}

/// Labels of the skills that some posting has.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn labels(connection: &mut PgConnection) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        "select label from skill s
         where exists (select from enhanced_skills e where e.skill_id = s.skill_id and not e.is_duplicate)
         order by label"
    )
    .fetch_all(connection)
    .await
}
