//! The item pipeline: validate, clean, remove personal data, hash, store once.
//!
//! Every posting comes in through here, whether it was scraped or imported: one row for one
//! distinct text, with personal data removed before anything is hashed or stored.

mod address;
pub(crate) mod again;
pub(crate) mod apart;
#[cfg(test)]
mod damaged;
mod names;

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::AssertUnwindSafe,
};

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    cleaning::{self, Cleaned},
    domain::posting::{NewPosting, TEXT_LIMIT, TITLE_LIMIT},
    privacy,
    store::{
        Connection, PgConnection, SqlResult,
        postings::{self, Storable, Stored},
    },
};

/// Longest id kept, characters: an entry of a B-tree of PostgreSQL takes 2,704 bytes at most, and a
/// character up to four.
const ID_LIMIT: usize = 500;
/// Longest address kept, characters. Not tuned: about what browsers and servers take.
const URL_LIMIT: usize = 2_000;
/// Characters of a value that a refusal quotes. Not tuned: two lines of a terminal.
const QUOTED: usize = 200;
/// First day on which an advertisement can have been published or collected: portals are younger.
const FIRST_DAY: NaiveDate = NaiveDate::from_ymd_opt(1990, 1, 1).expect("a day");
/// Days that a day of publication may lie ahead, since some portals print the day of a campaign.
/// Not tuned: a year.
const DAYS_AHEAD: i64 = 366;
/// Longest short field kept, characters; `contract_type` and `remote_type` hold no more.
const SHORT_LIMIT: usize = 50;

pub(crate) use address::external_id_of;
pub(crate) use names::{country as country_code, portal as portal_name};

/// Fields of text.
const TEXTS: [&str; 12] = [
    "portal",
    "external_id",
    "country",
    "url",
    "title",
    "company",
    "location",
    "description",
    "requirements",
    "salary_raw",
    "contract_type",
    "remote_type",
];

/// Reason for which an advertisement was not stored; the text names the field, its value and what
/// is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {}", problem.replace("{}", value))]
pub struct Refusal {
    /// Field of `raw_jobs`.
    pub field: &'static str,
    /// The fault, with `{}` where the value stands: equal for equal faults.
    pub problem: String,
    /// The value.
    pub value: String,
}

fn refuse<T>(field: &'static str, problem: impl Into<String>) -> Result<T, Refusal> {
    Err(refusal(field, problem))
}

fn refuse_value<T>(field: &'static str, value: &str, problem: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { value: quoted(value), ..refusal(field, problem) })
}

fn refusal(field: &'static str, problem: impl Into<String>) -> Refusal {
    Refusal { field, problem: problem.into(), value: String::new() }
}

/// The beginning of a value at fault. Summaries keep it: so it holds no personal data either.
fn quoted(value: &str) -> String {
    let mut short: String = value.chars().take(QUOTED).collect();
    if short.len() < value.len() {
        short.push('…');
    }
    privacy::scrub(&short).text
}

/// An advertisement that is ready to be stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Prepared {
    posting: NewPosting,
    external_id: String,
    content_hash: String,
    seen_at: DateTime<Utc>,
    /// Pieces of personal data removed, by kind.
    pub removed: BTreeMap<String, u64>,
    /// Changes to what was written; equal texts for equal changes.
    pub changed: Vec<String>,
}

impl Prepared {
    /// The portal's id of it, or what stands for one.
    pub fn external_id(&self) -> &str {
        &self.external_id
    }

    /// SHA-256 of the folded text, hexadecimal.
    pub fn content_hash(&self) -> &str {
        &self.content_hash
    }

    /// The advertisement as it would be stored, under the field names of `raw_jobs`.
    pub fn preview(&self) -> Value {
        let mut preview = serde_json::to_value(&self.posting).unwrap_or_default();
        if let Some(object) = preview.as_object_mut() {
            object.insert("content_hash".to_owned(), self.content_hash.clone().into());
        }
        preview
    }
}

