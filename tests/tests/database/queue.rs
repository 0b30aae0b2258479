//! Claims, leases, fences, retries, and the flag that follows them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;

use observatory_pipeline::testing::{
    domain::run::{
        StageName,
        StageName::{Embed, Enhance, Extract},
    },
    orchestrator::Orchestrator,
    stage::{Checkpoints, Dependency, Effect, Outcome, Plan, Stage, StageError},
    store::{
        self, PgPool,
        runs::{self, Run},
        tasks::{self, NewTask, Subject, Task},
    },
    worker::{ModuleConfig, Timing, Worker},
};
use serde_json::{Value, json};
use sqlx::ConnectOptions;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::support::{Scripted, ad, extracted, id_of, model, put, start};

/// A stage of [`Scripted`] answers but for the way in which it works.
macro_rules! like_scripted {
    ($stage:ty) => {
        #[async_trait]
        impl Stage for $stage {
            fn name(&self) -> StageName {
                self.inner.name()
            }

            async fn plan(&self, run: &Run) -> Result<Plan, StageError> {
                self.inner.plan(run).await
            }

            async fn process(
                &self,
                batch: &[Task],
                checkpoints: &Checkpoints,
            ) -> Result<Vec<Outcome>, StageError> {
                self.work(batch, checkpoints).await
            }

            async fn validate_input(&self) -> Result<(), StageError> {
                self.inner.validate_input().await
            }

            fn metrics(&self) -> BTreeMap<String, f64> {
                self.inner.metrics()
            }

            async fn cleanup(&self) -> Result<(), StageError> {
                self.inner.cleanup().await
            }
        }
    };
}

/// A stage whose batch fails as a whole as long as one subject is in it.
struct Poisoned {
    inner: Arc<Scripted>,
    poison: String,
    batch: fn() -> Result<(), StageError>,
}

impl Poisoned {
    async fn work(&self, batch: &[Task], checkpoints: &Checkpoints) -> Result<Vec<Outcome>, StageError> {
        if batch.iter().any(|task| task.subject == self.poison) {
            (self.batch)()?;
        }
        self.inner.process(batch, checkpoints).await
    }
}

like_scripted!(Poisoned);

/// A stage that takes its time, with a sign of progress before each time-out, or for ever.
struct Silent {
    inner: Arc<Scripted>,
    checkpoints: u32,
}

impl Silent {
    async fn work(&self, batch: &[Task], checkpoints: &Checkpoints) -> Result<Vec<Outcome>, StageError> {
        for step in 1..=self.checkpoints {
            tokio::time::sleep(Duration::from_millis(600)).await;
            checkpoints.write(&batch[0], Effect::UpToDate, json!({ "step": step })).await?;
        }
        if self.checkpoints == 0 {
            std::future::pending::<()>().await;
        }
        self.inner.process(batch, checkpoints).await
    }
}

like_scripted!(Silent);

/// A stage whose plan wants an embedding model activated, and loses its task meanwhile if a test
/// says so.
struct Activating {
    inner: Arc<Scripted>,
    pool: PgPool,
    overtaken: AtomicBool,
}

#[async_trait]
impl Stage for Activating {
    fn name(&self) -> StageName {
        self.inner.name()
    }

    async fn plan(&self, _: &Run) -> Result<Plan, StageError> {
        if self.overtaken.load(Ordering::Relaxed) {
            sqlx::query("update task set fence = fence + 1").execute(&self.pool).await.unwrap();
        }
        Ok(Plan { model: Some(model("encoder", 3)), ..Plan::default() })
    }

    async fn process(&self, batch: &[Task], checkpoints: &Checkpoints) -> Result<Vec<Outcome>, StageError> {
        self.inner.process(batch, checkpoints).await
    }

    async fn validate_input(&self) -> Result<(), StageError> {
        self.inner.validate_input().await
    }

    fn metrics(&self) -> BTreeMap<String, f64> {
        self.inner.metrics()
    }

