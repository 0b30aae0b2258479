//! Vectors to clusters.

mod labels;

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;
use observatory_clustering::{ClusteringError, Label, Matrix, hdbscan, members, quality, umap};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    domain::run::StageName,
    stage::{Effect, Outcome, Plan, PlannedTask, Stage, StageError},
    store::{
        PgPool,
        analyses::{Cluster, Clustering, Point},
        embeddings::{self, EmbeddingModel, SkillVector},
        runs::Run,
        tasks::Task,
    },
};

/// Skills named for a cluster.
const TOP_SKILLS: usize = 10;

/// Keys of [`Settings`].
pub const SETTINGS: [&str; 6] =
    ["n_neighbors", "min_dist", "seed", "min_cluster_size", "min_samples", "engine"];

/// What only the analyzer understands; the defaults are the published parameters.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// UMAP: points in a neighbourhood.
    pub n_neighbors: usize,
    /// UMAP: smallest distance between points on the map.
    pub min_dist: f64,
    /// UMAP: seed of every random number.
    pub seed: u64,
    /// HDBSCAN: smallest cluster.
    pub min_cluster_size: usize,
    /// HDBSCAN: neighbours that make a point dense, the point itself included.
    pub min_samples: usize,
    /// HDBSCAN: `crate` for the published crate, `own` for ours.
    pub engine: Engine,
}

/// Implementation of HDBSCAN.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// The published crate.
    #[default]
    Crate,
    /// Ours: exact, indifferent to the order of the points.
    Own,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            n_neighbors: 15,
            min_dist: 0.1,
            seed: 42,
            min_cluster_size: 5,
            min_samples: 3,
            engine: Engine::Crate,
        }
    }
}

/// Clusters the vectors of all skills in use.
pub struct AnalyzerStage {
    pool: PgPool,
    settings: Settings,
    analyses: AtomicU64,
}

impl AnalyzerStage {
    /// A stage with these parameters.
    pub fn new(pool: PgPool, settings: Settings) -> Self {
        Self { pool, settings, analyses: AtomicU64::new(0) }
    }

    async fn vectors(&self) -> Result<Option<(EmbeddingModel, Vec<SkillVector>)>, StageError> {
        let mut connection = self.pool.acquire().await?;
        let Some(model) = embeddings::active(&mut connection).await? else { return Ok(None) };
        let skills = embeddings::vectors(&mut connection, model.model_id).await?;
        Ok(Some((model, skills)))
    }

    async fn analyze(&self) -> Outcome {
        let found = self.vectors().await?;
        let Some((model, skills)) = found else {
            return Err(StageError::Fail("there are no vectors to cluster".to_owned()));
        };
        let settings = self.settings.clone();
        let work = tokio::task::spawn_blocking(move || cluster(&settings, &model, &skills));
        let clustering = work
            .await
            .map_err(|error| StageError::Fail(format!("clustering panicked: {error}")))?
            .map_err(|error| StageError::Fail(error.to_string()))?;
        self.analyses.fetch_add(1, Ordering::Relaxed);
        Ok(Effect::Analyzed(Box::new(clustering)))
    }
}

/// Reduces, clusters, labels and judges. A pure function: equal vectors give an equal clustering.
fn cluster(
    settings: &Settings,
    model: &EmbeddingModel,
    skills: &[SkillVector],
) -> Result<Clustering, ClusteringError> {
    let dimensions = model.dimensions.unsigned_abs() as usize;
    let values: Vec<f32> = skills.iter().flat_map(|skill| skill.vector.iter().copied()).collect();
    let vectors = Matrix::new(&values, dimensions)?;
    let map = umap::umap(vectors, &umap_params(settings))?;
    let coordinates = Matrix::new(&map, 2)?;
    let found = hdbscan::hdbscan(coordinates, &hdbscan_params(settings))?;
    let clusters: Vec<Cluster> = members::clusters(vectors, &found.labels, umap::Metric::Cosine)?
        .iter()
        .map(|cluster| describe(cluster, skills))
        .collect();
    let noise = found.labels.iter().filter(|label| label.is_none()).count();
    let metrics = json!({
        "silhouette_score": quality::silhouette(coordinates, &found.labels)?,
        "davies_bouldin_index": quality::davies_bouldin(coordinates, &found.labels)?,
    });
    Ok(Clustering {
        parameters: parameters(settings),
        results: results(&clusters, noise, skills.len(), &metrics),
        model_id: model.model_id,
        points: points(skills, &map, &found.labels),
        clusters,
    })
}