/// Reads one advertisement from a JSON object with the field names of `raw_jobs`.
///
/// `id` is the portal's own id; unknown fields are ignored, an empty string counts as absent.
///
/// # Errors
/// If the text is not a JSON object or a field has the wrong type.
pub fn parse(json: &str) -> Result<NewPosting, Refusal> {
    let mut object = match serde_json::from_str::<Value>(json) {
        Ok(Value::Object(object)) => object,
        Ok(_) => return refuse("line", "not a JSON object"),
        Err(error) => return refuse("line", format!("not valid JSON: {}", quoted(&error.to_string()))),
    };
    if let Some(id) = object.remove("id")
        && !object.contains_key("external_id")
    {
        // Files made from tables hold ids as numbers.
        let id = id.as_i64().map_or(id, |number| Value::String(number.to_string()));
        object.insert("external_id".to_owned(), id);
    }
    // Before the fields are read: an empty cell of a table is an absent value.
    object.retain(|_, value| value.as_str().is_none_or(|text| !text.trim().is_empty()) && !value.is_null());
    check_texts(&object)?;
    check_times(&object)?;
    NewPosting::deserialize(Value::Object(object))
        .map_err(|error| refusal("line", quoted(&error.to_string())))
}

fn check_texts(object: &serde_json::Map<String, Value>) -> Result<(), Refusal> {
    for field in TEXTS {
        let found = match object.get(field) {
            None | Some(Value::String(_)) => continue,
            Some(Value::Bool(_)) => "true or false",
            Some(Value::Number(_)) => "a number",
            Some(Value::Array(_)) => "a list",
            _ => "an object",
        };
        return refuse(field, format!("{found}; expected a text"));
    }
    Ok(())
}

fn check_times(object: &serde_json::Map<String, Value>) -> Result<(), Refusal> {
    if let Some(Value::String(text)) = object.get("posted_date")
        && text.parse::<chrono::NaiveDate>().is_err()
    {
        return refuse_value("posted_date", text, "`{}` is not a date such as 2026-11-23");
    }
    if let Some(Value::String(text)) = object.get("scraped_at")
        && text.parse::<DateTime<Utc>>().is_err()
    {
        return refuse_value("scraped_at", text, "`{}` is not a time such as 2026-11-23T10:30:00Z");
    }
    Ok(())
}

/// Validates and cleans an advertisement: entities and HTML to text, odd characters out, personal
/// data removed, then the hash of what is left. A panic on the way refuses this advertisement and
/// no other.
///
/// # Errors
/// If a field is missing, too long or no date, or the country is not among `countries`.
pub fn prepare(raw: NewPosting, countries: &[String], now: DateTime<Utc>) -> Result<Prepared, Refusal> {
    std::panic::catch_unwind(AssertUnwindSafe(|| cleaned(raw, countries, now)))
        .unwrap_or_else(|_| refuse("line", "cannot be cleaned: the cleaning panicked"))
}

fn cleaned(raw: NewPosting, countries: &[String], now: DateTime<Utc>) -> Result<Prepared, Refusal> {
    let mut changed = Vec::new();
    let portal = portal_of(&raw.portal, &mut changed)?;
    let country = country_of(&raw.country, countries, &mut changed)?;
    let url = url_of(&raw.url, &mut changed)?;
    let mut cleaner = Cleaner::default();
    let mut posting = NewPosting {
        url: cleaner.address(&url),
        title: cleaner.required("title", &raw.title, TITLE_LIMIT)?,
        description: cleaner.required("description", &raw.description, TEXT_LIMIT)?,
        requirements: cleaner.optional("requirements", raw.requirements, TEXT_LIMIT)?,
        company: cleaner.optional("company", raw.company, TITLE_LIMIT)?,
        location: cleaner.place(raw.location)?,
        salary_raw: cleaner.optional("salary_raw", raw.salary_raw, TITLE_LIMIT)?,
        contract_type: cleaner.optional("contract_type", raw.contract_type, SHORT_LIMIT)?,
        remote_type: cleaner.optional("remote_type", raw.remote_type, SHORT_LIMIT)?,
        external_id: own_id(raw.external_id)?,
        portal,
        country,
        posted_date: raw.posted_date,
        scraped_at: raw.scraped_at,
    };
    check_published(posting.posted_date, now)?;
    check_collected(posting.scraped_at, now)?;
    let content_hash = content_hash(&posting);
    // Last: it depends on what the address lost, and the hash may have to stand for an id.
    let at = (posting.portal.as_str(), posting.url.as_str());
    let external_id = cleaner.identity(posting.external_id.as_deref(), at, &content_hash);
    posting.external_id = Some(external_id.clone());
    Ok(Prepared {
        seen_at: posting.scraped_at.unwrap_or(now),
        posting,
        external_id,
        content_hash,
        removed: cleaner.removed,
        changed,
    })
}

