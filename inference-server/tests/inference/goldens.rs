//! Equality with transformers: see `tests/goldens/make_goldens.py` for how the numbers were made.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

use observatory_inference::testing::device::OpenDevice;
use observatory_inference::testing::models::{Extras, Model};
use observatory_inference::testing::registry::LoadedModel;
use observatory_inference::testing::registry::load;
use observatory_inference::testing::text::Truncation;
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::json;

use crate::support::{Running, device, goldens, rows, store};
use observatory_proto::inference::v1 as pb;

const TOLERANCE: f32 = 1e-5;

#[derive(Deserialize)]
pub(crate) struct Case {
    pub(crate) model: String,
    pub(crate) pooling: String,
    truncation: String,
    prompt_name: String,
    texts: Vec<String>,
    tokens: Vec<usize>,
    raw: Option<Vec<Vec<f32>>>,
    pub(crate) unit: Vec<Vec<f32>>,
}

pub(crate) fn cases() -> Vec<Case> {
    serde_json::from_str(&fs::read_to_string(goldens().join("embeddings.json")).unwrap()).unwrap()
}

/// The fixture with another pooling written into its package.
fn model(name: &str, pooling: &str) -> LoadedModel {
    model_on(&device(), name, pooling)
}

pub(crate) fn model_on(device: &OpenDevice, name: &str, pooling: &str) -> LoadedModel {
    let store = store(&[name]);
    let config = json!({
        "word_embedding_dimension": 32, "pooling_mode_cls_token": pooling == "cls", "pooling_mode_mean_tokens": pooling == "mean"
    });
    fs::write(store.path().join(name).join("1_Pooling/config.json"), config.to_string()).unwrap();
    load(store.path(), name, device).unwrap()
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max)
}

pub(crate) fn encode(model: &LoadedModel, case: &Case) -> Vec<Vec<u32>> {
    let prompt = model.info.prompts.get(&case.prompt_name).map_or("", String::as_str);
    let side = if case.truncation == "left" { Truncation::Left } else { Truncation::Right };
    case.texts.iter().map(|text| model.tokenizer.encode("texts", prompt, text, side).unwrap().ids).collect()
}

pub(crate) fn run(model: &LoadedModel, rows: &[&[u32]]) -> Vec<Vec<f32>> {
    let outputs = model.network.run(rows, Extras::default()).unwrap();
    outputs.into_iter().map(|output| output.values).collect()
}

pub(crate) fn unit(vector: &[f32]) -> Vec<f32> {
    let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    vector.iter().map(|x| x / norm).collect()
}

#[test]
fn pooled_vectors_equal_transformers() {
    let mut models: HashMap<(String, String), LoadedModel> = HashMap::new();
    for case in cases() {
        let key = (case.model.clone(), case.pooling.clone());
        let model = models.entry(key).or_insert_with(|| model(&case.model, &case.pooling));
        let ids = encode(model, &case);
        let lengths: Vec<usize> = ids.iter().map(Vec::len).collect();
        let place = format!("{} {} {} {:?}", case.model, case.pooling, case.truncation, case.prompt_name);
        assert_eq!(lengths, case.tokens, "{place}");
        let vectors = run(model, &ids.iter().map(Vec::as_slice).collect::<Vec<_>>());
        for (index, vector) in vectors.iter().enumerate() {
            let difference = largest_difference(&unit(vector), &case.unit[index]);
            assert!(difference <= TOLERANCE, "{place}, text {index}: {difference}");
            let raw = case.raw.as_ref().map_or(0.0, |raw| largest_difference(vector, &raw[index]));
            assert!(raw <= TOLERANCE, "{place}, text {index}, not normalised: {raw}");
        }
    }
}

