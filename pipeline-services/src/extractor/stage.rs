//! The extractor as a stage: the current extractor, and postings to mentions.
//!
//! The plan chooses the served taggers of a run and every batch follows it, so that a server that
//! is away for a moment delays work and changes no mention.

use std::{
    collections::{BTreeMap, HashMap},
    panic::AssertUnwindSafe,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use serde::Deserialize;
use tokio::sync::Mutex;
use uuid::Uuid;

use super::{
    Extractor, NerEntity, Patterns,
    tagger::{Choice, Taggers},
};
use crate::{
    domain::{
        posting::Document,
        run::{
            Problem, StageName,
            facts::{ExtractFacts, RunFacts},
        },
    },
    stage::{Checkpoints, Effect, Outcome, Plan, Stage, StageError, panicked},
    store::{
        PgPool, postings,
        runs::{self, Run},
        skills,
        tasks::{Subject, Task},
    },
    vocabulary::{Vocabulary, VocabularySource},
};

/// Settings of the extractor.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// Directory whose files replace the built-in lexicon and patterns.
    pub lexicon_dir: Option<PathBuf>,
    /// Served token classifiers to ask; empty for none, absent for every one whose labels name
    /// skills.
    pub taggers: Option<Vec<String>>,
}

/// Keys of the settings.
pub(crate) const SETTINGS: [&str; 2] = ["lexicon_dir", "taggers"];

/// Longest wait of a plan for a server that is starting. A choice: a run without a server must not
/// wait long for one.
const PATIENCE: Duration = Duration::from_secs(20);

/// Returns an extractor that knows the active taxonomy.
pub(crate) struct ExtractorSource {
    vocabulary: Arc<VocabularySource>,
    patterns: Arc<Patterns>,
    built: Mutex<Option<(Arc<Vocabulary>, Arc<Extractor>)>>,
}

impl ExtractorSource {
    /// A source that builds an extractor when it is first asked.
    pub(crate) fn new(vocabulary: Arc<VocabularySource>, patterns: Patterns) -> Self {
        Self { vocabulary, patterns: Arc::new(patterns), built: Mutex::new(None) }
    }

    /// The extractor of now.
    ///
    /// # Errors
    /// If the taxonomy cannot be read.
    pub(crate) async fn current(&self) -> Result<Arc<Extractor>, StageError> {
        let vocabulary = self.vocabulary.current().await?;
        // Held while it is built, so that two batches do not both build it.
        let mut built = self.built.lock().await;
        // The source gives the same value until the taxonomy changes.
        if let Some((known, extractor)) = built.as_ref()
            && Arc::ptr_eq(known, &vocabulary)
        {
            return Ok(Arc::clone(extractor));
        }
        let lexicon = Arc::clone(&vocabulary.lexicon);
        let taxonomy = vocabulary.taxonomy.clone();
        let extractor = Extractor::new(lexicon, Arc::clone(&self.patterns), taxonomy);
        let extractor = Arc::new(extractor.map_err(|error| StageError::Fail(error.to_string()))?);
        *built = Some((vocabulary, Arc::clone(&extractor)));
        Ok(extractor)
    }

    /// Source of the taxonomies that it reads with.
    pub(crate) fn vocabulary(&self) -> &VocabularySource {
        &self.vocabulary
    }

    async fn forget(&self) {
        *self.built.lock().await = None;
        self.vocabulary.forget().await;
    }
}

/// Reads the skills of postings.
pub(crate) struct ExtractorStage {
    pool: PgPool,
    source: Arc<ExtractorSource>,
    taggers: Taggers,
    postings: AtomicU64,
    mentions: AtomicU64,
}

impl ExtractorStage {
    /// A stage that takes its extractor from `source`.
    pub(crate) fn new(pool: PgPool, source: Arc<ExtractorSource>, taggers: Taggers) -> Self {
        Self { pool, source, taggers, postings: AtomicU64::new(0), mentions: AtomicU64::new(0) }
    }

    /// The taggers that the plan of a run chose.
    async fn chosen(&self, run_id: Uuid) -> Result<Choice, StageError> {
        let run = runs::get(&mut *self.pool.acquire().await?, run_id).await?;
        let facts = run.map(|run| run.facts()).transpose();
        let facts = facts.map_err(|error| StageError::Fail(format!("the run's facts: {error}")))?;
        let planned = facts.and_then(|facts| facts.extract).unwrap_or_default();
        Ok(Choice { taggers: planned.taggers, problem: None })
    }

