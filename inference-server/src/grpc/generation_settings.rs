//! The settings and prompts of `GenerationService`, checked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use observatory_proto::inference::v1 as pb;
use uuid::Uuid;

use super::{Api, priority};
use crate::error::Error;
use crate::generation::constraint::{Constraint, Matcher};
use crate::generation::sampler::{MAX_LOGPROBS, Sampling};
use crate::generation::template::Message;
use crate::registry::loaded::LoadedModel;
use crate::scheduler::batcher::Priority;

/// Tokens of a text where nothing is asked for.
const DEFAULT_NEW_TOKENS: usize = 256;
/// Stop texts and stop tokens at most.
const MOST_STOPS: usize = 16;
/// Bytes of a schema, expression or grammar.
const LARGEST_CONSTRAINT: usize = 64 << 10;

/// Checked settings.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) sampling: Sampling,
    pub(super) priority: Priority,
    max_new_tokens: Option<usize>,
    pub(super) stop: Vec<String>,
    pub(super) stop_ids: Vec<u32>,
    pub(super) ignore_end: bool,
    /// Whether log probabilities are answered.
    pub(super) logprobs: bool,
    constraint: Option<(String, Constraint)>,
}

impl Asked {
    /// # Errors
    /// Names the field at fault.
    pub(super) fn read(settings: pb::GenerationSettings, vocabulary: usize) -> Result<Self, Error> {
        let limits = settings.limits.unwrap_or_default();
        for (name, count) in [("stop", limits.stop.len()), ("stop_token_ids", limits.stop_token_ids.len())] {
            if count > MOST_STOPS {
                let field = format!("settings.limits.{name}");
                return Err(Error::BatchTooLarge { field, count, limit: MOST_STOPS });
            }
        }
        if let Some(index) = limits.stop.iter().position(String::is_empty) {
            return Err(invalid(
                format!("settings.limits.stop[{index}]"),
                "empty",
                "texts of a character or more",
            ));
        }
        let logprobs = settings.logprobs;
        if let Some(count) = logprobs.filter(|count| *count > MAX_LOGPROBS) {
            return Err(invalid("settings.logprobs".to_owned(), count, &format!("0 to {MAX_LOGPROBS}")));
        }
        let sampling = Sampling {
            logprobs: logprobs.unwrap_or_default(),
            ..sampling(settings.sampling.unwrap_or_default())
        };
        sampling
            .check("settings.sampling", vocabulary)
            .map_err(|fault| invalid(fault.field, fault.value, &fault.allowed))?;
        Ok(Self {
            sampling,
            priority: priority(settings.priority)?,
            max_new_tokens: Some(limits.max_new_tokens as usize).filter(|tokens| *tokens > 0),
            stop: limits.stop,
            stop_ids: limits.stop_token_ids,
            ignore_end: limits.ignore_end,
            logprobs: logprobs.is_some(),
            constraint: settings.constraint.map(constraint).transpose()?.flatten(),
        })
    }

    pub(super) fn is_constrained(&self) -> bool {
        self.constraint.is_some()
    }

    /// What keeps a text of at most `room` tokens to the constraint, with the path of its field.
    /// Takes long where the constraint is hard.
    ///
    /// # Errors
    /// Names the field where the constraint cannot be followed.
    pub(super) fn matcher(
        &self,
        model: &LoadedModel,
        room: usize,
    ) -> Result<Option<(String, Matcher)>, Error> {
        let Some((field, constraint)) = &self.constraint else { return Ok(None) };
        let mut matcher = model.generator()?.matcher(field, constraint)?;
        matcher
            .begin(room, !self.logprobs)
            .map_err(|error| Error::BadConstraint { field: field.clone(), cause: error.to_string() })?;
        Ok(Some((field.clone(), matcher)))
    }
}

fn invalid(field: String, value: impl ToString, allowed: &str) -> Error {
    Error::InvalidValue { field, value: value.to_string(), allowed: allowed.to_owned() }
}

fn sampling(asked: pb::Sampling) -> Sampling {
    let plain = Sampling::default();
    let mut logit_bias: Vec<(u32, f32)> = asked.logit_bias.into_iter().collect();
    logit_bias.sort_unstable_by_key(|(id, _)| *id);
    Sampling {
        // Unset, the likeliest token: figures that can be had again are what this server is for.
        temperature: asked.temperature.unwrap_or(0.0),
        top_k: asked.top_k.unwrap_or(plain.top_k),
        top_p: asked.top_p.unwrap_or(plain.top_p),
        min_p: asked.min_p.unwrap_or(plain.min_p),
        repetition_penalty: asked.repetition_penalty.unwrap_or(plain.repetition_penalty),
        presence_penalty: asked.presence_penalty.unwrap_or(plain.presence_penalty),
        frequency_penalty: asked.frequency_penalty.unwrap_or(plain.frequency_penalty),
        // Seeds of a batch follow each other, so a drawn one leaves room above it.
        seed: asked.seed.unwrap_or_else(|| Uuid::new_v4().as_u64_pair().0 >> 1),
        logit_bias,
        ..plain
    }
}

