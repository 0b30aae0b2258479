//! The enhancer as a stage: mentions to enhanced skills.
//!
//! Which version made a posting's rows decides whether they are up to date: it changes with the
//! rules, the vocabulary, the model and the prompt.

use std::{
    collections::{BTreeMap, HashMap},
    panic::AssertUnwindSafe,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result as AnyResult, bail, ensure};
use async_trait::async_trait;
use futures::{FutureExt, StreamExt};
use observatory_client::Secret;
use serde::Deserialize;
use uuid::Uuid;

use super::{
    advertisement::Advertisement,
    answer::Knowledge,
    chain::{self, Answered, Chain},
    endpoint::{self, Endpoint, ResponseFormat},
    generator::{Generator, Served},
    prompt::Prompt,
    rules,
};
use crate::{
    domain::{
        enhancement::{Answerer, Enhancement, Rejected, Rejection},
        posting::Document,
        run::{
            StageName,
            facts::{EnhanceFacts, RunFacts},
        },
        skill::{Makers, Mention},
    },
    inference::InferenceClient,
    reading,
    stage::{Checkpoints, Effect, Outcome, Plan, Stage, StageError, panicked},
    store::{
        PgPool, postings,
        runs::{self, Run},
        skills,
        tasks::{Subject, Task},
    },
    vocabulary::{Vocabulary, VocabularySource},
};

/// Settings of the enhancer.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// Base URL of an OpenAI-compatible endpoint, up to and with `/v1`.
    pub endpoint: Option<String>,
    /// Model, as the endpoint names it; without an endpoint, a language model of the inference
    /// server. Without one the rules work alone.
    pub model: Option<String>,
    /// A language model of the inference server that is asked before the endpoint.
    pub served_model: Option<String>,
    /// Postings asked about at once.
    pub concurrency: usize,
    /// Tokens of one answer at most.
    pub max_tokens: u32,
    /// Seconds to wait for one answer.
    pub request_timeout: u64,
    /// `json_schema`, `json_object` or `text`.
    pub response_format: ResponseFormat,
    /// Directory whose files replace the built-in prompts.
    pub prompts_dir: Option<PathBuf>,
}

/// Keys of the settings.
pub(crate) const SETTINGS: [&str; 8] = [
    "endpoint",
    "model",
    "served_model",
    "concurrency",
    "max_tokens",
    "request_timeout",
    "response_format",
    "prompts_dir",
];

impl Default for Settings {
    fn default() -> Self {
        Self {
            endpoint: None,
            model: None,
            served_model: None,
            concurrency: 4,
            max_tokens: 2_048,
            request_timeout: 120,
            response_format: ResponseFormat::default(),
            prompts_dir: None,
        }
    }
}

/// The language models, and how many postings they are asked about at once.
struct Asked {
    chain: Chain,
    concurrency: usize,
}

/// What this process counted since it started.
#[derive(Debug, Default)]
struct Counts {
    answered: BTreeMap<Answerer, u64>,
    rejected: Rejected,
}

/// Normalises, deduplicates and completes the skills of postings.
pub(crate) struct EnhancerStage {
    pool: PgPool,
    vocabulary: Arc<VocabularySource>,
    asked: Option<Asked>,
    postings: AtomicU64,
    skills: AtomicU64,
    passed_over: AtomicU64,
    counts: Mutex<Counts>,
}

/// A posting that is to be enhanced.
struct Pending {
    job_id: Uuid,
    document: Document,
    mentions: Vec<Mention>,
}

impl EnhancerStage {
    /// A stage that shares lexicon and taxonomy with the extractor, and sends `key` to its endpoint
    /// or asks the inference server.
    ///
    /// # Errors
    /// If a setting is not acceptable; the text names it.
    pub(crate) fn new(
        pool: PgPool,
        vocabulary: Arc<VocabularySource>,
        settings: Settings,
        key: Option<Secret>,
        inference: &InferenceClient,
    ) -> AnyResult<Self> {
        let asked = settings.asked(key, inference).context("modules.enhancer.settings")?;
        let (postings, skills, passed_over, counts) = Default::default();
        Ok(Self { pool, vocabulary, asked, postings, skills, passed_over, counts })
    }

    /// Changes with the rules, the vocabulary, the models and the prompt.
    fn version(&self, vocabulary: &Vocabulary) -> String {
        let rules = rules::version(vocabulary.taxonomy.as_deref(), &vocabulary.lexicon);
        match &self.asked {
            Some(asked) => format!("{rules}+{}@{}", asked.chain.models(), asked.chain.digest()),
            None => rules,
        }
    }

