//! Listing and detail pages of a portal: the requests for them and what stands on them. No I/O.
//!
//! Hides whether a portal answers in HTML or JSON. A page is either read, or it is an error that
//! says whether the portal refuses us, failed, or changed its pages.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use chrono::NaiveDate;
use scraper::{ElementRef, Html};
use serde_json::Value;
use url::Url;

use super::{
    address::Base,
    blocked::Barren,
    document::{Fields, Root, Scope},
    fetch::{Page, Request},
    json_ld::JsonLd,
    portal::{Cards, Country, Detail, Kind, Pagination, Portal, RequestForm},
    template::Template,
    tree::{self, Tangled},
};
use crate::domain::posting::NewPosting;

/// A portal in a country, at its base.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) portal: &'a Portal,
    /// ISO 3166-1 alpha-2.
    pub(super) code: &'a str,
    /// The same in lower case, as addresses have it.
    pub(super) segment: &'a str,
    pub(super) country: &'a Country,
    pub(super) base: &'a Base,
}

/// Content of a listing page.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct ListingPage {
    /// Fields of each ad; `url` is an address of the portal.
    pub(super) cards: Vec<Fields>,
    /// Cards without an address on the portal.
    pub(super) homeless: u64,
    /// Address of the next page, where the page links to it.
    pub(super) next: Option<Url>,
    /// The number of ads that the portal says it has.
    pub(super) total: Option<u64>,
}

/// Reason for a page that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum PageError {
    /// The portal refuses us.
    #[error("the page refuses us: {0}")]
    Refused(&'static str),
    /// An error page sent as success.
    #[error("the page is an error page")]
    ErrorPage,
    /// Not the JSON it should be.
    #[error("the answer is not JSON: {0}")]
    NotJson(String),
    /// Nothing where something always was: the portal changed its pages.
    #[error("layout change: {0}")]
    Layout(String),
    /// Made to be slow to read.
    #[error("the page cannot be read: {0}")]
    Tangled(#[from] Tangled),
}

impl<'a> Place<'a> {
    /// The request for a listing page; `number` counts as the portal does.
    ///
    /// The error names a placeholder without a value.
    pub(super) fn listing_request(&self, query: &str, number: u32, turned: bool) -> Result<Request, String> {
        let form = &self.portal.listing.request;
        let other = match &self.portal.listing.pagination {
            // The first page often has another form of address than those behind it.
            Pagination::Page { url: Some(url), .. } if turned => Some(url),
            _ if query.is_empty() => self.portal.listing.all_url.as_ref(),
            _ => None,
        };
        let number = number.to_string();
        self.request(form, other.unwrap_or(&form.url), |name| match name {
            "query" => Some(query),
            "page" => Some(number.as_str()),
            name => self.known(name),
        })
    }

    /// The same request at another address: a link to the next page.
    pub(super) fn linked_request(&self, query: &str, url: Url) -> Result<Request, String> {
        Ok(Request { url, ..self.listing_request(query, 1, false)? })
    }

    /// The request for the detail of a card.
    pub(super) fn detail_request(&self, detail: &Detail, card: &Fields) -> Result<Request, String> {
        self.request(&detail.request, &detail.request.url, |name| {
            card.get(name).map(String::as_str).or_else(|| self.known(name))
        })
    }

    /// The least delay: it protects the real host, not one that stands for it.
    fn min_delay(&self) -> Duration {
        let seconds = if self.base.is_replaced() { None } else { self.portal.limits.min_delay };
        // Within range since the file was read, or this would panic.
        Duration::from_secs_f64(seconds.unwrap_or_default())
    }

    fn known(&self, name: &str) -> Option<&'a str> {
        match name {
            "base" => Some(self.base.text()),
            "portal" => Some(&self.portal.name),
            "country" => Some(self.segment),
            name => self.country.values.get(name).map(String::as_str),
        }
    }

    fn request<'v>(
        &self,
        form: &RequestForm,
        url: &Template,
        known: impl Fn(&str) -> Option<&'v str>,
    ) -> Result<Request, String> {
        let render =
            |template: &Template| template.render(&known).map_err(|name| format!("no value for {{{name}}}"));
        let url = render(url)?;
        let url = Url::parse(&url).map_err(|error| format!("`{url}` is not an address: {error}"))?;
        let headers = form.headers.iter().map(|(name, value)| Ok((name.clone(), render(value)?)));
        Ok(Request {
            method: form.method,
            url,
            headers: headers.collect::<Result<BTreeMap<_, _>, String>>()?,
            body: form.body.as_ref().map(render).transpose()?,
            hosts: self.base.hosts().to_vec(),
            min_delay: self.min_delay(),
        })
    }
}

