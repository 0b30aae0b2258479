//! From a skill to the postings that name it, and the sentences in which they do.
//!
//! A skill is found whatever its capitals and accents; one that is unknown is answered with the
//! labels most like it. Page tokens are opaque to callers.

use observatory_proto::pipeline::v1::{ListSkillAdsRequest, ListSkillAdsResponse, SkillAd};
use tonic::Status;
use uuid::Uuid;

use super::{Services, error, non_empty, page_size};
use crate::{
    store::{
        PgConnection,
        evidence::{self, Ad, Filter},
    },
    text::{fold::fold, sentences::Sentences},
};

/// Likeness (Jaro-Winkler, 0 to 1) from which on a label is proposed for one that is not there. Not
/// tuned: it admits a letter too many or two swapped.
const LIKE: f64 = 0.8;
/// Bytes of the longest text that is compared with labels. Not tuned; no label is nearly as long.
const LONGEST: usize = 1_000;

impl Services {
    pub(super) async fn skill_ads(&self, asked: ListSkillAdsRequest) -> Result<ListSkillAdsResponse, Status> {
        let size = page_size(asked.page_size)?;
        let after = place(&asked.page_token)?;
        let mut connection = self.pool.acquire().await.map_err(error::sql)?;
        let filter = Filter {
            portal: self.portal(&mut connection, &asked.portal).await?,
            country: self.country(&mut connection, &asked.country).await?,
        };
        let skill = label(&mut connection, asked.skill.trim()).await?;
        let after = (after.0.as_str(), after.1);
        let found = evidence::ads(&mut connection, &skill, &filter, after, size).await.map_err(error::sql)?;
        let (explicit, implicit) =
            evidence::count(&mut connection, &skill, &filter).await.map_err(error::sql)?;
        // A full page may be the last one; the next is empty then.
        let next = found.last().filter(|_| found.len() as i64 == size);
        Ok(ListSkillAdsResponse {
            skill,
            job_count: explicit.unsigned_abs(),
            implicit_count: implicit.unsigned_abs(),
            next_page_token: next.map(|ad| format!("{}/{}", ad.skill_type, ad.job_id)).unwrap_or_default(),
            ads: found.into_iter().map(message).collect(),
        })
    }
}

/// The beginning of a page: the first ad, or the one after that of a token.
fn place(token: &str) -> Result<(String, Uuid), Status> {
    // The place before every row: each kind sorts behind the empty text.
    let Some(token) = non_empty(token) else { return Ok((String::new(), Uuid::nil())) };
    let (kind, id) =
        token.split_once('/').ok_or_else(|| error::invalid("page_token", format!("`{token}` is none")))?;
    Ok((kind.to_owned(), error::id("page_token", id)?))
}

/// The stored label that `text` names, whatever its capitals and accents.
async fn label(connection: &mut PgConnection, text: &str) -> Result<String, Status> {
    let Some(text) = non_empty(text) else { return Err(error::invalid("skill", "is empty")) };
    // All of them: the folding is ours and not the database's, and likeness needs every label
    // anyway.
    let labels = evidence::labels(connection).await.map_err(error::sql)?;
    choose(text, labels).map_err(|near| match near.as_slice() {
        [] => error::not_found("skill", text),
        near => error::invalid("skill", format!("no skill is called `{text}`; near are {}", near.join(", "))),
    })
}

/// The label itself, or those that look like the text.
fn choose(text: &str, labels: Vec<String>) -> Result<String, Vec<String>> {
    // Likeness takes time by the product of both lengths; no label is as long as that.
    if text.len() > LONGEST {
        return Err(Vec::new());
    }
    let wanted = fold(text);
    // Two labels may fold alike; the one that was typed exactly is meant.
    let same = labels.iter().find(|label| *label == text);
    if let Some(label) = same.or_else(|| labels.iter().find(|label| fold(label) == wanted)) {
        return Ok(label.clone());
    }
    let mut near: Vec<(f64, String)> = labels
        .into_iter()
        .map(|label| (strsim::jaro_winkler(&wanted, &fold(&label)), label))
        .filter(|(likeness, _)| *likeness >= LIKE)
        .collect();
    // Stable, and the labels come sorted: equally likely ones stay in alphabetical order.
    near.sort_by(|left, right| right.0.total_cmp(&left.0));
    Err(near.into_iter().take(3).map(|(_, label)| format!("`{label}`")).collect())
}

fn message(ad: Ad) -> SkillAd {
    let span = position(ad.start).zip(position(ad.end));
    let text = ad.text.as_deref().unwrap_or_default();
    let (sentence, surface) = span.map(|span| quote(text, span)).unwrap_or_default();
    SkillAd {
        job_id: ad.job_id.to_string(),
        title: ad.title,
        company: ad.company.unwrap_or_default(),
        portal: ad.portal,
        country: ad.country,
        url: ad.url,
        posted_date: ad.posted_date.map(|day| day.to_string()).unwrap_or_default(),
        explicit: ad.skill_type == "explicit",
        confidence: ad.confidence,
        reason: ad.reason.unwrap_or_default(),
        field: ad.field.unwrap_or_default(),
        section: ad.section.unwrap_or_default(),
        span_start: span.map(|span| span.0),
        span_end: span.map(|span| span.1),
        surface,
        sentence,
        method: ad.method.iter().flat_map(|names| names.split('+')).map(str::to_owned).collect(),
    }
}

fn position(stored: Option<i32>) -> Option<u32> {
    stored.and_then(|position| u32::try_from(position).ok())
}

/// The sentence around a span, and the span itself.
fn quote(text: &str, (start, end): (u32, u32)) -> (String, String) {
    // Spans count code points, which no byte index finds.
    let surface = text.chars().skip(start as usize).take(end.saturating_sub(start) as usize).collect();
    (Sentences::of(text).text_at(start, end).to_owned(), surface)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_found_whatever_their_capitals_and_accents() {
        let labels = || ["Gestión de calidad", "Microsoft Excel", "SQL"].map(str::to_owned).to_vec();
        let check = |text: &str, expected: Result<&str, &[&str]>| {
            let expected = expected
                .map(str::to_owned)
                .map_err(|near| near.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>());
            assert_eq!(choose(text, labels()), expected, "{text}");
        };
        check("SQL", Ok("SQL"));
        check("gestion de calidad", Ok("Gestión de calidad"));
        check("Microsoft Exel", Err(&["Microsoft Excel"]));
        check("qwertyuiop", Err(&[]));
    }

    #[test]
    fn a_page_begins_behind_an_ad() {
        assert_eq!(place("").expect("a place"), (String::new(), Uuid::nil()));
        let id = Uuid::from_u128(7);
        assert_eq!(place(&format!("implicit/{id}")).expect("a place"), ("implicit".to_owned(), id));
        assert!(place("x").is_err() && place("explicit/x").is_err());
    }
}
