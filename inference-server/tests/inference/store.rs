//! Model directories: what is read from a good one, and what is said about a bad one.

use std::fs;
use std::path::Path;

use observatory_inference::testing::registry::ServePlan;
use observatory_inference::testing::registry::load;
use observatory_inference::{Outcome, Server};
use observatory_proto::inference::v1 as pb;
use serde_json::{Value, json};
use tonic::Code;

use crate::support::{Running, config, device, request, store};

type Change = fn(&Path);

pub(crate) fn edit(path: &Path, change: impl Fn(&mut Value)) {
    let mut value: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    change(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

fn cut(path: &Path, keep: usize) {
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..keep]).unwrap();
}

/// Loads the fixture after a change; the error is one line and contains every part.
fn check(name: &str, change: Change, parts: &[&str]) {
    let store = store(&[name]);
    change(&store.path().join(name));
    let error = load(store.path(), name, &device()).unwrap_err();
    let text = format!("{error:#}");
    for part in parts {
        assert!(text.contains(part), "no {part:?} in: {text}");
    }
}

#[test]
fn missing_and_malformed_files_are_named() {
    let bert = "golden/bert";
    check(
        bert,
        |dir| fs::remove_file(dir.join("config.json")).unwrap(),
        &["config.json: cannot read", "No such file"],
    );
    check(bert, |dir| fs::remove_file(dir.join("tokenizer.json")).unwrap(), &["tokenizer.json: cannot read"]);
    check(
        bert,
        |dir| fs::remove_file(dir.join("model.safetensors")).unwrap(),
        &["model.safetensors: not found in"],
    );
    check(
        bert,
        |dir| fs::write(dir.join("config.json"), "{\"model_type\": ").unwrap(),
        &["config.json", "EOF"],
    );
    check(
        bert,
        |dir| fs::write(dir.join("tokenizer.json"), "{}").unwrap(),
        &["tokenizer.json: not a tokenizer"],
    );
    check(
        bert,
        |dir| fs::write(dir.join("modules.json"), "7").unwrap(),
        &["modules.json", "expected a sequence"],
    );
    check(
        "golden/tiny-e5",
        |dir| fs::remove_file(dir.join("model-00002-of-00002.safetensors")).unwrap(),
        &["model-00002-of-00002.safetensors: named by model.safetensors.index.json, not found"],
    );
    check(
        "golden/tiny-e5",
        |dir| {
            edit(&dir.join("model.safetensors.index.json"), |v| {
                v["weight_map"] = json!({"x": "../../etc/passwd"})
            })
        },
        &["model.safetensors.index.json: ../../etc/passwd is not a file name"],
    );
}

#[test]
fn damaged_weights_are_named() {
    let weights = "model.safetensors: ";
    check(
        "golden/bert",
        |dir| cut(&dir.join("model.safetensors"), 60_000),
        &[weights, "truncated or damaged: 60000 bytes, its header asks for"],
    );
    check("golden/bert", |dir| cut(&dir.join("model.safetensors"), 100), &[weights, "truncated: 100 bytes"]);
    check("golden/bert", |dir| cut(&dir.join("model.safetensors"), 0), &[weights, "has 0 bytes"]);
    check(
        "golden/bert",
        |dir| fs::write(dir.join("model.safetensors"), "version https://git-lfs.github.com/spec/v1").unwrap(),
        &[weights, "is not a safetensors file"],
    );
    check(
        "golden/bert",
        |dir| edit(&dir.join("config.json"), |v| v["intermediate_size"] = json!(65)),
        &[
            weights,
            "encoder.layer.0.intermediate.dense.weight has shape [64, 32], config.json asks for [65, 32]",
        ],
    );
    check(
        "golden/bert",
        |dir| edit(&dir.join("config.json"), |v| v["num_hidden_layers"] = json!(3)),
        &[weights, "no tensor encoder.layer.2.attention.self.query.weight, expected with shape [32, 32]"],
    );
}

#[test]
fn files_that_do_not_belong_together_are_refused() {
    check(
        "golden/bert",
        |dir| edit(&dir.join("config.json"), |v| v["vocab_size"] = json!(100)),
        &["tokenizer.json: token", "config.json says vocab_size 100"],
    );
    check(
        "golden/bert",
        |dir| edit(&dir.join("config.json"), |v| v["model_type"] = json!("gpt2")),
        &["config.json: invalid model_type `gpt2`"],
    );
    check(
        "golden/bert",
        |dir| edit(&dir.join("1_Pooling/config.json"), |v| v["word_embedding_dimension"] = json!(768)),
        &["1_Pooling/config.json: the dimension is 768, config.json says hidden_size 32"],
    );
    check(
        "golden/bert",
        |dir| edit(&dir.join("sentence_bert_config.json"), |v| v["max_seq_length"] = json!(2)),
        &["tokenizer.json: 2 special tokens leave no room in a limit of 2 tokens"],
    );
}

