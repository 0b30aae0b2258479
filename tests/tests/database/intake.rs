//! Advertisements to postings: one row for a text, every sighting of it.

use observatory_pipeline::testing::{
    domain::posting::NewPosting,
    store::{PgPool, postings::Stored},
};

use crate::support::{ad, id_of, put};

async fn count(pool: &PgPool, table: &str) -> i64 {
    let query = format!("select count(*) from {table}");
    sqlx::query_scalar(sqlx::AssertSqlSafe(query)).fetch_one(pool).await.unwrap()
}

#[sqlx::test(migrations = "../migrations")]
async fn the_same_text_is_stored_once_with_every_sighting(pool: PgPool) {
    let elsewhere = NewPosting {
        portal: "elempleo".to_owned(),
        url: "https://www.elempleo.example/co/1886557309".to_owned(),
        title: "  PANADERO   1 ".to_owned(),
        ..ad(1)
    };
    let abroad = NewPosting { country: "MX".to_owned(), ..elsewhere.clone() };
    let stored = put(&pool, vec![ad(1), elsewhere, abroad, ad(1)]).await;
    assert!(matches!(stored[0], Stored::New(_)));
    assert!(stored[1..].iter().all(|outcome| matches!(outcome, Stored::Duplicate(_))));
    assert!(stored.iter().all(|outcome| id_of(*outcome) == id_of(stored[0])));
    assert_eq!(count(&pool, "raw_jobs").await, 1);
    assert_eq!(count(&pool, "sighting").await, 3);
    let times: i32 = sqlx::query_scalar("select times_seen from sighting where portal = 'computrabajo'")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(times, 2);
}

#[sqlx::test(migrations = "../migrations")]
async fn an_edited_advertisement_points_to_the_text_it_replaced(pool: PgPool) {
    let edited = NewPosting { description: "Hornear pan y amasar.".to_owned(), ..ad(1) };
    let stored = put(&pool, vec![ad(1), edited]).await;
    let previous: Option<uuid::Uuid> =
        sqlx::query_scalar("select previous_job_id from posting where job_id = $1")
            .bind(id_of(stored[1]))
            .fetch_one(&pool)
            .await
            .unwrap();
    assert_eq!(previous, Some(id_of(stored[0])));
}

#[sqlx::test(migrations = "../migrations")]
async fn personal_data_is_counted_and_not_stored(pool: PgPool) {
    let contact = NewPosting {
        description: "Hornear pan. Escribir a juana.perez@panaderia.example o al +57 300 123 4567".to_owned(),
        ..ad(1)
    };
    put(&pool, vec![contact]).await;
    let text: String = sqlx::query_scalar("select description from raw_jobs").fetch_one(&pool).await.unwrap();
    assert!(!text.contains('@') && !text.contains("4567"), "{text}");
    let pieces: i64 =
        sqlx::query_scalar("select sum(pieces)::bigint from privacy_count").fetch_one(&pool).await.unwrap();
    assert_eq!(pieces, 2);
}

#[sqlx::test(migrations = "../migrations")]
async fn two_imports_at_once_store_one_row(pool: PgPool) {
    let ads: Vec<NewPosting> = (0..40).map(ad).collect();
    let backwards = ads.iter().rev().cloned().collect();
    let shuffled = ads.iter().skip(13).chain(&ads[..13]).cloned().collect();
    // The same texts in other orders, each import in one transaction: they wait for each other.
    let tasks = [ads.clone(), backwards, shuffled].map(|ads| {
        let pool = pool.clone();
        tokio::spawn(async move {
            for _ in 0..5 {
                put(&pool, ads.clone()).await;
            }
        })
    });
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(count(&pool, "posting").await, 40);
    assert_eq!(count(&pool, "sighting").await, 40);
}
