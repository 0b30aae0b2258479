//! The extractor as a stage: the current extractor, and postings to mentions.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Mutex;
use uuid::Uuid;

use super::{Extractor, Patterns};
use crate::{
    domain::{
        posting::{Document, Posting},
        run::StageName,
    },
    stage::{Effect, Outcome, Plan, PlannedTask, Stage, StageError},
    store::{
        PgPool, postings,
        runs::{self, Run},
        skills,
        tasks::Task,
    },
    vocabulary::{Vocabulary, VocabularySource},
};

/// What only the extractor understands.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Directory whose files replace the built-in lexicon and patterns.
    pub lexicon_dir: Option<PathBuf>,
}

/// Hands out an extractor that knows the active taxonomy.
pub struct ExtractorSource {
    vocabulary: Arc<VocabularySource>,
    patterns: Arc<Patterns>,
    built: Mutex<Option<(Arc<Vocabulary>, Arc<Extractor>)>>,
}

impl ExtractorSource {
    /// A source that builds an extractor when it is first asked.
    pub fn new(vocabulary: Arc<VocabularySource>, patterns: Patterns) -> Self {
        Self { vocabulary, patterns: Arc::new(patterns), built: Mutex::new(None) }
    }

    /// The extractor of now.
    ///
    /// # Errors
    /// When the taxonomy cannot be read.
    pub async fn current(&self) -> Result<Arc<Extractor>, StageError> {
        let vocabulary = self.vocabulary.current().await?;
        let mut built = self.built.lock().await;
        if let Some((known, extractor)) = built.as_ref()
            && Arc::ptr_eq(known, &vocabulary)
        {
            return Ok(Arc::clone(extractor));
        }
        let lexicon = Arc::clone(&vocabulary.lexicon);
        let extractor =
            Arc::new(Extractor::new(lexicon, Arc::clone(&self.patterns), vocabulary.taxonomy.clone()));
        *built = Some((vocabulary, Arc::clone(&extractor)));
        Ok(extractor)
    }

    async fn forget(&self) {
        *self.built.lock().await = None;
        self.vocabulary.forget().await;
    }
}

/// Reads the skills of postings.
pub struct ExtractorStage {
    pool: PgPool,
    source: Arc<ExtractorSource>,
    postings: AtomicU64,
    mentions: AtomicU64,
}

impl ExtractorStage {
    /// A stage that takes its extractor from `source`.
    pub fn new(pool: PgPool, source: Arc<ExtractorSource>) -> Self {
        Self { pool, source, postings: AtomicU64::new(0), mentions: AtomicU64::new(0) }
    }
}

fn extract(extractor: &Extractor, version: &str, posting: &Posting) -> Effect {
    let started = Instant::now();
    let extraction = extractor.extract(&Document::from(posting));
    Effect::Extracted {
        job_id: posting.job_id,
        version: version.to_owned(),
        duration_ms: started.elapsed().as_secs_f64() * 1000.0,
        mentions: extraction.mentions,
    }
}

#[async_trait]
impl Stage for ExtractorStage {
    fn name(&self) -> StageName {
        StageName::Extract
    }

    async fn plan(&self, run: &Run) -> Result<Plan, StageError> {
        let extractor = self.source.current().await?;
        let version = extractor.version().to_owned();
        let mut connection = self.pool.acquire().await?;
        let coverage = runs::coverage(&mut connection, run, StageName::Extract, &version).await?;
        let nothing = coverage.is_empty();
        let lexicon = extractor.lexicon();
        let taxonomy =
            extractor.taxonomy().map(|taxonomy| format!("{}@{}", taxonomy.name(), taxonomy.version()));
        let facts = json!({ "version": version, "lexicon": lexicon.digest(),
            "lexicon_entries": lexicon.entries().len(), "taxonomy": taxonomy });
        Ok(Plan {
            tasks: coverage.pending.into_iter().map(PlannedTask::posting).collect(),
            up_to_date: coverage.up_to_date,
            facts: facts.as_object().cloned().unwrap_or_default(),
            skipped: nothing.then(|| "no stored posting matches the run's filters".to_owned()),
        })
    }

    async fn process(&self, batch: &[Task]) -> Result<Vec<Outcome>, StageError> {
        let extractor = self.source.current().await?;
        let version = extractor.version().to_owned();
        let ids: Vec<Uuid> = batch.iter().filter_map(|task| task.posting_id().ok()).collect();
        let mut connection = self.pool.acquire().await?;
        let done: HashMap<Uuid, String> =
            skills::versions(&mut connection, "extract", &ids).await?.into_iter().collect();
        let found = postings::by_ids(&mut connection, &ids).await?;
        drop(connection);
        let pending: Vec<Posting> =
            found.into_iter().filter(|posting| done.get(&posting.job_id) != Some(&version)).collect();
        let work = tokio::task::spawn_blocking(move || {
            let effects =
                pending.iter().map(|posting| (posting.job_id, extract(&extractor, &version, posting)));
            effects.collect::<HashMap<Uuid, Effect>>()
        });
        let mut effects =
            work.await.map_err(|error| StageError::Fail(format!("extraction panicked: {error}")))?;
        self.postings.fetch_add(effects.len() as u64, Ordering::Relaxed);
        for effect in effects.values() {
            if let Effect::Extracted { mentions, .. } = effect {
                self.mentions.fetch_add(mentions.len() as u64, Ordering::Relaxed);
            }
        }
        Ok(batch.iter().map(|task| Ok(effects.remove(&task.posting_id()?).unwrap_or(Effect::None))).collect())
    }

    async fn validate_input(&self) -> Result<(), StageError> {
        self.source.current().await.map(drop)
    }

    fn metrics(&self) -> BTreeMap<String, f64> {
        BTreeMap::from([
            ("postings_total".to_owned(), self.postings.load(Ordering::Relaxed) as f64),
            ("mentions_total".to_owned(), self.mentions.load(Ordering::Relaxed) as f64),
        ])
    }

    async fn cleanup(&self) -> Result<(), StageError> {
        self.source.forget().await;
        Ok(())
    }
}
