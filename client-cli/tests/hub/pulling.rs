//! Results of a pull, and files that are not downloaded again.
//!
//! The hub records its requests, so that every download is counted.

use std::fs;
use std::path::Path;

use observatory_cli::testing::{Record, Request, Source, stored};

use crate::server::{FakeHub, NAME, pull, request, sha256};

/// All files below a folder, hidden ones included, in order.
fn tree(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap().flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else {
                names.push(entry.path().strip_prefix(folder).unwrap().display().to_string());
            }
        }
    }
    names.sort();
    names
}

#[tokio::test]
async fn a_model_comes_whole_and_with_its_record() {
    let (hub, store) = (FakeHub::start(), tempfile::tempdir().unwrap());
    let pulled = pull(&hub, store.path(), 1).await.unwrap();
    let files = [
        ".pulls/org--encoder.lock",
        "org/encoder/.observatory.json",
        "org/encoder/1_Pooling/config.json",
        "org/encoder/README.md",
        "org/encoder/config.json",
        "org/encoder/model.safetensors",
        "org/encoder/tokenizer.json",
    ];
    assert_eq!(tree(store.path()), files);
    assert_eq!((pulled.changed, pulled.revision.as_deref()), (true, Some(hub.commit().as_str())));
    assert_eq!(pulled.bytes, pulled.received);
    let record = Record::read(&store.path().join(NAME)).unwrap().unwrap();
    assert_eq!((record.source, record.origin.as_str()), (Source::Hub, hub.origin.as_str()));
    assert_eq!(record.requested.as_deref(), Some("main"));
    for file in &record.files {
        let bytes = fs::read(store.path().join(NAME).join(&file.path)).unwrap();
        assert_eq!((file.size, &file.sha256), (bytes.len() as u64, &sha256(&bytes)), "{}", file.path);
    }
    assert_eq!(stored(store.path()).unwrap(), [NAME]);
}

#[tokio::test]
async fn a_hub_that_describes_nothing_serves_too() {
    let (hub, store) = (FakeHub::start(), tempfile::tempdir().unwrap());
    hub.change(|content| content.describes = false);
    let pulled = pull(&hub, store.path(), 1).await.unwrap();
    assert_eq!((pulled.files.len(), pulled.received), (5, pulled.bytes));
}

#[tokio::test]
async fn what_stands_at_the_revision_is_left_alone() {
    let (hub, store) = (FakeHub::start(), tempfile::tempdir().unwrap());
    let first = pull(&hub, store.path(), 1).await.unwrap();
    assert_eq!(hub.seen().len(), 7);
    let again = pull(&hub, store.path(), 1).await.unwrap();
    assert_eq!((again.changed, again.received, &again.revision), (false, 0, &first.revision));
    assert!(again.to_string().starts_with("org/encoder is up to date at "), "{again}");
    assert_eq!(hub.seen().len(), 1);
    let pinned = Request { revision: first.revision, ..request() };
    let again = observatory_cli::testing::pull(store.path(), &pinned, &hub.options(1)).await.unwrap();
    assert!(!again.changed && hub.seen().is_empty());
    // A model that lost a file is none that stands.
    fs::remove_file(store.path().join(NAME).join("README.md")).unwrap();
    assert!(pull(&hub, store.path(), 1).await.unwrap().changed);
    assert_eq!(hub.seen().len(), 2);
}

#[tokio::test]
async fn an_update_fetches_only_what_changed() {
    let (hub, store) = (FakeHub::start(), tempfile::tempdir().unwrap());
    let first = pull(&hub, store.path(), 1).await.unwrap();
    hub.change(|content| drop(content.files.insert("README.md".to_owned(), b"newer".to_vec())));
    hub.seen();
    let second = pull(&hub, store.path(), 1).await.unwrap();
    assert!(second.changed && second.revision != first.revision);
    assert_eq!((hub.seen().len(), second.received), (2, 5));
    assert_eq!(fs::read_to_string(store.path().join(NAME).join("README.md")).unwrap(), "newer");
    assert_eq!(second.path, first.path);
}

