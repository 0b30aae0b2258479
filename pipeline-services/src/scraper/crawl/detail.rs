//! From a card of a listing to an advertisement.
//!
//! Fetches the detail page where the portal has one and joins both. An ad that is gone or cannot be
//! read is an outcome of that ad alone; a refusal is one of the whole crawl.

use chrono::Utc;
use url::Url;

use super::{
    super::{
        document::Fields,
        fetch::{FetchError, Page},
        page::PageError,
    },
    CrawlError, Outcome, StopReason, Visit, come_back, kind_of, stop_of,
};
use crate::reading;

impl Visit<'_> {
    /// Fetches and reads the detail of a card.
    pub(super) async fn card(self, card: Fields) -> Outcome {
        let Some(detail) = &self.place.portal.detail else { return self.finished(card, Fields::new(), None) };
        let request = match self.place.detail_request(detail, &card) {
            Ok(request) => request,
            Err(message) => return Outcome::Failed(failed(&card, "no_address", message)),
        };
        let page = match self.fetcher.fetch(&request, self.counters).await {
            Ok(page) => page,
            Err(FetchError::Gone { .. }) => return Outcome::Closed,
            Err(error) => {
                let crawl_error = failed(&card, error.kind(), error.to_string());
                return match stop_of(&error) {
                    Some(stop) => Outcome::Stop(stop, crawl_error, come_back(&error)),
                    None => Outcome::Failed(crawl_error),
                };
            }
        };
        if led_elsewhere(&card, &request.url, &page.url) {
            return Outcome::Closed;
        }
        match reading::in_place(|| self.place.read_detail(detail, &page, &card)) {
            Ok(Some(fields)) => self.finished(card, fields, Some(&page)),
            Ok(None) => Outcome::Closed,
            Err(PageError::Refused(reason)) => {
                // The page was sent as success, so only its content shows the refusal; the host is
                // blocked for all crawls.
                self.fetcher.block(&page.url, reason, self.counters);
                let message = PageError::Refused(reason).to_string();
                Outcome::Stop(StopReason::Blocked, failed(&card, "blocked", message), None)
            }
            Err(error) => Outcome::Failed(failed(&card, kind_of(&error), error.to_string())),
        }
    }

    fn finished(self, card: Fields, detail: Fields, page: Option<&Page>) -> Outcome {
        let url = card.get("url").cloned().unwrap_or_default();
        match self.place.posting(card, detail, page) {
            Ok(mut posting) => {
                // Read from its card alone, it has no answer of its own whose date would count.
                posting.scraped_at.get_or_insert_with(Utc::now);
                Outcome::Posting(Box::new(posting))
            }
            Err(field) => Outcome::Failed(CrawlError {
                url,
                kind: "missing_field",
                message: format!("no rule finds `{field}`"),
            }),
        }
    }
}

/// An ad that is gone often leads to a listing: the id is no longer part of the address.
fn led_elsewhere(card: &Fields, asked: &Url, got: &Url) -> bool {
    let Some(id) = card.get("external_id").map(|id| id.to_lowercase()) else { return false };
    asked != got && holds(asked, &id) && !holds(got, &id)
}

fn holds(url: &Url, id: &str) -> bool {
    url.path().to_lowercase().contains(id)
}

fn failed(card: &Fields, kind: &'static str, message: String) -> CrawlError {
    CrawlError { url: card.get("url").cloned().unwrap_or_default(), kind, message }
}
