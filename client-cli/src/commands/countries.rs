//! `countries`: lists countries and enables further ones.
//!
//! Postings are accepted only from enabled countries; the service knows the list.

use observatory_proto::pipeline::v1::{
    Country, EnableCountryRequest, ListCountriesRequest, posting_service_client::PostingServiceClient,
};
use serde_json::{Value, json};

use crate::client::answer;
use crate::context::Context;
use crate::output::{Outcome, Table};

/// List countries, and enable further ones.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List all known countries.
    List,
    /// Enable a country, so that its postings are accepted.
    Enable {
        /// ISO 3166-1 alpha-2 code, such as PE.
        code: String,
    },
}

/// Runs the subcommand.
///
/// # Errors
/// If the service cannot be reached or refuses.
pub(crate) async fn run(context: &Context, arguments: Arguments) -> anyhow::Result<Outcome> {
    let mut postings = PostingServiceClient::new(context.client.pipeline().await?);
    let found = match arguments.action {
        Action::List => answer(postings.list_countries(ListCountriesRequest {}).await)?.countries,
        Action::Enable { code } => {
            let enabled = answer(postings.enable_country(EnableCountryRequest { code }).await)?;
            enabled.country.into_iter().collect()
        }
    };
    let rows = found.iter().map(row).collect();
    let header = ["code", "enabled", "postings", "currency", "time zone", "name"];
    context.output.print(&Table::new(&header, rows, found.iter().map(as_json).collect()))?;
    Ok(Outcome::Done)
}

fn row(country: &Country) -> Vec<String> {
    let enabled = if country.enabled { "yes" } else { "no" };
    vec![
        country.code.clone(),
        enabled.to_owned(),
        country.postings.to_string(),
        country.currency.clone(),
        country.time_zone.clone(),
        country.name.clone(),
    ]
}

fn as_json(country: &Country) -> Value {
    json!({ "code": country.code, "name": country.name, "enabled": country.enabled,
        "postings": country.postings, "currency": country.currency, "time_zone": country.time_zone })
}
