//! The demo, as a newcomer runs it, on fewer advertisements and a tiny encoder.

use std::fs;

use sqlx::{Connection, PgConnection};

use crate::site::Site;

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_visits_twice_reports_and_measures() {
    let site = Site::new();
    let model = Site::tiny_model("tiny-e5");
    site.run(&["models", "import", model.to_str().unwrap(), "--name", "tests/tiny-e5"]).ended(0);
    let summary = site.run(&["demo", "--ads", "120", "--keep", "--json"]).ended(0).json();
    assert_eq!(summary["run"]["state"], "succeeded", "{summary}");
    assert_eq!(summary["run"]["facts"]["embed"]["model"], "tests/tiny-e5");
    assert_eq!(summary["run"]["facts"]["extract"]["taxonomy"], "esco-lexicon@1");
    // What stands on the portals is dealt out evenly: the test part is a sixth of the set.
    let measured = &summary["extraction"];
    assert!(measured["advertisements"].as_u64().unwrap() >= 8, "{measured}");
    for figure in ["precision", "recall"] {
        let value = measured[figure].as_f64().unwrap();
        assert!((0.2..0.95).contains(&value), "{figure} {value}");
    }
    let report = site.data().join("demo-report");
    for file in ["report.pdf", "report.html", "skills.csv", "run.json"] {
        assert!(report.join(file).metadata().is_ok_and(|found| found.len() > 500), "{file}");
    }
    let data = site.data().join("demo");
    let url = fs::read_to_string(data.join("secrets/database-url")).unwrap();
    let mut database = PgConnection::connect(url.trim()).await.unwrap();
    let count = async |query: &'static str, database: &mut PgConnection| -> i64 {
        sqlx::query_scalar(query).fetch_one(database).await.unwrap()
    };
    // The second visit read every page again: edits are new versions, the rest was seen twice.
    assert!(count("select count(previous_job_id) from posting", &mut database).await >= 3);
    assert!(count("select count(*) from sighting where times_seen = 2", &mut database).await >= 80);
    assert_eq!(count("select count(distinct country) from posting", &mut database).await, 5);
    assert_eq!(count("select count(distinct portal) from sighting", &mut database).await, 3);
    site.run(&["--data-dir", data.to_str().unwrap(), "down"]).ended(0);
}
