//! `privacy`: removes personal data from stored postings.
//!
//! The service does the work in batches; this file shows its totals.

use std::collections::BTreeMap;

use anyhow::bail;
use observatory_proto::pipeline::v1::{
    ScrubRequest, ScrubResponse, privacy_service_client::PrivacyServiceClient,
};
use serde_json::json;

use crate::client::{answer, refusal};
use crate::context::Context;
use crate::output::{Outcome, Table, progress};

/// Remove personal data from stored postings.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Clean every stored posting with the patterns of this version; can be interrupted and
    /// repeated.
    Scrub {
        /// Show what would change, without writing anything.
        #[arg(long)]
        dry_run: bool,
    },
}

/// Postings between two progress lines. Not tuned: the log of a large database stays short.
const STEP: u64 = 10_000;

/// Runs the subcommand.
///
/// # Errors
/// If the service cannot be reached, or stops before the end.
pub(crate) async fn run(context: &Context, arguments: Arguments) -> anyhow::Result<Outcome> {
    let Action::Scrub { dry_run } = arguments.action;
    let mut privacy = PrivacyServiceClient::new(context.client.pipeline().await?);
    let mut totals = answer(privacy.scrub(ScrubRequest { dry_run }).await)?;
    let mut told = 0;
    while let Some(now) = totals.message().await.map_err(|status| refusal(&status))? {
        // A stream also ends if the service is stopped; only this mark says that all is done.
        if now.finished {
            return print(context, &now, dry_run);
        }
        if now.postings / STEP > told {
            told = now.postings / STEP;
            progress(format_args!("{} postings checked, {} changed", now.postings, now.changed));
        }
    }
    bail!("the service stopped before the end; repeat the command to continue")
}

fn print(context: &Context, totals: &ScrubResponse, dry_run: bool) -> anyhow::Result<Outcome> {
    let removed: BTreeMap<_, _> = totals.entities_removed.iter().collect();
    let summary = json!({ "postings": totals.postings, "changed": totals.changed, "joined": totals.joined,
        "entities_removed": removed, "dry_run": dry_run });
    let mut rows = vec![
        vec!["postings".to_owned(), totals.postings.to_string()],
        vec!["changed".to_owned(), totals.changed.to_string()],
        vec!["joined".to_owned(), totals.joined.to_string()],
    ];
    rows.extend(removed.iter().map(|(kind, count)| vec![format!("{kind} removed"), count.to_string()]));
    context.output.print(&Table::new(&["what", "count"], rows, summary))?;
    if dry_run {
        progress("nothing was written");
    }
    Ok(Outcome::Done)
}
