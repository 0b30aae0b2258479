//! Results of the analyzer.
//!
//! A run has one clustering; storing another replaces it with its clusters and points.

use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::domain::run::facts::AnalyzeFacts;

/// A cluster of skills.
#[derive(Debug, Clone, PartialEq)]
pub struct Cluster {
    /// From 0, largest first.
    pub cluster_id: i32,
    /// Name for people.
    pub label: String,
    /// Members.
    pub size: i32,
    /// Members most asked for, first the most.
    pub top_skills: Vec<String>,
    /// Mean cosine of the members to their centroid.
    pub cohesion_score: f64,
}

/// Place of a skill on the map.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Skill.
    pub skill_id: i64,
    /// First coordinate.
    pub x: f32,
    /// Second coordinate.
    pub y: f32,
    /// Cluster; `None` for noise.
    pub cluster_id: Option<i32>,
    /// Postings that ask for it.
    pub job_count: i64,
}

/// A clustering as the analyzer hands it over.
#[derive(Debug, Clone, PartialEq)]
pub struct Clustering {
    /// Parameters that made it.
    pub parameters: Value,
    /// Published output.
    pub results: AnalyzeFacts,
    /// Model of the vectors.
    pub model_id: i16,
    /// Clusters.
    pub clusters: Vec<Cluster>,
    /// Every skill.
    pub points: Vec<Point>,
}

/// Stores the clustering of a run in place of an earlier one of the same run.
///
/// # Errors
/// If a statement fails.
pub async fn replace(
    connection: &mut PgConnection,
    run_id: Uuid,
    clustering: &Clustering,
) -> sqlx::Result<Uuid> {
    // The foreign keys take its clusters and points with it.
    sqlx::query!("delete from analysis_results where run_id = $1 and analysis_type = 'clustering'", run_id)
        .execute(&mut *connection)
        .await?;
    let analysis_id = sqlx::query_scalar!(
        "insert into analysis_results (run_id, analysis_type, parameters, results, model_id)
         values ($1, 'clustering', $2, $3, $4) returning analysis_id",
        run_id,
        clustering.parameters,
        serde_json::to_value(&clustering.results).unwrap_or_default(),
        clustering.model_id
    )
    .fetch_one(&mut *connection)
    .await?;
    // One statement each: they are few, and `unnest` would flatten the arrays of their top skills.
    // Before the points, which refer to them.
    for cluster in &clustering.clusters {
        sqlx::query!(
            "insert into skill_cluster (analysis_id, cluster_id, label, size, top_skills, cohesion_score)
             values ($1, $2, $3, $4, $5, $6)",
            analysis_id,
            cluster.cluster_id,
            cluster.label,
            cluster.size,
            &cluster.top_skills,
            cluster.cohesion_score
        )
        .execute(&mut *connection)
        .await?;
    }
    insert_points(connection, analysis_id, &clustering.points).await?;
    Ok(analysis_id)
}

async fn insert_points(
    connection: &mut PgConnection,
    analysis_id: Uuid,
    points: &[Point],
) -> sqlx::Result<()> {
    // An array for each column: a list of values would meet the limit of 65,535 parameters.
    let skills: Vec<i64> = points.iter().map(|point| point.skill_id).collect();
    let xs: Vec<f32> = points.iter().map(|point| point.x).collect();
    let ys: Vec<f32> = points.iter().map(|point| point.y).collect();
    let clusters: Vec<Option<i32>> = points.iter().map(|point| point.cluster_id).collect();
    let counts: Vec<i64> = points.iter().map(|point| point.job_count).collect();
    sqlx::query!(
        "insert into skill_point (analysis_id, skill_id, x, y, cluster_id, job_count)
         select $1, skill_id, x, y, cluster_id, job_count
         from unnest($2::bigint[], $3::real[], $4::real[], $5::int[], $6::bigint[])
             as item (skill_id, x, y, cluster_id, job_count)",
        analysis_id,
        &skills,
        &xs,
        &ys,
        &clusters as &[Option<i32>],
        &counts
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// A stored clustering without its members.
#[derive(Debug, Clone)]
pub(crate) struct StoredAnalysis {
    /// Key.
    pub analysis_id: Uuid,
    /// Run that made it.
    pub run_id: Uuid,
    /// Parameters that made it.
    pub parameters: Value,
    /// Published output.
    pub results: AnalyzeFacts,
    /// Name of the vectors' model.
    pub model_name: Option<String>,
}

/// The clustering of a run, or the latest one.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn find(
    connection: &mut PgConnection,
    run_id: Option<Uuid>,
) -> sqlx::Result<Option<StoredAnalysis>> {
    // A left join, since an analysis outlives the row of its model.
    let row = sqlx::query!(
        r#"select a.analysis_id, a.run_id, a.parameters, a.results, m.name as "model_name?"
           from analysis_results a left join embedding_model m on m.model_id = a.model_id
           where a.analysis_type = 'clustering' and ($1::uuid is null or a.run_id = $1)
           order by a.created_at desc limit 1"#,
        run_id
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| StoredAnalysis {
        analysis_id: row.analysis_id,
        run_id: row.run_id,
        parameters: row.parameters,
        // The clusters have rows of their own; figures in the form of another release count as
        // missing.
        results: serde_json::from_value(row.results).unwrap_or_default(),
        model_name: row.model_name,
    }))
}

/// Clusters of an analysis, largest first.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn clusters(connection: &mut PgConnection, analysis_id: Uuid) -> sqlx::Result<Vec<Cluster>> {
    sqlx::query_as!(
        Cluster,
        "select cluster_id, label, size, top_skills, cohesion_score from skill_cluster
         where analysis_id = $1 order by cluster_id",
        analysis_id
    )
    .fetch_all(connection)
    .await
}

/// A skill on the map with its label.
#[derive(Debug, Clone)]
pub(crate) struct LabelledPoint {
    /// Normalised label.
    pub label: String,
    /// First coordinate.
    pub x: f32,
    /// Second coordinate.
    pub y: f32,
    /// Cluster; `None` for noise.
    pub cluster_id: Option<i32>,
    /// Postings that ask for it.
    pub job_count: i64,
}

/// The map of an analysis, in the order of the labels.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn points(
    connection: &mut PgConnection,
    analysis_id: Uuid,
) -> sqlx::Result<Vec<LabelledPoint>> {
    sqlx::query_as!(
        LabelledPoint,
        r#"select s.label, p.x, p.y, p.cluster_id, p.job_count from skill_point p
           join skill s on s.skill_id = p.skill_id where p.analysis_id = $1 order by s.label collate "C""#,
        analysis_id
    )
    .fetch_all(connection)
    .await
}
