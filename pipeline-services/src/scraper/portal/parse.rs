//! From the text of a portal file to a checked [`Portal`].
//!
//! Reads everything before it complains, so that one run names all mistakes with their places. What
//! comes out needs no further checks: templates know their placeholders, headers are ours to send.

use std::{cell::RefCell, collections::BTreeMap};

use chrono::FixedOffset;
use toml::Table;
use url::Url;

use super::{
    Cards, Country, Detail, Kind, Limits, Listing, Marks, Method, PLACEHOLDERS, Pagination, Permission,
    Portal, RequestForm,
    read::{Problem, Problems, Reader, decimal, unknown},
    rules::{self, FIELDS},
};
use crate::scraper::template::Template;

const KINDS: [(&str, Kind); 2] = [("html", Kind::Html), ("json", Kind::Json)];
const METHODS: [(&str, Method); 2] = [("GET", Method::Get), ("POST", Method::Post)];
const PERMISSIONS: [(&str, Permission); 4] = [
    ("ask", Permission::Ask),
    ("public-api", Permission::PublicApi),
    ("robots", Permission::Robots),
    ("written", Permission::Written),
];

/// Headers that the fetcher alone decides about: who we are, and what a connection needs.
const RESERVED_HEADERS: [&str; 9] = [
    "accept-encoding",
    "authorization",
    "connection",
    "content-length",
    "cookie",
    "host",
    "proxy-authorization",
    "transfer-encoding",
    "user-agent",
];

pub(super) fn portal(text: &str) -> Result<Portal, Vec<Problem>> {
    let table: Table = toml::from_str(text).map_err(|error| {
        let line =
            // A span may point beyond the end, where something is missing.
            error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        vec![Problem { key: format!("line {line}"), message: error.message().trim().to_owned() }]
    })?;
    let problems: Problems = RefCell::new(Vec::new());
    let portal = root(&table, &problems);
    let problems = problems.into_inner();
    match portal {
        Some(portal) if problems.is_empty() => Ok(portal),
        _ => Err(problems),
    }
}

fn root(table: &Table, problems: &Problems) -> Option<Portal> {
    let mut reader = Reader::new(table, "", problems);
    if !reader.has("schema") {
        reader.complain("schema", "is missing, expected 1");
    }
    reader.number("schema", 1..=1);
    let name = reader.required("name");
    if !name.is_empty() && !is_name(&name) {
        reader.complain("name", format!("is `{name}`, expected 1 to 50 of a-z, 0-9, `-`, `_`"));
    }
    // For readers of the file.
    reader.text("title");
    let permission = permission(&mut reader);
    let countries = countries(&mut reader);
    let queries = reader.texts("queries");
    let limits = limits(&mut reader);
    let marks = marks(&mut reader);
    let placeholders = placeholders(&countries);
    let listing = listing(&mut reader, &placeholders);
    let detail = detail(&mut reader, &placeholders);
    let expected = expected(&mut reader);
    reader.finish();
    // Given up only now, when every other section has been read for its mistakes.
    let listing = listing?;
    let portal = Portal { name, permission, countries, queries, limits, expected, marks, listing, detail };
    check_whole(&portal, problems);
    Some(portal)
}

fn is_name(name: &str) -> bool {
    let plain = name.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '-' | '_'));
    plain && name.len() <= 50 && name.starts_with(|c: char| c.is_ascii_alphanumeric())
}

fn permission(reader: &mut Reader<'_>) -> Permission {
    let Some(mut block) = reader.table("permission") else {
        reader.complain("permission", "is missing; say on what ground the portal may be visited");
        // The strictest one, though the file is refused anyway.
        return Permission::Ask;
    };
    let basis = block.choice("basis", &PERMISSIONS);
    // Not used here: it is required so that the ground is written down.
    block.required("note");
    block.finish();
    basis
}

fn countries(reader: &mut Reader<'_>) -> BTreeMap<String, Country> {
    let mut countries = BTreeMap::new();
    let entries = reader.entries("countries");
    if entries.is_empty() {
        reader.complain("countries", "needs at least one country, e.g. [countries.CO]");
    }
    for (code, value) in entries {
        let place = format!("countries.{code}");
        if code.len() != 2 || !code.chars().all(|c| c.is_ascii_uppercase()) {
            reader.complain(&place, "is not a country code of two capital letters such as CO");
        }
        let Some(mut block) = reader.enter(&place, value) else { continue };
        let base = block.required("base");
        check_base(&block, &base);
        let hosts = block.texts("hosts");
        let zone = zone(&mut block);
        let values = block.map("values");
        block.finish();
        let base = base.trim_end_matches('/').to_owned();
        countries.insert(code.to_owned(), Country { base, hosts, zone, values });
    }
    countries
}

