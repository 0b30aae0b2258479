//! `taxonomy diff`: what is different between two taxonomies.
//!
//! The counts of all changes come first, then one row for each difference.

use std::fmt::Write;

use observatory_proto::pipeline::v1::{
    DiffTaxonomiesRequest, TaxonomyDiffCounts, TaxonomyDifference, diff_taxonomies_response::Item,
    taxonomy_service_client::TaxonomyServiceClient,
};
use serde_json::{Map, Value, json};

use crate::client::{answer, refusal};
use crate::context::Context;
use crate::output::{Document, Outcome, Table, while_waiting};

/// Compares two stored taxonomies and prints the differences.
///
/// # Errors
/// If the service cannot be reached or refuses, or does not know one of them.
pub(super) async fn run(context: &Context, from: String, to: String) -> anyhow::Result<Outcome> {
    let mut service = TaxonomyServiceClient::new(context.client.pipeline().await?);
    let waiting = format!("comparing {from} and {to}");
    let asked = service.diff_taxonomies(DiffTaxonomiesRequest { from, to });
    let mut stream = answer(while_waiting(&waiting, asked).await)?;
    let (mut counts, mut differences) = (TaxonomyDiffCounts::default(), Vec::new());
    while let Some(part) = stream.message().await.map_err(|status| refusal(&status))? {
        match part.item {
            Some(Item::Counts(found)) => counts = found,
            Some(Item::Difference(difference)) => differences.push(difference),
            None => {}
        }
    }
    context.output.print(&Document::new(text(&counts, &differences), as_json(&counts, &differences)))?;
    Ok(Outcome::Done)
}

fn text(counts: &TaxonomyDiffCounts, differences: &[TaxonomyDifference]) -> String {
    let rows = counts.changes.iter().map(|change| vec![change.change.clone(), change.count.to_string()]);
    let head = Table::new(&["change", "count"], rows.collect(), Value::Null);
    let mut text = format!("{} -> {}\n\n{head}", counts.from, counts.to);
    if !differences.is_empty() {
        let rows = differences.iter().map(row).collect();
        let header = ["change", "uri", "label", "language", "before", "after"];
        let _ = write!(text, "\n{}", Table::new(&header, rows, Value::Null));
    }
    text
}

fn row(difference: &TaxonomyDifference) -> Vec<String> {
    vec![
        difference.change.clone(),
        difference.uri.clone(),
        difference.label.clone(),
        difference.language.clone(),
        difference.before.join(" | "),
        difference.after.join(" | "),
    ]
}

fn as_json(counts: &TaxonomyDiffCounts, differences: &[TaxonomyDifference]) -> Value {
    let changes: Map<String, Value> =
        counts.changes.iter().map(|change| (change.change.clone(), change.count.into())).collect();
    let rows: Vec<Value> = differences
        .iter()
        .map(|difference| {
            json!({ "change": difference.change, "uri": difference.uri, "kind": difference.kind,
                "label": difference.label, "language": difference.language,
                "before": difference.before, "after": difference.after })
        })
        .collect();
    json!({ "from": counts.from, "to": counts.to, "counts": changes, "differences": rows })
}

#[cfg(test)]
mod tests {
    use observatory_proto::pipeline::v1::TaxonomyChangeCount;

    use super::*;

    #[test]
    fn counts_come_first_and_rows_follow() {
        let change = |change: &str, count| TaxonomyChangeCount { change: change.to_owned(), count };
        let counts = TaxonomyDiffCounts {
            from: "own@1".to_owned(),
            to: "own@2".to_owned(),
            changes: vec![change("renamed", 1), change("moved", 0)],
        };
        let renamed = TaxonomyDifference {
            change: "renamed".to_owned(),
            uri: "u:1".to_owned(),
            kind: "skill".to_owned(),
            label: "quesería".to_owned(),
            language: "es".to_owned(),
            before: vec!["queso".to_owned()],
            after: vec!["quesería".to_owned()],
        };
        let head = "own@1 -> own@2\n\nCHANGE   COUNT\nrenamed  1\nmoved    0\n";
        assert_eq!(text(&counts, &[]), head);
        let rows = "\nCHANGE   URI  LABEL     LANGUAGE  BEFORE  AFTER\nrenamed  u:1  quesería  es        queso   quesería\n";
        assert_eq!(text(&counts, std::slice::from_ref(&renamed)), format!("{head}{rows}"));
        let json = as_json(&counts, &[renamed]);
        assert_eq!(json["counts"]["renamed"], 1);
        assert_eq!(json["differences"][0]["before"], json!(["queso"]));
    }
}
