//! Precision and recall of the extraction on the demo's advertisements, whose skills are marked.
//!
//! Only advertisements of the test split count, each once.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, ensure};
use observatory_proto::pipeline::v1::{ExtractRequest, extractor_service_client::ExtractorServiceClient};
use serde::Deserialize;
use serde_json::json;

use crate::client::{Connection, MAX_MESSAGE_BYTES, refusal};
use crate::commands::overlap::{Span, pairs};

/// An advertisement as described by the simulator, as far as needed here.
#[derive(Deserialize)]
struct Served {
    title: String,
    description: String,
    marks: Option<Marks>,
}

#[derive(Deserialize)]
struct Marks {
    id: String,
    test: bool,
    spans: Vec<Span>,
}

#[derive(Deserialize)]
struct Answer {
    spans: Vec<Span>,
}

/// Counts over the advertisements of the test split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Score {
    /// Advertisements of the test split that the portals served.
    pub(super) ads: usize,
    marked: usize,
    found: usize,
    right: usize,
}

impl Score {
    fn add(&mut self, marks: &[Span], found: &[Span]) {
        self.ads += 1;
        self.marked += marks.len();
        self.found += found.len();
        self.right += pairs(marks, found).len();
    }

    /// Share of extracted spans that match a mark.
    pub(super) fn precision(self) -> f64 {
        ratio(self.right, self.found)
    }

    /// Share of marks that were extracted.
    pub(super) fn recall(self) -> f64 {
        ratio(self.right, self.marked)
    }
}

fn ratio(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// Extracts skills from the served advertisements of the test split, each once, and compares them
/// with the marks.
///
/// # Errors
/// If the simulator's file cannot be read or the service does not answer.
pub(super) async fn score(truth: &Path, pipeline: Connection) -> anyhow::Result<Score> {
    let text = std::fs::read_to_string(truth).with_context(|| format!("cannot read {}", truth.display()))?;
    let mut ads: BTreeMap<String, Served> = BTreeMap::new();
    for line in text.lines() {
        let ad: Served = serde_json::from_str(line).context("the simulator's truth is not readable")?;
        if let Some(marks) = ad.marks.as_ref().filter(|marks| marks.test) {
            ads.entry(marks.id.clone()).or_insert(ad);
        }
    }
    let requests: Vec<ExtractRequest> = ads.iter().map(|(id, ad)| request(id, ad)).collect();
    let mut extractor = ExtractorServiceClient::new(pipeline).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let asked = extractor.extract(tokio_stream::iter(requests)).await;
    let mut answers = asked.map_err(|status| refusal(&status))?.into_inner();
    let mut score = Score::default();
    // Answers come in order; a stream that ends early yields an empty one, which is not JSON.
    for (id, ad) in &ads {
        let answer = answers.message().await.map_err(|status| refusal(&status))?.unwrap_or_default();
        ensure!(answer.error.is_empty(), "advertisement {id}: {}", answer.error);
        let answer: Answer = serde_json::from_str(&answer.result_json)?;
        score.add(ad.marks.as_ref().map_or(&[][..], |marks| &marks.spans), &answer.spans);
    }
    Ok(score)
}

fn request(id: &str, ad: &Served) -> ExtractRequest {
    let document = json!({ "id": id, "title": ad.title, "description": ad.description });
    ExtractRequest { document_json: document.to_string(), spans: true }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(spans: &[(u32, u32)]) -> Vec<Span> {
        spans.iter().map(|(start, end)| Span { start: *start, end: *end }).collect()
    }

    #[test]
    fn the_score_is_over_all_advertisements() {
        let mut score = Score::default();
        score.add(&spans(&[(0, 10), (20, 30), (40, 50)]), &spans(&[(0, 10), (60, 70)]));
        score.add(&spans(&[]), &spans(&[(0, 10), (20, 30)]));
        assert_eq!((score.ads, score.precision(), score.recall()), (2, 0.25, 1.0 / 3.0));
        assert_eq!(Score::default().precision(), 0.0);
    }
}
