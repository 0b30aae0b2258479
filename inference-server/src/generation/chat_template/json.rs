//! JSON as written by Python's `json.dumps`.
//!
//! Models were trained on prompts rendered by Python, so the same separators, escapes and digits
//! matter.

use std::fmt::Write;

use minijinja::value::Kwargs;
use minijinja::{Error, ErrorKind, Value};
use serde_json::Value as Json;

/// Options of `json.dumps`.
struct Style {
    indent: Option<String>,
    /// Separator of entries, and of a key and its value.
    separators: (String, String),
    ensure_ascii: bool,
    sort_keys: bool,
}

/// The filter `tojson` of transformers, with its keyword arguments.
pub(super) fn to_json(value: &Value, arguments: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = arguments.get("indent")?;
    let separators: Option<Vec<String>> = arguments.get("separators")?;
    let separators = match separators.as_deref() {
        Some([entry, key]) => (entry.clone(), key.clone()),
        Some(_) => return Err(Error::new(ErrorKind::InvalidOperation, "separators are two strings")),
        // Python omits the space after a comma if it breaks lines.
        None => (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()),
    };
    let style = Style {
        indent: indent.map(|width| " ".repeat(width)),
        separators,
        ensure_ascii: arguments.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        sort_keys: arguments.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
    };
    // As a Python function refuses a keyword that it does not have.
    arguments.assert_all_used()?;
    if value.is_undefined() {
        return Err(Error::new(ErrorKind::InvalidOperation, "undefined is not valid JSON"));
    }
    // Through serde_json, which keeps the order of keys and tells integers from floats.
    let json = serde_json::to_value(value).map_err(|error| {
        Error::new(ErrorKind::InvalidOperation, format!("{} is not valid JSON", value.kind()))
            .with_source(error)
    })?;
    let mut text = String::new();
    style.write(&json, 0, &mut text);
    Ok(text)
}

impl Style {
    fn write(&self, json: &Json, depth: usize, text: &mut String) {
        match json {
            Json::Null => text.push_str("null"),
            Json::Bool(truth) => text.push_str(if *truth { "true" } else { "false" }),
            Json::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
                Some(float) => text.push_str(&python_float(float)),
                None => text.push_str(&number.to_string()),
            },
            Json::String(string) => self.string(string, text),
            Json::Array(items) => {
                text.push('[');
                self.entries(items, depth, text, |item, text| self.write(item, depth + 1, text));
                text.push(']');
            }
            Json::Object(map) => {
                let mut entries: Vec<(&String, &Json)> = map.iter().collect();
                if self.sort_keys {
                    entries.sort_by_key(|(key, _)| *key);
                }
                text.push('{');
                self.entries(&entries, depth, text, |(key, value), text| {
                    self.string(key, text);
                    text.push_str(&self.separators.1);
                    self.write(value, depth + 1, text);
                });
                text.push('}');
            }
        }
    }

    fn entries<T>(&self, entries: &[T], depth: usize, text: &mut String, one: impl Fn(&T, &mut String)) {
        for (number, entry) in entries.iter().enumerate() {
            if number > 0 {
                text.push_str(&self.separators.0);
            }
            self.line(depth + 1, text);
            one(entry, text);
        }
        if !entries.is_empty() {
            self.line(depth, text);
        }
    }

    fn line(&self, depth: usize, text: &mut String) {
        if let Some(indent) = &self.indent {
            text.push('\n');
            text.push_str(&indent.repeat(depth));
        }
    }

    fn string(&self, string: &str, text: &mut String) {
        text.push('"');
        for c in string.chars() {
            match c {
                '"' => text.push_str("\\\""),
                '\\' => text.push_str("\\\\"),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                '\t' => text.push_str("\\t"),
                '\u{8}' => text.push_str("\\b"),
                '\u{c}' => text.push_str("\\f"),
                c if c < ' ' || (self.ensure_ascii && !c.is_ascii()) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        // Writing to a string cannot fail.
                        let _ = write!(text, "\\u{unit:04x}");
                    }
                }
                c => text.push(c),
            }
        }
        text.push('"');
    }
}

/// Formats a float as Python does. Rust agrees on the digits and on when there is an exponent, but
/// Python signs the exponent and gives it two digits.
fn python_float(float: f64) -> String {
    let text = format!("{float:?}");
    match text.split_once('e') {
        Some((digits, exponent)) => {
            let (sign, exponent) = match exponent.strip_prefix('-') {
                Some(exponent) => ('-', exponent),
                None => ('+', exponent),
            };
            format!("{digits}e{sign}{exponent:0>2}")
        }
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From a Python prompt.
    #[test]
    fn floats_are_pythons() {
        fn check(float: f64, expected: &str) {
            assert_eq!(python_float(float), expected);
        }
        check(1.0, "1.0");
        check(-0.0, "-0.0");
        check(0.1, "0.1");
        check(0.0001, "0.0001");
        check(0.00001, "1e-05");
        check(1e15, "1000000000000000.0");
        check(1e16, "1e+16");
        check(1.5e300, "1.5e+300");
        check(-2.5e-10, "-2.5e-10");
        check(5e-324, "5e-324");
    }
}
