//! The part of a run's summary (`run.json`) that commands read by type.
//!
//! It mirrors what the pipeline writes. The contract carries the summary as one JSON text, so that
//! a stage can add a fact without a change of the protos; a key that is missing, or that another
//! release writes, is not an error here.

use observatory_proto::pipeline::v1::Run;
use serde::Deserialize;

/// The keys of a run's summary that commands read; the rest is printed as it is. Keys that are
/// missing or of another release do no harm.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RunSummary {
    /// The run's stages.
    pub stages: Vec<StageSummary>,
    /// Inputs and findings of the stages.
    pub facts: RunFacts,
}

impl RunSummary {
    /// Reads the summary of a run.
    pub(crate) fn of(run: &Run) -> Self {
        serde_json::from_str(&run.summary_json).unwrap_or_default()
    }
}

/// A stage in a run's summary.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct StageSummary {
    /// Its name.
    pub stage: String,
    /// Wall time, once it is over.
    pub seconds: Option<f64>,
}

/// Inputs and findings of the stages of a run.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RunFacts {
    /// Of the enhancer.
    pub enhance: EnhanceFacts,
    /// Of the embedder.
    pub embed: EmbedFacts,
    /// Of the analyzer.
    pub analysis: AnalysisFacts,
    /// Of the reporter.
    pub report: ReportFacts,
    /// Totals of the store at the end.
    pub totals: Totals,
}

/// Inputs of the enhancer.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct EnhanceFacts {
    /// The language model, or `rules`.
    pub made_by: Option<String>,
}

/// Inputs of the embedder.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct EmbedFacts {
    /// Name of the model.
    pub model: Option<String>,
    /// Length of a vector.
    pub dimensions: Option<u64>,
}

/// Findings of the analyzer.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct AnalysisFacts {
    /// Clusters.
    pub n_clusters: Option<u64>,
}

/// Output of the reporter.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ReportFacts {
    /// Directory of the files.
    pub directory: Option<String>,
}

/// Totals of the store at the end of a run.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Totals {
    /// Distinct postings.
    pub postings: Option<u64>,
    /// Distinct skills.
    pub skills: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_are_missing_or_unknown_do_no_harm() {
        let of = |text: &str| RunSummary::of(&Run { summary_json: text.to_owned(), ..Run::default() });
        let found =
            of(r#"{"facts": {"report": {"directory": "/r", "artefacts": []}, "scrape": {}}, "new": 1}"#);
        assert_eq!(found.facts.report.directory.as_deref(), Some("/r"));
        assert!(found.stages.is_empty() && found.facts.embed.model.is_none());
        assert!(of("").facts.report.directory.is_none());
    }
}
