//! What a crawl did and found.
//!
//! A report is a value: whether a visit is done, to be continued or failed follows from it alone.

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, Utc};
use serde::Serialize;
use url::Url;

use super::{
    super::{
        fetch::{FetchCounters, FetchOptions},
        portal::Portal,
    },
    CrawlOptions,
};
use crate::domain::posting::NewPosting;

/// Errors listed one by one; all of them are counted. A choice: nobody reads more of one visit.
const ERRORS_LISTED: usize = 100;
/// Ads from which on the share of filled fields says something. Not tuned.
const FILL_SAMPLE: u64 = 10;

/// End of a crawl.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StopReason {
    /// Every search came to its end.
    #[default]
    Exhausted,
    /// As many listing pages as allowed.
    PageLimit,
    /// As many ads as allowed.
    AdLimit,
    /// The portal refuses us.
    Blocked,
    /// The portal asked for a longer pause than is waited for.
    Parked,
    /// robots.txt keeps us out of the listings.
    RobotsDenied,
    /// robots.txt could not be fetched.
    RobotsUnreachable,
    /// The portal was not asked for permission and no operator answers for it.
    NotPermitted,
    /// The request makes no sense: see the problems.
    Refused,
    /// Too many ads in a row failed.
    TooManyErrors,
    /// The receiver of the ads is gone.
    SinkClosed,
}

impl StopReason {
    /// As reports have it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Exhausted => "exhausted",
            Self::PageLimit => "page_limit",
            Self::AdLimit => "ad_limit",
            Self::Blocked => "blocked",
            Self::Parked => "parked",
            Self::RobotsDenied => "robots_denied",
            Self::RobotsUnreachable => "robots_unreachable",
            Self::NotPermitted => "not_permitted",
            Self::Refused => "refused",
            Self::TooManyErrors => "too_many_errors",
            Self::SinkClosed => "sink_closed",
        }
    }
}

/// Meaning of a crawl's end for the task that asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It got what there was, up to a limit.
    Done,
    /// The portal cannot be visited now, but later.
    Away,
    /// It failed, and will again until somebody looks at it.
    Failed,
}

/// Kinds of errors that say nothing but that a portal is away.
const AWAY: [&str; 3] = ["network", "timeout", "robots_unreachable"];

/// One thing that went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct CrawlError {
    /// Address of the page or the ad.
    pub url: String,
    /// Short name for counting.
    pub kind: &'static str,
    /// Description of the error.
    pub message: String,
}

impl CrawlError {
    pub(super) fn new(url: &Url, kind: &'static str, message: String) -> Self {
        Self { url: url.to_string(), kind, message }
    }
}

/// Figures of a crawl.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct CrawlReport {
    /// Portal.
    pub portal: String,
    /// ISO 3166-1 alpha-2.
    pub country: String,
    /// Address that was crawled.
    pub base_url: String,
    /// Start.
    pub started_at: DateTime<Utc>,
    /// End.
    pub finished_at: DateTime<Utc>,
    /// Reason for its end.
    pub stop: StopReason,
    /// Names we gave ourselves.
    pub user_agents: Vec<String>,
    /// False when an operator switched robots.txt off.
    pub robots_obeyed: bool,
    /// True when an operator answered for a portal that was not asked.
    pub without_permission: bool,
    /// Listing pages read.
    pub pages: u64,
    /// Ads on them.
    pub cards: u64,
    /// Postings sent.
    pub items: u64,
    /// Ads met again in the same crawl.
    pub duplicates: u64,
    /// Ads that are stored already.
    pub known: u64,
    /// Time for which the portal asks to be left alone.
    #[serde(skip)]
    pub come_back: Option<Duration>,
    /// Ads older than asked for.
    pub too_old: u64,
    /// Ads that are closed or gone.
    pub closed: u64,
    /// Postings without a field that the portal file can fill, by field.
    pub missing: BTreeMap<&'static str, u64>,
    /// Errors by kind.
    pub errors_by_kind: BTreeMap<&'static str, u64>,
    /// The first hundred errors.
    pub errors: Vec<CrawlError>,
    /// Problems for the maintainer of the portal file.
    pub problems: Vec<String>,
    /// Figures of the fetcher.
    pub requests: FetchCounters,
    #[serde(skip)]
    fields: Vec<&'static str>,
}

