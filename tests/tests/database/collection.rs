//! When advertisements were collected, which is not when they were imported.

use chrono::{DateTime, Utc};
use observatory_pipeline::testing::{
    domain::posting::NewPosting,
    store::{PgPool, figures, runs::Scope},
};

use crate::support::{ad, put};

fn collected(number: u32, day: &str) -> NewPosting {
    NewPosting { scraped_at: Some(format!("{day}T12:00:00Z").parse().unwrap()), ..ad(number) }
}

async fn range(pool: &PgPool) -> (Option<String>, Option<String>) {
    let mut connection = pool.acquire().await.unwrap();
    let extent = figures::extent(&mut connection, &Scope::default()).await.unwrap();
    let day = |time: Option<DateTime<Utc>>| time.map(|time| time.date_naive().to_string());
    (day(extent.collected_from), day(extent.collected_to))
}

#[sqlx::test(migrations = "../migrations")]
async fn the_day_of_an_import_is_no_day_of_collection(pool: PgPool) {
    let days = |from: &str, to: &str| (Some(from.to_owned()), Some(to.to_owned()));
    put(&pool, vec![ad(1)]).await;
    assert_eq!(range(&pool).await, (None, None), "nobody knows it");
    put(&pool, vec![collected(2, "2025-11-03"), collected(3, "2025-08-20")]).await;
    assert_eq!(range(&pool).await, days("2025-08-20", "2025-11-03"));
    // The same advertisement again, with its day: now it is known.
    put(&pool, vec![collected(1, "2025-12-01"), collected(1, "2025-07-01"), ad(1)]).await;
    assert_eq!(range(&pool).await, days("2025-07-01", "2025-12-01"));
    let times: Vec<Option<DateTime<Utc>>> =
        sqlx::query_scalar("select scraped_at from raw_jobs order by title").fetch_all(&pool).await.unwrap();
    let known: Vec<String> = times.into_iter().flatten().map(|time| time.date_naive().to_string()).collect();
    assert_eq!(known, ["2025-07-01", "2025-11-03", "2025-08-20"]);
}
