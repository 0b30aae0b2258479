//! Vectors to clusters.
//!
//! Equal vectors give equal clusters on every processor, and vectors that differ by rounding all
//! but the same ones. Which parameters were used, and why others, is part of the result.

mod partition;

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;
use observatory_clustering::{Label, Matrix, hdbscan::Selection, members, quality, umap};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    domain::{
        cluster,
        run::{
            StageName,
            facts::{AnalyzeFacts, ClusterFacts, QualityMetrics},
        },
    },
    stage::{Checkpoints, Effect, Outcome, Plan, Stage, StageError},
    store::{
        PgPool,
        analyses::{Cluster, Clustering, Point},
        embeddings::{self, EmbeddingModel, SkillVector},
        runs::Run,
        tasks::{Subject, Task},
    },
};
use partition::{Failure, MAX_SHARE, Partition};

/// Skills named for a cluster: a choice.
const TOP_SKILLS: usize = 10;

/// Keys of [`Settings`].
pub(crate) const SETTINGS: [&str; 7] =
    ["n_neighbors", "min_dist", "seed", "n_components", "min_cluster_size", "min_samples", "engine"];

/// Settings of the analyzer.
///
/// The map is UMAP's, with the published parameters. Clusters are not sought on it, since it is
/// another one whenever the last bits of a vector are others, but among the eigenvectors of the
/// same neighbourhoods.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// Points in a neighbourhood, on the map and for the clusters.
    pub n_neighbors: usize,
    /// UMAP: smallest distance between points on the map.
    pub min_dist: f64,
    /// UMAP: seed of every random number.
    pub seed: u64,
    /// Clusters: eigenvectors of the neighbourhoods' graph, 1 to 60; fewer where there are few
    /// skills.
    pub n_components: usize,
    /// HDBSCAN: smallest cluster.
    pub min_cluster_size: usize,
    /// HDBSCAN: neighbours that make a point dense, the point itself included. The published figure
    /// is 3; of 2,000 skills it leaves more than a third without a cluster, 2 fewer than 30 %.
    pub min_samples: usize,
    /// HDBSCAN: `own` for ours, `crate` for the published crate.
    pub engine: Engine,
}

/// Implementation of HDBSCAN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Engine {
    /// The published crate.
    Crate,
    /// Ours: exact, indifferent to the order of the points, and faster.
    #[default]
    Own,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            n_neighbors: 15,
            min_dist: 0.1,
            seed: 42,
            n_components: 60,
            min_cluster_size: 5,
            min_samples: 2,
            engine: Engine::Own,
        }
    }
}

/// Clusters the vectors of all skills in use.
pub(crate) struct AnalyzerStage {
    pool: PgPool,
    settings: Settings,
    analyses: AtomicU64,
}

impl AnalyzerStage {
    /// A stage with these parameters.
    pub(crate) fn new(pool: PgPool, settings: Settings) -> Self {
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
        // May compute for long: no thread that serves calls or beats leases may do it.
        let work = tokio::task::spawn_blocking(move || cluster(&settings, &model, &skills));
        let clustering = work
            .await
            .map_err(|error| StageError::Fail(format!("clustering panicked: {error}")))?
            .map_err(|error| StageError::Fail(error.to_string()))?;
        self.analyses.fetch_add(1, Ordering::Relaxed);
        Ok(Effect::Analyzed(Box::new(clustering)))
    }
}

