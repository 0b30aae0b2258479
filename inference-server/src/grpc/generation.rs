//! `GenerationService`.
//!
//! A stream answers with what started, deltas of text, and what finished; tokens that came together
//! go out together, so a slow reader gets fewer and longer deltas.

use std::pin::Pin;
use std::sync::Arc;

use observatory_proto::inference::v1 as pb;
use pb::generation_service_server::GenerationService;
use tokio::sync::mpsc;
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};

use super::settings::{apply_options, model, priority};
use super::{Api, context_of, failed_item, nanos, read_item};
use crate::error::Error;
use crate::generation::Generator;
use crate::generation::chat_template::Message;
use crate::generation::constraint::Constraint;
use crate::generation::sampler::{Sampled, SamplingParams};
use crate::generation::sequence::{Event, FinishReason, Times};
use crate::service::Service;
use crate::service::call::CallContext;
use crate::service::generate::{
    GenerateSettings, Generated, GeneratedBatch, Generation, PromptInput, Sequence,
};

/// Messages in flight to a caller who reads slowly; behind them deltas are merged. Not tuned:
/// enough for a network round trip at 100 tokens a second.
const WAITING_MESSAGES: usize = 16;

type Reply = Result<pb::GenerateResponse, Status>;

#[tonic::async_trait]
impl GenerationService for Api {
    type GenerateStream = Pin<Box<dyn Stream<Item = Reply> + Send>>;

