//! How the fetcher behaves.
//!
//! The defaults are polite: robots.txt is obeyed, a host is asked once a second under our own name,
//! and more slowly when it answers slowly.

use std::time::Duration;

use super::reach::Reach;

/// Name under which robots.txt files may address us.
pub const PRODUCT: &str = "LaborMarketObservatory";

/// Adapts the delay of a host to how fast it answers, as Scrapy's AutoThrottle does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct AutoThrottle {
    /// First delay.
    pub start: Duration,
    /// Longest delay.
    pub max: Duration,
    /// Requests in flight per host that are aimed at.
    pub target_concurrency: f64,
}

/// Behaviour of a [`super::Fetcher`]. The defaults are polite; every delay may be zero against a
/// host of one's own.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FetchOptions {
    /// One honest name; several are used in turn.
    pub user_agents: Vec<String>,
    /// Name looked up in robots.txt files.
    pub robots_agent: String,
    /// True if robots.txt is asked for and obeyed. Switching it off is an operator's decision and
    /// stands in the report.
    pub obey_robots: bool,
    /// Requests in flight to one host.
    pub per_host: usize,
    /// Requests in flight to all hosts.
    pub global: usize,
    /// Time between the starts of two requests to one host.
    pub delay: Duration,
    /// True if the delay is multiplied by a random factor from 0.5 to 1.5.
    pub randomize: bool,
    /// Adapts the delay; fixed when absent.
    pub autothrottle: Option<AutoThrottle>,
    /// Tries of a request, the first one included.
    pub max_tries: u32,
    /// Longest random wait before the second try; doubles with every further try, up to a minute.
    pub backoff: Duration,
    /// Longest `Retry-After` that is waited for; a host that asks for more is left alone for the
    /// run.
    pub max_retry_after: Duration,
    /// Time for which a host that refuses us is left alone.
    pub blocked_for: Duration,
    /// Redirects followed.
    pub max_redirects: usize,
    /// Decoded bytes of an answer at most.
    pub max_bytes: usize,
    /// Time to connect.
    pub connect_timeout: Duration,
    /// Time without any byte.
    pub read_timeout: Duration,
    /// Time for a whole answer.
    pub total_timeout: Duration,
    /// Time for the whole answer to a request for robots.txt.
    pub robots_timeout: Duration,
    /// True if `HTTP_PROXY` and the like are read from the environment.
    pub proxy: bool,
    /// Which addresses may be connected to.
    pub reach: Reach,
}

impl Default for FetchOptions {
    fn default() -> Self {
        Self {
            user_agents: vec![honest_agent(None)],
            robots_agent: PRODUCT.to_owned(),
            obey_robots: true,
            per_host: 8,
            global: 16,
            delay: Duration::from_secs(1),
            randomize: true,
            autothrottle: Some(AutoThrottle {
                start: Duration::from_secs(1),
                max: Duration::from_secs(10),
                target_concurrency: 8.0,
            }),
            max_tries: 4,
            backoff: Duration::from_secs(2),
            max_retry_after: Duration::from_secs(15 * 60),
            blocked_for: Duration::from_secs(6 * 3_600),
            max_redirects: 10,
            max_bytes: 8 * 1024 * 1024,
            connect_timeout: Duration::from_secs(10),
            read_timeout: Duration::from_secs(20),
            total_timeout: Duration::from_secs(60),
            robots_timeout: Duration::from_secs(15),
            proxy: true,
            reach: Reach::public_and(&[]),
        }
    }
}

impl FetchOptions {
    /// No delays and any address: for the hosts that unit tests start.
    #[cfg(test)]
    pub(crate) fn unhurried() -> Self {
        Self {
            delay: Duration::ZERO,
            autothrottle: None,
            backoff: Duration::from_millis(1),
            proxy: false,
            reach: Reach::Anywhere,
            ..Self::default()
        }
    }

    /// The first mistake in the options, naming the option and what is allowed.
    pub(super) fn mistake(&self) -> Option<String> {
        if self.user_agents.is_empty() || !self.user_agents.iter().all(|agent| is_header(agent)) {
            return Some("user_agents needs at least one text of printable ASCII characters".to_owned());
        }
        let numbers = [
            ("per_host", self.per_host),
            ("global", self.global),
            ("max_tries", self.max_tries as usize),
            ("max_bytes", self.max_bytes),
        ];
        if let Some((name, _)) = numbers.into_iter().find(|(_, number)| *number == 0) {
            return Some(format!("{name} is 0, expected at least 1"));
        }
        // Latencies are divided by it.
        let target = self.autothrottle.map_or(1.0, |throttle| throttle.target_concurrency);
        (!(target.is_finite() && target > 0.0))
            .then(|| format!("autothrottle.target_concurrency is {target}, expected a number above 0"))
    }
}

fn is_header(agent: &str) -> bool {
    // Any other byte would fail as a header value, at every request.
    !agent.is_empty() && agent.bytes().all(|b| (0x20..0x7f).contains(&b))
}

/// The name we give ourselves, with an address where we can be reached when there is one.
pub(crate) fn honest_agent(contact: Option<&str>) -> String {
    let version = env!("CARGO_PKG_VERSION");
    match contact {
        Some(contact) => format!("{PRODUCT}/{version} (+{contact})"),
        None => format!("{PRODUCT}/{version}"),
    }
}
