//! The door for programs that speak OpenAI's API over HTTP; behind it everything is as over gRPC.
//!
//! `POST /v1/embeddings`, `/v1/chat/completions` and `/v1/completions`, and `GET /v1/models`, with
//! the fields, defaults and errors of OpenAI's API reference; `POST /v1/rerank` in the form of Jina
//! and Cohere. A token array to be embedded holds ids of the model's own tokenizer; they are turned
//! into text and read again.

mod asked;
mod fields;
mod rerank;
mod text;

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use axum::{Extension, Router};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::StreamExt;
use observatory_proto::inference::v1 as pb;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::grpc::Api;
use crate::grpc::local::Refusal;
use crate::service::access::{Access, Client};
use fields::{Fault, Fields};
use observatory_server::connections::Patience;

/// What `POST /v1/embeddings` takes, beside keys that change nothing.
#[derive(Debug)]
struct EmbeddingsRequest {
    model: String,
    input: Input,
    encoding_format: EncodingFormat,
    dimensions: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Input {
    Text(String),
    Texts(Vec<String>),
    Tokens(Vec<u32>),
    TokenLists(Vec<Vec<u32>>),
}

/// What an [`Input`] is, in words.
const INPUT: &str = "a text, a list of texts, a list of token ids or a list of such lists";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum EncodingFormat {
    /// Numbers.
    #[default]
    Float,
    /// Little-endian f32 in base64.
    Base64,
}

impl EmbeddingsRequest {
    fn read(body: &[u8]) -> Result<Self, Fault> {
        let mut fields = Fields::read(body)?;
        let request = Self {
            model: fields.needed("model", "the name of a model")?,
            input: fields.needed("input", INPUT)?,
            encoding_format: fields.optional("encoding_format", "float or base64")?.unwrap_or_default(),
            dimensions: fields.optional("dimensions", "a whole number")?,
        };
        fields.end("there are model, input, encoding_format and dimensions")?;
        Ok(request)
    }
}

/// The routes.
pub(crate) fn router(api: Api, access: Access, patience: Patience) -> Router {
    let arrive = middleware::from_fn_with_state((api.clone(), patience), arrive);
    let guard = middleware::from_fn_with_state((api.clone(), access), guard);
    let count = middleware::from_fn_with_state(api.clone(), count);
    Router::new()
        .route("/v1/chat/completions", post(text::chat))
        .route("/v1/completions", post(text::completions))
        .route("/v1/embeddings", post(embeddings))
        .route("/v1/rerank", post(rerank::rerank))
        .route("/v1/models", get(models))
        .route("/v1/models/{*name}", get(model))
        .route("/v1/responses", any(responses))
        .route("/v1/responses/{*rest}", any(responses))
        .fallback(|| async { failure(StatusCode::NOT_FOUND, NO_PATH, None, "not_found") })
        .method_not_allowed_fallback(|| async {
            let message = "no such method here; models are listed by GET, all else is asked by POST";
            failure(StatusCode::METHOD_NOT_ALLOWED, message, None, "method_not_allowed")
        })
        // What arrives has been bounded by then.
        .layer(DefaultBodyLimit::disable())
        .layer(arrive)
        .layer(guard)
        .layer(count)
        .with_state(api)
}

const NO_PATH: &str = "no such path; there are /v1/chat/completions, /v1/completions, /v1/embeddings, /v1/rerank and \
    /v1/models";

/// What peers have and this server has not, in words.
async fn responses() -> Response {
    let message = "the responses API is not served; ask for the same by /v1/chat/completions";
    failure(StatusCode::BAD_REQUEST, message, None, "unsupported")
}

/// Reads the body, which must come in time and be no larger than the server reads.
async fn arrive(
    State((api, Patience { body: whole, part, .. })): State<(Api, Patience)>,
    request: Request,
    next: Next,
) -> Response {
    let limit = api.request_bytes();
    let (parts, body) = request.into_parts();
    let too_large = || {
        let message = format!("the request has more than {limit} bytes");
        failure(StatusCode::PAYLOAD_TOO_LARGE, &message, None, "request_too_large")
    };
    let announced =
        parts.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: u64| length > limit as u64) {
        return too_large();
    }
    let until = tokio::time::Instant::now() + whole;
    let mut chunks = body.into_data_stream();
    let mut bytes = Vec::new();
    loop {
        let patience = until.min(tokio::time::Instant::now() + part);
        match tokio::time::timeout_at(patience, chunks.next()).await {
            Ok(Some(Ok(chunk))) if bytes.len() + chunk.len() > limit => return too_large(),
            Ok(Some(Ok(chunk))) => bytes.extend_from_slice(&chunk),
            Ok(Some(Err(error))) => {
                return failure(StatusCode::BAD_REQUEST, &error.to_string(), None, "request_incomplete");
            }
            Ok(None) => break,
            Err(_) => {
                let message = format!(
                    "the body did not arrive: expected all of it within {} s, and a part of it every {} s",
                    whole.as_secs(),
                    part.as_secs()
                );
                return failure(StatusCode::REQUEST_TIMEOUT, &message, None, "request_timeout");
            }
        }
    }
    next.run(Request::from_parts(parts, Body::from(bytes))).await
}

