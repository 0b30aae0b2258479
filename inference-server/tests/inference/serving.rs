//! The contract over loopback: answers, refusals, overload, cancellation, drain.

use std::time::Duration;

use observatory_inference::Outcome;
use observatory_proto::inference::v1 as pb;
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_types::StatusExt;

use crate::support::{Gate, Running, request, rows};

fn reason(status: &Status) -> (Code, String) {
    (
        status.code(),
        status.get_error_details().error_info().map_or_else(String::new, |info| info.reason.clone()),
    )
}

async fn open_gate(flags: &[&str]) -> Running {
    let gate = Gate::closed();
    gate.open();
    Running::with_gate(&gate, flags).await
}

#[tokio::test]
async fn embeds_in_order_with_usage_and_revision() {
    let running = open_gate(&[]).await;
    let mut asked = Request::new(request(&["a b c", "d", "", "b b b b b b b b"]));
    asked.metadata_mut().insert("x-request-id", "mine".parse().unwrap());
    let response = running.embedding().embed(asked).await.unwrap();
    assert_eq!(response.metadata().get("x-request-id").unwrap(), "mine");
    assert_eq!(response.metadata().get("x-model-revision").unwrap(), "0123abcd");
    let answer = response.into_inner();
    assert_eq!(rows(&answer), [[5.0, 3.0], [3.0, 6.0], [0.0, 0.0], [6.0, 4.0]]);
    assert_eq!(answer.usage.unwrap().prompt_tokens, 14);
    assert!(answer.timing.unwrap().compute_ns > 0);
    assert_eq!(answer.model_revision, "0123abcd");
    let items: Vec<(bool, u32, bool)> = answer.items.iter().map(|i| (i.ok, i.tokens, i.truncated)).collect();
    assert_eq!(items, [(true, 5, false), (true, 3, false), (false, 0, false), (true, 6, true)]);
    let error = answer.items[2].error.as_ref().unwrap();
    assert_eq!((error.code, error.reason.as_str()), (Code::InvalidArgument as i32, "EMPTY_INPUT"));
    assert!(error.message.starts_with("texts[2] is empty"), "{}", error.message);
    assert_eq!(running.finish().await, Outcome::Drained);
}

#[tokio::test]
async fn settings_change_the_vectors() {
    let running = open_gate(&[]).await;
    let check = async |settings: pb::EmbedSettings, text: &str, expected: &[f32]| {
        let mut asked = request(&[text]);
        asked.settings = Some(settings);
        let answer = running.embedding().embed(asked).await.unwrap().into_inner();
        assert_eq!(rows(&answer), [expected]);
    };
    let settings = pb::EmbedSettings::default;
    check(settings(), "a b", &[4.0, 3.0]).await;
    check(pb::EmbedSettings { normalize: Some(true), ..settings() }, "a b", &[0.8, 0.6]).await;
    check(pb::EmbedSettings { prompt_name: "query".to_owned(), ..settings() }, "a b", &[5.0, 6.0]).await;
    let left = pb::Truncation::Left.into();
    check(pb::EmbedSettings { truncation: left, ..settings() }, "a a b c d d", &[6.0, 4.0]).await;
}

#[tokio::test]
async fn bad_requests_are_refused_clearly() {
    let running = open_gate(&["--max-texts", "3", "--max-text-bytes", "1000"]).await;
    let check = async |change: &dyn Fn(&mut pb::EmbedRequest), code: Code, expected: &str, part: &str| {
        let mut asked = request(&["a"]);
        asked.settings = Some(pb::EmbedSettings::default());
        change(&mut asked);
        let status = running.embedding().embed(asked).await.unwrap_err();
        assert_eq!(reason(&status), (code, expected.to_owned()), "{status}");
        assert!(status.message().contains(part), "{}", status.message());
    };
    let model =
        |name: &str, revision: &str| pb::ModelRef { name: name.to_owned(), revision: revision.to_owned() };
    let invalid = Code::InvalidArgument;
    check(&|r| r.texts.clear(), invalid, "EMPTY_INPUT", "texts has no items: expected 1 to 3").await;
    check(&|r| r.texts = vec!["a".to_owned(); 4], invalid, "BATCH_TOO_LARGE", "texts has 4 items").await;
    let settings =
        |r: &mut pb::EmbedRequest, f: &dyn Fn(&mut pb::EmbedSettings)| f(r.settings.as_mut().unwrap());
    check(
        &|r| settings(r, &|s| s.truncation = 9),
        invalid,
        "INVALID_VALUE",
        "invalid settings.truncation `9`",
    )
    .await;
    check(&|r| settings(r, &|s| s.priority = -1), invalid, "INVALID_VALUE", "invalid settings.priority `-1`")
        .await;
    let prompt = |r: &mut pb::EmbedRequest| settings(r, &|s| s.prompt_name = "passage".to_owned());
    check(&prompt, invalid, "UNKNOWN_PROMPT", "has query").await;
    let unknown = |r: &mut pb::EmbedRequest| settings(r, &|s| s.model = Some(model("no/such", "")));
    check(&unknown, Code::NotFound, "UNKNOWN_MODEL", "no model \"no/such\"; the server has: test/gated")
        .await;
    let other = |r: &mut pb::EmbedRequest| settings(r, &|s| s.model = Some(model("test/gated", "ffff")));
    check(&other, Code::FailedPrecondition, "REVISION_MISMATCH", "is loaded at revision 0123abcd").await;
}