    async fn cleanup(&self) -> Result<(), StageError> {
        self.inner.cleanup().await
    }
}

const LEASE: Duration = Duration::from_secs(30);

async fn with_tasks(pool: &PgPool, count: u32) -> (Uuid, Vec<Uuid>) {
    let stored = put(pool, (0..count).map(ad).collect()).await;
    let ids: Vec<Uuid> = stored.into_iter().map(id_of).collect();
    let run_id = start(pool, &[Extract]).await;
    let new: Vec<NewTask> =
        ids.iter().map(|id| NewTask { stage: Extract, subject: Subject::Posting(*id) }).collect();
    let mut connection = pool.acquire().await.unwrap();
    assert_eq!(tasks::create(&mut connection, run_id, "test", &new, 2).await.unwrap(), u64::from(count));
    assert_eq!(tasks::create(&mut connection, run_id, "test", &new, 2).await.unwrap(), 0);
    (run_id, ids)
}

async fn claim(pool: &PgPool, worker: Uuid, limit: i64, lease: Duration) -> Vec<Task> {
    tasks::claim(&mut pool.acquire().await.unwrap(), Extract, worker, limit, lease).await.unwrap()
}

async fn states(pool: &PgPool) -> Vec<(String, i64)> {
    sqlx::query_as("select state, count(*) from task group by state order by state")
        .fetch_all(pool)
        .await
        .unwrap()
}

#[sqlx::test(migrations = "../migrations")]
async fn claims_at_the_same_time_share_nothing(pool: PgPool) {
    with_tasks(&pool, 60).await;
    let claims = (0..6).map(|_| {
        let pool = pool.clone();
        tokio::spawn(async move { claim(&pool, Uuid::now_v7(), 10, LEASE).await })
    });
    let mut seen = Vec::new();
    for claimed in claims.collect::<Vec<_>>() {
        seen.extend(claimed.await.unwrap().into_iter().map(|task| task.task_id));
    }
    let total = seen.len();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), total);
    assert!(claim(&pool, Uuid::now_v7(), 60, LEASE).await.len() + total == 60);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_stale_finisher_is_refused(pool: PgPool) {
    with_tasks(&pool, 1).await;
    let lost = claim(&pool, Uuid::now_v7(), 1, Duration::ZERO).await.remove(0);
    let mut connection = pool.acquire().await.unwrap();
    assert_eq!(tasks::reap(&mut connection).await.unwrap(), 1);
    let owner = claim(&pool, Uuid::now_v7(), 1, LEASE).await.remove(0);
    assert_eq!((owner.task_id, owner.fence, owner.retry_count), (lost.task_id, 2, 0));
    assert!(!tasks::finish(&mut connection, &lost).await.unwrap());
    assert!(!tasks::retry(&mut connection, &lost, Duration::ZERO, "x").await.unwrap());
    assert!(!tasks::fail(&mut connection, &lost, "x").await.unwrap());
    assert!(tasks::finish(&mut connection, &owner).await.unwrap());
}

#[sqlx::test(migrations = "../migrations")]
async fn a_subject_that_kills_its_worker_ends_as_failed(pool: PgPool) {
    with_tasks(&pool, 1).await;
    let mut connection = pool.acquire().await.unwrap();
    for crash in 0..tasks::LOSSES {
        assert_eq!(claim(&pool, Uuid::now_v7(), 1, Duration::ZERO).await.len(), 1, "crash {crash}");
        assert_eq!(tasks::reap(&mut connection).await.unwrap(), 1);
    }
    assert_eq!(states(&pool).await, [("failed".to_owned(), 1)]);
}