/// Counts the call where those over gRPC are counted.
async fn count(State(api): State<Api>, request: Request, next: Next) -> Response {
    let mut ongoing = api.began(method_label(request.method().as_str(), request.uri().path()));
    let response = next.run(request).await;
    ongoing.answered(grpc_code(response.status()));
    response
}

/// Methods that exist, as `METHOD /path`; anything else a caller invents is "other".
fn method_label(method: &str, path: &str) -> &'static str {
    match (method, path) {
        ("POST", "/v1/embeddings") => "POST /v1/embeddings",
        ("POST", "/v1/chat/completions") => "POST /v1/chat/completions",
        ("POST", "/v1/completions") => "POST /v1/completions",
        ("POST", "/v1/rerank") => "POST /v1/rerank",
        ("GET", "/v1/models") => "GET /v1/models",
        ("GET", path) if path.starts_with("/v1/models/") => "GET /v1/models/NAME",
        _ => "other",
    }
}

/// Lets in whom the clients file knows by its bearer token or certificate.
async fn guard(State((api, access)): State<(Api, Access)>, mut request: Request, next: Next) -> Response {
    match api.identify(&access, &request) {
        Ok(client) => {
            request.extensions_mut().insert(client);
            next.run(request).await
        }
        Err(refusal) => refused(&refusal),
    }
}

fn described(name: &str) -> Value {
    let owner = name.split('/').next().unwrap_or_default();
    // When a model was made is not known; the key is not optional.
    json!({"id": name, "object": "model", "created": 0, "owned_by": owner})
}

async fn models(State(api): State<Api>) -> Response {
    let data: Vec<Value> = api.open_models().iter().map(|name| described(name)).collect();
    answer(StatusCode::OK, &json!({"object": "list", "data": data}))
}

async fn model(State(api): State<Api>, Path(name): Path<String>) -> Response {
    if api.open_models().contains(&name) {
        return answer(StatusCode::OK, &described(&name));
    }
    let message = format!("no model {name:?} is open; `GET /v1/models` lists those that are");
    failure(StatusCode::NOT_FOUND, &message, None, "model_not_found")
}

async fn embeddings(
    State(api): State<Api>,
    Extension(client): Extension<Arc<Client>>,
    body: Bytes,
) -> Response {
    let request = match EmbeddingsRequest::read(&body) {
        Ok(request) => request,
        Err(fault) => return faulty(&fault),
    };
    let format = request.encoding_format;
    match embedded(&api, client, request).await {
        Ok(response) => answer(StatusCode::OK, &list(&response, format)),
        Err(refusal) => refused(&refusal),
    }
}

/// The answer to a request that asks for what is not to be had.
fn faulty(fault: &Fault) -> Response {
    failure(StatusCode::BAD_REQUEST, &fault.message, fault.param.as_deref(), fault.code)
}

