//! `postings`: imports, lists and shows postings.
//!
//! Reading files is in `read`, sending them in `import`.

mod import;
mod read;

use observatory_proto::pipeline::v1::{
    GetPostingRequest, ListPostingsRequest, posting_service_client::PostingServiceClient,
};
use serde_json::Value;

use crate::client::{Connection, answer};
use crate::commands::text::cut;
use crate::context::Context;
use crate::output::{Document, Outcome, Table};

/// Import postings from files, list and show stored ones.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Import advertisements; invalid lines are reported, the others are stored.
    Import(Box<read::ImportOptions>),
    /// List stored postings.
    List {
        /// Only postings seen on this portal.
        #[arg(long, default_value = "", hide_default_value = true, value_name = "P")]
        portal: String,
        /// Only postings seen in this country.
        #[arg(long, default_value = "", hide_default_value = true, value_name = "CC")]
        country: String,
        /// Maximum number of postings to list.
        #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=500))]
        limit: i32,
    },
    /// Show one posting with its sightings, occupation and skills.
    Show {
        /// Posting id (`job_id`).
        id: String,
    },
}

type Postings = PostingServiceClient<Connection>;

/// Runs the subcommand.
///
/// # Errors
/// If a file cannot be read, or the service cannot be reached or refuses.
pub(crate) async fn run(context: &Context, arguments: Arguments) -> anyhow::Result<Outcome> {
    match arguments.action {
        Action::Import(options) => import::run(context, *options).await,
        Action::List { portal, country, limit } => {
            let mut postings = Postings::new(context.client.pipeline().await?);
            let request =
                ListPostingsRequest { page_size: limit, portal, country, page_token: String::new() };
            // Before the request is sent, which takes the filters away.
            let narrowed = !(request.portal.is_empty() && request.country.is_empty());
            let found = answer(postings.list_postings(request).await)?.postings_json;
            print_list(context, &found, narrowed)
        }
        Action::Show { id } => {
            let mut postings = Postings::new(context.client.pipeline().await?);
            let found = answer(postings.get_posting(GetPostingRequest { job_id: id }).await)?;
            let posting: Value = serde_json::from_str(&found.posting_json)?;
            context.output.print(&Document::from(posting))?;
            Ok(Outcome::Done)
        }
    }
}

fn print_list(context: &Context, found: &[String], narrowed: bool) -> anyhow::Result<Outcome> {
    let postings: Vec<Value> =
        found.iter().map(|text| serde_json::from_str(text)).collect::<Result<_, _>>()?;
    let rows = postings.iter().map(row).collect();
    let header = ["job_id", "country", "portal", "posted", "title"];
    context.output.list(&Table::new(&header, rows, Value::Array(postings)), || match narrowed {
        true => "no posting was seen there; `observatory postings list` shows all postings".to_owned(),
        false => "no postings yet; import some with `observatory postings import FILE`".to_owned(),
    })
}

fn row(posting: &Value) -> Vec<String> {
    let fields = ["job_id", "country", "portal", "posted_date"];
    let mut row: Vec<String> = fields.map(|name| text_of(posting, name).to_owned()).to_vec();
    row.push(cut(text_of(posting, "title"), 60));
    row
}

fn text_of<'p>(posting: &'p Value, name: &str) -> &'p str {
    posting[name].as_str().unwrap_or_default()
}
