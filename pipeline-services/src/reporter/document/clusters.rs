//! The cluster analysis as a report shows it.
//!
//! Clusters are of the whole store; sizes and demand are counted among the postings that the report
//! covers. Part of the published document: fields change with its version only.

use serde::{Deserialize, Serialize};

use super::Parameter;

/// The cluster analysis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterSection {
    /// Model whose vectors were clustered.
    pub embedding_model: String,
    /// Reduction and clustering parameters, as used.
    pub parameters: Vec<Parameter>,
    /// Skills that were clustered: those of the whole store, also where the report covers a part of
    /// it.
    pub analysed: u64,
    /// Quality figures.
    pub metrics: ClusterMetrics,
    /// Clusters with a skill that the postings of the scope name, largest first.
    pub clusters: Vec<ClusterRow>,
    /// The map: all points, or a sample if there are very many.
    pub points: Vec<MapPoint>,
}

/// Quality of the clusters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterMetrics {
    /// Skills among those clustered that the postings of the scope name (`points` may hold fewer).
    pub points: u64,
    /// Those of them in no cluster.
    pub noise: u64,
    /// Mean silhouette of all skills that were clustered and are not noise, -1 to 1; none with
    /// fewer than two clusters.
    #[serde(default)]
    pub silhouette: Option<f64>,
    /// Davies-Bouldin index of the same, lower is better.
    #[serde(default)]
    pub davies_bouldin: Option<f64>,
}

/// One cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterRow {
    /// Cluster id.
    pub cluster_id: i32,
    /// Label.
    pub label: String,
    /// Skills in it that the postings of the scope name.
    pub size: u64,
    /// Postings of the scope that name at least one of them.
    pub job_count: u64,
    /// Those skills, the most named first (a handful).
    pub top_skills: Vec<String>,
    /// Mean cosine similarity of all its skills to its centroid.
    #[serde(default)]
    pub cohesion: Option<f64>,
}

/// One skill on the map.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MapPoint {
    /// Skill label.
    pub label: String,
    /// First coordinate (finite).
    pub x: f64,
    /// Second coordinate (finite).
    pub y: f64,
    /// Cluster id; none for noise.
    #[serde(default)]
    pub cluster: Option<i32>,
    /// Postings that name it.
    pub job_count: u64,
}