#[sqlx::test(migrations = "../migrations")]
async fn heartbeats_keep_leases_and_release_gives_them_back(pool: PgPool) {
    with_tasks(&pool, 2).await;
    let worker = Uuid::now_v7();
    claim(&pool, worker, 2, Duration::ZERO).await;
    let mut connection = pool.acquire().await.unwrap();
    assert_eq!(tasks::heartbeat(&mut connection, worker, LEASE).await.unwrap(), 2);
    assert_eq!(tasks::reap(&mut connection).await.unwrap(), 0);
    assert_eq!(tasks::release(&mut connection, worker).await.unwrap(), 2);
    assert_eq!(states(&pool).await, [("ready".to_owned(), 2)]);
}

/// Its rows belong to the process that took over: a process that sleeps must not keep them.
#[sqlx::test(migrations = "../migrations")]
async fn a_transaction_of_a_sleeping_process_is_given_up(pool: PgPool) {
    put(&pool, vec![ad(1)]).await;
    let url = pool.connect_options().to_url_lossy();
    let sleeper = store::open(url.as_str(), 1, Duration::from_secs(1)).unwrap();
    let mut transaction = sleeper.begin().await.unwrap();
    sqlx::query("update posting set last_seen = now()").execute(&mut *transaction).await.unwrap();
    let begun = Instant::now();
    sqlx::query("update posting set last_seen = now()").execute(&pool).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(25), "{:?}", begun.elapsed());
    let refused = sqlx::query("select 1").execute(&mut *transaction).await.unwrap_err();
    assert!(store::is_transient(&refused), "{refused}");
}

async fn processed(pool: &PgPool) -> i64 {
    sqlx::query_scalar("select count(*) from raw_jobs where is_processed").fetch_one(pool).await.unwrap()
}

#[sqlx::test(migrations = "../migrations")]
async fn the_processed_flag_follows_the_tasks(pool: PgPool) {
    let (_, ids) = with_tasks(&pool, 2).await;
    assert_eq!(processed(&pool).await, 0);
    let stage = Scripted::new(&pool, Extract, Box::new(extracted));
    let worker = Worker::new(stage, ModuleConfig::default(), pool.clone());
    assert_eq!(worker.work_once().await.unwrap().succeeded, 2);
    assert_eq!(processed(&pool).await, 2);
    // New work on one of them opens it again, and its removal closes it.
    let again = start(&pool, &[Enhance]).await;
    let task = NewTask { stage: Enhance, subject: Subject::Posting(ids[0]) };
    tasks::create(&mut pool.acquire().await.unwrap(), again, "test", &[task], 0).await.unwrap();
    assert_eq!(processed(&pool).await, 1);
    sqlx::query("delete from task where run_id = $1").bind(again).execute(&pool).await.unwrap();
    assert_eq!(processed(&pool).await, 2);
}

#[sqlx::test(migrations = "../migrations")]
async fn one_bad_subject_does_not_fail_its_batch(pool: PgPool) {
    let (_, ids) = with_tasks(&pool, 20).await;
    let poison = ids[7].to_string();
    // A span that ends before it begins breaks a constraint of the table: only the database sees
    // it.
    let answer = move |task: &Task| {
        let mut outcome = extracted(task);
        if task.subject == poison
            && let Ok(Effect::Extracted { mentions, .. }) = &mut outcome
        {
            mentions[0].end = 0;
        }
        outcome
    };
    let stage = Scripted::new(&pool, Extract, Box::new(answer));
    let worker = Worker::new(stage, ModuleConfig::default(), pool.clone());
    let report = worker.work_once().await.unwrap();
    assert_eq!((report.succeeded, report.failed), (19, 1));
    let error: String = sqlx::query_scalar("select last_error from task where state = 'failed'")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert!(error.contains("check constraint"), "{error}");
}

#[sqlx::test(migrations = "../migrations")]
async fn retries_wait_and_then_give_up(pool: PgPool) {
    with_tasks(&pool, 1).await;
    let away = |_: &Task| Err(StageError::Retry("no answer".to_owned()));
    let stage = Scripted::new(&pool, Extract, Box::new(away));
    let worker = Worker::new(Arc::clone(&stage) as _, ModuleConfig::default(), pool.clone());
    for _ in 0..2 {
        assert_eq!(worker.work_once().await.unwrap().retried, 1);
        // Not before its time.
        assert_eq!(worker.work_once().await.unwrap().retried, 0);
        sqlx::query("update task set run_at = now()").execute(&pool).await.unwrap();
    }
    assert_eq!(worker.work_once().await.unwrap().failed, 1);
    assert_eq!(stage.calls.load(Ordering::Relaxed), 3);
    assert_eq!(states(&pool).await, [("failed".to_owned(), 1)]);
}