async fn embedded(
    api: &Api,
    client: Arc<Client>,
    request: EmbeddingsRequest,
) -> Result<pb::EmbedResponse, Refusal> {
    let EmbeddingsRequest { model, input, dimensions, .. } = request;
    let texts = match input {
        Input::Text(text) => vec![text],
        Input::Texts(texts) => texts,
        Input::Tokens(ids) => vec![api.text_of(&model, "input", &ids)?],
        Input::TokenLists(lists) => {
            let text =
                |(index, ids): (usize, &Vec<u32>)| api.text_of(&model, &format!("input[{index}]"), ids);
            lists.iter().enumerate().map(text).collect::<Result<_, _>>()?
        }
    };
    let settings = pb::EmbedSettings {
        model: Some(pb::ModelRef { name: model, revision: String::new() }),
        // OpenAI's vectors have length 1, and a text over the limit is an error there.
        normalize: Some(true),
        truncation: pb::Truncation::Reject.into(),
        priority: pb::Priority::Interactive.into(),
        dimensions,
        ..Default::default()
    };
    api.embed_all(client, pb::EmbedRequest { settings: Some(settings), texts }).await
}

/// The answer in OpenAI's shape.
fn list(response: &pb::EmbedResponse, format: EncodingFormat) -> Value {
    let row = |(index, bytes): (usize, &[u8])| {
        let embedding = match format {
            EncodingFormat::Base64 => json!(STANDARD.encode(bytes)),
            EncodingFormat::Float => {
                let words = bytes.chunks_exact(4);
                json!(words.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect::<Vec<f32>>())
            }
        };
        json!({"object": "embedding", "index": index, "embedding": embedding})
    };
    let rows = response.vectors.chunks_exact(response.dimensions as usize * 4);
    let tokens = response.usage.as_ref().map_or(0, |usage| usage.prompt_tokens);
    json!({
        "object": "list",
        "data": rows.enumerate().map(row).collect::<Vec<Value>>(),
        "model": response.model_name,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    })
}

