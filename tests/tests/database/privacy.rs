//! Stored postings under patterns that know more than those they came in by.

use observatory_pipeline::testing::{
    intake::again::{Scrubbing, scrub_stored},
    store::{self, PgPool, postings::Stored},
};
use uuid::Uuid;

use crate::support::{ad, id_of, mention, put};

/// Writes into a stored posting what older patterns would have left there.
async fn taint(pool: &PgPool, job_id: Uuid, description: &str) {
    sqlx::query("update raw_jobs set description = $2 where job_id = $1")
        .bind(job_id)
        .bind(description)
        .execute(pool)
        .await
        .unwrap();
}

async fn scrub(pool: &PgPool, dry_run: bool) -> Scrubbing {
    let mut connection = pool.acquire().await.unwrap();
    scrub_stored(&mut connection, dry_run, |_| true).await.unwrap()
}

async fn number(pool: &PgPool, query: &str) -> i64 {
    sqlx::query_scalar(sqlx::AssertSqlSafe(query.to_owned())).fetch_one(pool).await.unwrap()
}

#[sqlx::test(migrations = "../migrations")]
async fn what_is_stored_is_cleaned_again(pool: PgPool) {
    let ids: Vec<Uuid> = put(&pool, (1..=3).map(ad).collect()).await.into_iter().map(id_of).collect();
    let mut connection = pool.acquire().await.unwrap();
    let finished = store::skills::Finished { job_id: ids[0], version: "test", duration_ms: 1.0 };
    store::skills::replace_extracted(&mut connection, &finished, &[mention()]).await.unwrap();
    drop(connection);
    sqlx::query(
        r#"insert into verdict (item_id, kind, subject, verdict, shown, job_id, field, span_start, span_end, reviewer, why)
           values (gen_random_uuid(), 'skill', 'hornear pan', 'accept', '{"wording": "Hornear pan", "label": "Hornear"}',
               $1, 'description', 0, 11, 'ana', '')"#,
    )
    .bind(ids[0])
    .execute(&pool)
    .await
    .unwrap();
    taint(&pool, ids[0], "Hornear pan. Contacto: Lic. María Pérez, Cel.: 318/555/0142").await;
    sqlx::query(
        "update sighting set url = url || '?tel=3185550142', external_id = 'ana@x.example' where job_id = $1",
    )
    .bind(ids[1])
    .execute(&pool)
    .await
    .unwrap();

    let dry = scrub(&pool, true).await;
    assert_eq!((dry.postings, dry.changed, dry.joined), (3, 2, 0));
    assert_eq!(number(&pool, "select count(*) from raw_jobs where description like '%318%'").await, 1);

    assert_eq!(scrub(&pool, false).await, dry);
    let text: String = sqlx::query_scalar("select description from raw_jobs where job_id = $1")
        .bind(ids[0])
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(text, "Hornear pan. Contacto: Lic. [name], Cel.: [phone]");
    // Its hash is the new text's in both tables, and what was made of the old text is gone.
    assert_eq!(
        number(&pool, "select count(*) from posting p join raw_jobs r using (job_id, content_hash)").await,
        3
    );
    assert_eq!(number(&pool, "select count(*) from extracted_skills").await, 0);
    assert_eq!(number(&pool, "select count(*) from posting_stage").await, 0);
    let verdict: serde_json::Value =
        sqlx::query_scalar("select jsonb_build_array(shown, job_id, span_start) from verdict")
            .fetch_one(&pool)
            .await
            .unwrap();
    assert_eq!(verdict, serde_json::json!([{ "label": "Hornear" }, null, null]));
    let sighting: (String, String) =
        sqlx::query_as("select url, external_id from sighting where job_id = $1")
            .bind(ids[1])
            .fetch_one(&pool)
            .await
            .unwrap();
    // Neither the id nor the address tells the advertisement any more: its text does.
    assert!(sighting.0.ends_with("?tel=") && sighting.1.len() == 32, "{sighting:?}");
    let counted = number(&pool, "select sum(pieces)::bigint from privacy_count").await;
    assert_eq!(counted.unsigned_abs(), dry.removed.values().sum::<u64>());

    let again = scrub(&pool, false).await;
    assert_eq!((again.postings, again.changed, again.removed.len()), (3, 0, 0));
}

#[sqlx::test(migrations = "../migrations")]
async fn postings_that_become_one_text_are_joined(pool: PgPool) {
    let with = |number: u32, text: &str| observatory_pipeline::testing::domain::posting::NewPosting {
        title: "Panadero".to_owned(),
        description: text.to_owned(),
        ..ad(number)
    };
    let stored = put(
        &pool,
        vec![with(1, "Hornear pan a"), with(2, "Hornear pan b"), with(2, "Hornear pan c"), with(3, "Otro")],
    )
    .await;
    assert!(stored.iter().all(|outcome| matches!(outcome, Stored::New(_))));
    let ids: Vec<Uuid> = stored.into_iter().map(id_of).collect();
    taint(&pool, ids[0], "Hornear pan. Tel: 4555-6789").await;
    taint(&pool, ids[1], "Hornear pan. Tel: 4555-1234").await;

    let dry = scrub(&pool, true).await;
    assert_eq!(scrub(&pool, false).await, dry);
    assert_eq!((dry.postings, dry.joined), (4, 1));
    assert_eq!(number(&pool, "select count(*) from posting").await, 3);
    assert_eq!(number(&pool, "select count(*) from raw_jobs").await, 3);
    assert_eq!(number(&pool, "select count(*) from sighting").await, 4);
    let seen: Vec<String> =
        sqlx::query_scalar("select external_id from sighting where job_id = $1 order by external_id")
            .bind(ids[0])
            .fetch_all(&pool)
            .await
            .unwrap();
    assert_eq!(seen, ["ofertas/panadero-10001", "ofertas/panadero-10002"]);
    // The text that had replaced the vanished one points to the one that stays.
    let previous: Option<Uuid> = sqlx::query_scalar("select previous_job_id from posting where job_id = $1")
        .bind(ids[2])
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(previous, Some(ids[0]));
    assert_eq!(scrub(&pool, false).await.changed, 0);
}
