//! `GenerationService`.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use observatory_proto::inference::v1 as pb;
use pb::generation_service_server::GenerationService;
use tokio::sync::mpsc::{self, UnboundedReceiver, unbounded_channel};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};

use super::generation_settings::{self as settings, Asked};
use super::{Api, Call, Caller, failed_item, nanos};
use crate::error::Error;
use crate::generation::Generator;
use crate::generation::constraint::Matcher;
use crate::generation::sampler::{Sampled, Sampler, SamplingParams};
use crate::generation::sequence::{self, Event, FinishReason, Times};
use crate::generation::stop_strings::StopStrings;
use crate::models::Task;
use crate::registry::loaded::LoadedModel;

/// Messages that wait for a caller who reads slowly; further tokens are put together.
const WAITING_MESSAGES: usize = 16;

/// One text on its way.
pub(super) struct Writing {
    events: UnboundedReceiver<Result<Event, Error>>,
    prompt_tokens: usize,
    seed: u64,
    tokenize: Duration,
    logprobs: bool,
    model: Arc<LoadedModel>,
}

/// A whole text.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) text: String,
    pub(super) sampled: Vec<Sampled>,
    pub(super) cached: usize,
    pub(super) end: Option<(FinishReason, Times)>,
}

#[tonic::async_trait]
impl GenerationService for Api {
    type GenerateStream = Pin<Box<dyn Stream<Item = Result<pb::GenerateResponse, Status>> + Send>>;

