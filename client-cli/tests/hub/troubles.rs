//! Failures during a pull, and the state of the store afterwards.
//!
//! Whatever happens, the store never shows an incomplete model.

use std::fs;
use std::path::Path;

use observatory_cli::testing::{is_not_found, stored};

use crate::server::{FakeHub, NAME, Reply, pull};

const WEIGHTS: &str = "model.safetensors";
/// Bytes of the weights.
const SIZE: u64 = 200_000;

/// Range headers of the requests for the weights so far.
fn ranges(hub: &FakeHub) -> Vec<Option<String>> {
    let large = hub.seen().into_iter().filter(|seen| seen.large);
    large.map(|seen| seen.header("range").map(str::to_owned)).collect()
}

fn range(from: u64) -> Option<String> {
    Some(format!("bytes={from}-"))
}

/// The one partial file of a failed pull.
fn partial(store: &Path) -> std::path::PathBuf {
    let entries =
        fs::read_dir(store.join(".pulls/org--encoder")).unwrap().flatten().map(|entry| entry.path());
    let mut partial: Vec<_> =
        entries.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(WEIGHTS)).collect();
    assert_eq!(partial.len(), 1, "{partial:?}");
    partial.pop().unwrap()
}

/// Cuts the first answer with weights after this number of bytes.
fn cut_once(hub: &FakeHub, after: usize) {
    let mut done = false;
    hub.hook(move |seen, reply| {
        if seen.large && !std::mem::replace(&mut done, true) {
            return Reply { cut: Some(after), ..reply };
        }
        reply
    });
}

#[tokio::test]
async fn a_lost_connection_is_taken_up_where_it_ended() {
    let (hub, store) = (FakeHub::start(), tempfile::tempdir().unwrap());
    cut_once(&hub, 70_000);
    let pulled = pull(&hub, store.path(), 2).await.unwrap();
    assert_eq!(pulled.received, pulled.bytes);
    assert_eq!(ranges(&hub), [None, range(70_000)]);
}

#[tokio::test]
async fn progress_earns_new_tries() {
    let (hub, store) = (FakeHub::start(), tempfile::tempdir().unwrap());
    hub.hook(
        |seen, reply| {
            if seen.large { Reply { cut: Some(30_000.min(reply.body.len())), ..reply } } else { reply }
        },
    );
    let pulled = pull(&hub, store.path(), 2).await.unwrap();
    assert_eq!(pulled.received, pulled.bytes);
    assert_eq!(ranges(&hub).len(), 7);
}

#[tokio::test]
async fn a_later_pull_goes_on() {
    let (hub, store) = (FakeHub::start(), tempfile::tempdir().unwrap());
    cut_once(&hub, 150_000);
    let error = format!("{:#}", pull(&hub, store.path(), 1).await.unwrap_err());
    assert!(error.contains("cannot pull org/encoder"), "{error}");
    assert!(stored(store.path()).unwrap().is_empty());
    assert_eq!(fs::metadata(partial(store.path())).unwrap().len(), 150_000);
    hub.seen();
    let pulled = pull(&hub, store.path(), 1).await.unwrap();
    assert!(pulled.changed);
    assert_eq!(ranges(&hub), [range(150_000)]);
}

#[tokio::test]
async fn a_server_without_ranges_sends_it_again() {
    let (hub, store) = (FakeHub::start(), tempfile::tempdir().unwrap());
    hub.change(|content| content.ranges = false);
    cut_once(&hub, 50_000);
    let pulled = pull(&hub, store.path(), 2).await.unwrap();
    assert_eq!(pulled.received, pulled.bytes + 50_000);
    assert_eq!(ranges(&hub), [None, range(50_000)]);
}

#[tokio::test]
async fn another_version_is_begun_anew() {
    for describes in [true, false] {
        let (hub, store) = (FakeHub::start(), tempfile::tempdir().unwrap());
        hub.change(|content| content.describes = describes);
        cut_once(&hub, 150_000);
        pull(&hub, store.path(), 1).await.unwrap_err();
        // Shorter than what is there of the earlier version.
        hub.change(|content| drop(content.files.insert(WEIGHTS.to_owned(), vec![7; 90_000])));
        hub.seen();
        pull(&hub, store.path(), 1).await.unwrap();
        let asked = if describes { vec![None] } else { vec![range(150_000), None] };
        assert_eq!(ranges(&hub), asked);
        assert_eq!(fs::read(store.path().join(NAME).join(WEIGHTS)).unwrap(), vec![7; 90_000]);
    }
}

