//! Equality with transformers: see `tests/goldens/make_goldens.py` for how the numbers were made.

use std::collections::HashMap;
use std::fs;

use observatory_inference::device::{DeviceChoice, open};
use observatory_inference::model::LoadedModel;
use observatory_inference::model::load::load;
use observatory_inference::tokenizer::Truncation;
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::json;

use crate::support::{Running, goldens, rows, store};
use observatory_proto::inference::v1 as pb;

const TOLERANCE: f32 = 1e-5;

#[derive(Deserialize)]
struct Case {
    model: String,
    pooling: String,
    truncation: String,
    prompt_name: String,
    texts: Vec<String>,
    tokens: Vec<usize>,
    raw: Option<Vec<Vec<f32>>>,
    unit: Vec<Vec<f32>>,
}

fn cases() -> Vec<Case> {
    serde_json::from_str(&fs::read_to_string(goldens().join("embeddings.json")).unwrap()).unwrap()
}

/// The fixture with another pooling written into its package.
fn model(name: &str, pooling: &str) -> LoadedModel {
    let store = store(&[name]);
    let config = json!({
        "word_embedding_dimension": 32, "pooling_mode_cls_token": pooling == "cls", "pooling_mode_mean_tokens": pooling == "mean"
    });
    fs::write(store.path().join(name).join("1_Pooling/config.json"), config.to_string()).unwrap();
    load(store.path(), name, &open(DeviceChoice::Cpu).unwrap()).unwrap()
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max)
}

fn encode(model: &LoadedModel, case: &Case) -> Vec<Vec<u32>> {
    let prompt = model.info.prompts.get(&case.prompt_name).map_or("", String::as_str);
    let side = if case.truncation == "left" { Truncation::Left } else { Truncation::Right };
    case.texts.iter().map(|text| model.tokenizer.encode("texts", prompt, text, side).unwrap().ids).collect()
}

fn unit(vector: &[f32]) -> Vec<f32> {
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
        let vectors = model.network.run(&ids.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
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

    /// A row's vector does not depend on the rows beside it.
    #[test]
    fn company_does_not_matter(rows in prop::collection::vec(prop::collection::vec(5u32..150, 1..33), 1..12)) {
        for name in ["golden/bert", "golden/tiny-e5"] {
            let model = shared(name);
            let together: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
            let vectors = model.network.run(&together).unwrap();
            for (row, vector) in rows.iter().zip(&vectors) {
                let alone = model.network.run(&[row]).unwrap();
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
