//! `POST /v1/chat/completions` and `POST /v1/completions`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::stream::{self, Stream, StreamExt};
use observatory_proto::inference::v1 as pb;
use pb::prompt::Kind;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use uuid::Uuid;

use super::{Input, answer, failure, read_body, refused};
use crate::access::Client;
use crate::generation::sampler::Sampled;
use crate::generation::sequence::{Event, Reason};
use crate::grpc::Api;
use crate::grpc::local::{LocalText, Refusal, TokenNames};

/// Texts of one request at most, prompts times `n`.
const MOST_CHOICES: usize = 128;
/// Events that wait for a caller who reads slowly.
const WAITING_LINES: usize = 16;

/// What both paths take. Other keys, such as `user`, change nothing.
#[derive(Debug, Deserialize)]
struct Common {
    model: String,
    #[serde(alias = "max_completion_tokens")]
    max_tokens: Option<u32>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    top_k: Option<u32>,
    min_p: Option<f32>,
    repetition_penalty: Option<f32>,
    presence_penalty: Option<f32>,
    frequency_penalty: Option<f32>,
    #[serde(default)]
    logit_bias: Option<BTreeMap<String, f32>>,
    seed: Option<i64>,
    stop: Option<Stop>,
    n: Option<usize>,
    #[serde(default)]
    stream: bool,
    #[serde(default)]
    stream_options: Option<StreamOptions>,
    response_format: Option<ResponseFormat>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Stop {
    One(String),
    Many(Vec<String>),
}

#[derive(Debug, Default, Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum ResponseFormat {
    Text,
    JsonObject,
    JsonSchema { json_schema: NamedSchema },
}

#[derive(Debug, Deserialize)]
struct NamedSchema {
    schema: Value,
}

#[derive(Debug, Deserialize)]
struct ChatRequest {
    #[serde(flatten)]
    common: Common,
    messages: Vec<ChatMessage>,
    #[serde(default)]
    logprobs: bool,
    top_logprobs: Option<u32>,
    #[serde(default)]
    tools: Vec<Value>,
    #[serde(default)]
    chat_template_kwargs: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
struct ChatMessage {
    role: String,
    content: Option<Content>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Part {
    Text { text: String },
}

#[derive(Debug, Deserialize)]
struct CompletionRequest {
    #[serde(flatten)]
    common: Common,
    prompt: Input,
    logprobs: Option<u32>,
    #[serde(default)]
    echo: bool,
}

/// What sets the answers of the two paths apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Chat,
    Completion,
}

/// Everything about an answer but its texts.
struct Head {
    form: Form,
    id: String,
    created: u64,
    model: String,
    logprobs: bool,
    stream: bool,
    include_usage: bool,
}

pub(super) async fn chat(
    State(api): State<Api>,
    Extension(client): Extension<Arc<Client>>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let request: ChatRequest = match read_body(body) {
        Ok(request) => request,
        Err(response) => return *response,
    };
    if !request.tools.is_empty() {
        return failure(StatusCode::BAD_REQUEST, "this server calls no tools", Some("tools"), "unsupported");
    }
    let messages = request.messages.into_iter().map(|message| pb::ChatMessage {
        role: message.role,
        content: message.content.map_or_else(String::new, Content::into_text),
    });
    let arguments = request.chat_template_kwargs.into_iter().map(|(name, value)| (name, value.to_string()));
    let chat = pb::Chat { messages: messages.collect(), template_arguments: arguments.collect() };
    let logprobs = request.logprobs.then(|| request.top_logprobs.unwrap_or(0));
    let asked = Asked { form: Form::Chat, prompts: vec![Kind::Chat(chat)], logprobs };
    write(&api, client, request.common, asked).await
}

pub(super) async fn completions(
    State(api): State<Api>,
    Extension(client): Extension<Arc<Client>>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let request: CompletionRequest = match read_body(body) {
        Ok(request) => request,
        Err(response) => return *response,
    };
    if request.echo {
        return failure(StatusCode::BAD_REQUEST, "echo is not served", Some("echo"), "unsupported");
    }
    let tokens = |ids| Kind::Tokens(pb::TokenSequence { ids });
    let prompts: Vec<Kind> = match request.prompt {
        Input::Text(text) => vec![Kind::Text(text)],
        Input::Texts(texts) => texts.into_iter().map(Kind::Text).collect(),
        Input::Tokens(ids) => vec![tokens(ids)],
        Input::TokenLists(lists) => lists.into_iter().map(tokens).collect(),
    };
    let asked = Asked { form: Form::Completion, prompts, logprobs: request.logprobs };
    write(&api, client, request.common, asked).await
}

impl Content {
    fn into_text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Parts(parts) => parts.into_iter().map(|Part::Text { text }| text).collect(),
        }
    }
}

