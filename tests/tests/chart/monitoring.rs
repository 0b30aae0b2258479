//! Alerts, dashboards and monitors: they ask for metrics that the servers have, and each alert has
//! a section of the runbook.

use std::collections::BTreeSet;
use std::path::Path;

use regex::Regex;
use serde_json::{Value, json};

use crate::helm::{chart, render, render_example, root};
use crate::manifest::{items, kind, named, text};

/// The Rust sources below a folder, as one text.
fn sources(folder: &Path) -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir(folder).expect("folder of sources") {
        let path = entry.expect("entry").path();
        if path.is_dir() {
            text.push_str(&sources(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            text.push_str(&std::fs::read_to_string(path).expect("source file"));
        }
    }
    text
}

/// The names of the metrics as Prometheus stores them.
fn known_metrics() -> BTreeSet<String> {
    let mut names = BTreeSet::from(["up".to_owned()]);
    let own = sources(&root().join("inference-server/src/metrics"))
        + &std::fs::read_to_string(root().join("inference-server/src/metrics.rs")).expect("metrics.rs");
    let registered = Regex::new(r#"r\.register(_with_unit)?\(\s*"(\w+)""#).expect("a pattern");
    for found in registered.captures_iter(&own) {
        let unit = if found.get(1).is_some() { "_seconds" } else { "" };
        // Of a counter, a gauge and a histogram; which one it is its name does not say.
        for ending in ["", "_total", "_bucket", "_sum", "_count"] {
            names.insert(format!("observatory_inference_{}{unit}{ending}", &found[2]));
        }
    }
    let stages = sources(&root().join("pipeline-services/src"));
    let counted = Regex::new(r#""(\w+_total)""#).expect("a pattern");
    names.extend(counted.captures_iter(&stages).map(|found| format!("observatory_stage_{}", &found[1])));
    assert!(names.len() > 100, "{names:?}");
    names
}

/// The metrics that an expression names.
fn named_metrics(expression: &str) -> BTreeSet<String> {
    let names = Regex::new(r"\bobservatory_(?:inference|stage)_\w+|\bup\{").expect("a pattern");
    names.find_iter(expression).map(|name| name.as_str().trim_end_matches('{').to_owned()).collect()
}

fn all_alerts() -> Vec<Value> {
    let objects = render(&[], &["--set", "monitoring.prometheusRule.enabled=true"]);
    items(named(&objects, "PrometheusRule/rel-observatory"), "/spec/groups/0/rules").to_vec()
}

#[test]
fn alerts_and_dashboards_ask_for_metrics_that_exist() {
    let known = known_metrics();
    for alert in all_alerts() {
        let expression = text(&alert, "/expr");
        let names = named_metrics(expression);
        assert!(!names.is_empty(), "{expression}");
        assert!(names.is_subset(&known), "{}: {expression}", text(&alert, "/alert"));
        assert_eq!(expression.matches('(').count(), expression.matches(')').count(), "{expression}");
    }
    for entry in std::fs::read_dir(chart().join("dashboards")).expect("the dashboards") {
        let path = entry.expect("a dashboard").path();
        let board: Value =
            serde_json::from_str(&std::fs::read_to_string(&path).expect("a file")).expect("JSON");
        let names = named_metrics(&board.to_string());
        assert!(names.len() > 5, "{}: {names:?}", path.display());
        let unknown: Vec<_> = names.difference(&known).collect();
        assert!(unknown.is_empty(), "{}: {unknown:?}", path.display());
    }
    assert!(!known.contains("observatory_stage_queue_depth"), "a metric that nobody exports is unknown");
}

#[test]
fn every_alert_has_a_section_of_the_runbook() {
    let runbook = std::fs::read_to_string(root().join("docs/runbook.md")).expect("docs/runbook.md");
    let sections: BTreeSet<&str> = runbook.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let alerts = all_alerts();
    assert!(alerts.len() >= 10, "{} alerts", alerts.len());
    let names: BTreeSet<&str> = alerts.iter().map(|alert| text(alert, "/alert")).collect();
    assert_eq!(names, sections, "alerts, and sections of docs/runbook.md");
    for alert in &alerts {
        let anchor = text(alert, "/alert").to_lowercase();
        let link = text(alert, "/annotations/runbook_url");
        assert_eq!(link, format!("docs/runbook.md#{anchor}"));
        assert!(["warning", "critical"].contains(&text(alert, "/labels/severity")));
    }
}

#[test]
fn alerts_follow_the_values() {
    let objects = render_example("operations");
    let rule = named(&objects, "PrometheusRule/rel-observatory");
    let alerts = items(rule, "/spec/groups/0/rules");
    assert!(alerts.iter().all(|alert| text(alert, "/alert") != "ObservatoryKvCacheSmall"));
    let link = "https://wiki.example.org/observatory/runbook#observatory";
    assert!(alerts.iter().all(|alert| text(alert, "/annotations/runbook_url").starts_with(link)));
    assert!(alerts.iter().all(|alert| text(alert, "/labels/team") == "labor"));
    let boards = named(&objects, "ConfigMap/rel-observatory-dashboards");
    assert_eq!(boards["metadata"]["labels"]["grafana_dashboard"], json!("1"));
    assert_eq!(boards["data"].as_object().map(serde_json::Map::len), Some(2));
}

#[test]
fn every_way_to_scrape_opens_the_port() {
    let opens = |set: &str| {
        let objects = render(&[], &["--set", set]);
        let name = "rel-observatory-metrics";
        let opens =
            kind(&objects, "NetworkPolicy").iter().any(|policy| text(policy, "/metadata/name") == name);
        let monitors = kind(&objects, "ServiceMonitor").len() + kind(&objects, "PodMonitor").len();
        (opens, monitors)
    };
    assert_eq!(opens("nameOverride="), (false, 0));
    assert_eq!(opens("monitoring.serviceMonitor.enabled=true"), (true, 1));
    assert_eq!(opens("monitoring.podMonitor.enabled=true"), (true, 1));
    assert_eq!(opens("monitoring.annotations.enabled=true"), (true, 0));
    assert_eq!(opens("networkPolicy.metrics.enabled=true"), (true, 0));
}
