//! `eval linking` and `eval occupations` on single texts: where the right concept stands in the
//! ranking that `link` gives.
//!
//! The measures are those of the published evaluations: mean reciprocal rank, R-precision at k of
//! skills (Decorte et al. 2023), success at k of occupations (Retyk et al. 2024, trec_eval).

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::Hash;

use observatory_proto::pipeline::v1::{
    LinkRequest, LinkedConcept, LinkedText, taxonomy_service_client::TaxonomyServiceClient,
};

use super::gold::{Query, Text, Titles, clean_uri, name_key};
use super::report::{Difference, Fault, Report};
use crate::client::Connection;
use crate::commands::link;
use crate::output::Progress;

/// Ranks that are looked at, as in the published evaluations.
const DEPTH: usize = 100;
/// Labels that are asked for, so that a hundred of them are in the corpus. Not tuned: the service's
/// taxonomy has about twice as many labels of occupations.
const LABELS: u32 = 2 * DEPTH as u32;
/// Places at which hits are counted.
const PLACES: [usize; 3] = [1, 5, 10];

/// Compares the rankings of sentences with the skills they name. A label that is the preferred
/// label of no concept of the taxonomy is left out, and so is a sentence without any other.
///
/// # Errors
/// If the service refuses or stops answering.
pub(super) async fn skills(
    pipeline: Connection,
    texts: &[Text],
    taxonomy: &str,
    rounds: u32,
) -> anyhow::Result<Report> {
    let mut service = link::service(pipeline);
    let request = LinkRequest {
        kind: "skill".to_owned(),
        top: DEPTH as u32,
        taxonomy: taxonomy.to_owned(),
        // The gold names concepts by their English labels.
        language: "en".to_owned(),
        ..LinkRequest::default()
    };
    let labels: BTreeSet<&str> = texts.iter().flat_map(|text| &text.labels).map(String::as_str).collect();
    let concepts = named(&mut service, &request, labels).await?;
    let judged: Vec<(usize, &Text, HashSet<&str>)> = texts
        .iter()
        .enumerate()
        .map(|(index, text)| (index, text, relevant(text, &concepts)))
        .filter(|(.., relevant)| !relevant.is_empty())
        .collect();
    let asked = judged.iter().map(|(_, text, _)| text.text.as_str()).collect();
    let rankings = rank(&mut service, &request, asked).await?;

    let mut report = Report::default();
    report.count("sentences", texts.len());
    report.count("without_valid_label", texts.len() - judged.len());
    report.count("queries", judged.len());
    let mut scores = Vec::new();
    for ((index, text, relevant), ranking) in judged.iter().zip(&rankings) {
        let order = distinct(ranking.concepts.iter().map(|found| Some(clean_uri(&found.uri))));
        let is_right: Vec<bool> =
            order.iter().map(|uri| uri.as_deref().is_some_and(|uri| relevant.contains(uri))).collect();
        scores.push(Scores::of_precision(&is_right, relevant.len()));
        if is_right.first() != Some(&true) {
            report.differences.extend(differences(
                &index.to_string(),
                ("skill", &text.text),
                &ranking.concepts,
            ));
        }
    }
    figures(&mut report, "", "rp", &scores, rounds);
    Ok(report)
}

/// URIs of the concepts that labels are the English preferred labels of, by label.
async fn named(
    service: &mut TaxonomyServiceClient<Connection>,
    request: &LinkRequest,
    labels: BTreeSet<&str>,
) -> anyhow::Result<HashMap<String, String>> {
    let labels: Vec<&str> = labels.into_iter().filter(|label| !label.is_empty()).collect();
    let found = rank(service, request, labels.clone()).await?;
    let mut concepts = HashMap::new();
    for (label, linked) in labels.into_iter().zip(found) {
        let same = linked.concepts.into_iter().find(|found| name_key(&found.label) == name_key(label));
        concepts.extend(same.map(|found| (label.to_owned(), clean_uri(&found.uri))));
    }
    Ok(concepts)
}

fn relevant<'a>(text: &Text, concepts: &'a HashMap<String, String>) -> HashSet<&'a str> {
    text.labels.iter().filter_map(|label| concepts.get(label)).map(String::as_str).collect()
}

/// Compares the rankings of job titles with the annotated names of occupations.
///
/// `surface` is the published measure: every name of the corpus has a rank of its own, and all
/// names of the right concept are right. `concept` is the same after folding the names to concepts.
/// `_esco` leaves out titles for which only a group of ISCO is right.
///
/// # Errors
/// If the service refuses or stops answering.
pub(super) async fn occupations(
    pipeline: Connection,
    titles: &Titles,
    taxonomy: &str,
    rounds: u32,
) -> anyhow::Result<Report> {
    let mut service = link::service(pipeline);
    let request = LinkRequest {
        kind: "occupation".to_owned(),
        top: LABELS,
        surface: true,
        taxonomy: taxonomy.to_owned(),
        ..LinkRequest::default()
    };
    let asked = titles.queries.iter().map(|query| query.text.as_str()).collect();
    let rankings = rank(&mut service, &request, asked).await?;
    let mut report = Report::default();
    report.count("queries", titles.queries.len());
    let (mut surface, mut concept, mut is_esco) = (Vec::new(), Vec::new(), Vec::new());
    for (query, ranking) in titles.queries.iter().zip(&rankings) {
        let judged = judge(titles, query, &ranking.concepts);
        if judged.concept.first() != Some(&true) {
            let text = ("occupation", query.text.as_str());
            report.differences.extend(differences(&query.id, text, &ranking.concepts));
        }
        surface.push(Scores::of_success(&judged.surface));
        concept.push(Scores::of_success(&judged.concept));
        is_esco.push(judged.is_esco);
    }
    let esco = |scores: &[Scores]| -> Vec<Scores> {
        scores.iter().zip(&is_esco).filter(|(_, is_esco)| **is_esco).map(|(scores, _)| *scores).collect()
    };
    for (name, scores) in [("surface", &surface), ("concept", &concept)] {
        figures(&mut report, &format!("{name}."), "success", scores, rounds);
        figures(&mut report, &format!("{name}_esco."), "success", &esco(scores), rounds);
    }
    Ok(report)
}