/// Reduces, clusters, labels and judges. A pure function: equal vectors give an equal clustering,
/// and vectors that differ by rounding give all but the same clusters.
fn cluster(
    settings: &Settings,
    model: &EmbeddingModel,
    skills: &[SkillVector],
) -> Result<Clustering, Failure> {
    let dimensions = model.dimensions.unsigned_abs() as usize;
    let values: Vec<f32> = skills.iter().flat_map(|skill| skill.vector.iter().copied()).collect();
    let vectors = Matrix::new(&values, dimensions)?;
    let map = umap::umap(vectors, &umap_params(settings))?;
    let found = partition::find(vectors, settings, MAX_SHARE)?;
    let clusters: Vec<Cluster> = members::clusters(vectors, &found.labels, umap::Metric::Cosine)?
        .iter()
        .map(|cluster| describe(cluster, skills))
        .collect();
    let noise = found.labels.iter().filter(|label| label.is_none()).count();
    // Judged in the space in which they were found: on the map, distances between clusters mean
    // little.
    let space = Matrix::new(&found.space.coordinates, found.space.dims)?;
    let quality_metrics = QualityMetrics {
        silhouette_score: quality::silhouette(space, &found.labels)?,
        davies_bouldin_index: quality::davies_bouldin(space, &found.labels)?,
    };
    Ok(Clustering {
        parameters: parameters(settings, &found),
        results: results(&clusters, noise, skills.len(), quality_metrics),
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
        // 0 takes every core; the map is the same for any number of threads.
        threads: 0,
        ..umap::UmapParams::default()
    }
}

/// The parameters really used, under the names of the libraries that made the methods known.
fn parameters(settings: &Settings, found: &Partition) -> serde_json::Value {
    let used = found.attempt;
    let selection = match used.selection {
        Selection::ExcessOfMass => "eom",
        Selection::Leaf => "leaf",
    };
    let mut parameters = json!({
        "umap": { "n_neighbors": settings.n_neighbors, "min_dist": settings.min_dist, "n_components": 2,
            "metric": "cosine", "random_state": settings.seed },
        "eigenmap": { "n_neighbors": used.n_neighbors, "n_components": found.space.dims - 1, "metric": "cosine" },
        "hdbscan": { "min_cluster_size": used.min_cluster_size, "min_samples": used.min_samples,
            // scikit-learn counts the point itself, scikit-learn-contrib/hdbscan does not: 2 here
            // is 1 there.
            "min_samples_counts_the_point_itself": true, "metric": "euclidean",
            "cluster_selection_method": selection, "engine": settings.engine },
        "quality": "of the clusters in the eigenmap, noise excluded",
    });
    // The first refused partition is that of the settings as given; its share is the reason for all
    // later attempts.
    if let Some(share) = found.refused.first() {
        parameters["varied"] = json!({
            "attempt": found.refused.len() + 1,
            "reason": format!("with the settings as given one cluster holds {:.0} % of the skills", share * 100.0),
        });
    }
    parameters
}

fn describe(cluster: &members::Cluster, skills: &[SkillVector]) -> Cluster {
    let mut members: Vec<&SkillVector> = cluster.members.iter().map(|row| &skills[*row]).collect();
    // The label breaks ties, so that a cluster keeps its name from one run to the next.
    members.sort_by(|left, right| right.job_count.cmp(&left.job_count).then(left.label.cmp(&right.label)));
    let names: Vec<&str> = members.iter().map(|skill| skill.label.as_str()).collect();
    Cluster {
        cluster_id: i32::try_from(cluster.label).unwrap_or(i32::MAX),
        label: cluster::name(&names),
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
    quality_metrics: QualityMetrics,
) -> AnalyzeFacts {
    let described = clusters.iter().map(|cluster| ClusterFacts {
        cluster_id: cluster.cluster_id,
        label: cluster.label.clone(),
        size: cluster.size,
        top_skills: cluster.top_skills.clone(),
        cohesion_score: cluster.cohesion_score,
    });
    AnalyzeFacts {
        n_clusters: clusters.len() as u64,
        n_noise: noise as u64,
        n_skills: skills as u64,
        clusters: described.collect(),
        quality_metrics,
    }
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
            Plan { tasks: vec![Subject::other(run.run_id)], ..plan }
        })
    }

    async fn process(&self, batch: &[Task], _: &Checkpoints) -> Result<Vec<Outcome>, StageError> {
        let mut outcomes = Vec::with_capacity(batch.len());
        // One after the other: an analysis takes every core by itself.
        for _ in batch {
            outcomes.push(self.analyze().await);
        }
        Ok(outcomes)
    }

    async fn validate_input(&self) -> Result<(), StageError> {
        // The settings were checked when the process started; an analysis needs nothing else.
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

#[cfg(test)]
mod tests;
