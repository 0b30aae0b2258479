//! Who may call, for what, and how much: the clients file.

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

/// Longest time that a client without quota is told to wait: a hint that is a number of days helps
/// nobody.
const LONGEST_WAIT: Duration = Duration::from_secs(3_600);

/// What a server's clients file says of a client beside how it is known: what it may do, and how
/// much.
pub trait Grants: DeserializeOwned + Clone + std::fmt::Debug + Send + Sync + 'static {
    /// The key of the file for what a client may have in a minute.
    const QUOTA: &'static str;

    /// The value of [`Grants::QUOTA`].
    fn per_minute(&self) -> Option<u32>;

    /// Checks what the type alone does not.
    ///
    /// # Errors
    /// Says what is wrong.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// Everything: what the operator's own token gives.
    fn all() -> Self;
}

/// How a client is known.
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
    /// What it may do.
    pub grants: G,
    quota: Option<Quota>,
}

impl<G: Grants> Client<G> {
    /// A client with a full quota.
    pub fn new(name: &str, grants: G) -> Arc<Self> {
        let quota = grants.per_minute().map(Quota::new);
        Arc::new(Self { name: name.to_owned(), grants, quota })
    }

    /// Whether the client may have more now.
    ///
    /// # Errors
    /// [`Exhausted`], with the time after which it may.
    pub fn check(&self) -> Result<(), Exhausted> {
        match self.quota.as_ref().and_then(|quota| Some((quota, quota.wait(Instant::now())?))) {
            None => Ok(()),
            Some((quota, retry_after)) => Err(Exhausted { limit: quota.per_minute, retry_after }),
        }
    }

    /// Takes note of what the client was given.
    pub fn charge(&self, amount: u64) {
        if let Some(quota) = &self.quota {
            quota.charge(amount, Instant::now());
        }
    }
}

/// A client had its share of the last minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exhausted {
    /// What it may have in a minute.
    pub limit: u32,
    /// When it may have more.
    pub retry_after: Duration,
}

/// A caller that nobody knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unknown {
    /// Whether it showed anything.
    pub given: bool,
}

impl std::fmt::Display for Unknown {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self.given {
            true => "the bearer token or certificate is not known",
            false => "a bearer token or a client certificate is needed",
        })
    }
}

/// A bucket that fills evenly and holds a minute's worth. It may be overdrawn once, so that a
/// request larger than it is served at all; then it has to fill up first.
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
        let filled = now.saturating_duration_since(left.1).as_secs_f64() * self.per_second();
        *left = ((left.0 + filled).min(f64::from(self.per_minute)), now.max(left.1));
        left
    }

    fn wait(&self, now: Instant) -> Option<Duration> {
        let left = self.at(now).0;
        let seconds = (1.0 - left) / self.per_second();
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
    fn parse(text: &str) -> Result<Self> {
        let entries: BTreeMap<String, toml::Table> = toml::from_str(text)?;
        ensure!(!entries.is_empty(), "it names no client");
        let mut clients = Self { by_token: HashMap::new(), by_certificate: HashMap::new() };
        for (name, entry) in entries {
            clients.add(&name, entry)?;
        }
        Ok(clients)
    }

    fn add(&mut self, name: &str, mut entry: toml::Table) -> Result<()> {
        let place = || format!("[{name}]");
        let mut keys = toml::Table::new();
        for key in ["token_sha256", "certificate_sha256"] {
            keys.extend(entry.remove(key).map(|value| (key.to_owned(), value)));
        }
        let keys: Keys = keys.try_into().with_context(place)?;
        let grants: G = entry.try_into().with_context(place)?;
        ensure!(grants.per_minute() != Some(0), "[{name}] {} is 0, it must be positive", G::QUOTA);
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
            ensure!(other.is_none(), "[{name}] {key} is that of another client too");
            known = true;
        }
        known.then_some(()).ok_or_else(|| anyhow!("[{name}] has neither token_sha256 nor certificate_sha256"))
    }
}

