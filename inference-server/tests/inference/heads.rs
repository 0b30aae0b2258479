//! Heads, modules, formats and families: equality with the reference implementations, see
//! `tests/goldens/make_head_goldens.py`.

use std::collections::HashMap;
use std::fs;

use observatory_inference::testing::models::{Extras, Model};
use observatory_inference::testing::registry::LoadedModel;
use observatory_inference::testing::registry::load;
use observatory_inference::testing::text::Truncation;
use observatory_proto::inference::v1 as pb;
use serde::Deserialize;
use serde_json::json;
use tonic::Code;

use crate::support::{Running, close, device, goldens, reference, rows, store};

#[derive(Deserialize)]
struct Goldens {
    pooled: Vec<PooledCase>,
    bge_m3: M3Case,
    ranking: Vec<RankingCase>,
}

#[derive(Deserialize)]
struct PooledCase {
    model: String,
    pooling: String,
    texts: Vec<String>,
    vectors: Vec<Vec<f32>>,
}

#[derive(Deserialize)]
struct M3Case {
    model: String,
    texts: Vec<String>,
    dense: Vec<Vec<f32>>,
    sparse: Vec<Vec<(u32, f32)>>,
    multi_vector: Vec<Vec<Vec<f32>>>,
}

#[derive(Deserialize)]
struct RankingCase {
    model: String,
    query: String,
    documents: Vec<String>,
    truncation: String,
    tokens: Vec<u32>,
    logits: Vec<f32>,
}

fn cases() -> Goldens {
    serde_json::from_str(&fs::read_to_string(goldens().join("heads.json")).unwrap()).unwrap()
}

fn model(name: &str, pooling: &str) -> LoadedModel {
    let store = store(&[name]);
    let config = json!({"embedding_dimension": 16, "pooling_mode": pooling});
    fs::write(store.path().join(name).join("1_Pooling/config.json"), config.to_string()).unwrap();
    load(store.path(), name, &device()).unwrap()
}

#[test]
fn poolings_and_modules_equal_sentence_transformers() {
    let cases = cases().pooled;
    assert_eq!(cases.len(), 8);
    for case in cases {
        let model = model(&case.model, &case.pooling);
        let ids: Vec<Vec<u32>> = case
            .texts
            .iter()
            .map(|text| model.tokenizer.encode("texts", "", text, Truncation::Right).unwrap().ids)
            .collect();
        let outputs =
            model.network.run(&ids.iter().map(Vec::as_slice).collect::<Vec<_>>(), Extras::default()).unwrap();
        for (index, (output, expected)) in outputs.iter().zip(&case.vectors).enumerate() {
            assert_eq!(expected.len(), model.info.dimensions);
            let norm = output.values.iter().map(|x| x * x).sum::<f32>().sqrt();
            let unit: Vec<f32> = output.values.iter().map(|x| x / norm).collect();
            close(&unit, expected, &format!("{} {}, text {index}", case.model, case.pooling));
        }
    }
}

#[test]
fn packages_are_described() {
    let info = model("golden/dense-bin", "lasttoken").info;
    assert_eq!((info.architecture, info.dimensions, info.normalize), ("xlm-roberta", 12, true));
    assert_eq!(info.matryoshka, [4, 8]);
    let info = model("golden/bge-m3", "cls").info;
    assert_eq!((info.sparse, info.multi_vector_dimensions, info.dimensions), (true, 6, 16));
    assert_eq!(info.weight_bytes, 4 * info.parameters);
}

#[tokio::test]
async fn bge_m3_answers_three_kinds_in_one_pass() {
    let case = cases().bge_m3;
    let running = Running::with_fixtures(&["golden/bge-m3", "golden/bert"], &[]).await;
    let ask = async |settings: pb::EmbedSettings, texts: Vec<String>| {
        running.embedding().embed(pb::EmbedRequest { settings: Some(settings), texts }).await
    };
    let all = pb::EmbedSettings {
        model: reference(&case.model),
        sparse: true,
        multi_vector: true,
        ..Default::default()
    };
    let mut texts = case.texts.clone();
    texts.insert(1, " ".to_owned());
    let mut answer = ask(all.clone(), texts).await.unwrap().into_inner();
    assert!(!answer.items.remove(1).ok && answer.items.iter().all(|item| item.ok));
    assert_eq!(answer.sparse.remove(1), pb::SparseVector::default());
    assert_eq!(answer.multi_vectors.remove(1), pb::MultiVector::default());
    let mut dense = rows(&answer);
    dense.remove(1);
    for (index, expected) in case.dense.iter().enumerate() {
        close(&dense[index], expected, "dense");
        let sparse = &answer.sparse[index];
        let (ids, weights): (Vec<u32>, Vec<f32>) = case.sparse[index].iter().copied().unzip();
        assert_eq!(sparse.token_ids, ids);
        close(&sparse.weights, &weights, "sparse");
        let vectors = &answer.multi_vectors[index];
        assert_eq!(vectors.dimensions, 6);
        let values: Vec<f32> =
            vectors.vectors.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        close(&values, &case.multi_vector[index].concat(), "multi-vector");
    }

    let plain = pb::EmbedSettings { model: reference(&case.model), ..Default::default() };
    let answer = ask(plain, case.texts.clone()).await.unwrap().into_inner();
    assert!(answer.sparse.is_empty() && answer.multi_vectors.is_empty());
    let wrong = pb::EmbedSettings { model: reference("golden/bert"), ..all };
    let status = ask(wrong, case.texts).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!(status.message(), "model golden/bert does not support sparse embedding");
}