#[tokio::test]
async fn a_damaged_part_is_begun_anew() {
    let (hub, store) = (FakeHub::start(), tempfile::tempdir().unwrap());
    for (length, asked) in [(150_000, vec![range(150_000), None]), (SIZE as usize, vec![None])] {
        cut_once(&hub, 150_000);
        pull(&hub, store.path(), 1).await.unwrap_err();
        fs::write(partial(store.path()), vec![0; length]).unwrap();
        hub.seen();
        assert!(pull(&hub, store.path(), 1).await.unwrap().changed);
        assert_eq!(ranges(&hub), asked);
        fs::remove_dir_all(store.path().join("org")).unwrap();
    }
}

#[tokio::test]
async fn wrong_bytes_never_reach_the_store() {
    let (hub, store) = (FakeHub::start(), tempfile::tempdir().unwrap());
    hub.hook(|seen, mut reply| {
        if seen.large {
            reply.body[1_000] ^= 1;
        }
        reply
    });
    let error = format!("{:#}", pull(&hub, store.path(), 3).await.unwrap_err());
    assert!(error.contains("model.safetensors: expected sha256 ") && error.contains(", got "), "{error}");
    assert_eq!(ranges(&hub), [None]);
    assert!(stored(store.path()).unwrap().is_empty());
    let small = |seen: &crate::server::Seen, mut reply: Reply| {
        if seen.path.ends_with("/tokenizer.json") {
            reply.body[0] = b'[';
        }
        reply
    };
    hub.hook(small);
    let error = format!("{:#}", pull(&hub, store.path(), 3).await.unwrap_err());
    assert!(error.contains("tokenizer.json: expected git blob sha1 "), "{error}");
}

#[tokio::test]
async fn a_body_of_the_wrong_length_is_no_file() {
    let (hub, store) = (FakeHub::start(), tempfile::tempdir().unwrap());
    hub.hook(|seen, mut reply| {
        if seen.large {
            reply.body.push(0);
        }
        reply
    });
    let error = format!("{:#}", pull(&hub, store.path(), 1).await.unwrap_err());
    assert!(error.contains("sent more bytes of model.safetensors than its size"), "{error}");
    hub.hook(|seen, mut reply| {
        if seen.large {
            reply.body.truncate(10);
        }
        reply
    });
    let error = format!("{:#}", pull(&hub, store.path(), 1).await.unwrap_err());
    assert!(error.contains("of 200000 bytes of model.safetensors"), "{error}");
}

#[tokio::test]
async fn a_hub_that_contradicts_itself_is_not_believed() {
    let (hub, store) = (FakeHub::start(), tempfile::tempdir().unwrap());
    let other = format!("\"{}\"", "1".repeat(64));
    hub.once("/model.safetensors", move |mut reply| {
        reply.headers.retain(|(name, _)| *name != "X-Linked-Etag");
        reply.with("X-Linked-Etag", other)
    });
    let error = format!("{:#}", pull(&hub, store.path(), 1).await.unwrap_err());
    assert!(error.contains("lists model.safetensors with sha256 "), "{error}");
    hub.change(|content| content.describes = false);
    hub.once("/config.json", |mut reply| {
        reply.headers.clear();
        reply
    });
    let error = format!("{:#}", pull(&hub, store.path(), 1).await.unwrap_err());
    assert!(error.contains("gives no checksum of"), "{error}");
}

#[tokio::test]
async fn a_busy_hub_is_asked_again() {
    for reply in [Reply::status(429).with("Retry-After", "0"), Reply::status(500), Reply::status(503)] {
        let (hub, store) = (FakeHub::start(), tempfile::tempdir().unwrap());
        let (first, second) = (reply.clone(), reply);
        let mut waiting = vec![("main?blobs=true", first), ("/model.safetensors", second)];
        hub.hook(move |seen, reply| {
            match waiting.iter().position(|(ending, _)| seen.path.ends_with(ending)) {
                Some(at) => waiting.remove(at).1,
                None => reply,
            }
        });
        assert!(pull(&hub, store.path(), 2).await.unwrap().changed);
        assert_eq!(hub.seen().len(), 9);
    }
}

