//! What a rollout sees of a server: its health names, its last seconds, and how calls are counted.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use observatory_inference::{Outcome, Server};
use observatory_proto::inference::v1 as pb;
use pb::embedding_service_client::EmbeddingServiceClient;
use tonic::transport::Endpoint;
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;

use crate::serving::health;
use crate::store::edit;
use crate::support::{Gate, Running, config, reference, request, rows, store};

#[tokio::test]
async fn a_lame_duck_serves_on_and_then_says_goaway() {
    let gate = Gate::closed();
    let running = Running::with_gate(&gate, &["--lame-duck-seconds", "1"]).await;
    let asked = HealthCheckRequest { service: "ready".to_owned() };
    let mut watch = running.health().watch(asked).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);

    let stopped = Instant::now();
    running.stop.drain.cancel();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    for path in ["/livez", "/readyz"] {
        assert!(running.get(path).await.starts_with("HTTP/1.1 503"), "{path}");
    }
    // In flight when the connection gets GOAWAY, and answered on it.
    let (mut held, mut channel) = (running.embedding(), running.embedding());
    let held = tokio::spawn(async move { held.embed(request(&["a"])).await });
    gate.entered().await;
    assert!(watch.message().await.unwrap().is_none(), "the watch ends with the connection");
    assert!(stopped.elapsed() >= Duration::from_secs(1), "{:?}", stopped.elapsed());
    gate.open();
    assert_eq!(rows(&held.await.unwrap().unwrap().into_inner()), [[3.0, 3.0]]);
    assert_eq!(running.finish().await, Outcome::Drained);
    assert_eq!(channel.embed(request(&["b"])).await.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn a_second_request_to_stop_ends_a_lame_duck() {
    let running = Running::with_gate(&Gate::closed(), &["--lame-duck-seconds", "600"]).await;
    running.stop.drain.cancel();
    running.stop.now.cancel();
    assert_eq!(running.finish().await, Outcome::CutOff);
}

#[tokio::test]
async fn an_old_connection_is_closed_once_its_calls_are_over() {
    let gate = Gate::closed();
    let running = Running::with_gate(&gate, &["--max-connection-age-seconds", "1"]).await;
    let (grpc, opened) = (running.grpc, Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&opened);
    let connector = tower::service_fn(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        async move { tokio::net::TcpStream::connect(grpc).await.map(hyper_util::rt::TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://inference.test");
    let mut client = EmbeddingServiceClient::new(endpoint.connect_with_connector_lazy(connector));
    let mut held = client.clone();
    let held = tokio::spawn(async move { held.embed(request(&["a"])).await });
    gate.entered().await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    gate.open();
    assert_eq!(rows(&held.await.unwrap().unwrap().into_inner()), [[3.0, 3.0]]);
    tokio::time::sleep(Duration::from_millis(200)).await;
    client.embed(request(&["b"])).await.unwrap();
    assert_eq!(opened.load(Ordering::Relaxed), 2);
}

/// Waits until every model is decided.
async fn started(running: &Running) {
    let began = Instant::now();
    while health(running, "started").await != Ok(ServingStatus::Serving) {
        assert!(began.elapsed() < Duration::from_secs(30), "it does not start");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_damaged_model_that_nobody_named_leaves_the_others_ready() {
    let check = async |flags: &[&str], ready: ServingStatus| {
        let store = store(&["golden/tiny-e5", "golden/bert"]);
        fs::write(store.path().join("golden/bert/config.json"), "{}").unwrap();
        let server = Server::bind(&config(store.path(), flags)).await.unwrap();
        let running = Running::start(server, Some(store)).await;
        running.loaded().await;
        // The name follows the state of the last model a moment later.
        started(&running).await;
        assert_eq!(health(&running, "ready").await, Ok(ready), "{flags:?}");
        running
    };
    let running = check(&[], ServingStatus::Serving).await;
    assert!(running.scrape().await.contains("observatory_inference_model_ready{model=\"golden/bert\"} 0"));
    check(&["--model", "golden/tiny-e5"], ServingStatus::Serving).await;
    check(&["--model", "golden/tiny-e5", "--model", "golden/bert"], ServingStatus::NotServing).await;
}

#[tokio::test]
async fn a_start_is_over_when_every_model_is_decided() {
    let store = store(&["golden/bert", "golden/tiny-e5"]);
    // Reading it takes for ever, as from a network disk that hangs.
    let weights = store.path().join("golden/tiny-e5/model-00002-of-00002.safetensors");
    fs::remove_file(&weights).unwrap();
    nix::unistd::mkfifo(&weights, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let server = Server::bind(&config(store.path(), &[])).await.unwrap();
    let running = Running::start(server, Some(store)).await;
    while health(&running, "ready.golden/bert").await != Ok(ServingStatus::Serving) {
        tokio::task::yield_now().await;
    }
    let hung = [("", ServingStatus::Serving), ("started", ServingStatus::NotServing)];
    for (name, expected) in hung {
        assert_eq!(health(&running, name).await, Ok(expected), "{name}");
    }
    assert_eq!(health(&running, "ready").await, Ok(ServingStatus::NotServing));
    // Writers let the loader go on, however often it opens the file; what it finds has no weights.
    std::thread::spawn(move || while fs::OpenOptions::new().write(true).open(&weights).is_ok() {});
    started(&running).await;
    assert_eq!(health(&running, "ready").await, Ok(ServingStatus::Serving), "the other one answers");
}

#[tokio::test]
async fn a_stream_counts_by_how_it_ended() {
    let store = store(&["golden/qwen2"]);
    // A tiny model writes 200 tokens, all that it may, before anybody can go away.
    edit(&store.path().join("golden/qwen2/config.json"), |config| {
        config["max_position_embeddings"] = 50_000.into();
    });
    let server = Server::bind(&config(store.path(), &[])).await.unwrap();
    let running = Running::start(server, Some(store)).await;
    running.loaded().await;
    let asked = |tokens: u32| {
        let limits = pb::GenerationLimits { max_new_tokens: tokens, ignore_end: true, ..Default::default() };
        let settings = pb::GenerationSettings {
            model: reference("golden/qwen2"),
            limits: Some(limits),
            ..Default::default()
        };
        let prompt = pb::Prompt { kind: Some(pb::prompt::Kind::Text("Buscamos".to_owned())) };
        Request::new(pb::GenerateRequest { settings: Some(settings), prompt: Some(prompt) })
    };
    let begin = async |request| running.generation().generate(request).await.unwrap().into_inner();
    let counted = async |code: &str, count: u32| {
        let line =
            format!("requests_total{{method=\"GenerationService/Generate\",code=\"{code}\"}} {count}\n");
        let began = Instant::now();
        // The server notices a caller who has gone a moment later.
        loop {
            let text = running.scrape().await;
            if text.contains(&line) {
                return;
            }
            assert!(began.elapsed() < Duration::from_secs(10), "no {line} in\n{text}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let mut whole = begin(asked(3)).await;
    while whole.message().await.unwrap().is_some() {}
    counted("OK", 1).await;
    let mut left = begin(asked(40_000)).await;
    left.message().await.unwrap();
    drop(left);
    counted("CANCELLED", 1).await;
    let mut late = asked(40_000);
    late.set_timeout(Duration::from_millis(300));
    let mut late = begin(late).await;
    while let Ok(Some(_)) = late.message().await {}
    counted("DEADLINE_EXCEEDED", 1).await;
    counted("OK", 1).await;
}