#[tokio::test]
async fn bad_items_do_not_spoil_the_others() {
    let running = open_gate(&[]).await;
    let megabyte = "a ".repeat(500_000);
    let mut asked = request(&["a", &megabyte, "a b c d a", " \u{a0}\n"]);
    let truncation = pb::Truncation::Reject.into();
    asked.settings = Some(pb::EmbedSettings { truncation, ..Default::default() });
    let answer = running.embedding().embed(asked).await.unwrap().into_inner();
    assert_eq!(rows(&answer), [[3.0, 3.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]]);
    let errors: Vec<Option<&pb::ItemError>> = answer.items.iter().map(|item| item.error.as_ref()).collect();
    let reasons: Vec<&str> = errors.iter().flatten().map(|error| error.reason.as_str()).collect();
    assert_eq!(reasons, ["INPUT_TOO_LARGE", "INPUT_TOO_LONG", "EMPTY_INPUT"]);
    let figures = &errors[2].unwrap().metadata;
    assert_eq!((figures["tokens"].as_str(), figures["limit"].as_str()), ("7", "6"));
    assert_eq!(errors[1].unwrap().metadata["bytes"], "1000000");
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused_by_the_codec() {
    let running = open_gate(&["--max-request-bytes", "1000"]).await;
    let status = running.embed(&["a ".repeat(1000).as_str()]).await.unwrap_err();
    assert_eq!(reason(&status), (Code::OutOfRange, "MESSAGE_TOO_LARGE".to_owned()));
    assert!(running.embed(&["a"]).await.is_ok());
}

#[tokio::test]
async fn a_failing_model_answers_internal_and_serves_on() {
    let running = open_gate(&[]).await;
    let status = running.embed(&["a fault"]).await.unwrap_err();
    assert_eq!(reason(&status), (Code::Internal, "BACKEND".to_owned()));
    assert!(!status.message().contains("the word fault"));
    assert_eq!(rows(&running.embed(&["a"]).await.unwrap()), [[3.0, 3.0]]);
}

#[tokio::test]
async fn overload_is_answered_at_once_with_a_hint() {
    let gate = Gate::closed();
    let running = Running::with_gate(&gate, &["--max-queued-tokens", "9", "--max-requests", "2"]).await;
    let (channel, first) = (running.embedding(), request(&["a b c d"]));
    let held = tokio::spawn(async move { channel.clone().embed(first).await });
    gate.entered().await;

    let status = running.embed(&["a b c"]).await.unwrap_err();
    assert_eq!(reason(&status), (Code::ResourceExhausted, "OVERLOADED".to_owned()));
    let delay = status.get_error_details().retry_info().unwrap().retry_delay.unwrap();
    assert!(delay >= Duration::from_millis(50), "{delay:?}");
    let pushback: u128 =
        status.metadata().get("grpc-retry-pushback-ms").unwrap().to_str().unwrap().parse().unwrap();
    assert_eq!(pushback, delay.as_millis());

    // Room for three tokens is left, and then the second request in flight is the last one let in.
    let (channel, second) = (running.embedding(), request(&["a"]));
    let queued = tokio::spawn(async move { channel.clone().embed(second).await });
    running.admission.when(|count| *count == 2).await;
    let third = pb::TokenizeRequest { texts: vec!["a".to_owned()], ..Default::default() };
    let status = running.tokenization().tokenize(third).await.unwrap_err();
    assert!(status.message().starts_with("server overloaded: 2 of 2 requests"), "{}", status.message());

    gate.open();
    assert_eq!(rows(&held.await.unwrap().unwrap().into_inner()), [[6.0, 3.0]]);
    assert_eq!(rows(&queued.await.unwrap().unwrap().into_inner()), [[3.0, 3.0]]);
    assert!(running.embed(&["a b"]).await.is_ok());
}

#[tokio::test]
async fn work_of_callers_who_left_is_not_computed() {
    let gate = Gate::closed();
    let running = Running::with_gate(&gate, &[]).await;
    let (channel, first) = (running.embedding(), request(&["a"]));
    let held = tokio::spawn(async move { channel.clone().embed(first).await });
    gate.entered().await;

    let (channel, second) = (running.embedding(), request(&["b"]));
    let leaving = tokio::spawn(async move { channel.clone().embed(second).await });
    running.admission.when(|count| *count == 2).await;
    leaving.abort();
    running.admission.when(|count| *count == 1).await;

    let mut hurried = Request::new(request(&["c"]));
    hurried.set_timeout(Duration::from_millis(50));
    let status = running.embedding().embed(hurried).await.unwrap_err();
    assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status}");
    running.admission.when(|count| *count == 1).await;

    gate.open();
    held.await.unwrap().unwrap();
    running.embed(&["d"]).await.unwrap();
    assert_eq!(*gate.computed.lock().unwrap(), [3, 6]);
    assert_eq!(running.admission.queued_tokens(), 0);
}

