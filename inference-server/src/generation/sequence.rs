//! One text that is being continued.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokenizers::Tokenizer;
use tokio::sync::mpsc::UnboundedSender;
use tokio_util::sync::CancellationToken;

use super::blocks::{Block, Name};
use super::choosing::{Chooser, Chosen, Wanted};
use super::constraint::{ConstraintError, Matcher};
use super::pieces::Pieces;
use super::sampler::{Sampled, Sampler};
use super::stop::Stops;
use crate::error::Error;
use crate::kernels::paged::BLOCK_TOKENS;
use crate::scheduler::admission::TokenPermit;
use crate::scheduler::batcher::Priority;

/// What is asked for.
pub struct Request {
    /// Tokens of the prompt, at least one.
    pub prompt: Vec<u32>,
    /// Chooses the tokens.
    pub sampler: Sampler,
    /// DeviceArbiter them into text.
    pub pieces: Pieces<Arc<Tokenizer>>,
    /// Texts to stop before.
    pub stops: Stops,
    /// What the text must look like, with the path of the field that says so.
    pub matcher: Option<(String, Matcher)>,
    /// Whether tokens that must come are taken without asking the model, which then says nothing of
    /// their probability.
    pub takes_forced: bool,
    /// Tokens that end texts of the model.
    pub end_ids: Vec<u32>,
    /// Tokens to stop at.
    pub stop_ids: Vec<u32>,
    /// Tokens of the text at most, at least one.
    pub max_new_tokens: usize,
    /// Whose turn comes first.
    pub priority: Priority,
    /// Cancelled when the caller goes away.
    pub cancel: CancellationToken,
    /// When the text is of no use any more.
    pub deadline: Option<Instant>,
    /// When it is of no use any more to begin.
    pub begin_by: Option<Instant>,
    /// Room for its tokens, given back when the text ends in whatever way.
    pub permit: TokenPermit,
    /// Who is told; nobody any more is as good as cancelled. Tokens of one text bound what can wait
    /// here.
    pub events: UnboundedSender<Result<Event, Error>>,
}

/// Why a text ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// By the model, or because what was asked for is complete.
    Stop,
    /// At a stop text or stop token.
    StopSequence,
    /// It has as many tokens as it may.
    Length,
}

/// What happens to a text, in this order: one start, tokens, one end.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Its first forward pass begins.
    Started {
        /// Tokens of the prompt that had been computed for an earlier text.
        cached: usize,
    },
    /// A token.
    Token {
        /// The token and its probability.
        sampled: Sampled,
        /// What it adds to the text.
        text: String,
    },
    /// The end.
    Finished {
        /// Why.
        reason: Reason,
        /// What the last token's text still holds back.
        text: String,
        /// Times of the text.
        times: Times,
    },
}

/// Times of a text from its submission on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Times {
    /// To the first forward pass.
    pub queued: Duration,
    /// To the first token.
    pub first_token: Duration,
    /// To the end.
    pub total: Duration,
}

/// A request with what was made of it so far.
pub(super) struct Sequence {
    pub(super) request: Request,
    pub(super) id: u64,
    /// Of the prompt and the text.
    pub(super) tokens: Vec<u32>,
    /// How many of them have keys and values in the blocks.
    pub(super) computed: usize,
    pub(super) blocks: Vec<Block>,
    names: Vec<Name>,
    apart: bool,
    /// Its newest tokens, which came together: one that was chosen, and those that had to come
    /// behind it.
    newest: usize,
    /// What chooses its tokens under a constraint.
    chooser: Option<Arc<Mutex<Chooser>>>,
    /// The field of the constraint.
    field: String,
    /// Tokens that it begins with, and whether it is complete with each.
    first: Vec<(u32, bool)>,
    /// Whether its next tokens are being chosen.
    pub(super) choosing: bool,
    is_quick: bool,
    submitted: Instant,
    times: Times,
    pub(super) begun: bool,
    ended: bool,
}

impl Sequence {
    /// `apart` says whether what it writes may not stand for the same tokens in a prompt.
    pub(super) fn new(id: u64, mut request: Request, apart: bool) -> Self {
        let (field, mut matcher) = request.matcher.take().unzip();
        let first = matcher.as_mut().map(Matcher::begun).unwrap_or_default();
        let takes_forced = request.takes_forced;
        let chooser = matcher.map(|matcher| {
            let mut sampler = request.sampler.clone();
            first.iter().for_each(|(id, _)| sampler.push(*id));
            Arc::new(Mutex::new(Chooser::new(sampler, matcher, takes_forced)))
        });
        Self {
            chooser,
            field: field.unwrap_or_default(),
            first,
            choosing: false,
            is_quick: true,
            id,
            apart,
            tokens: request.prompt.clone(),
            computed: 0,
            blocks: Vec::new(),
            names: Vec::new(),
            newest: 0,
            submitted: Instant::now(),
            times: Times::default(),
            begun: false,
            ended: false,
            request,
        }
    }

    /// Tokens that are not computed.
    pub(super) fn left(&self) -> usize {
        self.tokens.len() - self.computed
    }

    /// Whether only its newest tokens are not computed.
    pub(super) fn decodes(&self) -> bool {
        (1..=self.newest).contains(&self.left())
    }

    /// Whether tokens of its prompt, or of what it wrote before it gave its blocks back, are not
    /// computed.
    pub(super) fn reads(&self) -> bool {
        !self.choosing && !self.decodes()
    }

