//! The bidirectional streams: ids, faults of items, bounds, cancellation, drain.

use std::collections::BTreeMap;

use observatory_inference::Outcome;
use observatory_proto::inference::v1 as pb;
use pb::{classify_stream_request, embed_stream_request};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt;

use crate::support::{Gate, Running, request, rows};

/// A stream that the test writes to.
struct Exchange {
    to: mpsc::Sender<pb::EmbedStreamRequest>,
    from: Streaming<pb::EmbedStreamResponse>,
}

fn settings(settings: pb::EmbedSettings) -> pb::EmbedStreamRequest {
    pb::EmbedStreamRequest { message: Some(embed_stream_request::Message::Settings(settings)) }
}

fn item(id: u64, text: &str) -> pb::EmbedStreamRequest {
    let item = pb::TextItem { id, text: text.to_owned() };
    pb::EmbedStreamRequest { message: Some(embed_stream_request::Message::Item(item)) }
}

async fn open(running: &Running, first: pb::EmbedStreamRequest) -> Result<Exchange, Status> {
    let (to, messages) = mpsc::channel(256);
    to.send(first).await.unwrap();
    let response = running.embedding().embed_stream(ReceiverStream::new(messages)).await?;
    assert_eq!(response.metadata().get("x-model-revision").unwrap(), "0123abcd");
    assert!(response.metadata().get("x-request-id").is_some());
    Ok(Exchange { to, from: response.into_inner() })
}

impl Exchange {
    async fn send(&self, id: u64, text: &str) {
        self.to.send(item(id, text)).await.unwrap();
    }

    /// The next results by id: the vector, or the reason why there is none.
    async fn receive(&mut self, count: usize) -> BTreeMap<u64, Result<Vec<f32>, String>> {
        let mut found = BTreeMap::new();
        while found.len() < count {
            let reply = self.from.message().await.unwrap().unwrap();
            assert_eq!((reply.dimensions, reply.model_name.as_str()), (2, "test/gated"));
            for result in reply.results {
                let floats = result.vector.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
                let error = result.status.unwrap().error;
                found.insert(result.id, error.map_or(Ok(floats.collect()), |error| Err(error.reason)));
            }
        }
        assert_eq!(found.len(), count);
        found
    }
}

async fn open_gate(flags: &[&str]) -> Running {
    let gate = Gate::closed();
    gate.open();
    Running::with_gate(&gate, flags).await
}

fn texts(words: &[(u64, &str)]) -> BTreeMap<u64, Result<Vec<f32>, String>> {
    words.iter().map(|(id, reason)| (*id, Err((*reason).to_owned()))).collect()
}

#[tokio::test]
async fn every_item_is_answered_under_its_id() {
    let running = open_gate(&[]).await;
    let mut stream = open(&running, settings(pb::EmbedSettings::default())).await.unwrap();
    let words = ["a", "b c", "d d d", "c"];
    for id in 0..300_u64 {
        stream.send(1_000 - id, words[id as usize % 4]).await;
    }
    let found = stream.receive(300).await;
    let expected = rows(&running.embed(&words).await.unwrap());
    for id in 0..300_u64 {
        assert_eq!(found[&(1_000 - id)], Ok(expected[id as usize % 4].clone()));
    }
    drop(stream.to);
    assert_eq!(stream.from.message().await.unwrap(), None);
    running.admission.when(|count| *count == 0).await;
    assert_eq!(running.admission.queued_tokens(), 0);
}