#[sqlx::test(migrations = "../migrations")]
async fn waiting_costs_no_try_and_ends_with_patience(pool: PgPool) {
    let (run_id, _) = with_tasks(&pool, 3).await;
    let away = |_: &Task| {
        Err(StageError::Unavailable {
            dependency: Dependency::Inference,
            reason: "inference server: connection refused".to_owned(),
            after: Some(Duration::from_secs(86_400)),
        })
    };
    let stage = Scripted::new(&pool, Extract, Box::new(away));
    let worker = Worker::new(Arc::clone(&stage) as _, ModuleConfig::default(), pool.clone());
    assert_eq!(worker.work_once().await.unwrap().waiting, 3);
    let longest: f64 = sqlx::query_scalar("select extract(epoch from max(run_at) - now())::float8 from task")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert!((890.0..=900.0).contains(&longest), "a hint is capped: {longest} s");
    let run = runs::get(&mut pool.acquire().await.unwrap(), run_id).await.unwrap().unwrap();
    assert_eq!(run.problems.len(), 1, "{:?}", run.problems);
    let told = run.problems[0].to_string();
    assert!(told.starts_with("extract: waiting since ") && told.ends_with(": connection refused"), "{told}");
    for _ in 0..20 {
        sqlx::query("update task set run_at = now()").execute(&pool).await.unwrap();
        // One task goes and sees whether it is back.
        assert_eq!(worker.work_once().await.unwrap().waiting, 1);
    }
    assert_eq!(stage.calls.load(Ordering::Relaxed), 21);
    let tries: i64 = sqlx::query_scalar("select sum(retry_count) from task").fetch_one(&pool).await.unwrap();
    assert_eq!(tries, 0);
    sqlx::query("update task set run_at = now(), waiting_since = now() - interval '61 minutes'")
        .execute(&pool)
        .await
        .unwrap();
    // The others would wait as long for the same: all of them fail with the one that went to see.
    assert_eq!(worker.work_once().await.unwrap().failed, 3);
    let error: String = sqlx::query_scalar("select max(last_error) from task where state = 'failed'")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert!(error.starts_with("inference server: connection refused; waited 36"), "{error}");
}

#[sqlx::test(migrations = "../migrations")]
async fn what_was_away_and_came_back_is_worked_on_in_whole_batches(pool: PgPool) {
    with_tasks(&pool, 9).await;
    let back = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&back);
    let answer = move |task: &Task| match seen.load(Ordering::Relaxed) {
        true => extracted(task),
        false => Err(StageError::Unavailable {
            dependency: Dependency::Inference,
            reason: "away".to_owned(),
            after: None,
        }),
    };
    let stage = Scripted::new(&pool, Extract, Box::new(answer));
    let worker = Worker::new(stage, ModuleConfig::default(), pool.clone());
    assert_eq!(worker.work_once().await.unwrap().waiting, 9);
    back.store(true, Ordering::Relaxed);
    sqlx::query("update task set run_at = now()").execute(&pool).await.unwrap();
    assert_eq!(worker.work_once().await.unwrap().succeeded, 1);
    assert_eq!(worker.work_once().await.unwrap().succeeded, 8);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_batch_that_fails_is_worked_on_one_by_one(pool: PgPool) {
    let check = async |batch: fn() -> Result<(), StageError>, expected: &str| {
        let (run_id, ids) = with_tasks(&pool, 12).await;
        let poison = ids[5].to_string();
        let stage = Poisoned { inner: Scripted::new(&pool, Extract, Box::new(extracted)), poison, batch };
        let config = ModuleConfig { max_retries: 0, timeout: 1, ..ModuleConfig::default() };
        let worker = Worker::new(Arc::new(stage), config, pool.clone());
        sqlx::query("update task set max_retries = 0 where run_id = $1")
            .bind(run_id)
            .execute(&pool)
            .await
            .unwrap();
        assert_eq!(worker.work_once().await.unwrap().retried, 12, "put back at no cost: {expected}");
        let mut report = (0, 0);
        for _ in 0..12 {
            let one = worker.work_once().await.unwrap();
            report = (report.0 + one.succeeded, report.1 + one.failed);
        }
        assert_eq!(report, (11, 1), "{expected}");
        let error: String = sqlx::query_scalar("select last_error from task where state = 'failed'")
            .fetch_one(&pool)
            .await
            .unwrap();
        assert_eq!(error, expected);
        sqlx::query("delete from task").execute(&pool).await.unwrap();
    };
    check(|| Err(StageError::Fail("cannot be read".to_owned())), "cannot be read").await;
    check(|| panic!("index out of bounds"), "stage panicked: index out of bounds").await;
}

