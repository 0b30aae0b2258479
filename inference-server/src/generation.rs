//! Text generation: chat templates, constraints, sampling, and the engine that runs many sequences
//! at once.
//!
//! A [`Generator`] is one loaded language model. Its [`engine`] makes steps on a thread of its own;
//! [`step_scheduler`] decides which tokens go into a step and [`kv_blocks`] where their keys and
//! values lie. [`sampler`] chooses tokens, [`constraint`] says which are allowed, and
//! [`constrained_sampling`] keeps the two off the engine's thread. [`detokenizer`] and
//! [`stop_strings`] turn tokens into text; [`chat_template`] turns a chat into a prompt.

pub(crate) mod chat_template;
mod constrained_sampling;
pub(crate) mod constraint;
pub(crate) mod detokenizer;
pub(crate) mod engine;
pub(crate) mod kv_blocks;
pub(crate) mod sampler;
pub(crate) mod sequence;
mod step_scheduler;
pub(crate) mod stop_strings;
mod token_bytes;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread;

use anyhow::{Context, Result, anyhow, bail};
use tokenizers::Tokenizer;
use tokio::sync::mpsc::unbounded_channel;
use tokio_util::sync::CancellationToken;

use crate::device::OpenDevice;
use crate::error::Error;
use crate::metrics::generation::GenerationFigures;
use crate::models::decoder::LanguageModel;
use crate::scheduler::admission::{Admission, Budget, Limits};
use crate::scheduler::batcher::Priority;
use chat_template::ChatTemplate;
use constraint::{Constraint, GrammarCompiler, Matcher};
use detokenizer::Detokenizer;
use engine::{Counters, Engine, EngineLimits};
use kv_blocks::BLOCK_TOKENS;
use sampler::{Sampler, SamplingParams};
use sequence::{Event, Request};
use stop_strings::StopStrings;
use token_bytes::ByteDecoder;

/// Chat template, stop tokens and context length of a generative model.
#[derive(Debug)]
pub struct GenerationProfile {
    /// Chat template; `None` if the model has none.
    pub template: Option<ChatTemplate>,
    /// End-of-sequence tokens.
    pub eos_ids: Vec<u32>,
    /// Context length: maximum number of tokens of a sequence, prompt included.
    pub context: usize,
    /// Length of a row of logits.
    pub vocabulary: usize,
}

/// A loaded language model with its engine; dropping it stops the engine.
pub struct Generator {
    requests: mpsc::Sender<Request>,
    profile: GenerationProfile,
    tokenizer: Arc<Tokenizer>,
    byte_decoder: Option<ByteDecoder>,
    /// Built by the first constraint, since it takes about a second.
    grammar_compiler: OnceLock<Result<GrammarCompiler, String>>,
    admission: Arc<Admission>,
    counters: Arc<Counters>,
    limits: EngineLimits,
}

