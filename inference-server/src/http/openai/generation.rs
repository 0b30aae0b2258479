//! `POST /v1/chat/completions` and `POST /v1/completions`.
//!
//! Every choice is a sequence of its own; a stream interleaves their chunks as tokens come.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::stream::{self, Stream, StreamExt};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use uuid::Uuid;

use super::generation_request::{ChatRequest, Common, CompletionRequest, Form};
use super::refusal::{Refusal, failure, respond};
use super::{Input, context_of, counted};
use crate::error::Error;
use crate::generation::Generator;
use crate::generation::sampler::Sampled;
use crate::generation::sequence::{Event, FinishReason};
use crate::registry::loaded::LoadedModel;
use crate::service::Service;
use crate::service::access::Client;
use crate::service::generate::{Generation, PromptInput};

/// Sequences of one request at most: prompts times `n`. OpenAI's API documents 128 as the maximum
/// of `n`.
const MOST_CHOICES: usize = 128;
/// Events in flight to a caller who reads slowly; the engine does not wait for it. Not tuned: as in
/// `grpc::generation`.
const WAITING_LINES: usize = 16;

/// Fields that all chunks of an answer share.
struct Head {
    form: Form,
    id: String,
    created: u64,
    model: Arc<LoadedModel>,
    logprobs: bool,
    stream: bool,
    include_usage: bool,
    /// Choices for each prompt, one after the other.
    n: usize,
}

impl Head {
    /// True for the first choice of a prompt, whose tokens count once.
    fn counts(&self, index: usize) -> bool {
        index.is_multiple_of(self.n)
    }
}

pub(super) async fn chat(
    State(service): State<Service>,
    Extension(client): Extension<Arc<Client>>,
    body: Bytes,
) -> Response {
    let request = match ChatRequest::read(&body) {
        Ok(request) => request,
        Err(fault) => return fault.into_response(),
    };
    let arguments = request.chat_template_kwargs.into_iter().map(|(name, value)| (name, value.to_string()));
    let prompt = PromptInput::Chat { messages: request.messages, arguments: arguments.collect() };
    let asked = Prompts { form: Form::Chat, prompts: vec![prompt], logprobs: request.logprobs };
    generate(&service, client, request.common, asked).await
}

pub(super) async fn completions(
    State(service): State<Service>,
    Extension(client): Extension<Arc<Client>>,
    body: Bytes,
) -> Response {
    let request = match CompletionRequest::read(&body) {
        Ok(request) => request,
        Err(fault) => return fault.into_response(),
    };
    let prompts: Vec<PromptInput> = match request.prompt {
        Input::Text(text) => vec![PromptInput::Text(text)],
        Input::Texts(texts) => texts.into_iter().map(PromptInput::Text).collect(),
        Input::Tokens(ids) => vec![PromptInput::Tokens(ids)],
        Input::TokenLists(lists) => lists.into_iter().map(PromptInput::Tokens).collect(),
    };
    let asked = Prompts { form: Form::Completion, prompts, logprobs: request.logprobs };
    generate(&service, client, request.common, asked).await
}

/// The prompts of a request, in the form that differs between the two paths.
struct Prompts {
    form: Form,
    prompts: Vec<PromptInput>,
    logprobs: Option<u32>,
}