    pub(super) fn is_urgent(&self) -> bool {
        self.request.priority == Priority::Interactive
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// The name of a full block of its tokens, or `None` where they do not fill it.
    pub(super) fn name(&mut self, index: usize) -> Option<Name> {
        while self.names.len() <= index {
            let start = self.names.len() * BLOCK_TOKENS;
            let tokens = self.tokens.get(start..start + BLOCK_TOKENS)?;
            let prompt = self.request.prompt.len().saturating_sub(start).min(BLOCK_TOKENS);
            let written = if self.apart { BLOCK_TOKENS - prompt } else { 0 };
            self.names.push(Name::of(self.names.last().copied(), tokens, written));
        }
        Some(self.names[index])
    }

    /// Why it is of no use any more, if so.
    pub(super) fn abandoned(&self, now: Instant, retry_after: impl FnOnce() -> Duration) -> Option<Error> {
        let passed = |limit: Option<Instant>| limit.is_some_and(|limit| now >= limit);
        if self.request.cancel.is_cancelled() || self.request.events.is_closed() {
            return Some(Error::Cancelled);
        }
        if passed(self.request.deadline) {
            return Some(if self.begun { Error::ExpiredRunning } else { Error::ExpiredInQueue });
        }
        let late = passed(self.request.begin_by) && !self.begun;
        late.then(|| Error::QueueTimeout { retry_after: retry_after() })
    }

    /// Its first forward pass begins; how many tokens must come behind the prompt.
    pub(super) fn begin(&mut self) -> usize {
        if self.begun {
            return 0;
        }
        self.begun = true;
        self.times.queued = self.submitted.elapsed();
        self.tell(Event::Started { cached: self.computed });
        for (id, complete) in std::mem::take(&mut self.first) {
            if self.ended {
                break;
            }
            self.push(Sampled { id, logprob: 0.0, top: Vec::new() }, complete);
            self.newest += 1;
        }
        self.newest
    }

    /// Tokens that may still come.
    pub(super) fn room(&self) -> usize {
        self.request.max_new_tokens - (self.tokens.len() - self.request.prompt.len())
    }

    /// Chooses the next token by its logits.
    pub(super) fn choose(&mut self, logits: &[f32]) -> anyhow::Result<usize> {
        let sampled = self.request.sampler.sample(logits, None)?;
        self.request.sampler.push(sampled.id);
        self.newest = 1;
        self.push(sampled, false);
        Ok(self.newest)
    }

    /// Whether something is to be chosen under a constraint.
    pub(super) fn is_constrained(&self) -> bool {
        self.chooser.is_some()
    }

    /// What makes its next mask, with the tokens that may come.
    pub(super) fn mask(&self) -> Option<(Arc<Mutex<Chooser>>, usize)> {
        let chooser = self.chooser.as_ref().filter(|_| self.is_quick)?;
        Some((Arc::clone(chooser), self.room()))
    }

    /// What is needed to choose its next tokens under its constraint, which [`Sequence::take`]
    /// waits for.
    pub(super) fn wanted(&mut self, logits: &[f32]) -> Option<Wanted> {
        let chooser = Arc::clone(self.chooser.as_ref()?);
        self.choosing = true;
        let (id, room, is_quick) = (self.id, self.room(), self.is_quick);
        Some(Wanted { id, chooser, logits: logits.to_vec(), room, is_quick })
    }

    /// Takes what was chosen; how many tokens.
    pub(super) fn take(&mut self, chosen: Chosen) -> usize {
        self.choosing = false;
        self.is_quick = chosen.is_quick;
        self.newest = 0;
        for (sampled, complete) in chosen.tokens {
            if self.ended {
                break;
            }
            self.push(sampled, complete);
            self.newest += 1;
        }
        self.newest
    }

    /// Ends it, as its constraint cannot be followed.
    pub(super) fn fail_constraint(&mut self, cause: &ConstraintError) {
        let field = std::mem::take(&mut self.field);
        self.fail(Error::BadConstraint { field, cause: cause.to_string() });
    }

    /// Takes the next token, with which the text may be complete.
    fn push(&mut self, sampled: Sampled, complete: bool) {
        let id = sampled.id;
        self.tokens.push(id);
        if self.times.first_token.is_zero() {
            self.times.first_token = self.submitted.elapsed();
        }
        let (mut text, mut reason) = (String::new(), None);
        if self.request.end_ids.contains(&id) {
            reason = Some(Reason::Stop);
        } else if self.request.stop_ids.contains(&id) {
            reason = Some(Reason::StopSequence);
        } else {
            let piece = self.request.pieces.push(id).unwrap_or_default();
            let emitted = self.request.stops.push(&piece);
            text = emitted.text;
            if emitted.stopped {
                self.tell(Event::Token { sampled, text });
                return self.finish(Reason::StopSequence, String::new());
            }
        }
        if complete {
            reason = reason.or(Some(Reason::Stop));
        }
        if self.room() == 0 {
            reason = reason.or(Some(Reason::Length));
        }
        self.tell(Event::Token { sampled, text });
        if let Some(reason) = reason {
            self.finish_text(reason);
        }
    }

    /// What the decoder and the stop texts still hold back belongs to the text, unless it completes
    /// a stop text.
    fn finish_text(&mut self, reason: Reason) {
        let rest = self.request.pieces.finish();
        let emitted = self.request.stops.push(&rest);
        if emitted.stopped {
            return self.finish(Reason::StopSequence, emitted.text);
        }
        let rest = self.request.stops.finish();
        self.finish(reason, emitted.text + &rest);
    }

    fn finish(&mut self, reason: Reason, text: String) {
        self.times.total = self.submitted.elapsed();
        self.tell(Event::Finished { reason, text, times: self.times });
        self.ended = true;
    }

    /// Ends it without a text.
    pub(super) fn fail(&mut self, error: Error) {
        // A caller who went away hears nothing.
        let _ = self.request.events.send(Err(error));
        self.ended = true;
    }

    fn tell(&self, event: Event) {
        // A caller who went away is noticed before the next step.
        let _ = self.request.events.send(Ok(event));
    }
}
