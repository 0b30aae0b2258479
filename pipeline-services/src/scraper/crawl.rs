//! From the listings of a portal to a stream of postings.
//!
//! Walks searches and listing pages in order, fetches details a few at a time and decides when to
//! stop: at an end, a limit, a refusal, or too many failures. Nothing is stored here; a slow
//! receiver slows the crawl down, and a crawl goes on from any cursor it sent.

mod detail;
mod progress;
mod report;

use std::{collections::HashSet, time::Duration};

use chrono::NaiveDate;
use futures::{StreamExt, stream};
use tokio::sync::mpsc;
use url::Url;

use super::{
    address::Base,
    document::Fields,
    fetch::{Counters, FetchError, Fetcher, Request},
    page::{PageError, Place},
    portal::{Pagination, Permission, Portal},
};
use crate::{domain::posting::NewPosting, reading};

use progress::Walk;
pub(crate) use progress::{Cursor, Found, PageCursor, PageDone};
pub(crate) use report::{CrawlError, CrawlReport, Fate, StopReason};

/// Options of a crawl.
#[derive(Debug, Clone, Default)]
pub(crate) struct CrawlOptions {
    /// ISO 3166-1 alpha-2.
    pub country: String,
    /// Address that stands for the portal's own, e.g. `http://127.0.0.1:8080/{portal}/{country}`.
    pub base_url: Option<String>,
    /// Queries; the portal file's own when empty.
    pub queries: Vec<String>,
    /// Listing pages at most; the portal file's limit when absent, and never more than that.
    pub max_pages: Option<u32>,
    /// Ads at most, in the same way.
    pub max_ads: Option<u32>,
    /// Ids of ads that are stored already: their details are not fetched again.
    pub known: HashSet<String>,
    /// Stops a search after this number of listing pages in a row that hold only known or old ads.
    pub stale_pages: Option<u32>,
    /// Ads published before this day are left out.
    pub since: Option<NaiveDate>,
    /// Detail pages asked for at once; the fetcher's limits hold besides.
    pub details_at_once: Option<usize>,
    /// An operator answers for visiting a portal whose file says `ask`; stands in the report.
    pub without_permission: bool,
    /// Place at which an earlier crawl was interrupted; the beginning when absent.
    pub from: Option<Cursor>,
}

/// Detail pages asked for at once when nobody says so. Not tuned: the pace of the host decides.
const DETAILS_AT_ONCE: usize = 8;
/// Failed ads in a row after which a crawl ends. A choice: a page or two of listings, after which
/// it is the portal that has changed and not its ads.
const FAILURES_IN_A_ROW: u32 = 20;

/// Crawls the listings of a portal in one country and sends every ad to `sink`; a slow receiver
/// slows the crawl down, a closed one ends it.
///
/// Never fails: what went wrong stands in the report, each error with its address.
pub(crate) async fn crawl(
    portal: &Portal,
    options: &CrawlOptions,
    fetcher: &Fetcher,
    sink: mpsc::Sender<Found>,
) -> CrawlReport {
    let mut report = CrawlReport::new(portal, options, fetcher.options());
    let counters = Counters::default();
    report.stop = match prepare(portal, options) {
        Err((stop, problem)) => {
            report.problems.push(problem);
            stop
        }
        Ok(base) => {
            report.base_url = base.text().to_owned();
            let segment = options.country.to_lowercase();
            let place = Place {
                portal,
                code: &options.country,
                segment: &segment,
                country: &portal.countries[&options.country],
                base: &base,
            };
            let visit = Visit { place, options, fetcher, counters: &counters, sink: &sink };
            let mut crawl = Crawl {
                visit,
                report: &mut report,
                seen: HashSet::new(),
                seen_again: Vec::new(),
                failures: 0,
            };
            crawl.run().await
        }
    };
    report.finish(portal, counters.read());
    report
}

/// Everything that can be wrong before the first request.
fn prepare(portal: &Portal, options: &CrawlOptions) -> Result<Base, (StopReason, String)> {
    let Some(country) = portal.countries.get(&options.country) else {
        let known: Vec<&str> = portal.countries.keys().map(String::as_str).collect();
        let (code, name, known) = (&options.country, &portal.name, known.join(", "));
        return Err((StopReason::Refused, format!("country: `{code}` is not one of {name}; it has {known}")));
    };
    let base = Base::new(&portal.name, &options.country, &country.base, options.base_url.as_deref())
        .map_err(|error| (StopReason::Refused, format!("base_url: {error}")))?
        .with_hosts(&country.hosts);
    if portal.permission == Permission::Ask && !base.is_replaced() && !options.without_permission {
        let name = &portal.name;
        let problem = format!(
            "{name} has not been asked for permission (permission.basis in its file); an operator may answer for it"
        );
        return Err((StopReason::NotPermitted, problem));
    }
    Ok(base)
}

