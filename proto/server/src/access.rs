//! Authentication and quotas of callers, by the clients file.
//!
//! A client is known by its bearer token or certificate; the file holds only digests of them.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use axum::http::{HeaderMap, Request, header::AUTHORIZATION};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::connections::Origin;
use crate::tls::Peer;
use crate::watched::Watched;

/// Longest retry delay reported to a client over its quota. A request far over the quota would
/// otherwise yield days, which is no help to a caller. Not tuned.
const LONGEST_WAIT: Duration = Duration::from_secs(3_600);

/// Permissions of a client in a server's clients file, and its quota.
pub trait Grants: DeserializeOwned + Clone + std::fmt::Debug + Send + Sync + 'static {
    /// Name of the quota in the file.
    const QUOTA: &'static str;

    /// Value of [`Grants::QUOTA`], per minute.
    fn per_minute(&self) -> Option<u32>;

    /// Checks constraints that the type does not express.
    ///
    /// # Errors
    /// Describes the invalid value.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// All permissions, which the operator's own token grants.
    fn all() -> Self;
}

/// Identification of a client.
#[derive(Debug, Deserialize)]
struct Keys {
    /// SHA-256 of its bearer token, hexadecimal: the file holds no secret.
    token_sha256: Option<String>,
    /// SHA-256 of its certificate in DER, hexadecimal.
    certificate_sha256: Option<String>,
}

/// A caller.
#[derive(Debug)]
pub struct Client<G> {
    /// Its name in the file and in metrics.
    pub name: String,
    /// Its permissions.
    pub grants: G,
    quota: Option<Quota>,
}

impl<G: Grants> Client<G> {
    /// A client with a full quota.
    pub fn new(name: &str, grants: G) -> Arc<Self> {
        let quota = grants.per_minute().map(Quota::new);
        Arc::new(Self { name: name.to_owned(), grants, quota })
    }

    /// Checks that the client has quota left.
    ///
    /// # Errors
    /// [`Exhausted`], with the time after which it has.
    pub fn check(&self) -> Result<(), Exhausted> {
        match self.quota.as_ref().and_then(|quota| Some((quota, quota.wait(Instant::now())?))) {
            None => Ok(()),
            Some((quota, retry_after)) => Err(Exhausted { limit: quota.per_minute, retry_after }),
        }
    }

    /// Deducts what the client was given from its quota.
    pub fn charge(&self, amount: u64) {
        if let Some(quota) = &self.quota {
            quota.charge(amount, Instant::now());
        }
    }
}

/// The quota of a client is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exhausted {
    /// Quota per minute.
    pub limit: u32,
    /// Time until there is quota again.
    pub retry_after: Duration,
}

/// A caller that cannot be identified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unknown {
    /// True if it presented a token or a certificate.
    pub given: bool,
}

impl std::fmt::Display for Unknown {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self.given {
            true => "unknown bearer token or certificate",
            false => "a bearer token or a client certificate is required",
        })
    }
}

/// Token bucket that refills evenly and holds a minute's worth. It may be overdrawn once, so that a
/// request larger than the bucket is served at all; then it has to refill first.
#[derive(Debug)]
struct Quota {
    per_minute: u32,
    left: Mutex<(f64, Instant)>,
}

impl Quota {
    fn new(per_minute: u32) -> Self {
        Self { per_minute, left: Mutex::new((f64::from(per_minute), Instant::now())) }
    }

    fn per_second(&self) -> f64 {
        f64::from(self.per_minute) / 60.0
    }

    fn at(&self, now: Instant) -> std::sync::MutexGuard<'_, (f64, Instant)> {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have been here with a later time.
        let filled = now.saturating_duration_since(left.1).as_secs_f64() * self.per_second();
        *left = ((left.0 + filled).min(f64::from(self.per_minute)), now.max(left.1));
        left
    }

    fn wait(&self, now: Instant) -> Option<Duration> {
        let left = self.at(now).0;
        let seconds = (1.0 - left) / self.per_second();
        // One unit is enough for a request of any size, which may overdraw the quota.
        (left < 1.0).then(|| Duration::from_secs_f64(seconds.min(LONGEST_WAIT.as_secs_f64())))
    }

    fn charge(&self, amount: u64, now: Instant) {
        self.at(now).0 -= amount as f64;
    }
}

/// The clients of a file.
#[derive(Debug)]
struct Clients<G> {
    by_token: HashMap<[u8; 32], Arc<Client<G>>>,
    by_certificate: HashMap<[u8; 32], Arc<Client<G>>>,
}

impl<G: Grants> Clients<G> {
    fn watched(file: &Path) -> Result<Arc<Watched<Self>>> {
        let shown = PathBuf::from(file);
        Watched::new(vec![file.to_owned()], move |contents| {
            let text = std::str::from_utf8(&contents[0]).context("not UTF-8");
            text.and_then(Self::parse).with_context(|| format!("--clients-file {}", shown.display()))
        })
    }

