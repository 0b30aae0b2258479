//! JSON in every shape that advertisements come in: JSON Lines, an array, an array inside an
//! object, tables of pandas, JSON-LD.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::job_posting;
use super::problems::Problems;
use super::table::{Row, Table};
use crate::files::encoding::line_at;

/// Maximum depth to search for the array of advertisements. Not tuned: responses of web services
/// wrap it two or three times.
const DEPTH: usize = 4;

/// A JSON value without duplicate members, of which serde_json would silently keep the last.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Self)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Strict(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((name, Strict(value))) = members.next_entry::<String, Strict>()? {
            if object.contains_key(&name) {
                return Err(serde::de::Error::custom(format_args!("duplicate member `{name}`")));
            }
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

fn parse(text: &str) -> Result<Value, serde_json::Error> {
    let parsed: Result<Strict, _> = serde_json::from_str(text);
    match parsed {
        // Only after strict parsing failed, so that a valid file is never rewritten.
        Err(_) if text.contains("NaN") || text.contains("Infinity") => {
            serde_json::from_str::<Strict>(&without_nan(text)).map(|value| value.0)
        }
        parsed => parsed.map(|value| value.0),
    }
}

/// Replaces NaN and Infinity, which Python writes although JSON has neither, by null, padded so
/// that positions in error messages stay correct.
fn without_nan(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut inside, mut at) = (false, 0);
    while let Some(char) = text[at..].chars().next() {
        let word =
            ["NaN", "-Infinity", "Infinity"].into_iter().find(|word| !inside && text[at..].starts_with(word));
        if let Some(word) = word {
            let null = format!("{:<width$}", "null", width = word.len());
            out.push_str(&null);
            at += word.len();
            continue;
        }
        out.push(char);
        at += char.len_utf8();
        match char {
            '"' => inside = !inside,
            '\\' if inside => {
                let escaped = text[at..].chars().next();
                out.extend(escaped);
                at += escaped.map_or(0, char::len_utf8);
            }
            _ => {}
        }
    }
    out
}

/// Reads the text of a JSON file.
///
/// # Errors
/// If it is corrupt, or contains several arrays and it is not clear which one to use.
pub(super) fn table(text: &str) -> Result<Table, String> {
    let start = text.trim_start();
    // An array is one document, however it is broken into lines.
    if start.starts_with('[') {
        return array(text);
    }
    let mut reader = Reader::default();
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let first = lines.next().map(|line| parse(line).is_ok());
    let single = lines.next().is_none();
    // A first line that is not JSON by itself belongs to a document of several lines.
    if single || first == Some(false) {
        match parse(text) {
            Ok(value) => {
                reader.document(text, value)?;
                return Ok(reader.finish("JSON"));
            }
            Err(_)
                if starts_document(start)
                    && let Some(values) = several(text) =>
            {
                reader.document(text, Value::Array(values))?;
                return Ok(reader.finish("concatenated JSON objects"));
            }
            // An incomplete object over several lines is one corrupt document, not many invalid
            // lines.
            Err(error) if start.starts_with('{') && !single && starts_document(start) => {
                return Err(broken(&error));
            }
            Err(_) => {}
        }
    }
    reader.lines(text);
    Ok(reader.finish("JSON Lines"))
}

fn array(text: &str) -> Result<Table, String> {
    let value = parse(text).map_err(|error| broken(&error))?;
    let of_objects = value.as_array().is_some_and(|list| list.iter().any(Value::is_object));
    let mut reader = Reader::default();
    reader.document(text, value)?;
    Ok(reader.finish(if of_objects { "a JSON array" } else { "JSON" }))
}

/// True if the first line starts an object that continues on the next one, as in pretty-printed
/// JSON.
fn starts_document(start: &str) -> bool {
    let first = start.lines().next().unwrap_or_default().trim_end();
    // JSON Lines with commas behind them are still lines.
    first.ends_with(['{', '[', ',']) && !first.ends_with("},")
}

/// Parses concatenated documents, as jq prints them.
fn several(text: &str) -> Option<Vec<Value>> {
    let values = serde_json::Deserializer::from_str(text).into_iter::<Strict>();
    values.map(|value| value.ok().map(|value| value.0)).collect()
}

fn broken(error: &serde_json::Error) -> String {
    format!("not valid JSON, the file may be corrupt or truncated: {error}")
}

#[derive(Default)]
struct Reader {
    rows: Vec<(u64, Map<String, Value>)>,
    problems: Problems,
    notes: Vec<String>,
    /// Number of JSON-LD objects that are not postings.
    others: u64,
}