/// State that the parallel pieces of a crawl share.
#[derive(Clone, Copy)]
struct Visit<'a> {
    place: Place<'a>,
    options: &'a CrawlOptions,
    fetcher: &'a Fetcher,
    counters: &'a Counters,
    sink: &'a mpsc::Sender<Found>,
}

struct Crawl<'a, 'r> {
    visit: Visit<'a>,
    report: &'r mut CrawlReport,
    /// Ids of the cards met so far.
    seen: HashSet<String>,
    /// Those among them that are stored already, since the last page that was sent.
    seen_again: Vec<String>,
    failures: u32,
}

/// Outcome of a card.
enum Outcome {
    Posting(Box<NewPosting>),
    Closed,
    Failed(CrawlError),
    /// Nothing more can be fetched, or not before some time has passed.
    Stop(StopReason, CrawlError, Option<Duration>),
}

/// Continuation of a search.
enum Next {
    Page(Request),
    End,
    Stop(StopReason),
}

impl Crawl<'_, '_> {
    async fn run(&mut self) -> StopReason {
        let (given, own) = (&self.visit.options.queries, &self.visit.place.portal.queries);
        let mut queries = if given.is_empty() { own.clone() } else { given.clone() };
        if queries.is_empty() {
            queries.push(String::new());
        }
        let from = self.visit.options.from.clone().unwrap_or_default();
        // The limits are those of the visit, however often it is interrupted.
        (self.report.pages, self.report.items) = (from.pages, from.items);
        for (place, query) in queries.iter().enumerate().skip(from.search) {
            let page = from.page.as_ref().filter(|_| place == from.search);
            if let Some(stop) = self.search((place, query), page).await {
                return stop;
            }
        }
        StopReason::Exhausted
    }

    /// Follows one search to its end.
    async fn search(
        &mut self,
        (place, query): (usize, &str),
        from: Option<&PageCursor>,
    ) -> Option<StopReason> {
        let mut request = match self.first_request(query, from) {
            Ok(request) => request,
            Err(problem) => {
                self.report.problems.push(format!("listing: {problem}"));
                return Some(StopReason::Refused);
            }
        };
        if self.visit.sink.send(Found::Search(query.to_owned())).await.is_err() {
            return Some(StopReason::SinkClosed);
        }
        let number = from.map_or_else(|| self.first_number(), |page| page.number);
        let turned = from.is_some();
        let mut walk = Walk { query, number, turned, resumed: turned, ..Walk::default() };
        walk.pages_before = self.report.pages;
        loop {
            let here = PageCursor { number: walk.number, url: walk.turned.then(|| request.url.to_string()) };
            let here = Some(here).filter(|_| walk.turned);
            let next = self.step(&request, &mut walk).await;
            let done = self.done(place, &walk, here, &next);
            if self.visit.sink.send(Found::Page(done)).await.is_err() {
                return Some(StopReason::SinkClosed);
            }
            match next {
                Next::Page(next) => request = next,
                Next::End => {
                    self.compare(&walk);
                    return None;
                }
                Next::Stop(stop) => return Some(stop),
            }
        }
    }

    async fn step(&mut self, request: &Request, walk: &mut Walk<'_>) -> Next {
        if self.report.pages >= self.max_pages() {
            return Next::Stop(StopReason::PageLimit);
        }
        // A "next" link may lead back: without this a listing in a circle is read up to the page
        // limit.
        if !walk.asked.insert((request.url.clone(), request.body.clone())) {
            self.report.problems.push(format!("pagination leads in circles at {}", request.url));
            return Next::End;
        }
        self.page(request, walk).await
    }

    /// Message behind a page: `here` is the page itself, none for the first of a search.
    fn done(&mut self, place: usize, walk: &Walk<'_>, here: Option<PageCursor>, next: &Next) -> PageDone {
        let (search, page, stop) = match next {
            Next::Page(request) => {
                let url = Some(request.url.to_string());
                (place, Some(PageCursor { number: walk.number, url }), None)
            }
            Next::End => (place + 1, None, Some(StopReason::Exhausted)),
            // A stopped search resumes at this page, not behind it: not all of its ads may have
            // been sent.
            Next::Stop(stop) => (place, here, Some(*stop)),
        };
        PageDone {
            pages: u32::try_from(self.report.pages - walk.pages_before).unwrap_or(u32::MAX),
            stop,
            seen_again: std::mem::take(&mut self.seen_again),
            cursor: Cursor { search, page, pages: self.report.pages, items: self.report.items },
        }
    }

    fn first_number(&self) -> u32 {
        match self.visit.place.portal.listing.pagination {
            Pagination::Page { first, .. } => first,
            _ => 1,
        }
    }

