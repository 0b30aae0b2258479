//! Exports read every row once, however many there are.

use std::sync::Mutex;

use observatory_pipeline::testing::{
    export::{Format, Subject, write},
    spreadsheet::Dialect,
    store::PgPool,
};
use sqlx::postgres::PgPoolOptions;

const POSTINGS: i64 = 3_000;
const SKILLS: i64 = 14;

/// A store of the size of a small study, without statistics, as after a first run.
async fn fill(pool: &PgPool) {
    let rows = format!(
        "insert into portal (name) values ('p'), ('q');
         insert into posting (job_id, content_hash, country, first_seen, last_seen)
             select gen_random_uuid(), lpad(to_hex(n), 64, '0'), 'CO', now(), now() from generate_series(1, {POSTINGS}) n;
         insert into raw_jobs (job_id, portal, country, url, title, description, content_hash)
             select job_id, 'p', country, 'https://p.example', 'Panadero', 'Hornear pan. Manejo de Excel.', content_hash
             from posting;
         insert into sighting (portal, external_id, country, url, job_id, first_seen, last_seen)
             select case when content_hash like '%7' then 'q' else 'p' end, content_hash, country, 'https://p.example',
                 job_id, now(), now() from posting;
         insert into posting_occupation (job_id, uri, label, score, isco, cuoc, cuoc_label, version)
             select job_id, 'o:1', 'panadero/panadera', 0.9, '7512', '75120', 'Panaderos', 'test'
             from posting where content_hash like '%7';
         insert into skill (label, kind, category) select 'Skill ' || n, 'hard', 'tool' from generate_series(1, {SKILLS}) n;
         insert into extracted_skills (job_id, skill_text, skill_type, extraction_method, confidence_score,
                 source_section, span_start, span_end, label, kind, category, source_field, place)
             select job_id, 'Excel', 'explicit', 'lexicon', 0.9, 'body', 23, 28, label, kind, category, 'description', 'required'
             from posting cross join skill;
         insert into enhanced_skills (job_id, normalized_skill, skill_type, llm_confidence, llm_model, skill_id, kind,
                 category, extraction_id)
             select x.job_id, x.label, 'explicit', 0.9, 'rules', s.skill_id, x.kind, x.category, x.extraction_id
             from extracted_skills x join skill s using (label);"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(rows)).execute(pool).await.unwrap();
}

/// Rows of a table that statements have read so far.
async fn read(pool: &PgPool, table: &str) -> i64 {
    sqlx::query("select pg_stat_force_next_flush()").execute(pool).await.unwrap();
    sqlx::query_scalar(
        "select (coalesce(sum(seq_tup_read), 0) + coalesce(sum(idx_tup_fetch), 0))::bigint
         from pg_stat_user_tables where relname like $1",
    )
    .bind(format!("{table}%"))
    .fetch_one(pool)
    .await
    .unwrap()
}

/// The lines of an export; no chunk is much larger than a page.
async fn exported(pool: &PgPool, subject: Subject, format: Format, portal: Option<&str>) -> Vec<String> {
    let (text, largest) = (Mutex::new(Vec::new()), Mutex::new(0));
    write(pool, subject, format, (portal, None), |chunk| {
        let mut largest = largest.lock().unwrap();
        *largest = chunk.len().max(*largest);
        text.lock().unwrap().extend(chunk);
        async { true }
    })
    .await
    .unwrap();
    assert!(*largest.lock().unwrap() < 1 << 20);
    let text = String::from_utf8(text.into_inner().unwrap()).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[sqlx::test(migrations = "../migrations")]
async fn every_row_is_read_once_and_written_once(pool: PgPool) {
    // One session, whose counts are its own.
    let options = pool.connect_options();
    let pool = PgPoolOptions::new().max_connections(1).connect_with((*options).clone()).await.unwrap();
    fill(&pool).await;
    for (subject, table, rows) in [
        (Subject::Skills, "enhanced_skills", POSTINGS * SKILLS),
        (Subject::Skills, "extracted_skills", POSTINGS * SKILLS),
        (Subject::Postings, "raw_jobs", POSTINGS),
        (Subject::Postings, "posting_occupation", POSTINGS / 16),
    ] {
        let before = read(&pool, table).await;
        let lines = exported(&pool, subject, Format::Jsonl, None).await;
        let spent = read(&pool, table).await - before;
        assert!(spent >= rows && spent <= rows + rows / 10, "{table}: {spent} rows were read for {rows}");
        let mut distinct = lines.clone();
        distinct.sort_unstable();
        distinct.dedup();
        let expected = if subject == Subject::Skills { POSTINGS * SKILLS } else { POSTINGS };
        assert_eq!((distinct.len() as i64, lines.len() as i64), (expected, expected), "{table}");
    }
    let sighted: i64 = sqlx::query_scalar("select count(*) from sighting where portal = 'q'")
        .fetch_one(&pool)
        .await
        .unwrap();
    let csv = exported(&pool, Subject::Skills, Format::Csv(Dialect::Plain), Some("q")).await;
    assert_eq!(csv.len() as i64, 1 + sighted * SKILLS);
    assert!(
        csv[1].ends_with("https://p.example,description,body,23,28,Manejo de Excel.,lexicon,0.9,required,observatory:skill/skill-1,,,"),
        "{}",
        csv[1]
    );
    let csv = exported(&pool, Subject::Postings, Format::Csv(Dialect::Plain), None).await;
    let columns = "is_processed,occupation_uri,occupation_label,occupation_isco,occupation_cuoc,\
         occupation_cuoc_label,occupation_score";
    assert!(csv[0].ends_with(columns), "{}", csv[0]);
    let coded = ",o:1,panadero/panadera,7512,75120,Panaderos,0.9";
    let (with, without): (Vec<&String>, Vec<&String>) =
        csv[1..].iter().partition(|line| line.ends_with(coded));
    assert_eq!(with.len() as i64, sighted);
    assert!(without.iter().all(|line| line.ends_with(",,,,,,")), "{without:?}");
}

#[sqlx::test(migrations = "../migrations")]
async fn an_implied_skill_comes_with_the_sentence_it_follows_from(pool: PgPool) {
    sqlx::raw_sql(
        "insert into portal (name) values ('p');
         insert into posting (job_id, content_hash, country, first_seen, last_seen)
             values (gen_random_uuid(), repeat('0', 64), 'CO', now(), now());
         insert into raw_jobs (job_id, portal, country, url, title, description, content_hash)
             select job_id, 'p', country, 'https://p.example', 'Analista', 'Hornear pan. Manejo de Django.', content_hash
             from posting;
         insert into skill (label, kind, category) values ('Python', 'hard', 'technology');
         insert into enhanced_skills (job_id, normalized_skill, skill_type, llm_confidence, llm_model, skill_id, kind,
                 category, cited_field, cited_start, cited_end)
             select job_id, label, 'implicit', 0.9, 'rules', skill_id, kind, category, 'description', 23, 29
             from posting cross join skill;",
    )
    .execute(&pool)
    .await
    .unwrap();
    let lines = exported(&pool, Subject::Skills, Format::Jsonl, None).await;
    let row: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!((lines.len(), &row["sentence"]), (1, &"Manejo de Django.".into()));
    assert_eq!(row["span_start"], serde_json::Value::Null);
    assert_eq!((&row["cited_field"], &row["cited_start"]), (&"description".into(), &23.into()));
}