fn check_base(block: &Reader<'_>, base: &str) {
    let good = Url::parse(base)
        .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host() && url.query().is_none());
    if !base.is_empty() && !good {
        block.complain("base", format!("is `{base}`, expected an address such as https://co.portal.example"));
    }
}

fn zone(block: &mut Reader<'_>) -> FixedOffset {
    let text = block.required("zone");
    let zone = text.parse::<FixedOffset>();
    if zone.is_err() && !text.is_empty() {
        block.complain("zone", format!("is `{text}`, expected an offset such as -05:00"));
    }
    // The file is refused anyway; with some zone its other mistakes are found too.
    zone.unwrap_or_else(|_| FixedOffset::east_opt(0).expect("zero is an offset"))
}

fn limits(reader: &mut Reader<'_>) -> Limits {
    let Some(mut block) = reader.table("limits") else { return Limits::default() };
    let limits = Limits {
        min_delay: block.decimal("min_delay", 0.0..=3_600.0),
        max_pages: block.number("max_pages", 1..=1_000_000),
        max_ads: block.number("max_ads", 1..=10_000_000),
    };
    block.finish();
    limits
}

fn marks(reader: &mut Reader<'_>) -> Marks {
    let Some(mut block) = reader.table("marks") else { return Marks::default() };
    let marks = Marks {
        blocked: block.texts("blocked"),
        blocked_elements: block.selectors("blocked_elements"),
        login: block.regex("login"),
        error: block.texts("error"),
    };
    block.finish();
    marks
}

/// Names that templates of requests may use.
fn placeholders(countries: &BTreeMap<String, Country>) -> Vec<String> {
    let values = countries.values().flat_map(|country| country.values.keys());
    PLACEHOLDERS.iter().map(|name| (*name).to_owned()).chain(values.cloned()).collect()
}

fn listing(reader: &mut Reader<'_>, placeholders: &[String]) -> Option<Listing> {
    let Some(mut block) = reader.table("listing") else {
        reader.complain("listing", "is missing");
        return None;
    };
    let kind = block.choice("kind", &KINDS);
    let request = request(&mut block, placeholders);
    let all_url =
        block.text("all_url").and_then(|text| known_template(&block, "all_url", &text, placeholders));
    let (cards, cards_text) = cards(&mut block, kind);
    let pagination = pagination(&mut block, kind, placeholders);
    let empty = rules::condition(&mut block, "empty", kind);
    let total = rules::condition(&mut block, "total", kind);
    let fields = rules::fields(&mut block, kind);
    block.finish();
    Some(Listing {
        kind,
        request: request?,
        all_url,
        cards: cards?,
        cards_text,
        fields,
        pagination: pagination?,
        total,
        empty,
    })
}

fn cards(block: &mut Reader<'_>, kind: Kind) -> (Option<Cards>, String) {
    let texts = block.texts("cards");
    if texts.is_empty() {
        let expected = if kind == Kind::Html { "a CSS selector" } else { "a JSON pointer or several" };
        if !block.has("cards") {
            block.complain("cards", format!("is missing, expected {expected}"));
        }
        return (None, String::new());
    }
    let cards = match kind {
        Kind::Html if texts.len() > 1 => {
            block.complain("cards", "is a list; write one CSS selector with commas");
            None
        }
        Kind::Html => block.selector("cards").map(Cards::Elements),
        Kind::Json => {
            if let Some(bad) = texts.iter().find(|text| !text.is_empty() && !text.starts_with('/')) {
                block.complain("cards", format!("`{bad}` is not a JSON pointer such as `/content`"));
            }
            Some(Cards::Pointers(texts.clone()))
        }
    };
    (cards, texts.join(", "))
}

#[derive(Clone, Copy)]
enum Turning {
    None,
    Next,
    Page,
}

fn pagination(block: &mut Reader<'_>, kind: Kind, placeholders: &[String]) -> Option<Pagination> {
    let Some(mut block) = block.table("pagination") else { return Some(Pagination::None) };
    let turning =
        block.choice("kind", &[("next", Turning::Next), ("page", Turning::Page), ("none", Turning::None)]);
    let pagination = match turning {
        Turning::None => Some(Pagination::None),
        Turning::Next => {
            if kind == Kind::Json {
                block.complain("kind", "`next` needs an HTML page; use `page`");
            }
            // For the complaint that it is missing, which `selector` does not make.
            block.required("css");
            let attribute = block.text("attr").unwrap_or_else(|| "href".to_owned());
            block.selector("css").map(|selector| Pagination::Next { selector, attribute })
        }
        Turning::Page => {
            // Portals count their pages from 0 or from 1.
            let first = block.number("first", 0..=1).unwrap_or(1);
            let url = block.text("url").and_then(|text| known_template(&block, "url", &text, placeholders));
            Some(Pagination::Page { first, url })
        }
    };
    block.finish();
    pagination
}