impl Common {
    fn settings(&self, form: Form, logprobs: Option<u32>) -> Result<pb::GenerationSettings, String> {
        let mut logit_bias = std::collections::HashMap::new();
        for (id, bias) in self.logit_bias.iter().flatten() {
            let id = id.parse().map_err(|_| format!("logit_bias: {id:?} is not a token id"))?;
            logit_bias.insert(id, *bias);
        }
        let sampling = pb::Sampling {
            // What OpenAI's API takes where nothing is asked for.
            temperature: Some(self.temperature.unwrap_or(1.0)),
            top_p: self.top_p,
            top_k: self.top_k,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            seed: self.seed.map(i64::cast_unsigned),
            logit_bias,
        };
        let limits = pb::GenerationLimits {
            // A completion has 16 tokens unless asked otherwise, a chat what the server gives.
            max_new_tokens: self.max_tokens.unwrap_or(if form == Form::Completion { 16 } else { 0 }),
            stop: match &self.stop {
                None => Vec::new(),
                Some(Stop::One(text)) => vec![text.clone()],
                Some(Stop::Many(texts)) => texts.clone(),
            },
            ..Default::default()
        };
        let schema = match &self.response_format {
            None | Some(ResponseFormat::Text) => None,
            Some(ResponseFormat::JsonObject) => Some(json!({"type": "object"}).to_string()),
            Some(ResponseFormat::JsonSchema { json_schema }) => Some(json_schema.schema.to_string()),
        };
        Ok(pb::GenerationSettings {
            model: Some(pb::ModelRef { name: self.model.clone(), revision: String::new() }),
            priority: pb::Priority::Interactive.into(),
            sampling: Some(sampling),
            limits: Some(limits),
            constraint: schema
                .map(|schema| pb::Constraint { kind: Some(pb::constraint::Kind::JsonSchema(schema)) }),
            logprobs,
            ..Default::default()
        })
    }
}

/// What sets one request apart from another beside what both paths take.
struct Asked {
    form: Form,
    prompts: Vec<Kind>,
    logprobs: Option<u32>,
}

/// Begins every text and answers with all of them, or event by event.
async fn write(api: &Api, client: Arc<Client>, common: Common, asked: Asked) -> Response {
    let Asked { form, prompts, logprobs } = asked;
    let n = common.n.unwrap_or(1);
    let choices = prompts.len().saturating_mul(n);
    if choices == 0 || choices > MOST_CHOICES {
        let message = format!("{} prompts and n {n}; allowed are 1 to {MOST_CHOICES} texts", prompts.len());
        return failure(StatusCode::BAD_REQUEST, &message, Some("n"), "invalid_value");
    }
    let settings = match common.settings(form, logprobs) {
        Ok(settings) => settings,
        Err(message) => {
            return failure(StatusCode::BAD_REQUEST, &message, Some("logit_bias"), "invalid_value");
        }
    };
    let mut texts = Vec::new();
    for (index, kind) in prompts.into_iter().flat_map(|kind| std::iter::repeat_n(kind, n)).enumerate() {
        let mut settings = settings.clone();
        if let Some(seed) = settings.sampling.as_mut().and_then(|sampling| sampling.seed.as_mut()) {
            *seed = seed.wrapping_add(index as u64);
        }
        let request =
            pb::GenerateRequest { settings: Some(settings), prompt: Some(pb::Prompt { kind: Some(kind) }) };
        match api.write_text(Arc::clone(&client), request).await {
            Ok(text) => texts.push(text),
            Err(refusal) => return refused(&refusal),
        }
    }
    let prefix = if form == Form::Chat { "chatcmpl" } else { "cmpl" };
    let head = Head {
        form,
        id: format!("{prefix}-{}", Uuid::new_v4().simple()),
        created: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()),
        model: texts.first().map(|text| text.model_name().to_owned()).unwrap_or_default(),
        logprobs: logprobs.is_some(),
        stream: common.stream,
        include_usage: common.stream_options.unwrap_or_default().include_usage,
    };
    if head.stream { streamed(head, texts) } else { whole(&head, texts).await }
}