/// Begins every sequence and answers with all of them, or event by event.
async fn generate(service: &Service, client: Arc<Client>, common: Common, asked: Prompts) -> Response {
    let Prompts { form, prompts, logprobs } = asked;
    let n = common.n.unwrap_or(1);
    let choices = prompts.len().saturating_mul(n);
    if choices == 0 || choices > MOST_CHOICES {
        let message = format!("{} prompts and n {n}; allowed are 1 to {MOST_CHOICES} texts", prompts.len());
        return failure(StatusCode::BAD_REQUEST, &message, Some("n"), "invalid_value");
    }
    let settings = common.settings(form, logprobs);
    let mut generations = Vec::with_capacity(choices);
    let prompts = prompts.into_iter().flat_map(|prompt| std::iter::repeat_n(prompt, n));
    for (index, prompt) in prompts.enumerate() {
        let mut settings = settings.clone();
        // Choices of one prompt must differ, and still be reproducible.
        settings.seed = settings.seed.map(|seed| seed.wrapping_add(index as u64));
        let context = context_of(service, Arc::clone(&client));
        // One after the other: the first that is refused refuses all, and dropping the others
        // cancels them.
        match service.generate(&context, settings, prompt, "prompt").await {
            Ok(generation) => generations.push(generation),
            Err(error) => return counted(service)(error).into_response(),
        }
    }
    let Some(first) = generations.first() else { return Refusal::from(Error::Backend).into_response() };
    let model = Arc::clone(&first.sequence.model);
    // OpenAI's prefixes, which some clients tell the two kinds apart by.
    let prefix = if form == Form::Chat { "chatcmpl" } else { "cmpl" };
    let head = Head {
        form,
        id: format!("{prefix}-{}", Uuid::new_v4().simple()),
        created: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()),
        model,
        logprobs: logprobs.is_some(),
        stream: common.stream,
        include_usage: common.include_usage,
        n,
    };
    if head.stream {
        streamed(service.clone(), head, generations)
    } else {
        whole(service, &head, generations).await
    }
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