#[tokio::test]
async fn a_hub_that_stays_busy_is_left() {
    let (hub, store) = (FakeHub::start(), tempfile::tempdir().unwrap());
    hub.hook(|_, _| Reply::status(500));
    let error = pull(&hub, store.path(), 3).await.unwrap_err();
    assert_eq!(error.to_string(), "127.0.0.1 responded with status 500");
    assert_eq!(hub.seen().len(), 3);
    hub.hook(|_, _| Reply::status(429).with("Retry-After", "3600"));
    let error = pull(&hub, store.path(), 3).await.unwrap_err();
    assert_eq!(error.to_string(), "127.0.0.1 responded with status 429, retry after 3600 s");
    assert_eq!(hub.seen().len(), 1);
}

#[tokio::test]
async fn a_refusal_is_final() {
    let (hub, store) = (FakeHub::start(), tempfile::tempdir().unwrap());
    let check = async |reply: Reply, expected: &str, absent: bool| {
        hub.hook(move |_, _| reply.clone());
        let error = pull(&hub, store.path(), 3).await.unwrap_err();
        assert_eq!((error.to_string().as_str(), is_not_found(&error)), (expected, absent));
        assert_eq!(hub.seen().len(), 1);
    };
    let what = "model org/encoder at revision main";
    check(Reply::status(404), &format!("127.0.0.1 has no {what}"), true).await;
    let hidden =
        Reply::status(401).with("X-Error-Code", "RepoNotFound").with("X-Error-Message", "Repo\tnot found");
    check(hidden, &format!("127.0.0.1 has no {what}: Reponot found"), true).await;
    check(Reply::status(401), &format!("127.0.0.1 refused {what} with status 401"), false).await;
    let gated =
        Reply::status(403).with("X-Error-Code", "GatedRepo").with("X-Error-Message", "ask for access");
    check(gated, &format!("127.0.0.1 refused {what} with status 403: ask for access"), false).await;
    hub.behave();
    hub.once("/model.safetensors", |_| Reply::status(404));
    let error = pull(&hub, store.path(), 3).await.unwrap_err();
    assert!(is_not_found(&error), "{error:#}");
    assert!(stored(store.path()).unwrap().is_empty());
}

#[tokio::test]
async fn nothing_is_taken_of_a_model_that_cannot_be_served() {
    let (hub, store) = (FakeHub::start(), tempfile::tempdir().unwrap());
    let check = async |change: fn(&mut crate::server::Content), expected: &str| {
        hub.change(change);
        let error = format!("{:#}", pull(&hub, store.path(), 1).await.unwrap_err());
        assert!(error.contains(expected), "{error}");
        assert_eq!(hub.seen().len(), 1, "{expected}");
    };
    check(
        |content| drop(content.files.insert("../../../evil".to_owned(), b"x".to_vec())),
        "the hub lists \"../../../evil\", a path outside the model's folder",
    )
    .await;
    check(
        |content| {
            content.files.remove("../../../evil");
            content.files.remove("tokenizer.json");
        },
        "the repository has no tokenizer.json",
    )
    .await;
    assert!(!store.path().join("../evil").exists());
}

#[tokio::test]
async fn an_index_must_have_its_parts() {
    let (hub, store) = (FakeHub::start(), tempfile::tempdir().unwrap());
    let index = r#"{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "../../b.safetensors"}}"#;
    hub.change(|content| {
        let weights = content.files.remove(WEIGHTS).unwrap();
        content.files.insert("model-00001-of-00002.safetensors".to_owned(), weights);
        content.files.insert("model.safetensors.index.json".to_owned(), index.as_bytes().to_vec());
    });
    let error = pull(&hub, store.path(), 1).await.unwrap_err().to_string();
    assert_eq!(
        error,
        "model.safetensors.index.json refers to \"../../b.safetensors\", which the hub does not list"
    );
    assert!(stored(store.path()).unwrap().is_empty());
}

#[tokio::test]
async fn a_full_disk_is_noticed_before_anything_comes() {
    let (hub, store) = (FakeHub::start(), tempfile::tempdir().unwrap());
    hub.once("blobs=true", |mut reply| {
        let huge = String::from_utf8(reply.body).unwrap().replace(&SIZE.to_string(), "4611686018427387904");
        reply.body = huge.into_bytes();
        reply
    });
    let error = pull(&hub, store.path(), 1).await.unwrap_err().to_string();
    assert!(error.starts_with("org/encoder needs 4611686018.4 GB more, but the model store "), "{error}");
    assert_eq!(hub.seen().len(), 1);
}
