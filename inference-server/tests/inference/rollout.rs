//! What a rollout sees of a server: how calls are counted.

use std::time::{Duration, Instant};

use observatory_inference::Server;
use observatory_proto::inference::v1 as pb;
use tonic::Request;

use crate::store::edit;
use crate::support::{Running, config, reference, store};

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