/// The HTTP status for a canonical gRPC code, as in google.rpc's `code.proto`.
fn http_status(code: i32) -> StatusCode {
    match code {
        3 | 9 | 11 => StatusCode::BAD_REQUEST,
        4 => StatusCode::GATEWAY_TIMEOUT,
        5 => StatusCode::NOT_FOUND,
        8 => StatusCode::TOO_MANY_REQUESTS,
        16 => StatusCode::UNAUTHORIZED,
        14 => StatusCode::SERVICE_UNAVAILABLE,
        7 => StatusCode::FORBIDDEN,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The canonical gRPC code for an HTTP status, as in google.rpc's `code.proto`; where several have
/// one status, the one that the server gives most.
fn grpc_code(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => "UNAUTHENTICATED",
        StatusCode::NOT_FOUND => "NOT_FOUND",
        StatusCode::METHOD_NOT_ALLOWED => "UNIMPLEMENTED",
        StatusCode::PAYLOAD_TOO_LARGE | StatusCode::TOO_MANY_REQUESTS => "RESOURCE_EXHAUSTED",
        StatusCode::SERVICE_UNAVAILABLE => "UNAVAILABLE",
        StatusCode::GATEWAY_TIMEOUT | StatusCode::REQUEST_TIMEOUT => "DEADLINE_EXCEEDED",
        status if status.is_success() => "OK",
        status if status.is_client_error() => "INVALID_ARGUMENT",
        _ => "INTERNAL",
    }
}

/// A field of the contract by its name here.
fn param(field: &str) -> String {
    let mut name = field.to_owned();
    for group in ["settings.", "sampling.", "limits.", "prompt.chat."] {
        name = name.strip_prefix(group).map_or(name.clone(), str::to_owned);
    }
    let renamed =
        [("texts", "input"), ("max_new_tokens", "max_tokens"), ("constraint.json_schema", "response_format")];
    renamed.into_iter().fold(name, |name, (ours, theirs)| name.replace(ours, theirs))
}

/// The status and message of a refusal.
fn refusal_body(refusal: &Refusal) -> (StatusCode, Value) {
    let error = &refusal.error;
    let param = refusal.field.as_deref().map(param);
    let code = match error.reason.as_str() {
        "UNKNOWN_MODEL" => "model_not_found".to_owned(),
        "OVERLOADED" | "QUOTA_EXCEEDED" => "rate_limit_exceeded".to_owned(),
        "UNAUTHENTICATED" => "invalid_api_key".to_owned(),
        reason => reason.to_lowercase(),
    };
    failed(http_status(error.code), &error.message, param.as_deref(), &code)
}

fn refused(refusal: &Refusal) -> Response {
    let (status, body) = refusal_body(refusal);
    let error = &refusal.error;
    let mut response = answer(status, &body);
    if error.retry_after_ms > 0 {
        let headers = response.headers_mut();
        headers.insert(header::RETRY_AFTER, HeaderValue::from(error.retry_after_ms.div_ceil(1_000)));
        // What OpenAI's own clients look at first.
        headers.insert("retry-after-ms", HeaderValue::from(error.retry_after_ms));
    }
    response
}

fn failure(status: StatusCode, message: &str, param: Option<&str>, code: &str) -> Response {
    let (status, body) = failed(status, message, param, code);
    answer(status, &body)
}

fn failed(status: StatusCode, message: &str, param: Option<&str>, code: &str) -> (StatusCode, Value) {
    let kind = match status {
        StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
        StatusCode::FORBIDDEN => "permission_error",
        StatusCode::UNAUTHORIZED => "authentication_error",
        status if status.is_server_error() => "server_error",
        _ => "invalid_request_error",
    };
    (status, json!({"error": {"message": message, "type": kind, "param": param, "code": code}}))
}

fn answer(status: StatusCode, body: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_read_in_every_form() {
        fn check(input: Value, expected: &str) {
            let request = json!({"model": "m", "input": input, "user": "u", "dimensions": null});
            let request = EmbeddingsRequest::read(request.to_string().as_bytes()).unwrap();
            assert_eq!(format!("{:?}", request.input), expected);
            assert_eq!(request.encoding_format, EncodingFormat::Float);
        }
        check(json!("a"), "Text(\"a\")");
        check(json!(["a", "b"]), "Texts([\"a\", \"b\"])");
        check(json!([1, 2]), "Tokens([1, 2])");
        check(json!([[1], [2, 3]]), "TokenLists([[1], [2, 3]])");
        for (bad, param) in [
            (json!({"model": "m"}), "input"),
            (json!({"model": "m", "input": [1.5]}), "input"),
            (json!({"input": "a"}), "model"),
            (json!({"model": "m", "input": "a", "encoding_format": "int8"}), "encoding_format"),
            (json!({"model": "m", "input": "a", "input_type": "query"}), "input_type"),
        ] {
            let fault = EmbeddingsRequest::read(bad.to_string().as_bytes()).unwrap_err();
            assert_eq!(fault.param.as_deref(), Some(param));
        }
    }

    #[test]
    fn calls_are_counted_under_closed_labels() {
        assert_eq!(method_label("POST", "/v1/embeddings"), "POST /v1/embeddings");
        assert_eq!(method_label("GET", "/v1/embeddings"), "other");
        assert_eq!(method_label("GET", "/v1/models/a/b"), "GET /v1/models/NAME");
        assert_eq!(method_label("GET", "/v1/modelsx"), "other");
        for (code, name) in [(3, "INVALID_ARGUMENT"), (4, "DEADLINE_EXCEEDED"), (5, "NOT_FOUND")] {
            assert_eq!(grpc_code(http_status(code)), name);
        }
        for (code, name) in
            [(8, "RESOURCE_EXHAUSTED"), (13, "INTERNAL"), (14, "UNAVAILABLE"), (16, "UNAUTHENTICATED")]
        {
            assert_eq!(grpc_code(http_status(code)), name);
        }
        assert_eq!(grpc_code(StatusCode::OK), "OK");
    }

    #[test]
    fn fields_have_openais_names() {
        let check = |field: &str, expected: &str| assert_eq!(param(field), expected);
        check("texts[1]", "input[1]");
        check("settings.dimensions", "dimensions");
        check("settings.sampling.top_p", "top_p");
        check("settings.limits.max_new_tokens", "max_tokens");
        check("settings.constraint.json_schema", "response_format");
        check("prompt.chat.messages[0].content", "messages[0].content");
    }

    #[test]
    fn codes_become_statuses() {
        let codes = [3, 4, 5, 8, 9, 11, 13, 14, 16].map(|code| http_status(code).as_u16());
        assert_eq!(codes, [400, 504, 404, 429, 400, 400, 500, 503, 401]);
    }
}