fn umap_params(settings: &Settings) -> umap::UmapParams {
    umap::UmapParams {
        n_neighbors: settings.n_neighbors,
        min_dist: settings.min_dist,
        seed: settings.seed,
        threads: 0,
        ..umap::UmapParams::default()
    }
}

fn hdbscan_params(settings: &Settings) -> hdbscan::HdbscanParams {
    hdbscan::HdbscanParams {
        min_cluster_size: settings.min_cluster_size,
        min_samples: settings.min_samples,
        engine: match settings.engine {
            Engine::Crate => hdbscan::Engine::Crate,
            Engine::Own => hdbscan::Engine::Own,
        },
        ..hdbscan::HdbscanParams::default()
    }
}

fn parameters(settings: &Settings) -> serde_json::Value {
    json!({
        "umap": { "n_neighbors": settings.n_neighbors, "min_dist": settings.min_dist, "n_components": 2,
            "metric": "cosine", "random_state": settings.seed },
        "hdbscan": { "min_cluster_size": settings.min_cluster_size, "min_samples": settings.min_samples,
            "min_samples_counts_the_point_itself": true, "metric": "euclidean", "engine": settings.engine },
        "quality": "noise excluded",
    })
}

fn describe(cluster: &members::Cluster, skills: &[SkillVector]) -> Cluster {
    let mut members: Vec<&SkillVector> = cluster.members.iter().map(|row| &skills[*row]).collect();
    members.sort_by(|left, right| right.job_count.cmp(&left.job_count).then(left.label.cmp(&right.label)));
    let names: Vec<&str> = members.iter().map(|skill| skill.label.as_str()).collect();
    Cluster {
        cluster_id: i32::try_from(cluster.label).unwrap_or(i32::MAX),
        label: labels::name(&names),
        size: i32::try_from(members.len()).unwrap_or(i32::MAX),
        top_skills: names.iter().take(TOP_SKILLS).map(ToString::to_string).collect(),
        cohesion_score: cluster.cohesion,
    }
}

fn points(skills: &[SkillVector], map: &[f32], labels: &[Label]) -> Vec<Point> {
    skills
        .iter()
        .zip(map.chunks_exact(2))
        .zip(labels)
        .map(|((skill, place), label)| Point {
            skill_id: skill.skill_id,
            x: place[0],
            y: place[1],
            cluster_id: label.and_then(|label| i32::try_from(label).ok()),
            job_count: skill.job_count,
        })
        .collect()
}

/// The published output of an analysis.
fn results(
    clusters: &[Cluster],
    noise: usize,
    skills: usize,
    metrics: &serde_json::Value,
) -> serde_json::Value {
    let described: Vec<_> = clusters
        .iter()
        .map(|cluster| {
            json!({ "cluster_id": cluster.cluster_id, "label": cluster.label, "size": cluster.size,
                "top_skills": cluster.top_skills, "cohesion_score": cluster.cohesion_score })
        })
        .collect();
    json!({ "n_clusters": clusters.len(), "n_noise": noise, "n_skills": skills, "clusters": described,
        "quality_metrics": metrics })
}

#[async_trait]
impl Stage for AnalyzerStage {
    fn name(&self) -> StageName {
        StageName::Analyze
    }

    async fn plan(&self, run: &Run) -> Result<Plan, StageError> {
        let skills = self.vectors().await?.map_or(0, |(_, skills)| skills.len());
        let plan = Plan::default();
        Ok(if skills == 0 {
            Plan { skipped: Some("there are no vectors to cluster".to_owned()), ..plan }
        } else {
            Plan { tasks: vec![PlannedTask::other(run.run_id)], ..plan }
        })
    }

    async fn process(&self, batch: &[Task]) -> Result<Vec<Outcome>, StageError> {
        let mut outcomes = Vec::with_capacity(batch.len());
        for _ in batch {
            outcomes.push(self.analyze().await);
        }
        Ok(outcomes)
    }

    async fn validate_input(&self) -> Result<(), StageError> {
        self.pool.acquire().await?;
        Ok(())
    }

    fn metrics(&self) -> BTreeMap<String, f64> {
        BTreeMap::from([("analyses_total".to_owned(), self.analyses.load(Ordering::Relaxed) as f64)])
    }

    async fn cleanup(&self) -> Result<(), StageError> {
        Ok(())
    }
}
