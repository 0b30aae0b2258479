//! What holds for every call: ids, revisions, time in the queue, sizes of messages, compression.

use std::time::Duration;

use observatory_proto::inference::v1 as pb;
use tonic::codec::CompressionEncoding;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

use crate::support::{Gate, Running, request, rows};

async fn open_gate(flags: &[&str]) -> Running {
    let gate = Gate::closed();
    gate.open();
    Running::with_gate(&gate, flags).await
}

fn reason(status: &Status) -> (Code, String) {
    (status.code(), status.get_error_details().error_info().unwrap().reason.clone())
}

fn with_options(texts: &[&str], request_id: &str, max_queue_ms: u32) -> pb::EmbedRequest {
    let options = Some(pb::CallOptions { request_id: request_id.to_owned(), max_queue_ms });
    pb::EmbedRequest { settings: Some(pb::EmbedSettings { options, ..Default::default() }), ..request(texts) }
}

#[tokio::test]
async fn answers_and_refusals_name_the_call_and_the_model() {
    let running = open_gate(&[]).await;
    let ask = async |id: Option<&str>, message: pb::EmbedRequest| {
        let mut asked = Request::new(message);
        if let Some(id) = id {
            asked.metadata_mut().insert("x-request-id", id.parse().unwrap());
        }
        let metadata = match running.embedding().embed(asked).await {
            Ok(response) => response.metadata().clone(),
            Err(status) => status.metadata().clone(),
        };
        let text = |name: &str| metadata.get(name).map(|value| value.to_str().unwrap().to_owned());
        (text("x-request-id").unwrap(), text("x-model-revision"))
    };
    let revision = Some("0123abcd".to_owned());
    assert_eq!(ask(None, with_options(&["a"], "mine", 0)).await, ("mine".to_owned(), revision.clone()));
    assert_eq!(
        ask(Some("theirs"), with_options(&["a"], "mine", 0)).await,
        ("mine".to_owned(), revision.clone())
    );
    assert_eq!(ask(Some("theirs"), request(&["a"])).await, ("theirs".to_owned(), revision.clone()));
    assert_eq!(ask(None, request(&["a"])).await.0.len(), 36);
    assert_eq!(ask(None, with_options(&["fault"], "bad", 0)).await, ("bad".to_owned(), revision));
    assert_eq!(ask(None, with_options(&[], "none", 0)).await, ("none".to_owned(), None));
    let status = running.embedding().embed(with_options(&["a"], "a b", 0)).await.unwrap_err();
    let details = status.get_error_details();
    assert_eq!(details.bad_request().unwrap().field_violations[0].field, "settings.options.request_id");
}

#[tokio::test]
async fn work_not_begun_in_time_is_refused() {
    let gate = Gate::closed();
    let running = Running::with_gate(&gate, &[]).await;
    let mut client = running.embedding();
    let held = tokio::spawn(async move { client.embed(with_options(&["a"], "", 20)).await });
    gate.entered().await;
    let status = running.embedding().embed(with_options(&["b"], "", 60)).await.unwrap_err();
    assert_eq!(reason(&status), (Code::ResourceExhausted, "QUEUE_TIMEOUT".to_owned()));
    let details = status.get_error_details();
    assert!(details.retry_info().unwrap().retry_delay.unwrap() >= Duration::from_millis(50));
    // The first one's time is over too, but it was begun in time.
    gate.open();
    assert_eq!(rows(&held.await.unwrap().unwrap().into_inner()), [[3.0, 3.0]]);
    running.embed(&["d"]).await.unwrap();
    assert_eq!(*gate.computed.lock().unwrap(), [3, 6]);
    assert_eq!(running.admission.queued_tokens(), 0);
}

#[tokio::test]
async fn answers_over_the_limit_are_refused_with_the_figures() {
    let running = open_gate(&["--max-response-bytes", "200"]).await;
    assert!(running.embed(&["a", "b"]).await.is_ok());
    let status = running.embed(&["a"; 60]).await.unwrap_err();
    assert_eq!(reason(&status), (Code::OutOfRange, "ANSWER_TOO_LARGE".to_owned()));
    let details = status.get_error_details();
    let info = details.error_info().unwrap();
    assert_eq!(info.metadata["limit"], "200");
    assert!(info.metadata["bytes"].parse::<usize>().unwrap() > 480);
}

#[tokio::test]
async fn callers_that_compress_are_answered_in_kind() {
    let running = open_gate(&["--max-request-bytes", "2000"]).await;
    let texts = ["a b"; 64];
    let plain = running.embedding().accept_compressed(CompressionEncoding::Gzip);
    let gzip = plain.clone().send_compressed(CompressionEncoding::Gzip);
    let mut answers = Vec::new();
    for (mut client, expected) in [(plain, None), (gzip.clone(), Some("gzip"))] {
        let response = client.embed(request(&texts)).await.unwrap();
        let encoding =
            response.metadata().get("grpc-encoding").map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(encoding.as_deref(), expected);
        answers.push(response.into_inner().vectors);
    }
    assert_eq!(answers[0], answers[1]);
    // Small on the way, large where it is read.
    let status = gzip.clone().embed(request(&["a ".repeat(4_000).as_str()])).await.unwrap_err();
    assert_eq!(reason(&status), (Code::OutOfRange, "MESSAGE_TOO_LARGE".to_owned()));
}
