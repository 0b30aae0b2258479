//! Chat templates: the messages of a conversation as the one text that the model was trained on.
//!
//! Rendered as `apply_chat_template` of transformers renders them: its Jinja environment, its
//! functions, its JSON.

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

const CONFIG: &str = "tokenizer_config.json";
const FILE: &str = "chat_template.jinja";
const SPECIAL: &str = "special_tokens_map.json";
/// Steps of one rendering, about a quarter of a second; a conversation of 1,000 messages takes some
/// 50,000.
const FUEL: u64 = 10_000_000;
/// What transformers sets or this module gives, and so no request can.
const OWN: [&str; 4] = ["messages", "add_generation_prompt", "raise_exception", "strftime_now"];
/// Functions of Jinja.
const BUILT_IN: [&str; 7] = ["namespace", "range", "dict", "debug", "cycler", "joiner", "lipsum"];
/// Arguments that transformers always gives, as `None` where there are none.
const ABSENT: [&str; 2] = ["tools", "documents"];
/// Special tokens that a template may write.
const TOKENS: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Message {
    /// Who speaks: `system`, `user`, `assistant` or what the template knows besides.
    pub role: String,
    /// What is said.
    pub content: String,
}

/// Why a conversation has no text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// An argument that the template never reads.
    #[error("the chat template does not read the argument {name}; it reads: {}", list(known))]
    UnknownArgument {
        /// The argument.
        name: String,
        /// Those it does read.
        known: Vec<String>,
    },
    /// An argument that is set from the messages.
    #[error("the argument {name} of the chat template cannot be given")]
    OwnArgument {
        /// The argument.
        name: String,
    },
    /// The template itself refuses the conversation, in these words.
    #[error("the chat template refuses the messages: {0}")]
    Refused(String),
    /// A value that does not exist was read from.
    #[error("the chat template reads what is not defined in line {line}: {expression}")]
    Undefined {
        /// Line of the template.
        line: usize,
        /// What was read.
        expression: String,
    },
    /// The template does not come to an end in the steps it has.
    #[error("the chat template takes more than {FUEL} steps")]
    TooLong,
    /// Anything else that the template does wrong.
    #[error("the chat template fails in line {line}: {message}")]
    Failed {
        /// Line of the template.
        line: usize,
        /// What is wrong.
        message: String,
    },
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// Carries the words of `raise_exception` through the engine.
#[derive(Debug)]
struct Raised(String);

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Raised {}

/// A model's own template.
#[derive(Debug)]
pub struct ChatTemplate {
    engine: Environment<'static>,
    /// Special tokens by the names that templates use.
    tokens: BTreeMap<String, String>,
    arguments: Vec<String>,
}

impl ChatTemplate {
    /// Reads `chat_template.jinja`, or else `chat_template` of `tokenizer_config.json`, and the
    /// special tokens of the latter or else of `special_tokens_map.json`; nothing where the model
    /// has no template.
    ///
    /// # Errors
    /// Names the file and what is wrong with it, for a template with its line.
    pub fn read(dir: &Path) -> Result<Option<Self>> {
        let json = |name: &str| -> Result<serde_json::Value> {
            match read(&dir.join(name))? {
                Some(text) => serde_json::from_str(&text).with_context(|| format!("{name}: not JSON")),
                None => Ok(serde_json::Value::Null),
            }
        };
        let config = json(CONFIG)?;
        let (file, source) = match read(&dir.join(FILE))? {
            Some(source) => (FILE, source),
            None => match from_config(&config)? {
                Some(source) => (CONFIG, source),
                None => return Ok(None),
            },
        };
        let special = json(SPECIAL)?;
        let token = |name: &str| {
            let text = |token: &serde_json::Value| {
                Some(token.as_str().or_else(|| token["content"].as_str())?.to_owned())
            };
            Some((name.to_owned(), text(&config[name]).or_else(|| text(&special[name]))?))
        };
        let tokens = TOKENS.iter().filter_map(|name| token(name)).collect();
        let template = Self::new(&source, tokens).map_err(|error| anyhow!("{file}: {error}"))?;
        Ok(Some(template))
    }

