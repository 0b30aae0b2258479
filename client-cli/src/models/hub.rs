//! The HTTP interface of a model hub: the files of a commit, and their content.
//!
//! Credentials go to the hub's own host only, and no redirect leaves https.

mod error;
mod retry;

use std::error::Error as _;

use observatory_client::Secret;
use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::{Client, ClientBuilder, RequestBuilder, Response, StatusCode, Url, redirect};
use serde::Deserialize;

use super::record::PublishedDigest;

pub(crate) use error::HubError;
pub(super) use retry::Retries;
pub use retry::RetryPolicy;

/// The default hub.
pub(crate) const DEFAULT_HUB: &str = "https://huggingface.co";
/// Maximum redirects per request. Not tuned: a hub redirects to its storage once or twice.
const MAX_REDIRECTS: usize = 8;
/// Maximum size of a listing in bytes, against a hub that sends without end. Not tuned: some
/// hundred bytes a file are usual.
const LONGEST_LISTING: usize = 16 << 20;

/// Address, credentials and retries for a hub.
#[derive(Debug, Clone)]
pub struct HubOptions {
    /// Its address. A path is kept as a prefix; user and password become credentials.
    pub address: String,
    /// Token, sent only to the host of the hub.
    pub token: Option<Secret>,
    /// True to use the proxies in the environment.
    pub proxy: bool,
    /// Time-outs and retries.
    pub retry: RetryPolicy,
}

/// The files of a commit.
#[derive(Debug)]
pub(super) struct Listing {
    /// Hash of the commit.
    pub(super) sha: String,
    pub(super) files: Vec<ListedFile>,
}

/// A file of a commit; hubs may omit everything but its name.
#[derive(Debug, Clone)]
pub(super) struct ListedFile {
    pub(super) path: String,
    pub(super) size: Option<u64>,
    pub(super) digest: Option<PublishedDigest>,
}

/// A response with a file, whose body has not been read yet.
#[derive(Debug)]
pub(super) struct FileResponse {
    /// 200, 206, or 416 if the file ends before the requested byte.
    pub(super) status: StatusCode,
    /// First byte of a 206.
    pub(super) start: u64,
    pub(super) size: Option<u64>,
    pub(super) digest: Option<PublishedDigest>,
    response: Response,
    host: String,
}

impl FileResponse {
    /// Reads more of the body; `None` at its end.
    pub(super) async fn chunk(&mut self) -> Result<Option<impl AsRef<[u8]> + use<>>, HubError> {
        self.response.chunk().await.map_err(|error| network(self.host.clone(), &error))
    }
}

/// A hub.
#[derive(Debug)]
pub(super) struct Hub {
    client: Client,
    address: Url,
    credentials: Credentials,
    pub(super) retry: RetryPolicy,
}

