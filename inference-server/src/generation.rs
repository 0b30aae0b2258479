//! Text from language models: who is asked, in what words, and the engine that answers many at
//! once.
//!
//! `engine` makes the steps, on a thread of its own for each model; `blocks` knows where keys and
//! values lie; `sampler` chooses tokens, `constraint` says which are allowed, `choosing` lets
//! nobody wait for it, `pieces` and `stop` make text of them; `template` writes chats out as the
//! model was trained to read them.

pub(crate) mod blocks;
mod bytes;
mod choosing;
pub(crate) mod constraint;
pub(crate) mod engine;
pub(crate) mod pieces;
pub(crate) mod sampler;
pub(crate) mod sequence;
pub(crate) mod stop;
pub(crate) mod template;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock, mpsc};
use std::thread;

use anyhow::{Context, Result, anyhow, bail};
use tokenizers::Tokenizer;
use tokio::sync::mpsc::unbounded_channel;
use tokio_util::sync::CancellationToken;

use crate::device::OpenDevice;
use crate::error::Error;
use crate::kernels::paged::BLOCK;
use crate::models::decoder::LanguageModel;
use crate::scheduler::admission::{Admission, Budget, Limits};
use crate::scheduler::batcher::Priority;
use bytes::Spelling;
use constraint::{Constraint, Grammars, Matcher};
use engine::{Counters, Engine, EngineLimits};
use pieces::Pieces;
use sampler::{Sampler, Sampling};
use sequence::{Event, Request};
use stop::Stops;
use template::ChatTemplate;

/// What a model that writes text has beside its network.
#[derive(Debug)]
pub struct GenerationProfile {
    /// How a chat is written out; `None` where the model has no template.
    pub template: Option<ChatTemplate>,
    /// Tokens that end its texts.
    pub end_ids: Vec<u32>,
    /// Tokens of a text, prompt included.
    pub context: usize,
    /// Length of a row of logits.
    pub vocabulary: usize,
}

/// A model that writes text; dropping it stops its engine.
pub struct Generator {
    requests: mpsc::Sender<Request>,
    manner: GenerationProfile,
    tokenizer: Arc<Tokenizer>,
    spelling: Option<Spelling>,
    grammars: OnceLock<Result<Grammars, String>>,
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
    /// Starts the engine of a model, which takes its turns at the device.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(
        model: Box<dyn LanguageModel>,
        tokenizer: Arc<Tokenizer>,
        manner: GenerationProfile,
        limits: EngineLimits,
        device: &OpenDevice,
    ) -> Result<Self> {
        let budget = Budget::Beside((limits.blocks * BLOCK) as u64, device.generation.max_wait);
        let admission = Admission::new(Limits { requests: usize::MAX, budget });
        let turns = Arc::clone(&device.arbiter);
        let counters = Arc::<Counters>::default();
        let (requests, receiver) = mpsc::channel();
        let engine = Engine::new(model, limits, turns, Arc::clone(&admission), Arc::clone(&counters))?;
        thread::Builder::new()
            .name("engine".to_owned())
            .spawn(move || run(engine, &receiver))
            .context("the engine's thread cannot be started")?;
        let (spelling, grammars) = (Spelling::of(&tokenizer), OnceLock::new());
        Ok(Self { requests, manner, tokenizer, spelling, grammars, admission, counters, limits })
    }

    /// What it has beside its network.
    pub fn manner(&self) -> &GenerationProfile {
        &self.manner
    }

    /// Tokens of a text, prompt included: those of the model, or those there are blocks for.
    pub fn context(&self) -> usize {
        self.manner.context.min(self.limits.blocks * BLOCK)
    }

    /// How much work it takes on.
    pub fn admission(&self) -> &Arc<Admission> {
        &self.admission
    }

    /// What it did and holds.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Blocks of keys and values, and those that texts hold.
    pub fn blocks(&self) -> (usize, usize) {
        (self.limits.blocks, self.counters.blocks_used.load(Ordering::Relaxed) as usize)
    }

    /// Puts a text in line.
    ///
    /// # Errors
    /// [`Error::Backend`] where the engine is gone.
    pub fn submit(&self, request: Request) -> Result<(), Error> {
        self.requests.send(request).map_err(|_| Error::Backend)
    }

    /// DeviceArbiter tokens of one text into pieces of it.
    pub fn pieces(&self) -> Pieces<Arc<Tokenizer>> {
        Pieces::new(Arc::clone(&self.tokenizer), true)
    }

    /// A token alone, as text.
    pub fn token_text(&self, id: u32) -> String {
        self.tokenizer.decode(&[id], false).unwrap_or_default()
    }

    /// The bytes that a token adds to a text; nothing where it is no text, as what ends one.
    pub fn token_bytes(&self, id: u32) -> Option<Vec<u8>> {
        let token = self.tokenizer.id_to_token(id)?;
        if self.tokenizer.get_added_vocabulary().is_special_token(&token) || self.manner.end_ids.contains(&id)
        {
            return None;
        }
        Some(match &self.spelling {
            Some(spelling) => spelling.bytes(&token),
            None => self.token_text(id).into_bytes(),
        })
    }

    /// What keeps one text to a constraint, which stands in `field`. The first call reads the
    /// vocabulary, which takes a notable time.
    ///
    /// # Errors
    /// [`Error::BadConstraint`].
    pub fn matcher(&self, field: &str, constraint: &Constraint) -> Result<Matcher, Error> {
        let GenerationProfile { vocabulary, end_ids, .. } = &self.manner;
        let read = || {
            let grammars = Grammars::new(&self.tokenizer, *vocabulary, end_ids);
            grammars.map_err(|error| format!("{error:#}"))
        };
        let grammars = self.grammars.get_or_init(read).as_ref().map_err(|cause| {
            tracing::error!(error.message = cause, "the vocabulary does not serve for constraints");
            Error::Backend
        })?;
        grammars
            .start(constraint)
            .map_err(|error| Error::BadConstraint { field: field.to_owned(), cause: error.to_string() })
    }

    /// Writes a few tokens, so that a model that cannot compute never becomes ready and the engine
    /// knows its pace.
    ///
    /// # Errors
    /// If nothing comes of it.
    pub fn warm_up(&self) -> Result<()> {
        let (events, mut receiver) = unbounded_channel();
        let length = (2 * BLOCK).min(self.context().saturating_sub(4)).max(1);
        let prompt = vec![self.manner.end_ids.first().copied().unwrap_or(0); length];
        let permit = self.admission.reserve(length as u64).map_err(|error| anyhow!("warm-up: {error}"))?;
        self.submit(Request {
            sampler: Sampler::new(&Sampling { temperature: 0.0, ..Sampling::default() }, &prompt),
            prompt,
            pieces: self.pieces(),
            stops: Stops::new(Vec::new()),
            matcher: None,
            takes_forced: false,
            end_ids: Vec::new(),
            stop_ids: Vec::new(),
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

/// Makes steps as long as there is something to do, and ends once nobody can ask any more.
fn run(mut engine: Engine, requests: &mpsc::Receiver<Request>) {
    loop {
        if engine.is_idle() {
            match requests.recv() {
                Ok(request) => engine.submit(request),
                Err(_) => return,
            }
        }
        for request in requests.try_iter() {
            engine.submit(request);
        }
        // A model that panics ends the texts it was at, and not those that come after them.
        if catch_unwind(AssertUnwindSafe(|| engine.step())).is_err() {
            tracing::error!("a step of a language model panicked");
            engine.fail_running();
        }
    }
}
