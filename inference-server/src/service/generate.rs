//! Generation: sequences that language models continue.
//!
//! Prompts are read on the tokenizer's threads, constraints compiled on threads of their own, and
//! sequences submitted to the model's engine, whose events a [`Generation`] passes on.

mod settings;

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::oneshot;

use super::Service;
use super::call::{Call, CallContext};
use crate::error::Error;
use crate::generation::constraint::Matcher;
use crate::generation::sampler::{Sampled, Sampler, SamplingParams};
use crate::generation::sequence::{self, Event, FinishReason, Times};
use crate::generation::stop_strings::StopStrings;
use crate::models::Task;
use crate::registry::loaded::LoadedModel;
use settings::{GeneratePlan, ReadPrompt};
pub(crate) use settings::{GenerateSettings, PromptInput};

/// A sequence that is being generated; dropping it takes it off the engine.
pub(crate) struct Sequence {
    events: UnboundedReceiver<Result<Event, Error>>,
    /// The model that generates it.
    pub model: Arc<LoadedModel>,
    /// Tokens of its prompt.
    pub prompt_tokens: usize,
    /// Seed of its sampler.
    pub seed: u64,
    /// Time of reading its prompt.
    pub tokenize: Duration,
    /// True if log probabilities are returned.
    pub logprobs: bool,
}

/// A single sequence together with its call; dropping it cancels both.
pub(crate) struct Generation {
    /// The sequence.
    pub sequence: Sequence,
    call: Call,
}

/// A finished sequence.
#[derive(Debug)]
pub(crate) struct Generated {
    /// The generated text.
    pub text: String,
    /// The generated tokens.
    pub sampled: Vec<Sampled>,
    /// Prompt tokens taken from the prefix cache.
    pub cached: usize,
    /// Why it ended.
    pub reason: FinishReason,
    /// Times of its phases.
    pub times: Times,
}

/// The sequences of a batch, each finished or refused, in the order of their prompts.
pub(crate) struct GeneratedBatch {
    /// The model that generated them.
    pub model: Arc<LoadedModel>,
    /// One for each prompt.
    pub items: Vec<Result<(Sequence, Generated), Error>>,
}

impl Service {
    /// Admits one prompt and submits it to the engine; `field` is its path.
    ///
    /// # Errors
    /// Whatever the request is refused for.
    pub(crate) async fn generate(
        &self,
        context: &CallContext,
        settings: GenerateSettings,
        prompt: PromptInput,
        field: &str,
    ) -> Result<Generation, Error> {
        let call = self.admit(context)?;
        let plan = self.generate_plan(context, settings)?;
        let mut begun = self.begin(&call, &plan, vec![(field.to_owned(), prompt)]).await?;
        let sequence = begun.pop().ok_or(Error::Backend)??;
        Ok(Generation { sequence, call })
    }

    /// Generates all sequences of a request to their end. An invalid prompt fails individually.
    ///
    /// # Errors
    /// If the whole request is refused.
    pub(crate) async fn generate_batch(
        &self,
        context: &CallContext,
        settings: GenerateSettings,
        prompts: Vec<PromptInput>,
    ) -> Result<GeneratedBatch, Error> {
        let call = self.admit(context)?;
        self.check_count("prompts", prompts.len())?;
        let plan = self.generate_plan(context, settings)?;
        let mut placed = Vec::with_capacity(prompts.len());
        for (index, prompt) in prompts.into_iter().enumerate() {
            placed.push((format!("prompts[{index}]"), prompt));
        }
        let begun = self.begin(&call, &plan, placed).await?;
        let items = tokio::select! {
            items = join_all(begun.into_iter().map(to_end)) => items,
            // All or nothing: a batch that is late has no use for half of its texts, which are
            // cancelled with the call.
            error = call.interruption(Error::ExpiredRunning) => return Err(error),
        };
        self.count_refused_items(&items);
        Ok(GeneratedBatch { model: Arc::clone(&plan.model), items })
    }

    fn generate_plan(
        &self,
        context: &CallContext,
        settings: GenerateSettings,
    ) -> Result<Arc<GeneratePlan>, Error> {
        let model = self.resolve(context, &settings.model, Some(Task::Generation))?;
        GeneratePlan::new(settings, model).map(Arc::new)
    }

    /// Reads prompts, each with its path for messages, and submits them to the engine; an invalid
    /// one does not touch the others.
    async fn begin(
        &self,
        call: &Call,
        plan: &Arc<GeneratePlan>,
        prompts: Vec<(String, PromptInput)>,
    ) -> Result<Vec<Result<Sequence, Error>>, Error> {
        let mut jobs = Vec::with_capacity(prompts.len());
        for (index, (field, prompt)) in prompts.into_iter().enumerate() {
            let (service, cancel, plan) = (self.clone(), call.cancel.clone(), Arc::clone(plan));
            // Asked when a thread takes the job: the caller may have left while it waited.
            jobs.push(move || match cancel.is_cancelled() {
                true => Err(Error::Cancelled),
                false => service.read_prompt(&plan, index, &field, prompt),
            });
        }
        let answers = self.read(call, jobs)?;
        if plan.is_constrained() {
            return self.begin_constrained(call, plan, answers).await;
        }
        let mut begun = Vec::with_capacity(answers.len());
        for answer in answers {
            // Submitted one by one: the first prefill need not wait for the last prompt to be read.
            let prompt = answer.await.map_err(|_| Error::Backend)?;
            begun.push(prompt.and_then(|prompt| self.submit(call, plan, prompt, None)));
        }
        Ok(begun)
    }

