//! The enhancer as a stage: mentions to enhanced skills.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use super::rules;
use crate::{
    domain::{run::StageName, skill::Mention},
    stage::{Effect, Outcome, Plan, PlannedTask, Stage, StageError},
    store::{
        PgPool,
        runs::{self, Run},
        skills,
        tasks::Task,
    },
    vocabulary::{Vocabulary, VocabularySource},
};

/// What only the enhancer understands.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {}

/// Normalises, deduplicates and completes the skills of postings.
pub struct EnhancerStage {
    pool: PgPool,
    vocabulary: Arc<VocabularySource>,
    postings: AtomicU64,
    skills: AtomicU64,
}

impl EnhancerStage {
    /// A stage that shares lexicon and taxonomy with the extractor.
    pub fn new(pool: PgPool, vocabulary: Arc<VocabularySource>) -> Self {
        Self { pool, vocabulary, postings: AtomicU64::new(0), skills: AtomicU64::new(0) }
    }

    fn enhance(&self, vocabulary: &Vocabulary, version: &str, job_id: Uuid, mentions: &[Mention]) -> Effect {
        let started = Instant::now();
        let enhanced = rules::enhance(mentions, vocabulary.taxonomy.as_deref(), &vocabulary.lexicon);
        self.postings.fetch_add(1, Ordering::Relaxed);
        self.skills.fetch_add(enhanced.len() as u64, Ordering::Relaxed);
        Effect::Enhanced {
            job_id,
            version: version.to_owned(),
            duration_ms: started.elapsed().as_secs_f64() * 1000.0,
            sources: mentions.iter().map(|mention| skills::extraction_id(job_id, mention)).collect(),
            skills: enhanced,
            made_by: version.to_owned(),
        }
    }
}

fn version(vocabulary: &Vocabulary) -> String {
    rules::version(vocabulary.taxonomy.as_deref(), &vocabulary.lexicon)
}

#[async_trait]
impl Stage for EnhancerStage {
    fn name(&self) -> StageName {
        StageName::Enhance
    }

    async fn plan(&self, run: &Run) -> Result<Plan, StageError> {
        let version = version(&*self.vocabulary.current().await?);
        let mut connection = self.pool.acquire().await?;
        let coverage = runs::coverage(&mut connection, run, StageName::Enhance, &version).await?;
        let nothing = coverage.is_empty();
        let facts = json!({ "version": version, "made_by": "rules" });
        Ok(Plan {
            tasks: coverage.pending.into_iter().map(PlannedTask::posting).collect(),
            up_to_date: coverage.up_to_date,
            facts: facts.as_object().cloned().unwrap_or_default(),
            problem: None,
            skipped: nothing.then(|| "no posting of the run was extracted".to_owned()),
        })
    }

    async fn process(&self, batch: &[Task]) -> Result<Vec<Outcome>, StageError> {
        let vocabulary = self.vocabulary.current().await?;
        let version = version(&vocabulary);
        let ids: Vec<Uuid> = batch.iter().filter_map(|task| task.posting_id().ok()).collect();
        let mut connection = self.pool.acquire().await?;
        let done: HashMap<Uuid, String> =
            skills::versions(&mut connection, "enhance", &ids).await?.into_iter().collect();
        let mut mentions = skills::mentions(&mut connection, &ids).await?;
        drop(connection);
        let outcome = |task: &Task| {
            let job_id = task.posting_id()?;
            if done.get(&job_id) == Some(&version) {
                return Ok(Effect::None);
            }
            Ok(match mentions.remove(&job_id) {
                Some(Ok(found)) => self.enhance(&vocabulary, &version, job_id, &found),
                Some(Err(unreadable)) => Effect::Quarantined { job_id, reason: unreadable.to_string() },
                None => self.enhance(&vocabulary, &version, job_id, &[]),
            })
        };
        Ok(batch.iter().map(outcome).collect())
    }

    async fn validate_input(&self) -> Result<(), StageError> {
        self.vocabulary.current().await?;
        Ok(())
    }

    fn metrics(&self) -> BTreeMap<String, f64> {
        BTreeMap::from([
            ("postings_total".to_owned(), self.postings.load(Ordering::Relaxed) as f64),
            ("skills_total".to_owned(), self.skills.load(Ordering::Relaxed) as f64),
        ])
    }

    async fn cleanup(&self) -> Result<(), StageError> {
        Ok(())
    }
}
