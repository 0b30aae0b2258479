//! What the stages of a run worked with and found: the content of `run.summary`, and of `facts` in
//! `run.json`.
//!
//! A stage writes its own section; others read it by type. Rows outlive releases: a key that is not
//! known here is left alone, and one that is missing takes its default.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::StageName;
use crate::domain::enhancement::{Answerer, Rejected};

/// The sections of a run's facts, or the part of them that somebody adds.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RunFacts {
    /// Facts about the scraper: what it visits.
    // A section that is left out is not part of the patch, so that merging it overwrites no
    // other's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scrape: Option<ScrapeFacts>,
    /// Facts about the extractor: what it works with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extract: Option<ExtractFacts>,
    /// Facts about the enhancer: what it works with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enhance: Option<EnhanceFacts>,
    /// Facts about the embedder: what it works with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embed: Option<EmbedFacts>,
    /// Findings of the analyzer.
    #[serde(rename = "analysis", skip_serializing_if = "Option::is_none")]
    pub analyze: Option<AnalyzeFacts>,
    /// Facts about the reporter: what it wrote.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report: Option<ReportFacts>,
    /// Counts of what is stored at the run's end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub totals: Option<Totals>,
}

impl RunFacts {
    /// The facts in a row of `run`.
    ///
    /// # Errors
    /// If a known key holds something of another type.
    pub(crate) fn read(summary: &Value) -> serde_json::Result<Self> {
        Self::deserialize(summary)
    }

    /// The facts as a patch of a run's summary.
    pub(crate) fn patch(&self) -> Value {
        // Structs with text keys: serialising them cannot fail.
        serde_json::to_value(self).unwrap_or_default()
    }
}

/// Facts about the scraper: what it visits.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ScrapeFacts {
    /// Names of the portals that it knows.
    pub portals: Vec<String>,
    /// Address that stands for the portals' own.
    pub base_url: Option<String>,
}

/// Facts about the visits of a portal in a country.
///
/// They are no section of [`RunFacts`]: sections are replaced whole, and the visits of a run end
/// one by one, in several processes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct VisitFacts<'a> {
    /// Advertisements whose text was new.
    pub new: i64,
    /// Advertisements whose text was stored already.
    pub folded: i64,
    /// Report of the scraper about the last one, for people alone.
    pub crawl: &'a Value,
}

impl VisitFacts<'_> {
    /// The facts as a patch of a run's summary, under a key of their own.
    pub(crate) fn patch(&self, portal: &str, country: &str) -> Value {
        let key = format!("{} {portal}/{country}", StageName::Scrape);
        Value::from_iter([(key, serde_json::to_value(self).unwrap_or_default())])
    }
}

/// Facts about the extractor: what it works with.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ExtractFacts {
    /// Its version.
    pub version: Option<String>,
    /// Digest of the lexicon.
    pub lexicon: Option<String>,
    /// Entries of the lexicon.
    pub lexicon_entries: usize,
    /// NAME@VERSION of the active taxonomy.
    pub taxonomy: Option<String>,
    /// Served token classifiers that every batch asks.
    pub taggers: Vec<Tagger>,
}

/// A served model that marks skills.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tagger {
    /// Name in the model store.
    pub name: String,
    /// Digest of its files.
    pub revision: String,
}

/// Facts about the enhancer: what it works with.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct EnhanceFacts {
    /// Its version.
    pub version: Option<String>,
    /// The language models in the order in which they are asked, or `rules`.
    pub made_by: Option<String>,
    /// Postings of the run by who answered for them; counted at its end.
    pub answered_by: BTreeMap<Answerer, u64>,
    /// What was not taken for these postings, by reason.
    pub rejected: Rejected,
}

/// Facts about the embedder: what it works with.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct EmbedFacts {
    /// Name of the model.
    pub model: Option<String>,
    /// Digest of its files.
    pub revision: Option<String>,
    /// Length of a vector.
    pub dimensions: Option<u32>,
    /// Languages it was trained on (BCP 47); empty if its card does not say.
    pub languages: Vec<String>,
}

/// Findings of the analyzer: the published output of an analysis.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AnalyzeFacts {
    /// Clusters.
    pub n_clusters: u64,
    /// Skills without a cluster.
    pub n_noise: u64,
    /// Skills.
    pub n_skills: u64,
    /// The clusters, largest first.
    pub clusters: Vec<ClusterFacts>,
    /// Their separation.
    pub quality_metrics: QualityMetrics,
}

/// A cluster of an analysis.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ClusterFacts {
    /// From 0, largest first.
    pub cluster_id: i32,
    /// Name for people.
    pub label: String,
    /// Members.
    pub size: i32,
    /// Members most asked for, first the most.
    pub top_skills: Vec<String>,
    /// Mean cosine of the members to their centroid.
    pub cohesion_score: f64,
}

/// Separation of the clusters; nothing where there are too few to compare.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct QualityMetrics {
    /// Mean silhouette, -1 to 1.
    pub silhouette_score: Option<f64>,
    /// Davies-Bouldin index; smaller is better.
    pub davies_bouldin_index: Option<f64>,
}

/// Facts about the reporter: what it wrote.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ReportFacts {
    /// Directory of the files.
    pub directory: String,
    /// Names of the files.
    pub artefacts: Vec<String>,
}

/// Counts of what is stored at the end of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Totals {
    /// Distinct postings.
    pub postings: i64,
    /// Distinct skills.
    pub skills: i64,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn facts_of_other_releases_are_read() {
        let read = |summary: Value| RunFacts::read(&summary).unwrap();
        assert_eq!(read(json!({})), RunFacts::default());
        let older = json!({ "extract": { "version": "1", "gone": [1] }, "scrape p/CO": { "new": 3 },
            "analysis": { "n_clusters": 2, "quality_metrics": { "silhouette_score": null } } });
        let facts = read(older);
        let extract = facts.extract.unwrap();
        assert_eq!((extract.version.as_deref(), extract.taggers.len()), (Some("1"), 0));
        assert_eq!(facts.analyze.map(|found| (found.n_clusters, found.clusters.len())), Some((2, 0)));
    }

    #[test]
    fn a_part_changes_its_own_section_alone() {
        let part = RunFacts { scrape: Some(ScrapeFacts::default()), ..RunFacts::default() };
        assert_eq!(part.patch(), json!({ "scrape": { "portals": [], "base_url": null } }));
        assert_eq!(RunFacts::default().patch(), json!({}));
    }

    #[test]
    fn a_visit_has_a_key_next_to_the_sections() {
        let visit = VisitFacts { new: 3, folded: 1, crawl: &json!({ "pages": 2 }) };
        let patch = visit.patch("portal", "CO");
        let stored = json!({ "scrape portal/CO": { "new": 3, "folded": 1, "crawl": { "pages": 2 } } });
        assert_eq!(patch, stored);
        assert_eq!(RunFacts::read(&patch).unwrap(), RunFacts::default());
    }
}
