//! Chat templates: from the messages of a conversation to the prompt that the model was trained on.
//!
//! Templates are rendered as by `apply_chat_template` of transformers: the same Jinja environment,
//! functions and JSON. Rendering is bounded in steps, so that no template or argument can stall it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use chrono::{DateTime, Local};
use minijinja::value::ValueKind;
use minijinja::{Environment, Error, ErrorKind, Value};
use minijinja_contrib::pycompat::unknown_method_callback;
use serde::Serialize;

mod json;

const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const TEMPLATE_FILE: &str = "chat_template.jinja";
const SPECIAL_TOKENS_MAP: &str = "special_tokens_map.json";
/// Maximum number of Jinja instructions of one rendering: about a quarter of a second. Not tuned: a
/// conversation of 1,000 messages takes some 50,000.
const FUEL: u64 = 10_000_000;
/// Variables set by transformers or by this module, which a request therefore cannot set.
const RESERVED: [&str; 4] = ["messages", "add_generation_prompt", "raise_exception", "strftime_now"];
/// Global functions of Jinja.
const BUILT_IN: [&str; 7] = ["namespace", "range", "dict", "debug", "cycler", "joiner", "lipsum"];
/// Arguments that transformers always passes, as `None` by default.
const NONE_BY_DEFAULT: [&str; 2] = ["tools", "documents"];
/// Special tokens that a template may refer to.
const SPECIAL_TOKENS: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Message {
    /// Role of the speaker: `system`, `user`, `assistant` or another one that the template knows.
    pub role: String,
    /// Text of the message.
    pub content: String,
}

/// Error of rendering a conversation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// An argument is given that the template never reads.
    #[error("the chat template does not read the argument {name}; it reads: {}", list(known))]
    UnknownArgument {
        /// The argument.
        name: String,
        /// Arguments that the template reads.
        known: Vec<String>,
    },
    /// An argument is given that is set by the server.
    #[error("the argument {name} of the chat template is reserved")]
    ReservedArgument {
        /// The argument.
        name: String,
    },
    /// The template itself refuses the conversation, with this message.
    #[error("the chat template refuses the messages: {0}")]
    Refused(String),
    /// The template reads an undefined value.
    #[error("the chat template reads an undefined value in line {line}: {expression}")]
    Undefined {
        /// Line of the template.
        line: usize,
        /// Expression that is undefined.
        expression: String,
    },
    /// Rendering takes too many steps.
    #[error("the chat template takes more than {FUEL} steps")]
    TooLong,
    /// Any other error of the template.
    #[error("the chat template fails in line {line}: {message}")]
    Failed {
        /// Line of the template.
        line: usize,
        /// Description of the error.
        message: String,
    },
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// Carries the message of `raise_exception` through the Jinja environment.
#[derive(Debug)]
struct Raised(String);

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Raised {}

/// Chat template of a model.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    /// Special tokens by the names that templates use.
    tokens: BTreeMap<String, String>,
    /// Arguments that the template reads, sorted.
    arguments: Vec<String>,
}

/// A JSON file of a model; `Null` if there is none.
fn read_json(dir: &Path, name: &str) -> Result<serde_json::Value> {
    match read(&dir.join(name))? {
        Some(text) => serde_json::from_str(&text).with_context(|| format!("{name} is not valid JSON")),
        None => Ok(serde_json::Value::Null),
    }
}

/// The text of a special token, which is a string or an object.
fn token_text(token: &serde_json::Value) -> Option<String> {
    Some(token.as_str().or_else(|| token["content"].as_str())?.to_owned())
}

/// True for a variable that neither the engine nor the special tokens provide.
fn is_argument(name: &str) -> bool {
    !(RESERVED.contains(&name) || BUILT_IN.contains(&name) || SPECIAL_TOKENS.contains(&name))
}