/// 64 hexadecimal digits.
///
/// # Errors
/// If it is something else.
pub fn parse_digest(text: &str) -> Result<[u8; 32]> {
    let mut digest = [0; 32];
    hex::decode_to_slice(text.trim(), &mut digest).context("expected 64 hexadecimal digits")?;
    Ok(digest)
}

/// The rule for callers. Being on the same machine gives no rights: whoever comes through a proxy
/// of this machine comes from this machine.
#[derive(Debug, Clone)]
pub struct Access<G> {
    clients: Option<Arc<Watched<Clients<G>>>>,
    /// SHA-256 of the operator's own token.
    operator: Option<[u8; 32]>,
    /// What those may do who are not known.
    anonymous: Option<Arc<Client<G>>>,
}

impl<G: Grants> Access<G> {
    /// The clients of this file, read again when it changes, and whoever shows the token of which
    /// `operator` is the digest, who may do everything. `anonymous` is for those who show nothing,
    /// and without a file for all others.
    ///
    /// # Errors
    /// Names the file and the entry at fault.
    pub fn new(file: Option<&Path>, operator: Option<[u8; 32]>, anonymous: Option<G>) -> Result<Self> {
        let watched = |file: &Path| {
            let shown = PathBuf::from(file);
            Watched::new(vec![file.to_owned()], move |contents| {
                let text = std::str::from_utf8(&contents[0]).context("not UTF-8");
                text.and_then(Clients::parse).with_context(|| format!("--clients-file {}", shown.display()))
            })
        };
        let anonymous = anonymous.map(|grants| Client::new("anonymous", grants));
        Ok(Self { clients: file.map(watched).transpose()?, operator, anonymous })
    }

    /// Looks for changes of the file from now on.
    pub fn watch(&self) {
        if let Some(watched) = &self.clients {
            watched.watch();
        }
    }

    /// The client who makes a request, by its bearer token or the certificate of its connection.
    ///
    /// # Errors
    /// [`Unknown`].
    pub fn caller<B>(&self, request: &Request<B>) -> Result<Arc<Client<G>>, Unknown> {
        let stranger = Peer::default();
        let peer = request.extensions().get::<Origin>().map_or(&stranger, |origin| &origin.peer);
        self.identify(bearer(request.headers()), peer)
    }

    /// The client with this bearer token or certificate.
    fn identify(&self, token: Option<&str>, peer: &Peer) -> Result<Arc<Client<G>>, Unknown> {
        // Comparing digests tells an attacker nothing about the tokens there are.
        let digest = token.map(|token| <[u8; 32]>::from(Sha256::digest(token)));
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
        let stranger = || self.anonymous.clone().filter(|_| !given || self.clients.is_none());
        found.or_else(stranger).ok_or(Unknown { given })
    }
}

