//! `postings import`: files to the service, and what became of them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use observatory_proto::pipeline::v1::{ImportError, ImportPostingsRequest, ImportPostingsResponse};
use serde_json::{Value, json};

use super::Postings;
use super::read::{self, Charset, Columns, DateFormat, FileFormat, Prepared, Understood};
use crate::cli::Context;
use crate::client::answer;
use crate::commands::text::cut;
use crate::output::{Document, Outcome, Progress, Table, progress, while_waiting};

/// What to import.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Import {
    /// Files: CSV and the like, JSON, JSON Lines, schema.org JobPosting, xlsx, Parquet; also .gz,
    /// .zip of one file, and `-`.
    #[arg(required = true, value_name = "FILE")]
    pub(super) files: Vec<PathBuf>,
    /// Form of the files [default: by their content].
    #[arg(long)]
    pub(super) format: Option<FileFormat>,
    /// Names of the file's columns: OURS=THEIRS, separated by commas, such as title=Titulo
    /// [default: by their names].
    #[arg(long, default_value = "", hide_default_value = true, value_name = "MAP")]
    pub(super) map: Columns,
    /// Portal of lines that name none.
    #[arg(long, value_name = "P")]
    pub(super) portal: Option<String>,
    /// Country of lines that name none, such as CO or Colombia.
    #[arg(long, value_name = "CC")]
    pub(super) country: Option<String>,
    /// Separator of delimited text, such as `;` or tab [default: by its content].
    #[arg(long, value_name = "C", value_parser = read::delimiter)]
    pub(super) delimiter: Option<char>,
    /// Encoding of text: utf-8, windows-1252, utf-16le, macintosh, cp850 ... [default: by its
    /// content].
    #[arg(long, value_name = "E")]
    pub(super) encoding: Option<Charset>,
    /// Form of dates: a pattern such as %d/%m/%Y, excel, epoch or epoch-ms [default: by the values,
    /// if they decide].
    #[arg(long, value_name = "F", default_value = "", hide_default_value = true, value_parser = date_format)]
    pub(super) date_format: DateFormat,
    /// Day or time of collection of lines that name none, such as 2025-11-03 [default: unknown].
    #[arg(long, value_name = "DATE", value_parser = collected)]
    pub(super) collected: Option<String>,
    /// Sheet of a spreadsheet [default: the one with advertisements].
    #[arg(long, value_name = "NAME")]
    pub(super) sheet: Option<String>,
    /// Store nothing: show how the columns are read and the first three advertisements as they
    /// would be stored.
    #[arg(long)]
    pub(super) dry_run: bool,
}

/// A day, or a time with its zone, as a time; a day is the whole of it, so its middle in UTC is on
/// it all over the world but for the date line.
fn collected(text: &str) -> Result<String, String> {
    let day = |day: chrono::NaiveDate| day.and_hms_opt(12, 0, 0).map(|noon| noon.and_utc());
    let time = match (text.parse::<chrono::NaiveDate>(), chrono::DateTime::parse_from_rfc3339(text)) {
        (Ok(named), _) => day(named),
        (_, Ok(time)) => Some(time.to_utc()),
        _ => None,
    };
    let time = time.ok_or_else(|| {
        format!("`{text}` is not a day such as 2025-11-03 or a time such as 2025-11-03T10:30:00Z")
    })?;
    if time > chrono::Utc::now() + chrono::Duration::days(1) {
        return Err(format!(
            "`{text}` is still to come; expected the day on which the advertisements were collected"
        ));
    }
    Ok(time.to_rfc3339())
}

/// An empty form is that of the values.
fn date_format(text: &str) -> Result<DateFormat, String> {
    if text.is_empty() { Ok(DateFormat::Detect) } else { text.parse() }
}

/// Reads the files, sends what they hold, and prints what became of it.
pub(super) async fn run(context: &Context, import: Import) -> anyhow::Result<Outcome> {
    // A file that cannot be read is told before anything is started.
    let dry_run = import.dry_run;
    let reading = tokio::task::spawn_blocking(move || read::prepare(&import));
    let mut prepared = while_waiting("reading the files", reading).await??;
    if !dry_run {
        prepared.files.iter().filter(|file| file.remarkable).for_each(|file| progress(shown(file, false)));
    }
    let ads = std::mem::take(&mut prepared.ads);
    let answered =
        if ads.is_empty() { ImportPostingsResponse::default() } else { send(context, ads).await? };
    let totals = together(answered, &prepared);
    if dry_run { print_dry_run(context, &prepared.files, &totals) } else { print_totals(context, &totals) }
}

async fn send(context: &Context, ads: Vec<ImportPostingsRequest>) -> anyhow::Result<ImportPostingsResponse> {
    let mut postings = Postings::new(context.client.pipeline().await?);
    let mut sent = Progress::new("advertisements", ads.len() as u64);
    // The channel is as short as what the service reads ahead, so that what is counted has nearly
    // arrived.
    let (sender, receiver) = tokio::sync::mpsc::channel(64);
    let feed = tokio::spawn(async move {
        for ad in ads {
            if sender.send(ad).await.is_err() {
                break;
            }
            sent.advance(1);
        }
    });
    let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let answered = postings.import_postings(stream).await;
    feed.await?;
    answer(answered)
}

/// What the service says together with what was refused before it.
fn together(mut totals: ImportPostingsResponse, prepared: &Prepared) -> ImportPostingsResponse {
    totals.lines += prepared.refused_count;
    totals.refused += prepared.refused_count;
    totals.errors.extend(prepared.refused.iter().cloned());
    totals.notes.extend(prepared.notes.iter().cloned());
    for told in [&mut totals.errors, &mut totals.notes] {
        told.sort_by(|left, right| (&left.file, left.line).cmp(&(&right.file, right.line)));
    }
    totals
}