/// Tokens of an answer.
#[derive(Debug, Clone, Copy, Default)]
struct Usage {
    prompt: usize,
    cached: usize,
    completion: usize,
}

impl Usage {
    fn json(self) -> Value {
        json!({
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
            "prompt_tokens_details": {"cached_tokens": self.cached},
        })
    }
}

fn finish_reason(reason: Reason) -> &'static str {
    match reason {
        Reason::Stop | Reason::StopSequence => "stop",
        Reason::Length => "length",
    }
}

async fn whole(head: &Head, texts: Vec<LocalText>) -> Response {
    let mut usage = Usage::default();
    let mut choices = Vec::new();
    for (index, mut text) in texts.into_iter().enumerate() {
        usage.prompt += text.prompt_tokens();
        let (mut content, mut sampled) = (String::new(), Vec::new());
        let reason = loop {
            match text.next().await {
                Ok(Event::Started { cached }) => usage.cached += cached,
                Ok(Event::Token { sampled: token, text }) => {
                    content += &text;
                    sampled.push(token);
                }
                Ok(Event::Finished { reason, text, .. }) => {
                    content += &text;
                    break reason;
                }
                Err(refusal) => return refused(&refusal),
            }
        };
        usage.completion += sampled.len();
        let logprobs = if head.logprobs { head.logprobs(&text.names(), &sampled) } else { Value::Null };
        choices.push(match head.form {
            Form::Chat => json!({
                "index": index, "message": {"role": "assistant", "content": content, "refusal": null},
                "finish_reason": finish_reason(reason), "logprobs": logprobs,
            }),
            Form::Completion => json!({
                "index": index, "text": content, "finish_reason": finish_reason(reason), "logprobs": logprobs,
            }),
        });
    }
    answer(
        StatusCode::OK,
        &json!({
            "id": head.id, "object": head.object(), "created": head.created, "model": head.model,
            "choices": choices, "usage": usage.json(),
        }),
    )
}

impl Head {
    fn object(&self) -> &'static str {
        match (self.form, self.stream) {
            (Form::Completion, _) => "text_completion",
            (Form::Chat, false) => "chat.completion",
            (Form::Chat, true) => "chat.completion.chunk",
        }
    }

    fn chunk(&self, choices: &Value, usage: Option<Usage>) -> Value {
        let mut chunk = json!({
            "id": self.id, "object": self.object(), "created": self.created, "model": self.model,
            "choices": choices,
        });
        if self.include_usage {
            chunk["usage"] = usage.map_or(Value::Null, Usage::json);
        }
        chunk
    }

    /// The change of one choice.
    fn change(&self, index: usize, delta: &Value, reason: Option<Reason>, logprobs: &Value) -> Value {
        let reason = reason.map(finish_reason);
        let choice = match self.form {
            Form::Chat => {
                json!({"index": index, "delta": delta, "finish_reason": reason, "logprobs": logprobs})
            }
            Form::Completion => {
                let text = delta.get("content").cloned().unwrap_or_else(|| json!(""));
                json!({"index": index, "text": text, "finish_reason": reason, "logprobs": logprobs})
            }
        };
        self.chunk(&json!([choice]), None)
    }

    /// In the form of the path.
    fn logprobs(&self, names: &TokenNames, sampled: &[Sampled]) -> Value {
        let one = |(id, logprob): (u32, f32)| {
            let token = names.text(id);
            json!({"token": token, "logprob": logprob, "bytes": token.as_bytes()})
        };
        if self.form == Form::Chat {
            let token = |sampled: &Sampled| {
                let mut entry = one((sampled.id, sampled.logprob));
                entry["top_logprobs"] = sampled.top.iter().copied().map(one).collect();
                entry
            };
            return json!({"content": sampled.iter().map(token).collect::<Vec<Value>>()});
        }
        let top = |sampled: &Sampled| {
            let pairs = sampled.top.iter().map(|(id, logprob)| (names.text(*id), json!(logprob)));
            Value::Object(pairs.collect())
        };
        json!({
            "tokens": sampled.iter().map(|sampled| names.text(sampled.id)).collect::<Vec<_>>(),
            "token_logprobs": sampled.iter().map(|sampled| sampled.logprob).collect::<Vec<_>>(),
            "top_logprobs": sampled.iter().map(top).collect::<Vec<_>>(),
        })
    }
}