impl CrawlReport {
    pub(super) fn new(portal: &Portal, options: &CrawlOptions, fetch: &FetchOptions) -> Self {
        Self {
            portal: portal.name.clone(),
            country: options.country.clone(),
            started_at: Utc::now(),
            user_agents: fetch.user_agents.clone(),
            robots_obeyed: fetch.obey_robots,
            without_permission: options.without_permission,
            fields: portal.fields().into_iter().collect(),
            ..Self::default()
        }
    }

    pub(super) fn error(&mut self, error: CrawlError) {
        tracing::debug!(portal = %self.portal, error.kind, "a page or an ad could not be fetched");
        *self.errors_by_kind.entry(error.kind).or_default() += 1;
        if self.errors.len() < ERRORS_LISTED {
            self.errors.push(error);
        }
    }

    /// Counts the fields that a posting lacks.
    pub(super) fn fill(&mut self, posting: &NewPosting) {
        for field in self.fields.iter().copied().filter(|field| !has(posting, field)) {
            *self.missing.entry(field).or_default() += 1;
        }
    }

    pub(super) fn finish(&mut self, portal: &Portal, requests: FetchCounters) {
        self.requests = requests;
        self.finished_at = Utc::now();
        if self.items >= FILL_SAMPLE {
            self.note_missing_fields(portal);
        }
        // Searches that robots.txt closes end one by one, and the crawl would look exhausted.
        let nothing_had = self.pages == 0 && self.stop == StopReason::Exhausted;
        if nothing_had
            && self.errors_by_kind.keys().all(|kind| *kind == "robots_denied")
            && !self.errors.is_empty()
        {
            self.stop = StopReason::RobotsDenied;
        }
    }

    /// A problem for each field that fewer advertisements have than the portal file expects.
    fn note_missing_fields(&mut self, portal: &Portal) {
        for (field, floor) in &portal.expected {
            let missing = self.missing.get(field.as_str()).copied().unwrap_or_default();
            let share = 1.0 - missing as f64 / self.items as f64;
            if share < *floor {
                let (share, floor) = (share * 100.0, floor * 100.0);
                self.problems.push(format!(
                    "layout change: only {share:.0} % of the ads have {field}, expected are {floor:.0} %"
                ));
            }
        }
    }

    /// Errors of every kind.
    #[cfg(test)]
    pub(crate) fn error_count(&self) -> u64 {
        self.errors_by_kind.values().sum()
    }

    /// Returns whether the crawl got what the portal had to give: it was neither kept out nor
    /// confused.
    pub(crate) fn is_whole(&self) -> bool {
        let ended = matches!(self.stop, StopReason::Exhausted | StopReason::PageLimit | StopReason::AdLimit);
        ended && self.problems.is_empty() && self.errors_by_kind.is_empty()
    }

    /// Returns whether the crawl was kept out or failed before it had met a single ad.
    pub(crate) fn is_empty_handed(&self) -> bool {
        !self.is_whole() && self.items + self.known + self.too_old + self.closed == 0
    }

    /// Meaning of its end.
    pub(crate) fn fate(&self) -> Fate {
        match self.stop {
            StopReason::Parked | StopReason::RobotsUnreachable => Fate::Away,
            StopReason::Exhausted | StopReason::PageLimit | StopReason::AdLimit => {
                // A lost page only ends its search, so a portal that is away looks exhausted too.
                let only_away = self.errors_by_kind.keys().all(|kind| AWAY.contains(kind));
                match self.is_empty_handed() {
                    false => Fate::Done,
                    true if self.problems.is_empty() && only_away => Fate::Away,
                    true => Fate::Failed,
                }
            }
            _ => Fate::Failed,
        }
    }

    /// The trouble that kept the crawl from what the portal has, in one sentence; none when there
    /// was none.
    pub(crate) fn trouble(&self) -> Option<String> {
        if self.is_whole() {
            return None;
        }
        let first = self.problems.first().cloned();
        let first = first.or_else(|| self.errors.first().map(|error| error.message.clone()));
        Some(format!("{}: {}", self.stop.name(), first.unwrap_or_else(|| "incomplete".to_owned())))
    }
}

fn has(posting: &NewPosting, field: &str) -> bool {
    match field {
        "company" => posting.company.is_some(),
        "contract_type" => posting.contract_type.is_some(),
        "external_id" => posting.external_id.is_some(),
        "location" => posting.location.is_some(),
        "posted_date" => posting.posted_date.is_some(),
        "remote_type" => posting.remote_type.is_some(),
        "requirements" => posting.requirements.is_some(),
        "salary_raw" => posting.salary_raw.is_some(),
        // A posting is not sent without these.
        _ => true,
    }
}