fn content_hash(posting: &NewPosting) -> String {
    cleaning::content_hash(&cleaning::Content {
        title: &posting.title,
        company: posting.company.as_deref().unwrap_or_default(),
        location: posting.location.as_deref().unwrap_or_default(),
        description: &posting.description,
        requirements: posting.requirements.as_deref().unwrap_or_default(),
    })
}

/// Clocks differ by hours, not by days.
fn check_collected(collected: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Result<(), Refusal> {
    match collected {
        Some(time) if time > now + TimeDelta::days(1) => {
            refuse_value("scraped_at", &time.to_rfc3339(), "`{}` is still to come")
        }
        Some(time) if time.date_naive() < FIRST_DAY => {
            let problem = format!("`{{}}` is too long ago; expected {FIRST_DAY} or later");
            refuse_value("scraped_at", &time.to_rfc3339(), problem)
        }
        _ => Ok(()),
    }
}

fn check_published(day: Option<NaiveDate>, now: DateTime<Utc>) -> Result<(), Refusal> {
    let last = now.date_naive() + TimeDelta::days(DAYS_AHEAD);
    match day {
        Some(day) if !(FIRST_DAY..=last).contains(&day) => {
            let problem = format!("`{{}}` is not a day of publication; expected {FIRST_DAY} to {last}");
            refuse_value("posted_date", &day.to_string(), problem)
        }
        _ => Ok(()),
    }
}

/// The id that the file or page gives, without characters that nobody sees.
fn own_id(id: Option<String>) -> Result<Option<String>, Refusal> {
    let id = id.unwrap_or_default().replace(char::is_control, "").trim().to_owned();
    let length = id.chars().count();
    if length > ID_LIMIT {
        return refuse("id", format!("has {length} characters, at most {ID_LIMIT} are kept"));
    }
    Ok((!id.is_empty()).then_some(id))
}

fn portal_of(text: &str, changed: &mut Vec<String>) -> Result<String, Refusal> {
    check_short("portal", text)?;
    let portal = names::portal(text);
    if !is_portal_name(&portal) {
        let rule = "expected 1 to 50 of a-z, 0-9, `-`, `_`, beginning with a letter or digit";
        return refuse_value("portal", text.trim(), format!("`{{}}` is not a portal name: {rule}"));
    }
    if portal != text.trim().to_lowercase() {
        changed.push(format!("portal: `{}` became `{portal}`", text.trim()));
    }
    Ok(portal)
}

/// Countries and portals are looked up by name, for which nothing long is read.
fn check_short(field: &'static str, text: &str) -> Result<(), Refusal> {
    match text.len() {
        0..=ID_LIMIT => Ok(()),
        length => refuse(field, format!("has {length} bytes, at most {ID_LIMIT} are read")),
    }
}

fn country_of(text: &str, countries: &[String], changed: &mut Vec<String>) -> Result<String, Refusal> {
    check_short("country", text)?;
    let text = text.trim();
    if text.is_empty() {
        return refuse("country", "is empty; expected a code such as CO or a name");
    }
    let code = names::country(text).map_or_else(|| text.to_uppercase(), str::to_owned);
    if !countries.contains(&code) {
        let allowed = countries.join(", ");
        let shown =
            if code == text.to_uppercase() { format!("`{code}`") } else { format!("`{text}` ({code})") };
        return refuse("country", format!("{} is not enabled; enabled are {allowed}", quoted(&shown)));
    }
    if code != text.to_uppercase() {
        changed.push(format!("country: `{text}` became `{code}`"));
    }
    Ok(code)
}

fn url_of(text: &str, changed: &mut Vec<String>) -> Result<String, Refusal> {
    let text = text.trim();
    if text.is_empty() {
        return refuse("url", "is empty; a posting needs it");
    }
    let length = text.chars().count();
    if length > URL_LIMIT {
        return refuse("url", format!("has {length} characters, at most {URL_LIMIT} are kept"));
    }
    let url = address::normalise(text).or_else(|problem| refuse_value("url", text, problem))?;
    if url.len() > text.len() {
        changed.push("url: https:// was put before addresses without a scheme".to_owned());
    }
    Ok(url)
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

    /// The portal's id. One that was a person's address or number is none any more: then a number
    /// in it or in the URL is the id, or else the text itself, since different advertisements must
    /// not share one.
    fn identity(&mut self, given: Option<&str>, (portal, url): (&str, &str), content_hash: &str) -> String {
        match given {
            None if !self.removed.contains_key("url") => return external_id_of(portal, url),
            None => {}
            Some(id) => {
                let scrubbed = self.address(id);
                if scrubbed == id {
                    return scrubbed;
                }
                if let Some(number) = address::number_in(&scrubbed) {
                    return number.to_owned();
                }
            }
        }
        address::numbered_id(portal, url).unwrap_or_else(|| content_hash[..32].to_owned())
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
        let cleaned = readable(field, text, limit)?.map(|text| self.text(&text));
        kept(field, cleaned, limit)
    }

    fn place(&mut self, text: Option<String>) -> Result<Option<String>, Refusal> {
        let cleaned = readable("location", text, TITLE_LIMIT)?.map(|text| self.place_text(&text));
        kept("location", cleaned, TITLE_LIMIT)
    }
}

/// Characters of a text as published, markup and all, for each one that is kept. Not tuned: room
/// for heavy markup.
const MARKUP: usize = 8;
/// Characters of a short field that are read in any case. Not tuned.
const READ: usize = 8_000;

/// A text that is not too long to be cleaned.
fn readable(field: &'static str, text: Option<String>, limit: usize) -> Result<Option<String>, Refusal> {
    let most = READ.max(MARKUP * limit);
    let length = text.as_ref().filter(|text| text.len() > most).map_or(0, |text| text.chars().count());
    if length > most {
        return refuse(
            field,
            format!("has {length} characters before it is cleaned, at most {most} are read"),
        );
    }
    Ok(text)
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

/// Stores advertisements in one transaction; the outcomes stand in the order of the items. One that
/// the database does not take is refused by itself.
///
/// Batches with texts in common wait for each other, and never in a circle.
///
/// # Errors
/// If the database is away or others are at work on the same rows; then nothing of the batch is
/// stored.
pub async fn store_batch(
    connection: &mut PgConnection,
    items: &[Prepared],
) -> SqlResult<Vec<Result<Stored, Refusal>>> {
    let mut transaction = connection.begin().await?;
    let portals: BTreeSet<String> = items.iter().map(|item| item.posting.portal.clone()).collect();
    let hashes: Vec<&str> = items.iter().map(|item| item.content_hash.as_str()).collect();
    postings::reserve(&mut transaction, &portals.into_iter().collect::<Vec<_>>(), &hashes).await?;
    let mut outcomes = Vec::with_capacity(items.len());
    let mut removed: BTreeMap<String, u64> = BTreeMap::new();
    for item in items {
        let storable = Storable {
            posting: &item.posting,
            external_id: &item.external_id,
            content_hash: &item.content_hash,
            seen_at: item.seen_at,
            collected_at: item.posting.scraped_at,
        };
        let stored = match postings::store(&mut transaction, &storable).await {
            Err(error) if !crate::store::is_transient(&error) => {
                tracing::warn!(
                    error.message = crate::telemetry::chain(&error),
                    "an advertisement was not stored"
                );
                outcomes.push(refuse("line", "the database does not take it; see the server's log"));
                continue;
            }
            stored => stored?,
        };
        outcomes.push(Ok(stored));
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
mod tests;
