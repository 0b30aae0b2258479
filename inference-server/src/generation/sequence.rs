//! One sequence: a prompt and what has been generated after it.
//!
//! A [`Request`] comes in, [`Event`]s go out. In between, a [`Sequence`] knows its tokens, its
//! block table and its [`State`]; which forward passes it takes part in is the engine's business.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokenizers::Tokenizer;
use tokio::sync::mpsc::UnboundedSender;
use tokio_util::sync::CancellationToken;

use super::constrained_sampling::{ConstrainedSampler, SampleRequest, SampledTokens};
use super::constraint::{ConstraintError, Matcher};
use super::detokenizer::Detokenizer;
use super::kv_blocks::{BLOCK_TOKENS, BlockId, PrefixHash};
use super::sampler::{Sampled, Sampler};
use super::stop_strings::StopStrings;
use crate::error::Error;
use crate::scheduler::admission::TokenPermit;
use crate::scheduler::batcher::Priority;

/// A request to generate one sequence.
pub struct Request {
    /// Token ids of the prompt, at least one.
    pub prompt: Vec<u32>,
    /// Samples the tokens.
    pub sampler: Sampler,
    /// Turns the tokens into text.
    pub detokenizer: Detokenizer<Arc<Tokenizer>>,
    /// Strings that end the sequence and are not part of its text.
    pub stop_strings: StopStrings,
    /// Constraint on the text, with the path of the field it came in.
    pub matcher: Option<(String, Matcher)>,
    /// True if forced tokens are appended without a forward pass; they have no log probabilities
    /// then.
    pub append_forced: bool,
    /// End-of-sequence tokens of the model.
    pub eos_ids: Vec<u32>,
    /// Further tokens that end the sequence.
    pub stop_token_ids: Vec<u32>,
    /// Maximum number of generated tokens, at least one.
    pub max_new_tokens: usize,
    /// Class in which it waits for admission.
    pub priority: Priority,
    /// Cancelled when the caller goes away.
    pub cancel: CancellationToken,
    /// Deadline for the whole text.
    pub deadline: Option<Instant>,
    /// Deadline for the first forward pass.
    pub begin_by: Option<Instant>,
    /// Reserved tokens, released when the sequence ends for any reason.
    pub permit: TokenPermit,
    /// Receiver of events; a closed channel counts as cancellation. Unbounded, but limited by
    /// `max_new_tokens`.
    pub events: UnboundedSender<Result<Event, Error>>,
}

/// Reason why a sequence ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// The model generated an end-of-sequence token, or the constraint is complete.
    Stop,
    /// A stop string or stop token was generated.
    StopSequence,
    /// The maximum number of tokens was generated.
    Length,
}

/// Event of a sequence. In order: one start, tokens, one end.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The first forward pass begins.
    Started {
        /// Tokens of the prompt found in the prefix cache.
        cached: usize,
    },
    /// A token was generated.
    Token {
        /// The token and its log probability.
        sampled: Sampled,
        /// Text it completes; empty if later tokens may still change it.
        text: String,
    },
    /// The sequence ended.
    Finished {
        /// Reason of the end.
        reason: FinishReason,
        /// Text that was held back until now.
        text: String,
        /// Times of the sequence.
        times: Times,
    },
}

/// Times of a sequence, measured from its submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Times {
    /// To the first forward pass.
    pub queued: Duration,
    /// To the first token.
    pub first_token: Duration,
    /// To the end.
    pub total: Duration,
}

/// State of a sequence by its forward passes; whether it is admitted is known to the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No forward pass yet.
    Waiting,
    /// Takes part in forward passes.
    Running,
    /// Gave up its KV blocks and is prefilled again later.
    Preempted,
    /// Its last event has been sent.
    Finished,
}

/// A request and what has been generated for it.
pub(super) struct Sequence {
    pub(super) request: Request,
    pub(super) id: u64,
    /// Prompt and generated tokens.
    pub(super) tokens: Vec<u32>,
    /// Number of tokens whose keys and values are in the KV cache.
    pub(super) computed: usize,
    /// Block table.
    pub(super) blocks: Vec<BlockId>,
    /// Hashes of the full blocks of `tokens`, as far as they were asked for.
    hashes: Vec<PrefixHash>,
    /// True if generated tokens may not share KV blocks with the same tokens in a prompt.
    prefill_kv_differs: bool,
    /// Number of tokens appended last: a sampled one and the forced ones behind it. They go through
    /// one decode step together.
    last_tokens: usize,
    /// Samples the tokens under a constraint; `None` if there is none.
    constrained: Option<Arc<Mutex<ConstrainedSampler>>>,
    /// Path of the field the constraint came in.
    constraint_field: String,
    /// Forced tokens at the beginning, and whether the text is complete with each.
    forced_prefix: Vec<(u32, bool)>,
    /// True if its next tokens are being sampled on another thread.
    pub(super) awaits_tokens: bool,
    /// True if its constraint has been cheap so far.
    is_fast: bool,
    submitted: Instant,
    times: Times,
    state: State,
}

