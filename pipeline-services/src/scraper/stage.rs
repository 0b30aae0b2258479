//! The scraper as a stage: portals to postings.
//!
//! A visit is one task for each portal and country. It is stored page by page through checkpoints,
//! and another worker goes on where the last one was lost.

use std::{
    collections::{BTreeMap, HashSet},
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::mpsc;
use url::Url;

use super::{
    Base, CrawlOptions, CrawlReport, Cursor, Fate, FetchOptions, Fetcher, Portal, Reach, StopReason, crawl,
    gathering::{Gathering, Refused, VisitReport},
    honest_agent, load,
    portal::Permission,
};
use crate::{
    domain::run::{
        Problem, StageName,
        facts::{RunFacts, ScrapeFacts},
    },
    stage::{Checkpoints, Dependency, Effect, Outcome, Plan, Stage, StageError},
    store::{
        PgPool, countries, postings,
        runs::Run,
        tasks::{Subject, Task},
        visits,
    },
};

/// Listing pages and advertisements of a portal in a country, where nobody says how many: some
/// calendars never end. Choices, which a setting can raise.
const MOST_PAGES: u32 = 500;
/// See `MOST_PAGES`.
const MOST_ADS: u32 = 10_000;
/// Longest time that a portal may hold up a visit; a longer wait puts the visit off, and frees its
/// worker. Not tuned.
const LONGEST_HOLD: Duration = Duration::from_secs(60);
/// Keys of [`Settings`].
pub(crate) const SETTINGS: [&str; 10] = [
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

/// Settings of the scraper.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// Directory whose portal files are used in addition to the built-in ones, and before them.
    pub portals_dir: Option<PathBuf>,
    /// Portals to visit; all when empty.
    pub portals: Vec<String>,
    /// Address that stands for the portals' own, with `{portal}` and `{country}`.
    pub base_url: Option<String>,
    /// Web or e-mail address, sent in the user agent, of the person who answers for the visits.
    pub contact: Option<String>,
    /// Queries; the portal file's own when empty.
    pub queries: Vec<String>,
    /// Listing pages of a portal in a country at most; 500 when absent.
    pub max_pages: Option<u32>,
    /// Advertisements of a portal in a country at most; 10,000 when absent.
    pub max_ads: Option<u32>,
    /// Seconds between two requests to a host; 1 when absent.
    pub delay: Option<f64>,
    /// Read the advertisements that are stored already again, to notice their edits; else what a
    /// listing still shows of them only says that they are still there.
    pub reread: bool,
    /// The operator answers for visiting portals whose file says `ask`.
    pub without_permission: bool,
}

/// Visits the portals of a run.
pub(crate) struct ScraperStage {
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
    /// If a portal file is not valid, a portal is unknown, or the delay makes no sense.
    pub(crate) fn new(pool: PgPool, settings: Settings) -> Result<Self> {
        let portals = chosen(&settings)?;
        let fetcher = Fetcher::new(fetch_options(&settings, &portals)?).context("cannot make the fetcher")?;
        let (items, refused) = (AtomicU64::new(0), AtomicU64::new(0));
        Ok(Self { pool, portals, fetcher, settings, items, refused })
    }

    /// Returns whether the portal was asked, or an operator answers for the visit, or something
    /// else stands for the portal.
    fn may_visit(&self, portal: &Portal) -> bool {
        portal.permission != Permission::Ask
            || self.settings.without_permission
            || self.settings.base_url.is_some()
    }

    fn options(&self, country: &str, known: HashSet<String>) -> CrawlOptions {
        CrawlOptions {
            country: country.to_owned(),
            base_url: self.settings.base_url.clone(),
            queries: self.settings.queries.clone(),
            max_pages: self.settings.max_pages.or(Some(MOST_PAGES)),
            max_ads: self.settings.max_ads.or(Some(MOST_ADS)),
            known,
            without_permission: self.settings.without_permission,
            ..CrawlOptions::default()
        }
    }

    /// Visits one portal in one country, from where it was interrupted.
    async fn visit(&self, task: &Task, checkpoints: &Checkpoints) -> Outcome {
        let subject = &task.subject;
        let (name, country) = subject.split_once('/').ok_or_else(|| unknown(subject))?;
        let portal = self.portals.get(name).ok_or_else(|| unknown(subject))?;
        let mut connection = self.pool.acquire().await?;
        let known = match self.settings.reread {
            // What this run has read already needs no second look.
            true => visits::seen(&mut connection, task.run_id, name, country).await?,
            false => postings::external_ids(&mut connection, name, country).await?,
        };
        let accepted = countries::enabled(&mut connection).await?.into();
        // A visit may take hours, and each of its checkpoints takes a connection for itself.
        drop(connection);
        // A cursor that cannot be read, of another version say, costs a visit from the beginning
        // and no run.
        let from: Cursor = serde_json::from_value(task.payload.clone()).unwrap_or_default();
        let options =
            CrawlOptions { from: Some(from.clone()), ..self.options(country, known.into_iter().collect()) };
        // Room for what is read while a page is stored.
        let (sender, receiver) = mpsc::channel(64);
        let mut gathering = Gathering::new((task, checkpoints), (name, country), accepted, from);
        // When storing fails the receiver is dropped, and the crawl ends at its next find.
        let (report, gathered) =
            tokio::join!(crawl(portal, &options, &self.fetcher, sender), gathering.run(receiver));
        self.items.fetch_add(gathering.taken, Ordering::Relaxed);
        self.refused.fetch_add(gathering.refusals.len() as u64, Ordering::Relaxed);
        // Before the report, which would only say that the receiver is gone.
        gathered?;
        let visited = Effect::Visited {
            portal: name.to_owned(),
            country: country.to_owned(),
            problem: self.problem(subject, &report, &gathering.refusals),
            report: serde_json::to_value(VisitReport::new(&report, &gathering.refusals)).unwrap_or_default(),
        };
        match report.fate() {
            Fate::Done => Ok(visited),
            Fate::Away | Fate::Failed => {
                // Written all the same: the next try goes on from the cursor.
                checkpoints.write(task, visited, json!(gathering.cursor)).await?;
                Err(hindrance(subject, &report))
            }
        }
    }

    /// The problem of a visit that is over, for the run's reader.
    fn problem(&self, subject: &str, report: &CrawlReport, refusals: &[Refused]) -> Option<Problem> {
        // Why a visit failed is reported as the failure of its task.
        let trouble = report.trouble().filter(|_| report.fate() == Fate::Done);
        let limited = match report.stop {
            StopReason::PageLimit if self.settings.max_pages.is_none() => Some(("pages", "max_pages")),
            StopReason::AdLimit if self.settings.max_ads.is_none() => Some(("advertisements", "max_ads")),
            _ => None,
        };
        let text = match (trouble, refusals.first(), limited) {
            (Some(trouble), _, _) => trouble,
            (None, Some(refusal), _) => format!("refused {}: {refusal}", refusals.len()),
            (None, None, Some((what, setting))) => {
                format!("not all {what} were read; the setting {setting} allows more")
            }
            (None, None, None) => return None,
        };
        Some(Problem::of(StageName::Scrape, format!("{subject}: {text}")))
    }
}

/// The error of a visit that did not get what there was.
fn hindrance(subject: &str, report: &CrawlReport) -> StageError {
    let reason = format!("{subject}: {}", report.trouble().unwrap_or_default());
    match report.fate() {
        Fate::Away => {
            let (dependency, after) = (Dependency::Portal, report.come_back);
            StageError::Unavailable { dependency, reason, after }
        }
        Fate::Done | Fate::Failed => StageError::Fail(reason),
    }
}

fn unknown(subject: &str) -> StageError {
    StageError::Fail(format!("invalid subject `{subject}`: expected PORTAL/COUNTRY of this process"))
}

/// Returns whether a list of a run's options has a name; one that is empty has all.
fn wanted(list: &[String], name: &String) -> bool {
    list.is_empty() || list.contains(name)
}

impl Settings {
    /// An operator who visits portals names a contact; a stand-in for the portals needs none.
    ///
    /// # Errors
    /// If no contact is named, or one that nobody can use.
    pub(crate) fn check_contact(&self) -> Result<()> {
        const PLACE: &str = "modules.scraper.settings.contact";
        const WANTED: &str = "the web or e-mail address of the person who answers for the visits";
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
/// If a portal file is not valid or a portal is unknown.
pub(crate) fn chosen(settings: &Settings) -> Result<BTreeMap<String, Portal>> {
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

fn fetch_options(settings: &Settings, portals: &BTreeMap<String, Portal>) -> Result<FetchOptions> {
    let reach = Reach::public_and(&own_addresses(settings, portals)?);
    let mut options = FetchOptions { reach, max_retry_after: LONGEST_HOLD, ..FetchOptions::default() };
    if let Some(contact) = &settings.contact {
        options.user_agents = vec![honest_agent(Some(contact))];
    }
    if let Some(delay) = settings.delay {
        options.delay = Duration::try_from_secs_f64(delay).context("modules.scraper.settings.delay")?;
        // The throttle would bring a delay of its own.
        if delay == 0.0 {
            options.autothrottle = None;
        }
    }
    Ok(options)
}

/// The addresses to which the operator's `base_url` leads, by portal and country.
fn own_addresses(settings: &Settings, portals: &BTreeMap<String, Portal>) -> Result<Vec<Url>> {
    const PLACE: &str = "modules.scraper.settings.base_url";
    let Some(base_url) = settings.base_url.as_deref() else { return Ok(Vec::new()) };
    let mut own = Vec::new();
    for (name, portal) in portals {
        for (code, country) in &portal.countries {
            let base = Base::new(name, code, &country.base, Some(base_url)).context(PLACE)?;
            own.push(base.text().parse().context(PLACE)?);
        }
    }
    Ok(own)
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
        let (mut tasks, mut unasked) = (Vec::new(), Vec::new());
        for (name, portal) in self.portals.iter().filter(|(name, _)| wanted(&run.options.portals, name)) {
            for country in portal.countries.keys() {
                if !enabled.contains(country) || !wanted(&run.options.countries, country) {
                    continue;
                }
                let visit = format!("{name}/{country}");
                let list = if self.may_visit(portal) { &mut tasks } else { &mut unasked };
                list.push(visit);
            }
        }
        // A portal that nobody answers for is none of the run's work, as long as there is other
        // work.
        let problem = (!unasked.is_empty() && !tasks.is_empty()).then(|| {
            let text = format!("not visited, since nobody asked for permission: {}", unasked.join(", "));
            Problem::of(StageName::Scrape, text)
        });
        // Their crawls refuse, so that the run fails with the reason instead of finding no portal.
        if tasks.is_empty() {
            tasks = unasked;
        }
        let facts = ScrapeFacts {
            portals: self.portals.keys().cloned().collect(),
            base_url: self.settings.base_url.clone(),
        };
        Ok(Plan {
            problem,
            skipped: tasks.is_empty().then(|| "no portal matches the run's filters".to_owned()),
            tasks: tasks.into_iter().map(Subject::Other).collect(),
            facts: RunFacts { scrape: Some(facts), ..RunFacts::default() },
            ..Plan::default()
        })
    }

    fn works_singly(&self) -> bool {
        true
    }

    async fn process(&self, batch: &[Task], checkpoints: &Checkpoints) -> Result<Vec<Outcome>, StageError> {
        let visits = batch.iter().map(|task| self.visit(task, checkpoints));
        Ok(futures::future::join_all(visits).await)
    }

    async fn validate_input(&self) -> Result<(), StageError> {
        self.pool.acquire().await?;
        Ok(())
    }

    fn metrics(&self) -> BTreeMap<String, f64> {
        let counters = serde_json::to_value(self.fetcher.counters()).unwrap_or_default();
        // The counts by status are a table, which is not a number and drops out below.
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
