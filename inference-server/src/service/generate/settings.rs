//! The settings and prompts of a generation, checked.
//!
//! Everything that can be refused is refused here, before a sequence reaches the engine.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::error::Error;
use crate::generation::chat_template::Message;
use crate::generation::constraint::{self, Constraint, Matcher};
use crate::generation::sampler::{MAX_LOGPROBS, SamplingParams};
use crate::registry::loaded::LoadedModel;
use crate::scheduler::batcher::Priority;
use crate::service::{ModelRef, Service};

/// New tokens of a sequence if the caller sets no limit. Not tuned: an answer of a few paragraphs.
/// vLLM gives a chat the rest of its context instead, which a caller who forgot the limit would
/// hold KV blocks for.
const DEFAULT_NEW_TOKENS: usize = 256;
/// Stop strings, and stop tokens, of one request. Not tuned: OpenAI's API documents up to 4, and
/// each one is looked for at every token.
const MOST_STOPS: usize = 16;

/// Settings of a generation request.
#[derive(Debug, Clone)]
pub(crate) struct GenerateSettings {
    /// The model.
    pub model: ModelRef,
    /// SamplingParams; its seed and number of log probabilities are set from the fields below.
    pub sampling: SamplingParams,
    /// Seed of the first prompt, the others follow it; `None` draws one.
    pub seed: Option<u64>,
    /// Class of the request in the queue.
    pub priority: Priority,
    /// New tokens at most; 0 for the default.
    pub max_new_tokens: usize,
    /// Stop strings.
    pub stop: Vec<String>,
    /// Stop tokens.
    pub stop_ids: Vec<u32>,
    /// True to go on after the model's own end tokens.
    pub ignore_end: bool,
    /// Log probabilities: of the token generated and this many of the likeliest.
    pub logprobs: Option<u32>,
    /// Form that the text must have.
    pub constraint: Option<Constraint>,
}

/// A prompt as a caller gives it.
#[derive(Debug, Clone)]
pub(crate) enum PromptInput {
    /// A text.
    Text(String),
    /// Token ids of the model's tokenizer.
    Tokens(Vec<u32>),
    /// A chat, for the model's chat template.
    Chat {
        /// Its messages.
        messages: Vec<Message>,
        /// Further variables of the template, each as JSON.
        arguments: BTreeMap<String, String>,
    },
    /// Nothing.
    Missing,
}

/// Checked settings.
#[derive(Debug)]
pub(super) struct GeneratePlan {
    pub(super) model: Arc<LoadedModel>,
    pub(super) sampling: SamplingParams,
    pub(super) priority: Priority,
    max_new_tokens: Option<usize>,
    pub(super) stop: Vec<String>,
    pub(super) stop_ids: Vec<u32>,
    pub(super) ignore_end: bool,
    pub(super) logprobs: bool,
    /// With the path of its field.
    constraint: Option<(String, Constraint)>,
}

impl GeneratePlan {
    /// # Errors
    /// Names the field at fault.
    pub(super) fn new(settings: GenerateSettings, model: Arc<LoadedModel>) -> Result<Self, Error> {
        check_stops(&settings)?;
        if let Some(count) = settings.logprobs.filter(|count| *count > MAX_LOGPROBS) {
            return Err(invalid("settings.logprobs", count, &format!("0 to {MAX_LOGPROBS}")));
        }
        let sampling = SamplingParams {
            // Seeds of a batch follow each other, so a drawn one leaves room above it.
            seed: settings.seed.unwrap_or_else(|| Uuid::new_v4().as_u64_pair().0 >> 1),
            logprobs: settings.logprobs.unwrap_or_default(),
            ..settings.sampling
        };
        sampling
            .check("settings.sampling", model.generator()?.profile().vocabulary)
            .map_err(|fault| invalid(&fault.field, fault.value, &fault.allowed))?;
        Ok(Self {
            sampling,
            priority: settings.priority,
            max_new_tokens: Some(settings.max_new_tokens).filter(|tokens| *tokens > 0),
            stop: settings.stop,
            stop_ids: settings.stop_ids,
            ignore_end: settings.ignore_end,
            logprobs: settings.logprobs.is_some(),
            constraint: settings.constraint.map(checked_constraint).transpose()?,
            model,
        })
    }

    pub(super) fn is_constrained(&self) -> bool {
        self.constraint.is_some()
    }

    /// Compiles the constraint for a sequence of at most `max_new_tokens`, with the path of its
    /// field. A hard one takes seconds.
    ///
    /// # Errors
    /// [`Error::BadConstraint`].
    pub(super) fn matcher(&self, max_new_tokens: usize) -> Result<Option<(String, Matcher)>, Error> {
        let Some((field, constraint)) = &self.constraint else { return Ok(None) };
        let mut matcher = self.model.generator()?.matcher(field, constraint)?;
        matcher
            .prepare(max_new_tokens, !self.logprobs)
            .map_err(|error| Error::BadConstraint { field: field.clone(), cause: error.to_string() })?;
        Ok(Some((field.clone(), matcher)))
    }
}

