//! The item pipeline: validate, clean, remove personal data, hash, store once.

pub mod again;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use regex::Regex;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    cleaning::{self, Cleaned},
    domain::posting::NewPosting,
    privacy,
    store::{
        Connection, PgConnection, SqlResult,
        postings::{self, Storable, Stored},
    },
};

/// Longest title kept, characters.
const TITLE_LIMIT: usize = 1_000;
/// Longest text kept, characters.
const TEXT_LIMIT: usize = 200_000;
/// Longest short field kept, characters; `contract_type` and `remote_type` hold no more.
const SHORT_LIMIT: usize = 50;

/// Why an advertisement was not stored; the text names the field, its value and what is allowed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct Refusal {
    /// Field of `raw_jobs`.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

fn refuse<T>(field: &'static str, problem: impl Into<String>) -> Result<T, Refusal> {
    Err(refusal(field, problem))
}

/// The text quotes the value at fault, and summaries keep it: so it holds no personal data either.
fn refusal(field: &'static str, problem: impl Into<String>) -> Refusal {
    Refusal { field, problem: privacy::scrub(&problem.into()).text }
}

/// An advertisement that is ready to be stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Prepared {
    posting: NewPosting,
    external_id: String,
    content_hash: String,
    seen_at: DateTime<Utc>,
    /// Pieces of personal data removed, by kind.
    pub removed: BTreeMap<String, u64>,
}

/// Reads one advertisement from a JSON object with the field names of `raw_jobs`.
///
/// `id` is the portal's own id; unknown fields are ignored, an empty string counts as absent.
///
/// # Errors
/// When the text is not a JSON object or a field has the wrong type.
pub fn parse(json: &str) -> Result<NewPosting, Refusal> {
    let mut object = match serde_json::from_str::<Value>(json) {
        Ok(Value::Object(object)) => object,
        Ok(_) => return refuse("line", "not a JSON object"),
        Err(error) => return refuse("line", format!("not valid JSON: {error}")),
    };
    if let Some(id) = object.remove("id")
        && !object.contains_key("external_id")
    {
        let id = id.as_i64().map_or(id, |number| Value::String(number.to_string()));
        object.insert("external_id".to_owned(), id);
    }
    object.retain(|_, value| value.as_str().is_none_or(|text| !text.trim().is_empty()) && !value.is_null());
    check_times(&object)?;
    NewPosting::deserialize(Value::Object(object)).map_err(|error| refusal("line", error.to_string()))
}

fn check_times(object: &serde_json::Map<String, Value>) -> Result<(), Refusal> {
    if let Some(Value::String(text)) = object.get("posted_date")
        && text.parse::<chrono::NaiveDate>().is_err()
    {
        return refuse("posted_date", format!("`{text}` is not a date such as 2026-11-23"));
    }
    if let Some(Value::String(text)) = object.get("scraped_at")
        && text.parse::<DateTime<Utc>>().is_err()
    {
        return refuse("scraped_at", format!("`{text}` is not a time such as 2026-11-23T10:30:00Z"));
    }
    Ok(())
}

/// Validates and cleans an advertisement: entities and HTML to text, odd characters out, personal data
/// removed, then the hash of what is left.
///
/// # Errors
/// When a field is missing, too long, or the country is not among `countries`.
pub fn prepare(raw: NewPosting, countries: &[String], now: DateTime<Utc>) -> Result<Prepared, Refusal> {
    let portal = raw.portal.trim().to_lowercase();
    if !is_portal_name(&portal) {
        let rule = "expected 1 to 50 of a-z, 0-9, `-`, `_`, beginning with a letter or digit";
        return refuse("portal", format!("`{portal}` is not a portal name: {rule}"));
    }
    let country = raw.country.trim().to_uppercase();
    if !countries.contains(&country) {
        let allowed = countries.join(", ");
        return refuse("country", format!("`{country}` is not enabled; enabled are {allowed}"));
    }
    let url = raw.url.trim().to_owned();
    if !url.starts_with("https://") && !url.starts_with("http://") {
        return refuse("url", format!("`{url}` is not a web address: expected https://…"));
    }
    let mut cleaner = Cleaner::default();
    let url = cleaner.address(&url);
    let title = cleaner.required("title", &raw.title, TITLE_LIMIT)?;
    let description = cleaner.required("description", &raw.description, TEXT_LIMIT)?;
    let requirements = cleaner.optional("requirements", raw.requirements, TEXT_LIMIT)?;
    let company = cleaner.optional("company", raw.company, TITLE_LIMIT)?;
    let location = cleaner.place(raw.location)?;
    let salary_raw = cleaner.optional("salary_raw", raw.salary_raw, TITLE_LIMIT)?;
    let contract_type = cleaner.optional("contract_type", raw.contract_type, SHORT_LIMIT)?;
    let remote_type = cleaner.optional("remote_type", raw.remote_type, SHORT_LIMIT)?;
    let content_hash = cleaning::content_hash(&cleaning::Content {
        title: &title,
        company: company.as_deref().unwrap_or_default(),
        location: location.as_deref().unwrap_or_default(),
        description: &description,
        requirements: requirements.as_deref().unwrap_or_default(),
    });
    let external_id = cleaner.identity(raw.external_id.as_deref(), &url, &content_hash);
    Ok(Prepared {
        posting: NewPosting {
            portal,
            external_id: Some(external_id.clone()),
            country,
            url,
            title,
            company,
            location,
            description,
            requirements,
            salary_raw,
            contract_type,
            remote_type,
            posted_date: raw.posted_date,
            scraped_at: raw.scraped_at,
        },
        external_id,
        content_hash,
        seen_at: raw.scraped_at.unwrap_or(now),
        removed: cleaner.removed,
    })
}

