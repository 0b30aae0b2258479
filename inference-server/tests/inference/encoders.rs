//! Every architecture of encoders other than BERT, XLM-RoBERTa and ModernBERT: equality with the
//! references of `tests/goldens/make_encoder_goldens.py`, and refusals by name.

use std::fs;
use std::path::Path;

use observatory_inference::testing::models::{Extras, Model, Task};
use observatory_inference::testing::registry::{LoadedModel, load};
use observatory_inference::testing::text::Truncation;
use observatory_proto::inference::v1 as pb;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::goldens::{EntityCase, aggregation};
use crate::store::edit;
use crate::support::{Running, close, copy, device, goldens, reference, store};

#[derive(Deserialize)]
struct Goldens {
    vectors: Vec<VectorCase>,
    entities: Vec<EntityCase>,
    ranking: Vec<RankingCase>,
}

#[derive(Deserialize)]
struct VectorCase {
    model: String,
    texts: Vec<String>,
    tokens: Vec<usize>,
    vectors: Vec<Vec<f32>>,
    is_causal: Option<bool>,
}

#[derive(Deserialize)]
struct RankingCase {
    model: String,
    query: String,
    documents: Vec<String>,
    tokens: Vec<u32>,
    logits: Vec<f32>,
}

/// Each package and the name of its architecture.
const PACKAGES: [(&str, &str); 12] = [
    ("encoders/roberta", "xlm-roberta"),
    ("encoders/camembert", "xlm-roberta"),
    ("encoders/distilbert", "distilbert"),
    ("encoders/mpnet", "mpnet"),
    ("encoders/deberta", "deberta-v2"),
    ("encoders/nomic", "nomic-bert"),
    ("encoders/jina", "jina-bert"),
    ("encoders/gte", "gte"),
    ("encoders/gte-plain", "gte"),
    ("encoders/qwen3", "qwen3"),
    ("encoders/qwen2", "qwen2"),
    ("encoders/mistral", "mistral"),
];

fn cases() -> Goldens {
    serde_json::from_str(&fs::read_to_string(goldens().join("encoders.json")).unwrap()).unwrap()
}

fn loaded(name: &str) -> LoadedModel {
    load(&goldens().join("models"), name, &device()).unwrap()
}

fn unit(values: &[f32]) -> Vec<f32> {
    let norm = values.iter().map(|x| x * x).sum::<f32>().sqrt();
    values.iter().map(|x| x / norm).collect()
}

fn encoded(model: &LoadedModel, texts: &[String]) -> Vec<Vec<u32>> {
    texts
        .iter()
        .map(|text| model.tokenizer.encode("texts", "", text, Truncation::Right).unwrap().ids)
        .collect()
}

fn vectors(model: &LoadedModel, rows: &[Vec<u32>]) -> Vec<Vec<f32>> {
    let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
    let outputs = model.network.run(&rows, Extras::default()).unwrap();
    outputs.iter().map(|output| unit(&output.values)).collect()
}

#[test]
fn vectors_equal_the_references() {
    let cases = cases().vectors;
    assert_eq!(cases.len(), PACKAGES.len() + 1);
    for case in cases {
        let store = store(&[&case.model]);
        if let Some(is_causal) = case.is_causal {
            edit(&store.path().join(&case.model).join("config.json"), |config| {
                config["is_causal"] = json!(is_causal);
            });
        }
        let model = load(store.path(), &case.model, &device()).unwrap();
        let ids = encoded(&model, &case.texts);
        assert_eq!(ids.iter().map(Vec::len).collect::<Vec<_>>(), case.tokens, "{}", case.model);
        for (index, (found, expected)) in vectors(&model, &ids).iter().zip(&case.vectors).enumerate() {
            close(found, expected, &format!("{} {:?}, text {index}", case.model, case.is_causal));
        }
    }
}