    /// Outcomes of postings of one run; a posting that is no longer stored has none.
    async fn extract(&self, run_id: Uuid, ids: &[Uuid]) -> Result<HashMap<Uuid, Outcome>, StageError> {
        let extractor = self.source.current().await?;
        let choice = self.chosen(run_id).await?;
        let version = format!("{}{}", extractor.version(), choice.mark());
        let mut connection = self.pool.acquire().await?;
        // Another run may have done some of them since the plan.
        let done: HashMap<Uuid, String> =
            skills::versions(&mut connection, "extract", ids).await?.into_iter().collect();
        let found = postings::by_ids(&mut connection, ids).await?;
        // Given back before the taggers are asked, which may take minutes.
        drop(connection);
        let (ready, pending): (Vec<_>, Vec<_>) =
            found.iter().partition(|posting| done.get(&posting.job_id) == Some(&version));
        let mut outcomes: HashMap<Uuid, Outcome> =
            ready.into_iter().map(|posting| (posting.job_id, Ok(Effect::UpToDate))).collect();
        let pending: Vec<(Uuid, Document)> =
            pending.into_iter().map(|posting| (posting.job_id, Document::from(posting))).collect();
        let documents: Vec<&Document> = pending.iter().map(|(_, document)| document).collect();
        let entities = self.taggers.tag(&choice.taggers, &documents).await?;
        // Pattern matching holds a thread for the whole batch, which must not be one of those that
        // serve calls.
        let work = tokio::task::spawn_blocking(move || {
            let mut extracted: Vec<(Uuid, Outcome)> = Vec::new();
            for ((job_id, document), entities) in pending.iter().zip(&entities) {
                // A posting that makes us panic fails by itself.
                let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| {
                    extract(&extractor, &version, (*job_id, document), entities)
                }));
                extracted.push((*job_id, outcome.map_err(|panic| panicked("extraction", &*panic))));
            }
            extracted
        });
        let extracted =
            work.await.map_err(|error| StageError::Fail(format!("extraction panicked: {error}")))?;
        outcomes.extend(extracted);
        Ok(outcomes)
    }
}

/// The outcome of a task's posting; one that is not among the results is no longer stored.
fn outcome_of(
    task: &Task,
    results: &mut HashMap<Uuid, Result<HashMap<Uuid, Outcome>, StageError>>,
) -> Outcome {
    let job_id = task.posting_id().ok_or_else(|| StageError::not_a_posting(task))?;
    match results.get_mut(&task.run_id) {
        Some(Ok(outcomes)) => outcomes.remove(&job_id).unwrap_or(Ok(Effect::Vanished)),
        Some(Err(error)) => Err(error.clone()),
        None => Ok(Effect::Vanished),
    }
}

/// NAME@VERSION of the taxonomy in use.
fn taxonomy_name(extractor: &Extractor) -> Option<String> {
    extractor.taxonomy().map(|taxonomy| format!("{}@{}", taxonomy.name(), taxonomy.version()))
}

fn extract(
    extractor: &Extractor,
    version: &str,
    (job_id, document): (Uuid, &Document),
    entities: &[NerEntity],
) -> Effect {
    let started = Instant::now();
    let extraction = extractor.extract_with(document, entities);
    Effect::Extracted {
        job_id,
        version: version.to_owned(),
        duration_ms: started.elapsed().as_secs_f64() * 1000.0,
        mentions: extraction.mentions,
        occupation: extraction.occupation,
        taxonomy: taxonomy_name(extractor),
    }
}

#[async_trait]
impl Stage for ExtractorStage {
    fn name(&self) -> StageName {
        StageName::Extract
    }

    async fn plan(&self, run: &Run) -> Result<Plan, StageError> {
        let extractor = self.source.current().await?;
        let choice = self.taggers.choose(PATIENCE).await?;
        let version = format!("{}{}", extractor.version(), choice.mark());
        // Taken only now: choosing may wait for a server.
        let mut connection = self.pool.acquire().await?;
        let coverage = runs::coverage(&mut connection, run, StageName::Extract, &version).await?;
        let nothing = coverage.is_empty();
        let lexicon = extractor.lexicon();
        let facts = ExtractFacts {
            version: Some(version),
            lexicon: Some(lexicon.digest().to_owned()),
            lexicon_entries: lexicon.entries().len(),
            taxonomy: taxonomy_name(&extractor),
            taggers: choice.taggers,
        };
        Ok(Plan {
            tasks: coverage.pending.into_iter().map(Subject::Posting).collect(),
            up_to_date: coverage.up_to_date,
            facts: RunFacts { extract: Some(facts), ..RunFacts::default() },
            problem: choice.problem.map(Problem::general),
            skipped: nothing.then(|| "no stored posting matches the run's filters".to_owned()),
            ..Plan::default()
        })
    }

    async fn process(&self, batch: &[Task], _: &Checkpoints) -> Result<Vec<Outcome>, StageError> {
        // A batch may hold tasks of several runs, each with the taggers of its own plan.
        let mut of_run: BTreeMap<Uuid, Vec<Uuid>> = BTreeMap::new();
        for task in batch {
            if let Some(job_id) = task.posting_id() {
                of_run.entry(task.run_id).or_default().push(job_id);
            }
        }
        let mut results = HashMap::new();
        for (run_id, ids) in of_run {
            results.insert(run_id, self.extract(run_id, &ids).await);
        }
        for outcome in results.values().flatten().flat_map(HashMap::values) {
            self.postings.fetch_add(1, Ordering::Relaxed);
            if let Ok(Effect::Extracted { mentions, .. }) = outcome {
                self.mentions.fetch_add(mentions.len() as u64, Ordering::Relaxed);
            }
        }
        Ok(batch.iter().map(|task| outcome_of(task, &mut results)).collect())
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