#[derive(Default)]
struct Cleaner {
    removed: BTreeMap<String, u64>,
}

impl Cleaner {
    /// A text cleaned, and what was removed counted.
    fn text(&mut self, text: &str) -> String {
        self.counted(cleaning::clean(text))
    }

    /// The same for the name of a place.
    fn place_text(&mut self, text: &str) -> String {
        self.counted(cleaning::clean_place(text))
    }

    fn counted(&mut self, cleaned: Cleaned) -> String {
        for (kind, count) in &cleaned.entities_removed {
            *self.removed.entry(kind.name().to_owned()).or_default() += u64::from(*count);
        }
        cleaned.text
    }

    /// An address or identifier without personal data; one that held some counts once.
    fn address(&mut self, text: &str) -> String {
        let scrubbed = privacy::scrub_url(text);
        if scrubbed != text {
            *self.removed.entry("url".to_owned()).or_default() += 1;
        }
        scrubbed
    }

    /// The portal's id. One that was a person's address or number is none any more: then a number in the URL is the
    /// id, or else the text itself, since different advertisements must not share one.
    fn identity(&mut self, given: Option<&str>, url: &str, content_hash: &str) -> String {
        let given = given.map(str::trim).filter(|id| !id.is_empty());
        let id = given.map_or_else(|| external_id_of(url), str::to_owned);
        let scrubbed = self.address(&id);
        let own = scrubbed == id && (given.is_some() || !self.removed.contains_key("url"));
        if own || number_in(&scrubbed).is_some() {
            return scrubbed;
        }
        number_in(path_of(url)).unwrap_or(&content_hash[..32]).to_owned()
    }

    fn required(&mut self, field: &'static str, text: &str, limit: usize) -> Result<String, Refusal> {
        match self.optional(field, Some(text.to_owned()), limit)? {
            Some(cleaned) => Ok(cleaned),
            None => refuse(field, "is empty; a posting needs it"),
        }
    }

    fn optional(
        &mut self,
        field: &'static str,
        text: Option<String>,
        limit: usize,
    ) -> Result<Option<String>, Refusal> {
        let cleaned = text.map(|text| self.text(&text));
        kept(field, cleaned, limit)
    }

    fn place(&mut self, text: Option<String>) -> Result<Option<String>, Refusal> {
        let cleaned = text.map(|text| self.place_text(&text));
        kept("location", cleaned, TITLE_LIMIT)
    }
}

/// A cleaned text, if anything is left of it.
fn kept(field: &'static str, text: Option<String>, limit: usize) -> Result<Option<String>, Refusal> {
    let Some(text) = text else { return Ok(None) };
    let length = text.chars().count();
    if length > limit {
        return refuse(field, format!("has {length} characters, at most {limit} are kept"));
    }
    Ok((!text.is_empty()).then_some(text))
}

fn is_portal_name(name: &str) -> bool {
    let first_is_plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    let rest_is_plain = name.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '-' | '_'));
    first_is_plain && rest_is_plain && name.len() <= 50
}

/// The portal's id of an advertisement from its address: the last long hexadecimal or decimal number of
/// the path, else the path itself.
pub fn external_id_of(url: &str) -> String {
    let path = path_of(url);
    match number_in(path) {
        Some(number) => number.to_owned(),
        None if path.trim_matches('/').is_empty() => url.to_owned(),
        None => path.trim_matches('/').to_owned(),
    }
}

fn path_of(url: &str) -> &str {
    let without_fragment = url.split(['?', '#']).next().unwrap_or(url);
    let path = without_fragment.split_once("://").map_or(without_fragment, |(_, rest)| rest);
    path.split_once('/').map_or("", |(_, path)| path)
}

fn number_in(text: &str) -> Option<&str> {
    static NUMBER: std::sync::LazyLock<Regex> =
        std::sync::LazyLock::new(|| Regex::new(r"[0-9A-Fa-f]{32}|[0-9]{5,}").expect("a valid pattern"));
    NUMBER.find_iter(text).last().map(|number| number.as_str())
}

