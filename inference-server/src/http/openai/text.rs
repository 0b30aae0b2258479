//! `POST /v1/chat/completions` and `POST /v1/completions`.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::stream::{self, Stream, StreamExt};
use observatory_proto::inference::v1 as pb;
use pb::prompt::Kind;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use uuid::Uuid;

use super::asked::{ChatRequest, Common, CompletionRequest, Form};
use super::{Input, answer, failure, faulty, refused};
use crate::generation::sampler::Sampled;
use crate::generation::sequence::{Event, FinishReason};
use crate::grpc::Api;
use crate::grpc::local::{LocalText, Refusal, TokenNames};
use crate::service::access::Client;

/// Texts of one request at most, prompts times `n`.
const MOST_CHOICES: usize = 128;
/// Events that wait for a caller who reads slowly.
const WAITING_LINES: usize = 16;

/// Everything about an answer but its texts.
struct Head {
    form: Form,
    id: String,
    created: u64,
    model: String,
    logprobs: bool,
    stream: bool,
    include_usage: bool,
    /// Choices for each prompt, one after the other.
    n: usize,
}

impl Head {
    /// Whether a choice is the first of its prompt, whose tokens count once.
    fn counts(&self, index: usize) -> bool {
        index.is_multiple_of(self.n)
    }
}

pub(super) async fn chat(
    State(api): State<Api>,
    Extension(client): Extension<Arc<Client>>,
    body: Bytes,
) -> Response {
    let request = match ChatRequest::read(&body) {
        Ok(request) => request,
        Err(fault) => return faulty(&fault),
    };
    let arguments = request.chat_template_kwargs.into_iter().map(|(name, value)| (name, value.to_string()));
    let chat = pb::Chat { messages: request.messages, template_arguments: arguments.collect() };
    let asked = Asked { form: Form::Chat, prompts: vec![Kind::Chat(chat)], logprobs: request.logprobs };
    write(&api, client, request.common, asked).await
}

pub(super) async fn completions(
    State(api): State<Api>,
    Extension(client): Extension<Arc<Client>>,
    body: Bytes,
) -> Response {
    let request = match CompletionRequest::read(&body) {
        Ok(request) => request,
        Err(fault) => return faulty(&fault),
    };
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
    let settings = common.settings(form, logprobs);
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
        include_usage: common.include_usage,
        n,
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

fn finish_reason(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop | FinishReason::StopSequence => "stop",
        FinishReason::Length => "length",
    }
}

async fn whole(head: &Head, texts: Vec<LocalText>) -> Response {
    let mut usage = Usage::default();
    let mut choices = Vec::new();
    for (index, mut text) in texts.into_iter().enumerate() {
        let counts = head.counts(index);
        usage.prompt += if counts { text.prompt_tokens() } else { 0 };
        let (mut content, mut sampled) = (String::new(), Vec::new());
        let reason = loop {
            match text.next().await {
                Ok(Event::Started { cached }) => usage.cached += if counts { cached } else { 0 },
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
    fn change(&self, index: usize, delta: &Value, reason: Option<FinishReason>, logprobs: &Value) -> Value {
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
        let one = |(id, logprob): (u32, f32)| json!({"token": token(names, id), "logprob": logprob, "bytes": names.bytes(id)});
        if self.form == Form::Chat {
            let entry = |sampled: &Sampled| {
                let mut entry = one((sampled.id, sampled.logprob));
                entry["top_logprobs"] = sampled.top.iter().copied().map(one).collect();
                entry
            };
            return json!({"content": sampled.iter().map(entry).collect::<Vec<Value>>()});
        }
        let top = |sampled: &Sampled| {
            let pairs = sampled.top.iter().map(|(id, logprob)| (token(names, *id), json!(logprob)));
            Value::Object(pairs.collect())
        };
        json!({
            "tokens": sampled.iter().map(|sampled| token(names, sampled.id)).collect::<Vec<_>>(),
            "token_logprobs": sampled.iter().map(|sampled| sampled.logprob).collect::<Vec<_>>(),
            "top_logprobs": sampled.iter().map(top).collect::<Vec<_>>(),
        })
    }
}

/// A token as text; one that is a part of a character as its bytes, as OpenAI's API writes it.
fn token(names: &TokenNames, id: u32) -> String {
    match names.bytes(id).map(String::from_utf8) {
        Some(Ok(text)) => text,
        Some(Err(error)) => {
            let bytes = error.as_bytes().iter().map(|byte| format!("\\x{byte:02x}"));
            format!("bytes:{}", bytes.collect::<String>())
        }
        None => names.text(id),
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
    let counted = texts.iter().enumerate().filter(|(index, _)| head.counts(*index));
    let mut usage = Usage { prompt: counted.map(|(_, text)| text.prompt_tokens()).sum(), ..Usage::default() };
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
                usage.cached += if head.counts(index) { cached } else { 0 };
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