    async fn enhance(&self, vocabulary: &Vocabulary, subject: Pending) -> Outcome {
        let started = Instant::now();
        let Pending { job_id, document, mentions } = subject;
        let known = Knowledge { taxonomy: vocabulary.taxonomy.as_deref(), lexicon: &vocabulary.lexicon };
        let mut ad = reading::in_place(|| Advertisement::new(&document, mentions));
        let left_out = std::mem::take(&mut ad.rejected);
        let mut answered = match &self.asked {
            Some(asked) => asked.chain.answer(&ad, known).await?,
            None => reading::in_place(|| chain::by_rules(&ad, known, Vec::new())),
        };
        answered.enhancement.rejected.extend(left_out);
        let refused = rules::drop_refused(&mut answered.skills, &document, known.lexicon);
        if refused > 0 {
            answered.enhancement.rejected.insert(Rejection::Reviewed, refused);
        }
        self.count(&answered);
        let mut version = self.version(vocabulary);
        if answered.provisional {
            version.push_str("+provisional");
        }
        Ok(Effect::Enhanced {
            job_id,
            version,
            duration_ms: started.elapsed().as_secs_f64() * 1000.0,
            // Ids of the extractor's rows follow from the mentions, so they need not be read.
            sources: ad.mentions.iter().map(|mention| skills::extraction_id(job_id, mention)).collect(),
            skills: answered.skills,
            makers: Makers {
                rules: rules::version(known.taxonomy, known.lexicon),
                model: answered.enhancement.model.clone().unwrap_or_default(),
            },
            enhancement: Box::new(answered.enhancement),
        })
    }

    fn count(&self, answered: &Answered) {
        let Enhancement { answered_by, passed_over, rejected, .. } = &answered.enhancement;
        self.postings.fetch_add(1, Ordering::Relaxed);
        self.skills.fetch_add(answered.skills.len() as u64, Ordering::Relaxed);
        self.passed_over.fetch_add(passed_over.len() as u64, Ordering::Relaxed);
        if !rejected.is_empty() {
            let rejected: Vec<String> =
                rejected.iter().map(|(reason, count)| format!("{} {count}", reason.name())).collect();
            tracing::info!(rejected = rejected.join(", "), "parts of an answer rejected");
        }
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.answered.entry(*answered_by).or_default() += 1;
        for (reason, count) in rejected {
            *counts.rejected.entry(*reason).or_default() += count;
        }
    }

    /// The postings of `ids` whose rows are not of `version` yet, and the outcomes of those whose
    /// mentions cannot be read.
    async fn pending(
        &self,
        ids: Vec<Uuid>,
        version: &str,
    ) -> Result<(Vec<Pending>, HashMap<Uuid, Outcome>), StageError> {
        let mut connection = self.pool.acquire().await?;
        let done: HashMap<Uuid, String> =
            skills::versions(&mut connection, "enhance", &ids).await?.into_iter().collect();
        let mut mentions = skills::mentions(&mut connection, &ids).await?;
        let mut documents: HashMap<Uuid, Document> = postings::by_ids(&mut connection, &ids)
            .await?
            .iter()
            .map(|posting| (posting.job_id, Document::from(posting)))
            .collect();
        let (mut subjects, mut outcomes) = (Vec::new(), HashMap::new());
        for job_id in ids.into_iter().filter(|id| done.get(id).is_none_or(|made_by| made_by != version)) {
            // No row: the posting was extracted and names no skill.
            match mentions.remove(&job_id).unwrap_or_else(|| Ok(Vec::new())) {
                Ok(mut mentions) => {
                    // What has no name yet would be a skill of one advertisement.
                    mentions.retain(Mention::is_named);
                    let document = documents.remove(&job_id).unwrap_or_default();
                    subjects.push(Pending { job_id, document, mentions });
                }
                Err(unreadable) => {
                    let reason = unreadable.to_string();
                    outcomes.insert(job_id, Ok(Effect::Quarantined { job_id, reason }));
                }
            }
        }
        Ok((subjects, outcomes))
    }
}

