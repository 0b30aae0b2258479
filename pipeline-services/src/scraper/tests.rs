//! Tests of the scraper as a whole: saved pages, fixtures, and a server that misbehaves.

mod crawling;
mod damaged;
mod fetching;
mod files;
mod fixtures;
mod growth;
mod inner;
mod saved;
mod server;

use super::{
    Base, CrawlOptions, FetchOptions, Fetcher, Portal,
    document::Fields,
    fetch::Page,
    page::{ListingPage, PageError, Place},
};
use crate::domain::posting::NewPosting;

/// A portal that comes with the program.
fn portal(name: &str) -> Portal {
    super::load(None).expect("the portal files are valid").remove(name).expect("a known name")
}

/// A page as if it had just been fetched, on a fixed day.
fn page(url: &str, text: &str) -> Page {
    let answered = "2026-11-20T20:00:00Z".parse().expect("a moment");
    Page { url: url.parse().expect("an address"), text: text.to_owned(), answered }
}

/// Pages of a portal, read without a network.
struct Reading {
    portal: Portal,
    country: &'static str,
    base: Base,
}

impl Reading {
    fn new(name: &str, country: &'static str) -> Self {
        let portal = portal(name);
        let base = Base::new(name, country, &portal.countries[country].base, None).expect("a base");
        Self { portal, country, base }
    }

    fn place(&self) -> Place<'_> {
        let country = &self.portal.countries[self.country];
        Place { portal: &self.portal, code: self.country, segment: "co", country, base: &self.base }
    }

    fn listing(&self, text: &str) -> Result<ListingPage, PageError> {
        self.place().read_listing(&page(&format!("{}/trabajo-de-x", self.base.text()), text))
    }

    fn detail(&self, card: &Fields, text: &str) -> Result<Option<Fields>, PageError> {
        let page = page(card.get("url").expect("a card with an address"), text);
        self.place().read_detail(self.portal.detail.as_ref().expect("details"), &page, card)
    }

    fn posting(&self, card: Fields, detail: Fields) -> NewPosting {
        self.place().posting(card, detail, None).expect("a whole posting")
    }
}

fn fetcher(change: impl FnOnce(&mut FetchOptions)) -> Fetcher {
    let mut options = FetchOptions::unhurried();
    change(&mut options);
    Fetcher::new(options).expect("a fetcher")
}

fn crawl_options(country: &str, base_url: String) -> CrawlOptions {
    CrawlOptions { country: country.to_owned(), base_url: Some(base_url), ..CrawlOptions::default() }
}
