//! Requests of `POST /v1/chat/completions` and `POST /v1/completions`, checked field by field.
//!
//! Extensions that vLLM and llama.cpp share (`top_k`, `min_p`, `chat_template_kwargs`) are read
//! too.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::fields::{Fault, Fields};
use super::{INPUT, Input};
use crate::generation::chat_template::Message;
use crate::generation::constraint::Constraint;
use crate::generation::sampler::SamplingParams;
use crate::scheduler::batcher::Priority;
use crate::service::ModelRef;
use crate::service::generate::GenerateSettings;

/// Fields that both paths accept.
#[derive(Debug, Default)]
pub(super) struct Common {
    model: String,
    max_tokens: Option<u32>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    top_k: Option<u32>,
    min_p: Option<f32>,
    repetition_penalty: Option<f32>,
    presence_penalty: Option<f32>,
    frequency_penalty: Option<f32>,
    logit_bias: HashMap<u32, f32>,
    seed: Option<i64>,
    stop: Vec<String>,
    pub(super) n: Option<usize>,
    pub(super) stream: bool,
    pub(super) include_usage: bool,
    /// A JSON Schema.
    schema: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Stop {
    One(String),
    Many(Vec<String>),
}

#[derive(Debug)]
pub(super) struct ChatRequest {
    pub(super) common: Common,
    pub(super) messages: Vec<Message>,
    pub(super) logprobs: Option<u32>,
    pub(super) chat_template_kwargs: Map<String, Value>,
}

#[derive(Debug)]
pub(super) struct CompletionRequest {
    pub(super) common: Common,
    pub(super) prompt: Input,
    pub(super) logprobs: Option<u32>,
}

const NUMBER: &str = "a number";
const WHOLE: &str = "a whole number from 0 on";
const KNOWN: &str = "there are model, messages or prompt, max_tokens, max_completion_tokens, temperature, top_p, top_k, min_p, \
    repetition_penalty, presence_penalty, frequency_penalty, logit_bias, seed, stop, n, stream, stream_options, \
    response_format, logprobs, top_logprobs and chat_template_kwargs";

impl Common {
    fn read(fields: &mut Fields) -> Result<Self, Fault> {
        // The newer name counts where both are there.
        let older = tokens(fields, "max_tokens")?;
        let newer = tokens(fields, "max_completion_tokens")?;
        Ok(Self {
            model: fields.needed("model", "the name of a model")?,
            max_tokens: newer.or(older),
            temperature: fields.optional("temperature", NUMBER)?,
            top_p: fields.optional("top_p", NUMBER)?,
            top_k: fields.optional("top_k", WHOLE)?,
            min_p: fields.optional("min_p", NUMBER)?,
            repetition_penalty: fields.optional("repetition_penalty", NUMBER)?,
            presence_penalty: fields.optional("presence_penalty", NUMBER)?,
            frequency_penalty: fields.optional("frequency_penalty", NUMBER)?,
            logit_bias: logit_bias(fields)?,
            seed: fields.optional("seed", "a whole number")?,
            stop: match fields.optional("stop", "a text or a list of texts")? {
                None => Vec::new(),
                Some(Stop::One(text)) => vec![text],
                Some(Stop::Many(texts)) => texts,
            },
            n: fields.optional("n", "a whole number from 1 on")?,
            stream: fields.flag("stream")?,
            include_usage: include_usage(fields)?,
            schema: schema(fields)?,
        })
    }
}

/// Tokens of a text at most.
fn tokens(fields: &mut Fields, name: &str) -> Result<Option<u32>, Fault> {
    let expected = "a whole number from 1 on";
    match fields.optional(name, expected)? {
        Some(0) => Err(Fault::invalid(name, &json!(0), expected)),
        tokens => Ok(tokens),
    }
}

fn logit_bias(fields: &mut Fields) -> Result<HashMap<u32, f32>, Fault> {
    let biases: Option<BTreeMap<String, f32>> =
        fields.optional("logit_bias", "token ids with a number each")?;
    let mut by_id = HashMap::new();
    for (id, bias) in biases.into_iter().flatten() {
        let Ok(parsed) = id.parse() else {
            return Err(Fault::invalid("logit_bias", &json!(id), "token ids"));
        };
        by_id.insert(parsed, bias);
    }
    Ok(by_id)
}

fn include_usage(fields: &mut Fields) -> Result<bool, Fault> {
    let Some(options) = fields.value("stream_options") else { return Ok(false) };
    let mut options = Fields::of("stream_options", options)?;
    let include = options.flag("include_usage")?;
    // Padding that hides the length of encrypted pieces from an observer; it changes no token.
    options.value("include_obfuscation");
    options.end("there is include_usage").map(|()| include)
}

/// The schema of an answer. Peers take one for any object too, and without `json_schema` around it.
fn schema(fields: &mut Fields) -> Result<Option<String>, Fault> {
    let Some(format) = fields.value("response_format") else { return Ok(None) };
    let mut format = Fields::of("response_format", format)?;
    let expected = "text, json_object or json_schema";
    let kind: String = format.needed("type", expected)?;
    let schema = match kind.as_str() {
        "text" => None,
        // The API has no schema there; peers allow one, and without it any object will do.
        "json_object" => Some(format.value("schema").unwrap_or_else(|| json!({"type": "object"}))),
        "json_schema" => match format.value("schema") {
            Some(schema) => Some(schema),
            None => {
                let named: Value = format.needed("json_schema", "an object with a schema")?;
                let mut named = Fields::of("response_format.json_schema", named)?;
                let schema = named.needed("schema", "a JSON Schema")?;
                // Every schema is kept to strictly.
                ["name", "description", "strict"].iter().for_each(|key| drop(named.value(key)));
                named.end("there are name, description, strict and schema")?;
                Some(schema)
            }
        },
        other => return Err(Fault::invalid("response_format.type", &json!(other), expected)),
    };
    format.end("there are type and json_schema")?;
    Ok(schema.map(|schema: Value| schema.to_string()))
}

impl ChatRequest {
    pub(super) fn read(body: &[u8]) -> Result<Self, Fault> {
        let mut fields = Fields::read(body)?;
        let common = Common::read(&mut fields)?;
        let messages: Vec<Value> = fields.needed("messages", "a list of messages")?;
        let messages = messages.into_iter().enumerate().map(|(index, message)| read_message(index, message));
        // A flag in chats, a number in completions: the two differ in OpenAI's API.
        let asked = fields.flag("logprobs")?;
        let top: Option<u32> = fields.optional("top_logprobs", WHOLE)?;
        if let Some(top) = top.filter(|top| *top > 0 && !asked) {
            return Err(Fault::invalid("top_logprobs", &json!(top), "logprobs to be true as well"));
        }
        check_tools(&mut fields)?;
        let request = Self {
            messages: messages.collect::<Result<_, Fault>>()?,
            logprobs: asked.then(|| top.unwrap_or(0)),
            chat_template_kwargs: fields.optional("chat_template_kwargs", "an object")?.unwrap_or_default(),
            common,
        };
        fields.end(KNOWN)?;
        Ok(request)
    }
}

/// Refuses tools, unless none is to be called.
fn check_tools(fields: &mut Fields) -> Result<(), Fault> {
    let unused = match fields.value("tool_choice") {
        None => false,
        Some(Value::String(choice)) if choice == "none" => true,
        Some(Value::String(choice)) if choice == "auto" => false,
        Some(_) => return Err(no_tools("tool_choice")),
    };
    for name in ["tools", "functions"] {
        let tools: Vec<Value> = fields.optional(name, "a list")?.unwrap_or_default();
        if !tools.is_empty() && !unused {
            return Err(no_tools(name));
        }
    }
    match fields.value("function_call") {
        Some(call) if call != "none" && call != "auto" => Err(no_tools("function_call")),
        _ => Ok(()),
    }
}

fn no_tools(field: &str) -> Fault {
    Fault::unsupported(field, "this server calls no tools".to_owned())
}

/// A message, whose content may be a text or parts of one.
fn read_message(index: usize, message: Value) -> Result<Message, Fault> {
    let path = format!("messages[{index}]");
    let mut message = Fields::of(&path, message)?;
    let role = message.needed("role", "who speaks")?;
    let content = match message.value("content") {
        None => String::new(),
        Some(Value::String(text)) => text,
        Some(Value::Array(parts)) => {
            let mut texts = String::new();
            for (part, value) in parts.into_iter().enumerate() {
                texts += &read_part(&format!("{path}.content[{part}]"), value)?;
            }
            texts
        }
        Some(other) => {
            return Err(Fault::invalid(&format!("{path}.content"), &other, "a text or a list of parts"));
        }
    };
    for name in ["tool_calls", "function_call", "audio"] {
        if let Some(value) = message.value(name).filter(|value| *value != json!([])) {
            return Err(Fault::invalid(
                &message.path(name),
                &value,
                "nothing, as this server calls no tools",
            ));
        }
    }
    Ok(Message { role, content })
}

fn read_part(path: &str, part: Value) -> Result<String, Fault> {
    let mut part = Fields::of(path, part)?;
    let kind: String = part.needed("type", "text")?;
    if kind != "text" {
        return Err(Fault::invalid(&format!("{path}.type"), &json!(kind), "text"));
    }
    part.needed("text", "a text")
}

impl CompletionRequest {
    pub(super) fn read(body: &[u8]) -> Result<Self, Fault> {
        let mut fields = Fields::read(body)?;
        let common = Common::read(&mut fields)?;
        let prompt = fields.needed("prompt", INPUT)?;
        let logprobs = fields.optional("logprobs", WHOLE)?;
        let best_of: Option<usize> = fields.optional("best_of", "a whole number from 1 on")?;
        // With `best_of` = n every text is returned, which is what happens anyway.
        if let Some(best_of) = best_of.filter(|best_of| *best_of > common.n.unwrap_or(1)) {
            return Err(Fault::unsupported("best_of", format!("best_of {best_of} is not served beyond n")));
        }
        fields.end(KNOWN)?;
        Ok(Self { common, prompt, logprobs })
    }
}

/// The path of a request, by which answers differ in form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Chat,
    Completion,
}