#[tokio::test]
async fn an_item_at_fault_fails_alone_and_never_ends_the_stream() {
    let running = open_gate(&["--max-text-bytes", "1000"]).await;
    let truncation = pb::Truncation::Reject.into();
    let strict = pb::EmbedSettings { truncation, ..Default::default() };
    let mut stream = open(&running, settings(strict)).await.unwrap();
    let long = "a".repeat(1001);
    for (id, text) in [(1, "a"), (2, " "), (3, &long), (4, "a b c d a"), (5, "a fault"), (6, "b")] {
        stream.send(id, text).await;
    }
    let mut found = stream.receive(6).await;
    assert_eq!(found.remove(&1), Some(Ok(vec![3.0, 3.0])));
    assert_eq!(found.remove(&6), Some(Ok(vec![3.0, 4.0])));
    let expected = [(2, "EMPTY_INPUT"), (3, "INPUT_TOO_LARGE"), (4, "INPUT_TOO_LONG"), (5, "BACKEND")];
    assert_eq!(found, texts(&expected));
    stream.send(7, "c").await;
    assert_eq!(stream.receive(1).await, BTreeMap::from([(7, Ok(vec![3.0, 5.0]))]));
    let text = running.scrape().await;
    assert!(text.contains("observatory_inference_refused_total{reason=\"BACKEND\"} 1"), "{text}");
}

#[tokio::test]
async fn a_stream_begins_with_settings_and_goes_on_with_items() {
    let running = open_gate(&[]).await;
    let refused = async |first: pb::EmbedStreamRequest, code: Code, field: Option<&str>| {
        let status = open(&running, first).await.err().unwrap();
        assert_eq!(status.code(), code, "{status}");
        let details = status.get_error_details();
        let found = details.bad_request().map(|bad| bad.field_violations[0].field.clone());
        assert_eq!(found.as_deref(), field);
    };
    refused(item(1, "a"), Code::InvalidArgument, Some("settings")).await;
    refused(pb::EmbedStreamRequest::default(), Code::InvalidArgument, Some("settings")).await;
    let longer = pb::EmbedSettings { dimensions: Some(9), ..Default::default() };
    refused(settings(longer), Code::InvalidArgument, Some("settings.dimensions")).await;
    let model = crate::support::reference("no/such");
    let unknown = pb::EmbedSettings { model, ..Default::default() };
    refused(settings(unknown), Code::NotFound, None).await;

    let mut stream = open(&running, settings(pb::EmbedSettings::default())).await.unwrap();
    stream.send(1, "a").await;
    stream.to.send(settings(pb::EmbedSettings::default())).await.unwrap();
    assert_eq!(stream.receive(1).await, BTreeMap::from([(1, Ok(vec![3.0, 3.0]))]));
    let status = stream.from.message().await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().starts_with("invalid item `missing`"), "{status}");
}

/// With room for four items of three tokens, any further one would be refused: so none is read
/// before its time.
#[tokio::test]
async fn a_stream_is_read_only_as_far_as_there_is_room() {
    let gate = Gate::closed();
    let flags = ["--max-stream-items", "4", "--max-queued-tokens", "12", "--embedding-cache-mib", "0"];
    let running = Running::with_gate(&gate, &flags).await;
    let mut stream = open(&running, settings(pb::EmbedSettings::default())).await.unwrap();
    for id in 0..200 {
        stream.send(id, "a").await;
    }
    gate.entered().await;
    gate.open();
    let found = stream.receive(200).await;
    assert!(found.values().all(|vector| *vector == Ok(vec![3.0, 3.0])), "{found:?}");
    assert_eq!(running.admission.requests(), 0);
}

#[tokio::test]
async fn items_without_room_are_refused_by_the_rule_for_requests() {
    let gate = Gate::closed();
    let running = Running::with_gate(&gate, &["--max-queued-tokens", "9"]).await;
    let (mut client, first) = (running.embedding(), request(&["a b c d"]));
    let held = tokio::spawn(async move { client.embed(first).await });
    gate.entered().await;
    let mut stream = open(&running, settings(pb::EmbedSettings::default())).await.unwrap();
    stream.send(1, "a b c").await;
    let reply = stream.from.message().await.unwrap().unwrap();
    let error = reply.results[0].status.clone().unwrap().error.unwrap();
    assert_eq!((error.code, error.reason.as_str()), (Code::ResourceExhausted as i32, "OVERLOADED"));
    assert!(error.retry_after_ms >= 50, "{error:?}");
    gate.open();
    held.await.unwrap().unwrap();
    stream.send(2, "a b c").await;
    assert_eq!(stream.receive(1).await, BTreeMap::from([(2, Ok(vec![5.0, 3.0]))]));
}