/// Which ranks of a title are right.
struct Judged {
    surface: Vec<bool>,
    concept: Vec<bool>,
    /// True if an occupation of ESCO is right, and not only a group of ISCO.
    is_esco: bool,
}

fn judge(titles: &Titles, query: &Query, ranking: &[LinkedConcept]) -> Judged {
    let elements = ranking.iter().map(|found| titles.element(&found.label, &found.uri));
    let elements = distinct(elements);
    let right: HashSet<&str> =
        query.relevant.iter().map(|element| titles.concepts[*element].as_str()).collect();
    let is_right = |element: &Option<usize>| element.is_some_and(|element| query.relevant.contains(&element));
    let concepts = elements.iter().map(|element| element.map(|element| titles.concepts[element].as_str()));
    Judged {
        surface: elements.iter().take(DEPTH).map(is_right).collect(),
        concept: distinct(concepts)
            .iter()
            .take(DEPTH)
            .map(|uri| uri.is_some_and(|uri| right.contains(uri)))
            .collect(),
        is_esco: right.iter().any(|uri| uri.contains("/occupation/")),
    }
}

/// The first of equal keys; what is in no corpus keeps its rank.
fn distinct<K: Hash + Eq + Clone>(keys: impl Iterator<Item = Option<K>>) -> Vec<Option<K>> {
    let mut seen = HashSet::new();
    keys.filter(|key| key.as_ref().is_none_or(|key| seen.insert(key.clone()))).collect()
}

/// The answers to texts, in their order.
async fn rank(
    service: &mut TaxonomyServiceClient<Connection>,
    request: &LinkRequest,
    texts: Vec<&str>,
) -> anyhow::Result<Vec<LinkedText>> {
    let mut live = Progress::new("texts linked", texts.len() as u64);
    let mut found = Vec::with_capacity(texts.len());
    for part in texts.chunks(link::texts_of_a_call(request.top)) {
        let texts = part.iter().map(|text| (*text).to_owned()).collect();
        let linked = link::ask(service, request, texts).await?;
        if found.is_empty() {
            link::tell(&linked);
        }
        found.extend(linked.texts);
        live.advance(part.len() as u64);
    }
    Ok(found)
}

/// The figures of one ranking.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Scores {
    /// 1 / the first right rank, else 0.
    reciprocal_rank: f64,
    /// At each of [`PLACES`].
    at: [f64; PLACES.len()],
}

impl Scores {
    /// With R-precision: right ones among the first k, as a share of k or of all that are right,
    /// whichever is less.
    fn of_precision(is_right: &[bool], all: usize) -> Self {
        let at = PLACES.map(|k| {
            let hits = is_right.iter().take(k).filter(|right| **right).count();
            hits as f64 / k.min(all) as f64
        });
        Self { at, ..Self::of_success(is_right) }
    }

    /// With success: whether one of the first k is right.
    fn of_success(is_right: &[bool]) -> Self {
        let first = is_right.iter().position(|right| *right);
        Self {
            reciprocal_rank: first.map_or(0.0, |rank| 1.0 / (rank + 1) as f64),
            at: PLACES.map(|k| f64::from(u8::from(first.is_some_and(|rank| rank < k)))),
        }
    }
}

fn figures(report: &mut Report, prefix: &str, at: &str, scores: &[Scores], rounds: u32) {
    let ranks: Vec<f64> = scores.iter().map(|scores| scores.reciprocal_rank).collect();
    report.mean(&format!("{prefix}mrr"), &ranks, rounds);
    for (place, k) in PLACES.iter().enumerate() {
        let values: Vec<f64> = scores.iter().map(|scores| scores.at[place]).collect();
        report.mean(&format!("{prefix}{at}@{k}"), &values, rounds);
    }
}

/// The text that was not linked right, and what it was linked to.
fn differences(id: &str, (kind, text): (&str, &str), ranking: &[LinkedConcept]) -> Vec<Difference> {
    let row = |fault, text: &str| Difference {
        fault,
        id: id.to_owned(),
        kind: kind.to_owned(),
        place: String::new(),
        text: text.to_owned(),
    };
    let wrong = ranking.first().map(|found| row(Fault::Wrong, &found.label));
    [row(Fault::Missed, text)].into_iter().chain(wrong).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_those_of_the_published_measures() {
        // The second and the fourth are right, of three in all.
        let is_right = [false, true, false, true];
        let precision = Scores::of_precision(&is_right, 3);
        assert_eq!(precision, Scores { reciprocal_rank: 0.5, at: [0.0, 2.0 / 3.0, 2.0 / 3.0] });
        assert_eq!(Scores::of_precision(&[true, true], 7).at[0], 1.0);
        assert_eq!(Scores::of_success(&is_right), Scores { reciprocal_rank: 0.5, at: [0.0, 1.0, 1.0] });
        assert_eq!(Scores::of_success(&[]), Scores { reciprocal_rank: 0.0, at: [0.0; 3] });
    }

    #[test]
    fn names_outside_the_corpus_take_a_rank_and_repeats_take_none() {
        let keys = [None, Some("a"), None, Some("a"), Some("b")];
        assert_eq!(distinct(keys.into_iter()), [None, Some("a"), None, Some("b")]);
    }
}