/// How a file is understood, on one line and one for each conclusion; `whole` names all columns.
fn shown(file: &Understood, whole: bool) -> String {
    let ads = if file.rows == 1 { "advertisement" } else { "advertisements" };
    let mut text = format!("{}: {}, {} {ads}", file.file, file.form, file.rows);
    let columns: Vec<String> = file
        .columns
        .iter()
        .filter(|(ours, theirs)| whole || ours != theirs)
        .map(|(ours, theirs)| format!("{ours} ← {theirs}"))
        .collect();
    if !columns.is_empty() {
        text.push_str(&format!("\n  columns: {}", columns.join(", ")));
    }
    if !file.unused.is_empty() {
        text.push_str(&format!("\n  not used: {}", file.unused.join(", ")));
    }
    for note in &file.notes {
        text.push_str(&format!("\n  {note}"));
    }
    text
}

fn told(error: &ImportError) -> String {
    let more = if error.count > 1 { format!(" ({} lines)", error.count) } else { String::new() };
    format!("{}:{}: {}{more}", error.file, error.line, error.message)
}

fn tell(totals: &ImportPostingsResponse) {
    totals.errors.iter().chain(&totals.notes).for_each(|error| progress(told(error)));
    let named: u64 = totals.errors.iter().map(|error| error.count.max(1)).sum();
    let unnamed = totals.refused.saturating_sub(named);
    if unnamed > 0 {
        progress(format_args!("and {unnamed} more lines were refused"));
    }
    if totals.lines == 0 {
        progress("the files hold no advertisement");
    }
}

fn as_json(errors: &[ImportError]) -> Vec<Value> {
    let one = |error: &ImportError| json!({ "file": error.file, "line": error.line, "message": error.message, "count": error.count.max(1) });
    errors.iter().map(one).collect()
}

fn print_totals(context: &Context, totals: &ImportPostingsResponse) -> anyhow::Result<Outcome> {
    tell(totals);
    let removed: BTreeMap<_, _> = totals.entities_removed.iter().collect();
    let summary = json!({ "lines": totals.lines, "imported": totals.imported, "duplicates": totals.duplicates,
        "refused": totals.refused, "entities_removed": removed, "errors": as_json(&totals.errors),
        "notes": as_json(&totals.notes) });
    let mut rows = vec![
        vec!["imported".to_owned(), totals.imported.to_string()],
        vec!["duplicates".to_owned(), totals.duplicates.to_string()],
        vec!["refused".to_owned(), totals.refused.to_string()],
    ];
    rows.extend(removed.iter().map(|(kind, count)| vec![format!("{kind} removed"), count.to_string()]));
    context.output.print(&Table::new(&["what", "count"], rows, summary))?;
    Ok(Outcome::from_fine(totals.refused == 0 && totals.lines > 0))
}

fn print_dry_run(
    context: &Context,
    files: &[Understood],
    totals: &ImportPostingsResponse,
) -> anyhow::Result<Outcome> {
    tell(totals);
    let previews: Vec<Value> =
        totals.preview_json.iter().map(|text| serde_json::from_str(text)).collect::<Result<_, _>>()?;
    let understood: Vec<Value> = files.iter().map(understood_json).collect();
    let removed: BTreeMap<_, _> = totals.entities_removed.iter().collect();
    let summary = json!({ "dry_run": true, "files": understood, "lines": totals.lines, "imported": totals.imported,
        "duplicates": totals.duplicates, "refused": totals.refused, "entities_removed": removed,
        "errors": as_json(&totals.errors), "notes": as_json(&totals.notes), "postings": previews });
    let mut text: String = files.iter().map(|file| format!("{}\n", shown(file, true))).collect();
    for posting in &previews {
        text.push('\n');
        text.push_str(&preview(posting));
    }
    text.push_str(&format!(
        "\nnothing was stored; {} would be imported, {} are stored already, {} are refused\n",
        totals.imported, totals.duplicates, totals.refused
    ));
    context.output.print(&Document::new(text, summary))?;
    Ok(Outcome::from_fine(totals.refused == 0 && totals.lines > 0))
}

fn understood_json(file: &Understood) -> Value {
    let columns: BTreeMap<_, _> = file.columns.iter().cloned().collect();
    json!({ "file": file.file, "form": file.form, "advertisements": file.rows, "columns": columns,
        "not_used": file.unused, "notes": file.notes })
}

/// A posting, a field on each line.
fn preview(posting: &Value) -> String {
    let fields = posting.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
    let line = |(name, value): (&String, &Value)| {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        format!("{name}: {}\n", cut(&text.replace('\n', " ⏎ "), 200))
    };
    fields.map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_of_collection_is_a_day_or_a_time() {
        let check = |text: &str, expected: Result<&str, &str>| match (collected(text), expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected),
            (Err(found), Err(expected)) => assert!(found.contains(expected), "{found}"),
            (found, _) => panic!("{text}: {found:?}"),
        };
        check("2025-11-03", Ok("2025-11-03T12:00:00+00:00"));
        check("2025-11-03T23:30:00-05:00", Ok("2025-11-04T04:30:00+00:00"));
        check("03/11/2025", Err("`03/11/2025` is not a day such as 2025-11-03"));
        check("2025-02-30", Err("is not a day"));
        check("ayer", Err("is not a day"));
        check("2999-01-01", Err("is still to come"));
    }
}