impl std::fmt::Debug for Generator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Generator").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Generator {
    /// Starts the engine of a model on `device`.
    ///
    /// # Errors
    /// If a thread cannot be spawned.
    pub fn start(
        model: Box<dyn LanguageModel>,
        tokenizer: Arc<Tokenizer>,
        profile: GenerationProfile,
        limits: EngineLimits,
        device: &OpenDevice,
    ) -> Result<Self> {
        // What fits into the KV cache runs at once and waits for nothing; only tokens beyond it are
        // judged by time.
        let running = (limits.blocks * BLOCK_TOKENS) as u64;
        let budget = Budget::RunningAndQueued { running, wait: device.generation.max_wait };
        let admission = Admission::new(Limits { requests: usize::MAX, budget });
        let arbiter = Arc::clone(&device.arbiter);
        let counters = Arc::<Counters>::default();
        let (requests, receiver) = mpsc::channel();
        let engine = Engine::new(model, limits, arbiter, Arc::clone(&admission), Arc::clone(&counters))?;
        // A thread and no task: a step computes for milliseconds to seconds, which would block the
        // runtime.
        thread::Builder::new()
            .name("engine".to_owned())
            .spawn(move || run(engine, &receiver))
            .context("cannot spawn the engine's thread")?;
        Ok(Self {
            requests,
            profile,
            byte_decoder: ByteDecoder::from_tokenizer(&tokenizer),
            tokenizer,
            grammar_compiler: OnceLock::new(),
            admission,
            counters,
            limits,
        })
    }

    /// Chat template, stop tokens and context length.
    pub fn profile(&self) -> &GenerationProfile {
        &self.profile
    }

    /// Maximum number of tokens of a sequence, prompt included: the context length of the model, or
    /// the size of the KV cache if that is smaller.
    pub fn context(&self) -> usize {
        self.profile.context.min(self.limits.blocks * BLOCK_TOKENS)
    }

    /// Admission of requests to the engine.
    pub fn admission(&self) -> &Arc<Admission> {
        &self.admission
    }

    /// The engine's figures, for a scrape.
    pub fn figures(&self) -> GenerationFigures {
        GenerationFigures {
            running: read(&self.counters.running),
            waiting: read(&self.counters.waiting),
            kv_blocks: self.limits.blocks as u64,
            kv_blocks_used: read(&self.counters.blocks_used),
            steps: read(&self.counters.steps),
            prompt_tokens: read(&self.counters.prompt_tokens),
            cached_prompt_tokens: read(&self.counters.cached_tokens),
            generated_tokens: read(&self.counters.generated_tokens),
            preemptions: read(&self.counters.preemptions),
        }
    }

    /// Total number of KV blocks, and number of those that sequences use.
    pub fn blocks(&self) -> (usize, usize) {
        (self.limits.blocks, self.counters.blocks_used.load(Ordering::Relaxed) as usize)
    }

    /// Enqueues a request.
    ///
    /// # Errors
    /// [`Error::Backend`] if the engine has stopped.
    pub fn submit(&self, request: Request) -> Result<(), Error> {
        self.requests.send(request).map_err(|_| Error::Backend)
    }

    /// Creates a detokenizer for one sequence; special tokens become no text.
    pub fn detokenizer(&self) -> Detokenizer<Arc<Tokenizer>> {
        Detokenizer::new(Arc::clone(&self.tokenizer), true)
    }

    /// Text of a single token.
    pub fn token_text(&self, id: u32) -> String {
        self.tokenizer.decode(&[id], false).unwrap_or_default()
    }

    /// Bytes that a token adds to a text; `None` if it adds none, as a token that ends a sequence.
    pub fn token_bytes(&self, id: u32) -> Option<Vec<u8>> {
        let token = self.tokenizer.id_to_token(id)?;
        // OpenAI's API has null bytes for tokens that are no text.
        let special = self.tokenizer.get_added_vocabulary().is_special_token(&token);
        if special || self.profile.eos_ids.contains(&id) {
            return None;
        }
        Some(match &self.byte_decoder {
            Some(decoder) => decoder.bytes(&token),
            None => self.token_text(id).into_bytes(),
        })
    }

    /// Compiles a constraint into a matcher for one sequence; `field` is its path in the request,
    /// for messages. The first call builds the token trie, which takes about a second.
    ///
    /// # Errors
    /// [`Error::BadConstraint`], or [`Error::Backend`] if the tokenizer does not support
    /// constraints.
    pub fn matcher(&self, field: &str, constraint: &Constraint) -> Result<Matcher, Error> {
        let GenerationProfile { vocabulary, eos_ids, .. } = &self.profile;
        let compiler = self.grammar_compiler.get_or_init(|| {
            let compiler = GrammarCompiler::new(&self.tokenizer, *vocabulary, eos_ids);
            compiler.map_err(|error| format!("{error:#}"))
        });
        let compiler = compiler.as_ref().map_err(|cause| {
            tracing::error!(error.message = cause, "the tokenizer does not support constraints");
            Error::Backend
        })?;
        compiler
            .compile(constraint)
            .map_err(|error| Error::BadConstraint { field: field.to_owned(), cause: error.to_string() })
    }

    /// Generates a few tokens, so that a model that cannot compute never becomes ready and its
    /// admission knows its speed.
    ///
    /// # Errors
    /// If the generation fails.
    pub fn warm_up(&self) -> Result<()> {
        let (events, mut receiver) = unbounded_channel();
        // Two blocks, so that attention reads across a block boundary.
        let length = (2 * BLOCK_TOKENS).min(self.context().saturating_sub(4)).max(1);
        let prompt = vec![self.profile.eos_ids.first().copied().unwrap_or(0); length];
        let permit = self.admission.reserve(length as u64).map_err(|error| anyhow!("warm-up: {error}"))?;
        self.submit(Request {
            // Greedy: a model of random or broken weights must not fail by the luck of a draw.
            sampler: Sampler::new(&SamplingParams { temperature: 0.0, ..SamplingParams::default() }, &prompt),
            prompt,
            detokenizer: self.detokenizer(),
            stop_strings: StopStrings::new(Vec::new()),
            matcher: None,
            append_forced: false,
            eos_ids: Vec::new(),
            stop_token_ids: Vec::new(),
            max_new_tokens: 3,
            priority: Priority::Bulk,
            cancel: CancellationToken::new(),
            deadline: None,
            begin_by: None,
            permit,
            events,
        })
        .map_err(|error| anyhow!("warm-up: {error}"))?;
        while let Some(event) = receiver.blocking_recv() {
            match event {
                Ok(Event::Finished { .. }) => return Ok(()),
                Ok(_) => {}
                Err(error) => bail!("warm-up: {error}"),
            }
        }
        bail!("warm-up: the engine stopped")
    }
}

/// The present value of a counter. Relaxed: counters are read one by one, and order nothing.
fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// Makes steps as long as there are sequences; returns once the generator is dropped and the last
/// sequence has ended.
fn run(mut engine: Engine, requests: &mpsc::Receiver<Request>) {
    loop {
        if engine.is_idle() {
            match requests.recv() {
                Ok(request) => engine.submit(request),
                Err(_) => return,
            }
        }
        // Between steps, so that a request joins the next one however long the queue of sequences
        // is.
        for request in requests.try_iter() {
            engine.submit(request);
        }
        // A model that panics ends the sequences it was running, not those that come after them.
        if catch_unwind(AssertUnwindSafe(|| engine.step())).is_err() {
            tracing::error!("a step of a language model panicked");
            engine.fail_running();
        }
    }
}
