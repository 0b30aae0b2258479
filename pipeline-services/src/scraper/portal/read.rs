//! Reads a TOML table key by key and remembers everything that is wrong with it.
//!
//! A reader returns a default and notes the problem instead of failing; a key that was never asked
//! for is a problem too, shown with the nearest known name.

use std::{cell::RefCell, collections::BTreeMap, fmt, ops::RangeInclusive};

use regex::Regex;
use scraper::Selector;
use toml::{Table, Value};

/// One thing that is wrong with a portal file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Place in the file, e.g. `listing.fields.title.css`.
    pub key: String,
    /// The mistake, and the values that are allowed.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.key, self.message)
    }
}

/// The problems found so far.
pub(super) type Problems = RefCell<Vec<Problem>>;

/// A table being read; every key that is asked for counts as known.
pub(super) struct Reader<'a> {
    table: &'a Table,
    place: String,
    problems: &'a Problems,
    known: Vec<&'static str>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(table: &'a Table, place: &str, problems: &'a Problems) -> Self {
        Self { table, place: place.to_owned(), problems, known: Vec::new() }
    }

    /// Place of a key.
    pub(super) fn key(&self, key: &str) -> String {
        if self.place.is_empty() { key.to_owned() } else { format!("{}.{key}", self.place) }
    }

    pub(super) fn complain(&self, key: &str, message: impl Into<String>) {
        let key = if key.is_empty() { self.place.clone() } else { self.key(key) };
        self.problems.borrow_mut().push(Problem { key, message: message.into() });
    }

    fn get(&mut self, key: &'static str) -> Option<&'a Value> {
        // Noted even where absent: `finish` names what a misspelt key may have meant.
        self.known.push(key);
        self.table.get(key)
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    fn expect<T>(&self, key: &str, value: Option<T>, expected: &str) -> Option<T> {
        if value.is_none() {
            self.complain(key, format!("is {}, expected {expected}", shown(self.table.get(key))));
        }
        value
    }

    /// A text that is not empty.
    pub(super) fn text(&mut self, key: &'static str) -> Option<String> {
        let value = self.get(key)?;
        let text = value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        self.expect(key, text, "a text that is not empty")
    }

    /// A text that must be there.
    pub(super) fn required(&mut self, key: &'static str) -> String {
        if !self.has(key) {
            self.complain(key, "is missing");
        }
        self.text(key).unwrap_or_default()
    }

    /// A text or a list of texts.
    pub(super) fn texts(&mut self, key: &'static str) -> Vec<String> {
        let texts = match self.get(key) {
            None => return Vec::new(),
            Some(Value::String(text)) => Some(vec![text.clone()]),
            Some(Value::Array(list)) => list.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
            Some(_) => None,
        };
        self.expect(key, texts, "a text or a list of texts").unwrap_or_default()
    }

    pub(super) fn flag(&mut self, key: &'static str) -> bool {
        let Some(value) = self.get(key) else { return false };
        self.expect(key, value.as_bool(), "true or false").unwrap_or_default()
    }

    pub(super) fn number(&mut self, key: &'static str, range: RangeInclusive<u32>) -> Option<u32> {
        let value = self.get(key)?;
        let number = value.as_integer().and_then(|n| u32::try_from(n).ok()).filter(|n| range.contains(n));
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        self.expect(key, number, &expected)
    }

    pub(super) fn decimal(&mut self, key: &'static str, range: RangeInclusive<f64>) -> Option<f64> {
        let value = self.get(key)?;
        let number = decimal(value).filter(|n| range.contains(n));
        let expected = format!("a number from {} to {}", range.start(), range.end());
        self.expect(key, number, &expected)
    }

    /// One of some words; the first is the value of an absent key.
    pub(super) fn choice<T: Copy>(&mut self, key: &'static str, choices: &[(&str, T)]) -> T {
        let Some(value) = self.get(key) else { return choices[0].1 };
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let chosen = choices.iter().find(|(name, _)| value.as_str() == Some(name)).map(|(_, chosen)| *chosen);
        let hint = value.as_str().and_then(|text| nearest(text, &names));
        let hint = hint.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default();
        self.expect(key, chosen, &format!("one of {}{hint}", names.join(", "))).unwrap_or(choices[0].1)
    }

    pub(super) fn regex(&mut self, key: &'static str) -> Option<Regex> {
        let text = self.text(key)?;
        match Regex::new(&text) {
            Ok(regex) => Some(regex),
            Err(error) => {
                // The last line says what is wrong; those above it draw the pattern.
                let last = error.to_string().lines().last().unwrap_or_default().trim().to_owned();
                self.complain(key, format!("`{text}` is not a regular expression: {last}"));
                None
            }
        }
    }

    pub(super) fn selector(&mut self, key: &'static str) -> Option<Selector> {
        let text = self.text(key)?;
        self.parse_selector(key, &text)
    }

    pub(super) fn selectors(&mut self, key: &'static str) -> Vec<Selector> {
        self.texts(key).iter().filter_map(|text| self.parse_selector(key, text)).collect()
    }

    fn parse_selector(&self, key: &str, text: &str) -> Option<Selector> {
        match Selector::parse(text) {
            Ok(selector) => Some(selector),
            Err(error) => {
                let last = error.to_string().lines().last().unwrap_or_default().trim().to_owned();
                self.complain(key, format!("`{text}` is not a CSS selector: {last}"));
                None
            }
        }
    }

    /// A JSON pointer such as `/aviso/titulo`; the empty text is the whole document.
    pub(super) fn pointer(&mut self, key: &'static str) -> Option<String> {
        let value = self.get(key)?;
        let pointer = value.as_str().filter(|text| text.is_empty() || text.starts_with('/'));
        self.expect(key, pointer.map(str::to_owned), "a JSON pointer such as `/aviso/titulo`")
    }

    pub(super) fn map(&mut self, key: &'static str) -> BTreeMap<String, String> {
        let Some(value) = self.get(key) else { return BTreeMap::new() };
        let map = value.as_table().and_then(|table| {
            table.iter().map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
        });
        self.expect(key, map, "a table of texts").unwrap_or_default()
    }

    /// A table inside this one.
    pub(super) fn table(&mut self, key: &'static str) -> Option<Reader<'a>> {
        let value = self.get(key)?;
        let table = self.expect(key, value.as_table(), "a table")?;
        Some(Reader::new(table, &self.key(key), self.problems))
    }

    /// The raw entries of a table inside this one.
    pub(super) fn entries(&mut self, key: &'static str) -> Vec<(&'a str, &'a Value)> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let table = self.expect(key, value.as_table(), "a table");
        table
            .map(|table| table.iter().map(|(name, value)| (name.as_str(), value)).collect())
            .unwrap_or_default()
    }

    /// A reader of a value found by [`Reader::entries`]; complains if it is not a table.
    pub(super) fn enter(&self, path: &str, value: &'a Value) -> Option<Reader<'a>> {
        let Some(table) = value.as_table() else {
            self.complain(path, format!("is {}, expected a table", shown(Some(value))));
            return None;
        };
        Some(Reader::new(table, &self.key(path), self.problems))
    }

    /// Complains about every key that was never asked for.
    pub(super) fn finish(self) {
        for key in self.table.keys().filter(|key| !self.known.contains(&key.as_str())) {
            self.complain(key, unknown("key", key, &self.known));
        }
    }
}

/// "unknown X `y`" with the nearest known name, or all of them.
pub(super) fn unknown(what: &str, name: &str, known: &[&str]) -> String {
    match nearest(name, known) {
        Some(candidate) => format!("unknown {what}; did you mean `{candidate}`?"),
        None => format!("unknown {what}; known are {}", known.join(", ")),
    }
}

fn nearest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    known
        .iter()
        .map(|candidate| (strsim::jaro_winkler(name, candidate), *candidate))
        .max_by(|left, right| left.0.total_cmp(&right.0))
        // Not tuned: a wrong letter or two stay above it, another word does not.
        .filter(|(likeness, _)| *likeness > 0.75)
        .map(|(_, candidate)| candidate)
}

/// A whole or a decimal number.
pub(super) fn decimal(value: &Value) -> Option<f64> {
    // Through i32, of which a float holds every value exactly.
    value.as_float().or_else(|| value.as_integer().and_then(|n| i32::try_from(n).ok()).map(f64::from))
}

fn shown(value: Option<&Value>) -> String {
    match value {
        None => "missing".to_owned(),
        Some(Value::Table(_)) => "a table".to_owned(),
        Some(Value::Array(_)) => "a list".to_owned(),
        Some(value) => format!("`{}`", value.to_string().trim_matches('"')),
    }
}
