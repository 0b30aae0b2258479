//! The scraper as a stage: portals to postings.

use std::{
    collections::{BTreeMap, HashSet},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{CrawlOptions, CrawlReport, FetchOptions, Fetcher, Portal, crawl, honest_agent, load};
use crate::{
    domain::{posting::NewPosting, run::StageName},
    intake::{self, Prepared, Refusal},
    stage::{Effect, Outcome, Plan, PlannedTask, Stage, StageError},
    store::{PgPool, countries, postings, runs::Run, tasks::Task},
};

/// Keys of [`Settings`].
pub const SETTINGS: [&str; 10] = [
    "portals_dir",
    "portals",
    "base_url",
    "contact",
    "queries",
    "max_pages",
    "max_ads",
    "delay",
    "reread",
    "without_permission",
];

/// What only the scraper understands.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Directory whose portal files stand beside the built-in ones and before them.
    pub portals_dir: Option<PathBuf>,
    /// Portals to visit; all when empty.
    pub portals: Vec<String>,
    /// Address that stands for the portals' own, with `{portal}` and `{country}`.
    pub base_url: Option<String>,
    /// Who answers for the visits: a web or e-mail address in the user agent.
    pub contact: Option<String>,
    /// What to search for; the portal file's own queries when empty.
    pub queries: Vec<String>,
    /// Listing pages of a portal in a country at most.
    pub max_pages: Option<u32>,
    /// Advertisements of a portal in a country at most.
    pub max_ads: Option<u32>,
    /// Seconds between two requests to a host; 1 when absent.
    pub delay: Option<f64>,
    /// Read the advertisements that are stored already again, to notice their edits; else what a listing still shows of
    /// them only says that they are still there.
    pub reread: bool,
    /// The operator answers for visiting portals whose file says `ask`.
    pub without_permission: bool,
}

/// Visits the portals of a run.
pub struct ScraperStage {
    pool: PgPool,
    portals: BTreeMap<String, Portal>,
    fetcher: Fetcher,
    settings: Settings,
    items: AtomicU64,
    refused: AtomicU64,
}

impl ScraperStage {
    /// A stage for the portals of `settings`.
    ///
    /// # Errors
    /// When a portal file is not valid, a portal is unknown, or the delay makes no sense.
    pub fn new(pool: PgPool, settings: Settings) -> Result<Self> {
        let portals = chosen(&settings)?;
        let fetcher = Fetcher::new(fetch_options(&settings)?).context("cannot make the fetcher")?;
        let (items, refused) = (AtomicU64::new(0), AtomicU64::new(0));
        Ok(Self { pool, portals, fetcher, settings, items, refused })
    }

    fn options(&self, country: &str, known: HashSet<String>) -> CrawlOptions {
        CrawlOptions {
            country: country.to_owned(),
            base_url: self.settings.base_url.clone(),
            queries: self.settings.queries.clone(),
            max_pages: self.settings.max_pages,
            max_ads: self.settings.max_ads,
            known,
            without_permission: self.settings.without_permission,
            ..CrawlOptions::default()
        }
    }

    /// Visits one portal in one country.
    async fn visit(&self, subject: &str) -> Outcome {
        let unknown =
            || StageError::Fail(format!("subject `{subject}` is not PORTAL/COUNTRY of this process"));
        let (name, country) = subject.split_once('/').ok_or_else(unknown)?;
        let portal = self.portals.get(name).ok_or_else(unknown)?;
        let mut connection = self.pool.acquire().await?;
        let known = match self.settings.reread {
            true => Vec::new(),
            false => postings::external_ids(&mut connection, name, country).await?,
        };
        let accepted = countries::enabled(&mut connection).await?.into();
        drop(connection);
        let options = self.options(country, known.into_iter().collect());
        let (sender, receiver) = mpsc::channel(64);
        let reading = read(receiver, &accepted);
        let (report, (items, refusals)) =
            tokio::join!(crawl(portal, &options, &self.fetcher, sender), reading);
        self.items.fetch_add(items.len() as u64, Ordering::Relaxed);
        self.refused.fetch_add(refusals.len() as u64, Ordering::Relaxed);
        Ok(Effect::Scraped {
            portal: name.to_owned(),
            country: country.to_owned(),
            problem: problem(subject, &report, &refusals),
            refused: by_field(&refusals),
            summary: summary(&report, &refusals),
            seen_again: report.seen_again,
            items,
        })
    }
}

impl Settings {
    /// Whoever visits portals says who answers for it; a stand-in for the portals needs no answer.
    ///
    /// # Errors
    /// When no contact is named, or one that nobody can use.
    pub fn check_contact(&self) -> Result<()> {
        const PLACE: &str = "modules.scraper.settings.contact";
        const WANTED: &str = "the web or e-mail address of whoever answers for the visits";
        match self.contact.as_deref().map(str::trim) {
            None if self.base_url.is_some() => Ok(()),
            None => bail!("{PLACE} is missing: expected {WANTED}"),
            Some(contact) => {
                let host = ["http://", "https://"].iter().find_map(|scheme| contact.strip_prefix(scheme));
                let address = contact.split_once('@').filter(|(user, _)| !user.is_empty());
                let host = host.or(address.map(|(_, host)| host)).unwrap_or_default();
                let plain = !contact.contains(|c: char| c.is_whitespace() || c.is_control() || !c.is_ascii());
                let named = host.split(['/', '?', '#']).next().is_some_and(|host| host.contains('.'));
                if !(plain && named) {
                    bail!("invalid {PLACE} `{contact}`: expected {WANTED}");
                }
                Ok(())
            }
        }
    }
}

