//! Crawls that are killed, stopped, or take long.

use std::time::Duration;

use observatory_pipeline::testing::domain::run::{RunState, StageName::Scrape};
use observatory_tests::simulator::{Config, Simulator};

use super::ground::{Ground, Trial};

/// Portals that take their time, and a trial whose scraper visits them.
async fn portals(ground: &Ground) -> (Simulator, Trial) {
    let slow = "slow:every=1,millis=300".parse().unwrap();
    let config = Config { ads: Config::spread(240), faults: vec![slow], ..Config::default() };
    let portals = Simulator::start(config).await.unwrap();
    let trial = ground
        .trial_with(&format!(
            "[modules.scraper]\nenabled = true\ntimeout = 20\n[modules.scraper.settings]\n\
             base_url = \"{}/{{portal}}/{{country}}\"\ndelay = 0.0\n",
            portals.origin()
        ))
        .await;
    trial.execute("truncate posting, sighting, raw_jobs cascade").await;
    (portals, trial)
}

async fn count(trial: &Trial, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(&trial.pool).await.unwrap()
}

async fn stored(trial: &Trial, least: i64) {
    trial
        .wait_for("stored advertisements", async || {
            let count: i64 =
                sqlx::query_scalar("select count(*) from sighting").fetch_one(&trial.pool).await?;
            Ok((count >= least).then_some(()))
        })
        .await;
}

/// Ids that the portals have, and those that are stored.
async fn compare(portals: &Simulator, trial: &Trial, what: &str) {
    let mut expected: Vec<String> = portals
        .ground_truth()
        .iter()
        .map(|ad| serde_json::to_value(ad).unwrap())
        .map(|ad| {
            ["portal", "country", "external_id"].map(|key| ad[key].as_str().unwrap().to_owned()).join(" ")
        })
        .collect();
    expected.sort();
    expected.dedup();
    let mut found: Vec<String> =
        sqlx::query_scalar("select concat_ws(' ', portal, country, external_id) from sighting")
            .fetch_all(&trial.pool)
            .await
            .unwrap();
    found.sort();
    assert_eq!(found, expected, "{what}");
    assert_eq!(
        count(trial, "select count(*) from sighting where times_seen <> 1").await,
        0,
        "{what}: seen twice"
    );
    let unseen = "select count(*) from sighting s where not exists (select from sighting_visit v
        where v.sighting_id = s.sighting_id)";
    assert_eq!(count(trial, unseen).await, 0, "{what}: a sighting without its visit");
    let odd: Vec<serde_json::Value> = sqlx::query_scalar(
        "select to_jsonb(v) from visit v where stop_reason is distinct from 'exhausted' or pages = 0",
    )
    .fetch_all(&trial.pool)
    .await
    .unwrap();
    assert!(odd.is_empty(), "{what}: visits {odd:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crawl_keeps_what_it_has() {
    let ground = Ground::bare().await;
    let (portals, trial) = portals(&ground).await;
    let mut process = trial.start("all");
    let run_id = trial.run(&[Scrape]).await;
    stored(&trial, 30).await;
    process.kill();
    let kept = count(&trial, "select count(*) from sighting").await;
    assert!(kept >= 30);
    process = trial.start("all");
    stored(&trial, kept + 30).await;
    process.signal("-TERM");
    let took = process.ended();
    assert!(took < Duration::from_secs(6), "{took:?}");
    let costs = "select coalesce(sum(retry_count), 0)::bigint from task where stage = 'scrape'";
    assert_eq!(count(&trial, costs).await, 0, "neither costs a try");
    let process = trial.start("all");
    let run = trial.finish(run_id).await;
    assert_eq!(run.state, RunState::Succeeded, "{:?}", run.problems);
    compare(&portals, &trial, "killed and stopped").await;
    drop(process);
    let stats = portals.stop().await.unwrap();
    assert_eq!(stats.robots_violations, 0);
}