impl Hub {
    /// Creates the client without sending anything.
    ///
    /// # Errors
    /// If the address or the token is invalid.
    pub(super) fn new(options: &HubOptions) -> anyhow::Result<Self> {
        let given = options.address.trim_end_matches('/');
        // The address may contain a password, so errors must not repeat it.
        let mut address = Url::parse(given)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host() && url.query().is_none())
            .ok_or_else(|| anyhow::anyhow!("invalid hub address: expected http://HOST or https://HOST"))?;
        let credentials = Credentials::choose(&address, options.token.as_ref())?;
        // From here on no message can show the password. Neither call fails for http.
        let _ = (address.set_username(""), address.set_password(None));
        observatory_client::install_crypto_provider();
        let client = match builder(options).build() {
            Ok(client) => client,
            // A bare container has no root certificates; a mirror over http works without them.
            Err(error) => builder(options).tls_certs_only([]).build().map_err(|_| error)?,
        };
        Ok(Self { client, address, credentials, retry: options.retry })
    }

    /// The address without credentials.
    pub(super) fn address(&self) -> String {
        self.address.as_str().trim_end_matches('/').to_owned()
    }

    /// Lists the files of a revision, with retries.
    pub(super) async fn listing(&self, name: &str, revision: &str) -> Result<Listing, HubError> {
        let mut url = self.url(&["api", "models"], name, &["revision", revision]);
        // Without it the hub lists neither sizes nor digests.
        url.set_query(Some("blobs=true"));
        let what = format!("model {name} at revision {revision}");
        let mut retries = Retries::new(self.retry);
        loop {
            match self.read_listing(&url, &what).await {
                // Not retried: a body that arrived whole and cannot be parsed will be the same the
                // next time.
                Ok(body) => return self.parse_listing(&body),
                Err(error) => retries.pause(error).await?,
            }
        }
    }

    async fn read_listing(&self, url: &Url, what: &str) -> Result<Vec<u8>, HubError> {
        let mut opened = self.get(url.clone(), what, 0).await?;
        let mut body = Vec::new();
        while let Some(chunk) = opened.chunk().await? {
            body.extend_from_slice(chunk.as_ref());
            if body.len() > LONGEST_LISTING {
                return Err(
                    self.protocol_error(format!("lists more than {} MiB for {what}", LONGEST_LISTING >> 20))
                );
            }
        }
        Ok(body)
    }

    fn parse_listing(&self, body: &[u8]) -> Result<Listing, HubError> {
        let info: ModelInfo = serde_json::from_slice(body)
            .map_err(|error| self.protocol_error(format!("sent an invalid model description: {error}")))?;
        if !is_commit(&info.sha) {
            return Err(self.protocol_error(format!("sent an invalid commit {:?}", info.sha)));
        }
        Ok(Listing { sha: info.sha, files: info.siblings.into_iter().map(Sibling::into_listed).collect() })
    }

    /// Requests a file of a commit from byte `from` on, without retries.
    pub(super) async fn open(
        &self,
        name: &str,
        sha: &str,
        path: &str,
        from: u64,
    ) -> Result<FileResponse, HubError> {
        let parts: Vec<&str> = ["resolve", sha].into_iter().chain(path.split('/')).collect();
        let url = self.url(&[], name, &parts);
        self.get(url, &format!("file {path} of {name}"), from).await
    }

    fn url(&self, before: &[&str], name: &str, after: &[&str]) -> Url {
        let mut url = self.address.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            // Segments are percent-encoded, so that no name changes the path.
            segments.pop_if_empty().extend(before).extend(name.split('/')).extend(after);
        }
        url
    }

    /// Sends a request and follows redirects by itself, because credentials must stay with the host
    /// of the hub, and the size and digest of a large file are headers of the redirect.
    async fn get(&self, mut url: Url, what: &str, from: u64) -> Result<FileResponse, HubError> {
        let mut info = FileInfo::default();
        for _ in 0..=MAX_REDIRECTS {
            // A redirect to another origin must not see the credentials.
            let own = url.origin() == self.address.origin();
            // A compressed transfer could not be resumed, and its size would differ.
            let mut request =
                if own { self.credentials.get(&self.client, &url) } else { self.client.get(url.clone()) };
            request = request.header(header::ACCEPT_ENCODING, "identity");
            if from > 0 {
                request = request.header(header::RANGE, format!("bytes={from}-"));
            }
            let host = url.host_str().unwrap_or_default().to_owned();
            let response = request.send().await.map_err(|error| network(host.clone(), &error))?;
            info.read(response.headers(), own);
            match response.status().as_u16() {
                200 | 206 | 416 => return Ok(info.opened(response, host)),
                301 | 302 | 303 | 307 | 308 => url = self.follow(&url, response.headers(), what)?,
                _ => return Err(refusal(&response, host, what)),
            }
        }
        Err(self.protocol_error(format!("redirects more than {MAX_REDIRECTS} times for {what}")))
    }

    fn follow(&self, from: &Url, headers: &HeaderMap, what: &str) -> Result<Url, HubError> {
        let target = text(headers, header::LOCATION.as_str()).and_then(|to| from.join(&to).ok());
        match target {
            Some(to) if to.scheme() == "https" || (to.scheme() == "http" && from.scheme() == "http") => {
                Ok(to)
            }
            Some(to) => Err(self.protocol_error(format!("redirects {what} from https to {}", to.scheme()))),
            None => Err(self.protocol_error(format!("redirects {what} without a location"))),
        }
    }

    pub(super) fn protocol_error(&self, problem: String) -> HubError {
        HubError::Protocol { host: self.host(), problem }
    }

    pub(super) fn host(&self) -> String {
        self.address.host_str().unwrap_or_default().to_owned()
    }
}

/// True for a full hexadecimal hash. Checked because it becomes part of URLs and output.
fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64)
        && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