/// The portals to visit, by their names.
///
/// # Errors
/// When a portal file is not valid or a portal is unknown.
pub fn chosen(settings: &Settings) -> Result<BTreeMap<String, Portal>> {
    let mut portals = load(settings.portals_dir.as_deref())?;
    if let Some(unknown) = settings.portals.iter().find(|name| !portals.contains_key(*name)) {
        let known: Vec<&str> = portals.keys().map(String::as_str).collect();
        bail!("modules.scraper.settings.portals: unknown portal `{unknown}`; known are {}", known.join(", "));
    }
    if !settings.portals.is_empty() {
        portals.retain(|name, _| settings.portals.contains(name));
    }
    Ok(portals)
}

fn fetch_options(settings: &Settings) -> Result<FetchOptions> {
    let mut options = FetchOptions::default();
    if let Some(contact) = &settings.contact {
        options.user_agents = vec![honest_agent(Some(contact))];
    }
    if let Some(delay) = settings.delay {
        options.delay = Duration::try_from_secs_f64(delay).context("modules.scraper.settings.delay")?;
        if delay == 0.0 {
            options.autothrottle = None;
        }
    }
    Ok(options)
}

/// An advertisement that was not taken.
struct Refused {
    url: String,
    refusal: Refusal,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}: {}", self.url, self.refusal)
    }
}

/// Validates and cleans what the crawl sends, as every other way in does.
async fn read(
    mut items: mpsc::Receiver<NewPosting>,
    accepted: &Arc<[String]>,
) -> (Vec<Prepared>, Vec<Refused>) {
    let (mut prepared, mut refusals) = (Vec::new(), Vec::new());
    while let Some(item) = items.recv().await {
        let url = item.url.clone();
        match intake::apart::posting(item, accepted).await {
            Ok(item) => prepared.push(item),
            Err(refusal) => refusals.push(Refused { url, refusal }),
        }
    }
    (prepared, refusals)
}

fn problem(subject: &str, report: &CrawlReport, refusals: &[Refused]) -> Option<String> {
    let first = report.problems.first().cloned();
    let first = first.or_else(|| report.errors.first().map(|error| error.message.clone()));
    match (report.is_whole(), refusals.first()) {
        (true, None) => None,
        (true, Some(refusal)) => Some(format!("scrape: {subject}: refused {}: {refusal}", refusals.len())),
        (false, _) => {
            let stop = serde_json::to_value(report.stop).unwrap_or_default();
            let stop = stop.as_str().unwrap_or("incomplete").to_owned();
            Some(format!("scrape: {subject}: {stop}: {}", first.unwrap_or_else(|| "incomplete".to_owned())))
        }
    }
}

fn by_field(refusals: &[Refused]) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for refused in refusals {
        *counts.entry(refused.refusal.field.to_owned()).or_default() += 1;
    }
    counts
}

fn summary(report: &CrawlReport, refusals: &[Refused]) -> Value {
    let mut summary = serde_json::to_value(report).unwrap_or_default();
    summary["empty_handed"] = report.is_empty_handed().into();
    summary["refused"] = json!(refusals.iter().take(20).map(Refused::to_string).collect::<Vec<_>>());
    summary
}

#[async_trait]
impl Stage for ScraperStage {
    fn name(&self) -> StageName {
        StageName::Scrape
    }

    async fn plan(&self, run: &Run) -> Result<Plan, StageError> {
        let mut connection = self.pool.acquire().await?;
        let enabled = countries::enabled(&mut connection).await?;
        drop(connection);
        let wanted = |list: &[String], name: &String| list.is_empty() || list.contains(name);
        let mut tasks = Vec::new();
        for (name, portal) in self.portals.iter().filter(|(name, _)| wanted(&run.options.portals, name)) {
            for country in portal.countries.keys() {
                if enabled.contains(country) && wanted(&run.options.countries, country) {
                    tasks.push(PlannedTask::other(format!("{name}/{country}")));
                }
            }
        }
        let facts = json!({ "portals": self.portals.keys().collect::<Vec<_>>(),
            "base_url": self.settings.base_url });
        Ok(Plan {
            problem: None,
            skipped: tasks.is_empty().then(|| "no portal matches the run's filters".to_owned()),
            tasks,
            up_to_date: 0,
            facts: facts.as_object().cloned().unwrap_or_default(),
        })
    }

    async fn process(&self, batch: &[Task]) -> Result<Vec<Outcome>, StageError> {
        let visits = batch.iter().map(|task| self.visit(&task.subject));
        Ok(futures::future::join_all(visits).await)
    }

    async fn validate_input(&self) -> Result<(), StageError> {
        self.pool.acquire().await?;
        Ok(())
    }

    fn metrics(&self) -> BTreeMap<String, f64> {
        let counters = serde_json::to_value(self.fetcher.counters()).unwrap_or_default();
        let numbers = counters.as_object().into_iter().flatten();
        let mut metrics: BTreeMap<String, f64> = numbers
            .filter_map(|(name, value)| Some((format!("fetch_{name}_total"), value.as_f64()?)))
            .collect();
        metrics.insert("postings_total".to_owned(), self.items.load(Ordering::Relaxed) as f64);
        metrics.insert("refused_total".to_owned(), self.refused.load(Ordering::Relaxed) as f64);
        metrics
    }

    async fn cleanup(&self) -> Result<(), StageError> {
        Ok(())
    }
}
