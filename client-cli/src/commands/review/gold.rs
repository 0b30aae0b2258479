//! Judged finds as marked advertisements, in the form that `eval` reads.
//!
//! Only what was judged is marked, so that the marks measure links and not what was missed.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use observatory_proto::pipeline::v1::{
    Find, GetPostingRequest, Verdict, posting_service_client::PostingServiceClient,
};
use serde_json::{Value, json};

use crate::client::answer;
use crate::context::Context;

/// JSON Lines of the advertisements that the verdicts were about, and how many there are.
///
/// # Errors
/// If the service cannot be reached or refuses.
pub(super) async fn lines(context: &Context, verdicts: &[Verdict]) -> anyhow::Result<(String, usize)> {
    let mut by_ad: BTreeMap<&str, Vec<(&Find, &Verdict)>> = BTreeMap::new();
    for verdict in verdicts {
        let Some(find) = verdict.find.as_ref().filter(|find| is_marked(find, verdict)) else { continue };
        by_ad.entry(&find.job_id).or_default().push((find, verdict));
    }
    let mut postings = PostingServiceClient::new(context.client.pipeline().await?);
    let (mut lines, mut ads) = (String::new(), 0);
    for (job_id, judged) in by_ad {
        let request = GetPostingRequest { job_id: job_id.to_owned() };
        let posting: Value =
            serde_json::from_str(&answer(postings.get_posting(request).await)?.posting_json)?;
        if let Some(line) = line(job_id, &posting, &judged) {
            // Writing to memory cannot fail.
            let _ = writeln!(lines, "{line}");
            ads += 1;
        }
    }
    Ok((lines, ads))
}

/// True for a judged span of a description that names a skill.
fn is_marked(find: &Find, verdict: &Verdict) -> bool {
    let named = find.kind == "link" || find.kind == "skill" && verdict.verdict != "reject";
    named && find.field == "description" && !find.job_id.is_empty()
}

/// The advertisement with its marks; nothing if its text is another now.
fn line(job_id: &str, posting: &Value, judged: &[(&Find, &Verdict)]) -> Option<Value> {
    let description = posting["description"].as_str()?;
    let mut spans: Vec<(u32, Value)> = Vec::new();
    for (find, verdict) in judged {
        let length = find.end.saturating_sub(find.start) as usize;
        let text: String = description.chars().skip(find.start as usize).take(length).collect();
        if text == find.wording {
            let uris: Vec<&str> = [verdict.uri.as_str()].into_iter().filter(|uri| !uri.is_empty()).collect();
            let span = json!({ "start": find.start, "end": find.end, "kind": kind(&find.category),
                "norm": verdict.label, "uris": uris });
            spans.push((find.start, span));
        }
    }
    spans.sort_by_key(|(start, _)| *start);
    let spans: Vec<Value> = spans.into_iter().map(|(_, span)| span).collect();
    (!spans.is_empty()).then(|| {
        json!({ "id": job_id, "source": posting["portal"], "country": posting["country"],
            "title": posting["title"], "description": description, "spans": spans })
    })
}

/// The kind of a mark for a category of skills.
fn kind(category: &str) -> &'static str {
    match category {
        "technology" | "tool" => "tool",
        "language" => "language",
        "licence" | "certification" => "licence",
        "soft" => "soft",
        "knowledge" | "method" => "knowledge",
        _ => "ability",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn judged_spans_are_marked_where_they_stand() {
        let find = |kind: &str, wording: &str, start: u32| Find {
            kind: kind.to_owned(),
            wording: wording.to_owned(),
            job_id: "j".to_owned(),
            field: "description".to_owned(),
            category: "tool".to_owned(),
            start,
            end: start + wording.chars().count() as u32,
            ..Find::default()
        };
        let verdict = |verdict: &str, uri: &str| Verdict {
            verdict: verdict.to_owned(),
            uri: uri.to_owned(),
            label: "Excel".to_owned(),
            ..Verdict::default()
        };
        let (excel, moved, no_skill) =
            (find("link", "excel", 4), find("link", "word", 0), find("skill", "año", 0));
        let (accepted, rejected) = (verdict("accept", "u:1"), verdict("reject", ""));
        assert!(is_marked(&excel, &rejected) && !is_marked(&no_skill, &rejected));
        let posting = json!({ "description": "Año excel", "portal": "p", "country": "CO", "title": "t" });
        let line = line("j", &posting, &[(&moved, &accepted), (&excel, &accepted)]).unwrap();
        let marked = json!([{ "start": 4, "end": 9, "kind": "tool", "norm": "Excel", "uris": ["u:1"] }]);
        assert_eq!((&line["spans"], &line["id"], &line["source"]), (&marked, &json!("j"), &json!("p")));
    }
}