#[test]
fn a_good_directory_is_described() {
    let store = store(&["golden/bert", "golden/tiny-e5"]);
    fs::write(store.path().join("golden/tiny-e5/README.md"), "---\nlanguage:\n- es\n- en\n---\n# Tiny\n")
        .unwrap();
    let device = device();
    let info = load(store.path(), "golden/tiny-e5", &device).unwrap().info;
    assert_eq!((info.architecture, info.max_input_tokens, info.dimensions), ("xlm-roberta", 32, 32));
    assert_eq!(info.languages, ["es", "en"]);
    assert_eq!(info.prompts["passage"], "passage: ");
    assert_eq!(info.weight_bytes, 4 * info.parameters);

    let first = load(store.path(), "golden/bert", &device).unwrap().info;
    assert_eq!(first.revision.len(), 64);
    assert!(store.path().join(".digests/golden--bert.json").exists());
    let again = load(store.path(), "golden/bert", &device).unwrap().info;
    assert_eq!(first.revision, again.revision);
    edit(&store.path().join("golden/bert/sentence_bert_config.json"), |v| v["max_seq_length"] = json!(16));
    let changed = load(store.path(), "golden/bert", &device).unwrap().info;
    assert_ne!(first.revision, changed.revision);
    assert_eq!(changed.max_input_tokens, 16);
}

#[test]
fn plans_name_what_the_store_lacks() {
    let store = store(&["golden/bert", "golden/tiny-e5"]);
    let fails = |path: &Path, asked: &[&str], default: Option<&str>, part: &str| {
        let asked: Vec<String> = asked.iter().map(|name| (*name).to_owned()).collect();
        let error = format!("{:#}", ServePlan::find(path, &asked, default).unwrap_err());
        assert!(error.contains(part), "{error}");
    };
    let missing = store.path().join("nowhere");
    fails(&missing, &[], None, "nowhere: cannot be read as a directory: No such file");
    fails(store.path(), &["golden/x"], None, "--model golden/x: not in the model store");
    fails(store.path(), &["golden/x"], None, "which has golden/bert, golden/tiny-e5");
    fails(store.path(), &["../etc"], None, "--model ../etc: not in the model store");
    fails(
        store.path(),
        &["golden/bert"],
        Some("golden/tiny-e5"),
        "not among the models to serve: golden/bert",
    );
    let plan = ServePlan::find(store.path(), &[], None).unwrap();
    assert_eq!(plan.names, ["golden/bert", "golden/tiny-e5"]);
}

#[tokio::test]
async fn a_broken_model_is_listed_and_the_others_serve() {
    let store = store(&["golden/bert", "golden/tiny-e5"]);
    cut(&store.path().join("golden/bert/model.safetensors"), 60_000);
    let server = Server::bind(&config(store.path(), &[])).await.unwrap();
    let running = Running::start(server, None).await;
    running.loaded().await;
    let list =
        running.models().list_models(pb::ListModelsRequest::default()).await.unwrap().into_inner().models;
    let states: Vec<(&str, pb::ModelState, bool)> =
        list.iter().map(|model| (model.name.as_str(), model.state(), model.is_default)).collect();
    assert_eq!(
        states,
        [("golden/bert", pb::ModelState::Failed, false), ("golden/tiny-e5", pb::ModelState::Ready, true)]
    );
    assert!(list[0].error.contains("truncated"), "{}", list[0].error);
    assert_eq!(list[1].prompts["query"], "query: ");
    assert_eq!(list[1].tasks().next(), Some(pb::ModelTask::Embedding));
    assert_eq!(running.embed(&["hola"]).await.unwrap().model_name, "golden/tiny-e5");

    let mut asked = request(&["hola"]);
    let model = Some(pb::ModelRef { name: "golden/bert".to_owned(), revision: String::new() });
    asked.settings = Some(pb::EmbedSettings { model, ..Default::default() });
    let status = running.embedding().embed(asked).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("model.safetensors"), "{}", status.message());
    assert_eq!(running.finish().await, Outcome::Drained);
}

#[tokio::test]
async fn a_server_whose_models_all_fail_ends() {
    let store = store(&["golden/bert"]);
    fs::remove_file(store.path().join("golden/bert/tokenizer.json")).unwrap();
    let server = Server::bind(&config(store.path(), &[])).await.unwrap();
    let outcome = server.run(observatory_inference::Stop::default()).await.unwrap();
    assert_eq!((outcome, outcome.exit_code()), (Outcome::NoModel, 2));
}

#[tokio::test]
async fn an_empty_store_serves_no_model() {
    let empty = tempfile::tempdir().unwrap();
    let server = Server::bind(&config(empty.path(), &[])).await.unwrap();
    let running = Running::start(server, None).await;
    let list = running.models().list_models(pb::ListModelsRequest::default()).await.unwrap().into_inner();
    assert!(list.models.is_empty());
    let status = running.embed(&["a"]).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert_eq!(status.message(), "no model for embedding; the server has: none");
    assert_eq!(running.finish().await, Outcome::Drained);
}