/// Stores advertisements in one transaction; the outcomes stand in the order of the items.
///
/// # Errors
/// When a statement fails; then nothing of the batch is stored.
pub async fn store_batch(connection: &mut PgConnection, items: &[Prepared]) -> SqlResult<Vec<Stored>> {
    let mut transaction = connection.begin().await?;
    let mut outcomes = Vec::with_capacity(items.len());
    let mut removed: BTreeMap<String, u64> = BTreeMap::new();
    for item in items {
        let storable = Storable {
            posting: &item.posting,
            external_id: &item.external_id,
            content_hash: &item.content_hash,
            seen_at: item.seen_at,
        };
        outcomes.push(postings::store(&mut transaction, &storable).await?);
        for (kind, count) in &item.removed {
            *removed.entry(kind.clone()).or_default() += count;
        }
    }
    if !removed.is_empty() {
        postings::count_removed(&mut transaction, Utc::now().date_naive(), &removed).await?;
    }
    transaction.commit().await?;
    Ok(outcomes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw() -> NewPosting {
        NewPosting {
            portal: "bumeran".to_owned(),
            country: "AR".to_owned(),
            url: "https://www.bumeran.com.ar/empleos/analista-1116979466.html".to_owned(),
            title: "Analista contable".to_owned(),
            description: "<p>Excel avanzado.</p><p>Enviar CV a rrhh@empresa.example</p>".to_owned(),
            ..NewPosting::default()
        }
    }

    fn prepared(raw: NewPosting) -> Result<Prepared, Refusal> {
        prepare(raw, &["AR".to_owned(), "CO".to_owned()], DateTime::UNIX_EPOCH)
    }

    #[test]
    fn external_ids() {
        let check = |url, expected: &str| assert_eq!(external_id_of(url), expected);
        check("https://www.bumeran.com.ar/empleos/x-y-1116979466.html", "1116979466");
        check("https://www.elempleo.com/co/ofertas-trabajo/jefe-de-area-1886557309?trk=2", "1886557309");
        check(
            "https://co.computrabajo.com/ofertas-de-trabajo/oferta-de-trabajo-de-x-0A1B2C3D4E5F60718293A4B5C6D7E8F9#lc=1",
            "0A1B2C3D4E5F60718293A4B5C6D7E8F9",
        );
        check("https://jobs.example/vacante/panadero/", "vacante/panadero");
        check("https://jobs.example", "https://jobs.example");
    }

    #[test]
    fn text_is_cleaned_and_personal_data_counted() {
        let item = prepared(raw()).expect("accepted");
        assert_eq!(item.external_id, "1116979466");
        assert!(!item.posting.description.contains('<') && !item.posting.description.contains('@'));
        assert_eq!(item.removed.values().sum::<u64>(), 1);
    }

    #[test]
    fn addresses_and_ids_hold_no_personal_data() {
        let check = |url: &str, id: Option<&str>, expected: (&str, &str)| {
            let item =
                prepared(NewPosting { url: url.to_owned(), external_id: id.map(str::to_owned), ..raw() });
            let item = item.expect("accepted");
            assert_eq!((item.posting.url.as_str(), item.external_id.as_str()), expected);
            assert!(item.removed["url"] >= 1);
        };
        let hash = &prepared(raw()).expect("accepted").content_hash[..32];
        let offer = "https://jobs.example/oferta/48213";
        check(
            "https://jobs.example/oferta/48213?tel=3155550142&page=2",
            None,
            ("https://jobs.example/oferta/48213?tel=&page=2", "48213"),
        );
        check("https://jobs.example/p/ana%40x.example", None, ("https://jobs.example/p/-", hash));
        check(offer, Some("juan.perez@correo.example"), (offer, "48213"));
        check(
            "https://jobs.example/oferta",
            Some("juan@correo.example"),
            ("https://jobs.example/oferta", hash),
        );
        check(offer, Some("77310:juan@correo.example"), (offer, "77310"));
    }

    #[test]
    fn refusals_quote_no_personal_data() {
        let message = prepared(NewPosting { url: "mailto:ana.ruiz@x.example".to_owned(), ..raw() })
            .expect_err("refused")
            .to_string();
        assert!(message.contains("[email]") && !message.contains("ana.ruiz"), "{message}");
    }

    #[test]
    fn refusals_name_the_field() {
        let check = |change: fn(&mut NewPosting), field| {
            let mut item = raw();
            change(&mut item);
            assert_eq!(prepared(item).expect_err("refused").field, field);
        };
        check(|item| item.portal = "Bad Portal!".to_owned(), "portal");
        check(|item| item.country = "XX".to_owned(), "country");
        check(|item| item.url = "ftp://x".to_owned(), "url");
        check(|item| item.title = "  ".to_owned(), "title");
        check(|item| item.description = "<br/>".to_owned(), "description");
        check(|item| item.contract_type = Some("x".repeat(51)), "contract_type");
    }

    #[test]
    fn json_is_read_with_precise_errors() {
        let check = |json, expected: &str| {
            let message = parse(json).expect_err("refused").to_string();
            assert!(message.contains(expected), "{message}");
        };
        check("[]", "not a JSON object");
        check("{", "not valid JSON");
        check(r#"{"posted_date": "ayer"}"#, "posted_date: `ayer` is not a date");
        check(r#"{"title": 3}"#, "invalid type");
        let item = parse(r#"{"id": 77, "title": "x", "requirements": "", "n": 1}"#).expect("read");
        assert_eq!((item.external_id.as_deref(), item.requirements), (Some("77"), None));
    }
}