impl Sequence {
    /// Creates a waiting sequence. `prefill_kv_differs` is that of the model.
    pub(super) fn new(id: u64, mut request: Request, prefill_kv_differs: bool) -> Self {
        let (field, mut matcher) = request.matcher.take().unzip();
        let forced_prefix = matcher.as_mut().map(Matcher::take_forced_prefix).unwrap_or_default();
        let append_forced = request.append_forced;
        let constrained = matcher.map(|matcher| {
            // Forced tokens count for penalties and random numbers as sampled ones do.
            let mut sampler = request.sampler.clone();
            forced_prefix.iter().for_each(|(id, _)| sampler.push(*id));
            Arc::new(Mutex::new(ConstrainedSampler::new(sampler, matcher, append_forced)))
        });
        Self {
            constrained,
            constraint_field: field.unwrap_or_default(),
            forced_prefix,
            awaits_tokens: false,
            is_fast: true,
            id,
            prefill_kv_differs,
            tokens: request.prompt.clone(),
            computed: 0,
            blocks: Vec::new(),
            hashes: Vec::new(),
            last_tokens: 0,
            submitted: Instant::now(),
            times: Times::default(),
            state: State::Waiting,
            request,
        }
    }

    /// Number of tokens whose keys and values are not in the KV cache.
    pub(super) fn uncomputed(&self) -> usize {
        self.tokens.len() - self.computed
    }

    /// Returns true if only the tokens appended last are uncomputed: the next pass is a decode.
    pub(super) fn is_decoding(&self) -> bool {
        (1..=self.last_tokens).contains(&self.uncomputed())
    }

    /// Returns true if tokens of the prompt are uncomputed, or ones generated before a preemption:
    /// the next pass is a prefill.
    pub(super) fn is_prefilling(&self) -> bool {
        !self.awaits_tokens && !self.is_decoding()
    }

    pub(super) fn is_interactive(&self) -> bool {
        self.request.priority == Priority::Interactive
    }

    pub(super) fn is_finished(&self) -> bool {
        self.state == State::Finished
    }

    /// Hash of the block at `index`; `None` if its tokens do not fill it.
    pub(super) fn block_hash(&mut self, index: usize) -> Option<PrefixHash> {
        while self.hashes.len() <= index {
            let start = self.hashes.len() * BLOCK_TOKENS;
            let tokens = self.tokens.get(start..start + BLOCK_TOKENS)?;
            let prompt = self.request.prompt.len().saturating_sub(start).min(BLOCK_TOKENS);
            let generated = if self.prefill_kv_differs { BLOCK_TOKENS - prompt } else { 0 };
            self.hashes.push(PrefixHash::of(self.hashes.last().copied(), tokens, generated));
        }
        Some(self.hashes[index])
    }

    fn has_started(&self) -> bool {
        self.state != State::Waiting
    }

    /// Reason to abort it: its caller left or a deadline passed.
    pub(super) fn abort_reason(&self, now: Instant, retry_after: impl FnOnce() -> Duration) -> Option<Error> {
        if self.request.cancel.is_cancelled() || self.request.events.is_closed() {
            // Before the deadlines: nobody is left to hear which one passed.
            return Some(Error::Cancelled);
        }
        if self.request.deadline.is_some_and(|deadline| now >= deadline) {
            return Some(if self.has_started() { Error::ExpiredRunning } else { Error::ExpiredInQueue });
        }
        let late = self.request.begin_by.is_some_and(|begin_by| now >= begin_by);
        (late && !self.has_started()).then(|| Error::QueueTimeout { retry_after: retry_after() })
    }

    /// Marks it running for its next forward pass. At the first one it sends the start and appends
    /// the forced tokens at the beginning; returns how many.
    pub(super) fn start(&mut self) -> usize {
        if self.state != State::Waiting {
            // No second start: the caller has had its first tokens.
            if self.state == State::Preempted {
                self.state = State::Running;
            }
            return 0;
        }
        self.state = State::Running;
        self.times.queued = self.submitted.elapsed();
        self.send(Event::Started { cached: self.computed });
        // Appended here and not at submission, so that the start is the first event.
        for (id, complete) in std::mem::take(&mut self.forced_prefix) {
            if self.is_finished() {
                break;
            }
            self.append(Sampled { id, logprob: 0.0, top: Vec::new() }, complete);
            self.last_tokens += 1;
        }
        self.last_tokens
    }

    /// Records that its KV blocks were taken away: everything is uncomputed again.
    pub(super) fn preempt(&mut self) {
        // The tokens stay, and their hashes: the prefix cache may still have most of the blocks.
        self.computed = 0;
        if self.state == State::Running {
            self.state = State::Preempted;
        }
    }

    /// Number of tokens that may still be generated.
    pub(super) fn remaining_tokens(&self) -> usize {
        self.request.max_new_tokens - (self.tokens.len() - self.request.prompt.len())
    }