pub(crate) async fn health(running: &Running, name: &str) -> Result<ServingStatus, Code> {
    let asked = HealthCheckRequest { service: name.to_owned() };
    let answer = running.health().check(asked).await.map_err(|status| status.code())?;
    Ok(answer.into_inner().status())
}

#[tokio::test]
async fn a_drain_finishes_what_is_in_flight_and_refuses_the_rest() {
    let gate = Gate::closed();
    let running = Running::with_gate(&gate, &[]).await;
    let (channel, first) = (running.embedding(), request(&["a"]));
    let held = tokio::spawn(async move { channel.clone().embed(first).await });
    gate.entered().await;
    let mut watch =
        running.health().watch(HealthCheckRequest { service: String::new() }).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    for path in ["/livez", "/readyz"] {
        assert!(running.get(path).await.starts_with("HTTP/1.1 200"), "{path}");
    }

    running.stop.drain.cancel();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert!(running.get("/livez").await.starts_with("HTTP/1.1 503"), "health over HTTP says the same");
    assert!(watch.message().await.unwrap().is_none(), "a watch does not hold the drain");
    while running.admission.check_open().is_ok() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Nothing is sent after GOAWAY: tonic cancels one call, asks for another connection, and finds
    // none.
    let codes =
        [running.embed(&["b"]).await, running.embed(&["b"]).await].map(|call| call.unwrap_err().code());
    assert!(matches!(codes, [Code::Cancelled | Code::Unavailable, Code::Unavailable]), "{codes:?}");
    assert!(!running.ended.is_finished());
    gate.open();
    assert_eq!(rows(&held.await.unwrap().unwrap().into_inner()), [[3.0, 3.0]]);
    assert_eq!(running.finish().await, Outcome::Drained);
}

#[tokio::test]
async fn a_drain_ends_when_its_time_is_up() {
    let gate = Gate::closed();
    let running = Running::with_gate(&gate, &["--drain-seconds", "0"]).await;
    let (channel, first) = (running.embedding(), request(&["a"]));
    let held = tokio::spawn(async move { channel.clone().embed(first).await });
    gate.entered().await;
    assert_eq!(running.finish().await, Outcome::CutOff);
    assert_eq!(reason(&held.await.unwrap().unwrap_err()), (Code::Unavailable, "DRAINING".to_owned()));
    gate.open();
}

#[tokio::test]
async fn health_names() {
    let running = open_gate(&[]).await;
    for name in [
        "",
        "started",
        "ready",
        "ready.test/gated",
        "observatory.inference.v1.EmbeddingService",
        "observatory.inference.v1.TokenizationService",
        "observatory.inference.v1.ModelsService",
    ] {
        assert_eq!(health(&running, name).await, Ok(ServingStatus::Serving), "{name}");
    }
    let classifier = health(&running, "observatory.inference.v1.TokenClassificationService").await;
    assert_eq!(classifier, Ok(ServingStatus::NotServing));
    assert_eq!(health(&running, "ready.no/such").await, Err(Code::NotFound));
}

