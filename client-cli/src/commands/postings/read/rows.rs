//! Converts rows to advertisements under our field names.
//!
//! Nothing is dropped or changed silently: every case is reported, equal ones once.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::cell::is_empty;
use super::columns::{Mapping, REQUIRED};
use super::dates::{DateFormat, Dates};
use super::options::ImportOptions;
use super::prepared::{Ad, FileSummary, Prepared};
use super::problems::Problems;
use super::table::{Row, Table};
use super::{pay, values, workbook};
use crate::commands::text::excerpt;

/// Maximum size of an advertisement in bytes. A message of the service may have 16 MiB
/// (`pipeline-services/src/api.rs`), and JSON may escape a byte as six.
const LONGEST: usize = 2 << 20;

/// Maximum length of a spreadsheet cell in UTF-16 units (Excel specifications and limits).
const CELL: usize = 32_767;

/// Converts the rows of a file to advertisements.
///
/// # Errors
/// If a column is missing, or something is ambiguous and no flag decides.
pub(super) fn ads(
    file: &str,
    table: &Table,
    import: &ImportOptions,
    (summary, prepared): (&mut FileSummary, &mut Prepared),
) -> Result<Vec<Ad>, String> {
    let defaults = [
        ("portal", import.portal.as_deref()),
        ("country", import.country.as_deref()),
        ("scraped_at", import.collected.as_deref()),
    ];
    let given: Vec<&str> =
        defaults.iter().filter(|(_, value)| value.is_some()).map(|(field, _)| *field).collect();
    let mapping = Mapping::find(&table.columns, &table.rows, &import.map, &given)?;
    summary.columns = mapping.shown(&table.columns);
    summary.unused.clone_from(&mapping.unused);
    summary.remarkable = mapping.inferred || !matches!(table.form.as_str(), "delimited text" | "JSON Lines");
    let converter = Converter {
        posted: dates(&mapping, table, "posted_date", &import.date_format)?,
        scraped: dates(&mapping, table, "scraped_at", &import.date_format)?,
        mapping: &mapping,
        defaults,
    };
    let notes =
        [&converter.posted, &converter.scraped].into_iter().flatten().filter_map(|dates| dates.note.clone());
    summary.notes.extend(notes);
    let (mut refused, mut changed) = (Problems::default(), Problems::default());
    let mut ads = Vec::with_capacity(table.rows.len());
    for row in &table.rows {
        if let Some(object) = converter.object(row, &mut refused, &mut changed) {
            // Texts only: names and punctuation of JSON are far within the margin of LONGEST.
            let bytes: usize = object.values().filter_map(Value::as_str).map(str::len).sum();
            if bytes > LONGEST {
                let kind = format!("is {} MiB long; expected at most {}", bytes >> 20, LONGEST >> 20);
                refused.add(row.place, &kind, "");
                continue;
            }
            ads.push(Ad { file: file.to_owned(), line: row.place, object });
        }
    }
    prepared.refused.extend(refused.messages(file));
    prepared.refused_count += refused.count();
    prepared.notes.extend(changed.messages(file));
    Ok(ads)
}

fn dates(
    mapping: &Mapping,
    table: &Table,
    field: &str,
    format: &DateFormat,
) -> Result<Option<Dates>, String> {
    let Some((_, places)) = mapping.fields.iter().find(|(mapped, _)| *mapped == field) else {
        return Ok(None);
    };
    let cells = || table.rows.iter().filter_map(|row| cell(row, places).map(|value| (row.place, value)));
    // Only spreadsheet programs convert dates by themselves.
    if table.form.starts_with("a spreadsheet")
        && *format == DateFormat::Detect
        && let Some(problem) = workbook::half_converted(cells())
    {
        return Err(format!("{field}: {problem}"));
    }
    Dates::survey(field, cells(), format).map(Some)
}

/// The first cell with a value.
fn cell<'r>(row: &'r Row, places: &[usize]) -> Option<&'r Value> {
    places.iter().filter_map(|place| row.cells.get(*place)).find(|value| !is_empty(Some(value)))
}

struct Converter<'a> {
    mapping: &'a Mapping,
    defaults: [(&'static str, Option<&'a str>); 3],
    posted: Option<Dates>,
    scraped: Option<Dates>,
}

