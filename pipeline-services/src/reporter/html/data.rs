//! What the page's script needs, as JSON inside a script element.
//!
//! Short keys and rounded coordinates keep the page small; no `<` survives, so that no label can
//! end the element.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::reporter::comparison::compared;
use crate::reporter::document::{ClusterSection, ReportDocument, SkillRow};
use crate::reporter::words::Words;

/// Words that the page's script shows.
const WORDS: [&str; 10] = [
    "number.thousands",
    "number.decimal",
    "number.percent",
    "none",
    "clusters.noise",
    "job_count",
    "share",
    "n",
    "html.matches",
    "html.no_matches",
];

#[derive(Serialize)]
struct PageData<'a> {
    words: BTreeMap<&'a str, &'a str>,
    postings: u64,
    countries: BTreeMap<&'a str, u64>,
    skills: Vec<Skill<'a>>,
    clusters: Vec<Cluster<'a>>,
    noise: u64,
    /// Horizontal and vertical place (0 to 1), rank of the cluster or -1, postings, label.
    points: Vec<(f64, f64, i64, u64, &'a str)>,
}

#[derive(Serialize)]
struct Skill<'a> {
    label: &'a str,
    category: String,
    jobs: u64,
    implicit: u64,
    countries: BTreeMap<&'a str, u64>,
}

#[derive(Serialize)]
struct Cluster<'a> {
    label: &'a str,
    size: u64,
}

/// JSON that may stand inside `<script>`: no `<` in it can end the element or open a comment.
pub(super) fn json(document: &ReportDocument, words: Words) -> Result<String, serde_json::Error> {
    let section = document.clusters.as_ref();
    let text = serde_json::to_string(&PageData {
        words: WORDS.iter().map(|key| (*key, words.get(key))).collect(),
        postings: document.scope.postings,
        countries: compared(&document.scope).into_iter().map(|c| (c.code.as_str(), c.postings)).collect(),
        skills: document.skills.iter().map(|s| skill(document, s, words)).collect(),
        clusters: section.map(clusters).unwrap_or_default(),
        noise: section.map_or(0, |s| s.metrics.noise),
        points: section.map(points).unwrap_or_default(),
    })?;
    // U+2028 and U+2029 end a line in older JavaScript, though not in JSON.
    Ok(text.replace('<', "\\u003c").replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029"))
}

fn skill<'a>(document: &ReportDocument, row: &'a SkillRow, words: Words) -> Skill<'a> {
    let compared = compared(&document.scope);
    let counts = row.countries.iter().filter(|c| compared.iter().any(|country| country.code == c.country));
    Skill {
        label: &row.label,
        category: words.value("category", &row.category),
        jobs: row.job_count,
        implicit: row.implicit_count,
        countries: counts.map(|c| (c.country.as_str(), c.job_count)).collect(),
    }
}

fn clusters(section: &ClusterSection) -> Vec<Cluster<'_>> {
    section.clusters.iter().map(|c| Cluster { label: &c.label, size: c.size }).collect()
}

fn points(section: &ClusterSection) -> Vec<(f64, f64, i64, u64, &str)> {
    let ranks: BTreeMap<i32, i64> = section.clusters.iter().map(|c| c.cluster_id).zip(0..).collect();
    let across = unit_scale(section.points.iter().map(|p| p.x));
    let up = unit_scale(section.points.iter().map(|p| p.y));
    let points = section.points.iter().map(|p| {
        let rank = p.cluster.and_then(|id| ranks.get(&id).copied()).unwrap_or(-1);
        (across(p.x), up(p.y), rank, p.job_count, p.label.as_str())
    });
    points.collect()
}

/// Maps the range of `values` to 0..=1 in steps of a ten-thousandth, finer than a screen.
fn unit_scale(values: impl Iterator<Item = f64> + Clone) -> impl Fn(f64) -> f64 {
    let low = values.clone().fold(f64::INFINITY, f64::min);
    let span = values.fold(f64::NEG_INFINITY, f64::max) - low;
    move |value| match span > 0.0 {
        true => ((value - low) / span * 10_000.0).round() / 10_000.0,
        false => 0.5,
    }
}