async fn whole(service: &Service, head: &Head, generations: Vec<Generation>) -> Response {
    let mut usage = Usage::default();
    let mut choices = Vec::new();
    for (index, mut generation) in generations.into_iter().enumerate() {
        let counts = head.counts(index);
        usage.prompt += if counts { generation.sequence.prompt_tokens } else { 0 };
        let (mut content, mut sampled) = (String::new(), Vec::new());
        let reason = loop {
            match generation.next().await {
                Ok(Event::Started { cached }) => usage.cached += if counts { cached } else { 0 },
                Ok(Event::Token { sampled: token, text }) => {
                    content += &text;
                    sampled.push(token);
                }
                Ok(Event::Finished { reason, text, .. }) => {
                    content += &text;
                    break reason;
                }
                Err(error) => return counted(service)(error).into_response(),
            }
        };
        usage.completion += sampled.len();
        let logprobs = if head.logprobs { head.token_logprobs(&sampled) } else { Value::Null };
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
    respond(
        StatusCode::OK,
        &json!({
            "id": head.id, "object": head.object(), "created": head.created, "model": head.model.info.name,
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
            "id": self.id, "object": self.object(), "created": self.created, "model": self.model.info.name,
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

    /// The chunk that an event becomes, if any; its tokens are added to `usage`.
    fn chunk_of(&self, index: usize, event: Event, usage: &mut Usage) -> Option<Value> {
        match event {
            Event::Started { cached } => {
                usage.cached += if self.counts(index) { cached } else { 0 };
                None
            }
            Event::Token { sampled, text } => {
                usage.completion += 1;
                // A token that completes no character says nothing yet.
                if text.is_empty() && !self.logprobs {
                    return None;
                }
                let logprobs = match self.logprobs {
                    true => self.token_logprobs(std::slice::from_ref(&sampled)),
                    false => Value::Null,
                };
                Some(self.change(index, &json!({"content": text}), None, &logprobs))
            }
            Event::Finished { reason, text, .. } => {
                let rest = if text.is_empty() { json!({}) } else { json!({"content": text}) };
                Some(self.change(index, &rest, Some(reason), &Value::Null))
            }
        }
    }

    /// In the form of the path.
    fn token_logprobs(&self, sampled: &[Sampled]) -> Value {
        let Ok(generator) = self.model.generator() else { return Value::Null };
        if self.form == Form::Chat {
            let mut content = Vec::with_capacity(sampled.len());
            for sampled in sampled {
                let mut entry = chat_logprob(generator, sampled.id, sampled.logprob);
                let top = sampled.top.iter().map(|(id, logprob)| chat_logprob(generator, *id, *logprob));
                entry["top_logprobs"] = top.collect();
                content.push(entry);
            }
            return json!({"content": content});
        }
        json!({
            "tokens": sampled.iter().map(|sampled| token(generator, sampled.id)).collect::<Vec<_>>(),
            "token_logprobs": sampled.iter().map(|sampled| sampled.logprob).collect::<Vec<_>>(),
            "top_logprobs": sampled.iter().map(|sampled| top_logprobs(generator, sampled)).collect::<Vec<_>>(),
        })
    }
}

/// A token with its log probability in the form of a chat.
fn chat_logprob(generator: &Generator, id: u32, logprob: f32) -> Value {
    json!({"token": token(generator, id), "logprob": logprob, "bytes": generator.token_bytes(id)})
}

/// The likeliest tokens in the form of a completion.
fn top_logprobs(generator: &Generator, sampled: &Sampled) -> Value {
    let pairs = sampled.top.iter().map(|(id, logprob)| (token(generator, *id), json!(logprob)));
    Value::Object(pairs.collect())
}

/// A token as text; one that is a part of a character as its bytes, as OpenAI's API writes it.
fn token(generator: &Generator, id: u32) -> String {
    match generator.token_bytes(id).map(String::from_utf8) {
        Some(Ok(text)) => text,
        Some(Err(error)) => {
            let bytes = error.as_bytes().iter().map(|byte| format!("\\x{byte:02x}"));
            format!("bytes:{}", bytes.collect::<String>())
        }
        None => generator.token_text(id),
    }
}

/// Server-sent events: the role of each choice, its tokens, and its end.
fn streamed(service: Service, head: Head, generations: Vec<Generation>) -> Response {
    let (sender, lines) = mpsc::channel(WAITING_LINES);
    tokio::spawn(async move {
        tokio::select! {
            () = send_events(&service, &head, generations, &sender) => {}
            // Dropping the generations takes their sequences off the engine.
            () = sender.closed() => {}
        }
    });
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache")];
    let lines = ReceiverStream::new(lines).map(Ok::<String, std::convert::Infallible>);
    (StatusCode::OK, headers, Body::from_stream(lines)).into_response()
}

async fn send_events(
    service: &Service,
    head: &Head,
    generations: Vec<Generation>,
    sender: &mpsc::Sender<String>,
) {
    let mut usage = Usage::default();
    for (index, generation) in generations.iter().enumerate() {
        usage.prompt += if head.counts(index) { generation.sequence.prompt_tokens } else { 0 };
    }
    if head.form == Form::Chat {
        for index in 0..generations.len() {
            // OpenAI's clients expect the role before any text, also of an empty answer.
            let role = json!({"role": "assistant", "content": ""});
            send(sender, &head.change(index, &role, None, &Value::Null)).await;
        }
    }
    let generations = generations.into_iter().enumerate();
    let streams = generations.map(|(index, generation)| Box::pin(events(index, generation)));
    let mut events = stream::select_all(streams);
    // Whichever sequence has a token next: choices of a request take turns on the stream.
    while let Some((index, event)) = events.next().await {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                // The status has gone out with the first event, so the error is an event as well.
                let (_, body) = counted(service)(error).body();
                send(sender, &body).await;
                return;
            }
        };
        let Some(chunk) = head.chunk_of(index, event, &mut usage) else { continue };
        if !send(sender, &chunk).await {
            return;
        }
    }
    if head.include_usage {
        send(sender, &head.chunk(&json!([]), Some(usage))).await;
    }
    // The caller has everything that counts.
    let _ = sender.send("data: [DONE]\n\n".to_owned()).await;
}

/// Sends an event; false once the caller has gone.
async fn send(sender: &mpsc::Sender<String>, value: &Value) -> bool {
    sender.send(format!("data: {value}\n\n")).await.is_ok()
}

/// The events of a choice, up to its end.
fn events(index: usize, generation: Generation) -> impl Stream<Item = (usize, Result<Event, Error>)> {
    stream::unfold(Some(generation), move |generation| async move {
        let mut generation = generation?;
        let event = generation.next().await;
        let over = matches!(event, Ok(Event::Finished { .. }) | Err(_));
        Some(((index, event), (!over).then_some(generation)))
    })
}
