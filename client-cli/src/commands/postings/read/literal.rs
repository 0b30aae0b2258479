//! Lists and objects inside a cell: JSON, or as Python prints them.
//!
//! Anything else, such as prose in brackets, stays text.

use serde_json::{Map, Number, Value};

/// Maximum nesting, which bounds the recursion. Not tuned: far above any list in a cell.
const DEPTH: usize = 16;

/// Parses a list or object; `None` if the text is anything else, such as prose in brackets.
pub(super) fn read(text: &str) -> Option<Value> {
    let text = text.trim();
    if !(text.starts_with('[') && text.ends_with(']') || text.starts_with('{') && text.ends_with('}')) {
        return None;
    }
    let mut reader = Reader { rest: text };
    let value = reader.value(0)?;
    reader.rest.trim().is_empty().then_some(value)
}

struct Reader<'t> {
    rest: &'t str,
}

impl Reader<'_> {
    /// Skips a character and the blanks before it; returns whether it was there.
    fn pass(&mut self, wanted: char) -> bool {
        let rest = self.rest.trim_start().strip_prefix(wanted);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        self.rest = self.rest.trim_start();
        match self.rest.chars().next()? {
            _ if depth > DEPTH => None,
            '[' => self.list(']', depth),
            // Tuples of Python.
            '(' => self.list(')', depth),
            '{' => self.object(depth),
            quote @ ('"' | '\'') => self.text(quote).map(Value::String),
            _ => self.word(),
        }
    }

    fn list(&mut self, end: char, depth: usize) -> Option<Value> {
        self.rest = &self.rest[1..];
        let mut items = Vec::new();
        while !self.pass(end) {
            items.push(self.value(depth + 1)?);
            // A comma before the end is accepted: Python writes a tuple of one item like that.
            if !self.pass(',') && !self.rest.trim_start().starts_with(end) {
                return None;
            }
        }
        Some(Value::Array(items))
    }

    fn object(&mut self, depth: usize) -> Option<Value> {
        self.rest = &self.rest[1..];
        let mut members = Map::new();
        while !self.pass('}') {
            let Value::String(name) = self.value(depth + 1)? else { return None };
            if !self.pass(':') {
                return None;
            }
            members.insert(name, self.value(depth + 1)?);
            if !self.pass(',') && !self.rest.trim_start().starts_with('}') {
                return None;
            }
        }
        Some(Value::Object(members))
    }

    fn text(&mut self, quote: char) -> Option<String> {
        let mut out = String::new();
        let mut chars = self.rest[1..].char_indices();
        while let Some((at, char)) = chars.next() {
            match char {
                '\\' => match chars.next()?.1 {
                    'n' => out.push('\n'),
                    't' => out.push('\t'),
                    'r' => out.push('\r'),
                    'x' => out.push(hex(&mut chars, 2)?),
                    'u' => out.push(hex(&mut chars, 4)?),
                    other => out.push(other),
                },
                end if end == quote => {
                    self.rest = &self.rest[at + 2..];
                    return Some(out);
                }
                other => out.push(other),
            }
        }
        None
    }

    fn word(&mut self) -> Option<Value> {
        let length = self.rest.find([',', ']', '}', ')', ':']).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(length);
        self.rest = rest;
        match word.trim() {
            "None" | "null" | "nan" | "NaN" => Some(Value::Null),
            "True" | "true" => Some(Value::Bool(true)),
            "False" | "false" => Some(Value::Bool(false)),
            number => number.parse::<Number>().ok().map(Value::Number),
        }
    }
}

fn hex(chars: &mut std::str::CharIndices<'_>, digits: usize) -> Option<char> {
    let mut code = 0;
    for _ in 0..digits {
        code = code * 16 + chars.next()?.1.to_digit(16)?;
    }
    // JSON writes characters beyond U+FFFF as two surrogates; such a list stays text.
    char::from_u32(code)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lists_and_objects_are_read() {
        let check = |text: &str, expected: Option<Value>| assert_eq!(read(text), expected, "{text}");
        check("['Excel', \"L'Oréal\", 3, None]", Some(json!(["Excel", "L'Oréal", 3, null])));
        check("[\"a\\u00f1o\", 'a\\xf1o']", Some(json!(["año", "año"])));
        check(
            "{'name': 'ACME', 'sizes': (1, 2,), 'ok': True}",
            Some(json!({ "name": "ACME", "sizes": [1, 2], "ok": true })),
        );
        check("[]", Some(json!([])));
        check("[Excel, SAP]", None);
        check("[Bogotá] Se busca [urgente]", None);
        check("{{título}}", None);
        check("['abierto]", None);
        check("texto", None);
        check(&format!("{}{}", "[".repeat(40), "]".repeat(40)), None);
    }
}
