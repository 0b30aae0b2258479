//! One request and its answer; the only place that knows the HTTP client.
//!
//! Follows no redirect and tries nothing twice: that is decided above. Never connects to an address
//! inside the operator's network unless the operator named it, and never reads more than the limit.

use std::{borrow::Cow, error::Error, sync::Arc, time::Duration, time::Instant};

use chrono::{DateTime, Utc};
use reqwest::{
    Client, ClientBuilder, Response,
    dns::{Addrs, Name, Resolve, Resolving},
    header, redirect,
};
use url::{Host, Url};

use super::{
    Request,
    options::FetchOptions,
    pace,
    reach::{Inside, Lookup, Reach, check_literal, public_of},
};
use crate::scraper::portal::Method;

/// Bytes of an answer that are looked through for marks of a refusal: as many as
/// [`crate::scraper::blocked`] reads.
const MARKED_BYTES: usize = 256 * 1024;

/// An answer with its whole body.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// From the start of the request to the headers.
    pub(super) latency: Duration,
    pub(super) content_type: String,
    pub(super) location: Option<String>,
    pub(super) retry_after: Option<Duration>,
    /// Cloudflare says itself that this is a challenge.
    pub(super) mitigated: bool,
    pub(super) date: DateTime<Utc>,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn is_redirect(&self) -> bool {
        matches!(self.status, 301 | 302 | 303 | 307 | 308)
    }

    /// The beginning of the body; marks are ASCII, so that the charset does not matter.
    pub(super) fn window(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.body[..self.body.len().min(MARKED_BYTES)])
    }
}

/// The reason for a missing answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    #[error("no answer in time")]
    Timeout,
    /// Holds the beginning that was read.
    #[error("the answer is too large")]
    TooLarge(Vec<u8>),
    #[error(transparent)]
    Inside(Inside),
    #[error("{0}")]
    Network(String),
    #[error("refused: {0}")]
    Blocked(String),
    #[error("asked to come back in {} s", .0.as_secs())]
    Parked(Duration),
}

impl Failure {
    pub(super) const fn is_transient(&self) -> bool {
        matches!(self, Self::Timeout | Self::Network(_))
    }
}

/// The HTTP client.
pub(super) struct Wire {
    /// Connects to public addresses only.
    guarded: Client,
    /// Connects to what the operator named.
    own: Client,
    reach: Reach,
    lookup: Lookup,
    /// Names of the proxies that connect in our place.
    proxies: Vec<String>,
    headers_timeout: Duration,
    max_bytes: usize,
}

impl Wire {
    pub(super) fn new(options: &FetchOptions, lookup: &Lookup) -> Result<Self, String> {
        observatory_client::install_crypto_provider();
        let proxies = if options.proxy { proxies(std::env::vars()) } else { Vec::new() };
        Ok(Self {
            guarded: client(options, Guard { lookup: lookup.clone(), exempt: Some(proxies.clone()) })?,
            own: client(options, Guard { lookup: lookup.clone(), exempt: None })?,
            reach: options.reach.clone(),
            lookup: lookup.clone(),
            proxies,
            headers_timeout: options.read_timeout,
            max_bytes: options.max_bytes,
        })
    }

    /// The client for an address, if it may be asked for at all.
    async fn client(&self, url: &Url) -> Result<&Client, Inside> {
        if self.reach.is_own(url) {
            return Ok(&self.own);
        }
        check_literal(url)?;
        // A proxy looks the name up by itself; what is known here as an inner one is not handed to
        // it.
        if let (false, Some(Host::Domain(name))) = (self.proxies.is_empty(), url.host())
            && let Ok(addresses) = (self.lookup)(name.to_owned()).await
        {
            public_of(name, addresses)?;
        }
        Ok(&self.guarded)
    }

    pub(super) async fn send(
        &self,
        request: &Request,
        agent: &str,
        timeout: Duration,
    ) -> Result<Answer, Failure> {
        let client = self.client(&request.url).await.map_err(Failure::Inside)?;
        let mut outgoing = match request.method {
            Method::Get => client.get(request.url.clone()),
            Method::Post => client.post(request.url.clone()),
        };
        outgoing = outgoing.header(header::USER_AGENT, agent).timeout(timeout);
        for (name, value) in &request.headers {
            outgoing = outgoing.header(name, value);
        }
        if let Some(body) = &request.body {
            outgoing = outgoing.body(body.clone());
        }
        let started = Instant::now();
        // The client's own limit is one for the whole answer: a host that says nothing would use it
        // up.
        let headers = tokio::time::timeout(self.headers_timeout.min(timeout), outgoing.send());
        let response = headers.await.map_err(|_| Failure::Timeout)?.map_err(|error| failure(&error))?;
        let latency = started.elapsed();
        let mut answer = head(&response, latency);
        answer.body = self.body(response).await?;
        Ok(answer)
    }

