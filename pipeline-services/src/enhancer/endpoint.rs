//! Text generation by an OpenAI-compatible endpoint.
//!
//! Hides HTTP, the ways to ask for JSON and what its refusals mean. An error says whether to wait,
//! and for how long, or that another try would end the same way.

use std::time::Duration;

use chrono::{DateTime, Utc};
use observatory_client::Secret;
use reqwest::{Client, ClientBuilder, Response, StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    stage::{Dependency, StageError},
    telemetry::chain,
};

/// Largest answer that is read. A choice: hundreds of times what the default number of tokens
/// makes, as a bound against an endpoint that never ends.
const LARGEST_ANSWER: usize = 4 << 20;
/// Characters of a refusal that are shown. Not tuned: a line of a log.
const SHOWN: usize = 200;

/// Way to ask the endpoint for JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ResponseFormat {
    /// By a schema.
    #[default]
    JsonSchema,
    /// Any object.
    JsonObject,
    /// By the words of the prompt alone, for servers that know neither.
    Text,
}

/// Address and manner of the requests.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// Base URL, up to and with `/v1`.
    pub url: String,
    /// Model, as the endpoint names it.
    pub model: String,
    /// Sent as a bearer token.
    pub key: Option<Secret>,
    /// Longest wait for one answer.
    pub timeout: Duration,
    /// Tokens of one answer at most.
    pub max_tokens: u32,
    /// Way to ask for JSON.
    pub response_format: ResponseFormat,
}

/// A client of one endpoint.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    client: Client,
    options: Options,
}

#[derive(Deserialize)]
struct Completion {
    choices: Vec<Choice>,
}

#[derive(Deserialize)]
struct Choice {
    message: Message,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Message {
    content: Option<String>,
}

/// The reason for a missing text.
#[derive(Debug)]
pub(crate) enum GenerateError {
    /// The endpoint could not be asked, or refused.
    Refused(StageError),
    /// It answered with something else than text.
    Unusable(String),
}

impl Endpoint {
    /// A client; connects when it is first used.
    ///
    /// # Errors
    /// If the URL is not one, or no HTTP client can be made.
    pub(crate) fn new(options: Options) -> anyhow::Result<Self> {
        let url: url::Url = options
            .url
            .parse()
            .map_err(|error| anyhow::anyhow!("endpoint `{}` is not a URL: {error}", options.url))?;
        anyhow::ensure!(
            // Credentials in the URL would stand in every error that names it.
            matches!(url.scheme(), "http" | "https") && url.username().is_empty(),
            "endpoint `{}` is not acceptable: expected http:// or https:// without credentials, \
             the key goes into OBSERVATORY_LLM_API_KEY",
            options.url
        );
        // rustls takes its provider from the process and panics where none is installed.
        observatory_client::install_crypto_provider();
        // A bare container holds no certificates; plain HTTP works without them.
        let client = builder(options.timeout).build();
        let client = client.or_else(|_| builder(options.timeout).tls_certs_only([]).build());
        let client = client.map_err(|error| anyhow::anyhow!("no HTTP client: {}", chain(&error)))?;
        Ok(Self { client, options })
    }

    /// The model's name.
    pub(crate) fn model(&self) -> &str {
        &self.options.model
    }

    /// The text that the model answers to `messages`, of the JSON `schema` where the endpoint obeys
    /// one.
    ///
    /// # Errors
    /// See [`GenerateError`].
    pub(crate) async fn generate(&self, messages: Value, schema: Value) -> Result<String, GenerateError> {
        let address = format!("{}/chat/completions", self.options.url.trim_end_matches('/'));
        let mut request = self
            .client
            .post(address)
            .header(header::CONTENT_TYPE, "application/json")
            .body(self.body(messages, schema).to_string());
        if let Some(key) = &self.options.key {
            request = request.bearer_auth(key.reveal());
        }
        let response = request.send().await.map_err(|error| unreachable(&error))?;
        let (status, after) = (response.status(), retry_after(&response));
        let body = read(response).await?;
        if !status.is_success() {
            return Err(GenerateError::Refused(refusal(status, after, &body)));
        }
        content(&body)
    }

    fn body(&self, messages: Value, schema: Value) -> Value {
        let mut body = json!({
            "model": self.options.model,
            "messages": messages,
            // The same posting gets the same answer, as far as the model can promise that.
            "temperature": 0,
            "seed": 42,
            "max_tokens": self.options.max_tokens,
        });
        match self.options.response_format {
            ResponseFormat::JsonSchema => {
                body["response_format"] = json!({ "type": "json_schema",
                    "json_schema": { "name": "skills", "strict": true, "schema": schema } });
            }
            ResponseFormat::JsonObject => body["response_format"] = json!({ "type": "json_object" }),
            ResponseFormat::Text => {}
        }
        body
    }
}

/// No redirect is followed: it would carry the key and the posting to another address.
fn builder(timeout: Duration) -> ClientBuilder {
    Client::builder()
        // An address where nobody answers shows in seconds, however long an answer may take.
        .connect_timeout(Duration::from_secs(10))
        .timeout(timeout)
        .redirect(reqwest::redirect::Policy::none())
}

fn unreachable(error: &reqwest::Error) -> GenerateError {
    // A timeout is no fault of the posting either: the model is slow or busy.
    let reason = format!("language model endpoint: {}", chain(error));
    GenerateError::Refused(unavailable(reason, None))
}

fn unavailable(reason: String, after: Option<Duration>) -> StageError {
    StageError::Unavailable { dependency: Dependency::LanguageModel, reason, after }
}

fn retry_after(response: &Response) -> Option<Duration> {
    let value = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?;
    wait_of(value, Utc::now())
}

/// Seconds, or the moment until which to wait (RFC 9110, 10.2.3).
fn wait_of(value: &str, now: DateTime<Utc>) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = DateTime::parse_from_rfc2822(value).ok()?;
    // A moment that is past already means now.
    Some((until.to_utc() - now).to_std().unwrap_or_default())
}