fn check_stops(settings: &GenerateSettings) -> Result<(), Error> {
    for (name, count) in [("stop", settings.stop.len()), ("stop_token_ids", settings.stop_ids.len())] {
        if count > MOST_STOPS {
            let field = format!("settings.limits.{name}");
            return Err(Error::BatchTooLarge { field, count, limit: MOST_STOPS });
        }
    }
    match settings.stop.iter().position(String::is_empty) {
        Some(index) => {
            let field = format!("settings.limits.stop[{index}]");
            Err(invalid(&field, "empty", "texts of a character or more"))
        }
        None => Ok(()),
    }
}

fn checked_constraint(asked: Constraint) -> Result<(String, Constraint), Error> {
    let name = match &asked {
        Constraint::JsonSchema(_) => "json_schema",
        Constraint::Regex(_) => "regex",
        Constraint::Lark(_) => "lark",
        Constraint::Choices(_) => "choices",
    };
    let field = format!("settings.constraint.{name}");
    // Compiling would refuse it as well, but only after the prompts were read.
    let bytes = asked.bytes();
    if bytes > constraint::MAX_BYTES {
        return Err(Error::InputTooLarge { field, bytes, limit: constraint::MAX_BYTES });
    }
    Ok((field, asked))
}

fn invalid(field: &str, value: impl ToString, allowed: &str) -> Error {
    Error::InvalidValue { field: field.to_owned(), value: value.to_string(), allowed: allowed.to_owned() }
}

/// A prompt as its model reads it.
pub(super) struct ReadPrompt {
    pub(super) ids: Vec<u32>,
    pub(super) seed: u64,
    pub(super) max_new_tokens: usize,
    /// Time of reading it.
    pub(super) took: Duration,
}

impl Service {
    /// Reads the prompt at a place of the request and checks that its sequence fits.
    ///
    /// # Errors
    /// Names the field at fault.
    pub(super) fn read_prompt(
        &self,
        plan: &GeneratePlan,
        index: usize,
        field: &str,
        prompt: PromptInput,
    ) -> Result<ReadPrompt, Error> {
        let started = Instant::now();
        let ids = self.prompt_ids(&plan.model, field, prompt)?;
        let (tokens, context) = (ids.len(), plan.model.generator()?.context());
        if tokens >= context {
            return Err(Error::InputTooLong { field: field.to_owned(), tokens, limit: context - 1 });
        }
        // At least 1, as the prompt was found shorter than the context.
        let left = context - tokens;
        let max_new_tokens = plan.max_new_tokens.unwrap_or(DEFAULT_NEW_TOKENS.min(left));
        if max_new_tokens > left {
            let allowed = format!("1 to {left}, as the prompt has {tokens} tokens of {context}");
            return Err(invalid("settings.limits.max_new_tokens", max_new_tokens, &allowed));
        }
        let seed = plan.sampling.seed.wrapping_add(index as u64);
        Ok(ReadPrompt { ids, seed, max_new_tokens, took: started.elapsed() })
    }

    fn prompt_ids(&self, model: &LoadedModel, field: &str, prompt: PromptInput) -> Result<Vec<u32>, Error> {
        let ids = match prompt {
            PromptInput::Text(text) => {
                self.check_size(&format!("{field}.text"), &text)?;
                model.tokenizer.encode_prompt(&text, true)?
            }
            PromptInput::Tokens(ids) => {
                let vocabulary = model.generator()?.profile().vocabulary;
                // The network would read past its embeddings; the tokenizer's own ids are below by
                // construction.
                if let Some(place) = ids.iter().position(|id| *id as usize >= vocabulary) {
                    let field = format!("{field}.tokens.ids[{place}]");
                    return Err(invalid(&field, ids[place], &format!("0 to {}", vocabulary - 1)));
                }
                ids
            }
            PromptInput::Chat { messages, arguments } => {
                let text = self.render_chat(model, &format!("{field}.chat"), &messages, arguments)?;
                // A template spells the special tokens out itself.
                model.tokenizer.encode_prompt(&text, false)?
            }
            PromptInput::Missing => Vec::new(),
        };
        if ids.is_empty() { Err(Error::EmptyInput { field: field.to_owned() }) } else { Ok(ids) }
    }

    /// A chat as the model's template renders it.
    fn render_chat(
        &self,
        model: &LoadedModel,
        field: &str,
        messages: &[Message],
        arguments: BTreeMap<String, String>,
    ) -> Result<String, Error> {
        let template = model.generator()?.profile().template.as_ref();
        let template = template
            .ok_or_else(|| bad_chat(model, field.to_owned(), "the model has no template".to_owned()))?;
        // Bounded before rendering, whose time grows with the messages.
        self.check_count(&format!("{field}.messages"), messages.len())?;
        for (index, message) in messages.iter().enumerate() {
            self.check_size(&format!("{field}.messages[{index}].content"), &message.content)?;
        }
        let mut values = BTreeMap::new();
        for (name, value) in arguments {
            // Values are JSON, so that a template sees `false` and not the text "false", which is
            // true in Jinja.
            let parsed = serde_json::from_str(&value).map_err(|error| {
                bad_chat(model, format!("{field}.template_arguments.{name}"), format!("not JSON: {error}"))
            })?;
            values.insert(name, parsed);
        }
        template
            .render(messages, &values, true)
            .map_err(|error| bad_chat(model, field.to_owned(), error.to_string()))
    }
}

fn bad_chat(model: &LoadedModel, field: String, cause: String) -> Error {
    Error::BadChat { field, model: model.info.name.clone(), cause }
}