    async fn generate(
        &self,
        request: Request<pb::GenerateRequest>,
    ) -> Result<Response<Self::GenerateStream>, Status> {
        let context = context_of(&request);
        let generation = generate(&self.service, &context, request.into_inner()).await;
        // Refused before the stream begins, so that a caller sees a status and no empty stream.
        let generation = generation.map_err(|error| self.refuse(&error))?;
        let (sender, receiver) = mpsc::channel(WAITING_MESSAGES);
        let api = self.clone();
        // A task of its own: the response must be returned for tonic to poll the stream.
        tokio::spawn(async move {
            // Also ends a call whose caller does not read.
            let interruption = generation.interruption();
            let ended = tokio::select! {
                ended = send_events(generation, &sender) => ended,
                // Dropping the generation takes the sequence off the engine.
                () = sender.closed() => return,
                error = interruption => Err(error),
            };
            // An error after the first message can only be sent as the trailing status of the
            // stream.
            if let Err(error) = ended {
                // A caller who went away hears nothing.
                let _ = sender.send(Err(api.refuse(&error))).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn generate_batch(
        &self,
        request: Request<pb::GenerateBatchRequest>,
    ) -> Result<Response<pb::GenerateBatchResponse>, Status> {
        let context = context_of(&request);
        self.respond(generate_batch(&self.service, &context, request.into_inner()).await)
    }
}

async fn generate(
    service: &Service,
    context: &CallContext,
    request: pb::GenerateRequest,
) -> Result<Generation, Error> {
    let settings = settings(context, request.settings.unwrap_or_default())?;
    service.generate(context, settings, prompt(request.prompt.unwrap_or_default()), "prompt").await
}

async fn generate_batch(
    service: &Service,
    context: &CallContext,
    request: pb::GenerateBatchRequest,
) -> Result<pb::GenerateBatchResponse, Error> {
    let settings = settings(context, request.settings.unwrap_or_default())?;
    let prompts = request.prompts.into_iter().map(prompt).collect();
    batch_response(service.generate_batch(context, settings, prompts).await?)
}

/// Decodes settings and records their options.
fn settings(context: &CallContext, settings: pb::GenerationSettings) -> Result<GenerateSettings, Error> {
    apply_options(context, settings.options.as_ref(), "settings.options")?;
    let limits = settings.limits.unwrap_or_default();
    let asked = settings.sampling.unwrap_or_default();
    Ok(GenerateSettings {
        priority: priority(settings.priority)?,
        model: model(settings.model),
        seed: asked.seed,
        sampling: sampling(asked),
        max_new_tokens: limits.max_new_tokens as usize,
        stop: limits.stop,
        stop_ids: limits.stop_token_ids,
        ignore_end: limits.ignore_end,
        logprobs: settings.logprobs,
        constraint: settings.constraint.and_then(constraint),
    })
}

fn sampling(asked: pb::Sampling) -> SamplingParams {
    let plain = SamplingParams::default();
    let mut logit_bias: Vec<(u32, f32)> = asked.logit_bias.into_iter().collect();
    // A protobuf map has no order; sorted, the first fault that is reported is always the same.
    logit_bias.sort_unstable_by_key(|(id, _)| *id);
    SamplingParams {
        // Greedy unless asked otherwise: figures that can be reproduced are what this server is
        // for.
        temperature: asked.temperature.unwrap_or(0.0),
        top_k: asked.top_k.unwrap_or(plain.top_k),
        top_p: asked.top_p.unwrap_or(plain.top_p),
        min_p: asked.min_p.unwrap_or(plain.min_p),
        repetition_penalty: asked.repetition_penalty.unwrap_or(plain.repetition_penalty),
        presence_penalty: asked.presence_penalty.unwrap_or(plain.presence_penalty),
        frequency_penalty: asked.frequency_penalty.unwrap_or(plain.frequency_penalty),
        logit_bias,
        ..plain
    }
}

fn constraint(constraint: pb::Constraint) -> Option<Constraint> {
    use pb::constraint::Kind;
    Some(match constraint.kind? {
        Kind::JsonSchema(text) => Constraint::JsonSchema(text),
        Kind::Regex(text) => Constraint::Regex(text),
        Kind::Lark(text) => Constraint::Lark(text),
        Kind::Choices(choices) => Constraint::Choices(choices.texts),
    })
}

fn prompt(prompt: pb::Prompt) -> PromptInput {
    use pb::prompt::Kind;
    match prompt.kind {
        Some(Kind::Text(text)) => PromptInput::Text(text),
        Some(Kind::Tokens(tokens)) => PromptInput::Tokens(tokens.ids),
        Some(Kind::Chat(chat)) => PromptInput::Chat {
            messages: chat
                .messages
                .into_iter()
                .map(|message| Message { role: message.role, content: message.content })
                .collect(),
            arguments: chat.template_arguments.into_iter().collect(),
        },
        None => PromptInput::Missing,
    }
}

/// Sends every event of a sequence; returns early if the caller is gone.
async fn send_events(mut generation: Generation, sender: &mpsc::Sender<Reply>) -> Result<(), Error> {
    let model = Arc::clone(&generation.sequence.model);
    let generator = model.generator()?;
    let (mut cached, mut completion) = (0, 0);
    let mut delta = pb::GenerationDelta::default();
    loop {
        // Waits for one event, then takes whatever else is there: a reader who is slow makes deltas
        // longer instead of the queue.
        let mut event = Some(generation.sequence.next().await?);
        let mut end = None;
        // An end is the last event, so nothing can be lost behind the `break` below.
        while let Some(came) = event {
            match came {
                Event::Started { cached: found } => {
                    cached = found;
                    let started = started(&generation.sequence, found);
                    if !send(sender, pb::generate_response::Event::Started(started)).await {
                        return Ok(());
                    }
                }
                Event::Token { sampled, text } => {
                    completion += 1;
                    delta.text += &text;
                    delta.token_ids.push(sampled.id);
                    delta.logprobs.extend(logprobs(&generation.sequence, generator, &sampled));
                }
                Event::Finished { reason, text, times } => {
                    delta.text += &text;
                    end = Some((reason, times));
                    break;
                }
            }
            event = generation.sequence.try_next()?;
        }
        // The end may bring text without a token: what stop strings had held back.
        if !delta.token_ids.is_empty() || !delta.text.is_empty() {
            let delta = std::mem::take(&mut delta);
            if !send(sender, pb::generate_response::Event::Delta(delta)).await {
                return Ok(());
            }
        }
        if let Some((reason, times)) = end {
            let usage = usage(&generation.sequence, cached, completion);
            let finished = finished(&generation.sequence, reason, usage, times);
            send(sender, pb::generate_response::Event::Finished(finished)).await;
            return Ok(());
        }
    }
}

/// Sends an event; false once the caller has gone.
async fn send(sender: &mpsc::Sender<Reply>, event: pb::generate_response::Event) -> bool {
    sender.send(Ok(pb::GenerateResponse { event: Some(event) })).await.is_ok()
}

fn started(sequence: &Sequence, cached: usize) -> pb::GenerationStarted {
    pb::GenerationStarted {
        prompt_tokens: sequence.prompt_tokens as u32,
        cached_prompt_tokens: cached as u32,
        model_name: sequence.model.info.name.clone(),
        model_revision: sequence.model.info.revision.clone(),
        seed: sequence.seed,
    }
}

fn finished(
    sequence: &Sequence,
    reason: FinishReason,
    usage: pb::GenerationUsage,
    times: Times,
) -> pb::GenerationFinished {
    pb::GenerationFinished {
        reason: finish_reason(reason).into(),
        usage: Some(usage),
        timing: Some(generation_timing(sequence, times)),
    }
}

fn batch_response(batch: GeneratedBatch) -> Result<pb::GenerateBatchResponse, Error> {
    let generator = batch.model.generator()?;
    let mut usage = pb::GenerationUsage::default();
    let mut timing = pb::GenerationTiming::default();
    let mut texts = Vec::with_capacity(batch.items.len());
    for item in batch.items {
        let text = match item {
            Ok((sequence, generated)) => generated_text(&sequence, generated, generator),
            Err(error) => pb::GeneratedText { status: Some(failed_item(&error)), ..Default::default() },
        };
        let (of_text, spent) = (text.usage.unwrap_or_default(), text.timing.unwrap_or_default());
        usage.prompt_tokens += of_text.prompt_tokens;
        usage.cached_prompt_tokens += of_text.cached_prompt_tokens;
        usage.completion_tokens += of_text.completion_tokens;
        // Prompts wait and are generated side by side, but are tokenized one after the other.
        timing.queue_ns = timing.queue_ns.max(spent.queue_ns);
        timing.tokenize_ns += spent.tokenize_ns;
        timing.first_token_ns = timing.first_token_ns.max(spent.first_token_ns);
        timing.total_ns = timing.total_ns.max(spent.total_ns);
        texts.push(text);
    }
    Ok(pb::GenerateBatchResponse {
        texts,
        usage: Some(usage),
        timing: Some(timing),
        model_name: batch.model.info.name.clone(),
        model_revision: batch.model.info.revision.clone(),
    })
}

fn generated_text(sequence: &Sequence, generated: Generated, generator: &Generator) -> pb::GeneratedText {
    let Generated { text, sampled, cached, reason, times } = generated;
    pb::GeneratedText {
        status: Some(read_item(sequence.prompt_tokens as u32, false)),
        text,
        reason: finish_reason(reason).into(),
        usage: Some(usage(sequence, cached, sampled.len())),
        token_ids: sampled.iter().map(|sampled| sampled.id).collect(),
        logprobs: sampled.iter().filter_map(|sampled| logprobs(sequence, generator, sampled)).collect(),
        seed: sequence.seed,
        timing: Some(generation_timing(sequence, times)),
    }
}

fn usage(sequence: &Sequence, cached: usize, completion: usize) -> pb::GenerationUsage {
    pb::GenerationUsage {
        prompt_tokens: sequence.prompt_tokens as u32,
        cached_prompt_tokens: cached as u32,
        completion_tokens: completion as u32,
    }
}

fn generation_timing(sequence: &Sequence, times: Times) -> pb::GenerationTiming {
    pb::GenerationTiming {
        queue_ns: nanos(times.queued),
        tokenize_ns: nanos(sequence.tokenize),
        first_token_ns: nanos(times.first_token),
        total_ns: nanos(times.total),
    }
}

/// `None` unless they were asked for.
fn logprobs(sequence: &Sequence, generator: &Generator, sampled: &Sampled) -> Option<pb::TokenLogprobs> {
    // A sampled token always has a log probability; looking up texts is what costs.
    if !sequence.logprobs {
        return None;
    }
    let mut likeliest = Vec::with_capacity(sampled.top.len());
    for (id, logprob) in &sampled.top {
        let text = generator.token_text(*id);
        likeliest.push(pb::TokenLogprob { token_id: *id, logprob: *logprob, text });
    }
    Some(pb::TokenLogprobs { logprob: sampled.logprob, likeliest })
}

fn finish_reason(reason: FinishReason) -> pb::FinishReason {
    match reason {
        FinishReason::Stop => pb::FinishReason::Stop,
        FinishReason::StopSequence => pb::FinishReason::StopSequence,
        FinishReason::Length => pb::FinishReason::Length,
    }
}
