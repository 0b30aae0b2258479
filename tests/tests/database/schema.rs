//! The published schema: every table, column, view and index under its name.

use observatory_pipeline::testing::store::{self, PgPool};

use crate::support;

const TABLES: [(&str, &[&str]); 5] = [
    (
        "raw_jobs",
        &[
            "job_id",
            "portal",
            "country",
            "url",
            "title",
            "company",
            "location",
            "description",
            "requirements",
            "salary_raw",
            "contract_type",
            "remote_type",
            "posted_date",
            "scraped_at",
            "content_hash",
            "raw_html",
            "is_processed",
        ],
    ),
    (
        "extracted_skills",
        &[
            "extraction_id",
            "job_id",
            "skill_text",
            "skill_type",
            "extraction_method",
            "confidence_score",
            "source_section",
            "span_start",
            "span_end",
            "esco_uri",
            "extracted_at",
        ],
    ),
    (
        "enhanced_skills",
        &[
            "enhancement_id",
            "job_id",
            "original_skill_text",
            "normalized_skill",
            "skill_type",
            "esco_concept_uri",
            "esco_preferred_label",
            "llm_confidence",
            "llm_reasoning",
            "is_duplicate",
            "duplicate_of_id",
            "enhanced_at",
            "llm_model",
        ],
    ),
    (
        "skill_embeddings",
        &["embedding_id", "skill_text", "embedding", "model_name", "model_version", "created_at"],
    ),
    ("analysis_results", &["analysis_id", "analysis_type", "results", "created_at"]),
];

const VIEWS: [(&str, &[&str]); 2] = [
    ("skill_frequency", &["normalized_skill", "job_count", "total_mentions", "countries", "implicit_count"]),
    ("country_skill_distribution", &["country", "normalized_skill", "job_count", "implicit_count"]),
];

const INDEXES: [&str; 6] = [
    "idx_portal_country",
    "idx_processed",
    "idx_skill_text",
    "idx_normalized",
    "idx_scraped_at",
    "idx_enhanced_at",
];