    /// Reads a template with the special tokens it may write.
    ///
    /// # Errors
    /// [`TemplateError::Failed`] where it is not a template.
    pub fn new(source: &str, tokens: BTreeMap<String, String>) -> Result<Self, TemplateError> {
        let mut engine = Environment::new();
        engine.set_trim_blocks(true);
        engine.set_lstrip_blocks(true);
        engine.set_fuel(Some(FUEL));
        // Only an error costs something: it then knows the expression.
        engine.set_debug(true);
        engine.set_unknown_method_callback(unknown_method_callback);
        for (name, test) in [("iterable", is_iterable as fn(&Value) -> bool), ("sequence", is_sequence)] {
            engine.add_test(name, test);
        }
        engine
            .add_test("number", |value: &Value| matches!(value.kind(), ValueKind::Number | ValueKind::Bool));
        engine.add_filter("tojson", json::to_json);
        engine.add_function("raise_exception", raise_exception);
        engine.add_function("strftime_now", |format: &str| strftime(&Local::now(), format));
        engine.add_template_owned("chat", without_generation_marks(source)).map_err(|e| explain(&e))?;
        let named = engine.get_template("chat").map_err(|e| explain(&e))?.undeclared_variables(false);
        let given = |name: &String| {
            let name = name.as_str();
            !(OWN.contains(&name) || BUILT_IN.contains(&name) || TOKENS.contains(&name))
        };
        let arguments: BTreeSet<String> = named.into_iter().filter(given).collect();
        Ok(Self { engine, tokens, arguments: arguments.into_iter().collect() })
    }

    /// The arguments that the template reads beside messages and special tokens, in the order of
    /// their names.
    pub fn arguments(&self) -> &[String] {
        &self.arguments
    }

    /// The text of a conversation; it has the special tokens in it, so none may be added to it.
    /// With `add_generation_prompt` it ends where the answer of the assistant begins.
    ///
    /// # Errors
    /// See [`TemplateError`].
    pub fn render(
        &self,
        messages: &[Message],
        arguments: &BTreeMap<String, serde_json::Value>,
        add_generation_prompt: bool,
    ) -> Result<String, TemplateError> {
        for name in arguments.keys() {
            if OWN.contains(&name.as_str()) {
                return Err(TemplateError::OwnArgument { name: name.clone() });
            }
            if !self.arguments.contains(name) {
                return Err(TemplateError::UnknownArgument {
                    name: name.clone(),
                    known: self.arguments.clone(),
                });
            }
        }
        let mut context: BTreeMap<&str, Value> = ABSENT.iter().map(|name| (*name, Value::from(()))).collect();
        context.extend(self.tokens.iter().map(|(name, token)| (name.as_str(), Value::from(token.as_str()))));
        context.extend(arguments.iter().map(|(name, value)| (name.as_str(), Value::from_serialize(value))));
        context.insert("messages", Value::from_serialize(messages));
        context.insert("add_generation_prompt", Value::from(add_generation_prompt));
        let template = self.engine.get_template("chat").map_err(|e| explain(&e))?;
        template.render(context).map_err(|e| explain(&e))
    }
}

/// The text of a file; nothing where there is none.
fn read(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// One template, or of several named ones the default.
fn from_config(config: &serde_json::Value) -> Result<Option<String>> {
    match &config["chat_template"] {
        serde_json::Value::Null => Ok(None),
        serde_json::Value::String(source) => Ok(Some(source.clone())),
        serde_json::Value::Array(named) => {
            let default = named.iter().find(|entry| entry["name"] == "default");
            let source = default.and_then(|entry| entry["template"].as_str());
            let source = source.with_context(|| format!("{CONFIG}: chat_template has none named default"))?;
            Ok(Some(source.to_owned()))
        }
        _ => bail!("{CONFIG}: chat_template is neither a text nor a list"),
    }
}

/// transformers marks what the assistant said by `{% generation %}`, which changes no text.
fn without_generation_marks(source: &str) -> String {
    let mut text = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let Some(length) = rest[start..].find("%}") else { break };
        let inner = &rest[start + 2..start + length];
        let name = inner.trim_matches(['-', '+']).trim();
        let other = match name {
            "generation" => inner.replace(name, "if true"),
            "endgeneration" => inner.replace(name, "endif"),
            _ => inner.to_owned(),
        };
        text.push_str(&rest[..start + 2]);
        text.push_str(&other);
        rest = &rest[start + length..];
    }
    text + rest
}

