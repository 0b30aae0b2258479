//! From what a crawl finds to checkpoints: each listing page is stored when it is read.
//!
//! Postings are cleaned as every other way in does it and written together with the cursor behind
//! them, so that an interrupted visit neither loses nor repeats a page.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::Utc;
use serde::Serialize;
use serde_json::json;
use tokio::sync::mpsc;

use super::{CrawlReport, Cursor, Found, StopReason};
use crate::{
    domain::posting::NewPosting,
    intake::{self, Prepared, Refusal},
    privacy, reading,
    stage::{Checkpoints, Effect, StageError},
    store::{tasks::Task, visits::VisitProgress},
};

/// Advertisements that are stored at once at most, and the time after which what there is is
/// stored. Choices: what an interruption may lose against the transactions that saving it costs.
const AT_ONCE: usize = 50;
/// See `AT_ONCE`.
const AT_LEAST_EVERY: Duration = Duration::from_secs(30);
/// Characters of an address that a refusal shows. Not tuned: a few lines of a terminal.
const QUOTED: usize = 300;

/// Finds of a visit that are not stored yet.
pub(super) struct Gathering<'a> {
    task: &'a Task,
    checkpoints: &'a Checkpoints,
    place: (&'a str, &'a str),
    accepted: Arc<[String]>,
    waiting: Vec<NewPosting>,
    /// The search and the listing pages of it that are read.
    search: (String, u32),
    /// The place from which the visit goes on after what is stored.
    pub(super) cursor: Cursor,
    /// Advertisements handed on to be stored.
    pub(super) taken: u64,
    /// Those that were not.
    pub(super) refusals: Vec<Refused>,
}

impl<'a> Gathering<'a> {
    pub(super) fn new(
        (task, checkpoints): (&'a Task, &'a Checkpoints),
        place: (&'a str, &'a str),
        accepted: Arc<[String]>,
        cursor: Cursor,
    ) -> Self {
        Self {
            task,
            checkpoints,
            place,
            accepted,
            waiting: Vec::new(),
            search: (String::new(), 0),
            cursor,
            taken: 0,
            refusals: Vec::new(),
        }
    }

    /// Stores what the crawl finds: each listing page, and sooner where one takes long.
    pub(super) async fn run(&mut self, mut found: mpsc::Receiver<Found>) -> Result<(), StageError> {
        let mut stored = Instant::now();
        while let Some(found) = found.recv().await {
            match found {
                Found::Ad(ad) => {
                    self.waiting.push(*ad);
                    if self.waiting.len() < AT_ONCE && stored.elapsed() < AT_LEAST_EVERY {
                        continue;
                    }
                    // The cursor stays at the last whole page: ads stored twice are folded, ads
                    // skipped would be lost.
                    self.store(None, Vec::new()).await?;
                }
                Found::Search(query) => {
                    self.search = (query, 0);
                    continue;
                }
                Found::Page(done) => {
                    self.search.1 = done.pages;
                    // Before the page is stored, since both are written in one transaction.
                    self.cursor = done.cursor;
                    self.store(done.stop, done.seen_again).await?;
                }
            }
            stored = Instant::now();
        }
        Ok(())
    }

    async fn store(&mut self, stop: Option<StopReason>, seen_again: Vec<String>) -> Result<(), StageError> {
        let (waiting, accepted) = (std::mem::take(&mut self.waiting), Arc::clone(&self.accepted));
        // On a thread of its own: cleaning long texts would hold up other visits and heartbeats.
        let prepared = reading::apart(move || prepare(waiting, &accepted)).await;
        let (items, refusals) = prepared.map_err(|panicked| StageError::Fail(panicked.to_string()))?;
        let visit = VisitProgress {
            portal: self.place.0.to_owned(),
            country: self.place.1.to_owned(),
            query: self.search.0.clone(),
            pages: self.search.1,
            stop: stop.map(StopReason::name),
        };
        self.taken += items.len() as u64;
        let gathered = Effect::Gathered { visit, items, seen_again, refused: by_field(&refusals) };
        self.refusals.extend(refusals);
        self.checkpoints.write(self.task, gathered, json!(self.cursor)).await
    }
}

/// An advertisement that was not taken.
pub(super) struct Refused {
    url: String,
    refusal: Refusal,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // What was refused was never cleaned, and this line is kept with the run.
        let url: String = self.url.chars().take(QUOTED).collect();
        write!(formatter, "{}: {}", privacy::scrub_url(&url), self.refusal)
    }
}

/// Refusals listed one by one. Not tuned: enough to see what is wrong with a portal file.
const REFUSALS_LISTED: usize = 20;

/// Report of a visit: the crawler's, and what the intake refused of it.
#[derive(Debug, Serialize)]
pub(super) struct VisitReport<'a> {
    #[serde(flatten)]
    crawl: &'a CrawlReport,
    refused: Vec<String>,
}

impl<'a> VisitReport<'a> {
    pub(super) fn new(crawl: &'a CrawlReport, refusals: &[Refused]) -> Self {
        Self { crawl, refused: refusals.iter().take(REFUSALS_LISTED).map(Refused::to_string).collect() }
    }
}

/// Validates and cleans what the crawl sends, as every other way in does.
fn prepare(ads: Vec<NewPosting>, accepted: &[String]) -> (Vec<Prepared>, Vec<Refused>) {
    let (mut prepared, mut refusals) = (Vec::new(), Vec::new());
    for ad in ads {
        let url = ad.url.clone();
        match intake::prepare(ad, accepted, Utc::now()) {
            Ok(ad) => prepared.push(ad),
            Err(refusal) => refusals.push(Refused { url, refusal }),
        }
    }
    (prepared, refusals)
}

fn by_field(refusals: &[Refused]) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for refused in refusals {
        *counts.entry(refused.refusal.field.to_owned()).or_default() += 1;
    }
    counts
}