#[test]
fn packages_are_described_and_every_weight_is_counted() {
    for (name, architecture) in PACKAGES {
        let info = loaded(name).info;
        assert_eq!((info.architecture, info.task, info.normalize), (architecture, Task::Embedding, true));
        assert_eq!(info.max_input_tokens, 32, "{name}");
        // ALiBi's biases stay in memory: 6 heads, 40 positions.
        let biases = if architecture == "jina-bert" { 4 * 6 * 40 * 40 } else { 0 };
        assert_eq!(info.weight_bytes, 4 * info.parameters + biases, "{name}");
        // The files hold two bytes for each weight, and a head that embedding does not read.
        let file = goldens().join("models").join(name).join("model.safetensors");
        let stored = fs::metadata(file).unwrap().len() / 2;
        assert!((stored - stored / 4..=stored).contains(&info.parameters), "{name}: {}", info.parameters);
    }
}

/// A row's vector does not depend on the other rows of its batch.
#[test]
fn company_does_not_matter() {
    let rows: Vec<Vec<u32>> =
        (0..24).map(|row| (0..1 + row * 7 % 20).map(|at| 5 + (row * 31 + at * 17) % 120).collect()).collect();
    // The ranker has absolute positions as well, which the DeBERTa among the packages has not.
    for name in PACKAGES.map(|(name, _)| name).into_iter().chain(["encoders/deberta-ranker"]) {
        let model = loaded(name);
        for (row, together) in rows.iter().zip(vectors(&model, &rows)) {
            let alone = &vectors(&model, std::slice::from_ref(row))[0];
            let difference = alone.iter().zip(&together).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
            assert!(difference <= 1e-6, "{name}: {difference}");
        }
    }
}

#[tokio::test]
async fn entities_equal_transformers() {
    let running = Running::with_fixtures(&["encoders/deberta-ner", "encoders/distilbert-ner"], &[]).await;
    for case in cases().entities {
        let settings = pb::ClassifySettings {
            model: reference(&case.model),
            aggregation: aggregation(&case.aggregation).into(),
            ..Default::default()
        };
        let request = pb::ClassifyRequest { settings: Some(settings), texts: vec![case.text.clone()] };
        let answer = running.classification().classify(request).await.unwrap().into_inner();
        case.check(&answer.texts[0].entities);
    }
}

#[tokio::test]
async fn rankings_equal_transformers() {
    let running =
        Running::with_fixtures(&["encoders/deberta-ranker", "encoders/distilbert-ranker"], &[]).await;
    for case in cases().ranking {
        let settings = pb::RankSettings {
            model: reference(&case.model),
            truncation: pb::Truncation::Right.into(),
            raw_scores: true,
            keep_order: true,
            ..Default::default()
        };
        let request =
            pb::RankRequest { settings: Some(settings), query: case.query, documents: case.documents };
        let answer = running.ranking().rank(request).await.unwrap().into_inner();
        let tokens: Vec<u32> =
            answer.documents.iter().flat_map(|d| &d.status).map(|item| item.tokens).collect();
        assert_eq!(tokens, case.tokens, "{}", case.model);
        for (document, expected) in answer.documents.iter().zip(&case.logits) {
            assert!(
                (document.score - expected).abs() <= 1e-4,
                "{}: {} {expected}",
                case.model,
                document.score
            );
        }
    }
}

/// The same weights with and without a sentence-transformers package.
#[test]
fn a_package_makes_a_decoder_an_embedding_model() {
    let store = store(&["golden/qwen3"]);
    assert_eq!(load(store.path(), "golden/qwen3", &device()).unwrap().info.task, Task::Generation);
    let package = goldens().join("models/encoders/qwen3");
    fs::copy(package.join("modules.json"), store.path().join("golden/qwen3/modules.json")).unwrap();
    assert_eq!(load(store.path(), "golden/qwen3", &device()).unwrap().info.task, Task::Embedding);
}

/// Loads a package with these keys of its `config.json` changed; the error is one line with `part`.
#[track_caller]
fn refused(name: &str, change: &Value, part: &str) {
    let store = store(&[name]);
    edit(&store.path().join(name).join("config.json"), |config| {
        for (key, value) in change.as_object().unwrap() {
            config[key] = value.clone();
        }
    });
    let error = format!("{:#}", load(store.path(), name, &device()).unwrap_err());
    assert!(error.contains(part) && !error.contains('\n'), "{name} {change}: {error}");
}

