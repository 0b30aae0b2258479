//! kill -9 of every process in the middle of a run: the same rows as without.

use std::process::Command;

use sqlx::{PgConnection, Row};

use crate::site::{Site, eventually};

/// Advertisements of each run: enough for every process to die in the middle of it.
const ADS: usize = 400;

/// Domain rows without ids, times and attempt counts.
const ROWS: [&str; 5] = [
    "select to_jsonb(r) - 'job_id' - 'scraped_at' from raw_jobs r",
    "select to_jsonb(s) - 'sighting_id' - 'job_id' - 'first_seen' - 'last_seen' from sighting s",
    "select to_jsonb(x) - 'extraction_id' - 'job_id' - 'extracted_at' || jsonb_build_object('text', p.content_hash)
     from extracted_skills x join posting p using (job_id)",
    "select to_jsonb(e) - 'enhancement_id' - 'job_id' - 'enhanced_at' - 'duplicate_of_id' - 'skill_id'
         - 'extraction_id' || jsonb_build_object('text', p.content_hash)
     from enhanced_skills e join posting p using (job_id)",
    "select jsonb_build_object('text', p.content_hash, 'stage', s.stage, 'version', s.version, 'rows', s.rows)
     from posting_stage s join posting p using (job_id)",
];

async fn rows(connection: &mut PgConnection) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for query in ROWS {
        let query = format!("select row::text from ({query}) as rows (row) order by 1");
        found.push(sqlx::query_scalar(sqlx::AssertSqlSafe(query)).fetch_all(&mut *connection).await.unwrap());
    }
    found
}

async fn vectors(connection: &mut PgConnection) -> Vec<(String, Vec<f32>)> {
    let query = "select skill_text, embedding::real[] as vector from skill_embeddings order by skill_text collate \"C\"";
    let found = sqlx::query(query).fetch_all(connection).await.unwrap();
    found.into_iter().map(|row| (row.get("skill_text"), row.get("vector"))).collect()
}

fn cosine(left: &[f32], right: &[f32]) -> f64 {
    left.iter().zip(right).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

async fn map(connection: &mut PgConnection) -> Vec<String> {
    sqlx::query_scalar(
        "select concat_ws(' ', s.label, k.x, k.y, k.cluster_id) from skill_point k join skill s using (skill_id)
         where analysis_id = (select analysis_id from analysis_results order by created_at desc limit 1)
         order by 1",
    )
    .fetch_all(connection)
    .await
    .unwrap()
}

fn kill_hard(pid: u32) {
    assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
}

fn healthy(site: &Site) -> bool {
    site.run(&["status"]).code == 0
}

/// Ends each process in turn; the supervisor, last, is replaced by `up`.
fn kill_everything_in_turn(site: &Site) {
    for name in ["pipeline-services", "inference-server", "postgres"] {
        let victim = eventually("the process", || site.pid(name));
        kill_hard(victim);
        eventually("its return", || site.pid(name).filter(|pid| *pid != victim && healthy(site)));
    }
    let status = site.run(&["status", "--json"]).json();
    let supervisor = status["supervisor"]["pid"].as_u64().expect("a supervisor");
    kill_hard(u32::try_from(supervisor).unwrap());
    site.run(&["up", "--wait-seconds", "120"]).ended(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_every_process_in_the_middle_changes_no_row() {
    let site = || Site::with("", &["tiny-e5", "xlmr-ner"]);
    let (calm, shaken) = (site(), site());
    for site in [&calm, &shaken] {
        site.run(&["postings", "import", &site.ads(ADS)]).ended(0);
    }
    calm.run(&["run", "start", "--watch"]).ended(0);

    let run = shaken.run(&["run", "start", "--json"]).ended(0).json();
    let id = run["run_id"].as_str().unwrap();
    kill_everything_in_turn(&shaken);
    shaken.run(&["run", "watch", id]).ended(0);

    let (mut calm_database, mut shaken_database) = (calm.database().await, shaken.database().await);
    let (expected, found) = (rows(&mut calm_database).await, rows(&mut shaken_database).await);
    for (expected, found) in expected.iter().zip(&found) {
        assert!(!expected.is_empty());
        assert_eq!(found.len(), expected.len());
        let difference = expected.iter().zip(found).find(|(expected, found)| expected != found);
        assert!(difference.is_none(), "{difference:#?}");
    }
    let (expected, found) = (vectors(&mut calm_database).await, vectors(&mut shaken_database).await);
    assert_eq!(found.len(), expected.len());
    for ((label, expected), (same, found)) in expected.iter().zip(&found) {
        assert_eq!(label, same);
        assert!(cosine(expected, found) >= 0.99999, "{label}");
    }
    let before = map(&mut shaken_database).await;
    shaken.run(&["run", "start", "--stages", "analyze", "--watch"]).ended(0);
    assert_eq!(map(&mut shaken_database).await, before, "equal vectors, equal clusters");
}
