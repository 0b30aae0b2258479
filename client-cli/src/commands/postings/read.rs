//! Files of advertisements as the objects that the service takes: what a file is, its columns as
//! our fields, and its values as texts and days. Everything that a file leaves open is settled here
//! or told, before anything is sent.

mod columnar;
mod columns;
mod dates;
mod delimited;
mod grid;
mod input;
mod job_posting;
mod json;
mod literal;
mod pay;
mod problems;
mod rows;
mod spread;
mod values;
mod workbook;

use std::path::Path;

use anyhow::bail;
use observatory_proto::pipeline::v1::{ImportError, ImportPostingsRequest};
use serde_json::{Map, Value};

use super::import::Import;
use crate::files::{archive, encoding};
use crate::output::progress;

pub(super) use crate::files::encoding::Charset;
pub(super) use columns::Columns;
pub(super) use dates::DateFormat;
pub(super) use input::FileFormat;
use problems::Problems;

/// A row of a file.
#[derive(Debug, Clone, Default)]
struct Row {
    /// Line of a text, number of a row elsewhere.
    place: u64,
    /// A cell for each column; missing ones are empty.
    cells: Vec<Value>,
}

/// The rows of a file with the names of its columns.
#[derive(Debug, Default)]
struct Table {
    /// What the file is.
    form: String,
    columns: Vec<String>,
    rows: Vec<Row>,
    /// Rows that could not be read.
    problems: Problems,
    /// What was settled about the whole file, to be told.
    notes: Vec<String>,
}

/// How a file was understood.
#[derive(Debug, Default)]
pub(super) struct Understood {
    /// Name of the file.
    pub(super) file: String,
    /// What it is.
    pub(super) form: String,
    /// Advertisements in it.
    pub(super) rows: u64,
    /// Our fields and its columns.
    pub(super) columns: Vec<(String, String)>,
    /// Columns that are not used.
    pub(super) unused: Vec<String>,
    /// Conclusions from its content.
    pub(super) notes: Vec<String>,
    /// Whether there is anything that a user would not expect.
    pub(super) remarkable: bool,
}

/// Everything that files hold, ready to be sent.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    pub(super) files: Vec<Understood>,
    pub(super) ads: Vec<ImportPostingsRequest>,
    /// Rows that are not sent, equal problems once.
    pub(super) refused: Vec<ImportError>,
    pub(super) refused_count: u64,
    /// What is sent otherwise than it was written, equal changes once.
    pub(super) notes: Vec<ImportError>,
}

/// Reads every file; nothing is sent unless all of them are understood.
///
/// # Errors
/// If a file cannot be read, is damaged, or leaves open what no flag has settled.
pub(super) fn prepare(import: &Import) -> anyhow::Result<Prepared> {
    let mut prepared = Prepared::default();
    let mut wrong = Vec::new();
    let mut ads = Vec::new();
    for path in &import.files {
        let file = path.display().to_string();
        match archive::read(path).and_then(|bytes| {
            one(&file, bytes, import, &mut prepared).map_err(|problem| anyhow::anyhow!("{file}: {problem}"))
        }) {
            Ok(found) => ads.extend(found),
            Err(error) => wrong.push(error),
        }
    }
    if let Some(last) = wrong.pop() {
        wrong.iter().for_each(|error| progress(format_args!("error: {error:#}")));
        return Err(last);
    }
    rows::settle_ids(&mut ads, &mut prepared);
    prepared.ads = ads.into_iter().map(|ad| ad.request(import.dry_run)).collect();
    if import.files.iter().filter(|path| path.as_os_str() == "-").count() > 1 {
        bail!("`-` is given twice; standard input can be read once");
    }
    Ok(prepared)
}

/// An advertisement under our field names.
#[derive(Debug)]
struct Ad {
    file: String,
    line: u64,
    object: Map<String, Value>,
}

impl Ad {
    fn request(self, dry_run: bool) -> ImportPostingsRequest {
        let posting_json = Value::Object(self.object).to_string();
        ImportPostingsRequest { posting_json, line: self.line, file: self.file, dry_run }
    }
}

fn one(file: &str, bytes: Vec<u8>, import: &Import, prepared: &mut Prepared) -> Result<Vec<Ad>, String> {
    let table = table(file, bytes, import)?;
    let mut understood = Understood {
        file: file.to_owned(),
        form: table.form.clone(),
        rows: table.rows.len() as u64,
        notes: table.notes.clone(),
        ..Understood::default()
    };
    prepared.refused.extend(table.problems.messages(file));
    prepared.refused_count += table.problems.count();
    let ads = if table.rows.is_empty() {
        Vec::new()
    } else {
        rows::ads(file, &table, import, (&mut understood, prepared))?
    };
    understood.remarkable |= !understood.notes.is_empty() || !understood.unused.is_empty();
    prepared.files.push(understood);
    Ok(ads)
}