#[sqlx::test(migrations = "../migrations")]
async fn every_published_table_and_view_answers_under_its_name(pool: PgPool) {
    for (name, columns) in TABLES.iter().chain(&VIEWS) {
        let query = format!("select {} from {name} limit 1", columns.join(", "));
        let answered = sqlx::query(sqlx::AssertSqlSafe(query)).fetch_optional(&pool).await;
        assert!(answered.is_ok(), "{name}: {answered:?}");
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn every_published_index_and_partition_exists(pool: PgPool) {
    for index in INDEXES {
        let found: Option<String> =
            sqlx::query_scalar("select indexname from pg_indexes where indexname = $1")
                .bind(index)
                .fetch_optional(&pool)
                .await
                .unwrap();
        assert_eq!(found.as_deref(), Some(index));
    }
    for partition in ["raw_jobs_co", "raw_jobs_mx", "raw_jobs_ar"] {
        let parent: String = sqlx::query_scalar(
            "select inhparent::regclass::text from pg_inherits where inhrelid = $1::regclass",
        )
        .bind(partition)
        .fetch_one(&pool)
        .await
        .unwrap();
        assert_eq!(parent, "raw_jobs");
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn readers_read_and_do_not_write(pool: PgPool) {
    support::put(&pool, vec![support::ad(1)]).await;
    let mut connection = pool.acquire().await.unwrap();
    sqlx::query("set role obs_reader").execute(&mut *connection).await.unwrap();
    let count: i64 = sqlx::query_scalar("select count(*) from analysis.postings")
        .fetch_one(&mut *connection)
        .await
        .unwrap();
    assert_eq!(count, 1);
    let refused = sqlx::query("select from raw_jobs").execute(&mut *connection).await.unwrap_err();
    assert!(refused.to_string().contains("permission denied"), "{refused}");
    let refused = sqlx::query("delete from analysis.sightings").execute(&mut *connection).await.unwrap_err();
    assert!(refused.to_string().contains("permission denied"), "{refused}");
    sqlx::query("set role obs_writer").execute(&mut *connection).await.unwrap();
    let written = sqlx::query("update raw_jobs set is_processed = false where country = 'CO'")
        .execute(&mut *connection)
        .await
        .unwrap();
    assert_eq!(written.rows_affected(), 1);
    let refused = sqlx::query("drop table raw_jobs").execute(&mut *connection).await.unwrap_err();
    assert!(refused.to_string().contains("must be owner"), "{refused}");
    sqlx::query("reset role").execute(&mut *connection).await.unwrap();
}

#[sqlx::test(migrations = "../migrations")]
async fn a_country_is_enabled_by_one_call(pool: PgPool) {
    let mut connection = pool.acquire().await.unwrap();
    assert_eq!(store::countries::enabled(&mut connection).await.unwrap(), ["AR", "CO", "MX"]);
    store::countries::enable(&mut connection, "PE").await.unwrap();
    store::countries::enable(&mut connection, "PE").await.unwrap();
    assert!(store::countries::enable(&mut connection, "XX").await.is_err());
    drop(connection);
    let ad = observatory_pipeline::testing::domain::posting::NewPosting {
        country: "PE".to_owned(),
        ..support::ad(1)
    };
    support::put(&pool, vec![ad]).await;
    let count: i64 = sqlx::query_scalar("select count(*) from raw_jobs_pe").fetch_one(&pool).await.unwrap();
    assert_eq!(count, 1);
}

#[sqlx::test(migrations = false)]
async fn migrating_an_empty_database_reaches_the_needed_version(pool: PgPool) {
    let mut connection = pool.acquire().await.unwrap();
    assert_eq!(store::schema_version(&mut connection).await.unwrap(), 0);
    drop(connection);
    assert!(store::require_schema(&pool, 1).await.is_err());
    let version = store::migrate(&pool).await.unwrap();
    assert_eq!(version, store::needed_schema_version());
    assert_eq!(store::migrate(&pool).await.unwrap(), version);
    store::require_schema(&pool, version).await.unwrap();
    // As after a downgrade of the program: the schema stays, and so does all that is in it.
    let newer = version + 1;
    sqlx::query(
        "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
         values ($1, 'of a later program', true, '', 0)",
    )
    .bind(newer)
    .execute(&pool)
    .await
    .unwrap();
    assert_eq!(store::migrate(&pool).await.unwrap(), newer);
    store::require_schema(&pool, version).await.unwrap();
}

#[sqlx::test(migrations = "../migrations")]
async fn vectors_of_the_wrong_length_are_refused(pool: PgPool) {
    let mut connection = pool.acquire().await.unwrap();
    let model = store::embeddings::activate(&mut connection, &support::model("m", 3)).await.unwrap();
    let skill_id: i64 = sqlx::query_scalar(
        "insert into skill (label, kind, category) values ('x', 'hard', 'tool') returning skill_id",
    )
    .fetch_one(&mut *connection)
    .await
    .unwrap();
    let wrong = store::embeddings::insert(&mut connection, skill_id, model.model_id, vec![1.0, 0.0]).await;
    assert!(wrong.is_err());
    store::embeddings::insert(&mut connection, skill_id, model.model_id, vec![1.0, 0.0, 0.0]).await.unwrap();
    let seen: String = sqlx::query_scalar("select model_name from skill_embeddings where skill_text = 'x'")
        .fetch_one(&mut *connection)
        .await
        .unwrap();
    assert_eq!(seen, "m");
    // A second model: the view follows the active one.
    store::embeddings::activate(&mut connection, &support::model("n", 2)).await.unwrap();
    let left: i64 = sqlx::query_scalar("select count(*) from skill_embeddings")
        .fetch_one(&mut *connection)
        .await
        .unwrap();
    assert_eq!(left, 0);
}
