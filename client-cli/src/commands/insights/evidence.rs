//! `skills ads`: the postings behind a skill, and the sentences that name it.
//!
//! Hides paging: all pages up to `--limit` are one document.

use std::fmt::Write as _;

use observatory_proto::pipeline::v1::{
    ListSkillAdsRequest, ListSkillAdsResponse, SkillAd, insight_service_client::InsightServiceClient,
};
use serde_json::{Value, json};

use crate::client::{Connection, answer};
use crate::context::Context;
use crate::output::{Document, Outcome, progress};

/// Postings per request: the maximum of the service (`pipeline-services/src/api.rs`).
const PAGE: u32 = 500;

/// The skill, and filters of its postings.
#[derive(Debug, clap::Args)]
pub(super) struct EvidenceArguments {
    /// Skill label, as shown by `skills top`; case and accents are ignored.
    skill: String,
    /// Only postings seen in this country.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "CC")]
    country: String,
    /// Only postings seen on this portal.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "P")]
    portal: String,
    /// Maximum number of postings to show.
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

/// Requests all pages and prints them as one document.
pub(super) async fn run(
    context: &Context,
    mut insights: InsightServiceClient<Connection>,
    arguments: EvidenceArguments,
) -> anyhow::Result<Outcome> {
    let mut found = ListSkillAdsResponse::default();
    let limit = arguments.limit as usize;
    loop {
        let left = u32::try_from(limit - found.ads.len()).unwrap_or(PAGE).min(PAGE);
        let request = ListSkillAdsRequest {
            skill: arguments.skill.clone(),
            country: arguments.country.clone(),
            portal: arguments.portal.clone(),
            page_size: left.cast_signed(),
            page_token: found.next_page_token.clone(),
        };
        // The totals are those of the last page, the postings those of all pages.
        let ads = std::mem::take(&mut found.ads);
        found = answer(insights.list_skill_ads(request).await)?;
        found.ads.splice(..0, ads);
        if found.next_page_token.is_empty() || found.ads.len() >= limit {
            break;
        }
    }
    // An empty result is printed, too: with `--json` a document is expected in any case.
    context.output.print(&Document::new(text(&found), as_json(&found)))?;
    if found.ads.is_empty() {
        progress(format_args!("no posting seen there has the skill {}", found.skill));
    }
    Ok(Outcome::done_if(!found.ads.is_empty()))
}

fn text(found: &ListSkillAdsResponse) -> String {
    let (skill, names, implies) = (&found.skill, found.job_count, found.implicit_count);
    let mut text = match (names, implies) {
        (1, 1) => format!("{skill}: 1 posting names it, 1 more implies it\n"),
        (1, _) => format!("{skill}: 1 posting names it, {implies} more imply it\n"),
        (_, 1) => format!("{skill}: {names} postings name it, 1 more implies it\n"),
        _ => format!("{skill}: {names} postings name it, {implies} more imply it\n"),
    };
    for ad in &found.ads {
        // Writing to memory cannot fail.
        let _ = writeln!(text, "\n{}  {}  {}  {}", ad.job_id, ad.country, ad.portal, ad.title);
        let _ = writeln!(text, "  {}", ad.url);
        let _ = match (ad.span_start, ad.span_end) {
            (Some(start), Some(end)) => {
                writeln!(text, "  {} {start}..{end} `{}`: {}", ad.field, ad.surface, ad.sentence)
            }
            _ => writeln!(text, "  implied: {}", ad.reason),
        };
    }
    let (shown, all) = (found.ads.len() as u64, names + implies);
    if shown > 0 && shown < all {
        let _ = writeln!(text, "\nshowing {shown} of {all}; use --limit N to show more");
    }
    text
}

fn as_json(found: &ListSkillAdsResponse) -> Value {
    json!({ "normalized_skill": found.skill, "job_count": found.job_count,
        "implicit_count": found.implicit_count, "ads": found.ads.iter().map(ad_json).collect::<Vec<_>>() })
}

/// The text of a field, `None` (null in JSON) if the service left it empty.
fn given(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

fn ad_json(ad: &SkillAd) -> Value {
    json!({ "job_id": ad.job_id, "title": ad.title, "company": given(&ad.company), "portal": ad.portal,
        "country": ad.country, "url": ad.url, "posted_date": given(&ad.posted_date),
        "skill_type": if ad.explicit { "explicit" } else { "implicit" }, "confidence_score": ad.confidence,
        "source_field": given(&ad.field), "source_section": given(&ad.section), "span_start": ad.span_start,
        "span_end": ad.span_end, "skill_text": given(&ad.surface), "sentence": given(&ad.sentence),
        "extraction_method": ad.method, "llm_reasoning": given(&ad.reason) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_advertisement_is_shown_with_its_sentence() {
        let named = SkillAd {
            job_id: "7".to_owned(),
            title: "Panadero".to_owned(),
            portal: "p".to_owned(),
            country: "CO".to_owned(),
            url: "https://p.example/1".to_owned(),
            explicit: true,
            field: "description".to_owned(),
            span_start: Some(10),
            span_end: Some(15),
            surface: "Excel".to_owned(),
            sentence: "Manejo de Excel.".to_owned(),
            ..SkillAd::default()
        };
        let implied = SkillAd { reason: "React implies it".to_owned(), ..SkillAd::default() };
        let found = ListSkillAdsResponse {
            skill: "Microsoft Excel".to_owned(),
            job_count: 2,
            implicit_count: 1,
            ads: vec![named, implied],
            next_page_token: String::new(),
        };
        let shown = text(&found);
        for expected in [
            "Microsoft Excel: 2 postings name it, 1 more implies it\n",
            "7  CO  p  Panadero\n  https://p.example/1\n  description 10..15 `Excel`: Manejo de Excel.\n",
            "  implied: React implies it\n",
            "showing 2 of 3; use --limit N to show more\n",
        ] {
            assert!(shown.contains(expected), "{expected}: {shown}");
        }
        let json = as_json(&found);
        assert_eq!((&json["ads"][0]["span_end"], &json["ads"][1]["span_end"]), (&15.into(), &Value::Null));
    }
}