    /// Samples the next token of an unconstrained sequence; returns how many tokens were appended.
    ///
    /// # Errors
    /// See [`super::sampler::SampleError`].
    pub(super) fn sample(&mut self, logits: &[f32]) -> anyhow::Result<usize> {
        let sampled = self.request.sampler.sample(logits, None)?;
        self.request.sampler.push(sampled.id);
        self.last_tokens = 1;
        self.append(sampled, false);
        Ok(self.last_tokens)
    }

    /// Returns true if its tokens are sampled under a constraint.
    pub(super) fn is_constrained(&self) -> bool {
        self.constrained.is_some()
    }

    /// Sampler that computes its next mask, and the number of tokens that may still be generated.
    /// `None` if it has no constraint or an expensive one.
    pub(super) fn mask_job(&self) -> Option<(Arc<Mutex<ConstrainedSampler>>, usize)> {
        let constrained = self.constrained.as_ref().filter(|_| self.is_fast)?;
        Some((Arc::clone(constrained), self.remaining_tokens()))
    }

    /// Request to sample its next tokens under its constraint. It takes part in no forward pass
    /// until [`Sequence::append_sampled`].
    pub(super) fn sample_request(&mut self, logits: &[f32]) -> Option<SampleRequest> {
        let sampler = Arc::clone(self.constrained.as_ref()?);
        self.awaits_tokens = true;
        let (id, remaining, is_fast) = (self.id, self.remaining_tokens(), self.is_fast);
        Some(SampleRequest { id, sampler, logits: logits.to_vec(), remaining, is_fast })
    }

    /// Appends tokens that were sampled under its constraint; returns how many.
    pub(super) fn append_sampled(&mut self, sampled: SampledTokens) -> usize {
        self.awaits_tokens = false;
        self.is_fast = sampled.is_fast;
        self.last_tokens = 0;
        for (sampled, complete) in sampled.tokens {
            if self.is_finished() {
                break;
            }
            self.append(sampled, complete);
            self.last_tokens += 1;
        }
        self.last_tokens
    }

    /// Ends it with an error of its constraint.
    pub(super) fn fail_constraint(&mut self, cause: &ConstraintError) {
        let field = std::mem::take(&mut self.constraint_field);
        self.fail(Error::BadConstraint { field, cause: cause.to_string() });
    }

    /// Appends a token, `complete` if the constraint allows nothing after it, and ends the sequence
    /// if it is the last one.
    fn append(&mut self, sampled: Sampled, complete: bool) {
        let id = sampled.id;
        self.tokens.push(id);
        // Zero stands for not yet: no token comes within a nanosecond of submission.
        if self.times.first_token.is_zero() {
            self.times.first_token = self.submitted.elapsed();
        }
        let (mut text, mut reason) = (String::new(), None);
        // Tokens that end the sequence add no text.
        if self.request.eos_ids.contains(&id) {
            reason = Some(FinishReason::Stop);
        } else if self.request.stop_token_ids.contains(&id) {
            reason = Some(FinishReason::StopSequence);
        } else {
            let piece = self.request.detokenizer.push(id).unwrap_or_default();
            let emitted = self.request.stop_strings.push(&piece);
            text = emitted.text;
            // The detokenizer may hold back more, but nothing follows a stop string.
            if emitted.stopped {
                self.send(Event::Token { sampled, text });
                return self.finish(FinishReason::StopSequence, String::new());
            }
        }
        // A token that ends the text by itself says why more precisely than a limit reached with
        // it.
        if complete {
            reason = reason.or(Some(FinishReason::Stop));
        }
        if self.remaining_tokens() == 0 {
            reason = reason.or(Some(FinishReason::Length));
        }
        self.send(Event::Token { sampled, text });
        if let Some(reason) = reason {
            self.flush_and_finish(reason);
        }
    }

    /// Ends it with the text that detokenizer and stop strings still hold back, unless that text
    /// completes a stop string.
    fn flush_and_finish(&mut self, reason: FinishReason) {
        let rest = self.request.detokenizer.finish();
        let emitted = self.request.stop_strings.push(&rest);
        if emitted.stopped {
            return self.finish(FinishReason::StopSequence, emitted.text);
        }
        let rest = self.request.stop_strings.finish();
        self.finish(reason, emitted.text + &rest);
    }

    fn finish(&mut self, reason: FinishReason, text: String) {
        self.times.total = self.submitted.elapsed();
        self.send(Event::Finished { reason, text, times: self.times });
        self.state = State::Finished;
    }

    /// Ends it with an error.
    pub(super) fn fail(&mut self, error: Error) {
        // A caller who left hears nothing.
        let _ = self.request.events.send(Err(error));
        self.state = State::Finished;
    }

    fn send(&self, event: Event) {
        // A caller who left is noticed before the next step.
        let _ = self.request.events.send(Ok(event));
    }
}
