//! Simulated portals to postings: what is stored equals the truth about the portals, field by
//! field.

use std::collections::{BTreeMap, BTreeSet};

use observatory_tests::simulator::{Config, Simulator, Truth, comparable};
use serde_json::Value;

use crate::site::Site;

/// Fields of a posting whose text is compared.
const TEXTS: [&str; 8] = [
    "title",
    "company",
    "location",
    "description",
    "requirements",
    "salary_raw",
    "contract_type",
    "remote_type",
];

/// The truth about an advertisement after the cleaning that every way in goes through.
fn cleaned(truth: &Truth) -> Value {
    let mut value = serde_json::to_value(truth).unwrap();
    for field in TEXTS {
        if let Some(text) = value[field].as_str() {
            let text = observatory_pipeline::testing::cleaning::clean(text).text;
            value[field] = if text.is_empty() { Value::Null } else { Value::String(text) };
        }
    }
    value
}

fn key(value: &Value) -> String {
    ["portal", "country", "external_id"].map(|field| value[field].as_str().unwrap()).join(" ")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_scraped_set_equals_the_truth_of_the_portals() {
    let config = Config { ads: Config::spread(150), ..Config::default() };
    let portals = Simulator::start(config).await.unwrap();
    let site = Site::with_settings(&format!(
        "[modules.scraper]\nenabled = true\n[modules.scraper.settings]\n\
         base_url = \"{}/{{portal}}/{{country}}\"\ndelay = 0.0\n",
        portals.origin()
    ));
    let run = site.run(&["run", "start", "--stages", "scrape,extract", "--watch", "--json"]).ended(0).json();
    assert_eq!(run["state"], "succeeded", "{run}");

    let mut database = site.database().await;
    let rows = sqlx::query_scalar(
        "select to_jsonb(r) || jsonb_build_object('portal', s.portal, 'country', s.country,
             'external_id', s.external_id, 'posted_date', s.posted_date)
         from sighting s join posting p using (job_id) join raw_jobs r using (job_id)",
    );
    let rows: Vec<Value> = rows.fetch_all(&mut database).await.unwrap();
    let stored: BTreeMap<String, Value> = rows.into_iter().map(|row| (key(&row), row)).collect();
    let truth: Vec<Value> = portals.ground_truth().iter().map(cleaned).collect();
    let expected: BTreeSet<String> = truth.iter().map(key).collect();
    assert_eq!(stored.keys().cloned().collect::<BTreeSet<_>>(), expected);

    // Equal texts share one row; fields outside the text are those of the first of them to arrive.
    let mut groups: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for ad in &truth {
        groups.entry(stored[&key(ad)]["content_hash"].as_str().unwrap()).or_default().push(ad);
    }
    for ad in &truth {
        let found = &stored[&key(ad)];
        assert_eq!(found["posted_date"], ad["posted_date"], "{ad:#}");
        let group = &groups[found["content_hash"].as_str().unwrap()];
        let same = group.iter().any(|truth| TEXTS.iter().all(|field| equal(&truth[*field], &found[*field])));
        assert!(same, "stored {found:#}\ntruth {ad:#}");
    }
    let distinct: BTreeSet<&str> = truth.iter().map(|ad| ad["content_group"].as_str().unwrap()).collect();
    assert_eq!(groups.len(), distinct.len(), "equal texts are folded and only they");
    let stats = portals.stop().await.unwrap();
    assert_eq!(stats.robots_violations, 0);
}

/// Blanks and list marks apart: a page breaks lines as it likes.
fn equal(truth: &Value, found: &Value) -> bool {
    match (truth.as_str(), found.as_str()) {
        (Some(truth), Some(found)) => comparable(truth) == comparable(found),
        (None, None) => true,
        _ => false,
    }
}
