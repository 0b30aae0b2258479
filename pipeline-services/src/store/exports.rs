//! Whole rows as JSON objects, page by page.

use serde_json::Value;
use sqlx::PgConnection;

/// Which rows.
#[derive(Clone, Copy, Debug)]
pub struct Filter<'a> {
    /// Portal of a sighting.
    pub portal: Option<&'a str>,
    /// Country of a sighting.
    pub country: Option<&'a str>,
    /// Key of the last row of the previous page.
    pub after: Option<&'a str>,
    /// Rows at most.
    pub limit: i64,
}

/// A row and its place in the order.
#[derive(Clone, Debug)]
pub struct Row {
    /// Grows from row to row.
    pub key: String,
    /// Column names and values.
    pub object: Value,
}

/// Rows of `raw_jobs` without `raw_html`.
///
/// # Errors
/// When the statement fails.
pub async fn postings(connection: &mut PgConnection, filter: Filter<'_>) -> sqlx::Result<Vec<Row>> {
    sqlx::query_as!(
        Row,
        r#"select p.job_id::text as "key!", to_jsonb(r) - 'raw_html' as "object!"
           from posting p join raw_jobs r on r.country = p.country and r.job_id = p.job_id
           where ($3::text is null or p.job_id > $3::text::uuid)
             and exists (select from sighting s where s.job_id = p.job_id
                 and ($1::text is null or s.portal = $1) and ($2::text is null or s.country = $2))
           order by p.job_id limit $4"#,
        filter.portal,
        filter.country,
        filter.after,
        filter.limit
    )
    .fetch_all(connection)
    .await
}

/// Rows of `enhanced_skills` with portal and country of the posting.
///
/// # Errors
/// When the statement fails.
pub async fn skills(connection: &mut PgConnection, filter: Filter<'_>) -> sqlx::Result<Vec<Row>> {
    sqlx::query_as!(
        Row,
        r#"select e.enhancement_id::text as "key!",
               to_jsonb(e) || jsonb_build_object('portal', r.portal, 'country', r.country) as "object!"
           from enhanced_skills e join posting p on p.job_id = e.job_id
           join raw_jobs r on r.country = p.country and r.job_id = p.job_id
           where ($3::text is null or e.enhancement_id > $3::text::uuid)
             and exists (select from sighting s where s.job_id = e.job_id
                 and ($1::text is null or s.portal = $1) and ($2::text is null or s.country = $2))
           order by e.enhancement_id limit $4"#,
        filter.portal,
        filter.country,
        filter.after,
        filter.limit
    )
    .fetch_all(connection)
    .await
}

/// Members of the latest clustering; portal and country do not apply to them.
///
/// # Errors
/// When the statement fails.
pub async fn clusters(connection: &mut PgConnection, filter: Filter<'_>) -> sqlx::Result<Vec<Row>> {
    sqlx::query_as!(
        Row,
        r#"select lpad(k.skill_id::text, 20, '0') as "key!",
               jsonb_build_object('analysis_id', k.analysis_id, 'cluster_id', k.cluster_id,
                   'cluster_label', c.label, 'skill', s.label, 'x', k.x, 'y', k.y,
                   'job_count', k.job_count) as "object!"
           from skill_point k join skill s on s.skill_id = k.skill_id
           left join skill_cluster c on c.analysis_id = k.analysis_id and c.cluster_id = k.cluster_id
           where k.analysis_id = (select analysis_id from analysis_results
                   where analysis_type = 'clustering' order by created_at desc limit 1)
             and ($1::text is null or k.skill_id > $1::text::bigint)
           order by k.skill_id limit $2"#,
        filter.after,
        filter.limit
    )
    .fetch_all(connection)
    .await
}
