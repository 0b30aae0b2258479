//! Who asked for what and when: the judge of a reader's manners.
//!
//! Tests read its figures at `/_simulator/`: pace, concurrency, retries that come too early, and
//! paths that robots.txt forbids.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use serde::Serialize;

use super::{robots, site::Site};

/// One answered request.
#[derive(Debug, Clone, Serialize)]
pub struct LoggedRequest {
    /// Since the start of the simulator, milliseconds.
    pub arrived_ms: f64,
    /// Address and user agent of the client.
    pub client: String,
    /// HTTP method.
    pub method: String,
    /// Path with its query.
    pub path: String,
    /// The site, `portal:CC`; none outside of them.
    pub site: Option<String>,
    /// Status of the answer.
    pub status: u16,
}

/// Figures over all requests since the start; requests for `/_simulator/` are not counted.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Stats {
    /// Requests.
    pub requests: u64,
    /// Requests by status of the answer.
    pub by_status: BTreeMap<u16, u64>,
    /// Requests by site, `portal:CC`; `none` outside of them.
    pub by_site: BTreeMap<String, u64>,
    /// Requests for robots.txt.
    pub robots_requests: u64,
    /// Requests that robots.txt forbids.
    pub robots_violations: u64,
    /// Their paths, the first hundred.
    pub forbidden_paths: Vec<String>,
    /// Requests for a path that was answered 429, before its `Retry-After` was over.
    pub early_retries: u64,
    /// Most requests that were being answered at one time, per site and for `all`. Answers take
    /// well under a millisecond: only with the fault `slow` does this show how many a client sends
    /// at once.
    pub max_concurrent: BTreeMap<String, usize>,
    /// Least time between the arrivals of two requests of a client at a site (robots.txt aside),
    /// milliseconds: client, then site, or `all` for any of them: to a client that slots by host,
    /// all sites are one host.
    pub min_interval_ms: BTreeMap<String, BTreeMap<String, f64>>,
}

/// A request when it arrives.
pub(crate) struct Arrival {
    pub(crate) client: String,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) site: Option<Site>,
}

/// A request that is being answered.
pub(crate) struct Open {
    arrival: Arrival,
    at: Duration,
}

/// Name for all sites together.
const ALL: &str = "all";

/// Forbidden paths that are named. Not tuned: the number of all is in the figures.
const MOST_PATHS_NAMED: usize = 100;

pub(crate) struct Log {
    start: Instant,
    requests: Vec<LoggedRequest>,
    stats: Stats,
    open: HashMap<String, usize>,
    last_arrival: HashMap<(String, String), Duration>,
    not_before: HashMap<(String, String), Duration>,
}

impl Log {
    pub(crate) fn new() -> Self {
        Self {
            start: Instant::now(),
            requests: Vec::new(),
            stats: Stats::default(),
            open: HashMap::new(),
            last_arrival: HashMap::new(),
            not_before: HashMap::new(),
        }
    }

    pub(crate) fn arrive(&mut self, arrival: Arrival) -> Open {
        self.arrive_at(arrival, self.start.elapsed())
    }

    fn arrive_at(&mut self, arrival: Arrival, at: Duration) -> Open {
        self.stats.requests += 1;
        let site = name(arrival.site);
        *self.stats.by_site.entry(site.clone()).or_default() += 1;
        for scope in [ALL, &site] {
            let open = self.open.entry(scope.to_owned()).or_default();
            *open += 1;
            let most = self.stats.max_concurrent.entry(scope.to_owned()).or_default();
            *most = (*most).max(*open);
        }
        // Every reader has to ask for it, and may do so at once.
        if arrival.path.ends_with("/robots.txt") {
            self.stats.robots_requests += 1;
        } else {
            self.judge(&arrival, site, at);
        }
        Open { arrival, at }
    }