impl ChatTemplate {
    /// Reads the template from `chat_template.jinja`, else from `chat_template` of
    /// `tokenizer_config.json`, and the special tokens from the latter, else from
    /// `special_tokens_map.json`. Returns `None` if the model has no template.
    ///
    /// # Errors
    /// If a file cannot be read or is invalid; the message names it, and the line of a template.
    pub fn read(dir: &Path) -> Result<Option<Self>> {
        let config = read_json(dir, TOKENIZER_CONFIG)?;
        let (file, source) = match read(&dir.join(TEMPLATE_FILE))? {
            Some(source) => (TEMPLATE_FILE, source),
            None => match from_config(&config)? {
                Some(source) => (TOKENIZER_CONFIG, source),
                None => return Ok(None),
            },
        };
        // Older checkpoints have the tokens there only; where both have one, transformers takes the
        // config's.
        let special = read_json(dir, SPECIAL_TOKENS_MAP)?;
        let mut tokens = BTreeMap::new();
        for name in SPECIAL_TOKENS {
            if let Some(text) = token_text(&config[name]).or_else(|| token_text(&special[name])) {
                tokens.insert(name.to_owned(), text);
            }
        }
        let template = Self::new(&source, tokens).map_err(|error| anyhow!("{file}: {error}"))?;
        Ok(Some(template))
    }

    /// Compiles a template with the special tokens it may refer to.
    ///
    /// # Errors
    /// `TemplateError::Failed` if its syntax is invalid.
    pub fn new(source: &str, tokens: BTreeMap<String, String>) -> Result<Self, TemplateError> {
        let mut environment = Environment::new();
        // As transformers sets them.
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        // The template comes with the model and its arguments from the caller: neither may loop for
        // ever.
        environment.set_fuel(Some(FUEL));
        // Costs time only if there is an error, which then knows its expression.
        environment.set_debug(true);
        environment.set_unknown_method_callback(unknown_method_callback);
        // minijinja's own tests are narrower than Jinja's, and templates branch on them.
        for (name, test) in [("iterable", is_iterable as fn(&Value) -> bool), ("sequence", is_sequence)] {
            environment.add_test(name, test);
        }
        environment
            .add_test("number", |value: &Value| matches!(value.kind(), ValueKind::Number | ValueKind::Bool));
        // minijinja's filter escapes for HTML, which would put other characters into the prompt.
        environment.add_filter("tojson", json::to_json);
        environment.add_function("raise_exception", raise_exception);
        // Local time, as Python's `datetime.now()`.
        environment.add_function("strftime_now", |format: &str| strftime(&Local::now(), format));
        environment.add_template_owned("chat", without_generation_tags(source)).map_err(|e| explain(&e))?;
        let named = environment.get_template("chat").map_err(|e| explain(&e))?.undeclared_variables(false);
        let arguments: BTreeSet<String> = named.into_iter().filter(|name| is_argument(name)).collect();
        Ok(Self { environment, tokens, arguments: arguments.into_iter().collect() })
    }

    /// Names of the arguments that the template reads in addition to messages and special tokens,
    /// sorted.
    pub fn arguments(&self) -> &[String] {
        &self.arguments
    }

    /// Renders a conversation. The text contains the special tokens, so that none may be added when
    /// it is tokenized. With `add_generation_prompt` it ends where the assistant's answer begins.
    ///
    /// # Errors
    /// See `TemplateError`.
    pub fn render(
        &self,
        messages: &[Message],
        arguments: &BTreeMap<String, serde_json::Value>,
        add_generation_prompt: bool,
    ) -> Result<String, TemplateError> {
        for name in arguments.keys() {
            if RESERVED.contains(&name.as_str()) {
                return Err(TemplateError::ReservedArgument { name: name.clone() });
            }
            // Refused instead of ignored: a misspelt `enable_thinking` would silently change
            // nothing.
            if !self.arguments.contains(name) {
                return Err(TemplateError::UnknownArgument {
                    name: name.clone(),
                    known: self.arguments.clone(),
                });
            }
        }
        // Later entries win: an argument may replace a special token, nothing replaces the
        // messages.
        let mut context: BTreeMap<&str, Value> =
            NONE_BY_DEFAULT.iter().map(|name| (*name, Value::from(()))).collect();
        context.extend(self.tokens.iter().map(|(name, token)| (name.as_str(), Value::from(token.as_str()))));
        context.extend(arguments.iter().map(|(name, value)| (name.as_str(), Value::from_serialize(value))));
        context.insert("messages", Value::from_serialize(messages));
        context.insert("add_generation_prompt", Value::from(add_generation_prompt));
        let template = self.environment.get_template("chat").map_err(|e| explain(&e))?;
        template.render(context).map_err(|e| explain(&e))
    }
}