#[tokio::test]
async fn work_of_a_stream_that_was_left_is_not_computed() {
    let gate = Gate::closed();
    let running = Running::with_gate(&gate, &[]).await;
    let (mut client, first) = (running.embedding(), request(&["a"]));
    let held = tokio::spawn(async move { client.embed(first).await });
    gate.entered().await;
    let stream = open(&running, settings(pb::EmbedSettings::default())).await.unwrap();
    stream.send(1, "b").await;
    running.admission.when(|count| *count == 2).await;
    drop(stream);
    running.admission.when(|count| *count == 1).await;
    gate.open();
    held.await.unwrap().unwrap();
    running.embed(&["d"]).await.unwrap();
    assert_eq!(*gate.computed.lock().unwrap(), [3, 6]);
    assert_eq!(running.admission.queued_tokens(), 0);
}

#[tokio::test]
async fn a_drain_finishes_the_items_that_wait_and_ends_the_stream() {
    let gate = Gate::closed();
    let running = Running::with_gate(&gate, &[]).await;
    let mut stream = open(&running, settings(pb::EmbedSettings::default())).await.unwrap();
    stream.send(1, "a").await;
    gate.entered().await;
    running.stop.drain.cancel();
    while running.admission.check_open().is_ok() {
        tokio::task::yield_now().await;
    }
    stream.send(2, "b").await;
    assert_eq!(stream.receive(1).await, texts(&[(2, "DRAINING")]));
    gate.open();
    assert_eq!(stream.receive(1).await, BTreeMap::from([(1, Ok(vec![3.0, 3.0]))]));
    let status = stream.from.message().await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(running.finish().await, Outcome::Drained);
}

#[tokio::test]
async fn a_classification_stream_answers_as_requests_are_answered() {
    let running = Running::with_fixtures(&["golden/xlmr-ner"], &[]).await;
    let texts: Vec<String> =
        ["programación en Python", " ", "soldadura y SQL", "Diseño"].map(str::to_owned).into();
    let settings = pb::ClassifySettings { return_tokens: true, ..Default::default() };
    let asked = pb::ClassifyRequest { settings: Some(settings.clone()), texts: texts.clone() };
    let expected = running.classification().classify(asked).await.unwrap().into_inner();

    let items = texts
        .iter()
        .zip(1..)
        .map(|(text, id)| classify_stream_request::Message::Item(pb::TextItem { id, text: text.clone() }));
    let messages: Vec<pb::ClassifyStreamRequest> =
        std::iter::once(classify_stream_request::Message::Settings(settings))
            .chain(items)
            .map(|message| pb::ClassifyStreamRequest { message: Some(message) })
            .collect();
    let mut replies =
        running.classification().classify_stream(tokio_stream::iter(messages)).await.unwrap().into_inner();
    let mut found = BTreeMap::new();
    while let Some(reply) = replies.message().await.unwrap() {
        assert_eq!(reply.model_revision, expected.model_revision);
        found.extend(reply.results.into_iter().map(|result| (result.id, result.text.unwrap())));
    }
    for ((text, id), expected) in found.values().zip(1..).zip(expected.texts) {
        let Some(error) = expected.status.clone().unwrap().error else {
            assert_eq!(*text, expected, "{id}");
            continue;
        };
        let got = text.status.clone().unwrap().error.unwrap();
        assert_eq!((got.reason, got.message.contains("item.text")), (error.reason, true));
    }
    assert_eq!(found.len(), texts.len());
}