#[tokio::test]
async fn tokenizes_with_byte_offsets() {
    let running = open_gate(&[]).await;
    let check = async |without_special_tokens: bool, ids: &[u32], starts: &[u32], ends: &[u32]| {
        let texts = vec!["ñ a".to_owned(), String::new()];
        let asked = pb::TokenizeRequest { texts, without_special_tokens, ..Default::default() };
        let answer = running.tokenization().tokenize(asked).await.unwrap().into_inner();
        let text = &answer.texts[0];
        assert_eq!((text.ids.as_slice(), text.starts.as_slice(), text.ends.as_slice()), (ids, starts, ends));
        assert_eq!(answer.texts[1].ids.len(), ids.len() - 2);
        assert_eq!(answer.model_name, "test/gated");
    };
    check(false, &[1, 0, 3, 2], &[0, 0, 3, 0], &[0, 2, 4, 0]).await;
    check(true, &[0, 3], &[0, 3], &[2, 4]).await;
}

#[tokio::test]
async fn counts_tokens_and_turns_ids_into_text() {
    let running = open_gate(&[]).await;
    let count = async |without_special_tokens: bool| {
        let texts = ["a b c d a b c d", "", "ñ"].map(str::to_owned).into();
        let asked = pb::CountTokensRequest { texts, without_special_tokens, ..Default::default() };
        running.tokenization().count_tokens(asked).await.unwrap().into_inner()
    };
    let counted = count(false).await;
    assert_eq!((counted.counts, counted.max_input_tokens), (vec![10, 2, 3], 6));
    assert_eq!(count(true).await.counts, [8, 0, 1]);

    let text = async |sequences: &[&[u32]], keep_special_tokens: bool| {
        let sequences = sequences.iter().map(|ids| pb::TokenSequence { ids: ids.to_vec() }).collect();
        let asked = pb::DetokenizeRequest { sequences, keep_special_tokens, ..Default::default() };
        running.tokenization().detokenize(asked).await.map(|answer| answer.into_inner().texts)
    };
    assert_eq!(text(&[&[1, 3, 5, 2], &[], &[4]], true).await.unwrap(), ["[CLS] a c [SEP]", "", "b"]);
    let status = text(&[&[3], &[3, 99]], true).await.unwrap_err();
    assert_eq!(reason(&status), (Code::InvalidArgument, "INVALID_VALUE".to_owned()));
    assert!(status.message().starts_with("invalid sequences[1].ids[1] `99`"), "{}", status.message());
    assert_eq!(text(&[], true).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn reflection_lists_this_servers_services_only() {
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

    let running = open_gate(&[]).await;
    let ask = async |message: MessageRequest| -> ServerReflectionResponse {
        let asked = ServerReflectionRequest { host: String::new(), message_request: Some(message) };
        let mut client = ServerReflectionClient::new(running.channel.clone());
        let mut stream = client.server_reflection_info(tokio_stream::once(asked)).await.unwrap().into_inner();
        stream.message().await.unwrap().unwrap()
    };
    let Some(MessageResponse::ListServicesResponse(list)) =
        ask(MessageRequest::ListServices(String::new())).await.message_response
    else {
        panic!("no list")
    };
    let mut names: Vec<String> = list.service.into_iter().map(|service| service.name).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "grpc.health.v1.Health",
            "grpc.reflection.v1.ServerReflection",
            "grpc.reflection.v1alpha.ServerReflection",
            "observatory.inference.v1.EmbeddingService",
            "observatory.inference.v1.GenerationService",
            "observatory.inference.v1.ModelsService",
            "observatory.inference.v1.RankingService",
            "observatory.inference.v1.TokenClassificationService",
            "observatory.inference.v1.TokenizationService",
        ]
    );
    let symbol = MessageRequest::FileContainingSymbol("observatory.inference.v1.EmbeddingService".to_owned());
    assert!(matches!(ask(symbol).await.message_response, Some(MessageResponse::FileDescriptorResponse(_))));
}

