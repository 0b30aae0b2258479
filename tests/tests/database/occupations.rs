//! The occupation of a posting: written with its mentions, replaced with them, gone with the text.

use observatory_pipeline::testing::{
    domain::{run::StageName, taxonomy::Occupation},
    intake::again::scrub_stored,
    stage::Effect,
    store::{
        self, PgPool,
        skills::Finished,
        tasks::{NewTask, Subject, Task},
    },
    worker::{ModuleConfig, Worker},
};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use crate::support::{Answer, Scripted, ad, extracted, id_of, occupation, put, start};

/// The stored occupations.
async fn stored(pool: &PgPool) -> Vec<Value> {
    let query = "select to_jsonb(o) from posting_occupation o order by job_id";
    sqlx::query_scalar(AssertSqlSafe(query)).fetch_all(pool).await.unwrap()
}

async fn replace(pool: &PgPool, job_id: Uuid, found: Option<&Occupation>, taxonomy: Option<&str>) {
    let mut connection = pool.acquire().await.unwrap();
    let finished = Finished { job_id, version: "later", duration_ms: 1.0 };
    store::occupations::replace(&mut connection, &finished, found, taxonomy).await.unwrap();
}

/// Extracts a new posting with what `answer` gives; its id, and the tasks that succeeded.
async fn extract(pool: &PgPool, answer: Answer) -> (Uuid, u64) {
    let job_id = id_of(put(pool, vec![ad(1)]).await.remove(0));
    let run_id = start(pool, &[StageName::Extract]).await;
    let task = NewTask { stage: StageName::Extract, subject: Subject::Posting(job_id) };
    let mut connection = pool.acquire().await.unwrap();
    store::tasks::create(&mut connection, run_id, "test", &[task], 0).await.unwrap();
    drop(connection);
    let stage = Scripted::new(pool, StageName::Extract, answer);
    let worker = Worker::new(stage, ModuleConfig::default(), pool.clone());
    (job_id, worker.work_once().await.unwrap().succeeded)
}

#[sqlx::test(migrations = "../migrations")]
async fn the_extractor_writes_it_with_the_mentions(pool: PgPool) {
    let (job_id, succeeded) = extract(&pool, Box::new(extracted)).await;
    assert_eq!(succeeded, 1);
    let expected = json!({ "job_id": job_id, "uri": "o:panadero", "label": "panadero/panadera", "score": 0.9,
        "isco": "7512", "cuoc": "75120", "cuoc_label": "Panaderos", "taxonomy": "esco@1", "version": "test" });
    assert_eq!(stored(&pool).await, [expected]);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_refused_occupation_takes_the_mentions_with_it(pool: PgPool) {
    // With neither a concept nor a code an occupation breaks a constraint of its table.
    let answer = |task: &Task| {
        let mut outcome = extracted(task);
        if let Ok(Effect::Extracted { occupation: Some(found), .. }) = &mut outcome {
            (found.uri, found.cuoc) = (None, None);
        }
        outcome
    };
    let (_, succeeded) = extract(&pool, Box::new(answer)).await;
    let mentions: i64 =
        sqlx::query_scalar("select count(*) from extracted_skills").fetch_one(&pool).await.unwrap();
    assert_eq!((succeeded, mentions, stored(&pool).await.len()), (0, 0, 0));
}

#[sqlx::test(migrations = "../migrations")]
async fn it_is_replaced_and_goes_with_its_text(pool: PgPool) {
    let ids: Vec<Uuid> = put(&pool, vec![ad(1), ad(2)]).await.into_iter().map(id_of).collect();
    for job_id in &ids {
        replace(&pool, *job_id, Some(&occupation()), Some("esco@1")).await;
    }
    let coded = Occupation { uri: None, isco: None, ..occupation() };
    replace(&pool, ids[0], Some(&coded), None).await;
    let found = stored(&pool).await;
    let row = found.iter().find(|row| row["job_id"] == json!(ids[0])).unwrap();
    let parts = (&row["uri"], &row["cuoc"], &row["taxonomy"], &row["version"]);
    assert_eq!(parts, (&Value::Null, &json!("75120"), &Value::Null, &json!("later")));
    replace(&pool, ids[0], None, None).await;
    assert_eq!(stored(&pool).await.len(), 1);

    // Personal data that was found later changes the text; what was made of it is made again.
    let update = "update raw_jobs set description = 'Hornear pan. Tel: 4555-6789' where job_id = $1";
    sqlx::query(update).bind(ids[1]).execute(&pool).await.unwrap();
    let mut connection = pool.acquire().await.unwrap();
    assert_eq!(scrub_stored(&mut connection, false, |_| true).await.unwrap().changed, 1);
    assert!(stored(&pool).await.is_empty());

    replace(&pool, ids[1], Some(&occupation()), None).await;
    sqlx::query("delete from posting where job_id = $1").bind(ids[1]).execute(&pool).await.unwrap();
    assert!(stored(&pool).await.is_empty());
}
