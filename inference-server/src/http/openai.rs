//! OpenAI's API over HTTP, on top of the same service as gRPC.
//!
//! `POST /v1/embeddings`, `/v1/chat/completions` and `/v1/completions`, and `GET /v1/models`, with
//! the fields, defaults and errors of OpenAI's API reference; `POST /v1/rerank` in the form of Jina
//! and Cohere. A token array to be embedded holds ids of the model's own tokenizer; they are turned
//! into text and read again.

mod fields;
mod generation;
mod generation_request;
mod refusal;
mod rerank;

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use axum::{Extension, Router};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::StreamExt;
use observatory_server::connections::Patience;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::Error;
use crate::models::{Extras, Task};
use crate::registry;
use crate::scheduler::batcher::Priority;
use crate::service::access::{Access, Client};
use crate::service::call::CallContext;
use crate::service::embed::{EmbedPlan, EmbedSettings, Embedding, Prompt};
use crate::service::read::FieldPath;
use crate::service::{ModelRef, Service};
use crate::text::tokenizer::Truncation;
use fields::{Fault, Fields};
use refusal::{Refusal, failure, grpc_code, respond};

/// Body of `POST /v1/embeddings`, without the keys that change nothing.
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

/// Description of an [`Input`] for error messages.
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
pub(crate) fn router(service: Service, access: Access, patience: Patience) -> Router {
    let arrive = middleware::from_fn_with_state((service.clone(), patience), arrive);
    let guard = middleware::from_fn_with_state((service.clone(), access), guard);
    let count = middleware::from_fn_with_state(service.clone(), count);
    Router::new()
        .route("/v1/chat/completions", post(generation::chat))
        .route("/v1/completions", post(generation::completions))
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
        // The layer added last is the outermost: a call is counted, then authenticated, then its
        // body is read.
        .layer(guard)
        .layer(count)
        .with_state(service)
}

const NO_PATH: &str = "no such path; there are /v1/chat/completions, /v1/completions, /v1/embeddings, /v1/rerank and \
    /v1/models";

/// A path that clients of OpenAI's API may try first.
async fn responses() -> Response {
    let message = "the responses API is not served; ask for the same by /v1/chat/completions";
    failure(StatusCode::BAD_REQUEST, message, None, "unsupported")
}