fn detail(reader: &mut Reader<'_>, placeholders: &[String]) -> Option<Detail> {
    let mut block = reader.table("detail")?;
    let kind = block.choice("kind", &KINDS);
    let mut names = placeholders.to_vec();
    // The request for a detail may use what the card gave.
    names.extend(FIELDS.iter().map(|field| (*field).to_owned()));
    let request = request(&mut block, &names);
    let root = block.pointer("root").unwrap_or_default();
    let closed = rules::condition(&mut block, "closed", kind);
    let fields = rules::fields(&mut block, kind);
    block.finish();
    Some(Detail { kind, request: request?, root, fields, closed })
}

fn request(block: &mut Reader<'_>, placeholders: &[String]) -> Option<RequestForm> {
    let method = block.choice("method", &METHODS);
    let url = block.required("url");
    if !url.is_empty() && !url.starts_with("{base}") && !url.starts_with("{url}") {
        block
            .complain("url", "must begin with {base} or {url}, so that the portal's address can be replaced");
    }
    let url = known_template(block, "url", &url, placeholders);
    let mut headers = BTreeMap::new();
    for (name, value) in block.map("headers") {
        let place = format!("headers.{name}");
        // Another name would make the client fail at every request.
        let token = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if !token || RESERVED_HEADERS.contains(&name.to_lowercase().as_str()) {
            block.complain(&place, "cannot be set by a portal file");
        }
        if let Some(template) = known_template(block, &place, &value, placeholders) {
            headers.insert(name, template);
        }
    }
    let body = block.text("body").and_then(|text| known_template(block, "body", &text, placeholders));
    if body.is_some() && method == Method::Get {
        block.complain("body", "needs method = \"POST\"");
    }
    Some(RequestForm { method, url: url?, headers, body })
}

fn known_template(block: &Reader<'_>, key: &str, text: &str, known: &[String]) -> Option<Template> {
    let template = rules::template(block, key, text)?;
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    for name in template.names().filter(|name| !known.contains(name)) {
        block.complain(key, format!("`{{{name}}}`: {}", unknown("placeholder", name, &known)));
    }
    Some(template)
}

fn expected(reader: &mut Reader<'_>) -> BTreeMap<String, f64> {
    let mut expected = BTreeMap::new();
    for (name, value) in reader.entries("expected") {
        let place = format!("expected.{name}");
        if !FIELDS.contains(&name) {
            reader.complain(&place, unknown("field", name, &FIELDS));
        }
        match decimal(value).filter(|share| (0.0..=1.0).contains(share)) {
            Some(share) => {
                expected.insert(name.to_owned(), share);
            }
            None => reader.complain(&place, "is not a share from 0 to 1"),
        }
    }
    expected
}

/// Checks what only the file as a whole can be wrong about.
fn check_whole(portal: &Portal, problems: &Problems) {
    let fields = portal.fields();
    for needed in ["description", "title"].into_iter().filter(|field| !fields.contains(field)) {
        complain(problems, "listing.fields", format!("no rule here or in detail.fields gives `{needed}`"));
    }
    if !portal.listing.fields.contains_key("url") {
        complain(problems, "listing.fields", "no rule gives `url`".to_owned());
    }
    for field in portal.expected.keys().filter(|field| !fields.contains(field.as_str())) {
        complain(problems, &format!("expected.{field}"), "no rule gives this field".to_owned());
    }
    let pages = portal.listing.request.url.names().chain(body_names(&portal.listing));
    let turns = matches!(&portal.listing.pagination, Pagination::Page { url: None, .. });
    if turns && !pages.into_iter().any(|name| name == "page") {
        complain(
            problems,
            "listing.pagination",
            "needs `url`, or {page} in the url or the body of the listing".to_owned(),
        );
    }
}

fn complain(problems: &Problems, key: &str, message: String) {
    problems.borrow_mut().push(Problem { key: key.to_owned(), message });
}

fn body_names(listing: &Listing) -> impl Iterator<Item = &str> {
    listing.request.body.iter().flat_map(Template::names)
}