async fn read(mut response: Response) -> Result<Vec<u8>, GenerateError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| unreachable(&error))? {
        if body.len() + chunk.len() > LARGEST_ANSWER {
            return Err(GenerateError::Unusable("more than 4 MiB".to_owned()));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// A server that is busy or away comes back, its faults may pass; what is wrong with the request or
/// the key does not.
fn refusal(status: StatusCode, after: Option<Duration>, body: &[u8]) -> StageError {
    let text = String::from_utf8_lossy(body);
    // The form of OpenAI's errors; proxies and other servers answer text or HTML.
    let message = serde_json::from_str::<Value>(&text)
        .ok()
        .and_then(|value| Some(value.get("error")?.get("message")?.as_str()?.to_owned()))
        .unwrap_or_else(|| text.into_owned());
    let shown: String =
        message.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(SHOWN).collect();
    let mut reason = format!("language model endpoint answered {status}: {shown}");
    match status {
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::REQUEST_TIMEOUT
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => unavailable(reason, after),
        // 529 is overload, as some providers say it; a server that names a time comes back as well.
        _ if status.as_u16() == 529 || after.is_some() && status.is_server_error() => {
            unavailable(reason, after)
        }
        _ if status.is_server_error() => StageError::Retry(reason),
        _ => {
            if message.contains("response_format") {
                reason.push_str("; try response_format = \"json_object\" or \"text\"");
            }
            StageError::Fail(reason)
        }
    }
}

fn content(body: &[u8]) -> Result<String, GenerateError> {
    let completion: Completion = serde_json::from_slice(body)
        .map_err(|error| GenerateError::Unusable(format!("no chat completion: {error}")))?;
    let choice = completion.choices.into_iter().next();
    let choice = choice.ok_or_else(|| GenerateError::Unusable("no choices".to_owned()))?;
    // At temperature 0 another try would be cut at the same place.
    if choice.finish_reason.as_deref() == Some("length") {
        return Err(GenerateError::Unusable("an answer that was cut off at max_tokens".to_owned()));
    }
    choice.message.content.ok_or_else(|| GenerateError::Unusable("no text".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(url: &str) -> Options {
        Options {
            url: url.to_owned(),
            model: "m".to_owned(),
            key: None,
            timeout: Duration::from_secs(1),
            max_tokens: 10,
            response_format: ResponseFormat::default(),
        }
    }

    #[test]
    fn addresses_are_checked_before_anything_is_sent() {
        for (url, good) in [
            ("http://127.0.0.1:1/v1", true),
            ("https://models.example/v1/", true),
            ("models.example/v1", false),
            ("ftp://models.example", false),
            ("https://user:secret@models.example/v1", false),
        ] {
            assert_eq!(Endpoint::new(options(url)).is_ok(), good, "{url}");
        }
    }

    #[test]
    fn refusals_wait_are_retried_or_final() {
        let check = |code: u16, after: Option<u64>, body: &str, kind: &str, words: &str| {
            let after = after.map(Duration::from_secs);
            let error = refusal(StatusCode::from_u16(code).unwrap(), after, body.as_bytes());
            let found = match &error {
                StageError::Unavailable { after: hint, .. } if *hint == after => "waits",
                StageError::Unavailable { .. } => "forgets the hint",
                StageError::Retry(_) => "is retried",
                StageError::Fail(_) => "is final",
            };
            assert_eq!(found, kind, "{code}");
            assert!(error.to_string().contains(words), "{error}");
        };
        check(429, Some(7), r#"{"error": {"message": "slow down"}}"#, "waits", "slow down");
        check(429, None, "", "waits", "429");
        check(503, Some(7), "<html>", "waits", "503");
        check(502, None, "<html>", "waits", "502");
        check(529, None, "", "waits", "529");
        check(500, None, "oops", "is retried", "oops");
        check(500, Some(7), "oops", "waits", "oops");
        check(401, None, r#"{"error": {"message": "bad key"}}"#, "is final", "bad key");
        let format = r#"{"error": {"message": "response_format is not supported"}}"#;
        check(400, None, format, "is final", "json_object");
    }

    #[test]
    fn waits_are_seconds_or_moments() {
        let now = "2026-11-30T10:00:00Z".parse().unwrap();
        let check = |value, expected: Option<u64>| {
            assert_eq!(wait_of(value, now), expected.map(Duration::from_secs), "{value}");
        };
        check("2", Some(2));
        check(" 86400 ", Some(86_400));
        check("100000000000000", Some(100_000_000_000_000));
        check("Mon, 30 Nov 2026 10:01:30 GMT", Some(90));
        check("Mon, 30 Nov 2026 09:00:00 GMT", Some(0));
        check("-1", None);
        check("soon", None);
    }

    #[test]
    fn only_whole_text_is_used() {
        let check = |body: &str, good: bool| assert_eq!(content(body.as_bytes()).is_ok(), good, "{body}");
        check(r#"{"choices": [{"message": {"content": "{}"}, "finish_reason": "stop"}]}"#, true);
        check(r#"{"choices": [{"message": {"content": "{"}, "finish_reason": "length"}]}"#, false);
        check(r#"{"choices": [{"message": {"content": null}}]}"#, false);
        check(r#"{"choices": []}"#, false);
        check("nothing", false);
    }
}
