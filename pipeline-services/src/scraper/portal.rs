//! A portal is a file: where its listings are, how its pages are read, when it says no.
//!
//! A new portal is a file and no line of Rust. What is wrong with a file is reported all at once,
//! each with its place.

mod built_in;
mod parse;
pub(super) mod read;
pub(super) mod rules;

use std::collections::{BTreeMap, BTreeSet};

use chrono::FixedOffset;
use regex::Regex;
use scraper::Selector;

use super::template::Template;

#[cfg(test)]
pub(crate) use built_in::built_in;
pub(crate) use built_in::load;
pub(crate) use read::Problem;

/// Placeholders that every template may use, besides the values of the country and the fields of a
/// card.
pub(super) const PLACEHOLDERS: [&str; 6] = ["base", "country", "page", "portal", "query", "url"];

/// Notation of the answers of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// HTML pages.
    Html,
    /// JSON documents.
    Json,
}

/// On what ground a portal may be visited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// A documented public interface.
    PublicApi,
    /// Its robots.txt leaves the pages open to every agent.
    Robots,
    /// Its operator agreed in writing.
    Written,
    /// Nothing yet: the real host is only visited when an operator takes the responsibility.
    Ask,
}

/// A country of a portal.
#[derive(Debug, Clone)]
pub struct Country {
    /// Scheme, host and perhaps a path that every address of the portal begins with; no slash at
    /// the end.
    pub base: String,
    /// Further hosts that redirects may lead to.
    pub hosts: Vec<String>,
    /// Zone in which "hace 3 horas" and bare days are meant.
    pub zone: FixedOffset,
    /// Further placeholders, e.g. `site_id`.
    pub values: BTreeMap<String, String>,
}

/// Method of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    /// GET.
    Get,
    /// POST, for searches only: it may be sent again after a failure.
    Post,
}

/// Form of the requests to an address.
#[derive(Debug, Clone)]
pub(super) struct RequestForm {
    pub(super) method: Method,
    pub(super) url: Template,
    pub(super) headers: BTreeMap<String, Template>,
    pub(super) body: Option<Template>,
}

/// Form of the ads of a listing.
#[derive(Debug, Clone)]
pub(super) enum Cards {
    Elements(Selector),
    /// The first of these places that is a list.
    Pointers(Vec<String>),
}

/// Way to the next page of a listing.
#[derive(Debug, Clone)]
pub(super) enum Pagination {
    None,
    /// A link on the page.
    Next {
        selector: Selector,
        attribute: String,
    },
    /// A page number, until a page holds nothing new.
    Page {
        first: u32,
        url: Option<Template>,
    },
}

/// Listings of a portal.
#[derive(Debug, Clone)]
pub(super) struct Listing {
    pub(super) kind: Kind,
    pub(super) request: RequestForm,
    /// The address when nothing is searched for, where it is another one.
    pub(super) all_url: Option<Template>,
    pub(super) cards: Cards,
    /// The selector or the pointers as written, for messages.
    pub(super) cards_text: String,
    pub(super) fields: rules::Rules,
    pub(super) pagination: Pagination,
    /// The number of ads that the portal says it has.
    pub(super) total: Option<rules::Rule>,
    /// Yields a value on a page that rightly holds no ad.
    pub(super) empty: Option<rules::Rule>,
}

/// Detail pages of a portal.
#[derive(Debug, Clone)]
pub(super) struct Detail {
    pub(super) kind: Kind,
    pub(super) request: RequestForm,
    /// Place of the ad in a JSON answer.
    pub(super) root: String,
    pub(super) fields: rules::Rules,
    /// Yields a value when the ad is closed.
    pub(super) closed: Option<rules::Rule>,
}

/// Marks of pages of refusal, login or error, beyond those that every portal shares.
#[derive(Debug, Clone, Default)]
pub(super) struct Marks {
    /// Texts of a page that refuses.
    pub(super) blocked: Vec<String>,
    /// Elements of a page that refuses.
    pub(super) blocked_elements: Vec<Selector>,
    /// Addresses of a login page.
    pub(super) login: Option<Regex>,
    /// Texts of an error page sent with status 200.
    pub(super) error: Vec<String>,
}

/// Limits that a portal file asks for; they only make a crawl gentler.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Limits {
    /// Least seconds between the starts of two requests.
    pub min_delay: Option<f64>,
    /// Listing pages of a crawl at most.
    pub max_pages: Option<u32>,
    /// Ads of a crawl at most.
    pub max_ads: Option<u32>,
}

/// A checked portal file.
#[derive(Debug, Clone)]
pub struct Portal {
    /// Name in the database and on the command line.
    pub name: String,
    /// On what ground it may be visited.
    pub permission: Permission,
    /// Its countries, by ISO 3166-1 alpha-2 code.
    pub countries: BTreeMap<String, Country>,
    /// Queries where the settings have none; empty where the portal lists everything.
    pub queries: Vec<String>,
    /// Its own limits.
    pub limits: Limits,
    /// Share of the ads that should have a field.
    pub expected: BTreeMap<String, f64>,
    pub(super) marks: Marks,
    pub(super) listing: Listing,
    pub(super) detail: Option<Detail>,
}

impl Portal {
    /// Reads and checks a whole portal file.
    ///
    /// # Errors
    /// Everything that is wrong with it, in the order of the file's sections: the key, the value
    /// and what is allowed, with the nearest known name for a misspelt one.
    pub fn parse(text: &str) -> Result<Self, Vec<Problem>> {
        parse::portal(text)
    }

    /// Fields that some rule of the file can fill.
    pub fn fields(&self) -> BTreeSet<&'static str> {
        let detail = self.detail.iter().flat_map(|detail| detail.fields.keys());
        self.listing.fields.keys().chain(detail).copied().collect()
    }
}