#[tokio::test]
async fn metrics_count_calls_refusals_and_tokens() {
    let running = open_gate(&[]).await;
    running.embed(&["a b", "a"]).await.unwrap();
    running.embed(&[]).await.unwrap_err();
    running.embed(&["b", ""]).await.unwrap();
    running.embed(&["a b"]).await.unwrap();
    let text = running.scrape().await;
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    for line in [
        "observatory_inference_requests_total{method=\"EmbeddingService/Embed\",code=\"OK\"} 3",
        "observatory_inference_requests_total{method=\"EmbeddingService/Embed\",code=\"INVALID_ARGUMENT\"} 1",
        "observatory_inference_refused_total{reason=\"EMPTY_INPUT\"} 2",
        "observatory_inference_tokens_total{model=\"test/gated\"} 10",
        "observatory_inference_rows_total{model=\"test/gated\"} 3",
        "observatory_inference_model_ready{model=\"test/gated\"} 1",
        "observatory_inference_request_duration_seconds_count{method=\"EmbeddingService/Embed\"} 4",
        "observatory_inference_queued_tokens 0",
        "observatory_inference_embedding_cache_hits_total 1",
        // The old name stays for one release.
        "observatory_inference_vector_cache_hits_total 1",
        "observatory_inference_vector_cache_misses_total 4",
        "observatory_inference_batch_rows_sum 3",
    ] {
        assert!(text.contains(line), "no {line} in\n{text}");
    }
}

#[tokio::test]
async fn remembered_vectors_are_the_same_and_skip_the_device() {
    let texts = ["analista de datos", "Python", "analista de datos", "gestión de proyectos con SQL"];
    let names = ["golden/tiny-e5"];
    let with = Running::with_fixtures(&names, &[]).await;
    let without = Running::with_fixtures(&names, &["--embedding-cache-mib", "0"]).await;
    let check = async |settings: pb::EmbedSettings| {
        let mut asked = request(&texts);
        asked.settings = Some(settings);
        let expected = without.embedding().embed(asked.clone()).await.unwrap().into_inner();
        with.embedding().embed(asked.clone()).await.unwrap();
        let got = with.embedding().embed(asked).await.unwrap().into_inner();
        assert_eq!(got.vectors, expected.vectors);
        assert_eq!((got.items, got.usage), (expected.items, expected.usage));
        assert_eq!(got.timing.unwrap().compute_ns, 0);
    };
    let settings = pb::EmbedSettings::default;
    check(settings()).await;
    check(pb::EmbedSettings { normalize: Some(false), ..settings() }).await;
    check(pb::EmbedSettings { truncation: pb::Truncation::Left.into(), ..settings() }).await;
    assert!(with.scrape().await.contains("embedding_cache_hits_total 16"));
    assert!(without.scrape().await.contains("embedding_cache_hits_total 0"));
}

/// Four times what there is room for, again and again: everything is answered, nothing is lost or
/// kept.
#[tokio::test]
async fn under_overload_every_request_is_served_or_refused_with_a_hint() {
    let gate = Gate::closed();
    let flags = ["--max-queued-tokens", "12", "--embedding-cache-mib", "0"];
    let running = Running::with_gate(&gate, &flags).await;
    let mut served = 0;
    for _ in 0..20 {
        let calls = (0..16).map(|_| {
            let mut client = running.embedding();
            tokio::spawn(async move { client.embed(request(&["a"])).await })
        });
        let calls: Vec<_> = calls.collect();
        gate.open();
        for call in calls {
            match call.await.unwrap() {
                Ok(answer) => {
                    assert_eq!(rows(&answer.into_inner()), [[3.0, 3.0]]);
                    served += 1;
                }
                Err(status) => {
                    assert_eq!(reason(&status), (Code::ResourceExhausted, "OVERLOADED".to_owned()));
                    assert!(status.metadata().get("grpc-retry-pushback-ms").is_some());
                }
            }
        }
        assert_eq!(running.admission.queued_tokens(), 0);
        gate.close();
    }
    gate.open();
    running.admission.when(|count| *count == 0).await;
    assert!(served >= 20, "{served}");
    let text = running.scrape().await;
    let refusals = format!("observatory_inference_rejection_seconds_count {}", 320 - served);
    assert!(text.contains(&refusals), "no {refusals} in\n{text}");
    assert!(text.contains(&format!("observatory_inference_rows_total{{model=\"test/gated\"}} {served}")));
}