impl Converter<'_> {
    /// Converts a row; `None` if a required field is invalid.
    fn object(
        &self,
        row: &Row,
        refused: &mut Problems,
        changed: &mut Problems,
    ) -> Option<Map<String, Value>> {
        let mut object = Map::new();
        for (field, places) in &self.mapping.fields {
            let Some(value) = cell(row, places) else { continue };
            match self.text(field, value, row.place, changed) {
                Ok(Some(text)) => {
                    object.insert((*field).to_owned(), Value::String(text));
                }
                Ok(None) => {}
                // A required field that cannot be read costs the advertisement, any other itself.
                Err(kind) if REQUIRED.contains(field) => {
                    refused.add(row.place, &format!("{field}: {kind}"), &plain(value));
                    return None;
                }
                Err(kind) => changed.add(row.place, &format!("{field}: {kind}; omitted"), &plain(value)),
            }
        }
        if let Some(pay) = self.pay(row) {
            object.insert("salary_raw".to_owned(), Value::String(pay));
        }
        // A value of the file comes before that of a flag.
        for (field, default) in self.defaults {
            if let (Some(default), None) = (default, object.get(field)) {
                object.insert(field.to_owned(), Value::String(default.to_owned()));
            }
        }
        Some(object)
    }

    /// The text of a field; an error is a kind of problem with `{}` for the value.
    fn text(
        &self,
        field: &str,
        value: &Value,
        line: u64,
        changed: &mut Problems,
    ) -> Result<Option<String>, String> {
        if let Some(text) = value.as_str().filter(|text| values::is_formula_error(text)) {
            return Err(format!("`{}` is a formula error", excerpt(text)));
        }
        // Excel cuts a longer text off at exactly this length.
        if value.as_str().is_some_and(|text| text.encode_utf16().count() == CELL) {
            changed.add(
                line,
                &format!(
                    "{field}: {CELL} characters, the limit of a spreadsheet cell; the text may be truncated"
                ),
                "",
            );
        }
        match field {
            "id" => values::id(value).map_err(|problem| format!("`{{}}` {problem}")),
            "posted_date" => {
                let day = self.posted.as_ref().map(|dates| dates.read(value));
                let day = day.transpose().map_err(|problem| format!("`{{}}` {problem}"))?;
                Ok(day.map(|moment| moment.day.to_string()))
            }
            "scraped_at" => {
                let time = self.scraped.as_ref().map(|dates| dates.read(value));
                let time = time.transpose().map_err(|problem| format!("`{{}}` {problem}"))?;
                if time.is_some_and(|time| !time.has_zone()) {
                    changed.add(line, "scraped_at: no time zone; UTC is assumed", "");
                }
                Ok(time.map(|time| time.to_rfc3339()))
            }
            "remote_type" => Ok(values::text_of(field, value)?.and_then(|text| values::remote(&text))),
            _ => values::text_of(field, value),
        }
    }

    fn pay(&self, row: &Row) -> Option<String> {
        let [from, to, currency, per] =
            self.mapping.pay?.map(|place| pay::part(place.and_then(|at| row.cells.get(at))));
        pay::Pay { from, to, currency, per }.text()
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Portal, country and id of an advertisement.
type Key = (String, String, String);

/// The key of an advertisement that has an id.
fn key(ad: &Ad) -> Option<Key> {
    let id = trimmed(ad, "id");
    let (portal, country) = (trimmed(ad, "portal"), trimmed(ad, "country"));
    (!id.is_empty()).then(|| (portal.to_lowercase(), country.to_lowercase(), id))
}

fn trimmed(ad: &Ad, field: &str) -> String {
    ad.object.get(field).and_then(Value::as_str).unwrap_or_default().trim().to_owned()
}

/// Removes ids that are used for several URLs, since they do not identify an advertisement; the
/// service derives ids from the URLs instead.
pub(super) fn drop_shared_ids(ads: &mut [Ad], prepared: &mut Prepared) {
    let mut seen: HashMap<Key, String> = HashMap::new();
    let mut shared: HashSet<Key> = HashSet::new();
    for ad in ads.iter() {
        let Some(key) = key(ad) else { continue };
        let url = page_of(&trimmed(ad, "url"));
        if seen.entry(key.clone()).or_insert_with(|| url.clone()) != &url {
            shared.insert(key);
        }
    }
    let mut problems: Vec<(String, Problems)> = Vec::new();
    for ad in ads.iter_mut() {
        let Some(key) = key(ad).filter(|key| shared.contains(key)) else { continue };
        ad.object.remove("id");
        // Advertisements are in the order of the files, so the last entry is that of this file.
        if problems.last().is_none_or(|(file, _)| *file != ad.file) {
            problems.push((ad.file.clone(), Problems::default()));
        }
        if let Some((_, problems)) = problems.last_mut() {
            problems.add(
                ad.line,
                "id: `{}` is used for several URLs; the id is derived from the URL",
                &key.2,
            );
        }
    }
    for (file, problems) in problems {
        prepared.notes.extend(problems.messages(&file));
    }
}

/// Normalizes a URL: removes what may differ between two links to the same page.
fn page_of(url: &str) -> String {
    let url = url.trim_end_matches('/').to_lowercase();
    let url = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
    url.strip_prefix("www.").unwrap_or(url).to_owned()
}
