//! Damaged and hostile model directories: each is listed as failed with its cause, and no other
//! model suffers.

use std::fs;
use std::io::Write;
use std::path::Path;

use observatory_inference::Server;
use observatory_inference::testing::registry::load;
use observatory_proto::inference::v1 as pb;
use serde_json::{Value, json};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::store::edit;
use crate::support::{Running, config, copy, device, goldens, store};

/// A checkpoint of PyTorch's whose pickle is this.
fn pickled(dir: &Path, pickle: &[u8]) {
    fs::remove_file(dir.join("model.safetensors")).unwrap();
    let mut archive = ZipWriter::new(fs::File::create(dir.join("pytorch_model.bin")).unwrap());
    archive.start_file("archive/data.pkl", SimpleFileOptions::default()).unwrap();
    archive.write_all(pickle).unwrap();
    archive.finish().unwrap();
}

/// All of them are tried in one server, and the good one answers.
#[tokio::test]
async fn a_hostile_folder_fails_alone() {
    let store = store(&["golden/tiny-e5"]);
    let hostile = |name: &str, of: &str, change: &dyn Fn(&Path)| {
        let dir = store.path().join("hostile").join(name);
        copy(&goldens().join("models").join(of), &dir);
        change(&dir);
    };
    let number = |key: &'static str, value: u64| {
        move |dir: &Path| edit(&dir.join("config.json"), |config| config[key] = json!(value))
    };
    let (bert, decoder, modern) = ("golden/bert", "golden/qwen2", "golden/modernbert");
    hostile("a-hidden", bert, &number("hidden_size", 1 << 40));
    hostile("b-inner", bert, &number("intermediate_size", 1 << 33));
    hostile("c-inner", bert, &number("intermediate_size", 2_305_843_009_213_693_952));
    hostile("d-inner", bert, &number("intermediate_size", 1 << 20));
    hostile("e-layers", decoder, &number("num_hidden_layers", 1 << 50));
    hostile("f-inner", decoder, &number("intermediate_size", 1 << 21));
    hostile("g-heads", decoder, &number("head_dim", 1 << 62));
    hostile("h-positions", modern, &number("max_position_embeddings", 1 << 45));
    hostile("i-vocabulary", decoder, &number("vocab_size", 1 << 24));
    hostile("j-padding", "golden/tiny-e5", &number("pad_token_id", u64::MAX - 1));
    hostile("k-tuples", bert, &|dir| {
        pickled(dir, &[b")".to_vec(), b"\x85".repeat(3 << 20), b".".to_vec()].concat())
    });
    hostile("l-doubled", bert, &|dir| {
        let doubled: Vec<u8> = (0..60).flat_map(|_| *b"q\x00h\x00\x86").collect();
        pickled(dir, &[b")", &doubled[..], b"."].concat());
    });
    hostile("m-text", bert, &|dir| pickled(dir, b"X\xff\xff\xff\xffa."));
    let server = Server::bind(&config(store.path(), &[])).await.unwrap();
    let running = Running::start(server, None).await;
    running.loaded().await;
    let list = running.models().list_models(pb::ListModelsRequest::default()).await.unwrap().into_inner();
    for model in list.models {
        let expected =
            if model.name == "golden/tiny-e5" { pb::ModelState::Ready } else { pb::ModelState::Failed };
        assert_eq!(model.state(), expected, "{}: {}", model.name, model.error);
        let named = expected == pb::ModelState::Ready
            || ["config.json", "tensor", "pytorch_model.bin", "vocab_size"]
                .iter()
                .any(|part| model.error.contains(part));
        assert!(named, "{}: {}", model.name, model.error);
    }
    assert_eq!(running.embed(&["hola"]).await.unwrap().model_name, "golden/tiny-e5");
}

/// What the file holds is looked at before memory is taken by what its description says.
#[test]
fn shapes_are_checked_before_memory_is_taken() {
    let check = |name: &str, key: &str, value: Value, part: &str| {
        let store = store(&[name]);
        edit(&store.path().join(name).join("config.json"), |config| config[key] = value.clone());
        let error = format!("{:#}", load(store.path(), name, &device()).unwrap_err());
        assert!(error.contains(part), "{error}");
    };
    check("golden/bert", "intermediate_size", json!(1 << 20), "intermediate.dense.weight has shape");
    check("golden/qwen2", "intermediate_size", json!(1 << 20), "gate_proj.weight has shape");
}

/// Files of every kind that a model consists of, damaged in ways nobody thought of: the model loads
/// or is refused.
#[test]
fn damaged_files_load_or_are_refused() {
    let check = |name: &str, file: &str| {
        let store = store(&[name]);
        let path = store.path().join(name).join(file);
        let corpus = [fs::read(&path).unwrap()];
        observatory_mutator::bytes(&format!("{name}/{file}"), &corpus, |content| {
            fs::write(&path, content).unwrap();
            if let Err(error) = load(store.path(), name, &device()) {
                assert!(!format!("{error:#}").is_empty());
            }
        });
    };
    check("golden/bert-ranker", "config.json");
    check("golden/bert-ranker", "model.safetensors");
    check("golden/dense-bin", "pytorch_model-00001-of-00002.bin");
    check("golden/qwen2-window", "config.json");
}