#[tokio::test]
async fn the_wire_carries_the_same_vectors() {
    let running = Running::with_fixtures(&["golden/bert", "golden/tiny-e5"], &[]).await;
    for case in cases().into_iter().filter(|case| case.pooling == "mean") {
        let side = if case.truncation == "left" { pb::Truncation::Left } else { pb::Truncation::Right };
        let settings = pb::EmbedSettings {
            model: Some(pb::ModelRef { name: case.model.clone(), revision: String::new() }),
            prompt_name: case.prompt_name.clone(),
            truncation: side.into(),
            ..Default::default()
        };
        let request = pb::EmbedRequest { settings: Some(settings), texts: case.texts.clone() };
        let answer = running.embedding().embed(request).await.unwrap().into_inner();
        assert_eq!(answer.dimensions, 32);
        assert_eq!(answer.model_name, case.model);
        let tokens: Vec<usize> = answer.items.iter().map(|item| item.tokens as usize).collect();
        assert_eq!(tokens, case.tokens);
        assert!(answer.items[7].truncated && !answer.items[0].truncated);
        for (got, expected) in rows(&answer).iter().zip(&case.unit) {
            assert!(largest_difference(got, expected) <= TOLERANCE);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// A row's vector does not depend on the other rows of its batch.
    #[test]
    fn company_does_not_matter(rows in prop::collection::vec(prop::collection::vec(5u32..150, 1..33), 1..12)) {
        for name in ["golden/bert", "golden/tiny-e5"] {
            let model = shared(name);
            let together: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
            let vectors = run(model, &together);
            for (row, vector) in rows.iter().zip(&vectors) {
                let alone = run(model, &[row]);
                let difference = largest_difference(&unit(&alone[0]), &unit(vector));
                prop_assert!(difference <= 1e-6, "{name}: {difference}");
            }
        }
    }
}

fn shared(name: &str) -> &'static LoadedModel {
    use std::sync::OnceLock;
    static BERT: OnceLock<LoadedModel> = OnceLock::new();
    static E5: OnceLock<LoadedModel> = OnceLock::new();
    let slot = if name == "golden/bert" { &BERT } else { &E5 };
    slot.get_or_init(|| model(name, "mean"))
}

#[derive(Deserialize)]
pub(crate) struct EntityCase {
    #[serde(default)]
    pub(crate) model: String,
    pub(crate) aggregation: String,
    pub(crate) text: String,
    entities: Vec<ExpectedEntity>,
}

impl EntityCase {
    /// Compares an answer with that of transformers.
    pub(crate) fn check(&self, found: &[pb::Entity]) {
        let place = format!("{} {} {:?}", self.model, self.aggregation, self.text);
        assert_eq!(found.len(), self.entities.len(), "{place}");
        let chars: Vec<char> = self.text.chars().collect();
        for (got, expected) in found.iter().zip(&self.entities) {
            let span = (got.label.as_str(), got.start, got.end);
            assert_eq!(span, (expected.label.as_str(), expected.start, expected.end), "{place}");
            assert!((got.score - expected.score).abs() <= TOLERANCE, "{place}");
            let text: String = chars[got.start as usize..got.end as usize].iter().collect();
            assert_eq!(got.text, text);
        }
    }
}

#[derive(Deserialize)]
struct ExpectedEntity {
    label: String,
    score: f32,
    start: u32,
    end: u32,
}

const AGGREGATIONS: [&str; 5] = ["none", "simple", "first", "average", "max"];

pub(crate) fn aggregation(name: &str) -> pb::Aggregation {
    pb::Aggregation::from_str_name(&format!("AGGREGATION_{}", name.to_uppercase())).unwrap()
}

#[tokio::test]
async fn entities_equal_transformers() {
    let running = Running::with_fixtures(&["golden/wordpiece-ner", "golden/xlmr-ner"], &[]).await;
    let cases: HashMap<String, Vec<EntityCase>> =
        serde_json::from_str(&fs::read_to_string(goldens().join("entities.json")).unwrap()).unwrap();
    assert_eq!(cases.len(), 2);
    for (name, cases) in cases {
        for case in cases {
            let settings = pb::ClassifySettings {
                model: Some(pb::ModelRef { name: name.clone(), revision: String::new() }),
                aggregation: aggregation(&case.aggregation).into(),
                ..Default::default()
            };
            let request = pb::ClassifyRequest { settings: Some(settings), texts: vec![case.text.clone()] };
            let answer = running.classification().classify(request).await.unwrap().into_inner();
            case.check(&answer.texts[0].entities);
        }
    }
}

/// Entities as [label, start, end, score], by aggregation.
#[derive(Deserialize)]
struct FuzzedText {
    text: String,
    #[serde(flatten)]
    answers: HashMap<String, Vec<(String, u32, u32, f32)>>,
}

/// OBSERVATORY_ENTITY_GOLDENS names further files of make_entity_goldens.py.
#[tokio::test]
async fn entities_equal_transformers_on_fuzzed_text() {
    let running = Running::with_fixtures(&["golden/wordpiece-ner", "golden/xlmr-ner"], &[]).await;
    let more = std::env::var_os("OBSERVATORY_ENTITY_GOLDENS").map(PathBuf::from);
    for path in [goldens().join("entities-fuzzed.json")].into_iter().chain(more) {
        let cases: HashMap<String, Vec<FuzzedText>> =
            serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        assert_eq!(cases.len(), 2);
        for (name, cases) in cases {
            for (batch, how) in cases.chunks(100).flat_map(|batch| AGGREGATIONS.map(|how| (batch, how))) {
                let settings = pb::ClassifySettings {
                    model: Some(pb::ModelRef { name: name.clone(), revision: String::new() }),
                    aggregation: aggregation(how).into(),
                    ..Default::default()
                };
                let texts = batch.iter().map(|case| case.text.clone()).collect();
                let request = pb::ClassifyRequest { settings: Some(settings), texts };
                let answer = running.classification().classify(request).await.unwrap().into_inner();
                for (case, found) in batch.iter().zip(&answer.texts) {
                    let place = format!("{name} {how} {:?}", case.text);
                    let spans: Vec<_> =
                        found.entities.iter().map(|e| (e.label.as_str(), e.start, e.end)).collect();
                    let expected: Vec<_> =
                        case.answers[how].iter().map(|e| (e.0.as_str(), e.1, e.2)).collect();
                    assert_eq!(spans, expected, "{place}");
                    let scores = found.entities.iter().zip(&case.answers[how]);
                    assert!(scores.into_iter().all(|(e, x)| (e.score - x.3).abs() <= TOLERANCE), "{place}");
                }
            }
        }
    }
}

#[tokio::test]
async fn classification_settings_and_faults() {
    let running = Running::with_fixtures(&["golden/bert", "golden/xlmr-ner"], &[]).await;
    let long = "programación en Python y soldadura ".repeat(12);
    let ask = async |settings: pb::ClassifySettings, texts: &[&str]| {
        let texts = texts.iter().map(|text| (*text).to_owned()).collect();
        running.classification().classify(pb::ClassifyRequest { settings: Some(settings), texts }).await
    };
    let settings = pb::ClassifySettings::default;
    let answer = ask(settings(), &[&long, " ", "Python"]).await.unwrap().into_inner();
    assert_eq!(answer.model_name, "golden/xlmr-ner");
    assert!(answer.texts[0].windows > 2 && answer.texts[2].windows == 1);
    let ends: Vec<u32> = answer.texts[0].entities.iter().map(|entity| entity.end).collect();
    assert!(ends.is_sorted() && ends.last().is_some_and(|end| *end as usize > long.chars().count() - 40));
    let refused = answer.texts[1].status.as_ref().unwrap();
    assert_eq!(refused.error.as_ref().unwrap().reason, "EMPTY_INPUT");

    let high =
        ask(pb::ClassifySettings { min_score: 0.6, ..settings() }, &[&long]).await.unwrap().into_inner();
    assert!(high.texts[0].entities.iter().all(|entity| entity.score >= 0.6));
    assert!(high.texts[0].entities.len() < answer.texts[0].entities.len());

    let fails = async |settings: pb::ClassifySettings, code: tonic::Code, part: &str| {
        let status = ask(settings, &["Python"]).await.unwrap_err();
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().contains(part), "{status}");
    };
    let invalid = tonic::Code::InvalidArgument;
    fails(pb::ClassifySettings { min_score: 2.0, ..settings() }, invalid, "invalid settings.min_score `2`")
        .await;
    fails(pb::ClassifySettings { aggregation: 9, ..settings() }, invalid, "invalid settings.aggregation `9`")
        .await;
    let overlap = pb::ClassifySettings { overlap_tokens: Some(500), ..settings() };
    fails(overlap, invalid, "invalid settings.overlap_tokens `500`: expected 0 to").await;
    let model = Some(pb::ModelRef { name: "golden/bert".to_owned(), revision: String::new() });
    let wrong = pb::ClassifySettings { model, ..settings() };
    fails(wrong, tonic::Code::FailedPrecondition, "model golden/bert does not support token classification")
        .await;
}