    fn judge(&mut self, arrival: &Arrival, site: String, at: Duration) {
        if let Some((site, inside)) = Site::of_path(&arrival.path)
            && !robots::allows(site.portal, inside)
        {
            self.stats.robots_violations += 1;
            if self.stats.forbidden_paths.len() < MOST_PATHS_NAMED {
                self.stats.forbidden_paths.push(arrival.path.clone());
            }
        }
        let retried = (arrival.client.clone(), arrival.path.clone());
        // Removed: only the first retry can be early, later ones are judged by their own answer.
        if self.not_before.remove(&retried).is_some_and(|not_before| at < not_before) {
            self.stats.early_retries += 1;
        }
        for scope in [ALL.to_owned(), site] {
            if let Some(last) = self.last_arrival.insert((arrival.client.clone(), scope.clone()), at) {
                let gap = (at - last).as_secs_f64() * 1_000.0;
                let gaps = self.stats.min_interval_ms.entry(arrival.client.clone()).or_default();
                let least = gaps.entry(scope).or_insert(gap);
                *least = least.min(gap);
            }
        }
    }

    pub(crate) fn answered(&mut self, open: Open, status: u16, retry_after: Option<u32>) {
        let Open { arrival, at } = open;
        for scope in [ALL.to_owned(), name(arrival.site)] {
            self.open.entry(scope).and_modify(|count| *count -= 1);
        }
        *self.stats.by_status.entry(status).or_default() += 1;
        if let Some(seconds) = retry_after {
            // From the arrival, in favour of the reader, which cannot begin to wait before the
            // answer.
            let until = at + Duration::from_secs(u64::from(seconds));
            self.not_before.insert((arrival.client.clone(), arrival.path.clone()), until);
        }
        self.requests.push(LoggedRequest {
            arrived_ms: at.as_secs_f64() * 1_000.0,
            client: arrival.client,
            method: arrival.method,
            path: arrival.path,
            site: arrival.site.map(|site| site.to_string()),
            status,
        });
    }

    pub(crate) fn stats(&self) -> Stats {
        self.stats.clone()
    }

    pub(crate) fn requests(&self) -> Vec<LoggedRequest> {
        self.requests.clone()
    }
}

fn name(site: Option<Site>) -> String {
    site.map_or_else(|| "none".to_owned(), |site| site.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrival(path: &str) -> Arrival {
        let site = Site::of_path(path).map(|(site, _)| site);
        Arrival { client: "c".to_owned(), method: "GET".to_owned(), path: path.to_owned(), site }
    }

    #[test]
    fn counts_manners() {
        let mut log = Log::new();
        let at = Duration::from_millis;
        let robots = log.arrive_at(arrival("/robots.txt"), at(0));
        log.answered(robots, 200, None);
        let first = log.arrive_at(arrival("/bumeran/ar/x"), at(10));
        let second = log.arrive_at(arrival("/bumeran/ar/postulantes/y"), at(400));
        log.answered(first, 429, Some(2));
        log.answered(second, 404, None);
        let other = log.arrive_at(arrival("/bumeran/mx/x"), at(440));
        log.answered(other, 200, None);
        let early = log.arrive_at(arrival("/bumeran/ar/x"), at(1_000));
        log.answered(early, 429, Some(2));
        let kept = log.arrive_at(arrival("/bumeran/ar/x"), at(3_000));
        log.answered(kept, 200, None);
        let stats = log.stats();
        assert_eq!((stats.requests, stats.robots_requests, stats.robots_violations), (6, 1, 1));
        assert_eq!(stats.forbidden_paths, ["/bumeran/ar/postulantes/y"]);
        assert_eq!(stats.early_retries, 1);
        assert_eq!(stats.max_concurrent["bumeran:AR"], 2);
        assert!((stats.min_interval_ms["c"]["bumeran:AR"] - 390.0).abs() < 1e-6);
        assert!((stats.min_interval_ms["c"]["all"] - 40.0).abs() < 1e-6);
        assert_eq!(stats.by_status, BTreeMap::from([(200, 3), (404, 1), (429, 2)]));
        assert_eq!(log.requests().len(), 6);
    }
}
