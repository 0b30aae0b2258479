//! Reads files of advertisements into the objects that the service accepts: detects the format,
//! maps columns to fields, and converts values to text and dates. Ambiguities are resolved or
//! reported before anything is sent.

mod cell;
mod columnar;
mod columns;
mod dates;
mod delimited;
mod fold;
mod grid;
mod input;
mod job_posting;
mod json;
mod literal;
mod ods;
mod options;
mod pay;
mod prepared;
mod problems;
mod rows;
mod table;
mod values;
mod workbook;

use std::path::Path;

use anyhow::bail;
use serde_json::Value;

use crate::files::{archive, encoding};
use crate::output::progress;

use input::FileFormat;
pub(super) use options::ImportOptions;
use prepared::Ad;
pub(super) use prepared::{FileSummary, Prepared};
use problems::Problems;
use table::Table;

/// Reads all files; nothing is sent unless all of them can be read.
///
/// # Errors
/// If a file cannot be read, is corrupt, or is ambiguous and no flag decides.
pub(super) fn prepare(import: &ImportOptions) -> anyhow::Result<Prepared> {
    if import.files.iter().filter(|path| path.as_os_str() == "-").count() > 1 {
        bail!("`-` is given twice, but standard input can be read only once");
    }
    let mut prepared = Prepared::default();
    let mut wrong = Vec::new();
    let mut ads = Vec::new();
    for path in &import.files {
        let file = path.display().to_string();
        // Further files are read after a failure, so that one call names every faulty one.
        match archive::read(path).and_then(|bytes| {
            read_file(&file, bytes, import, &mut prepared)
                .map_err(|problem| anyhow::anyhow!("{file}: {problem}"))
        }) {
            Ok(found) => ads.extend(found),
            Err(error) => wrong.push(error),
        }
    }
    if let Some(last) = wrong.pop() {
        wrong.iter().for_each(|error| progress(format_args!("error: {error:#}")));
        // The last one is printed by `cli`, like the error of any command.
        return Err(last);
    }
    // Over all files: an export is often split.
    rows::drop_shared_ids(&mut ads, &mut prepared);
    prepared.ads = ads.into_iter().map(|ad| ad.request(import.dry_run)).collect();
    Ok(prepared)
}

fn read_file(
    file: &str,
    bytes: Vec<u8>,
    import: &ImportOptions,
    prepared: &mut Prepared,
) -> Result<Vec<Ad>, String> {
    let table = table(file, bytes, import)?;
    let mut summary = FileSummary {
        file: file.to_owned(),
        form: table.form.clone(),
        rows: table.rows.len() as u64,
        notes: table.notes.clone(),
        ..FileSummary::default()
    };
    prepared.refused.extend(table.problems.messages(file));
    prepared.refused_count += table.problems.count();
    let ads = if table.rows.is_empty() {
        Vec::new()
    } else {
        rows::ads(file, &table, import, (&mut summary, prepared))?
    };
    summary.remarkable |= !summary.notes.is_empty() || !summary.unused.is_empty();
    prepared.files.push(summary);
    Ok(ads)
}

/// Reads the bytes of a file into rows.
fn table(file: &str, bytes: Vec<u8>, import: &ImportOptions) -> Result<Table, String> {
    let bytes = input::unpack(bytes)?;
    match (input::kind(&bytes), import.format) {
        (input::Kind::Parquet, None | Some(FileFormat::Parquet)) => columnar::table(bytes),
        (input::Kind::Workbook, None | Some(FileFormat::Xlsx)) => {
            workbook::table(bytes, import.sheet.as_deref())
        }
        (input::Kind::Parquet, Some(_)) => Err("is Parquet, which does not match --format".to_owned()),
        (input::Kind::Workbook, Some(_)) => {
            Err("is a spreadsheet, which does not match --format; pass --format xlsx".to_owned())
        }
        (input::Kind::Text, Some(FileFormat::Parquet)) => Err("is not Parquet".to_owned()),
        (input::Kind::Text, Some(FileFormat::Xlsx)) => Err("is not a spreadsheet".to_owned()),
        (input::Kind::Text, _) => text_table(file, bytes, import),
    }
}

/// Reads a text file: JSON in any of its forms, or delimited text.
fn text_table(file: &str, bytes: Vec<u8>, import: &ImportOptions) -> Result<Table, String> {
    let decoded = encoding::decode(&bytes, import.encoding)?;
    // The text is as large again, and files may have gigabytes.
    drop(bytes);
    let text = &decoded.text;
    if let Some(what) = input::unsupported(text) {
        return Err(format!("is {what}"));
    }
    let asked_json = matches!(import.format, Some(FileFormat::Json | FileFormat::Jsonl));
    // By name, too: damaged JSON should be reported as JSON, not as text in one column.
    let named_json =
        [".json", ".jsonl", ".ndjson", ".jsonld"].iter().any(|end| base_name(file).ends_with(end));
    let as_json = asked_json || (import.format.is_none() && (named_json || input::is_json(text)));
    // An empty file has no delimiter to detect, and fails only if all the others are empty, too.
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

/// The name of a file in lower case, without extensions of compression.
fn base_name(file: &str) -> String {
    let name =
        Path::new(file).file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    name.trim_end_matches(".gz").trim_end_matches(".zip").to_owned()
}

fn delimited_table(text: &str, import: &ImportOptions) -> Result<Table, String> {
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
            // It swallows everything behind it, while a stray quote costs its own record.
            Some(delimited::Fault::Unclosed(line)) => {
                return Err(format!("line {line}: unclosed quote; the file is corrupt or truncated"));
            }
            Some(delimited::Fault::AfterQuote(line)) if line == record.line => {
                problems.add(record.line, "text after a closing quote; double the quotes inside a field", "");
            }
            Some(delimited::Fault::AfterQuote(line)) => {
                let kind = "text after a closing quote in line {}; everything up to it is skipped";
                problems.add_at(record.line, kind, line);
            }
        }
    }
    let mut form = "delimited text".to_owned();
    if delimiter != ',' {
        form.push_str(&format!(", delimiter {}", delimited::named(delimiter)));
    }
    let mut table = grid::Grid { rows, padded: false, unit: "line" }.table(form, problems);
    if dialect.escapes {
        table
            .notes
            .push("backslashes are read as escapes, as written by pandas with `escapechar`".to_owned());
    }
    Ok(table)
}

#[cfg(test)]
mod damaged;
#[cfg(test)]
mod tests;
