//! Rules that say where a value stands on a page and how to read it.
//!
//! Only their form: selectors, patterns and templates are compiled here once, when the file is
//! read, and `document` applies them to pages.

use std::collections::BTreeMap;

use regex::Regex;
use scraper::Selector;

use super::{
    Kind, PLACEHOLDERS,
    read::{Reader, unknown},
};
use crate::scraper::{date::DateForm, template::Template};

/// Fields that a portal file may define: those of `raw_jobs` that a page can hold.
pub(crate) const FIELDS: [&str; 11] = [
    "company",
    "contract_type",
    "description",
    "external_id",
    "location",
    "posted_date",
    "remote_type",
    "requirements",
    "salary_raw",
    "title",
    "url",
];

/// The part of an element that is read.
#[derive(Debug, Clone)]
pub(in crate::scraper) enum Reading {
    /// Its text, blanks collapsed.
    Text,
    /// Its own text without that of the elements inside.
    OwnText,
    /// The HTML inside.
    Html,
    /// An attribute.
    Attribute(String),
}

/// Source of a value.
#[derive(Debug, Clone)]
pub(in crate::scraper) enum Source {
    /// Elements below the card or the detail; the card itself without a selector.
    Element { selector: Option<Selector>, reading: Reading, pointer: Option<String> },
    /// A place in the JSON item.
    Json(String),
    /// A place in a JSON-LD object of a type, e.g.
    /// `JobPosting/jobLocation/address/addressLocality`.
    JsonLd { kind: String, path: Vec<String> },
    /// A text of the portal file.
    Constant(String),
    /// The address of the page.
    PageUrl,
    /// A text made of other fields.
    Template(Template),
}

/// One way to find the value of a field.
#[derive(Debug, Clone)]
pub(in crate::scraper) struct Rule {
    pub(in crate::scraper) source: Source,
    /// The element must hold an element of this selector.
    pub(in crate::scraper) has: Option<Selector>,
    /// Elements below are left out of the value.
    pub(in crate::scraper) without: Vec<Selector>,
    /// The text must match.
    pub(in crate::scraper) matching: Option<Regex>,
    /// Take every match, joined by this, instead of the first.
    pub(in crate::scraper) join: Option<String>,
    /// Keep the first group, or the whole match.
    pub(in crate::scraper) regex: Option<Regex>,
    /// Decode character references: JSON inside HTML often has them.
    pub(in crate::scraper) entities: bool,
    pub(in crate::scraper) lower: bool,
    /// Values that mean something else.
    pub(in crate::scraper) map: BTreeMap<String, String>,
    /// Values that mean nothing, whatever their case.
    pub(in crate::scraper) null_if: Vec<String>,
    pub(in crate::scraper) dates: Vec<DateForm>,
}

/// The rules of a field in the order in which they are tried.
pub(in crate::scraper) type Rules = BTreeMap<&'static str, Vec<Rule>>;

/// Reads the table `fields`: a rule or a list of rules for each field.
pub(super) fn fields(reader: &mut Reader<'_>, kind: Kind) -> Rules {
    let mut rules = Rules::new();
    for (name, value) in reader.entries("fields") {
        let place = format!("fields.{name}");
        let Some(field) = FIELDS.into_iter().find(|field| *field == name) else {
            reader.complain(&place, unknown("field", name, &FIELDS));
            continue;
        };
        let list: Vec<_> = match value.as_array() {
            Some(list) => {
                list.iter().enumerate().map(|(i, value)| (format!("{place}[{i}]"), value)).collect()
            }
            None => vec![(place.clone(), value)],
        };
        if list.is_empty() {
            reader.complain(&place, "is an empty list, expected a rule");
        }
        let list = list.into_iter().filter_map(|(place, value)| reader.enter(&place, value));
        let found: Vec<Rule> = list.filter_map(|table| rule(table, kind, field)).collect();
        rules.insert(field, found);
    }
    rules
}

/// Reads one rule that belongs to no field.
pub(super) fn condition(reader: &mut Reader<'_>, key: &'static str, kind: Kind) -> Option<Rule> {
    let table = reader.table(key)?;
    // The name of no field, so that a `date` in it is complained about.
    rule(table, kind, "condition")
}

