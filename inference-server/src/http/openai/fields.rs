//! The fields of a request, read one by one, so that a refusal names the one at fault.
//!
//! A field that is `null` is left out, as OpenAI's API has it. What is asked for and not done is
//! refused: a caller who gets an answer gets what was asked.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Longest value that a message repeats, in characters. Not tuned: it leaves room for the rest on a
/// line.
const LONGEST: usize = 60;

/// Keys that change no answer: who asks, and what a service may keep or charge.
const WITHOUT_EFFECT: [&str; 9] = [
    "user",
    "metadata",
    "store",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "parallel_tool_calls",
    "request_id",
];

/// A fault of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// The field, by its path.
    pub(super) param: Option<String>,
    pub(super) message: String,
    pub(super) code: &'static str,
}

impl Fault {
    /// A value that is not what is allowed.
    pub(super) fn invalid(param: &str, value: &Value, expected: &str) -> Self {
        let message = format!("invalid {param} `{}`: expected {expected}", shown(value));
        Self { param: Some(param.to_owned()), message, code: "invalid_value" }
    }

    /// A body that is not a JSON object.
    fn body(message: String) -> Self {
        Self { param: None, message, code: "invalid_json" }
    }

    /// A field that asks for something this server does not support.
    pub(super) fn unsupported(param: &str, message: String) -> Self {
        Self { param: Some(param.to_owned()), message, code: "unsupported" }
    }
}

/// The beginning of a value.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// True if a value asks for something.
fn asks(value: &Value) -> bool {
    match value {
        // Clients send defaults along: an unknown field that is off or empty asks for nothing.
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
        _ => true,
    }
}

/// The fields of an object that have not been read yet.
#[derive(Debug)]
pub(super) struct Fields {
    /// Path of the object, for messages; empty for the request itself.
    path: String,
    map: Map<String, Value>,
}

impl Fields {
    /// The fields of a request body.
    ///
    /// # Errors
    /// If the body is not a JSON object.
    pub(super) fn read(body: &[u8]) -> Result<Self, Fault> {
        match serde_json::from_slice(body) {
            Ok(Value::Object(map)) => Ok(Self { path: String::new(), map }),
            Ok(other) => {
                Err(Fault::body(format!("invalid body `{}`: expected a JSON object", shown(&other))))
            }
            Err(error) => Err(Fault::body(error.to_string())),
        }
    }

    /// The fields of a nested value.
    ///
    /// # Errors
    /// If it is no object.
    pub(super) fn of(path: &str, value: Value) -> Result<Self, Fault> {
        match value {
            Value::Object(map) => Ok(Self { path: format!("{path}."), map }),
            other => Err(Fault::invalid(path, &other, "an object")),
        }
    }

    /// The path of a field.
    pub(super) fn path(&self, name: &str) -> String {
        format!("{}{name}", self.path)
    }

    /// A field as it is; nothing where it is left out or `null`.
    pub(super) fn value(&mut self, name: &str) -> Option<Value> {
        self.map.remove(name).filter(|value| !value.is_null())
    }

    /// A field; nothing where it is left out or `null`.
    ///
    /// # Errors
    /// If it is something else than `expected` says.
    pub(super) fn optional<T: DeserializeOwned>(
        &mut self,
        name: &str,
        expected: &str,
    ) -> Result<Option<T>, Fault> {
        let Some(value) = self.value(name) else { return Ok(None) };
        match T::deserialize(&value) {
            Ok(read) => Ok(Some(read)),
            // serde's message names types of Rust; ours says what the API expects.
            Err(_) => Err(Fault::invalid(&self.path(name), &value, expected)),
        }
    }

    /// A field that must be there.
    ///
    /// # Errors
    /// If it is not, or is something else than `expected` says.
    pub(super) fn needed<T: DeserializeOwned>(&mut self, name: &str, expected: &str) -> Result<T, Fault> {
        let path = self.path(name);
        self.optional(name, expected)?.ok_or_else(|| Fault {
            message: format!("{path} is missing: expected {expected}"),
            param: Some(path),
            code: "invalid_value",
        })
    }

    /// A flag: false if it is omitted or `null`.
    ///
    /// # Errors
    /// If it is neither yes nor no.
    pub(super) fn flag(&mut self, name: &str) -> Result<bool, Fault> {
        Ok(self.optional(name, "true or false")?.unwrap_or_default())
    }

    /// Refuses what nobody read and what asks for something; `known` are the fields there are, in
    /// words.
    ///
    /// # Errors
    /// Names the first such field.
    pub(super) fn end(self, known: &str) -> Result<(), Fault> {
        for (key, value) in &self.map {
            let is_ignored = self.path.is_empty() && WITHOUT_EFFECT.contains(&key.as_str());
            if asks(value) && !is_ignored {
                let path = self.path(key);
                return Err(Fault::unsupported(&path, format!("{path} is not served here; {known}")));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(value: Value) -> Fields {
        Fields::read(value.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn fields_are_read_one_by_one() {
        let mut all = fields(json!({"a": 7, "b": null, "c": "x", "d": true, "e": {"f": 1}}));
        assert_eq!(all.optional::<u32>("a", "a number"), Ok(Some(7)));
        assert_eq!(all.optional::<u32>("b", "a number"), Ok(None));
        assert_eq!(all.optional::<u32>("z", "a number"), Ok(None));
        let fault = all.optional::<u32>("c", "a number").unwrap_err();
        assert_eq!(fault.param.as_deref(), Some("c"));
        assert_eq!(fault.message, "invalid c `\"x\"`: expected a number");
        assert_eq!((all.flag("d"), all.flag("z")), (Ok(true), Ok(false)));
        let inner = all.value("e").unwrap();
        let fault = Fields::of("e", inner).unwrap().needed::<String>("g", "a text").unwrap_err();
        assert_eq!(
            (fault.param.as_deref(), fault.message.as_str()),
            (Some("e.g"), "e.g is missing: expected a text")
        );
        let long = fields(json!({"a": "ñ".repeat(500)})).optional::<u32>("a", "a number").unwrap_err();
        assert!(long.message.chars().count() < 120, "{}", long.message);
        for bad in ["", "[1]", "7", "{"] {
            assert_eq!(Fields::read(bad.as_bytes()).unwrap_err().code, "invalid_json", "{bad}");
        }
    }

    #[test]
    fn what_is_asked_for_and_not_read_is_refused() {
        fn check(value: Value, expected: Option<&str>) {
            let fault = fields(value).end("there are a and b").err();
            assert_eq!(fault.as_ref().and_then(|fault| fault.param.as_deref()), expected);
            assert!(fault.is_none_or(|fault| fault.code == "unsupported"));
        }
        check(json!({"user": "u", "metadata": {"a": 1}, "store": true}), None);
        check(json!({"tools": null, "guided_json": {}, "echo": false, "suffix": "", "x": []}), None);
        check(json!({"guided_json": {"type": "object"}}), Some("guided_json"));
        check(json!({"structured_outputs": {"regex": "a"}}), Some("structured_outputs"));
        check(json!({"user": "u", "min_tokens": 0}), Some("min_tokens"));
        let inner = Fields::of("documents[0]", json!({"user": "u"})).unwrap();
        assert_eq!(inner.end("").unwrap_err().param.as_deref(), Some("documents[0].user"));
    }
}
