//! `postings import`: sends what was read to the service and reports the outcome.
//!
//! Merges the rows refused here with those refused by the service, so that a user sees one list.

use std::collections::BTreeMap;

use observatory_proto::pipeline::v1::{
    ImportError, ImportPostingsRequest, ImportPostingsResponse, posting_service_client::PostingServiceClient,
};
use serde_json::{Value, json};

use super::read::{self, FileSummary, ImportOptions, Prepared};
use crate::client::{Connection, answer};
use crate::commands::text::cut;
use crate::context::Context;
use crate::output::{Document, Outcome, Progress, Table, progress, while_waiting};

/// Reads the files, sends the advertisements, and prints the outcome.
pub(super) async fn run(context: &Context, options: ImportOptions) -> anyhow::Result<Outcome> {
    // Before connecting, which may start a stack: a file that cannot be read should cost nothing.
    let dry_run = options.dry_run;
    let reading = tokio::task::spawn_blocking(move || read::prepare(&options));
    let mut prepared = while_waiting("reading the files", reading).await??;
    if !dry_run {
        prepared.files.iter().filter(|file| file.remarkable).for_each(|file| progress(describe(file, false)));
    }
    let ads = std::mem::take(&mut prepared.ads);
    // Connecting may start a stack, which needs something to send.
    let answered =
        if ads.is_empty() { ImportPostingsResponse::default() } else { send(context, ads).await? };
    let totals = merge_totals(answered, &prepared);
    if dry_run { print_dry_run(context, &prepared.files, &totals) } else { print_totals(context, &totals) }
}

async fn send(context: &Context, ads: Vec<ImportPostingsRequest>) -> anyhow::Result<ImportPostingsResponse> {
    let mut postings = PostingServiceClient::<Connection>::new(context.client.pipeline().await?);
    let mut sent = Progress::new("advertisements", ads.len() as u64);
    // The channel is no longer than what the service reads ahead, so that progress counts
    // advertisements that have nearly arrived.
    let (sender, receiver) = tokio::sync::mpsc::channel(64);
    let feed = tokio::spawn(async move {
        for ad in ads {
            if sender.send(ad).await.is_err() {
                // The service has hung up; its answer says why.
                break;
            }
            sent.advance(1);
        }
    });
    let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let answered = postings.import_postings(stream).await;
    // It ends when everything is sent or the service has hung up, so this does not wait.
    feed.await?;
    answer(answered)
}

/// Merges the totals of the service with the rows refused before sending.
fn merge_totals(mut totals: ImportPostingsResponse, prepared: &Prepared) -> ImportPostingsResponse {
    totals.lines += prepared.refused_count;
    totals.refused += prepared.refused_count;
    totals.errors.extend(prepared.refused.iter().cloned());
    totals.notes.extend(prepared.notes.iter().cloned());
    // In the order in which a person goes through the files, whether reader or service refused.
    for list in [&mut totals.errors, &mut totals.notes] {
        list.sort_by(|left, right| (&left.file, left.line).cmp(&(&right.file, right.line)));
    }
    totals
}

/// Describes how a file is understood: its format, and a line for each conclusion; `whole` includes
/// columns with our own names.
fn describe(file: &FileSummary, whole: bool) -> String {
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

fn render_error(error: &ImportError) -> String {
    let more = if error.count > 1 { format!(" ({} lines)", error.count) } else { String::new() };
    format!("{}:{}: {}{more}", error.file, error.line, error.message)
}

fn report_problems(totals: &ImportPostingsResponse) {
    totals.errors.iter().chain(&totals.notes).for_each(|error| progress(render_error(error)));
    let named: u64 = totals.errors.iter().map(|error| error.count.max(1)).sum();
    let unnamed = totals.refused.saturating_sub(named);
    if unnamed > 0 {
        progress(format_args!("{unnamed} more lines were refused"));
    }
    if totals.lines == 0 {
        progress("the files contain no advertisements");
    }
}

fn as_json(errors: &[ImportError]) -> Vec<Value> {
    errors.iter().map(error_json).collect()
}

fn error_json(error: &ImportError) -> Value {
    json!({ "file": error.file, "line": error.line, "message": error.message, "count": error.count.max(1) })
}

fn print_totals(context: &Context, totals: &ImportPostingsResponse) -> anyhow::Result<Outcome> {
    report_problems(totals);
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
    Ok(Outcome::done_if(totals.refused == 0 && totals.lines > 0))
}

fn print_dry_run(
    context: &Context,
    files: &[FileSummary],
    totals: &ImportPostingsResponse,
) -> anyhow::Result<Outcome> {
    report_problems(totals);
    let previews: Vec<Value> =
        totals.preview_json.iter().map(|text| serde_json::from_str(text)).collect::<Result<_, _>>()?;
    let summaries: Vec<Value> = files.iter().map(summary_json).collect();
    let removed: BTreeMap<_, _> = totals.entities_removed.iter().collect();
    let summary = json!({ "dry_run": true, "files": summaries, "lines": totals.lines, "imported": totals.imported,
        "duplicates": totals.duplicates, "refused": totals.refused, "entities_removed": removed,
        "errors": as_json(&totals.errors), "notes": as_json(&totals.notes), "postings": previews });
    let mut text: String = files.iter().map(|file| format!("{}\n", describe(file, true))).collect();
    for posting in &previews {
        text.push('\n');
        text.push_str(&preview(posting));
    }
    text.push_str(&format!(
        "\nnothing was stored; {} would be imported, {} are already stored, {} are refused\n",
        totals.imported, totals.duplicates, totals.refused
    ));
    context.output.print(&Document::new(text, summary))?;
    Ok(Outcome::done_if(totals.refused == 0 && totals.lines > 0))
}

fn summary_json(file: &FileSummary) -> Value {
    let columns: BTreeMap<_, _> = file.columns.iter().cloned().collect();
    json!({ "file": file.file, "form": file.form, "advertisements": file.rows, "columns": columns,
        "not_used": file.unused, "notes": file.notes })
}

/// Renders a posting, one field per line.
fn preview(posting: &Value) -> String {
    let mut lines = String::new();
    for (name, value) in posting.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()) {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        // A line break in a text would look like the next field.
        lines += &format!("{name}: {}\n", cut(&text.replace('\n', " ⏎ "), 200));
    }
    lines
}