fn rule(mut reader: Reader<'_>, kind: Kind, field: &'static str) -> Option<Rule> {
    let source = source(&mut reader, kind);
    let dates = dates(&mut reader, field);
    let rule = Rule {
        has: reader.selector("has"),
        without: reader.selectors("without"),
        matching: reader.regex("matching"),
        join: reader.text("join"),
        regex: reader.regex("regex"),
        entities: reader.flag("entities"),
        lower: reader.flag("lower"),
        map: reader.map("map"),
        null_if: reader.texts("null_if").iter().map(|text| text.to_lowercase()).collect(),
        dates,
        // A rule without a source is read to its end, for its other mistakes, and dropped below.
        source: source.clone().unwrap_or(Source::PageUrl),
    };
    if kind == Kind::Json && (rule.has.is_some() || !rule.without.is_empty()) {
        reader.complain("", "`has` and `without` need elements; this page is JSON");
    }
    reader.finish();
    source.map(|_| rule)
}

fn dates(reader: &mut Reader<'_>, field: &str) -> Vec<DateForm> {
    let mut forms = Vec::new();
    for name in reader.texts("date") {
        match DateForm::parse(&name) {
            Ok(form) => forms.push(form),
            Err(message) => reader.complain("date", message),
        }
    }
    if field == "posted_date" && !reader.has("date") {
        reader.complain("date", "is missing; a day needs one, e.g. [\"relative\", \"%d-%m-%Y\"]");
    }
    if field != "posted_date" && reader.has("date") {
        reader.complain("date", "is for posted_date only");
    }
    forms
}

fn source(reader: &mut Reader<'_>, kind: Kind) -> Option<Source> {
    const SOURCES: [&str; 6] = ["css", "attr", "json", "json_ld", "value", "template"];
    // Each of them is a source by itself: without `css` the card is read.
    let element = reader.has("css") || reader.has("attr") || reader.has("own_text") || reader.has("html");
    let others = ["json_ld", "value", "template", "page_url"].iter().filter(|key| reader.has(key)).count();
    let plain_json = usize::from(!element && reader.has("json"));
    if usize::from(element) + others + plain_json != 1 {
        reader.complain("", format!("needs exactly one source: {}, page_url", SOURCES.join(", ")));
        return None;
    }
    if element {
        return element_source(reader, kind);
    }
    if plain_json == 1 {
        if kind == Kind::Html {
            reader.complain("json", "needs `css` or `attr` next to it on an HTML page");
        }
        return reader.pointer("json").map(Source::Json);
    }
    if reader.has("json_ld") {
        return json_ld(reader);
    }
    if reader.has("value") {
        return reader.text("value").map(Source::Constant);
    }
    if reader.has("page_url") {
        reader.flag("page_url");
        return Some(Source::PageUrl);
    }
    let text = reader.text("template")?;
    let template = template(reader, "template", &text)?;
    for name in template.names().filter(|name| !FIELDS.contains(name) && !PLACEHOLDERS.contains(name)) {
        let known = [FIELDS.as_slice(), &PLACEHOLDERS].concat();
        reader.complain("template", format!("`{{{name}}}`: {}", unknown("placeholder", name, &known)));
    }
    Some(Source::Template(template))
}

fn element_source(reader: &mut Reader<'_>, kind: Kind) -> Option<Source> {
    if kind == Kind::Json {
        reader.complain(
            "",
            "`css`, `attr`, `html` and `own_text` need elements; this page is JSON, use `json`",
        );
    }
    let attribute = reader.text("attr");
    let (html, own_text) = (reader.flag("html"), reader.flag("own_text"));
    let reading = match (attribute, html, own_text) {
        (Some(name), false, false) => Reading::Attribute(name),
        (None, true, false) => Reading::Html,
        (None, false, true) => Reading::OwnText,
        (None, false, false) => Reading::Text,
        _ => {
            reader.complain("", "only one of `attr`, `html` and `own_text` can be read");
            return None;
        }
    };
    let pointer = reader.pointer("json");
    let given = reader.has("css");
    let selector = reader.selector("css");
    // A bad selector must not pass for none, which would read the whole card.
    if given && selector.is_none() {
        return None;
    }
    Some(Source::Element { selector, reading, pointer })
}

fn json_ld(reader: &mut Reader<'_>) -> Option<Source> {
    let text = reader.text("json_ld")?;
    let mut parts = text.split('/').map(str::to_owned);
    let kind = parts.next().unwrap_or_default();
    let path: Vec<String> = parts.collect();
    if path.is_empty() || kind.is_empty() || path.iter().any(String::is_empty) {
        reader.complain("json_ld", format!("is `{text}`, expected TYPE/NAME such as `JobPosting/title`"));
        return None;
    }
    Some(Source::JsonLd { kind, path })
}

/// Reads a template and complains about bad filters.
pub(super) fn template(reader: &Reader<'_>, key: &str, text: &str) -> Option<Template> {
    Template::parse(text).map_err(|message| reader.complain(key, message)).ok()
}
