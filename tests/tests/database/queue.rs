//! Claims, leases, fences, retries, and the flag that follows them.

use std::{sync::Arc, sync::atomic::Ordering, time::Duration};

use observatory_pipeline::{
    domain::run::StageName::{Enhance, Extract},
    stage::{Effect, ModuleConfig, StageError},
    store::{
        PgPool,
        tasks::{self, NewTask, Task},
    },
    worker::{LEASE, Worker},
};
use uuid::Uuid;

use crate::support::{Scripted, ad, extracted, id_of, put, start};

async fn with_tasks(pool: &PgPool, count: u32) -> (Uuid, Vec<Uuid>) {
    let stored = put(pool, (0..count).map(ad).collect()).await;
    let ids: Vec<Uuid> = stored.into_iter().map(id_of).collect();
    let run_id = start(pool, &[Extract]).await;
    let new: Vec<NewTask> =
        ids.iter().map(|id| NewTask { stage: Extract, subject: id.to_string(), job_id: Some(*id) }).collect();
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
    assert_eq!((owner.task_id, owner.fence, owner.retry_count), (lost.task_id, 2, 1));
    assert!(!tasks::finish(&mut connection, &lost).await.unwrap());
    assert!(!tasks::retry(&mut connection, &lost, Duration::ZERO, "x").await.unwrap());
    assert!(!tasks::fail(&mut connection, &lost, "x").await.unwrap());
    assert!(tasks::finish(&mut connection, &owner).await.unwrap());
}

#[sqlx::test(migrations = "../migrations")]
async fn a_subject_that_kills_its_worker_ends_as_failed(pool: PgPool) {
    with_tasks(&pool, 1).await;
    let mut connection = pool.acquire().await.unwrap();
    for crash in 0..3 {
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
    let task = NewTask { stage: Enhance, subject: ids[0].to_string(), job_id: Some(ids[0]) };
    tasks::create(&mut pool.acquire().await.unwrap(), again, "test", &[task], 0).await.unwrap();
    assert_eq!(processed(&pool).await, 1);
    sqlx::query("delete from task where run_id = $1").bind(again).execute(&pool).await.unwrap();
    assert_eq!(processed(&pool).await, 2);
}

#[sqlx::test(migrations = "../migrations")]
async fn one_bad_subject_does_not_fail_its_batch(pool: PgPool) {
    let (_, ids) = with_tasks(&pool, 20).await;
    let poison = ids[7].to_string();
    // A span that ends before it begins breaks a constraint of the table: only the database sees it.
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
    let away = |_: &Task| Err(StageError::Retry { reason: "server is away".to_owned(), after: None });
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
async fn ready_tasks_are_announced_once_for_each_stage(pool: PgPool) {
    let mut listener = observatory_pipeline::store::PgListener::connect_with(&pool).await.unwrap();
    listener.listen(tasks::CHANNEL).await.unwrap();
    with_tasks(&pool, 30).await;
    assert_eq!(listener.recv().await.unwrap().payload(), "extract");
    let more = tokio::time::timeout(Duration::from_millis(200), listener.recv()).await;
    assert!(more.is_err(), "{more:?}");
}