/// Reads the body, which must come in time and be no larger than the server reads.
async fn arrive(
    State((service, Patience { body: whole, part, .. })): State<(Service, Patience)>,
    request: Request,
    next: Next,
) -> Response {
    let limit = service.limits().request_bytes;
    let (parts, body) = request.into_parts();
    let announced =
        parts.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    // Refused by its own word, before a byte of the body is read.
    if announced.is_some_and(|length: u64| length > limit as u64) {
        return too_large(limit);
    }
    let until = tokio::time::Instant::now() + whole;
    // Read piece by piece, so that a body without a length is bounded as well.
    let mut chunks = body.into_data_stream();
    let mut bytes = Vec::new();
    loop {
        let patience = until.min(tokio::time::Instant::now() + part);
        match tokio::time::timeout_at(patience, chunks.next()).await {
            Ok(Some(Ok(chunk))) if bytes.len() + chunk.len() > limit => return too_large(limit),
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

fn too_large(limit: usize) -> Response {
    let message = format!("the request has more than {limit} bytes");
    failure(StatusCode::PAYLOAD_TOO_LARGE, &message, None, "request_too_large")
}

/// Counts the call where those over gRPC are counted.
async fn count(State(service): State<Service>, request: Request, next: Next) -> Response {
    let method = method_label(request.method().as_str(), request.uri().path());
    let mut ongoing = service.metrics().began(method, None);
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

/// Authenticates by bearer token or certificate against the clients file.
async fn guard(
    State((service, access)): State<(Service, Access)>,
    mut request: Request,
    next: Next,
) -> Response {
    match access.caller(&request) {
        Ok(client) => {
            request.extensions_mut().insert(client);
            next.run(request).await
        }
        Err(unknown) => counted(&service)(unknown.into()).into_response(),
    }
}

/// Names of the models that are ready and embed, rank or generate.
fn ready_models(service: &Service) -> Vec<String> {
    let mut names = Vec::new();
    for entry in service.registry().entries() {
        // Token classifiers have no path in OpenAI's API, and a client would take any name listed
        // for usable.
        let served = matches!(entry.task, Some(Task::Embedding | Task::Generation | Task::Ranking));
        if served && matches!(entry.state, registry::ModelState::Ready(_)) {
            names.push(entry.name);
        }
    }
    names
}

fn described(name: &str) -> Value {
    let owner = name.split('/').next().unwrap_or_default();
    // When a model was made is not known; the key is not optional.
    json!({"id": name, "object": "model", "created": 0, "owned_by": owner})
}

async fn models(State(service): State<Service>) -> Response {
    let data: Vec<Value> = ready_models(&service).iter().map(|name| described(name)).collect();
    respond(StatusCode::OK, &json!({"object": "list", "data": data}))
}

async fn model(State(service): State<Service>, Path(name): Path<String>) -> Response {
    if ready_models(&service).contains(&name) {
        return respond(StatusCode::OK, &described(&name));
    }
    let message = format!("model `{name}` not found; see `GET /v1/models`");
    failure(StatusCode::NOT_FOUND, &message, None, "model_not_found")
}

async fn embeddings(
    State(service): State<Service>,
    Extension(client): Extension<Arc<Client>>,
    body: Bytes,
) -> Response {
    let request = match EmbeddingsRequest::read(&body) {
        Ok(request) => request,
        Err(fault) => return fault.into_response(),
    };
    let format = request.encoding_format;
    match embed(&service, client, request).await {
        Ok((plan, embeddings)) => respond(StatusCode::OK, &list(&plan, &embeddings, format)),
        Err(refusal) => refusal.into_response(),
    }
}

/// Embeds the input, all or nothing: OpenAI's API has no place for the error of one text.
async fn embed(
    service: &Service,
    client: Arc<Client>,
    request: EmbeddingsRequest,
) -> Result<(EmbedPlan, Vec<Embedding>), Refusal> {
    let EmbeddingsRequest { model, input, dimensions, .. } = request;
    let texts = match input {
        Input::Text(text) => vec![text],
        Input::Texts(texts) => texts,
        // Ids are OpenAI's way to send a text that the client has tokenized; prompts and limits
        // work on texts.
        Input::Tokens(ids) => vec![service.text_of(&model, "input", &ids).map_err(counted(service))?],
        Input::TokenLists(lists) => {
            let mut texts = Vec::with_capacity(lists.len());
            for (index, ids) in lists.iter().enumerate() {
                let text = service.text_of(&model, &format!("input[{index}]"), ids);
                texts.push(text.map_err(counted(service))?);
            }
            texts
        }
    };
    let settings = EmbedSettings {
        model: ModelRef { name: model, revision: String::new() },
        prompt: Prompt::Default,
        // OpenAI's vectors have length 1, and a text over the limit is an error there.
        normalize: Some(true),
        truncation: Truncation::Reject,
        priority: Priority::Interactive,
        dimensions,
        token_outputs: Extras::default(),
    };
    embed_all(service, client, settings, texts, |index| format!("input[{index}]")).await
}

/// Embeds texts; the first that fails fails all.
async fn embed_all(
    service: &Service,
    client: Arc<Client>,
    settings: EmbedSettings,
    texts: Vec<String>,
    field: FieldPath,
) -> Result<(EmbedPlan, Vec<Embedding>), Refusal> {
    let context = context_of(service, client);
    let answer = service.embed(&context, settings, texts, field).await;
    let (plan, embeddings) = answer.map_err(counted(service))?;
    let mut vectors = Vec::with_capacity(embeddings.items.len());
    for (index, item) in embeddings.items.into_iter().enumerate() {
        vectors.push(item.map_err(|error| Refusal { error, field: Some(field(index)) })?);
    }
    Ok((plan, vectors))
}

/// The context of a call by this client, counted as one.
fn context_of(service: &Service, client: Arc<Client>) -> CallContext {
    service.metrics().called(&client.name);
    let context = CallContext::default();
    context.record_client(client);
    context
}

/// Counts a refusal on its way to the caller.
fn counted(service: &Service) -> impl Fn(Error) -> Refusal {
    |error| {
        service.count_refusal(&error);
        Refusal::from(error)
    }
}

/// The answer in OpenAI's shape.
fn list(plan: &EmbedPlan, embeddings: &[Embedding], format: EncodingFormat) -> Value {
    let mut data = Vec::with_capacity(embeddings.len());
    for (index, Embedding { vector, .. }) in embeddings.iter().enumerate() {
        let embedding = match format {
            EncodingFormat::Float => json!(vector),
            EncodingFormat::Base64 => {
                let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
                json!(STANDARD.encode(bytes))
            }
        };
        data.push(json!({"object": "embedding", "index": index, "embedding": embedding}));
    }
    let tokens: u32 = embeddings.iter().map(|embedding| embedding.tokens).sum();
    json!({
        "object": "list",
        "data": data,
        "model": plan.model.info.name,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    })
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
    }
}
