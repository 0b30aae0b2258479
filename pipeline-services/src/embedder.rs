//! Skills to vectors.
//!
//! A plan names the server's model, which the worker activates; batches embed with the active one.
//! A vector that is not finite and of unit length never gets this far: the client refuses it.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use async_trait::async_trait;
use serde::Deserialize;
use tokio::sync::Mutex;

use crate::{
    cache::{self, CachedEmbeddings, Limits},
    domain::run::{
        StageName,
        facts::{EmbedFacts, RunFacts},
    },
    inference::{EmbeddingModelInfo, InferenceError},
    stage::{Checkpoints, Effect, Outcome, Plan, Stage, StageError},
    store::{
        PgPool,
        embeddings::{self as vectors, EmbeddingModel, ModelIdentity},
        runs::Run,
        tasks::{Subject, Task},
    },
};

/// Longest wait for a model that its server is loading, so that a start costs no try; and the pause
/// between two looks. Not tuned: a large model is read from a slow disk in about a minute.
const LOADING: Duration = Duration::from_secs(120);
/// See `LOADING`.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Settings of the embedder.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// Model to use; the inference server's default when absent.
    pub model: Option<String>,
    /// Texts sent in one request.
    pub texts_per_request: usize,
    /// Vectors kept in memory, and the seconds after which they are forgotten.
    pub memory_entries: usize,
    /// See `memory_entries`.
    pub memory_seconds: u64,
    /// Vectors kept in files of the cache directory, and the seconds after which they are
    /// forgotten.
    pub disk_entries: usize,
    /// See `disk_entries`.
    pub disk_seconds: u64,
}

/// Keys of the settings.
pub(crate) const SETTINGS: [&str; 6] =
    ["model", "texts_per_request", "memory_entries", "memory_seconds", "disk_entries", "disk_seconds"];

impl Default for Settings {
    fn default() -> Self {
        Self {
            model: None,
            texts_per_request: 32,
            memory_entries: 1_000,
            memory_seconds: 3_600,
            disk_entries: 10_000,
            disk_seconds: 86_400,
        }
    }
}

impl Settings {
    /// Limits of the cache, with its files in `directory`.
    pub(crate) fn cache(&self, directory: Option<PathBuf>) -> cache::Options {
        cache::Options {
            memory: limits(self.memory_entries, self.memory_seconds),
            disk: limits(self.disk_entries, self.disk_seconds),
            directory,
        }
    }
}

fn limits(entries: usize, seconds: u64) -> Limits {
    Limits { entries, lifetime: Duration::from_secs(seconds) }
}

/// Makes one vector for each distinct skill in use.
pub(crate) struct Embedder {
    pool: PgPool,
    embeddings: CachedEmbeddings,
    settings: Settings,
    /// The server's model as of the last question, so that not every batch asks again.
    served: Mutex<Option<EmbeddingModelInfo>>,
    vectors: AtomicU64,
}

impl Embedder {
    /// An embedder that takes its vectors from `embeddings`.
    pub(crate) fn new(pool: PgPool, embeddings: CachedEmbeddings, settings: Settings) -> Self {
        Self { pool, embeddings, settings, served: Mutex::new(None), vectors: AtomicU64::new(0) }
    }

    /// Asks the server for its model, and waits while the server is loading it.
    async fn ask(&self) -> Result<EmbeddingModelInfo, InferenceError> {
        let give_up = tokio::time::Instant::now() + LOADING;
        let info = loop {
            match self.embeddings.inference().embedding_model(self.settings.model.as_deref()).await {
                // Nothing else is waited for here: the worker waits for a server that is away, at
                // no cost of tries.
                Err(InferenceError::Loading(_)) if tokio::time::Instant::now() < give_up => {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                answer => break answer?,
            }
        };
        *self.served.lock().await = Some(info.clone());
        Ok(info)
    }

    /// The server's model and its row. Only a plan activates a model, so a server that has changed
    /// its model since then is an error.
    async fn current(&self) -> Result<(EmbeddingModelInfo, EmbeddingModel), StageError> {
        let active = vectors::active(&mut *self.pool.acquire().await?).await?;
        // Cloned out of the lock, so that batches do not wait for each other's questions.
        let known = self.served.lock().await.clone();
        // Compared with the row, since the plan of another process may have activated another
        // model.
        if let Some(info) = known
            && let Some(model) = active.clone().filter(|model| model.is(&identity(&info)))
        {
            return Ok((info, model));
        }
        let info = self.ask().await?;
        match active.filter(|model| model.is(&identity(&info))) {
            Some(model) => Ok((info, model)),
            // A retry and no wait: tries are limited, so a server that keeps its new model ends the
            // task.
            None => Err(StageError::Retry(format!(
                "the inference server now serves {}@{}, not the model that this run was planned with: start a new run",
                info.name, info.revision
            ))),
        }
    }

    async fn embed_chunk(
        &self,
        model: &(EmbeddingModelInfo, EmbeddingModel),
        chunk: &[(i64, String)],
    ) -> Result<Vec<(i64, Outcome)>, StageError> {
        let texts = chunk.iter().map(|(_, label)| label.clone()).collect();
        let (info, stored) = model;
        // Models such as E5 embed stored texts and queries under different prompts.
        let rows = self.embeddings.embed(info, &info.passage_prompt, texts).await?;
        self.vectors.fetch_add(rows.len() as u64, Ordering::Relaxed);
        Ok(chunk
            .iter()
            .zip(rows)
            .map(|((skill_id, _), row)| {
                let outcome = row
                    .map(|vector| Effect::Embedded { skill_id: *skill_id, model_id: stored.model_id, vector })
                    // An error of one text is about its content and comes again with it.
                    .map_err(StageError::Fail);
                (*skill_id, outcome)
            })
            .collect())
    }
}

fn identity(info: &EmbeddingModelInfo) -> ModelIdentity {
    ModelIdentity::new(&info.name, &info.revision, &info.passage_prompt, info.dimensions)
}

fn skill_id(task: &Task) -> Result<i64, StageError> {
    task.subject.parse().map_err(|_| {
        StageError::Fail(format!("invalid subject `{}`: expected the id of a skill", task.subject))
    })
}

#[async_trait]
impl Stage for Embedder {
    fn name(&self) -> StageName {
        StageName::Embed
    }