    async fn generate(
        &self,
        request: Request<pb::GenerateRequest>,
    ) -> Result<Response<Self::GenerateStream>, Status> {
        let caller = Caller::of(&request);
        let begun = self.begin_text(&caller, request.into_inner()).await;
        let (call, writing) = begun.map_err(|error| self.refuse(&error))?;
        let (sender, receiver) = mpsc::channel(WAITING_MESSAGES);
        let api = self.clone();
        tokio::spawn(async move {
            let told = tokio::select! {
                told = writing.tell(&sender) => told,
                // Dropping the call takes the text off the engine.
                () = sender.closed() => return,
                () = call.expired() => Err(Error::ExpiredRunning),
                () = api.0.cut_off.cancelled() => Err(Error::Draining),
            };
            if let Err(error) = told {
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
        let caller = Caller::of(&request);
        self.answer(self.write_batch(&caller, request.into_inner()).await)
    }
}

impl Api {
    /// Lets one text in and puts it in line.
    pub(super) async fn begin_text(
        &self,
        caller: &Caller,
        request: pb::GenerateRequest,
    ) -> Result<(Call, Writing), Error> {
        let settings = request.settings.unwrap_or_default();
        caller.heed(settings.options.as_ref(), "settings.options")?;
        let call = self.enter(caller)?;
        let model = self.resolve(caller, settings.model.clone(), Some(Task::Generation))?;
        let asked = Arc::new(Asked::read(settings, model.generator()?.profile().vocabulary)?);
        let prompt = request.prompt.unwrap_or_default();
        let mut begun = self.begin_texts(&call, &model, &asked, vec![("prompt".to_owned(), prompt)]).await?;
        let writing = begun.pop().ok_or(Error::Backend)??;
        Ok((call, writing))
    }

    /// Puts prompts, each with its path for messages, in line; what is wrong with one does not
    /// touch the others.
    async fn begin_texts(
        &self,
        call: &Call,
        model: &Arc<LoadedModel>,
        asked: &Arc<Asked>,
        prompts: Vec<(String, pb::Prompt)>,
    ) -> Result<Vec<Result<Writing, Error>>, Error> {
        let jobs: Vec<_> = prompts
            .into_iter()
            .enumerate()
            .map(|(index, prompt)| {
                let (api, cancel) = (self.clone(), call.cancel.clone());
                let (model, asked) = (Arc::clone(model), Arc::clone(asked));
                move || {
                    if cancel.is_cancelled() {
                        return Err(Error::Cancelled);
                    }
                    settings::Ready::new(&api, &model, &asked, index, prompt)
                }
            })
            .collect();
        let answers = self.read(call, jobs)?;
        if asked.is_constrained() {
            let mut ready = Vec::new();
            for answer in answers {
                ready.push(answer.await.map_err(|_| Error::Backend)?);
            }
            return self.begin_constrained(call, model, asked, ready).await;
        }
        let mut begun = Vec::new();
        for answer in answers {
            let ready = answer.await.map_err(|_| Error::Backend)?;
            begun.push(ready.and_then(|ready| self.put_in_line(call, model, asked, (ready, None))));
        }
        Ok(begun)
    }

    /// Puts prompts that have been read in line once their constraint has been, which happens on
    /// threads that read no other texts.
    async fn begin_constrained(
        &self,
        call: &Call,
        model: &Arc<LoadedModel>,
        asked: &Arc<Asked>,
        prompts: Vec<Result<settings::Ready, Error>>,
    ) -> Result<Vec<Result<Writing, Error>>, Error> {
        let jobs = prompts.into_iter().map(|ready| {
            let (model, asked) = (Arc::clone(model), Arc::clone(asked));
            move || {
                let ready = ready?;
                let matcher = asked.matcher(&model, ready.max_new_tokens)?;
                Ok((ready, matcher))
            }
        });
        let compilers = &self.0.constraints;
        let answers = compilers.submit(&call.cancel, jobs.collect()).map_err(|full| {
            self.0.admission.overloaded("constraints to read", full.waiting as u64, full.bound as u64)
        })?;
        let mut begun = Vec::new();
        for answer in answers {
            let ready = tokio::select! {
                ready = answer => ready.map_err(|_| Error::Backend)?,
                () = call.expired() => return Err(Error::ExpiredInQueue),
                () = self.0.cut_off.cancelled() => return Err(Error::Draining),
            };
            begun.push(ready.and_then(|ready| self.put_in_line(call, model, asked, ready)));
        }
        Ok(begun)
    }

    fn put_in_line(
        &self,
        call: &Call,
        model: &Arc<LoadedModel>,
        asked: &Asked,
        (ready, matcher): (settings::Ready, Option<(String, Matcher)>),
    ) -> Result<Writing, Error> {
        let generator = model.generator()?;
        let settings::Ready { prompt, seed, max_new_tokens, took: tokenize } = ready;
        let tokens = (prompt.len() + max_new_tokens) as u64;
        call.check_quota()?;
        let permit = generator.admission().reserve(tokens)?;
        call.charge(prompt.len() as u64, &self.0.metrics);
        let (events, receiver) = unbounded_channel();
        let prompt_tokens = prompt.len();
        let sampling = SamplingParams { seed, ..asked.sampling.clone() };
        let eos_ids = if asked.ignore_end { Vec::new() } else { generator.profile().eos_ids.clone() };
        generator.submit(sequence::Request {
            sampler: Sampler::new(&sampling, &prompt),
            prompt,
            detokenizer: generator.detokenizer(),
            stop_strings: StopStrings::new(asked.stop.clone()),
            matcher,
            append_forced: !asked.logprobs,
            eos_ids,
            stop_token_ids: asked.stop_ids.clone(),
            max_new_tokens,
            priority: asked.priority,
            cancel: call.cancel.clone(),
            deadline: Some(call.deadline),
            begin_by: call.begin_by,
            permit,
            events,
        })?;
        let logprobs = asked.logprobs;
        Ok(Writing { events: receiver, prompt_tokens, seed, tokenize, logprobs, model: Arc::clone(model) })
    }

    async fn write_batch(
        &self,
        caller: &Caller,
        request: pb::GenerateBatchRequest,
    ) -> Result<pb::GenerateBatchResponse, Error> {
        let settings = request.settings.unwrap_or_default();
        caller.heed(settings.options.as_ref(), "settings.options")?;
        let call = self.enter(caller)?;
        self.check_count("prompts", request.prompts.len())?;
        let model = self.resolve(caller, settings.model.clone(), Some(Task::Generation))?;
        let asked = Arc::new(Asked::read(settings, model.generator()?.profile().vocabulary)?);
        let path = |(index, prompt): (usize, pb::Prompt)| (format!("prompts[{index}]"), prompt);
        let prompts = request.prompts.into_iter().enumerate().map(path).collect();
        let begun = self.begin_texts(&call, &model, &asked, prompts).await?;
        let texts = tokio::select! {
            texts = join_all(begun.into_iter().map(whole)) => texts,
            () = call.expired() => return Err(Error::ExpiredRunning),
            () = self.0.cut_off.cancelled() => return Err(Error::Draining),
        };
        Ok(self.batch_answer(&model, texts))
    }

    fn batch_answer(
        &self,
        model: &LoadedModel,
        texts: Vec<Result<pb::GeneratedText, Error>>,
    ) -> pb::GenerateBatchResponse {
        self.refused_items(&texts);
        let mut usage = pb::GenerationUsage::default();
        let mut timing = pb::GenerationTiming::default();
        for text in texts.iter().flatten() {
            let (of_text, spent) = (text.usage.unwrap_or_default(), text.timing.unwrap_or_default());
            usage.prompt_tokens += of_text.prompt_tokens;
            usage.cached_prompt_tokens += of_text.cached_prompt_tokens;
            usage.completion_tokens += of_text.completion_tokens;
            timing.queue_ns = timing.queue_ns.max(spent.queue_ns);
            timing.tokenize_ns += spent.tokenize_ns;
            timing.first_token_ns = timing.first_token_ns.max(spent.first_token_ns);
            timing.total_ns = timing.total_ns.max(spent.total_ns);
        }
        let failed =
            |error: Error| pb::GeneratedText { status: Some(failed_item(&error)), ..Default::default() };
        pb::GenerateBatchResponse {
            texts: texts.into_iter().map(|text| text.unwrap_or_else(failed)).collect(),
            usage: Some(usage),
            timing: Some(timing),
            model_name: model.info.name.clone(),
            model_revision: model.info.revision.clone(),
        }
    }
}

/// Waits for the end of a text.
async fn whole(writing: Result<Writing, Error>) -> Result<pb::GeneratedText, Error> {
    let mut writing = writing?;
    let written = writing.rest().await?;
    let (reason, times) = written.end.ok_or(Error::Backend)?;
    let generator = writing.model.generator()?;
    Ok(pb::GeneratedText {
        status: Some(pb::ItemStatus {
            ok: true,
            error: None,
            tokens: writing.prompt_tokens as u32,
            truncated: false,
        }),
        reason: wire_reason(reason).into(),
        usage: Some(writing.usage(written.cached, written.sampled.len())),
        token_ids: written.sampled.iter().map(|sampled| sampled.id).collect(),
        logprobs: written.sampled.iter().filter_map(|sampled| writing.logprobs(generator, sampled)).collect(),
        seed: writing.seed,
        timing: Some(writing.timing(times)),
        text: written.text,
    })
}

impl Writing {
    pub(super) fn prompt_tokens(&self) -> usize {
        self.prompt_tokens
    }

    pub(super) fn model(&self) -> &Arc<LoadedModel> {
        &self.model
    }

    /// The next event, and no more than one end.
    pub(super) async fn next(&mut self) -> Result<Event, Error> {
        // The engine ends every text, unless the server stops first.
        self.events.recv().await.unwrap_or(Err(Error::Draining))
    }

    /// Everything up to the end.
    pub(super) async fn rest(&mut self) -> Result<Written, Error> {
        let mut written = Written::default();
        loop {
            match self.next().await? {
                Event::Started { cached } => written.cached = cached,
                Event::Token { sampled, text } => {
                    written.text += &text;
                    written.sampled.push(sampled);
                }
                Event::Finished { reason, text, times } => {
                    written.text += &text;
                    written.end = Some((reason, times));
                    return Ok(written);
                }
            }
        }
    }

    fn usage(&self, cached: usize, completion: usize) -> pb::GenerationUsage {
        pb::GenerationUsage {
            prompt_tokens: self.prompt_tokens as u32,
            cached_prompt_tokens: cached as u32,
            completion_tokens: completion as u32,
        }
    }

    fn timing(&self, times: Times) -> pb::GenerationTiming {
        pb::GenerationTiming {
            queue_ns: nanos(times.queued),
            tokenize_ns: nanos(self.tokenize),
            first_token_ns: nanos(times.first_token),
            total_ns: nanos(times.total),
        }
    }

    /// Sends every event; tokens that came together go out together.
    async fn tell(
        mut self,
        sender: &mpsc::Sender<Result<pb::GenerateResponse, Status>>,
    ) -> Result<(), Error> {
        let generator_of = Arc::clone(&self.model);
        let generator = generator_of.generator()?;
        let (mut cached, mut completion) = (0, 0);
        let mut delta = pb::GenerationDelta::default();
        loop {
            let mut next = Some(self.next().await?);
            let mut end = None;
            while let Some(event) = next {
                match event {
                    Event::Started { cached: found } => {
                        cached = found;
                        let started = self.started(found);
                        if sender
                            .send(Ok(wire(pb::generate_response::Event::Started(started))))
                            .await
                            .is_err()
                        {
                            return Ok(());
                        }
                    }
                    Event::Token { sampled, text } => {
                        completion += 1;
                        delta.text += &text;
                        delta.token_ids.push(sampled.id);
                        delta.logprobs.extend(self.logprobs(generator, &sampled));
                    }
                    Event::Finished { reason, text, times } => {
                        delta.text += &text;
                        end = Some((reason, times));
                        break;
                    }
                }
                next = self.events.try_recv().ok().transpose()?;
            }
            if !delta.token_ids.is_empty() || !delta.text.is_empty() {
                let delta = std::mem::take(&mut delta);
                if sender.send(Ok(wire(pb::generate_response::Event::Delta(delta)))).await.is_err() {
                    return Ok(());
                }
            }
            if let Some((reason, times)) = end {
                let finished = pb::GenerationFinished {
                    reason: wire_reason(reason).into(),
                    usage: Some(self.usage(cached, completion)),
                    timing: Some(self.timing(times)),
                };
                let _ = sender.send(Ok(wire(pb::generate_response::Event::Finished(finished)))).await;
                return Ok(());
            }
        }
    }

    /// `None` where none were asked for.
    fn logprobs(&self, generator: &Generator, sampled: &Sampled) -> Option<pb::TokenLogprobs> {
        let one = |(id, logprob): &(u32, f32)| pb::TokenLogprob {
            token_id: *id,
            logprob: *logprob,
            text: generator.token_text(*id),
        };
        self.logprobs.then(|| pb::TokenLogprobs {
            logprob: sampled.logprob,
            likeliest: sampled.top.iter().map(one).collect(),
        })
    }

    fn started(&self, cached: usize) -> pb::GenerationStarted {
        pb::GenerationStarted {
            prompt_tokens: self.prompt_tokens as u32,
            cached_prompt_tokens: cached as u32,
            model_name: self.model.info.name.clone(),
            model_revision: self.model.info.revision.clone(),
            seed: self.seed,
        }
    }
}

fn wire(event: pb::generate_response::Event) -> pb::GenerateResponse {
    pb::GenerateResponse { event: Some(event) }
}

fn wire_reason(reason: FinishReason) -> pb::FinishReason {
    match reason {
        FinishReason::Stop => pb::FinishReason::Stop,
        FinishReason::StopSequence => pb::FinishReason::StopSequence,
        FinishReason::Length => pb::FinishReason::Length,
    }
}
