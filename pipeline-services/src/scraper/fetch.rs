//! The polite fetcher: who we are, what robots.txt says, how fast, how often again, when to stop.
//!
//! A host that refuses us is left alone; nothing here gets around a refusal.

mod charset;
mod counters;
mod error;
mod host;
mod options;
mod pace;
mod reach;
mod wire;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use tokio::sync::Semaphore;
use url::{Host as UrlHost, Url};

use super::{
    address::{authority, canonical},
    blocked,
    portal::Method,
    robots::Robots,
};
use counters::Tally;
use host::Host;
use wire::{Answer, Failure, Wire};

pub(crate) use counters::{Counters, FetchCounters};
pub(crate) use error::FetchError;
pub use options::PRODUCT;
pub(crate) use options::{FetchOptions, honest_agent};
#[cfg(test)]
pub(super) use reach::Lookup;
pub(crate) use reach::Reach;

/// Age at which a robots.txt is asked for again (RFC 9309 §2.4).
const ROBOTS_TTL: Duration = Duration::from_secs(24 * 3_600);
/// The same for one that could not be fetched. A choice: short, since nothing of the host is read
/// until then.
const UNREACHABLE_TTL: Duration = Duration::from_secs(600);
/// Redirects followed for robots.txt (RFC 9309 §2.3.1.2).
const ROBOTS_REDIRECTS: usize = 5;

/// A request for a page.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// Method.
    pub method: Method,
    /// Address.
    pub url: Url,
    /// Headers besides our own.
    pub headers: BTreeMap<String, String>,
    /// Body of a POST.
    pub body: Option<String>,
    /// Hosts that redirects may lead to.
    pub hosts: Vec<String>,
    /// Least time between two requests to the host.
    pub min_delay: Duration,
}

/// A page that was had.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    /// Address after redirects.
    pub url: Url,
    /// Decoded text.
    pub text: String,
    /// The answer's own date, or when it came.
    pub answered: DateTime<Utc>,
}

/// Fetches pages; shared by all crawls of a process, so that a host sees one visitor.
#[derive(Debug)]
pub(crate) struct Fetcher {
    wire: Wire,
    options: FetchOptions,
    hosts: Mutex<HashMap<String, Arc<Host>>>,
    global: Semaphore,
    next_agent: AtomicUsize,
    total: Counters,
}

/// A fetcher that cannot be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetcherError {
    /// An option is out of range.
    #[error("fetcher options: {0}")]
    Options(String),
    /// The HTTP client cannot be set up.
    #[error("cannot set up the HTTP client: {0}")]
    Client(String),
}

impl Fetcher {
    /// A fetcher with its own connections.
    ///
    /// # Errors
    /// If an option is out of range or the client cannot be set up.
    pub(crate) fn new(options: FetchOptions) -> Result<Self, FetcherError> {
        Self::resolving(options, reach::system())
    }

    /// The same with names that mean what `lookup` says.
    pub(super) fn resolving(options: FetchOptions, lookup: reach::Lookup) -> Result<Self, FetcherError> {
        if let Some(mistake) = options.mistake() {
            return Err(FetcherError::Options(mistake));
        }
        let wire = Wire::new(&options, &lookup).map_err(FetcherError::Client)?;
        let global = Semaphore::new(options.global);
        Ok(Self {
            wire,
            global,
            hosts: Mutex::default(),
            next_agent: AtomicUsize::new(0),
            total: Counters::default(),
            options,
        })
    }

    /// Its options.
    pub(crate) fn options(&self) -> &FetchOptions {
        &self.options
    }

    /// Numbers since the fetcher was made.
    pub(crate) fn counters(&self) -> FetchCounters {
        self.total.read()
    }