/// The bearer token of a request.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    /// What the tests' clients may do.
    #[derive(Debug, Clone, Default, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Rights {
        #[serde(default)]
        admin: bool,
        tokens_per_minute: Option<u32>,
    }

    impl Grants for Rights {
        const QUOTA: &'static str = "tokens_per_minute";

        fn per_minute(&self) -> Option<u32> {
            self.tokens_per_minute
        }

        fn all() -> Self {
            Self { admin: true, tokens_per_minute: None }
        }
    }

    fn digest(token: &str) -> String {
        hex::encode(Sha256::digest(token))
    }

    #[test]
    fn bearer_tokens_are_read() {
        fn check(value: &str, expected: Option<&str>) {
            let headers = HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())]);
            assert_eq!(bearer(&headers), expected, "{value}");
        }
        check("Bearer abc", Some("abc"));
        check("bearer  abc", Some("abc"));
        check("Basic abc", None);
        check("abc", None);
        assert_eq!(bearer(&HeaderMap::new()), None);
    }

    #[test]
    fn clients_are_known_by_token_or_certificate() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let certificate = [7; 32];
        let text = format!(
            "[pipeline]\ntoken_sha256 = \"{}\"\nadmin = true\n[lab]\ncertificate_sha256 = \"{}\"\n",
            digest("secret"),
            hex::encode(certificate)
        );
        std::fs::write(file.path(), text).unwrap();
        let operator = Some(Sha256::digest("own").into());
        let check =
            |anonymous: Option<Rights>, expected: Result<(&str, bool), Unknown>, token, certificate| {
                let access = Access::<Rights>::new(Some(file.path()), operator, anonymous).unwrap();
                let found = access.identify(token, &Peer { address: None, certificate });
                let found = found.map(|client| (client.name.clone(), client.grants.admin));
                assert_eq!(found, expected.map(|(name, admin)| (name.to_owned(), admin)));
            };
        check(None, Ok(("pipeline", true)), Some("secret"), None);
        check(None, Ok(("lab", false)), None, Some(certificate));
        check(None, Err(Unknown { given: false }), None, None);
        check(None, Err(Unknown { given: true }), Some("other"), Some(certificate));
        check(None, Ok(("admin", true)), Some("own"), None);
        // Whoever shows something wrong is not taken for somebody who shows nothing.
        check(Some(Rights::default()), Ok(("anonymous", false)), None, None);
        check(Some(Rights::default()), Err(Unknown { given: true }), Some("other"), None);
    }

    #[test]
    fn without_a_file_only_the_operators_token_administers() {
        let anonymous = || Some(Rights::default());
        let access = Access::new(None, Some(Sha256::digest("own").into()), anonymous()).unwrap();
        let admin = |address: &str, token: Option<&str>| {
            let address: SocketAddr = address.parse().unwrap();
            access.identify(token, &Peer { address: Some(address), certificate: None }).unwrap().grants.admin
        };
        for address in ["127.0.0.1:9", "[::1]:9", "10.0.0.1:9"] {
            assert!(!admin(address, None) && !admin(address, Some("other")));
            assert!(admin(address, Some("own")));
        }
        let nobody = Access::new(None, None, anonymous()).unwrap();
        assert!(!nobody.identify(Some("own"), &Peer::default()).unwrap().grants.admin);
        let closed = Access::<Rights>::new(None, Some(Sha256::digest("own").into()), None).unwrap();
        assert_eq!(closed.identify(None, &Peer::default()).unwrap_err(), Unknown { given: false });
        assert!(closed.identify(Some("own"), &Peer::default()).unwrap().grants.admin);
    }

    #[test]
    fn bad_files_are_named() {
        fn check(text: &str, part: &str) {
            let error = format!("{:#}", Clients::<Rights>::parse(text).unwrap_err());
            assert!(error.contains(part), "no {part:?} in {error}");
        }
        let one = digest("a");
        check("", "names no client");
        check("a = 1\n", "invalid type");
        check("[a]\n", "[a] has neither");
        check("[a]\ntoken = \"x\"\n", "unknown field `token`");
        check("[a]\ntoken_sha256 = 7\n", "[a]: invalid type");
        check("[a]\ntoken_sha256 = \"xyz\"\n", "64 hexadecimal digits");
        check(&format!("[a]\ntoken_sha256 = \"{one}\"\n[b]\ntoken_sha256 = \"{one}\"\n"), "another client");
        check(&format!("[a]\ntoken_sha256 = \"{one}\"\ntokens_per_minute = 0\n"), "must be positive");
    }

    #[test]
    fn a_quota_is_overdrawn_once_and_fills_again() {
        let quota = Quota::new(600);
        let start = Instant::now();
        assert_eq!(quota.wait(start), None);
        quota.charge(900, start);
        let wait = quota.wait(start).unwrap();
        assert!((29.0..32.0).contains(&wait.as_secs_f64()), "{wait:?}");
        assert_eq!(quota.wait(start + Duration::from_secs(32)), None);
        quota.charge(1 << 40, start);
        assert_eq!(quota.wait(start), Some(LONGEST_WAIT));
        let quota = Quota::new(600);
        quota.charge(0, start + Duration::from_secs(3_600));
        assert!(quota.at(start + Duration::from_secs(3_600)).0 <= 600.0, "no more than a minute's worth");
    }
}