#[sqlx::test(migrations = "../migrations")]
async fn a_batch_without_progress_is_given_up(pool: PgPool) {
    with_tasks(&pool, 2).await;
    let stage = Silent { inner: Scripted::new(&pool, Extract, Box::new(extracted)), checkpoints: 0 };
    let config = ModuleConfig { timeout: 1, ..ModuleConfig::default() };
    let worker = Worker::new(Arc::new(stage), config.clone(), pool.clone());
    assert_eq!(worker.work_once().await.unwrap().retried, 2);
    let error: String =
        sqlx::query_scalar("select max(last_error) from task").fetch_one(&pool).await.unwrap();
    assert_eq!(error, "no progress within 1 s");
    sqlx::query("delete from task").execute(&pool).await.unwrap();
    // The same time, with a sign of progress now and then.
    with_tasks(&pool, 1).await;
    let stage = Silent { inner: Scripted::new(&pool, Extract, Box::new(extracted)), checkpoints: 4 };
    let worker = Worker::new(Arc::new(stage), config, pool.clone());
    assert_eq!(worker.work_once().await.unwrap().succeeded, 1);
    let payload: Value = sqlx::query_scalar("select payload from task").fetch_one(&pool).await.unwrap();
    assert_eq!(payload, json!({ "step": 4 }));
}

#[sqlx::test(migrations = "../migrations")]
async fn a_poisonous_subject_costs_itself_alone(pool: PgPool) {
    with_tasks(&pool, 20).await;
    let mut connection = pool.acquire().await.unwrap();
    // The whole batch is lost with its worker.
    assert_eq!(claim(&pool, Uuid::now_v7(), 20, Duration::ZERO).await.len(), 20);
    assert_eq!(tasks::reap(&mut connection).await.unwrap(), 20);
    let poison = claim(&pool, Uuid::now_v7(), 20, Duration::ZERO).await;
    assert_eq!(poison.len(), 1, "alone from now on");
    let poison = poison[0].task_id;
    let mut crashes = 1;
    loop {
        tasks::reap(&mut connection).await.unwrap();
        let next = claim(&pool, Uuid::now_v7(), 20, LEASE).await;
        let [task] = next.as_slice() else { break };
        if task.task_id == poison {
            crashes += 1;
            sqlx::query("update task set lease_until = now() - interval '1 second' where task_id = $1")
                .bind(poison)
                .execute(&pool)
                .await
                .unwrap();
        } else {
            assert!(tasks::finish(&mut connection, task).await.unwrap());
        }
    }
    assert_eq!(crashes + 1, tasks::LOSSES);
    assert_eq!(states(&pool).await, [("done".to_owned(), 19), ("failed".to_owned(), 1)]);
}