/// Server-sent events: the role of each choice, its tokens, and its end.
fn streamed(head: Head, texts: Vec<LocalText>) -> Response {
    let (sender, lines) = mpsc::channel(WAITING_LINES);
    let names = texts.first().map(LocalText::names);
    tokio::spawn(async move {
        let Some(names) = names else { return };
        tokio::select! {
            () = tell(&head, &names, texts, &sender) => {}
            // Dropping the texts takes them off the engine.
            () = sender.closed() => {}
        }
    });
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache")];
    let lines = ReceiverStream::new(lines).map(Ok::<String, std::convert::Infallible>);
    (StatusCode::OK, headers, Body::from_stream(lines)).into_response()
}

async fn tell(head: &Head, names: &TokenNames, texts: Vec<LocalText>, sender: &mpsc::Sender<String>) {
    let send = async |value: Value| sender.send(format!("data: {value}\n\n")).await.is_ok();
    let mut usage = Usage { prompt: texts.iter().map(LocalText::prompt_tokens).sum(), ..Usage::default() };
    if head.form == Form::Chat {
        for index in 0..texts.len() {
            let begun = json!({"role": "assistant", "content": ""});
            send(head.change(index, &begun, None, &Value::Null)).await;
        }
    }
    let texts = texts.into_iter().enumerate();
    let mut events = stream::select_all(texts.map(|(index, text)| Box::pin(events(index, text))));
    while let Some((index, event)) = events.next().await {
        let sent = match event {
            Ok(Event::Started { cached }) => {
                usage.cached += cached;
                true
            }
            Ok(Event::Token { sampled, text }) => {
                usage.completion += 1;
                let logprobs = if head.logprobs {
                    head.logprobs(names, std::slice::from_ref(&sampled))
                } else {
                    Value::Null
                };
                let silent = text.is_empty() && !head.logprobs;
                silent || send(head.change(index, &json!({"content": text}), None, &logprobs)).await
            }
            Ok(Event::Finished { reason, text, .. }) => {
                let rest = if text.is_empty() { json!({}) } else { json!({"content": text}) };
                send(head.change(index, &rest, Some(reason), &Value::Null)).await
            }
            Err(refusal) => {
                let (_, body) = super::refusal_body(&refusal);
                send(body).await;
                return;
            }
        };
        if !sent {
            return;
        }
    }
    if head.include_usage {
        send(head.chunk(&json!([]), Some(usage))).await;
    }
    // The caller has everything that counts.
    let _ = sender.send("data: [DONE]\n\n".to_owned()).await;
}

/// The events of a choice, up to its end.
fn events(index: usize, text: LocalText) -> impl Stream<Item = (usize, Result<Event, Refusal>)> {
    stream::unfold(Some(text), move |text| async move {
        let mut text = text?;
        let event = text.next().await;
        let over = matches!(event, Ok(Event::Finished { .. }) | Err(_));
        Some(((index, event), (!over).then_some(text)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_in_every_form() {
        let request = json!({
            "model": "m", "messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}],
            "max_completion_tokens": 7, "stop": "x", "logit_bias": {"5": -100}, "user": "u",
            "response_format": {"type": "json_schema", "json_schema": {"name": "s", "strict": true, "schema": {"type": "string"}}}
        });
        let request: ChatRequest = serde_json::from_value(request).unwrap();
        let settings = request.common.settings(Form::Chat, None).unwrap();
        let limits = settings.limits.unwrap();
        assert_eq!((limits.max_new_tokens, limits.stop), (7, vec!["x".to_owned()]));
        let sampling = settings.sampling.unwrap();
        assert_eq!((sampling.temperature, sampling.logit_bias[&5]), (Some(1.0), -100.0));
        let constraint = settings.constraint.unwrap().kind.unwrap();
        assert_eq!(constraint, pb::constraint::Kind::JsonSchema("{\"type\":\"string\"}".to_owned()));
        let content = request.messages.into_iter().next().unwrap().content.unwrap();
        assert_eq!(content.into_text(), "ab");
        let bad = json!({"model": "m", "messages": [], "logit_bias": {"x": 1}});
        let bad: ChatRequest = serde_json::from_value(bad).unwrap();
        assert!(bad.common.settings(Form::Chat, None).unwrap_err().contains("\"x\" is not a token id"));
    }
}
