//! `postings`: import and look at stored postings.

mod read;

use std::path::PathBuf;

use observatory_proto::pipeline::v1::{
    GetPostingRequest, ImportPostingsResponse, ListPostingsRequest,
    posting_service_client::PostingServiceClient,
};
use serde_json::{Value, json};

use crate::cli::Context;
use crate::client::{Channel, answer};
use crate::commands::text::cut;
use crate::output::{Outcome, Table, progress};

use read::{Columns, FileFormat};

/// Import postings from files and look at the stored ones.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Import advertisements; lines that are refused are named, the others are stored.
    Import(Import),
    /// List stored postings.
    List {
        /// Only postings seen on this portal.
        #[arg(long, default_value = "", hide_default_value = true, value_name = "P")]
        portal: String,
        /// Only postings seen in this country.
        #[arg(long, default_value = "", hide_default_value = true, value_name = "CC")]
        country: String,
        /// Most postings to list.
        #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=500))]
        limit: i32,
    },
    /// Show one posting with its sightings and skills.
    Show {
        /// Posting id (`job_id`).
        id: String,
    },
}

/// What to import.
#[derive(Clone, Debug, clap::Args)]
struct Import {
    /// JSON Lines or CSV files, also compressed as .gz.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Format [default: by the file's name].
    #[arg(long)]
    format: Option<FileFormat>,
    /// Names of the file's fields: OURS=THEIRS, separated by commas, such as title=Titulo.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "MAP")]
    map: Columns,
    /// Portal of lines that name none.
    #[arg(long, value_name = "P")]
    portal: Option<String>,
    /// Country of lines that name none.
    #[arg(long, value_name = "CC")]
    country: Option<String>,
}

type Postings = PostingServiceClient<Channel>;

/// Does what the subcommand says.
///
/// # Errors
/// When a file cannot be read, no service answers or it refuses.
pub async fn run(context: &Context, arguments: Arguments) -> anyhow::Result<Outcome> {
    match arguments.action {
        Action::Import(import) => {
            // A file that cannot be read is told before anything is started.
            let lines = read::open(&import)?;
            let mut postings = Postings::new(context.client.pipeline().await?);
            let totals = send(&mut postings, lines).await?;
            print_totals(context, &totals)
        }
        Action::List { portal, country, limit } => {
            let mut postings = Postings::new(context.client.pipeline().await?);
            let country = country.to_uppercase();
            let request =
                ListPostingsRequest { page_size: limit, portal, country, page_token: String::new() };
            let found = answer(postings.list_postings(request).await)?.postings_json;
            print_list(context, &found)
        }
        Action::Show { id } => {
            let mut postings = Postings::new(context.client.pipeline().await?);
            let found = answer(postings.get_posting(GetPostingRequest { job_id: id }).await)?;
            let posting: Value = serde_json::from_str(&found.posting_json)?;
            println!("{}", serde_json::to_string_pretty(&posting)?);
            Ok(Outcome::Done)
        }
    }
}

async fn send(postings: &mut Postings, lines: read::Lines) -> anyhow::Result<ImportPostingsResponse> {
    let (sender, receiver) = tokio::sync::mpsc::channel(256);
    let reader = tokio::task::spawn_blocking(move || lines.send(&sender));
    let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let sent = postings.import_postings(stream).await;
    let local = reader.await?;
    let mut totals = answer(sent)?;
    let local = local?;
    totals.lines += local.len() as u64;
    totals.refused += local.len() as u64;
    totals.errors.extend(local);
    totals.errors.sort_by(|left, right| (&left.file, left.line).cmp(&(&right.file, right.line)));
    Ok(totals)
}

fn print_totals(context: &Context, totals: &ImportPostingsResponse) -> anyhow::Result<Outcome> {
    for error in &totals.errors {
        progress(format_args!("{}:{}: {}", error.file, error.line, error.message));
    }
    let unnamed = totals.refused.saturating_sub(totals.errors.len() as u64);
    if unnamed > 0 {
        progress(format_args!("and {unnamed} more lines were refused"));
    }
    if totals.lines == 0 {
        progress("the files hold no advertisement");
    }
    let removed: std::collections::BTreeMap<_, _> = totals.entities_removed.iter().collect();
    let errors: Vec<Value> = totals
        .errors
        .iter()
        .map(|error| json!({ "file": error.file, "line": error.line, "message": error.message }))
        .collect();
    let summary = json!({ "lines": totals.lines, "imported": totals.imported, "duplicates": totals.duplicates,
        "refused": totals.refused, "entities_removed": removed, "errors": errors });
    let mut rows = vec![
        vec!["imported".to_owned(), totals.imported.to_string()],
        vec!["duplicates".to_owned(), totals.duplicates.to_string()],
        vec!["refused".to_owned(), totals.refused.to_string()],
    ];
    rows.extend(removed.iter().map(|(kind, count)| vec![format!("{kind} removed"), count.to_string()]));
    context.output.print(&Table::new(&["what", "count"], rows, summary))?;
    Ok(Outcome::from_fine(totals.refused == 0 && totals.lines > 0))
}

fn print_list(context: &Context, found: &[String]) -> anyhow::Result<Outcome> {
    let postings: Vec<Value> =
        found.iter().map(|text| serde_json::from_str(text)).collect::<Result<_, _>>()?;
    let rows = postings
        .iter()
        .map(|posting| {
            let field = |name: &str| posting[name].as_str().unwrap_or_default().to_owned();
            vec![
                field("job_id"),
                field("country"),
                field("portal"),
                field("posted_date"),
                cut(&field("title"), 60),
            ]
        })
        .collect();
    let header = ["job_id", "country", "portal", "posted", "title"];
    context.output.print(&Table::new(&header, rows, Value::Array(postings)))?;
    Ok(Outcome::from_fine(!found.is_empty()))
}