#[sqlx::test(migrations = "../migrations")]
async fn work_that_is_cut_off_is_given_back_untouched(pool: PgPool) {
    with_tasks(&pool, 3).await;
    let stage = Silent { inner: Scripted::new(&pool, Extract, Box::new(extracted)), checkpoints: 0 };
    let worker = Worker::new(Arc::new(stage), ModuleConfig::default(), pool.clone());
    let (stop, cut) = (CancellationToken::new(), CancellationToken::new());
    let running = tokio::spawn({
        let (stop, cut) = (stop.clone(), cut.clone());
        async move { worker.run(stop, cut).await }
    });
    while states(&pool).await != [("running".to_owned(), 3)] {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stop.cancel();
    cut.cancel();
    running.await.unwrap();
    assert_eq!(states(&pool).await, [("ready".to_owned(), 3)]);
    let costs: i64 =
        sqlx::query_scalar("select sum(retry_count + losses) from task").fetch_one(&pool).await.unwrap();
    assert_eq!(costs, 0);
}

/// A request to stop that leaves time to finish must leave the lease as well.
#[sqlx::test(migrations = "../migrations")]
async fn a_batch_that_outlasts_its_lease_after_a_stop_is_kept(pool: PgPool) {
    with_tasks(&pool, 1).await;
    let stage = Silent { inner: Scripted::new(&pool, Extract, Box::new(extracted)), checkpoints: 5 };
    let lease = Duration::from_secs(1);
    let worker = Worker::new(Arc::new(stage), ModuleConfig::default(), pool.clone()).paced(
        Timing { lease, ..Timing::default() },
        Arc::default(),
        Arc::default(),
    );
    let (stop, cut) = (CancellationToken::new(), CancellationToken::new());
    let running = tokio::spawn({
        let stop = stop.clone();
        async move { worker.run(stop, cut).await }
    });
    while states(&pool).await != [("running".to_owned(), 1)] {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stop.cancel();
    // As the orchestrator does, for the three leases that the batch takes.
    while !running.is_finished() {
        assert_eq!(tasks::reap(&mut pool.acquire().await.unwrap()).await.unwrap(), 0);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(states(&pool).await, [("done".to_owned(), 1)]);
}

#[sqlx::test(migrations = "../migrations")]
async fn ready_tasks_are_announced_once_for_each_stage(pool: PgPool) {
    let mut listener = observatory_pipeline::testing::store::PgListener::connect_with(&pool).await.unwrap();
    listener.listen(tasks::CHANNEL).await.unwrap();
    with_tasks(&pool, 30).await;
    assert_eq!(listener.recv().await.unwrap().payload(), "extract");
    let more = tokio::time::timeout(Duration::from_millis(200), listener.recv()).await;
    assert!(more.is_err(), "{more:?}");
}

#[sqlx::test(migrations = "../migrations")]
async fn a_worker_that_lost_its_lease_activates_no_model(pool: PgPool) {
    start(&pool, &[Embed]).await;
    Orchestrator::new(pool.clone(), vec![Embed], 2).tick().await.unwrap();
    let inner = Scripted::new(&pool, Embed, Box::new(extracted));
    let stage = Arc::new(Activating { inner, pool: pool.clone(), overtaken: AtomicBool::new(true) });
    let worker = Worker::new(stage.clone(), ModuleConfig::default(), pool.clone());
    let active = || async {
        sqlx::query_scalar::<_, String>("select name from embedding_model where active")
            .fetch_optional(&pool)
            .await
            .unwrap()
    };
    assert_eq!(worker.work_once().await.unwrap().lost, 1);
    assert_eq!(active().await, None);
    // The task comes back when its lease ends.
    sqlx::query("update task set state = 'ready', lease_until = null").execute(&pool).await.unwrap();
    stage.overtaken.store(false, Ordering::Relaxed);
    assert_eq!(worker.work_once().await.unwrap().succeeded, 1);
    assert_eq!(active().await.as_deref(), Some("encoder"));
}