/// As Jinja has it: nothing can be gone through in `None`, and anything in what is not defined.
fn is_iterable(value: &Value) -> bool {
    !value.is_none() && value.try_iter().is_ok()
}

/// As Jinja has it: whatever has a length and places, so texts and mappings too.
fn is_sequence(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Seq | ValueKind::String | ValueKind::Map | ValueKind::Undefined)
}

fn raise_exception(words: &str) -> Result<Value, Error> {
    let error = Error::new(ErrorKind::InvalidOperation, words.to_owned());
    Err(error.with_source(Raised(words.to_owned())))
}

fn strftime(now: &DateTime<Local>, format: &str) -> Result<String, Error> {
    let mut text = String::new();
    let written = write!(text, "{}", now.format(format));
    written.map_err(|_| Error::new(ErrorKind::InvalidOperation, format!("no format of a time: {format}")))?;
    Ok(text)
}

fn explain(error: &Error) -> TemplateError {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(cause) = source {
        if let Some(Raised(words)) = cause.downcast_ref() {
            return TemplateError::Refused(words.clone());
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

/// What an error is about. The engine knows an attribute only from its dot on: what stands before
/// is added.
fn expression(error: &Error) -> Option<String> {
    let (source, range) = (error.template_source()?, error.range()?);
    let named = |c: char| c.is_alphanumeric() || "_.[]()'\"".contains(c);
    let start = source.get(..range.start)?.trim_end_matches(named).len();
    source.get(start..range.end).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone;
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Deserialize)]
    struct Golden {
        name: String,
        config: serde_json::Value,
        cases: Vec<Case>,
    }

    #[derive(Deserialize)]
    struct Case {
        messages: Vec<(String, String)>,
        arguments: BTreeMap<String, serde_json::Value>,
        add_generation_prompt: bool,
        text: Option<String>,
        refused: Option<String>,
    }

    fn messages(pairs: &[(&str, &str)]) -> Vec<Message> {
        pairs
            .iter()
            .map(|(role, content)| Message { role: (*role).into(), content: (*content).into() })
            .collect()
    }

    fn template(source: &str) -> ChatTemplate {
        ChatTemplate::new(source, BTreeMap::from([("bos_token".to_owned(), "<s>".to_owned())])).unwrap()
    }

    fn rendered(source: &str, arguments: serde_json::Value) -> Result<String, TemplateError> {
        let arguments = serde_json::from_value(arguments).unwrap();
        template(source).render(&messages(&[("user", "¡Hola!"), ("assistant", " Sí ")]), &arguments, true)
    }

    /// What transformers renders; `make_chat_goldens.py` beside the file made it.
    #[test]
    fn renders_what_transformers_renders() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/goldens/chats.json");
        let goldens: Vec<Golden> = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        assert!(goldens.len() >= 4);
        for golden in goldens {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join(CONFIG), golden.config.to_string()).unwrap();
            let template = ChatTemplate::read(dir.path()).unwrap().unwrap();
            for (number, case) in golden.cases.into_iter().enumerate() {
                let messages = case.messages.into_iter().map(|(role, content)| Message { role, content });
                let messages: Vec<Message> = messages.collect();
                let got = template.render(&messages, &case.arguments, case.add_generation_prompt);
                let expected = case.text.ok_or(case.refused.map(TemplateError::Refused));
                assert_eq!(got.map_err(Some), expected, "{} {number}", golden.name);
            }
        }
    }

    #[test]
    fn renders_as_python_does() {
        fn check(source: &str, expected: &str) {
            let arguments = json!({"x": {"b": [1, 2.0, null], "a": "é\u{1}\"</"}, "n": 3, "f": 1e-7});
            let source = format!("{source}{{% if false %}}{{{{ x ~ n ~ f }}}}{{% endif %}}");
            assert_eq!(rendered(&source, arguments).unwrap(), expected, "{source}");
        }
        check("{{ bos_token }}{{ messages[0].content }}", "<s>¡Hola!");
        check("{{ messages[1]['content'].strip() }}|{{ messages[1].content | trim }}", "Sí|Sí");
        check("{{ messages[::-1][0].role.upper() }}", "ASSISTANT");
        check("{{ x | tojson }}", r#"{"b": [1, 2.0, null], "a": "é\u0001\"</"}"#);
        check("{{ x.b | tojson(indent=2) }}", "[\n  1,\n  2.0,\n  null\n]");
        check("{{ x.a | tojson(ensure_ascii=true) }}", r#""\u00e9\u0001\"</""#);
        check("{{ messages[0] | tojson }}", r#"{"role": "user", "content": "¡Hola!"}"#);
        check("{{ f | tojson }}", "1e-07");
        check("{{ tools is none }} {{ documents is none }} {{ missing is defined }}", "True True False");
        check("{{ missing }}", "");
        // As Qwen3-Coder and Nemotron ask.
        check("{% if tools is iterable and tools | length > 0 %}x{% endif %}", "");
        check(
            "{{ tools is iterable }} {{ none is iterable }} {{ n is iterable }} {{ true is iterable }}",
            "False False False False",
        );
        check(
            "{{ x is iterable }} {{ 'a' is iterable }} {{ [] is iterable }} {{ missing is iterable }}",
            "True True True True",
        );
        check(
            "{{ 'a' is sequence }} {{ x is sequence }} {{ [] is sequence }} {{ none is sequence }} {{ n is sequence }}",
            "True True True False False",
        );
        check(
            "{{ true is number }} {{ n is number }} {{ f is number }} {{ 'a' is number }}",
            "True True True False",
        );
        check("{% for m in messages %}\n  {{ m.role }}\n{% endfor %}\n", "  user\n  assistant\n");
        check("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", "01");
        check(
            "{% set ns = namespace(k=0) %}{% for m in messages %}{% set ns.k = ns.k + n %}{% endfor %}{{ ns.k }}",
            "6",
        );
        check(
            "{% for m in messages %}{{ loop.index0 }}{{ loop.last }}{{ loop.previtem is defined }}{% endfor %}",
            "0FalseFalse1TrueTrue",
        );
        check("a {%- generation %} b {%- endgeneration -%} c", "a bc");
        check("{{ 'a b'.split(' ')[-1] }}{{ 'xyx'.lstrip('x') }}{{ 'ab'.startswith('a') }}", "byxTrue");
        check("{{ x.items() | list | length }}{{ x.get('z', 'none') }}{{ 'b' in x }}", "2noneTrue");
        check("{% macro m(t) %}<{{ t }}>{% endmacro %}{{ m('a') ~ 1 }}", "<a>1");
    }

    #[test]
    fn special_tokens_stand_in_either_file() {
        let dir = tempfile::tempdir().unwrap();
        let write =
            |name: &str, text: serde_json::Value| fs::write(dir.path().join(name), text.to_string()).unwrap();
        fs::write(dir.path().join(FILE), "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}").unwrap();
        let text = || {
            let template = ChatTemplate::read(dir.path()).unwrap().unwrap();
            template.render(&messages(&[("user", "hola")]), &BTreeMap::new(), true).unwrap()
        };
        write(
            SPECIAL,
            json!({"bos_token": {"content": "<|im_start|>", "lstrip": false}, "eos_token": "<|im_end|>"}),
        );
        assert_eq!(text(), "<|im_start|>hola<|im_end|>");
        write(CONFIG, json!({"bos_token": "<s>", "eos_token": null}));
        assert_eq!(text(), "<s>hola<|im_end|>");
    }

    #[test]
    fn errors_say_what_is_wrong() {
        fn check(source: &str, arguments: serde_json::Value, expected: &str) {
            assert_eq!(rendered(source, arguments).unwrap_err().to_string(), expected);
        }
        check(
            "{{ raise_exception('no ' ~ messages[0].role) }}",
            json!({}),
            "the chat template refuses the messages: no user",
        );
        let nested = "{% macro m() %}{{ raise_exception('deep') }}{% endmacro %}\n{{ m() }}";
        check(nested, json!({}), "the chat template refuses the messages: deep");
        check(
            "a\n{{ messages[0].tool.name }}",
            json!({}),
            "the chat template reads what is not defined in line 2: messages[0].tool.name",
        );
        check(
            "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
            json!({}),
            "the chat template takes more than 10000000 steps",
        );
        check(
            "{{ b }}{{ a }}{% set c = 1 %}{{ c }}",
            json!({"c": 1}),
            "the chat template does not read the argument c; it reads: a, b",
        );
        check("", json!({"tools": []}), "the chat template does not read the argument tools; it reads: none");
        check(
            "{{ messages }}",
            json!({"messages": []}),
            "the argument messages of the chat template cannot be given",
        );
        check(
            "{{ messages | nothing }}",
            json!({}),
            "the chat template fails in line 1: unknown filter: filter nothing is unknown",
        );
        check(
            "{{ strftime_now('%Q') }}",
            json!({}),
            "the chat template fails in line 1: invalid operation: no format of a time: %Q",
        );
        check(
            "{{ missing | tojson }}",
            json!({}),
            "the chat template fails in line 1: invalid operation: undefined is no JSON",
        );
    }

    #[test]
    fn the_template_is_looked_for_in_two_files() {
        fn check(files: &[(&str, &str)], expected: Result<Option<&str>, &str>) {
            let dir = tempfile::tempdir().unwrap();
            for (name, text) in files {
                fs::write(dir.path().join(name), text).unwrap();
            }
            let got = ChatTemplate::read(dir.path()).map_err(|error| format!("{error:#}"));
            let got = got.map(|t| t.map(|t| t.render(&[], &BTreeMap::new(), false).unwrap()));
            assert_eq!(got.as_ref().map(Option::as_deref).map_err(String::as_str), expected);
        }
        check(&[], Ok(None));
        check(&[(CONFIG, "{}")], Ok(None));
        check(&[(FILE, "file{{ eos_token }}")], Ok(Some("file")));
        let config = r#"{"chat_template": "{{ bos_token }}config{{ eos_token }}", "bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": false}}"#;
        check(&[(CONFIG, config)], Ok(Some("<s>config</s>")));
        check(&[(CONFIG, config), (FILE, "file{{ eos_token }}\n")], Ok(Some("file</s>")));
        let named =
            r#"{"chat_template": [{"name": "rag", "template": "r"}, {"name": "default", "template": "d"}]}"#;
        check(&[(CONFIG, named)], Ok(Some("d")));
        let no_default = r#"{"chat_template": [{"name": "rag", "template": "r"}]}"#;
        check(&[(CONFIG, no_default)], Err("tokenizer_config.json: chat_template has none named default"));
        check(
            &[(CONFIG, r#"{"chat_template": 1}"#)],
            Err("tokenizer_config.json: chat_template is neither a text nor a list"),
        );
        check(
            &[(FILE, "a\n{% if %}")],
            Err(
                "chat_template.jinja: the chat template fails in line 2: syntax error: unexpected end of block",
            ),
        );
    }

    #[test]
    fn times_are_written_as_in_python() {
        let now = Local.with_ymd_and_hms(2024, 7, 6, 5, 4, 3).unwrap();
        assert_eq!(strftime(&now, "%d %b %Y, %H:%M").unwrap(), "06 Jul 2024, 05:04");
        let text = rendered("{{ strftime_now('%Y') }}", json!({})).unwrap();
        assert!(text.parse::<u32>().unwrap() >= 2024);
    }
}