/// Reads a file; `None` if it does not exist.
fn read(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Takes the template, or of several named ones the default, from `tokenizer_config.json`.
fn from_config(config: &serde_json::Value) -> Result<Option<String>> {
    match &config["chat_template"] {
        serde_json::Value::Null => Ok(None),
        serde_json::Value::String(source) => Ok(Some(source.clone())),
        serde_json::Value::Array(named) => {
            let default = named.iter().find(|entry| entry["name"] == "default");
            let source = default.and_then(|entry| entry["template"].as_str());
            let source = source
                .with_context(|| format!("{TOKENIZER_CONFIG}: chat_template has none named default"))?;
            Ok(Some(source.to_owned()))
        }
        _ => bail!("{TOKENIZER_CONFIG}: chat_template is neither a string nor a list"),
    }
}

/// Replaces the tags `{% generation %}`, by which transformers marks the assistant's text for
/// training: they render nothing, and minijinja does not know them.
fn without_generation_tags(source: &str) -> String {
    let mut text = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let Some(length) = rest[start..].find("%}") else { break };
        let inner = &rest[start + 2..start + length];
        let name = inner.trim_matches(['-', '+']).trim();
        let replaced = match name {
            "generation" => inner.replace(name, "if true"),
            "endgeneration" => inner.replace(name, "endif"),
            _ => inner.to_owned(),
        };
        text.push_str(&rest[..start + 2]);
        text.push_str(&replaced);
        rest = &rest[start + length..];
    }
    text + rest
}

/// Test `iterable` as in Jinja: `None` is not, an undefined value is.
fn is_iterable(value: &Value) -> bool {
    !value.is_none() && value.try_iter().is_ok()
}

/// Test `sequence` as in Jinja: anything with a length and items, so strings and mappings too.
fn is_sequence(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Seq | ValueKind::String | ValueKind::Map | ValueKind::Undefined)
}

fn raise_exception(message: &str) -> Result<Value, Error> {
    let error = Error::new(ErrorKind::InvalidOperation, message.to_owned());
    Err(error.with_source(Raised(message.to_owned())))
}

fn strftime(now: &DateTime<Local>, format: &str) -> Result<String, Error> {
    let mut text = String::new();
    let written = write!(text, "{}", now.format(format));
    written
        .map_err(|_| Error::new(ErrorKind::InvalidOperation, format!("invalid time format `{format}`")))?;
    Ok(text)
}

/// Converts an error of minijinja.
fn explain(error: &Error) -> TemplateError {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    // The message that a template raises is the most useful one, wherever it is in the chain.
    while let Some(cause) = source {
        if let Some(Raised(message)) = cause.downcast_ref() {
            return TemplateError::Refused(message.clone());
        }
        source = cause.source();
    }
    let line = error.line().unwrap_or_default();
    match (error.kind(), expression(error)) {
        (ErrorKind::OutOfFuel, _) => TemplateError::TooLong,
        (ErrorKind::UndefinedError, Some(expression)) => TemplateError::Undefined { line, expression },
        (kind, _) => {
            let message = error.detail().map_or(kind.to_string(), |detail| format!("{kind}: {detail}"));
            TemplateError::Failed { line, message }
        }
    }
}

/// Expression that an error is about. minijinja reports an attribute from its dot on, so the
/// expression before it is added.
fn expression(error: &Error) -> Option<String> {
    let (source, range) = (error.template_source()?, error.range()?);
    let start = source.get(..range.start)?.trim_end_matches(is_part_of_expression).len();
    source.get(start..range.end).map(str::to_owned)
}

fn is_part_of_expression(c: char) -> bool {
    c.is_alphanumeric() || "_.[]()'\"".contains(c)
}

#[cfg(test)]
mod tests;
