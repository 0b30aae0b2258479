//! What the database tests share.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use observatory_pipeline::testing::{
    domain::{
        posting::{Field, NewPosting},
        run::StageName,
        skill::{Mention, Method, SkillKind},
        taxonomy::Occupation,
    },
    intake,
    stage::{Checkpoints, Effect, Outcome, Plan, Stage, StageError},
    store::{
        self, PgPool,
        embeddings::ModelIdentity,
        postings::Stored,
        runs::{Run, RunOptions},
        tasks::{Subject, Task},
    },
};
use uuid::Uuid;

/// An advertisement about bread.
pub(crate) fn ad(number: u32) -> NewPosting {
    NewPosting {
        portal: "computrabajo".to_owned(),
        country: "CO".to_owned(),
        url: format!("https://co.computrabajo.example/ofertas/panadero-{}", 10_000 + number),
        title: format!("Panadero {number}"),
        description: format!("Hornear pan número {number}. Manejo de Excel."),
        ..NewPosting::default()
    }
}

/// Stores advertisements as the import does; returns what became of each.
pub(crate) async fn put(pool: &PgPool, ads: Vec<NewPosting>) -> Vec<Stored> {
    let mut connection = pool.acquire().await.unwrap();
    let countries = store::countries::enabled(&mut connection).await.unwrap();
    let prepared: Vec<_> =
        ads.into_iter().map(|ad| intake::prepare(ad, &countries, moment()).unwrap()).collect();
    let outcomes = intake::store_batch(&mut connection, &prepared).await.unwrap();
    outcomes.into_iter().map(|outcome| outcome.expect("stored")).collect()
}

/// A fixed time.
pub(crate) fn moment() -> DateTime<Utc> {
    "2026-11-23T10:00:00Z".parse().unwrap()
}

pub(crate) fn id_of(stored: Stored) -> Uuid {
    let (Stored::New(id) | Stored::Duplicate(id)) = stored;
    id
}

/// A mention that every posting of [`ad`] has.
pub(crate) fn mention() -> Mention {
    Mention {
        label: "Microsoft Excel".to_owned(),
        surface: "Panadero".to_owned(),
        kind: SkillKind::Hard,
        category: "tool".to_owned(),
        place: None,
        methods: vec![Method::Pattern, Method::Lexicon],
        confidence: 0.9,
        section: "body".to_owned(),
        field: Field::Title,
        start: 0,
        end: 8,
        uri: None,
        preferred_label: None,
    }
}

/// An embedding model of this name.
pub(crate) fn model(name: &str, dimensions: i32) -> ModelIdentity {
    ModelIdentity { name: name.to_owned(), revision: "1".to_owned(), prompt: String::new(), dimensions }
}

/// A run over all postings with these stages, and its id.
pub(crate) async fn start(pool: &PgPool, stages: &[StageName]) -> Uuid {
    let run_id = Uuid::now_v7();
    let options = RunOptions { stages: stages.to_vec(), ..RunOptions::default() };
    let mut connection = pool.acquire().await.unwrap();
    store::runs::create(&mut connection, run_id, &options).await.unwrap();
    run_id
}

/// What a [`Scripted`] stage answers for a subject.
pub(crate) type Answer = Box<dyn Fn(&Task) -> Outcome + Send + Sync>;

/// A stage whose plan covers the run's postings and whose answers the test chooses: the worker and
/// the orchestrator around it are the real ones.
pub(crate) struct Scripted {
    pool: PgPool,
    stage: StageName,
    answer: Answer,
    pub(crate) calls: AtomicU32,
    pub(crate) seen: Mutex<Vec<String>>,
}

impl Scripted {
    pub(crate) fn new(pool: &PgPool, stage: StageName, answer: Answer) -> Arc<Self> {
        let (calls, seen) = (AtomicU32::new(0), Mutex::default());
        Arc::new(Self { pool: pool.clone(), stage, answer, calls, seen })
    }
}

#[async_trait]
impl Stage for Scripted {
    fn name(&self) -> StageName {
        self.stage
    }

    async fn plan(&self, run: &Run) -> Result<Plan, StageError> {
        let mut connection = self.pool.acquire().await?;
        let coverage = store::runs::coverage(&mut connection, run, self.stage, "test").await?;
        Ok(Plan {
            tasks: coverage.pending.into_iter().map(Subject::Posting).collect(),
            up_to_date: coverage.up_to_date,
            ..Plan::default()
        })
    }

    async fn process(&self, batch: &[Task], _: &Checkpoints) -> Result<Vec<Outcome>, StageError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.seen.lock().unwrap().extend(batch.iter().map(|task| task.subject.clone()));
        Ok(batch.iter().map(&self.answer).collect())
    }

    async fn validate_input(&self) -> Result<(), StageError> {
        Ok(())
    }

    fn metrics(&self) -> BTreeMap<String, f64> {
        BTreeMap::new()
    }

    async fn cleanup(&self) -> Result<(), StageError> {
        Ok(())
    }
}

/// An occupation that a posting of bread names.
pub(crate) fn occupation() -> Occupation {
    Occupation {
        uri: Some("o:panadero".to_owned()),
        label: "panadero/panadera".to_owned(),
        score: 0.9,
        isco: Some("7512".to_owned()),
        cuoc: Some("75120".to_owned()),
        cuoc_label: Some("Panaderos".to_owned()),
    }
}

/// The effect of extracting [`mention`] and [`occupation`] from the task's posting.
pub(crate) fn extracted(task: &Task) -> Outcome {
    Ok(Effect::Extracted {
        job_id: task.posting_id().expect("a posting"),
        version: "test".to_owned(),
        duration_ms: 1.0,
        mentions: vec![mention()],
        occupation: Some(occupation()),
        taxonomy: Some("esco@1".to_owned()),
    })
}
