//! The clusters of a run, as far as the postings of the report go.
//!
//! The analysis is of every stored skill; the section shows what the postings of the report name.

use std::collections::HashMap;

use serde_json::Value;

use super::size;
use crate::{
    domain::cluster,
    reporter::document::{ClusterMetrics, ClusterRow, ClusterSection, MapPoint, Parameter},
    store::{
        PgConnection, SqlResult, analyses,
        figures::{self, SkillFigures},
        runs::{Run, Scope},
    },
};

/// Points on the map; the most demanded come first. Not tuned: more cannot be told apart.
const POINTS: usize = 4_000;
/// Skills that stand for a cluster. A choice, not tuned.
const TOP_SKILLS: usize = 10;

/// The analysis is of every stored skill. Of it, what the postings of the scope name is shown:
/// those skills, the clusters that hold one of them, and counts of those postings.
pub(super) async fn section(
    connection: &mut PgConnection,
    run: &Run,
    scope: &Scope,
    rows: &[SkillFigures],
) -> SqlResult<Option<ClusterSection>> {
    let Some(analysis) = analyses::find(connection, Some(run.run_id)).await? else { return Ok(None) };
    let found = analyses::clusters(connection, analysis.analysis_id).await?;
    let all = analyses::points(connection, analysis.analysis_id).await?;
    let postings = figures::cluster_postings(connection, scope, analysis.analysis_id).await?;
    let postings: HashMap<i32, i64> = postings.into_iter().collect();
    let analysed = all.len() as u64;
    let mut points = named_points(all, rows);
    let quality = analysis.results.quality_metrics;
    let metrics = ClusterMetrics {
        points: points.len() as u64,
        noise: points.iter().filter(|point| point.cluster.is_none()).count() as u64,
        silhouette: quality.silhouette_score,
        davies_bouldin: quality.davies_bouldin_index,
    };
    let mut members: HashMap<i32, Vec<&str>> = HashMap::new();
    // In the order of demand, which the members of each cluster take over.
    for point in &points {
        if let Some(id) = point.cluster {
            members.entry(id).or_default().push(&point.label);
        }
    }
    let mut clusters: Vec<ClusterRow> =
        found.into_iter().filter_map(|found| row(found, &members, &postings)).collect();
    clusters.sort_by(|left, right| right.size.cmp(&left.size).then(left.cluster_id.cmp(&right.cluster_id)));
    // After all counting: the figures are of every point, the map shows a part.
    points.truncate(POINTS);
    Ok(Some(ClusterSection {
        embedding_model: analysis.model_name.unwrap_or_default(),
        parameters: parameters(&analysis.parameters),
        analysed,
        metrics,
        clusters,
        points,
    }))
}

/// The points of skills that the postings of the scope name, the most named first.
fn named_points(all: Vec<analyses::LabelledPoint>, rows: &[SkillFigures]) -> Vec<MapPoint> {
    let named = rows.iter().filter(|row| row.job_count > 0);
    let named: HashMap<&str, u64> = named.map(|row| (row.label.as_str(), size(row.job_count))).collect();
    let mut points = Vec::new();
    for point in all {
        let Some(job_count) = named.get(point.label.as_str()).copied() else { continue };
        points.push(MapPoint {
            job_count,
            x: f64::from(point.x),
            y: f64::from(point.y),
            cluster: point.cluster_id,
            label: point.label,
        });
    }
    points.sort_by(|left, right| right.job_count.cmp(&left.job_count).then(left.label.cmp(&right.label)));
    points
}

/// A cluster by its members in scope, the most named first; none when it has none.
fn row(
    found: analyses::Cluster,
    members: &HashMap<i32, Vec<&str>>,
    postings: &HashMap<i32, i64>,
) -> Option<ClusterRow> {
    let members = members.get(&found.cluster_id)?;
    Some(ClusterRow {
        cluster_id: found.cluster_id,
        // Not the stored one, which may name skills that the postings of the report do not have.
        label: cluster::name(members),
        size: members.len() as u64,
        job_count: size(postings.get(&found.cluster_id).copied().unwrap_or(0)),
        top_skills: members.iter().take(TOP_SKILLS).map(ToString::to_string).collect(),
        cohesion: Some(found.cohesion_score),
    })
}

/// `{"umap": {"n_neighbors": 15}}` as `umap.n_neighbors = 15`.
fn parameters(nested: &Value) -> Vec<Parameter> {
    let mut flat = Vec::new();
    for (group, values) in nested.as_object().into_iter().flatten() {
        match values.as_object() {
            None => flat.push(Parameter { name: group.clone(), value: plain(values) }),
            Some(values) => flat.extend(
                values
                    .iter()
                    .map(|(name, value)| Parameter { name: format!("{group}.{name}"), value: plain(value) }),
            ),
        }
    }
    flat
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
