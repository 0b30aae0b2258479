//! `review`: people judge what the pipeline finds, and their verdicts change what it finds next.
//!
//! A verdict is about a wording and holds in every posting, from the next run on.

mod gold;

use std::path::PathBuf;

use observatory_proto::pipeline::v1::{
    Find, JudgeRequest, ListFindsRequest, ListVerdictsRequest, Verdict,
    review_service_client::ReviewServiceClient,
};
use serde_json::{Value, json};

use crate::client::{Connection, answer};
use crate::commands::text::{cut, time};
use crate::context::Context;
use crate::output::{Outcome, Table, print, progress};

/// Judge what was found; the verdicts hold from the next run on.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Show what nobody has judged: first what is expected to be wrong in most postings.
    Next {
        /// Only this question: link (does the wording mean the concept?), skill (is the wording a
        /// skill?) or implied (does the wording imply the skill?).
        #[arg(long, value_parser = ["link", "skill", "implied"])]
        kind: Option<String>,
        /// Number of finds to show.
        #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=500))]
        limit: i32,
    },
    /// Say that finds are right.
    Accept {
        #[command(flatten)]
        judged: Judged,
        /// What decided.
        #[arg(long, default_value = "", hide_default_value = true)]
        why: String,
    },
    /// Say that finds are wrong: the wording does not mean the concept, is no skill, or does not
    /// imply the skill.
    Reject {
        #[command(flatten)]
        judged: Judged,
        /// What decided.
        #[arg(long)]
        why: String,
    },
    /// Say what the wording means instead.
    Correct {
        #[command(flatten)]
        judged: Judged,
        /// Concept of the active taxonomy.
        #[arg(long, required_unless_present = "label")]
        uri: Option<String>,
        /// Name of the skill; one that the lexicon or the taxonomy knows brings its concept along.
        #[arg(long)]
        label: Option<String>,
        /// What decided.
        #[arg(long)]
        why: String,
    },
    /// List verdicts, newest first.
    List {
        /// Also those that a later verdict has taken the place of.
        #[arg(long)]
        history: bool,
    },
    /// Write what was judged as marked advertisements, for `eval linking`.
    Export {
        /// JSON Lines of advertisements with the judged spans and their concepts; `-` writes to
        /// standard output.
        #[arg(long, value_name = "FILE")]
        gold: PathBuf,
    },
}

#[derive(Debug, clap::Args)]
struct Judged {
    /// Ids shown by `review next`, or judged before.
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
    /// Who judges.
    #[arg(long, value_name = "NAME", env = "USER", hide_env_values = true)]
    by: String,
}

type Review = ReviewServiceClient<Connection>;

/// Runs the subcommand.
///
/// # Errors
/// If a file cannot be written, or the service cannot be reached or refuses.
pub(crate) async fn run(context: &Context, arguments: Arguments) -> anyhow::Result<Outcome> {
    let mut review = Review::new(context.client.pipeline().await?);
    let verdict = |verdict: &str, why: String| JudgeRequest {
        verdict: verdict.to_owned(),
        why,
        ..JudgeRequest::default()
    };
    match arguments.action {
        Action::Next { kind, limit } => {
            let request = ListFindsRequest { kind: kind.unwrap_or_default(), page_size: limit };
            let found = answer(review.list_finds(request).await)?.finds;
            let rows = found.iter().map(find_row).collect();
            let header = ["id", "kind", "postings", "confidence", "wording", "skill", "sentence"];
            let table = Table::new(&header, rows, found.iter().map(find_json).collect());
            context.output.list(&table, || "nothing is left to judge; a run may find more".to_owned())
        }
        Action::Accept { judged, why } => judge(context, review, judged, verdict("accept", why)).await,
        Action::Reject { judged, why } => judge(context, review, judged, verdict("reject", why)).await,
        Action::Correct { judged, uri, label, why } => {
            let (uri, label) = (uri.unwrap_or_default(), label.unwrap_or_default());
            judge(context, review, judged, JudgeRequest { uri, label, ..verdict("correct", why) }).await
        }
        Action::List { history } => print_verdicts(context, &all(&mut review, history).await?),
        Action::Export { gold } => {
            let verdicts = all(&mut review, false).await?;
            let (lines, ads) = gold::lines(context, &verdicts).await?;
            if gold.as_os_str() == "-" {
                print(lines)?;
            } else {
                std::fs::write(&gold, lines)
                    .map_err(|error| anyhow::anyhow!("cannot write {}: {error}", gold.display()))?;
                progress(format_args!("{ads} advertisements written to {}", gold.display()));
            }
            Ok(Outcome::done_if(ads > 0))
        }
    }
}