/// Reads a file's bytes into rows.
fn table(file: &str, bytes: Vec<u8>, import: &Import) -> Result<Table, String> {
    let bytes = input::unpack(bytes)?;
    let kind = input::kind(&bytes);
    match (kind, import.format) {
        (input::Kind::Parquet, None | Some(FileFormat::Parquet)) => return columnar::table(bytes),
        (input::Kind::Workbook, None | Some(FileFormat::Xlsx)) => {
            return workbook::table(bytes, import.sheet.as_deref());
        }
        (input::Kind::Parquet, Some(_)) => {
            return Err("is Parquet, not of the form that --format says".to_owned());
        }
        (input::Kind::Workbook, Some(_)) => {
            return Err("is a spreadsheet, not of the form that --format says; give --format xlsx".to_owned());
        }
        (input::Kind::Text, Some(FileFormat::Parquet)) => return Err("is not Parquet".to_owned()),
        (input::Kind::Text, Some(FileFormat::Xlsx)) => return Err("is not a spreadsheet".to_owned()),
        (input::Kind::Text, _) => {}
    }
    let decoded = encoding::decode(&bytes, import.encoding)?;
    drop(bytes);
    let text = &decoded.text;
    if let Some(what) = input::foreign(text) {
        return Err(format!("is {what}"));
    }
    let asked_json = matches!(import.format, Some(FileFormat::Json | FileFormat::Jsonl));
    let named_json =
        [".json", ".jsonl", ".ndjson", ".jsonld"].iter().any(|end| base_name(file).ends_with(end));
    let as_json = asked_json || (import.format.is_none() && (named_json || input::is_json(text)));
    let mut table = if text.trim().is_empty() {
        Table::default()
    } else if as_json {
        json::table(text)?
    } else {
        delimited_table(text, import)?
    };
    if decoded.charset.to_string() != "utf-8" {
        table.form.push_str(&format!(", {}", decoded.charset));
    }
    table.notes.extend(decoded.notes);
    Ok(table)
}

/// A file's name in lower case without what it is wrapped in.
fn base_name(file: &str) -> String {
    let name =
        Path::new(file).file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    name.trim_end_matches(".gz").trim_end_matches(".zip").to_owned()
}

fn delimited_table(text: &str, import: &Import) -> Result<Table, String> {
    let delimiter = match import.delimiter {
        Some(delimiter) => delimiter,
        None => delimited::delimiter(text)?,
    };
    let (dialect, records) = delimited::records(text, delimiter);
    let mut problems = Problems::default();
    let mut rows = Vec::with_capacity(records.len());
    for record in records {
        match record.fault {
            None => rows.push((record.line, record.fields.into_iter().map(Value::String).collect())),
            Some(delimited::Fault::Unclosed(line)) => {
                return Err(format!(
                    "line {line}: a quote is opened and never closed; the file is damaged or cut off"
                ));
            }
            Some(delimited::Fault::AfterQuote(line)) if line == record.line => {
                problems.add(
                    record.line,
                    "text after a closing quote; double the quotes inside of a field",
                    "",
                );
            }
            Some(delimited::Fault::AfterQuote(line)) => {
                let kind = "text after a closing quote in line {}; nothing from here to it is read";
                problems.add_at(record.line, kind, line);
            }
        }
    }
    let mut form = "delimited text".to_owned();
    if delimiter != ',' {
        form.push_str(&format!(", separator {}", delimited::named(delimiter)));
    }
    let mut table = grid::Grid { rows, padded: false, unit: "line" }.table(form, problems);
    if dialect.escapes {
        table.notes.push("backslashes are taken for escapes, as pandas writes with `escapechar`".to_owned());
    }
    Ok(table)
}

/// A separator as `--delimiter` gives it.
pub(super) fn delimiter(text: &str) -> Result<char, String> {
    let named = match text {
        "tab" | "\\t" => '\t',
        "comma" => ',',
        "semicolon" => ';',
        "pipe" => '|',
        _ => {
            let mut chars = text.chars();
            match (chars.next(), chars.next()) {
                (Some(one), None) => one,
                _ => return Err(format!("`{text}` is not a separator: expected one character, or tab")),
            }
        }
    };
    if named.is_ascii() && !matches!(named, '"' | '\r' | '\n' | '\\') && !named.is_alphanumeric() {
        Ok(named)
    } else {
        Err(format!("`{text}` is not a separator: expected one such as `;`, `,`, `|` or tab"))
    }
}

/// The beginning of a text on one line, for messages.
fn short(text: &str) -> String {
    crate::commands::text::cut(&text.split_whitespace().collect::<Vec<_>>().join(" "), 40)
}

#[cfg(test)]
mod damaged;
#[cfg(test)]
mod tests;