impl Place<'_> {
    /// Reads a listing page.
    pub(super) fn read_listing(&self, page: &Page) -> Result<ListingPage, PageError> {
        // Before it is parsed, since a refusal has the form of neither a listing nor a detail.
        self.refusal(page)?;
        match self.portal.listing.kind {
            Kind::Html => self.html_listing(page),
            Kind::Json => self.json_listing(page),
        }
    }

    fn refusal(&self, page: &Page) -> Result<(), PageError> {
        let refusal = self.portal.marks.refusal(page.url.as_str(), &page.text);
        refusal.map_or(Ok(()), |reason| Err(PageError::Refused(reason)))
    }

    fn barren(&self, page: &Page, html: Option<&Html>) -> Result<(), PageError> {
        match self.portal.marks.barren(&page.text, html) {
            Barren::Refusal(reason) => Err(PageError::Refused(reason)),
            Barren::Error => Err(PageError::ErrorPage),
            Barren::Other => Ok(()),
        }
    }

    fn html_listing(&self, page: &Page) -> Result<ListingPage, PageError> {
        let listing = &self.portal.listing;
        let html = tree::document(&page.text)?;
        let json_ld = JsonLd::of(&html);
        let scope = self.scope(page, Root::Element(html.root_element()), &json_ld);
        let Cards::Elements(selector) = &listing.cards else {
            return Err(PageError::Layout("the portal file expects JSON".to_owned()));
        };
        let roots = apart(html.select(selector));
        if roots.is_empty() && listing.empty.as_ref().is_none_or(|rule| scope.value(rule).is_none()) {
            // A refusal and an error page have no ads either, and say more than a changed layout.
            self.barren(page, Some(&html))?;
            let cards = &listing.cards_text;
            return Err(PageError::Layout(format!(
                "`{cards}` finds no ad, and the page does not say there is none"
            )));
        }
        let mut read = self.cards(page, scope, roots);
        if let Pagination::Next { selector, attribute } = &listing.pagination {
            let mut links = html.select(selector).filter_map(|link| link.attr(attribute));
            read.next = links.find_map(|href| self.base.link(&page.url, href));
        }
        Ok(read)
    }

    fn json_listing(&self, page: &Page) -> Result<ListingPage, PageError> {
        let listing = &self.portal.listing;
        let value = self.json(page)?;
        let Cards::Pointers(pointers) = &listing.cards else {
            return Err(PageError::Layout("the portal file expects HTML".to_owned()));
        };
        let lists = pointers.iter().filter_map(|pointer| value.pointer(pointer));
        let Some(list) = lists.filter_map(Value::as_array).next() else {
            return Err(PageError::Layout(format!("there is no list at {}", listing.cards_text)));
        };
        let json_ld = JsonLd::default();
        let scope = self.scope(page, Root::Json(&value), &json_ld);
        Ok(self.cards(page, scope, list.iter().map(Root::Json).collect()))
    }

    fn json(&self, page: &Page) -> Result<Value, PageError> {
        let parsed = serde_json::from_str(page.text.trim_start_matches('\u{feff}'));
        parsed.or_else(|error| {
            // Refusals come as HTML even where JSON was asked for.
            self.barren(page, tree::document(&page.text).ok().as_ref())?;
            Err(PageError::NotJson(error.to_string()))
        })
    }

    fn scope<'s>(&self, page: &'s Page, root: Root<'s>, json_ld: &'s JsonLd) -> Scope<'s> {
        let answered = page.answered.with_timezone(&self.country.zone);
        Scope { root, json_ld, page_url: page.url.as_str(), answered }
    }

    fn cards(&self, page: &Page, scope: Scope<'_>, roots: Vec<Root<'_>>) -> ListingPage {
        let total = self.portal.listing.total.as_ref().and_then(|rule| scope.value(rule));
        let mut read = ListingPage { total: total.as_deref().and_then(count), ..ListingPage::default() };
        let nothing = Fields::new();
        for root in roots {
            let mut card =
                scope.at(root).fields(&self.portal.listing.fields, &nothing, &|name| self.known(name));
            match card.get("url").and_then(|href| self.base.link(&page.url, href)) {
                Some(url) => {
                    card.insert("url", url.into());
                    read.cards.push(card);
                }
                None => read.homeless += 1,
            }
        }
        read
    }

    /// Reads a detail page; none when it says that the ad is closed.
    pub(super) fn read_detail(
        &self,
        detail: &Detail,
        page: &Page,
        card: &Fields,
    ) -> Result<Option<Fields>, PageError> {
        self.refusal(page)?;
        match detail.kind {
            Kind::Html => {
                let html = tree::document(&page.text)?;
                let json_ld = JsonLd::of(&html);
                let scope = self.scope(page, Root::Element(html.root_element()), &json_ld);
                self.detail_fields(detail, page, scope, card).or_else(|error| {
                    self.barren(page, Some(&html))?;
                    Err(error)
                })
            }
            Kind::Json => {
                let value = self.json(page)?;
                let Some(root) = value.pointer(&detail.root) else {
                    return Err(PageError::Layout(format!("there is nothing at {}", detail.root)));
                };
                let json_ld = JsonLd::default();
                self.detail_fields(detail, page, self.scope(page, Root::Json(root), &json_ld), card)
            }
        }
    }

    fn detail_fields(
        &self,
        detail: &Detail,
        page: &Page,
        scope: Scope<'_>,
        card: &Fields,
    ) -> Result<Option<Fields>, PageError> {
        // First, since a closed ad often has no description left and would look like a changed
        // layout.
        if detail.closed.as_ref().is_some_and(|rule| scope.value(rule).is_some()) {
            return Ok(None);
        }
        let mut fields = scope.fields(&detail.fields, card, &|name| self.known(name));
        if detail.fields.contains_key("description") && !fields.contains_key("description") {
            return Err(PageError::Layout("no rule finds the description".to_owned()));
        }
        // An address off the portal is dropped, and the card's own holds.
        if let Some(url) = fields.remove("url").and_then(|href| self.base.link(&page.url, &href)) {
            fields.insert("url", url.into());
        }
        Ok(Some(fields))
    }

    /// An advertisement of the fields of its card and its detail, which takes precedence.
    ///
    /// The error names the field that is missing.
    pub(super) fn posting(
        &self,
        card: Fields,
        detail: Fields,
        page: Option<&Page>,
    ) -> Result<NewPosting, &'static str> {
        let mut fields = card;
        fields.extend(detail);
        let title = fields.remove("title").ok_or("title")?;
        let description = fields.remove("description").ok_or("description")?;
        let url = fields.remove("url").ok_or("url")?;
        let posted_date = fields.remove("posted_date").and_then(|day| day.parse::<NaiveDate>().ok());
        Ok(NewPosting {
            portal: self.portal.name.clone(),
            external_id: fields.remove("external_id"),
            country: self.code.to_owned(),
            url,
            title,
            company: fields.remove("company"),
            location: fields.remove("location"),
            description,
            requirements: fields.remove("requirements"),
            salary_raw: fields.remove("salary_raw"),
            contract_type: fields.remove("contract_type"),
            remote_type: fields.remove("remote_type"),
            posted_date,
            scraped_at: page.map(|page| page.answered),
        })
    }
}

/// Cards inside of cards are read to this depth: each reads all that is inside of it. Not tuned.
const NESTED: usize = 2;

fn apart<'a>(cards: impl Iterator<Item = ElementRef<'a>>) -> Vec<Root<'a>> {
    let cards: Vec<ElementRef<'a>> = cards.collect();
    let ids: HashSet<_> = cards.iter().map(|card| card.id()).collect();
    cards
        .into_iter()
        .filter(|card| card.ancestors().filter(|above| ids.contains(&above.id())).count() < NESTED)
        .map(Root::Element)
        .collect()
}

/// A count as people write it, with any mark between the thousands.
fn count(text: &str) -> Option<u64> {
    text.chars().filter(char::is_ascii_digit).collect::<String>().parse().ok()
}