    /// Fetches a page politely; what happens is also added to `own`.
    ///
    /// # Errors
    /// The reason why the page could not be fetched.
    pub(crate) async fn fetch(&self, request: &Request, own: &Counters) -> Result<Page, FetchError> {
        let tally = Tally { total: &self.total, own };
        let mut hop = request.clone();
        let mut visited = vec![canonical(&hop.url)];
        loop {
            let host = self.host(&hop.url);
            // Several portals may share a host; the slowest pace that any of them asks for holds.
            host.raise(request.min_delay);
            // At every hop: a redirect may lead to a path, or a host, that its own robots.txt
            // closes.
            self.ask_robots(&host, &hop, tally).await?;
            let answer = self.patiently(&host, &hop, self.options.total_timeout, tally).await?;
            if !answer.is_redirect() {
                return page(&hop.url, answer);
            }
            let next = self.follow(&hop, &answer)?;
            if visited.contains(&canonical(&next)) || visited.len() > self.options.max_redirects {
                let reason = format!("in circles or more than {} times", self.options.max_redirects);
                return Err(FetchError::Redirect { url: request.url.to_string(), reason });
            }
            visited.push(canonical(&next));
            tally.add(|counters| counters.redirects += 1);
            // Only 307 and 308 keep method and body (RFC 9110, 15.4); browsers turn the others into
            // GET, and portals count on it.
            if !matches!(answer.status, 307 | 308) {
                (hop.method, hop.body) = (Method::Get, None);
            }
            hop.url = next;
        }
    }

    /// Leaves a host alone from now on: one of its pages turned out to be a refusal.
    pub(crate) fn block(&self, url: &Url, reason: &'static str, own: &Counters) {
        Tally { total: &self.total, own }.add(|counters| counters.blocked += 1);
        self.host(url).block(reason);
    }

    fn host(&self, url: &Url) -> Arc<Host> {
        // With the scheme: a robots.txt is that of a scheme, a host and a port.
        let origin = format!("{}://{}", url.scheme(), authority(url));
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.entry(origin).or_insert_with(|| Arc::new(Host::new(authority(url), &self.options))).clone()
    }

    /// Target of a redirect, if it may be followed there.
    fn follow(&self, hop: &Request, answer: &Answer) -> Result<Url, FetchError> {
        let Some(location) = &answer.location else {
            return Err(refuse(hop, "without saying where to".to_owned()));
        };
        let Ok(next) = hop.url.join(location.trim()) else {
            return Err(refuse(hop, format!("to `{location}`, which is not an address")));
        };
        if hop.url.scheme() == "https" && next.scheme() != "https" {
            return Err(refuse(hop, format!("from https to {next}")));
        }
        let same = authority(&next) == authority(&hop.url);
        if !matches!(next.scheme(), "http" | "https") || !(same || hop.hosts.contains(&authority(&next))) {
            return Err(refuse(hop, format!("off the portal to {next}")));
        }
        Ok(next)
    }

    async fn ask_robots(&self, host: &Host, hop: &Request, tally: Tally<'_>) -> Result<(), FetchError> {
        if !self.options.obey_robots {
            return Ok(());
        }
        let robots = self
            .robots(host, &hop.url, tally)
            .await
            .map_err(|reason| FetchError::RobotsUnreachable { host: host.name.clone(), reason })?;
        // A rule may reach into the query, as `/*?page=` does.
        let query = hop.url.query().map(|query| format!("?{query}")).unwrap_or_default();
        if robots.allows(&format!("{}{query}", hop.url.path())) {
            return Ok(());
        }
        tally.add(|counters| counters.robots_denied += 1);
        Err(FetchError::RobotsDenied { url: hop.url.to_string() })
    }

    /// The rules of a host, or why they cannot be fetched. Only one request asks; the others wait
    /// for it.
    async fn robots(&self, host: &Host, url: &Url, tally: Tally<'_>) -> Result<Arc<Robots>, String> {
        let mut cached = host.robots.lock().await;
        if let Some((until, verdict)) = &*cached
            && *until > Instant::now()
        {
            return verdict.clone();
        }
        let verdict = self.fetch_robots(host, url, tally).await.map(Arc::new);
        let ttl = if verdict.is_ok() { ROBOTS_TTL } else { UNREACHABLE_TTL };
        if let Ok(robots) = &verdict
            && let Some(delay) = robots.crawl_delay
        {
            host.obey(delay);
        }
        *cached = Some((Instant::now() + ttl, verdict.clone()));
        verdict
    }