#[tokio::test]
async fn rankings_equal_transformers() {
    let running = Running::with_fixtures(&["golden/bert-ranker", "golden/xlmr-ranker"], &[]).await;
    let cases = cases().ranking;
    assert_eq!(cases.len(), 8);
    let mut cut = 0;
    for case in cases {
        let left = case.truncation == "left";
        let settings = pb::RankSettings {
            model: reference(&case.model),
            truncation: if left { pb::Truncation::Left } else { pb::Truncation::Right }.into(),
            raw_scores: true,
            keep_order: true,
            ..Default::default()
        };
        let request = pb::RankRequest {
            settings: Some(settings),
            query: case.query.clone(),
            documents: case.documents.clone(),
        };
        let answer = running.ranking().rank(request).await.unwrap().into_inner();
        assert_eq!(answer.model_name, case.model);
        let place = format!("{} {} {:?}", case.model, case.truncation, case.query);
        let items: Vec<&pb::ItemStatus> = answer.documents.iter().flat_map(|d| &d.status).collect();
        assert_eq!(items.iter().map(|item| item.tokens).collect::<Vec<_>>(), case.tokens, "{place}");
        cut += items.iter().filter(|item| item.truncated).count();
        let scores: Vec<f32> = answer.documents.iter().map(|document| document.score).collect();
        close(&scores, &case.logits, &place);
    }
    assert!(cut > 4, "only {cut} pairs were cut");
}

#[tokio::test]
async fn ranking_settings_and_faults() {
    let running = Running::with_fixtures(&["golden/bert", "golden/bert-ranker"], &[]).await;
    let ask = async |settings: pb::RankSettings, query: &str, documents: &[&str]| {
        let documents = documents.iter().map(|text| (*text).to_owned()).collect();
        let request = pb::RankRequest { settings: Some(settings), query: query.to_owned(), documents };
        running.ranking().rank(request).await
    };
    let settings = pb::RankSettings::default;
    let documents = ["Python", " ", "trabajo en equipo", "SQL"];
    let answer = ask(settings(), "Python", &documents).await.unwrap().into_inner();
    assert_eq!(answer.model_name, "golden/bert-ranker");
    let order: HashMap<u32, f32> = answer.documents.iter().map(|d| (d.index, d.score)).collect();
    assert_eq!((order.len(), answer.documents[3].index), (4, 1));
    assert!(answer.documents[..3].is_sorted_by(|a, b| a.score >= b.score));
    assert!(answer.documents[..3].iter().all(|document| (0.0..=1.0).contains(&document.score)));
    let refused = answer.documents[3].status.as_ref().unwrap().error.as_ref().unwrap();
    assert_eq!((refused.reason.as_str(), refused.message.contains("documents[1]")), ("EMPTY_INPUT", true));

    let best = pb::RankSettings { top_n: 1, ..settings() };
    let best = ask(best, "Python", &documents[2..]).await.unwrap().into_inner().documents;
    assert_eq!(best.len(), 1);

    let fails =
        async |settings: pb::RankSettings, query: &str, documents: &[&str], code: Code, part: &str| {
            let status = ask(settings, query, documents).await.unwrap_err();
            assert_eq!(status.code(), code, "{status}");
            assert!(status.message().contains(part), "{status}");
        };
    let invalid = Code::InvalidArgument;
    fails(settings(), " ", &["a"], invalid, "query is empty").await;
    fails(settings(), "a", &[], invalid, "documents has no items").await;
    fails(settings(), &"a ".repeat(70_000), &["a"], invalid, "query has 140000 bytes").await;
    let wrong = pb::RankSettings { model: reference("golden/bert"), ..settings() };
    fails(wrong, "a", &["a"], Code::FailedPrecondition, "does not support ranking").await;
    let strict = pb::RankSettings { truncation: pb::Truncation::Reject.into(), ..settings() };
    let answer = ask(strict, &"Python ".repeat(30), &["a"]).await.unwrap().into_inner();
    let refused = answer.documents[0].status.as_ref().unwrap().error.as_ref().unwrap();
    assert_eq!(refused.reason, "INPUT_TOO_LONG");
}