    /// The decoded body, as long as it is not too large: a compressed one is measured unpacked.
    async fn body(&self, mut response: Response) -> Result<Vec<u8>, Failure> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| failure(&error))? {
            let room = self.max_bytes - body.len();
            if chunk.len() > room {
                body.extend_from_slice(&chunk[..room]);
                return Err(Failure::TooLarge(body));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wire")
            .field("reach", &self.reach)
            .field("proxies", &self.proxies)
            .finish_non_exhaustive()
    }
}

/// Host names of the proxies that the environment names.
fn proxies(variables: impl Iterator<Item = (String, String)>) -> Vec<String> {
    let names = ["all_proxy", "http_proxy", "https_proxy"];
    let values =
        variables.filter(|(name, _)| names.contains(&name.to_lowercase().as_str())).map(|(_, value)| value);
    values.filter_map(|value| Some(proxy(&value)?.host_str()?.to_owned())).collect()
}

/// The address of a proxy, which may be written without a scheme.
fn proxy(value: &str) -> Option<Url> {
    Url::parse(value).ok().filter(Url::has_host).or_else(|| Url::parse(&format!("http://{value}")).ok())
}

/// Gives names their addresses, less those that are not public.
struct Guard {
    lookup: Lookup,
    /// Names that may have any address: those of proxies. All may when absent.
    exempt: Option<Vec<String>>,
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let name = name.as_str().to_owned();
        let judged = self.exempt.as_ref().is_some_and(|exempt| !exempt.contains(&name));
        let addresses = (self.lookup)(name.clone());
        Box::pin(async move {
            let addresses = addresses.await?;
            let addresses = if judged { public_of(&name, addresses)? } else { addresses };
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

fn client(options: &FetchOptions, guard: Guard) -> Result<Client, String> {
    let guard = Arc::new(guard);
    builder(options, guard.clone()).build().or_else(|error| {
        // A bare container holds no certificates; plain HTTP works without them.
        tracing::warn!(error.message = %chain(&error), "no system certificates, https will fail");
        builder(options, guard).tls_certs_only([]).build().map_err(|error| chain(&error))
    })
}

fn builder(options: &FetchOptions, guard: Arc<Guard>) -> ClientBuilder {
    let builder = Client::builder()
        // Followed by the fetcher, which asks robots.txt at every hop.
        .redirect(redirect::Policy::none())
        .referer(false)
        .dns_resolver(guard)
        .connect_timeout(options.connect_timeout)
        .read_timeout(options.read_timeout);
    // The client takes proxies from the environment by default.
    if options.proxy { builder } else { builder.no_proxy() }
}

fn head(response: &Response, latency: Duration) -> Answer {
    let now = Utc::now();
    // The portal's own clock, from which its relative days are counted.
    let date = header_text(response, "date").and_then(|date| DateTime::parse_from_rfc2822(&date).ok());
    Answer {
        status: response.status().as_u16(),
        latency,
        content_type: header_text(response, "content-type").unwrap_or_default(),
        location: header_text(response, "location"),
        retry_after: header_text(response, "retry-after").and_then(|value| pace::retry_after(&value, now)),
        mitigated: header_text(response, "cf-mitigated").is_some(),
        date: date.map_or(now, |date| date.with_timezone(&Utc)),
        body: Vec::new(),
    }
}

/// Header values may hold any bytes; a broken one is read as far as it goes.
fn header_text(response: &Response, name: &str) -> Option<String> {
    let value = response.headers().get(name)?;
    Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
}

fn failure(error: &reqwest::Error) -> Failure {
    let mut cause: Option<&(dyn Error + 'static)> = error.source();
    // The client wraps the resolver's error, so the refusal lies somewhere down the chain.
    while let Some(one) = cause {
        if let Some(inside) = one.downcast_ref::<Inside>() {
            return Failure::Inside(inside.clone());
        }
        cause = one.source();
    }
    if error.is_timeout() { Failure::Timeout } else { Failure::Network(chain(error)) }
}

/// The innermost causes say what went wrong; the outermost only repeats the address.
fn chain(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut source = error.source();
    while let Some(cause) = source {
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    if text.is_empty() { error.to_string() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_are_known_by_name() {
        let check = |name: &str, value: &str, expected: &[&str]| {
            let variables = [(name.to_owned(), value.to_owned())];
            assert_eq!(proxies(variables.into_iter()), expected, "{name}={value}");
        };
        check("HTTP_PROXY", "http://me:secret@proxy.inside:3128", &["proxy.inside"]);
        check("https_proxy", "proxy.inside:3128", &["proxy.inside"]);
        check("ALL_PROXY", "proxy", &["proxy"]);
        check("NO_PROXY", "portal.example", &[]);
        check("HTTP_PROXY", "", &[]);
    }
}