impl Reader {
    /// Reads one value per line.
    fn lines(&mut self, text: &str) {
        for (line, content) in (1..).zip(text.split('\n')) {
            if content.trim().is_empty() {
                continue;
            }
            match parse(content.trim_end_matches('\r')) {
                Ok(Value::Object(object)) => match listed(&object, 0) {
                    Ok(Some(list)) => list.iter().for_each(|item| self.item(line, item)),
                    Ok(None) => self.posting(line, &object),
                    Err(message) => self.problems.add(line, &message, ""),
                },
                Ok(Value::Array(items)) if items.iter().any(Value::is_object) => {
                    items.iter().for_each(|item| self.item(line, item));
                }
                Ok(_) => self.problems.add(line, "not a JSON object", ""),
                Err(error) => self.problems.add_at(line, &reason(&error), error.column() as u64),
            }
        }
    }

    /// Reads a file with a single value.
    fn document(&mut self, text: &str, value: Value) -> Result<(), String> {
        let places = Places::of(text, &value);
        match &value {
            Value::Array(items) => items.iter().for_each(|item| self.item(places.line(item), item)),
            Value::Object(object) => {
                if let Some(rows) = pandas(object) {
                    self.notes.push("a table written by pandas".to_owned());
                    self.rows.extend((1..).zip(rows));
                } else if let Some(list) = listed(object, 0)? {
                    list.iter().for_each(|item| self.item(places.line(item), item));
                } else {
                    self.posting(places.line(&value), object);
                }
            }
            _ => return Err("not a JSON object or an array of objects".to_owned()),
        }
        Ok(())
    }

    fn item(&mut self, line: u64, item: &Value) {
        match item {
            Value::Object(object) => self.posting(line, object),
            Value::Array(items) if !items.is_empty() && items.iter().all(Value::is_object) => {
                items.iter().for_each(|item| self.item(line, item));
            }
            Value::Array(_) => self.problems.add(line, "an array of plain values; expected JSON objects", ""),
            _ => self.problems.add(line, "not a JSON object", ""),
        }
    }

    fn posting(&mut self, line: u64, object: &Map<String, Value>) {
        if let Some(parts) = job_posting::parts(object) {
            for part in parts.iter().filter_map(Value::as_object) {
                self.posting(line, part);
            }
        } else if let Some(item) = job_posting::item(object) {
            self.posting(line, item);
        } else if job_posting::is_of(object, "JobPosting") {
            self.rows.push((line, job_posting::fields(object)));
        } else if job_posting::is_other(object) {
            self.others += 1;
        } else {
            let plain = object.iter().map(|(name, value)| (name.clone(), extended(value)));
            self.rows.push((line, plain.collect()));
        }
    }

    fn finish(mut self, form: &str) -> Table {
        if self.others > 0 {
            self.notes.push(format!("{} JSON-LD objects other than JobPosting are ignored", self.others));
        }
        let mut columns: Vec<String> = Vec::new();
        let mut places: std::collections::HashMap<String, usize> = std::collections::HashMap::new();
        let mut rows = Vec::with_capacity(self.rows.len());
        for (place, object) in self.rows {
            let mut cells = vec![Value::Null; columns.len()];
            for (name, value) in object {
                let at = *places.entry(name.clone()).or_insert_with(|| {
                    columns.push(name);
                    columns.len() - 1
                });
                if cells.len() <= at {
                    cells.resize(at + 1, Value::Null);
                }
                cells[at] = value;
            }
            rows.push(Row { place, cells });
        }
        Table { form: form.to_owned(), columns, rows, problems: self.problems, notes: self.notes }
    }
}

/// Unwraps the typed values of MongoDB: `{"$date": "2025-11-03T00:00:00Z"}`.
fn extended(value: &Value) -> Value {
    let Value::Object(object) = value else { return value.clone() };
    let mut members = object.iter();
    match (members.next(), members.next()) {
        (Some((name, inner)), None) if name.starts_with('$') => match inner {
            // `{"$numberLong": "5"}` carries its number as text, to keep all digits.
            Value::String(text) if name.starts_with("$number") => {
                text.parse().map_or_else(|_| inner.clone(), Value::Number)
            }
            inner => extended(inner),
        },
        _ => value.clone(),
    }
}

/// The cause of an error, with `{}` for the column and without the line, which is always 1 here.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string().replace("{}", "{ }");
    let what = text.rfind(" at line ").map_or(text.as_str(), |at| &text[..at]);
    format!("not valid JSON: {what} at column {{}}")
}