    /// The request with which a search begins, or goes on.
    fn first_request(&self, query: &str, from: Option<&PageCursor>) -> Result<Request, String> {
        let place = self.visit.place;
        match (from, &place.portal.listing.pagination) {
            (None, _) => place.listing_request(query, self.first_number(), false),
            (Some(PageCursor { url: Some(url), .. }), Pagination::Next { .. }) => {
                place.linked_request(query, url.parse().map_err(|error| format!("`{url}`: {error}"))?)
            }
            (Some(page), _) => place.listing_request(query, page.number, true),
        }
    }

    /// One listing page with its ads.
    async fn page(&mut self, request: &Request, walk: &mut Walk<'_>) -> Next {
        let place = self.visit.place;
        let page = match self.visit.fetcher.fetch(request, self.visit.counters).await {
            Ok(page) => page,
            // Some portals answer 404 behind their last page; the same on a first page is an error.
            Err(FetchError::Gone { .. }) if walk.turned => return walk.end(),
            Err(error) => return self.lost(&request.url, &error),
        };
        self.report.pages += 1;
        let listing = match reading::in_place(|| place.read_listing(&page)) {
            Ok(listing) => listing,
            // The page after the last one is often a page without ads.
            Err(PageError::Layout(_)) if walk.turned && self.report.cards > 0 => return walk.end(),
            Err(error) => return self.unread(&page.url, &error),
        };
        self.report.cards += listing.cards.len() as u64 + listing.homeless;
        if listing.homeless > 0 {
            let message = format!("{} ads without an address on the portal", listing.homeless);
            self.report.error(CrawlError::new(&page.url, "no_address", message));
        }
        let found = listing.cards.len();
        // A page that repeats the ones before it is the end of a listing that never says so.
        let fresh: Vec<Fields> =
            listing.cards.into_iter().filter(|card| walk.met.insert(identity(card))).collect();
        self.report.duplicates += (found - fresh.len()) as u64;
        walk.total = walk.total.or(listing.total);
        if fresh.is_empty() {
            if found > 0 && listing.next.is_some() {
                self.report.problems.push(format!("pagination leads in circles at {}", page.url));
            }
            return walk.end();
        }
        let (wanted, stale) = self.select(fresh);
        walk.stale = if stale { walk.stale + 1 } else { 0 };
        if let Some(stop) = self.details(wanted).await {
            return Next::Stop(stop);
        }
        if self.visit.options.stale_pages.is_some_and(|limit| limit > 0 && walk.stale >= limit) {
            return Next::End;
        }
        self.turn(listing.next, walk)
    }

    /// A search that came to its end with far fewer ads than the portal says it has missed some.
    fn compare(&mut self, walk: &Walk<'_>) {
        let Some(total) = walk.total.filter(|_| walk.complete && !walk.resumed) else { return };
        let met = walk.met.len() as u64;
        // Totals of portals are rounded and move during a visit: a tenth of difference is let pass
        // (a choice).
        if met.saturating_mul(10) < total.saturating_mul(9) {
            let search = if walk.query.is_empty() { String::new() } else { format!(" for `{}`", walk.query) };
            let problem = format!("the portal says it has {total} ads{search}, its listing ends after {met}");
            self.report.problems.push(problem);
        }
    }

    fn turn(&mut self, next: Option<Url>, walk: &mut Walk<'_>) -> Next {
        let place = self.visit.place;
        walk.turned = true;
        let request = match (&place.portal.listing.pagination, next) {
            (Pagination::Page { .. }, _) => {
                walk.number += 1;
                place.listing_request(walk.query, walk.number, true)
            }
            (Pagination::Next { .. }, Some(url)) => place.linked_request(walk.query, url),
            _ => return walk.end(),
        };
        match request {
            Ok(request) => Next::Page(request),
            Err(problem) => {
                self.report.problems.push(format!("listing: {problem}"));
                Next::Stop(StopReason::Refused)
            }
        }
    }

    fn max_pages(&self) -> u64 {
        let own = self.visit.place.portal.limits.max_pages;
        least(self.visit.options.max_pages, own)
    }

    fn ads_left(&self) -> usize {
        let own = self.visit.place.portal.limits.max_ads;
        let left = least(self.visit.options.max_ads, own).saturating_sub(self.report.items);
        usize::try_from(left).unwrap_or(usize::MAX)
    }

    /// The cards worth a detail page, and whether all of them were known or old.
    fn select(&mut self, cards: Vec<Fields>) -> (Vec<Fields>, bool) {
        let mut wanted = Vec::new();
        let mut stale = true;
        for card in cards {
            let id = identity(&card);
            // A known id saves the request for its detail page.
            if self.visit.options.known.contains(&id) {
                if self.seen.insert(id.clone()) {
                    self.seen_again.push(id);
                }
                self.report.known += 1;
            } else if self.is_old(card.get("posted_date").and_then(|day| day.parse().ok())) {
                self.report.too_old += 1;
            } else {
                stale = false;
                match self.seen.insert(id) {
                    true => wanted.push(card),
                    false => self.report.duplicates += 1,
                }
            }
        }
        (wanted, stale)
    }