    /// Compiles the constraint for every prompt and submits what could be compiled.
    async fn begin_constrained(
        &self,
        call: &Call,
        plan: &Arc<GeneratePlan>,
        prompts: Vec<oneshot::Receiver<Result<ReadPrompt, Error>>>,
    ) -> Result<Vec<Result<Sequence, Error>>, Error> {
        let mut jobs = Vec::with_capacity(prompts.len());
        for prompt in prompts {
            let (prompt, plan) = (prompt.await.map_err(|_| Error::Backend)?, Arc::clone(plan));
            jobs.push(move || {
                let prompt = prompt?;
                let matcher = plan.matcher(prompt.max_new_tokens)?;
                Ok((prompt, matcher))
            });
        }
        let answers = self.0.compilers.submit(&call.cancel, jobs).map_err(|full| {
            self.0.admission.overloaded("constraints to read", full.waiting as u64, full.bound as u64)
        })?;
        let mut begun = Vec::with_capacity(answers.len());
        for answer in answers {
            let compiled: Result<(ReadPrompt, Option<(String, Matcher)>), Error> = tokio::select! {
                compiled = answer => compiled.map_err(|_| Error::Backend)?,
                // Compiling cannot be interrupted by the caller's deadline, but waiting for it can.
                error = call.interruption(Error::ExpiredInQueue) => return Err(error),
            };
            begun.push(compiled.and_then(|(prompt, matcher)| self.submit(call, plan, prompt, matcher)));
        }
        Ok(begun)
    }

    fn submit(
        &self,
        call: &Call,
        plan: &GeneratePlan,
        prompt: ReadPrompt,
        matcher: Option<(String, Matcher)>,
    ) -> Result<Sequence, Error> {
        let generator = plan.model.generator()?;
        let ReadPrompt { ids, seed, max_new_tokens, took: tokenize } = prompt;
        let prompt_tokens = ids.len();
        call.check_quota()?;
        // For the longest answer: what is admitted must be able to end. The engine's own admission,
        // as sequences hold KV blocks and encoder batches do not.
        let permit = generator.admission().reserve((prompt_tokens + max_new_tokens) as u64)?;
        call.charge(prompt_tokens as u64, &self.0.metrics);
        let (sender, events) = unbounded_channel();
        // Each prompt of a batch has its own seed, so that equal prompts give different texts.
        let sampling = SamplingParams { seed, ..plan.sampling.clone() };
        let eos_ids = if plan.ignore_end { Vec::new() } else { generator.profile().eos_ids.clone() };
        generator.submit(sequence::Request {
            sampler: Sampler::new(&sampling, &ids),
            prompt: ids,
            detokenizer: generator.detokenizer(),
            stop_strings: StopStrings::new(plan.stop.clone()),
            matcher,
            // Forced tokens skip the forward pass that would give their log probabilities.
            append_forced: !plan.logprobs,
            eos_ids,
            stop_token_ids: plan.stop_ids.clone(),
            max_new_tokens,
            priority: plan.priority,
            cancel: call.cancel.clone(),
            deadline: Some(call.deadline),
            begin_by: call.begin_by,
            permit,
            events: sender,
        })?;
        let (model, logprobs) = (Arc::clone(&plan.model), plan.logprobs);
        Ok(Sequence { events, model, prompt_tokens, seed, tokenize, logprobs })
    }
}

impl Sequence {
    /// The next event, and no more than one end.
    ///
    /// # Errors
    /// Why it broke off.
    pub(crate) async fn next(&mut self) -> Result<Event, Error> {
        // The engine ends every sequence, unless the server stops first.
        self.events.recv().await.unwrap_or(Err(Error::Draining))
    }

    /// An event that is there already.
    ///
    /// # Errors
    /// Why it broke off.
    pub(crate) fn try_next(&mut self) -> Result<Option<Event>, Error> {
        self.events.try_recv().ok().transpose()
    }

    /// Everything up to the end.
    async fn rest(&mut self) -> Result<Generated, Error> {
        let (mut generated, mut sampled, mut cached) = (String::new(), Vec::new(), 0);
        loop {
            match self.next().await? {
                Event::Started { cached: found } => cached = found,
                Event::Token { sampled: token, text } => {
                    generated += &text;
                    sampled.push(token);
                }
                Event::Finished { reason, text, times } => {
                    return Ok(Generated { text: generated + &text, sampled, cached, reason, times });
                }
            }
        }
    }
}

impl Generation {
    /// The next event; after an end or an error there is none.
    ///
    /// # Errors
    /// Why it broke off.
    pub(crate) async fn next(&mut self) -> Result<Event, Error> {
        let interruption = self.interruption();
        tokio::select! {
            event = self.sequence.next() => event,
            error = interruption => Err(error),
        }
    }

    /// Completes when the call must end before the sequence does.
    pub(crate) fn interruption(&self) -> impl Future<Output = Error> + Send + use<> {
        self.call.interruption(Error::ExpiredRunning)
    }
}

async fn to_end(sequence: Result<Sequence, Error>) -> Result<(Sequence, Generated), Error> {
    let mut sequence = sequence?;
    let generated = sequence.rest().await?;
    Ok((sequence, generated))
}