fn constraint(asked: pb::Constraint) -> Result<Option<(String, Constraint)>, Error> {
    use pb::constraint::Kind;
    let (name, bytes, constraint) = match asked.kind {
        None => return Ok(None),
        Some(Kind::JsonSchema(text)) => ("json_schema", text.len(), Constraint::JsonSchema(text)),
        Some(Kind::Regex(text)) => ("regex", text.len(), Constraint::Regex(text)),
        Some(Kind::Lark(text)) => ("lark", text.len(), Constraint::Lark(text)),
        Some(Kind::Choices(choices)) => {
            let bytes = choices.texts.iter().map(String::len).sum();
            ("choices", bytes, Constraint::Choices(choices.texts))
        }
    };
    let field = format!("settings.constraint.{name}");
    if bytes > LARGEST_CONSTRAINT {
        return Err(Error::InputTooLarge { field, bytes, limit: LARGEST_CONSTRAINT });
    }
    Ok(Some((field, constraint)))
}

/// A prompt read by its model, with what its text needs.
pub(super) struct Ready {
    pub(super) prompt: Vec<u32>,
    pub(super) seed: u64,
    pub(super) max_new_tokens: usize,
    /// Time of reading it.
    pub(super) took: Duration,
}

impl Ready {
    /// # Errors
    /// Names the field at fault.
    pub(super) fn new(
        api: &Api,
        model: &Arc<LoadedModel>,
        asked: &Asked,
        index: usize,
        (field, prompt): (String, pb::Prompt),
    ) -> Result<Self, Error> {
        let started = Instant::now();
        let generator = model.generator()?;
        let prompt = read(api, model, &field, prompt)?;
        let (tokens, context) = (prompt.len(), generator.context());
        if tokens >= context {
            return Err(Error::InputTooLong { field, tokens, limit: context - 1 });
        }
        let room = context - tokens;
        let wanted = asked.max_new_tokens.unwrap_or(DEFAULT_NEW_TOKENS.min(room));
        if wanted > room {
            let allowed = format!("1 to {room}, as the prompt has {tokens} tokens of {context}");
            return Err(invalid("settings.limits.max_new_tokens".to_owned(), wanted, &allowed));
        }
        let seed = asked.sampling.seed.wrapping_add(index as u64);
        Ok(Self { prompt, seed, max_new_tokens: wanted, took: started.elapsed() })
    }
}

/// The ids of a prompt in whatever form.
fn read(api: &Api, model: &LoadedModel, field: &str, prompt: pb::Prompt) -> Result<Vec<u32>, Error> {
    use pb::prompt::Kind;
    let ids = match prompt.kind {
        Some(Kind::Text(text)) => {
            let field = format!("{field}.text");
            api.check_size(&field, &text)?;
            model.tokenizer.encode_prompt(&text, true)?
        }
        Some(Kind::Tokens(tokens)) => {
            let vocabulary = model.generator()?.manner().vocabulary;
            if let Some(place) = tokens.ids.iter().position(|id| *id as usize >= vocabulary) {
                let field = format!("{field}.tokens.ids[{place}]");
                return Err(invalid(field, tokens.ids[place], &format!("0 to {}", vocabulary - 1)));
            }
            tokens.ids
        }
        Some(Kind::Chat(chat)) => {
            let text = written_out(api, model, &format!("{field}.chat"), chat)?;
            // A template writes the special tokens out itself.
            model.tokenizer.encode_prompt(&text, false)?
        }
        None => Vec::new(),
    };
    if ids.is_empty() { Err(Error::EmptyInput { field: field.to_owned() }) } else { Ok(ids) }
}

/// A chat as the model's template writes it.
fn written_out(api: &Api, model: &LoadedModel, field: &str, chat: pb::Chat) -> Result<String, Error> {
    let bad = |field: String, cause: String| Error::BadChat { field, model: model.info.name.clone(), cause };
    let template = model.generator()?.manner().template.as_ref();
    let template = template.ok_or_else(|| bad(field.to_owned(), "the model has no template".to_owned()))?;
    api.check_count(&format!("{field}.messages"), chat.messages.len())?;
    let mut messages = Vec::new();
    for (index, message) in chat.messages.into_iter().enumerate() {
        api.check_size(&format!("{field}.messages[{index}].content"), &message.content)?;
        messages.push(Message { role: message.role, content: message.content });
    }
    let mut arguments = BTreeMap::new();
    for (name, value) in chat.template_arguments {
        let parsed = serde_json::from_str(&value);
        let parsed = parsed.map_err(|error| {
            bad(format!("{field}.template_arguments.{name}"), format!("not JSON: {error}"))
        })?;
        arguments.insert(name, parsed);
    }
    template.render(&messages, &arguments, true).map_err(|error| bad(field.to_owned(), error.to_string()))
}