    fn is_old(&self, day: Option<NaiveDate>) -> bool {
        matches!((day, self.visit.options.since), (Some(day), Some(since)) if day < since)
    }

    /// Fetches the details and sends the postings in the order of the cards.
    async fn details(&mut self, mut cards: Vec<Fields>) -> Option<StopReason> {
        let left = self.ads_left();
        let limited = cards.len() >= left;
        // Cut before the requests: what is over the limit costs the portal nothing.
        cards.truncate(left);
        let visit = self.visit;
        let at_once = visit.options.details_at_once.unwrap_or(DETAILS_AT_ONCE).max(1);
        // Buffered in order, so that the ads sent so far are always the first ones of the page.
        let visits: Vec<_> = cards.into_iter().map(|card| visit.card(card)).collect();
        let mut outcomes = stream::iter(visits).buffered(at_once);
        while let Some(outcome) = outcomes.next().await {
            if let Some(stop) = self.settle(outcome).await {
                return Some(stop);
            }
        }
        // Closed, old and failed ads do not count, so the limit may still not be reached.
        (limited && self.ads_left() == 0).then_some(StopReason::AdLimit)
    }

    async fn settle(&mut self, outcome: Outcome) -> Option<StopReason> {
        match outcome {
            // The card may have named no day, or only the detail the right one.
            Outcome::Posting(posting) if self.is_old(posting.posted_date) => self.report.too_old += 1,
            Outcome::Posting(posting) => {
                self.failures = 0;
                self.report.fill(&posting);
                if self.visit.sink.send(Found::Ad(posting)).await.is_err() {
                    return Some(StopReason::SinkClosed);
                }
                self.report.items += 1;
            }
            // Neither a success nor a failure: a closed ad says nothing about how pages are read.
            Outcome::Closed => self.report.closed += 1,
            Outcome::Failed(error) => {
                self.failures += 1;
                self.report.error(error);
            }
            Outcome::Stop(stop, error, after) => {
                self.report.error(error);
                self.report.come_back = after;
                return Some(stop);
            }
        }
        (self.failures >= FAILURES_IN_A_ROW).then_some(StopReason::TooManyErrors)
    }

    /// A listing page that could not be fetched ends its search, or the crawl.
    fn lost(&mut self, url: &Url, error: &FetchError) -> Next {
        self.report.error(CrawlError::new(url, error.kind(), error.to_string()));
        self.report.come_back = come_back(error);
        match stop_of(error) {
            Some(stop) => Next::Stop(stop),
            None => Next::End,
        }
    }

    /// The same for one that could not be read.
    fn unread(&mut self, url: &Url, error: &PageError) -> Next {
        if matches!(error, PageError::Layout(_)) {
            self.report.problems.push(format!("{error} ({url})"));
        }
        let crawl_error = CrawlError::new(url, kind_of(error), error.to_string());
        self.report.error(crawl_error);
        match error {
            PageError::Refused(reason) => {
                self.visit.fetcher.block(url, reason, self.visit.counters);
                Next::Stop(StopReason::Blocked)
            }
            _ => Next::End,
        }
    }
}

/// Identity of an ad: the portal's id, else its address.
fn identity(card: &Fields) -> String {
    // Never empty: a card without an address was left out when the page was read.
    card.get("external_id").or_else(|| card.get("url")).cloned().unwrap_or_default()
}

fn stop_of(error: &FetchError) -> Option<StopReason> {
    match error {
        FetchError::Blocked { .. } => Some(StopReason::Blocked),
        FetchError::Parked { .. } => Some(StopReason::Parked),
        FetchError::RobotsUnreachable { .. } => Some(StopReason::RobotsUnreachable),
        _ => None,
    }
}

/// Time for which the portal asks to be left alone.
fn come_back(error: &FetchError) -> Option<Duration> {
    match error {
        FetchError::Parked { after, .. } => Some(*after),
        _ => None,
    }
}

fn kind_of(error: &PageError) -> &'static str {
    match error {
        PageError::Refused(_) => "blocked",
        PageError::ErrorPage => "error_page",
        PageError::Tangled(_) => "tangled",
        PageError::NotJson(_) => "not_json",
        PageError::Layout(_) => "layout",
    }
}

fn least(asked: Option<u32>, own: Option<u32>) -> u64 {
    asked.into_iter().chain(own).min().map_or(u64::MAX, u64::from)
}
