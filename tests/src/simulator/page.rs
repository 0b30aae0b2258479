//! Requests and answers, the same for all portals.
//!
//! Also what portals share: words of a search, pages of a listing, a missing page, a bot guard's
//! wall.

use chrono::{DateTime, Utc};

use super::{
    advertisement::{Ad, Layout, LineKind},
    catalog::Catalog,
    site::Site,
    text::{Entities, escape, fold},
};

/// Advertisements on a page of a listing, as many as `pipeline-services/portals` asks Bumeran for.
pub(crate) const PAGE_SIZE: usize = 20;

/// A request to a site.
pub(crate) struct Request<'a> {
    pub(crate) site: Site,
    pub(crate) catalog: &'a Catalog,
    pub(crate) wave: u32,
    pub(crate) clock: DateTime<Utc>,
    /// `http://host:port`, no slash at the end.
    pub(crate) origin: &'a str,
    pub(crate) method: &'a str,
    /// Path inside the site, without the query.
    pub(crate) path: &'a str,
    pub(crate) query: &'a [(String, String)],
    /// Value of the header `x-site-id`.
    pub(crate) site_id: Option<&'a str>,
    pub(crate) body: &'a [u8],
    /// Every page is to be the first.
    pub(crate) loops: bool,
}

impl Request<'_> {
    /// A value of the query.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Number of the listing's page from the query, from 1; any other text counts as 1, as on the
    /// real sites.
    pub(crate) fn page_number(&self, name: &str) -> usize {
        let number = self.value(name).and_then(|value| value.parse().ok()).unwrap_or(1);
        if self.loops { 1 } else { std::cmp::max(number, 1) }
    }

    /// Advertisements of the site that match every word, in the order of the listing.
    pub(crate) fn search(&self, words: &[&str]) -> Vec<&Ad> {
        let listing = self.catalog.listing(self.site, self.wave);
        listing.into_iter().filter(|ad| matches(ad, words)).collect()
    }
}

/// Words of a search that every advertisement matches: a search for nothing else lists all of them.
const EMPTY_WORDS: [&str; 12] =
    ["de", "en", "la", "el", "y", "empleo", "empleos", "trabajo", "trabajos", "oferta", "ofertas", "todos"];

fn matches(ad: &Ad, words: &[&str]) -> bool {
    let wanted: Vec<&&str> =
        words.iter().filter(|word| !word.is_empty() && !EMPTY_WORDS.contains(word)).collect();
    // A search for nothing but such words lists everything, as portals do.
    if wanted.is_empty() {
        return true;
    }
    let text = fold(&format!("{} {} {} {}", ad.title, ad.area, ad.location, ad.description()));
    wanted.into_iter().all(|word| text.contains(*word))
}

/// A page of a listing and whether another follows.
pub(crate) fn page_of<'a, 'b>(ads: &'b [&'a Ad], number: usize, size: usize) -> (&'b [&'a Ad], bool) {
    // Readers may ask for any page number.
    let start = (number - 1).saturating_mul(size).min(ads.len());
    let end = (start + size).min(ads.len());
    (&ads[start..end], end < ads.len())
}

/// A response of a site.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content_type: &'static str,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn html(status: u16, body: String) -> Self {
        Self { status, content_type: "text/html; charset=utf-8", headers: Vec::new(), body }
    }

    pub(crate) fn json(status: u16, body: &serde_json::Value) -> Self {
        let body = body.to_string();
        Self { status, content_type: "application/json;charset=UTF-8", headers: Vec::new(), body }
    }

    pub(crate) fn text(status: u16, body: String) -> Self {
        Self { status, content_type: "text/plain; charset=utf-8", headers: Vec::new(), body }
    }

    pub(crate) fn redirect(target: String) -> Self {
        let mut answer = Self::html(301, String::new());
        answer.headers.push(("location", target));
        answer
    }
}

/// A page that is not there.
pub(crate) fn not_found(site: Site) -> Answer {
    let name = site.portal.name();
    Answer::html(
        404,
        format!(
            "<!DOCTYPE html><html lang=\"es\"><head><title>{name}</title></head><body><h1>No encontramos la página \
             que buscas</h1><p><a href=\"{}/\">Volver al inicio</a></p></body></html>",
            site.root()
        ),
    )
}

/// The wall that a bot guard puts before a site.
pub(crate) fn challenge() -> Answer {
    let mut answer = Answer::html(
        403,
        "<!DOCTYPE html><html lang=\"en-US\"><head><title>Just a moment...</title>\
         <meta name=\"robots\" content=\"noindex,nofollow\"></head><body><div class=\"main-wrapper\" role=\"main\">\
         <h1 class=\"zone-name-title\">simulated portal</h1>\
         <p id=\"cf-error-details\">Enable JavaScript and cookies to continue</p></div>\
         <script src=\"/cdn-cgi/challenge-platform/h/b/orchestrate/chl_page/v1\"></script></body></html>"
            .to_owned(),
    );
    // By this header, as Cloudflare sends it, a reader can tell a challenge from any other 403.
    answer.headers.push(("cf-mitigated", "challenge".to_owned()));
    answer.headers.push(("server", "cloudflare".to_owned()));
    answer
}

/// The body of an advertisement as the inside of a page.
pub(crate) fn body_html(ad: &Ad, entities: Entities, line_break: &str) -> String {
    let lines: Vec<String> = ad.lines.iter().map(|line| escape(&line.text, entities)).collect();
    match ad.layout {
        Layout::Breaks => lines.join(line_break),
        Layout::RunTogether => lines.concat(),
        Layout::Paragraphs => paragraphs(ad, entities),
    }
}

fn paragraphs(ad: &Ad, entities: Entities) -> String {
    let mut page = String::new();
    let mut in_list = false;
    for line in &ad.lines {
        let is_item = line.kind == LineKind::Item;
        if is_item != in_list {
            page.push_str(if is_item { "<ul>" } else { "</ul>" });
            in_list = is_item;
        }
        let text = escape(&line.text, entities);
        page.push_str(&match line.kind {
            LineKind::Item => format!("<li>{text}</li>"),
            LineKind::Heading => format!("<p><strong>{text}</strong></p>"),
            LineKind::Plain | LineKind::Blank => format!("<p>{text}</p>"),
        });
    }
    if in_list { page + "</ul>" } else { page }
}
