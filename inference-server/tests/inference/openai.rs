//! The embeddings API in OpenAI's form.

use observatory_proto::inference::v1 as pb;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::access::eventually;
use crate::support::{Gate, Running, request};

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
    check(json!({"input": "a"}), 400, Value::Null, "invalid_json").await;
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
async fn calls_are_counted_beside_those_over_grpc() {
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
    check(chat, json!({"model": WRITER}), 400, Value::Null, "invalid_json").await;
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