/// Finds the array of advertisements inside an object; `None` if the object is an advertisement
/// itself.
fn listed(object: &Map<String, Value>, depth: usize) -> Result<Option<&Vec<Value>>, String> {
    let is_posting = object.contains_key("@type") || object.contains_key("@graph");
    let names: Vec<String> = object.keys().cloned().collect();
    // An object with three of our fields is an advertisement, though it may hold arrays.
    if is_posting || depth == DEPTH || super::columns::known(&names) > 2 {
        return Ok(None);
    }
    let lists: Vec<(&String, &Value)> = object.iter().filter(|(_, value)| holds_objects(value)).collect();
    match lists.as_slice() {
        [(_, Value::Array(list))] => Ok(Some(list)),
        [] if super::columns::known(&names) == 0
            && object.values().any(|value| value.as_array().is_some_and(Vec::is_empty)) =>
        {
            Ok(object.values().find_map(|value| value.as_array().filter(|list| list.is_empty())))
        }
        [] => {
            for inner in object.values().filter_map(Value::as_object) {
                if let Some(list) = listed(inner, depth + 1)? {
                    return Ok(Some(list));
                }
            }
            Ok(None)
        }
        several => {
            let names: Vec<String> = several.iter().map(|(name, _)| format!("`{name}`")).collect();
            Err(format!("several arrays, {}; expected one array of advertisements", names.join(" and ")))
        }
    }
}

fn holds_objects(value: &Value) -> bool {
    value.as_array().is_some_and(|list| !list.is_empty() && list.iter().all(Value::is_object))
}

fn are_numbers(mut names: serde_json::map::Keys<'_>) -> bool {
    names.all(|name| name.parse::<i64>().is_ok())
}

/// Reads the rows of a table written by pandas with orient `columns`, `index` or `split`.
fn pandas(object: &Map<String, Value>) -> Option<Vec<Map<String, Value>>> {
    if let (Some(columns), Some(data)) = (object.get("columns"), object.get("data")) {
        let names: Vec<&str> = columns.as_array()?.iter().map(Value::as_str).collect::<Option<_>>()?;
        let mut rows = Vec::new();
        for cells in data.as_array()? {
            let cells = cells.as_array().filter(|cells| cells.len() == names.len())?;
            rows.push(names.iter().map(|name| (*name).to_owned()).zip(cells.iter().cloned()).collect());
        }
        return Some(rows);
    }
    let parts: Vec<(&String, &Map<String, Value>)> = object
        .iter()
        .map(|(name, value)| value.as_object().map(|part| (name, part)))
        .collect::<Option<_>>()?;
    let (_, first) = parts.first()?;
    let same = parts
        .iter()
        .all(|(_, part)| part.len() == first.len() && first.keys().all(|key| part.contains_key(key)));
    // Columns of cells: the keys are the row numbers that pandas writes.
    if same && !first.is_empty() && are_numbers(first.keys()) {
        let mut rows = Vec::new();
        for key in first.keys() {
            rows.push(parts.iter().map(|(name, part)| ((*name).clone(), part[key].clone())).collect());
        }
        return Some(rows);
    }
    are_numbers(object.keys()).then(|| parts.into_iter().map(|(_, part)| part.clone()).collect())
}

/// Line numbers of the objects of a document, which serde_json does not keep: the objects of the
/// value and the opening braces of the text are in the same order.
struct Places {
    lines: std::collections::HashMap<*const Value, u64>,
}

impl Places {
    fn of(text: &str, value: &Value) -> Self {
        let mut objects = Vec::new();
        collect(value, &mut objects);
        let braces = opening_braces(text);
        let mut lines = std::collections::HashMap::new();
        // Off by one, every line would be wrong; then all are reported as line 1.
        if braces.len() == objects.len() {
            let (mut line, mut last) = (1, 0);
            for (object, at) in objects.into_iter().zip(braces) {
                line += line_at(&text.as_bytes()[last..at], at - last) - 1;
                last = at;
                lines.insert(object, line);
            }
        }
        Self { lines }
    }

    fn line(&self, value: &Value) -> u64 {
        // By address: equal objects may occur twice, and the document is not moved meanwhile.
        self.lines.get(&std::ptr::from_ref(value)).copied().unwrap_or(1)
    }
}

fn collect(value: &Value, objects: &mut Vec<*const Value>) {
    match value {
        Value::Object(members) => {
            objects.push(std::ptr::from_ref(value));
            members.values().for_each(|member| collect(member, objects));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, objects)),
        _ => {}
    }
}

fn opening_braces(text: &str) -> Vec<usize> {
    let (mut inside, mut escaped) = (false, false);
    let mut found = Vec::new();
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if inside => escaped = true,
            b'"' => inside = !inside,
            b'{' if !inside => found.push(at),
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests;