    async fn plan(&self, _run: &Run) -> Result<Plan, StageError> {
        let info = self.ask().await?;
        let model = identity(&info);
        let mut connection = self.pool.acquire().await?;
        let row = vectors::find(&mut connection, &model).await?;
        // A model without a row has no vectors yet, so all of its skills are pending.
        let (pending, up_to_date) = vectors::coverage(&mut connection, row.map(|row| row.model_id)).await?;
        let skipped =
            (pending.is_empty() && up_to_date == 0).then(|| "there are no skills to embed".to_owned());
        let facts = EmbedFacts {
            model: Some(info.name),
            revision: Some(info.revision),
            dimensions: Some(info.dimensions),
            languages: info.languages,
        };
        Ok(Plan {
            tasks: pending.into_iter().map(Subject::other).collect(),
            up_to_date,
            facts: RunFacts { embed: Some(facts), ..RunFacts::default() },
            model: Some(model),
            problem: None,
            skipped,
        })
    }

    async fn process(&self, batch: &[Task], _: &Checkpoints) -> Result<Vec<Outcome>, StageError> {
        let model = match self.current().await {
            // Each task by itself, so that none of them is taken for the cause.
            Err(error @ StageError::Retry(_)) => return Ok(vec![Err(error); batch.len()]),
            known => known?,
        };
        // A subject that is no id gets an error of its own below.
        let ids: Vec<i64> = batch.iter().filter_map(|task| skill_id(task).ok()).collect();
        let mut connection = self.pool.acquire().await?;
        let labels = vectors::labels(&mut connection, &ids).await?;
        // Given back before the server is asked, which may take minutes.
        drop(connection);
        let mut outcomes: HashMap<i64, Outcome> = HashMap::new();
        for chunk in labels.chunks(self.settings.texts_per_request.max(1)) {
            match self.embed_chunk(&model, chunk).await {
                Ok(done) => outcomes.extend(done),
                Err(error) => {
                    // The server may have come back with another model.
                    *self.served.lock().await = None;
                    // Only this chunk: the vectors of the others are written.
                    outcomes.extend(chunk.iter().map(|(id, _)| (*id, Err(error.clone()))));
                }
            }
        }
        Ok(batch
            .iter()
            .map(|task| match skill_id(task) {
                // Its last mention has gone since the plan, and its label with it.
                Ok(id) => outcomes.remove(&id).unwrap_or(Ok(Effect::Vanished)),
                Err(error) => Err(error),
            })
            .collect())
    }

    async fn validate_input(&self) -> Result<(), StageError> {
        self.embeddings.inference().embedding_model(self.settings.model.as_deref()).await?;
        Ok(())
    }

    fn metrics(&self) -> BTreeMap<String, f64> {
        let (hits, misses) = self.embeddings.hits_and_misses();
        BTreeMap::from([
            ("cache_hits_total".to_owned(), hits as f64),
            ("cache_misses_total".to_owned(), misses as f64),
            ("embeddings_total".to_owned(), self.vectors.load(Ordering::Relaxed) as f64),
        ])
    }

    async fn cleanup(&self) -> Result<(), StageError> {
        *self.served.lock().await = None;
        self.embeddings.forget();
        Ok(())
    }
}
