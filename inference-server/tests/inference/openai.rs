//! The embeddings API in OpenAI's form.

use observatory_proto::inference::v1 as pb;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::access::eventually;
use crate::support::{Gate, Running, reference, request, rows};

const LISTEN: [&str; 2] = ["--http-listen", "127.0.0.1:0"];

/// Status, head and body of the answer to one HTTP request.
async fn http(running: &Running, head: &str, body: &str) -> (u16, String, Value) {
    let mut socket = tokio::net::TcpStream::connect(running.http.unwrap()).await.unwrap();
    let length = body.len();
    let text =
        format!("{head} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}");
    socket.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_lowercase(), serde_json::from_str(body).unwrap())
}

async fn embeddings(running: &Running, body: Value) -> (u16, String, Value) {
    http(running, "POST /v1/embeddings", &body.to_string()).await
}

async fn open_gate(flags: &[&str]) -> Running {
    let gate = Gate::closed();
    gate.open();
    Running::with_gate(&gate, &[&LISTEN, flags].concat()).await
}

#[tokio::test]
async fn every_form_of_input_is_embedded() {
    let running = open_gate(&[]).await;
    let check = async |input: Value, expected: Value, tokens: u32| {
        let (status, _, answer) = embeddings(&running, json!({"model": "test/gated", "input": input})).await;
        assert_eq!(
            (status, &answer["object"], &answer["model"]),
            (200, &json!("list"), &json!("test/gated"))
        );
        let vectors: Vec<Value> =
            answer["data"].as_array().unwrap().iter().map(|e| e["embedding"].clone()).collect();
        assert_eq!(json!(vectors), expected);
        assert_eq!(answer["usage"], json!({"prompt_tokens": tokens, "total_tokens": tokens}));
    };
    let (unit_a, unit_ab) = (json!([0.707_106_77_f32, 0.707_106_77_f32]), json!([0.8_f32, 0.6_f32]));
    check(json!("a b"), json!([unit_ab]), 4).await;
    check(json!(["a", "a b"]), json!([unit_a, unit_ab]), 7).await;
    check(json!([3, 4]), json!([unit_ab]), 4).await;
    check(json!([[3], [3, 4]]), json!([unit_a, unit_ab]), 7).await;
    let asked = json!({"model": "test/gated", "input": "a b", "encoding_format": "base64", "dimensions": 1});
    let (_, _, answer) = embeddings(&running, asked).await;
    assert_eq!(answer["data"], json!([{"object": "embedding", "index": 0, "embedding": "AACAPw=="}]));
    let (status, _, models) = http(&running, "GET /v1/models", "").await;
    assert_eq!((status, &models["data"][0]["id"]), (200, &json!("test/gated")));
    assert_eq!(models["data"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn refusals_have_openais_shape() {
    let running = open_gate(&["--max-request-bytes", "4000"]).await;
    let check = async |body: Value, status: u16, param: Value, code: &str| {
        let (got, _, answer) = embeddings(&running, body).await;
        let error = &answer["error"];
        assert_eq!((got, &error["param"], error["code"].as_str()), (status, &param, Some(code)), "{answer}");
        assert_eq!(error["type"], if status < 500 { "invalid_request_error" } else { "server_error" });
        assert!(error["message"].is_string());
    };
    let ask = |input: Value| json!({"model": "test/gated", "input": input});
    check(json!({"model": "no/such", "input": "a"}), 404, Value::Null, "model_not_found").await;
    check(json!({"input": "a"}), 400, json!("model"), "invalid_value").await;
    check(json!(["a"]), 400, Value::Null, "invalid_json").await;
    check(ask(json!([])), 400, json!("input"), "empty_input").await;
    check(ask(json!(["a", " "])), 400, json!("input[1]"), "empty_input").await;
    check(ask(json!("a b c d a")), 400, json!("input[0]"), "input_too_long").await;
    check(ask(json!([[3], [99]])), 400, json!("input[1][0]"), "invalid_value").await;
    check(ask(json!("a fault")), 500, Value::Null, "backend").await;
    let longer = json!({"model": "test/gated", "input": "a", "dimensions": 3});
    check(longer, 400, json!("dimensions"), "invalid_value").await;
    let (status, _, answer) = http(&running, "GET /v2", "").await;
    assert_eq!((status, &answer["error"]["code"]), (404, &json!("not_found")));
    let (status, _, answer) = embeddings(&running, ask(json!("a ".repeat(3_000)))).await;
    assert_eq!((status, &answer["error"]["code"]), (413, &json!("request_too_large")));
}

#[tokio::test]
async fn the_same_admission_decides_and_says_when_to_come_again() {
    let gate = Gate::closed();
    let running = Running::with_gate(&gate, &[&LISTEN[..], &["--max-queued-tokens", "9"]].concat()).await;
    let mut client = running.embedding();
    let held = tokio::spawn(async move { client.embed(request(&["a b c d"])).await });
    gate.entered().await;
    let asked = json!({"model": "test/gated", "input": "a b c"});
    let (status, head, answer) = embeddings(&running, asked.clone()).await;
    assert_eq!((status, &answer["error"]["type"]), (429, &json!("rate_limit_error")));
    assert!(head.contains("\r\nretry-after: 1\r\n") && head.contains("\r\nretry-after-ms: "), "{head}");
    gate.open();
    let first: pb::EmbedResponse = held.await.unwrap().unwrap().into_inner();
    assert_eq!(first.items.len(), 1);
    assert_eq!(embeddings(&running, asked).await.0, 200);
}

#[tokio::test]
async fn calls_are_counted_with_those_over_grpc() {
    let gate = Gate::closed();
    let running = Running::with_gate(&gate, &LISTEN).await;
    let asked = json!({"model": "test/gated", "input": "a"});
    // One whose caller goes away, and one that waits for its answer.
    let body = asked.to_string();
    let mut impatient = tokio::net::TcpStream::connect(running.http.unwrap()).await.unwrap();
    let head = format!("POST /v1/embeddings HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
    impatient.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    gate.entered().await;
    drop(impatient);
    eventually(async || running.scrape().await.contains("code=\"CANCELLED\"")).await;
    gate.open();
    assert_eq!(embeddings(&running, asked).await.0, 200);
    assert_eq!(embeddings(&running, json!({"model": "no/such", "input": "a"})).await.0, 404);
    assert_eq!(http(&running, "GET /v1/models", "").await.0, 200);
    assert_eq!(http(&running, "GET /v2", "").await.0, 404);
    let expected = [
        ("POST /v1/embeddings", "OK"),
        ("POST /v1/embeddings", "NOT_FOUND"),
        ("POST /v1/embeddings", "CANCELLED"),
        ("GET /v1/models", "OK"),
        ("other", "NOT_FOUND"),
    ];
    let metrics = running.scrape().await;
    for (method, code) in expected {
        let counted = format!("requests_total{{method=\"{method}\",code=\"{code}\"}} 1");
        assert!(metrics.contains(&counted), "no {counted} in {metrics}");
    }
    assert!(metrics.contains("request_duration_seconds_count{method=\"GET /v1/models\"} 1"), "{metrics}");
}

const WRITER: &str = "golden/qwen2";

async fn writer() -> Running {
    Running::with_fixtures(&[WRITER], &LISTEN).await
}

/// The events of a streamed answer, without the last one, which ends it.
async fn streamed(running: &Running, path: &str, body: Value) -> Vec<Value> {
    let mut socket = tokio::net::TcpStream::connect(running.http.unwrap()).await.unwrap();
    let body = body.to_string();
    let length = body.len();
    let head =
        format!("POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
    socket.write_all((head + &body).as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("content-type: text/event-stream"), "{answer}");
    let mut events: Vec<&str> = answer.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    assert_eq!(events.pop(), Some("[DONE]"));
    events.into_iter().map(|event| serde_json::from_str(event).unwrap()).collect()
}

#[tokio::test]
async fn chats_are_answered_whole_and_in_a_stream() {
    let running = writer().await;
    let mut asked = json!({
        "model": WRITER, "messages": [{"role": "user", "content": "hola"}], "max_tokens": 12, "seed": 5, "n": 2,
        "logit_bias": {"319": -100, "317": -100}
    });
    let (status, _, whole) = http(&running, "POST /v1/chat/completions", &asked.to_string()).await;
    assert_eq!((status, &whole["object"]), (200, &json!("chat.completion")), "{whole}");
    let texts: Vec<&str> =
        (0..2).map(|index| whole["choices"][index]["message"]["content"].as_str().unwrap()).collect();
    assert_ne!(texts[0], texts[1]);
    assert_eq!(whole["choices"][1]["finish_reason"], "length");
    assert_eq!(whole["usage"]["completion_tokens"], 24);
    asked["stream"] = json!(true);
    asked["stream_options"] = json!({"include_usage": true});
    let events = streamed(&running, "/v1/chat/completions", asked).await;
    for (index, text) in texts.iter().enumerate() {
        let pieces = events.iter().filter(|event| event["choices"][0]["index"] == index);
        let pieces = pieces.filter_map(|event| event["choices"][0]["delta"]["content"].as_str());
        assert_eq!(&pieces.collect::<String>(), text);
    }
    assert!(
        events
            .iter()
            .all(|event| event["object"] == "chat.completion.chunk" && event["id"] == events[0]["id"])
    );
    let last = events.last().unwrap();
    assert_eq!((&last["choices"], &last["usage"]["completion_tokens"]), (&json!([]), &json!(24)));
}

#[tokio::test]
async fn schemas_and_logprobs_are_answered() {
    let running = writer().await;
    let schema = json!({
        "type": "object", "properties": {"remote": {"type": "boolean"}}, "required": ["remote"],
        "additionalProperties": false
    });
    let asked = json!({
        "model": WRITER, "messages": [{"role": "user", "content": "hola"}], "max_completion_tokens": 60,
        "logprobs": true, "top_logprobs": 2, "temperature": 0,
        "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}
    });
    let (_, _, answer) = http(&running, "POST /v1/chat/completions", &asked.to_string()).await;
    let choice = &answer["choices"][0];
    let content: Value = serde_json::from_str(choice["message"]["content"].as_str().unwrap()).unwrap();
    assert!(content["remote"].is_boolean(), "{answer}");
    assert_eq!(choice["finish_reason"], "stop");
    assert_eq!(choice["logprobs"]["content"][0]["top_logprobs"].as_array().unwrap().len(), 2);
    let asked = json!({"model": WRITER, "prompt": ["hola", "adiós"], "logprobs": 1, "temperature": 0});
    let (_, _, answer) = http(&running, "POST /v1/completions", &asked.to_string()).await;
    assert_eq!(answer["object"], "text_completion");
    assert_eq!(answer["choices"].as_array().unwrap().len(), 2);
    assert_eq!(answer["choices"][1]["logprobs"]["top_logprobs"][0].as_object().unwrap().len(), 1);
    let (_, _, models) = http(&running, "GET /v1/models", "").await;
    assert_eq!(models["data"][0]["id"], WRITER);
}

#[tokio::test]
async fn texts_that_cannot_be_written_are_refused() {
    let running = writer().await;
    let check = async |path: &str, body: Value, status: u16, param: Value, code: &str| {
        let (got, _, answer) = http(&running, &format!("POST {path}"), &body.to_string()).await;
        let error = &answer["error"];
        assert_eq!((got, &error["param"], error["code"].as_str()), (status, &param, Some(code)), "{answer}");
    };
    let chat = "/v1/chat/completions";
    let hola = json!([{"role": "user", "content": "hola"}]);
    let ask = |key: &str, value: Value| json!({"model": WRITER, "messages": hola, key: value});
    check(chat, json!({"model": "no/such", "messages": hola}), 404, Value::Null, "model_not_found").await;
    check(chat, json!({"model": WRITER}), 400, json!("messages"), "invalid_value").await;
    check(chat, ask("tools", json!([{}])), 400, json!("tools"), "unsupported").await;
    check(chat, ask("n", json!(0)), 400, json!("n"), "invalid_value").await;
    check(chat, ask("logit_bias", json!({"x": 1})), 400, json!("logit_bias"), "invalid_value").await;
    check(chat, ask("top_p", json!(2)), 400, json!("top_p"), "invalid_value").await;
    let schema = json!({"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": 7}}});
    let field = json!("response_format");
    check(chat, ask("response_format", schema), 400, field, "bad_constraint").await;
    check("/v1/completions", json!({"model": WRITER, "prompt": ""}), 400, json!("prompt"), "empty_input")
        .await;
}

/// The score of every document, and the indices in their order.
fn ranked(answer: &Value) -> (Vec<u64>, Vec<f64>) {
    let results = answer["results"].as_array().unwrap();
    let index = |result: &Value| result["index"].as_u64().unwrap();
    let score = |result: &Value| result["relevance_score"].as_f64().unwrap();
    (results.iter().map(index).collect(), results.iter().map(score).collect())
}

#[tokio::test]
async fn documents_are_ranked_by_rankers_and_by_encoders() {
    let names = ["golden/bert-ranker", "golden/tiny-e5"];
    let running = Running::with_fixtures(&names, &LISTEN).await;
    let texts = ["contabilidad y SAP", "análisis de datos", "cocina", "programación en Python"];
    let documents = json!([texts[0], {"text": texts[1]}, texts[2], {"text": texts[3]}]);
    let ask = async |model: &str, more: Value| {
        let mut body = json!({"model": model, "query": "datos", "documents": documents});
        more.as_object().unwrap().iter().for_each(|(key, value)| body[key] = value.clone());
        let (status, _, answer) = http(&running, "POST /v1/rerank", &body.to_string()).await;
        (status, answer)
    };
    for model in &names {
        let (status, all) = ask(model, json!({"top_n": null})).await;
        assert_eq!((status, &all["model"]), (200, &json!(model)), "{all}");
        let (mut order, scores) = ranked(&all);
        assert!(scores.is_sorted_by(|a, b| a >= b), "{scores:?}");
        assert!(
            all["results"][0].get("document").is_none() && all["usage"]["total_tokens"].as_u64() > Some(8)
        );
        let (_, two) = ask(model, json!({"top_n": 2, "return_documents": true})).await;
        assert_eq!(ranked(&two), (order[..2].to_vec(), scores[..2].to_vec()));
        assert_eq!(two["results"][0]["document"]["text"], texts[order[0] as usize]);
        order.sort_unstable();
        assert_eq!(order, [0, 1, 2, 3]);
    }
    // As the ranker answers over gRPC.
    let settings = pb::RankSettings { model: reference(names[0]), ..Default::default() };
    let asked = pb::RankRequest {
        settings: Some(settings),
        query: "datos".to_owned(),
        documents: texts.map(str::to_owned).to_vec(),
    };
    let expected = running.ranking().rank(asked).await.unwrap().into_inner().documents;
    let (order, _) = ranked(&ask(names[0], json!({})).await.1);
    assert_eq!(order, expected.iter().map(|document| u64::from(document.index)).collect::<Vec<_>>());
    // As the cosine of the vectors with the model's own prompts.
    let vectors = async |prompt: &str, texts: &[&str]| {
        let mut asked = request(texts);
        asked.settings = Some(pb::EmbedSettings {
            model: reference(names[1]),
            prompt_name: prompt.to_owned(),
            normalize: Some(true),
            ..Default::default()
        });
        rows(&running.embedding().embed(asked).await.unwrap().into_inner())
    };
    let (query, passages) = (vectors("query", &["datos"]).await, vectors("passage", &texts).await);
    let (order, scores) = ranked(&ask(names[1], json!({})).await.1);
    for (index, score) in order.iter().zip(scores) {
        let cosine: f32 = query[0].iter().zip(&passages[*index as usize]).map(|(a, b)| a * b).sum();
        assert!((f64::from(cosine) - score).abs() < 1e-5, "{index}: {cosine} {score}");
    }
}

#[tokio::test]
async fn what_cannot_be_ranked_is_refused() {
    let names = ["golden/bert-ranker", "golden/tiny-e5"];
    let running = Running::with_fixtures(&names, &LISTEN).await;
    let refused = async |model: &str, more: Value, status: u16, param: Value| {
        let mut body = json!({"model": model, "query": "datos", "documents": ["a", "b"]});
        more.as_object().unwrap().iter().for_each(|(key, value)| body[key] = value.clone());
        let (got, _, answer) = http(&running, "POST /v1/rerank", &body.to_string()).await;
        assert_eq!((got, &answer["error"]["param"]), (status, &param), "{answer}");
    };
    for model in names {
        refused(model, json!({"documents": []}), 400, json!("documents")).await;
        refused(model, json!({"documents": ["a", " "]}), 400, json!("documents[1]")).await;
        refused(model, json!({"query": " "}), 400, json!("query")).await;
        refused(model, json!({"max_chunks_per_doc": 3}), 400, json!("max_chunks_per_doc")).await;
    }
    refused("no/such", json!({}), 404, Value::Null).await;
}

/// A prompt counts once however many texts are written for it, and bytes of log probabilities are
/// those of the text.
#[tokio::test]
async fn usage_and_log_probabilities_are_openais() {
    let running = writer().await;
    let hola = json!([{"role": "user", "content": "hola"}]);
    let ask = async |path: &str, more: Value| {
        let mut body = json!({"model": WRITER, "max_tokens": 12, "seed": 4});
        more.as_object().unwrap().iter().for_each(|(key, value)| body[key] = value.clone());
        http(&running, &format!("POST {path}"), &body.to_string()).await.2
    };
    let chat = "/v1/chat/completions";
    let one = ask(chat, json!({"messages": hola})).await["usage"]["prompt_tokens"].clone();
    let three = ask(chat, json!({"messages": hola, "n": 3})).await;
    assert_eq!(three["usage"]["prompt_tokens"], one);
    let total = one.as_u64().unwrap() + three["usage"]["completion_tokens"].as_u64().unwrap();
    assert_eq!(three["usage"]["total_tokens"], total);
    let events = streamed(
        &running,
        chat,
        json!({"model": WRITER, "messages": hola, "n": 3, "max_tokens": 4, "stream": true,
            "stream_options": {"include_usage": true}}),
    )
    .await;
    assert_eq!(events.last().unwrap()["usage"]["prompt_tokens"], one);
    let both = ask("/v1/completions", json!({"prompt": ["hola", "adiós"], "n": 2})).await;
    let single = async |prompt: &str| {
        ask("/v1/completions", json!({"prompt": prompt})).await["usage"]["prompt_tokens"].as_u64().unwrap()
    };
    assert_eq!(both["usage"]["prompt_tokens"], single("hola").await + single("adiós").await);

    let answer = ask(
        chat,
        json!({"messages": hola, "max_tokens": 60, "logprobs": true, "top_logprobs": 5, "temperature": 1.5}),
    )
    .await;
    let choice = &answer["choices"][0];
    let tokens = choice["logprobs"]["content"].as_array().unwrap();
    let bytes: Vec<u8> = tokens
        .iter()
        .filter_map(|token| token["bytes"].as_array())
        .flat_map(|bytes| bytes.iter().map(|byte| byte.as_u64().unwrap() as u8))
        .collect();
    assert_eq!(String::from_utf8_lossy(&bytes), choice["message"]["content"].as_str().unwrap());
    let pieces = tokens.iter().filter(|token| token["token"].as_str().unwrap().starts_with("bytes:\\x"));
    assert!(pieces.count() > 0, "no token is a part of a character: {tokens:?}");
}

#[tokio::test]
async fn what_is_not_done_is_refused_by_name() {
    let running = writer().await;
    let hola = json!([{"role": "user", "content": "hola"}]);
    let ask =
        |key: &str, value: Value| json!({"model": WRITER, "messages": hola, "max_tokens": 2, key: value});
    let check = async |body: Value, status: u16, param: Value| {
        let (got, _, answer) = http(&running, "POST /v1/chat/completions", &body.to_string()).await;
        assert_eq!((got, &answer["error"]["param"]), (status, &param), "{answer}");
    };
    for key in ["guided_json", "guided_regex", "structured_outputs", "grammar", "lora_request"] {
        check(ask(key, json!({"a": 1})), 400, json!(key)).await;
        let (got, _, answer) =
            http(&running, "POST /v1/chat/completions", &ask(key, Value::Null).to_string()).await;
        assert_eq!(got, 200, "{answer}");
    }
    check(ask("temperature", json!("0.7")), 400, json!("temperature")).await;
    check(ask("max_tokens", json!(0)), 400, json!("max_tokens")).await;
    let (status, _, answer) = http(&running, "POST /v1/responses", "{}").await;
    assert_eq!((status, &answer["error"]["code"]), (400, &json!("unsupported")));
    let (status, _, answer) = http(&running, "OPTIONS /v1/embeddings", "").await;
    assert_eq!((status, &answer["error"]["code"]), (405, &json!("method_not_allowed")));
    let schema = json!({"type": "json_schema", "json_schema": {"name": "s", "schema": {"$ref": "#"}}});
    check(ask("response_format", schema), 400, json!("response_format")).await;
}