impl Common {
    pub(super) fn settings(&self, form: Form, logprobs: Option<u32>) -> GenerateSettings {
        let plain = SamplingParams::default();
        let mut logit_bias: Vec<(u32, f32)> = self.logit_bias.iter().map(|(id, bias)| (*id, *bias)).collect();
        logit_bias.sort_unstable_by_key(|(id, _)| *id);
        let sampling = SamplingParams {
            // The default of OpenAI's API.
            temperature: self.temperature.unwrap_or(1.0),
            top_p: self.top_p.unwrap_or(plain.top_p),
            top_k: self.top_k.unwrap_or(plain.top_k),
            min_p: self.min_p.unwrap_or(plain.min_p),
            repetition_penalty: self.repetition_penalty.unwrap_or(plain.repetition_penalty),
            presence_penalty: self.presence_penalty.unwrap_or(plain.presence_penalty),
            frequency_penalty: self.frequency_penalty.unwrap_or(plain.frequency_penalty),
            logit_bias,
            ..plain
        };
        // OpenAI's API gives a completion 16 tokens; a chat gets the server's default.
        let unlimited = if form == Form::Completion { 16 } else { 0 };
        GenerateSettings {
            model: ModelRef { name: self.model.clone(), revision: String::new() },
            priority: Priority::Interactive,
            sampling,
            seed: self.seed.map(i64::cast_unsigned),
            max_new_tokens: self.max_tokens.unwrap_or(unlimited) as usize,
            stop: self.stop.clone(),
            stop_ids: Vec::new(),
            ignore_end: false,
            logprobs,
            constraint: self.schema.clone().map(Constraint::JsonSchema),
        }
    }
}

#[cfg(test)]
mod tests;