impl Settings {
    fn asked(self, key: Option<Secret>, inference: &InferenceClient) -> AnyResult<Option<Asked>> {
        let named = |name: Option<String>| name.filter(|name| !name.trim().is_empty());
        let (model, mut served) = (named(self.model), named(self.served_model));
        let endpoint = match (self.endpoint, model) {
            (Some(_), None) => bail!("endpoint without model: name the model that the endpoint serves"),
            (Some(url), Some(model)) => Some((url, model)),
            (None, model) => {
                let both = model.is_some() && served.is_some();
                ensure!(!both, "model and served_model without endpoint: set one of them, or the endpoint");
                served = served.or(model);
                None
            }
        };
        let configured = served.is_none() || inference.is_configured();
        ensure!(configured, "a model without endpoint, and no inference server: set one of the two");
        let prompt = match &self.prompts_dir {
            Some(directory) => Prompt::from_dir(directory)?,
            None => Prompt::built_in(),
        };
        let (timeout, max_tokens) = (Duration::from_secs(self.request_timeout), self.max_tokens);
        let mut generators = Vec::new();
        if let Some(model) = served {
            generators.push(Generator::Served(Served {
                client: inference.clone(),
                model,
                max_tokens,
                timeout,
            }));
        }
        if let Some((url, model)) = endpoint {
            generators.push(Generator::Endpoint(Endpoint::new(endpoint::Options {
                url,
                model,
                key,
                timeout,
                max_tokens,
                response_format: self.response_format,
            })?));
        }
        let concurrency = self.concurrency;
        let asked = |chain| Asked { chain, concurrency };
        Ok(Chain::new(generators, prompt, timeout).map(asked))
    }
}

#[async_trait]
impl Stage for EnhancerStage {
    fn name(&self) -> StageName {
        StageName::Enhance
    }

    async fn plan(&self, run: &Run) -> Result<Plan, StageError> {
        let version = self.version(&*self.vocabulary.current().await?);
        // Taken only now: the vocabulary takes one of its own.
        let mut connection = self.pool.acquire().await?;
        let coverage = runs::coverage(&mut connection, run, StageName::Enhance, &version).await?;
        let nothing = coverage.is_empty();
        let made_by = self.asked.as_ref().map_or_else(|| "rules".to_owned(), |asked| asked.chain.models());
        let facts =
            EnhanceFacts { version: Some(version), made_by: Some(made_by), ..EnhanceFacts::default() };
        Ok(Plan {
            tasks: coverage.pending.into_iter().map(Subject::Posting).collect(),
            up_to_date: coverage.up_to_date,
            facts: RunFacts { enhance: Some(facts), ..RunFacts::default() },
            skipped: nothing.then(|| "no posting of the run was extracted".to_owned()),
            ..Plan::default()
        })
    }

    async fn process(&self, batch: &[Task], _: &Checkpoints) -> Result<Vec<Outcome>, StageError> {
        let vocabulary = self.vocabulary.current().await?;
        let version = self.version(&vocabulary);
        let ids: Vec<Uuid> = batch.iter().filter_map(Task::posting_id).collect();
        let (subjects, mut outcomes) = self.pending(ids, &version).await?;
        // The rules compute and do not wait: side by side they would only share one thread.
        let concurrency = self.asked.as_ref().map_or(1, |asked| asked.concurrency);
        let enhanced = futures::stream::iter(subjects)
            .map(|subject| {
                let (job_id, vocabulary) = (subject.job_id, &vocabulary);
                async move {
                    // A posting that makes us panic fails by itself.
                    let enhanced = AssertUnwindSafe(self.enhance(vocabulary, subject)).catch_unwind().await;
                    (job_id, enhanced.unwrap_or_else(|panic| Err(panicked("enhancement", &*panic))))
                }
            })
            // Postings may come back in any order: the outcomes are put in that of the tasks below.
            .buffer_unordered(concurrency);
        outcomes.extend(enhanced.collect::<Vec<_>>().await);
        // Without an outcome its rows are there, or the task of another run in this batch writes
        // them.
        let mut of_tasks = Vec::new();
        for task in batch {
            of_tasks.push(match task.posting_id() {
                Some(job_id) => outcomes.remove(&job_id).unwrap_or(Ok(Effect::UpToDate)),
                None => Err(StageError::not_a_posting(task)),
            });
        }
        Ok(of_tasks)
    }

    async fn validate_input(&self) -> Result<(), StageError> {
        self.vocabulary.current().await?;
        Ok(())
    }

    fn metrics(&self) -> BTreeMap<String, f64> {
        let mut metrics = BTreeMap::from([
            ("postings_total".to_owned(), self.postings.load(Ordering::Relaxed) as f64),
            ("skills_total".to_owned(), self.skills.load(Ordering::Relaxed) as f64),
            ("models_passed_over_total".to_owned(), self.passed_over.load(Ordering::Relaxed) as f64),
        ]);
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        for answerer in Answerer::ALL {
            let count = counts.answered.get(&answerer).copied().unwrap_or_default();
            metrics.insert(format!("answered_by_{}_total", answerer.name()), count as f64);
        }
        for reason in Rejection::ALL {
            let count = counts.rejected.get(&reason).copied().unwrap_or_default();
            metrics.insert(format!("rejected_{}_total", reason.name()), count as f64);
        }
        metrics
    }

    async fn cleanup(&self) -> Result<(), StageError> {
        Ok(())
    }
}