#[test]
fn what_is_lacking_is_refused_by_name() {
    let check = refused;
    check(
        "encoders/qwen3",
        &json!({"model_type": "gemma3_text"}),
        "EmbeddingGemma attends in both directions",
    );
    check("encoders/qwen3", &json!({"model_type": "llama"}), "qwen2, qwen3 and mistral are computed");
    check("encoders/qwen3", &json!({"use_sliding_window": true}), "invalid use_sliding_window `true`");
    check("encoders/qwen3", &json!({"is_causal": false}), "invalid is_causal `false`: expected true");
    check("encoders/qwen2", &json!({"rope_scaling": {"type": "yarn"}}), "invalid rope_scaling");
    check(
        "encoders/qwen2",
        &json!({"rope_parameters": {"rope_type": "yarn"}}),
        "rope_parameters: invalid rope_type",
    );
    check("encoders/qwen2", &json!({"layer_types": ["sliding_attention"]}), "invalid layer_types");
    check("encoders/mistral", &json!({"head_dim": 16}), "invalid head_dim 16: expected 8");
    check(
        "encoders/mistral",
        &json!({"architectures": ["MistralForSequenceClassification"], "id2label": {"0": "a"}}),
        "no other head of mistral is computed",
    );
    check("encoders/deberta", &json!({"conv_kernel_size": 3}), "invalid conv_kernel_size `3`: expected 0");
    check("encoders/deberta", &json!({"pos_att_type": "p2p"}), "invalid pos_att_type");
    check("encoders/deberta", &json!({"model_type": "deberta"}), "versions 2 and 3");
    check("encoders/nomic", &json!({"num_experts": 8}), "invalid num_experts `8`: expected 0");
    check(
        "encoders/nomic",
        &json!({"activation_function": "gelu"}),
        "invalid activation_function `\"gelu\"`",
    );
    check(
        "encoders/jina",
        &json!({"feed_forward_type": "original"}),
        "invalid feed_forward_type `\"original\"`",
    );
    check(
        "encoders/gte",
        &json!({"rope_scaling": {"type": "linear"}}),
        "rope_scaling: invalid type `\"linear\"`",
    );
    check("encoders/gte", &json!({"logn_attention_scale": true}), "invalid logn_attention_scale `true`");
    check(
        "encoders/mpnet",
        &json!({"architectures": ["MPNetForTokenClassification"], "id2label": {"0": "a", "1": "b"}}),
        "no other head of mpnet",
    );
}

/// NomicBERT scales positions beyond those it was trained with; without, fewer tokens are taken.
#[test]
fn texts_end_where_positions_would_be_scaled() {
    let name = "encoders/nomic";
    let store = store(&[name]);
    edit(&store.path().join(name).join("config.json"), |config| {
        config["rotary_scaling_factor"] = json!(2);
        config["max_trained_positions"] = json!(20);
    });
    assert_eq!(load(store.path(), name, &device()).unwrap().info.max_input_tokens, 20);
}

/// Every number of a configuration, changed to what nobody publishes: a named error and no panic.
#[test]
fn hostile_numbers_are_refused_or_computed() {
    let values =
        [json!(0), json!(3), json!(-1), json!(1_u64 << 40), json!(u64::MAX), json!("x"), Value::Null];
    let store = tempfile::tempdir().unwrap();
    for (name, _) in PACKAGES.iter().skip(2) {
        let dir = store.path().join(name);
        copy(&goldens().join("models").join(name), &dir);
        let path = dir.join("config.json");
        let published = fs::read_to_string(&path).unwrap();
        let config: Value = serde_json::from_str(&published).unwrap();
        let numbers = config.as_object().unwrap().iter().filter(|(_, value)| value.is_number());
        for (key, _) in numbers {
            for value in &values {
                edit(&path, |config| config[key] = value.clone());
                check_loads_or_fails(store.path(), name, key, value);
                fs::write(&path, &published).unwrap();
            }
        }
    }
}

fn check_loads_or_fails(store: &Path, name: &str, key: &str, value: &Value) {
    if let Err(error) = load(store, name, &device()) {
        let error = format!("{error:#}");
        assert!(
            error.contains("config.json") || error.contains("model.safetensors"),
            "{name} {key} {value}: {error}"
        );
    }
}