/// Sends the verdict on each find and prints what holds now.
async fn judge(
    context: &Context,
    mut review: Review,
    judged: Judged,
    verdict: JudgeRequest,
) -> anyhow::Result<Outcome> {
    let mut stored = Vec::new();
    for item_id in judged.ids {
        let request = JudgeRequest { item_id, reviewer: judged.by.clone(), ..verdict.clone() };
        stored.extend(answer(review.judge(request).await)?.verdict);
    }
    print_verdicts(context, &stored)
}

/// Every page of verdicts.
async fn all(review: &mut Review, history: bool) -> anyhow::Result<Vec<Verdict>> {
    let (mut found, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListVerdictsRequest { history, page_size: 500, page_token };
        let page = answer(review.list_verdicts(request).await)?;
        found.extend(page.verdicts);
        if page.next_page_token.is_empty() {
            return Ok(found);
        }
        page_token = page.next_page_token;
    }
}

fn print_verdicts(context: &Context, verdicts: &[Verdict]) -> anyhow::Result<Outcome> {
    let rows = verdicts
        .iter()
        .map(|verdict| {
            vec![
                time(verdict.decided_at.as_ref()),
                verdict.reviewer.clone(),
                verdict.verdict.clone(),
                verdict.subject.clone(),
                meaning(verdict),
                verdict.why.clone(),
            ]
        })
        .collect();
    let header = ["when", "who", "verdict", "subject", "holds", "why"];
    let table = Table::new(&header, rows, verdicts.iter().map(verdict_json).collect());
    context.output.list(&table, || "no verdicts yet; `observatory review next` shows finds".to_owned())
}

/// What holds by a verdict, in a few words.
fn meaning(verdict: &Verdict) -> String {
    let kind = verdict.find.as_ref().map_or("", |find| find.kind.as_str());
    match (kind, verdict.verdict.as_str()) {
        ("implied", "reject") => "not implied".to_owned(),
        ("skill", "reject") => "no skill".to_owned(),
        _ if verdict.uri.is_empty() => verdict.label.clone(),
        _ => format!("{} ({})", verdict.label, verdict.uri),
    }
}

fn find_row(find: &Find) -> Vec<String> {
    let skill = match find.preferred_label.as_str() {
        "" => find.label.clone(),
        concept => format!("{} = {concept}", find.label),
    };
    vec![
        find.item_id.clone(),
        find.kind.clone(),
        find.postings.to_string(),
        format!("{:.2}", find.confidence),
        cut(&find.wording, 40),
        cut(&skill, 60),
        cut(&find.sentence, 80),
    ]
}

fn find_json(find: &Find) -> Value {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    json!({ "id": find.item_id, "kind": find.kind, "wording": find.wording, "label": find.label,
        "uri": some(&find.uri), "preferred_label": some(&find.preferred_label), "category": find.category,
        "reason": some(&find.reason), "confidence": find.confidence, "postings": find.postings,
        "job_id": some(&find.job_id), "field": find.field, "start": find.start, "end": find.end,
        "sentence": some(&find.sentence) })
}

fn verdict_json(verdict: &Verdict) -> Value {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    json!({ "verdict_id": verdict.verdict_id, "verdict": verdict.verdict, "subject": verdict.subject,
        "uri": some(&verdict.uri), "label": some(&verdict.label), "reviewer": verdict.reviewer,
        "why": verdict.why, "decided_at": time(verdict.decided_at.as_ref()),
        "find": verdict.find.as_ref().map(find_json) })
}