    async fn fetch_robots(&self, host: &Host, url: &Url, tally: Tally<'_>) -> Result<Robots, String> {
        let mut target = url.join("/robots.txt").map_err(|error| error.to_string())?;
        for _ in 0..=ROBOTS_REDIRECTS {
            let request = Request {
                method: Method::Get,
                url: target.clone(),
                headers: BTreeMap::new(),
                body: None,
                hosts: Vec::new(),
                min_delay: Duration::ZERO,
            };
            let answer = self.tries(host, &request, self.options.robots_timeout, tally).await;
            let answer = match answer {
                // What is longer than a page may be is cut off by the parser anyway.
                Err(Failure::TooLarge(beginning)) => return Ok(self.parse_robots(&beginning)),
                answer => answer.map_err(|failure| failure.to_string())?,
            };
            match answer.status {
                200..=299 => return Ok(self.parse_robots(&answer.body)),
                // RFC 9309 counts 429 among the 4xx, which allow everything; a host that is too
                // busy has not said that.
                429 | 500..=599 => return Err(format!("status {}", answer.status)),
                300..=399 => match answer.location.as_deref().and_then(|to| robots_target(&target, to)) {
                    Some(next) => target = next,
                    None => return Ok(Robots::allow_all()),
                },
                _ => return Ok(Robots::allow_all()),
            }
        }
        // More redirects count as a file that is not there (RFC 9309 §2.3.1.2).
        Ok(Robots::allow_all())
    }

    fn parse_robots(&self, body: &[u8]) -> Robots {
        Robots::parse(body, &self.options.robots_agent)
    }

    /// The answer to a request after as many tries as allowed, if it is one that can be used.
    async fn patiently(
        &self,
        host: &Host,
        request: &Request,
        timeout: Duration,
        tally: Tally<'_>,
    ) -> Result<Answer, FetchError> {
        let url = || request.url.to_string();
        let answer = self.tries(host, request, timeout, tally).await.map_err(|failure| match failure {
            Failure::Timeout => FetchError::Timeout { url: url() },
            Failure::TooLarge(_) => FetchError::TooLarge { url: url(), limit: self.options.max_bytes },
            Failure::Inside(inside) => FetchError::Inside { url: url(), reason: inside.to_string() },
            Failure::Network(reason) => FetchError::Network { url: url(), reason },
            Failure::Blocked(reason) => FetchError::Blocked { host: host.name.clone(), reason },
            Failure::Parked(after) => FetchError::Parked { host: host.name.clone(), after },
        })?;
        let refusal = blocked::refusal(answer.status, answer.mitigated, &answer.window());
        if let Some(reason) = refusal {
            tally.add(|counters| counters.blocked += 1);
            host.block(reason);
            return Err(FetchError::Blocked { host: host.name.clone(), reason: reason.to_owned() });
        }
        match answer.status {
            200..=299 | 301 | 302 | 303 | 307 | 308 => Ok(answer),
            status @ (404 | 410) => Err(FetchError::Gone { url: url(), status }),
            status => Err(FetchError::Status { url: url(), status }),
        }
    }