#[tokio::test]
async fn without_safetensors_the_pickled_weights_come() {
    let (hub, store) = (FakeHub::start(), tempfile::tempdir().unwrap());
    hub.change(|content| drop(content.files.remove("model.safetensors")));
    let pulled = pull(&hub, store.path(), 1).await.unwrap();
    let paths: Vec<&str> = pulled.files.iter().map(|file| file.path.as_str()).collect();
    let expected =
        ["1_Pooling/config.json", "README.md", "config.json", "pytorch_model.bin", "tokenizer.json"];
    assert_eq!(paths, expected);
}

#[tokio::test]
async fn offline_nothing_is_asked() {
    let (hub, store) = (FakeHub::start(), tempfile::tempdir().unwrap());
    let offline = Request { offline: true, ..request() };
    let options = hub.options(1);
    let error = observatory_cli::testing::pull(store.path(), &offline, &options).await.unwrap_err();
    assert!(error.to_string().starts_with("offline, and org/encoder is not in the model store"), "{error}");
    assert!(hub.seen().is_empty());
    let pulled = pull(&hub, store.path(), 1).await.unwrap();
    hub.seen();
    for revision in [None, Some("main".to_owned()), pulled.revision] {
        let asked = Request { revision, ..offline.clone() };
        assert!(!observatory_cli::testing::pull(store.path(), &asked, &options).await.unwrap().changed);
    }
    let other = Request { revision: Some("v2".to_owned()), ..offline };
    let error = observatory_cli::testing::pull(store.path(), &other, &options).await.unwrap_err();
    assert!(error.to_string().ends_with("not v2"), "{error}");
    assert!(hub.seen().is_empty());
}

#[tokio::test]
async fn the_token_stays_with_the_hub() {
    let (hub, store) = (FakeHub::start(), tempfile::tempdir().unwrap());
    pull(&hub, store.path(), 1).await.unwrap();
    let seen = hub.seen();
    let (large, own): (Vec<_>, Vec<_>) = seen.iter().partition(|seen| seen.large);
    assert_eq!((large.len(), own.len()), (1, 6));
    assert!(own.iter().all(|seen| seen.header("authorization") == Some("Bearer hf_secret")));
    assert!(large.iter().all(|seen| seen.header("authorization").is_none()));
    assert!(seen.iter().all(|seen| seen.header("accept-encoding") == Some("identity")));
    let record = fs::read_to_string(store.path().join(NAME).join(".observatory.json")).unwrap();
    assert!(!record.contains("hf_secret"));
}

#[tokio::test]
async fn one_gguf_file_of_several_is_a_model() {
    let (hub, store) = (FakeHub::start(), tempfile::tempdir().unwrap());
    hub.change(|content| {
        content.files.clear();
        for name in ["README.md", "small.gguf", "large.gguf"] {
            content.files.insert(name.to_owned(), name.repeat(1_000).into_bytes());
        }
    });
    let error = format!("{:#}", pull(&hub, store.path(), 1).await.unwrap_err());
    assert!(error.contains("choose one with --file: large.gguf, small.gguf"), "{error}");
    let asked = |file: &str| Request { file: Some(file.to_owned()), ..request() };
    let options = hub.options(1);
    let fetch =
        async |request: Request| observatory_cli::testing::pull(store.path(), &request, &options).await;
    assert!(fetch(asked("small.gguf")).await.unwrap().changed);
    assert!(!fetch(asked("small.gguf")).await.unwrap().changed);
    // Another file of the same commit takes its place.
    assert!(fetch(asked("large.gguf")).await.unwrap().changed);
    let folder = tree(&store.path().join(NAME));
    assert_eq!(folder, [".observatory.json", "large.gguf"]);
    assert!(fetch(Request { offline: true, ..asked("large.gguf") }).await.is_ok());
    let error = fetch(Request { offline: true, ..asked("small.gguf") }).await.unwrap_err().to_string();
    assert!(error.contains("in the model store is not small.gguf"), "{error}");
}