fn builder(options: &HubOptions) -> ClientBuilder {
    let builder = Client::builder()
        .user_agent(concat!("observatory/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        // The storage need not know the path on the hub.
        .referer(false)
        .no_gzip()
        .no_brotli()
        .connect_timeout(options.retry.connect)
        .read_timeout(options.retry.read);
    if options.proxy { builder } else { builder.no_proxy() }
}

/// Credentials for the host of the hub.
#[derive(Debug)]
enum Credentials {
    None,
    Token(HeaderValue),
    /// User and password from the address, percent-encoded.
    Address(String, Secret),
}

impl Credentials {
    /// Chooses the token, or else the credentials in the address.
    fn choose(address: &Url, token: Option<&Secret>) -> anyhow::Result<Self> {
        if let Some(token) = token.map(|token| token.reveal().trim()).filter(|token| !token.is_empty()) {
            let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| {
                anyhow::anyhow!("the hub token contains characters that are not allowed in a header")
            })?;
            // Keeps the token out of debug output.
            value.set_sensitive(true);
            return Ok(Self::Token(value));
        }
        let password = address.password().unwrap_or_default().to_owned();
        let none = address.username().is_empty() && password.is_empty();
        Ok(if none { Self::None } else { Self::Address(address.username().to_owned(), password.into()) })
    }

    fn get(&self, client: &Client, url: &Url) -> RequestBuilder {
        let mut url = url.clone();
        if let Self::Address(user, password) = self {
            // reqwest turns these into an Authorization header.
            let _ = (url.set_username(user), url.set_password(Some(password.reveal())));
        }
        match self {
            Self::Token(value) => client.get(url).header(header::AUTHORIZATION, value.clone()),
            _ => client.get(url),
        }
    }
}

#[derive(Deserialize)]
struct ModelInfo {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    blob_id: Option<String>,
    lfs: Option<LargeFile>,
}

#[derive(Deserialize)]
struct LargeFile {
    sha256: Option<String>,
    size: Option<u64>,
}

impl Sibling {
    /// Prefers the digest of a large file itself, since its blob is only a pointer.
    fn into_listed(self) -> ListedFile {
        let (size, digest) = match self.lfs {
            Some(large) => (large.size.or(self.size), large.sha256),
            None => (self.size, self.blob_id),
        };
        let digest = digest.as_deref().and_then(PublishedDigest::of_hex);
        ListedFile { path: self.rfilename, size, digest }
    }
}

/// Facts about a file from the headers of its response and redirects.
#[derive(Debug, Default)]
struct FileInfo {
    size: Option<u64>,
    digest: Option<PublishedDigest>,
}

impl FileInfo {
    fn read(&mut self, headers: &HeaderMap, own: bool) {
        // The ETag of the storage that a redirect leads to need not be a digest.
        let etag = text(headers, "x-linked-etag").or_else(|| text(headers, "etag").filter(|_| own));
        // What the hub itself said comes before what its storage says.
        self.digest = self.digest.take().or_else(|| PublishedDigest::of_etag(&etag?));
        self.size = self.size.or_else(|| text(headers, "x-linked-size")?.parse().ok());
    }

    fn opened(self, response: Response, host: String) -> FileResponse {
        let status = response.status();
        let (start, total) =
            text(response.headers(), "content-range").map_or((0, None), |range| content_range(&range));
        // The length of a 206 is that of the part.
        let length = response.content_length().filter(|_| status == StatusCode::OK);
        FileResponse {
            status,
            start,
            size: self.size.or(total).or(length),
            digest: self.digest,
            response,
            host,
        }
    }
}

/// Parses first byte and total size from `bytes 5-9/10` or `bytes */10`.
fn content_range(value: &str) -> (u64, Option<u64>) {
    let (range, total) = value.trim().trim_start_matches("bytes").trim().split_once('/').unwrap_or_default();
    // A 416 has `*` in place of the range, and so no first byte.
    let start = range.split('-').next().and_then(|start| start.trim().parse().ok());
    (start.unwrap_or(0), total.trim().parse().ok())
}

fn refusal(response: &Response, host: String, what: &str) -> HubError {
    let status = response.status().as_u16();
    let headers = response.headers();
    let said = text(headers, "x-error-message").map(|said| format!(": {}", clean(&said))).unwrap_or_default();
    let code = text(headers, "x-error-code").unwrap_or_default();
    // Hugging Face answers 401 for what does not exist, and tells the reason in this header.
    let absent = ["RepoNotFound", "RevisionNotFound", "EntryNotFound"].contains(&code.as_str());
    let what = what.to_owned();
    match status {
        404 | 410 => HubError::NotFound { host, what, said },
        _ if absent => HubError::NotFound { host, what, said },
        408 | 429 | 500.. => HubError::Busy { host, status, after: retry::retry_after(headers) },
        _ => HubError::Refused { host, what, status, said },
    }
}

/// Removes control characters from a message of the server, which could be terminal commands.
fn clean(said: &str) -> String {
    said.chars().filter(|char| !char.is_control()).take(200).collect()
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

/// Describes a network error by its causes. The outermost error repeats the URL, which may contain
/// a signature.
fn network(host: String, error: &reqwest::Error) -> HubError {
    let mut reason = String::new();
    let mut source = error.source();
    while let Some(cause) = source {
        reason = if reason.is_empty() { cause.to_string() } else { format!("{reason}: {cause}") };
        source = cause.source();
    }
    if error.is_timeout() {
        reason = "timed out".to_owned();
    } else if reason.is_empty() {
        reason = "the connection was lost".to_owned();
    }
    HubError::Network { host, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(address: &str, token: Option<&str>) -> HubOptions {
        let token = token.map(|token| Secret::from(token.to_owned()));
        HubOptions { address: address.to_owned(), token, proxy: false, retry: RetryPolicy::default() }
    }

    #[test]
    fn addresses_keep_their_path_and_lose_their_password() {
        let check = |address: &str, expected: &str| {
            let hub = Hub::new(&options(address, None)).unwrap();
            assert_eq!(hub.url(&["api", "models"], "a/b", &["revision", "refs/pr/1"]).as_str(), expected);
            assert!(!hub.address().contains("secret"));
        };
        check("https://hub.example", "https://hub.example/api/models/a/b/revision/refs%2Fpr%2F1");
        check("http://u:secret@h:81/x/y/", "http://h:81/x/y/api/models/a/b/revision/refs%2Fpr%2F1");
        for address in ["hub.example", "ftp://hub.example", "", "http://", "https://h?x=1"] {
            let error = Hub::new(&options(address, None)).unwrap_err().to_string();
            assert!(error.contains("invalid hub address"), "{address}: {error}");
        }
    }

    #[test]
    fn credentials_come_from_the_token_or_the_address() {
        let check = |address: &str, token: Option<&str>, expected: Option<&str>| {
            let hub = Hub::new(&options(address, token)).unwrap();
            let request = hub.credentials.get(&hub.client, &hub.address).build().unwrap();
            let value = request.headers().get(header::AUTHORIZATION).map(|value| value.to_str().unwrap());
            assert_eq!(value, expected);
            assert!(!request.url().as_str().contains('@'));
        };
        check("http://h", None, None);
        check("http://h", Some(" "), None);
        check("http://h", Some("hf_x\n"), Some("Bearer hf_x"));
        check("http://u%40x:p@h", None, Some("Basic dUB4OnA="));
        check("http://u:p@h", Some("t"), Some("Bearer t"));
        assert!(Hub::new(&options("http://h", Some("a\nb"))).is_err());
    }

    #[test]
    fn a_listing_says_what_the_hub_knows() {
        let hub = Hub::new(&options("http://h", None)).unwrap();
        let (sha, blob, large) = ("a".repeat(40), "b".repeat(40), "c".repeat(64));
        let body = format!(
            r#"{{"sha":"{sha}","siblings":[{{"rfilename":"x","size":3,"blobId":"{blob}"}},{{"rfilename":"y"}},
            {{"rfilename":"z","size":9,"blobId":"{blob}","lfs":{{"sha256":"{large}","size":9,"pointerSize":1}}}}]}}"#
        );
        let listing = hub.parse_listing(body.as_bytes()).unwrap();
        let seen: Vec<_> = listing
            .files
            .iter()
            .map(|file| (file.path.as_str(), file.size, file.digest.as_ref().map(PublishedDigest::hex)))
            .collect();
        assert_eq!(seen, [("x", Some(3), Some(&*blob)), ("y", None, None), ("z", Some(9), Some(&*large))]);
        for broken in ["", "<html>", r#"{"sha":"main","siblings":[]}"#, r#"{"sha":"../../x","siblings":[]}"#]
        {
            assert!(
                matches!(hub.parse_listing(broken.as_bytes()), Err(HubError::Protocol { .. })),
                "{broken}"
            );
        }
    }

    #[test]
    fn a_redirect_does_not_leave_https() {
        let hub = Hub::new(&options("https://h", None)).unwrap();
        let check = |from: &str, to: &str, expected: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::LOCATION, to.parse().unwrap());
            let followed = hub.follow(&from.parse().unwrap(), &headers, "x").ok();
            assert_eq!(followed.as_ref().map(Url::as_str), expected, "{from} {to}");
        };
        check("https://h/a/b", "/c", Some("https://h/c"));
        check("https://h/a", "https://cdn/c?sig=1", Some("https://cdn/c?sig=1"));
        check("https://h/a", "http://h/a", None);
        check("http://h/a", "http://cdn/a", Some("http://cdn/a"));
        check("http://h/a", "file:///etc/passwd", None);
        assert!(hub.follow(&"http://h/".parse().unwrap(), &HeaderMap::new(), "x").is_err());
    }

    #[test]
    fn ranges_are_read() {
        let check = |value: &str, expected: (u64, Option<u64>)| assert_eq!(content_range(value), expected);
        check("bytes 5-9/10", (5, Some(10)));
        check("bytes */10", (0, Some(10)));
        check("bytes 5-9/*", (5, None));
        check("nonsense", (0, None));
    }
}