    async fn tries(
        &self,
        host: &Host,
        request: &Request,
        timeout: Duration,
        tally: Tally<'_>,
    ) -> Result<Answer, Failure> {
        let mut tried = 0;
        loop {
            let outcome = self.attempt(host, request, timeout, tally).await;
            tried += 1;
            let again = match &outcome {
                Ok(answer) => {
                    // A challenge may come with status 503, and asking again does not answer it.
                    pace::is_transient(answer.status)
                        && blocked::refusal(answer.status, answer.mitigated, &answer.window()).is_none()
                }
                Err(failure) => failure.is_transient(),
            };
            if !again {
                return outcome;
            }
            let asked = outcome.as_ref().ok().and_then(|answer| answer.retry_after);
            if let Some(after) = asked.filter(|after| *after > self.options.max_retry_after) {
                // The whole host: other requests to it would get the same answer.
                host.park(after);
                return Err(Failure::Parked(after));
            }
            if matches!(&outcome, Ok(Answer { status: 429 | 503, .. })) {
                host.slow_down();
            }
            let wait = asked.unwrap_or_else(|| pace::backoff(self.options.backoff, tried, fastrand::f64()));
            // Before giving up: the pause is the host's and holds for other requests to it.
            if asked.is_some() {
                host.hold(wait);
            }
            if tried >= self.options.max_tries {
                return outcome;
            }
            tally.add(|counters| counters.retries += 1);
            pause(wait, tally).await;
        }
    }

    /// One request in its turn.
    async fn attempt(
        &self,
        host: &Host,
        request: &Request,
        timeout: Duration,
        tally: Tally<'_>,
    ) -> Result<Answer, Failure> {
        let _of_host = host.permits.acquire().await.map_err(|error| Failure::Network(error.to_string()))?;
        host.check()?;
        pause(host.reserve(), tally).await;
        // Again: the host may have refused another request meanwhile.
        host.check()?;
        // Only now: a request that waits for its turn at one host must not take the place of one to
        // another.
        let _of_all = self.global.acquire().await.map_err(|error| Failure::Network(error.to_string()))?;
        let agent = self.next_agent.fetch_add(1, Ordering::Relaxed) % self.options.user_agents.len();
        tally.add(|counters| counters.requests += 1);
        let outcome = self.wire.send(request, &self.options.user_agents[agent], timeout).await;
        tally.add(|counters| match &outcome {
            Ok(answer) => {
                *counters.by_status.entry(answer.status).or_default() += 1;
                counters.bytes += answer.body.len() as u64;
            }
            Err(Failure::Timeout) => counters.timeouts += 1,
            Err(Failure::TooLarge(_)) => counters.too_large += 1,
            Err(_) => counters.network_errors += 1,
        });
        if let Ok(answer) = &outcome {
            host.adapt(answer.latency, answer.status);
        }
        outcome
    }
}

/// A redirect that is not followed.
fn refuse(hop: &Request, reason: String) -> FetchError {
    FetchError::Redirect { url: hop.url.to_string(), reason }
}

async fn pause(wait: Duration, tally: Tally<'_>) {
    if !wait.is_zero() {
        let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        tally.add(|counters| counters.waited_ms += millis);
        tokio::time::sleep(wait).await;
    }
}

/// Target of a robots.txt's redirect; another host must have a name, whose address is judged when
/// it is connected to.
fn robots_target(from: &Url, location: &str) -> Option<Url> {
    let next = from.join(location.trim()).ok().filter(|next| matches!(next.scheme(), "http" | "https"))?;
    let named = matches!(next.host(), Some(UrlHost::Domain(name)) if name.contains('.'));
    (authority(&next) == authority(from) || named).then_some(next)
}

fn page(url: &Url, answer: Answer) -> Result<Page, FetchError> {
    let kind = answer.content_type.split(';').next().unwrap_or_default().trim().to_lowercase();
    let text = kind.is_empty() || kind.starts_with("text/");
    // By a part of the name, for `application/ld+json` and `application/xhtml+xml`.
    if !text && !["json", "html", "xml"].iter().any(|name| kind.contains(name)) {
        return Err(FetchError::NotText { url: url.to_string(), content_type: kind });
    }
    let text = charset::decode(&answer.body, &answer.content_type);
    Ok(Page { url: url.clone(), text, answered: answer.date })
}
