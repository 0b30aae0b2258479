//! One request and its answer; the only place that knows the HTTP client.

use std::{borrow::Cow, error::Error, time::Duration, time::Instant};

use chrono::{DateTime, Utc};
use reqwest::{Client, ClientBuilder, Response, header, redirect};

use super::{Request, options::FetchOptions, pace};
use crate::scraper::portal::Method;

/// Bytes of an answer that are looked through for marks of a refusal.
const WINDOW: usize = 256 * 1024;

/// An answer with its whole body.
#[derive(Clone, Debug)]
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
        String::from_utf8_lossy(&self.body[..self.body.len().min(WINDOW)])
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum Failure {
    #[error("no answer in time")]
    Timeout,
    /// Holds the beginning that was read.
    #[error("the answer is too large")]
    TooLarge(Vec<u8>),
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
#[derive(Debug)]
pub(super) struct Wire {
    client: Client,
    headers_timeout: Duration,
    max_bytes: usize,
}

impl Wire {
    pub(super) fn new(options: &FetchOptions) -> Result<Self, String> {
        // Fails only where a provider is installed already, which then serves.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = match builder(options).build() {
            Ok(client) => client,
            Err(error) => {
                // A bare container holds no certificates: http can be had all the same.
                tracing::warn!(error = %chain(&error), "no system certificates, https will fail");
                builder(options).tls_certs_only([]).build().map_err(|error| chain(&error))?
            }
        };
        Ok(Self { client, headers_timeout: options.read_timeout, max_bytes: options.max_bytes })
    }

    pub(super) async fn send(
        &self,
        request: &Request,
        agent: &str,
        timeout: Duration,
    ) -> Result<Answer, Failure> {
        let mut outgoing = match request.method {
            Method::Get => self.client.get(request.url.clone()),
            Method::Post => self.client.post(request.url.clone()),
        };
        outgoing = outgoing.header(header::USER_AGENT, agent).timeout(timeout);
        for (name, value) in &request.headers {
            outgoing = outgoing.header(name, value);
        }
        if let Some(body) = &request.body {
            outgoing = outgoing.body(body.clone());
        }
        let started = Instant::now();
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

fn builder(options: &FetchOptions) -> ClientBuilder {
    let builder = Client::builder()
        .redirect(redirect::Policy::none())
        .referer(false)
        .connect_timeout(options.connect_timeout)
        .read_timeout(options.read_timeout);
    if options.proxy { builder } else { builder.no_proxy() }
}

fn head(response: &Response, latency: Duration) -> Answer {
    let now = Utc::now();
    // Header values may hold any bytes; a broken one is read as far as it goes.
    let text = |name: &str| {
        let value = response.headers().get(name)?;
        Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let date = text("date").and_then(|date| DateTime::parse_from_rfc2822(&date).ok());
    Answer {
        status: response.status().as_u16(),
        latency,
        content_type: text("content-type").unwrap_or_default(),
        location: text("location"),
        retry_after: text("retry-after").and_then(|value| pace::retry_after(&value, now)),
        mitigated: text("cf-mitigated").is_some(),
        date: date.map_or(now, |date| date.with_timezone(&Utc)),
        body: Vec::new(),
    }
}

fn failure(error: &reqwest::Error) -> Failure {
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