    fn parse(text: &str) -> Result<Self> {
        // Sorted, so that of several faults always the same one is reported.
        let entries: BTreeMap<String, toml::Table> = toml::from_str(text)?;
        ensure!(!entries.is_empty(), "no clients in the file");
        let mut clients = Self { by_token: HashMap::new(), by_certificate: HashMap::new() };
        for (name, entry) in entries {
            clients.add(&name, entry)?;
        }
        Ok(clients)
    }

    fn add(&mut self, name: &str, mut entry: toml::Table) -> Result<()> {
        let place = || format!("[{name}]");
        let mut keys = toml::Table::new();
        // Taken out before the rest is read: grants may refuse members that they do not know.
        for key in ["token_sha256", "certificate_sha256"] {
            keys.extend(entry.remove(key).map(|value| (key.to_owned(), value)));
        }
        let keys: Keys = keys.try_into().with_context(place)?;
        let grants: G = entry.try_into().with_context(place)?;
        ensure!(
            grants.per_minute() != Some(0),
            "[{name}] invalid {} `0`: expected a positive number",
            G::QUOTA
        );
        grants.check().with_context(place)?;
        let client = Client::new(name, grants);
        let keys = [
            ("token_sha256", keys.token_sha256, &mut self.by_token),
            ("certificate_sha256", keys.certificate_sha256, &mut self.by_certificate),
        ];
        let mut known = false;
        for (key, value, map) in keys {
            let Some(value) = value else { continue };
            let digest = parse_digest(&value).with_context(|| format!("[{name}] {key}"))?;
            let other = map.insert(digest, Arc::clone(&client));
            // Two names for one secret would leave open whose quota a call spends.
            ensure!(other.is_none(), "[{name}] {key} is also used by another client");
            known = true;
        }
        known.then_some(()).ok_or_else(|| anyhow!("[{name}] has neither token_sha256 nor certificate_sha256"))
    }
}

/// Parses 64 hexadecimal digits.
///
/// # Errors
/// If the text is anything else.
pub fn parse_digest(text: &str) -> Result<[u8; 32]> {
    let mut digest = [0; 32];
    hex::decode_to_slice(text.trim(), &mut digest).context("expected 64 hexadecimal digits")?;
    Ok(digest)
}

/// Access rules for callers. A loopback address grants nothing, since every caller behind a local
/// proxy has one.
#[derive(Debug, Clone)]
pub struct Access<G> {
    clients: Option<Arc<Watched<Clients<G>>>>,
    /// SHA-256 of the operator's own token.
    operator: Option<[u8; 32]>,
    /// Permissions of unidentified callers.
    anonymous: Option<Arc<Client<G>>>,
}

impl<G: Grants> Access<G> {
    /// Accepts the clients in `file`, which is read again when it changes, and the operator, whose
    /// token has the digest `operator` and all permissions. `anonymous` applies to callers without
    /// credentials and, without a file, to all others.
    ///
    /// # Errors
    /// Names the file and the invalid entry.
    pub fn new(file: Option<&Path>, operator: Option<[u8; 32]>, anonymous: Option<G>) -> Result<Self> {
        let anonymous = anonymous.map(|grants| Client::new("anonymous", grants));
        Ok(Self { clients: file.map(Clients::watched).transpose()?, operator, anonymous })
    }

    /// Starts watching the file for changes.
    pub fn watch(&self) {
        if let Some(watched) = &self.clients {
            watched.watch();
        }
    }

    /// Identifies the client of a request by its bearer token or the certificate of its connection.
    ///
    /// # Errors
    /// [`Unknown`].
    pub fn caller<B>(&self, request: &Request<B>) -> Result<Arc<Client<G>>, Unknown> {
        let stranger = Peer::default();
        let peer = request.extensions().get::<Origin>().map_or(&stranger, |origin| &origin.peer);
        self.identify(bearer(request.headers()), peer)
    }

    /// Identifies a client by bearer token or certificate.
    fn identify(&self, token: Option<&str>, peer: &Peer) -> Result<Arc<Client<G>>, Unknown> {
        // Comparing digests leaks no timing information about the tokens.
        let digest = token.map(|token| <[u8; 32]>::from(Sha256::digest(token)));
        // Before the file: a mistake in it must not lock out the operator, who could repair it.
        if digest.is_some() && digest == self.operator {
            return Ok(Client::new("admin", G::all()));
        }
        let given = token.is_some() || peer.certificate.is_some();
        let found = self.clients.as_ref().and_then(|watched| {
            let clients = watched.get();
            match &digest {
                Some(digest) => clients.by_token.get(digest.as_slice()).cloned(),
                None => clients.by_certificate.get(peer.certificate.as_ref()?.as_slice()).cloned(),
            }
        });
        found.or_else(|| self.anonymous(given)).ok_or(Unknown { given })
    }

    /// The client for a caller that no credentials identify; `given` says that it presented some.
    fn anonymous(&self, given: bool) -> Option<Arc<Client<G>>> {
        // Wrong credentials never count as none where a clients file says who may call.
        if given && self.clients.is_some() { None } else { self.anonymous.clone() }
    }
}

/// The bearer token of a request.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests;
