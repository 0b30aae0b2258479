//! Who may call, for what, and how much: the clients file.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use axum::http::{HeaderMap, header::AUTHORIZATION};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::error::Error;
use crate::tls::Peer;
use crate::watched::Watched;

/// A client as the file has it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    /// SHA-256 of its bearer token, hexadecimal: the file holds no secret.
    token_sha256: Option<String>,
    /// SHA-256 of its certificate in DER, hexadecimal.
    certificate_sha256: Option<String>,
    /// Whether it may load and unload models.
    #[serde(default)]
    admin: bool,
    /// Tokens it may have computed in a minute, all its calls together.
    tokens_per_minute: Option<u32>,
}

/// A caller.
#[derive(Debug)]
pub struct Client {
    /// Its name in the file and in metrics.
    pub name: String,
    /// Whether it may load and unload models.
    pub admin: bool,
    quota: Option<Quota>,
}

impl Client {
    fn named(name: &str, admin: bool) -> Arc<Self> {
        Arc::new(Self { name: name.to_owned(), admin, quota: None })
    }

    /// Whether the client may have more computed now.
    ///
    /// # Errors
    /// [`Error::QuotaExceeded`] with the time after which it may.
    pub fn check(&self) -> Result<(), Error> {
        match self.quota.as_ref().and_then(|quota| Some((quota, quota.wait(Instant::now())?))) {
            None => Ok(()),
            Some((quota, retry_after)) => Err(Error::QuotaExceeded {
                client: self.name.clone(),
                limit: quota.tokens_per_minute,
                retry_after,
            }),
        }
    }

    /// Takes note of tokens that were let in for the client.
    pub fn charge(&self, tokens: u64) {
        if let Some(quota) = &self.quota {
            quota.charge(tokens, Instant::now());
        }
    }
}

/// A bucket that fills evenly and holds a minute's tokens. It may be overdrawn once, so that a request larger than
/// it is served at all; then it has to fill up first.
#[derive(Debug)]
struct Quota {
    tokens_per_minute: u32,
    left: Mutex<(f64, Instant)>,
}

impl Quota {
    fn new(tokens_per_minute: u32) -> Self {
        Self { tokens_per_minute, left: Mutex::new((f64::from(tokens_per_minute), Instant::now())) }
    }

    fn per_second(&self) -> f64 {
        f64::from(self.tokens_per_minute) / 60.0
    }

    fn at(&self, now: Instant) -> std::sync::MutexGuard<'_, (f64, Instant)> {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let filled = now.saturating_duration_since(left.1).as_secs_f64() * self.per_second();
        *left = ((left.0 + filled).min(f64::from(self.tokens_per_minute)), now.max(left.1));
        left
    }

    fn wait(&self, now: Instant) -> Option<Duration> {
        let left = self.at(now).0;
        (left < 1.0).then(|| Duration::from_secs_f64((1.0 - left) / self.per_second()))
    }

    fn charge(&self, tokens: u64, now: Instant) {
        self.at(now).0 -= tokens as f64;
    }
}

/// The clients of a file.
#[derive(Debug)]
struct Clients {
    by_token: HashMap<[u8; 32], Arc<Client>>,
    by_certificate: HashMap<[u8; 32], Arc<Client>>,
}

impl Clients {
    fn parse(text: &str) -> Result<Self> {
        let entries: BTreeMap<String, Entry> = toml::from_str(text)?;
        ensure!(!entries.is_empty(), "it names no client");
        let mut clients = Self { by_token: HashMap::new(), by_certificate: HashMap::new() };
        for (name, entry) in entries {
            let quota = entry.tokens_per_minute.map(Quota::new);
            ensure!(
                entry.tokens_per_minute != Some(0),
                "[{name}] tokens_per_minute is 0, it must be positive"
            );
            let client = Arc::new(Client { name: name.clone(), admin: entry.admin, quota });
            let keys = [
                ("token_sha256", entry.token_sha256, &mut clients.by_token),
                ("certificate_sha256", entry.certificate_sha256, &mut clients.by_certificate),
            ];
            let mut known = false;
            for (key, value, map) in keys {
                let Some(value) = value else { continue };
                let digest = parse_digest(&value).with_context(|| format!("[{name}] {key}"))?;
                let other = map.insert(digest, Arc::clone(&client));
                ensure!(other.is_none(), "[{name}] {key} is that of another client too");
                known = true;
            }
            ensure!(known, "[{name}] has neither token_sha256 nor certificate_sha256");
        }
        Ok(clients)
    }
}

/// 64 hexadecimal digits.
///
/// # Errors
/// Where it is something else.
pub fn parse_digest(text: &str) -> Result<[u8; 32]> {
    let mut digest = [0; 32];
    hex::decode_to_slice(text.trim(), &mut digest).context("expected 64 hexadecimal digits")?;
    Ok(digest)
}

/// The rule for callers. Without a clients file everybody may call. Wherever a call comes from, it takes a token or a
/// certificate to administer: whoever comes through a proxy of this machine comes from this machine.
#[derive(Debug, Clone)]
pub struct Access {
    clients: Option<Arc<Watched<Clients>>>,
    /// SHA-256 of the operator's own token.
    admin: Option<[u8; 32]>,
}

impl Access {
    /// The clients of this file, read again when it changes, and whoever shows the token of which `admin` is the digest.
    ///
    /// # Errors
    /// Names the file and the entry at fault.
    pub fn new(file: Option<&Path>, admin: Option<[u8; 32]>) -> Result<Self> {
        let watched = |file: &Path| {
            let shown = PathBuf::from(file);
            Watched::new(vec![file.to_owned()], move |contents| {
                let text = std::str::from_utf8(&contents[0]).context("not UTF-8");
                text.and_then(Clients::parse).with_context(|| format!("--clients-file {}", shown.display()))
            })
        };
        Ok(Self { clients: file.map(watched).transpose()?, admin })
    }

    /// Looks for changes of the file from now on.
    pub fn watch(&self) {
        if let Some(watched) = &self.clients {
            watched.watch();
        }
    }

    /// The client with this bearer token or certificate.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] where there is a clients file and it is not in it.
    pub fn identify(&self, token: Option<&str>, peer: &Peer) -> Result<Arc<Client>, Error> {
        // Comparing digests tells an attacker nothing about the tokens there are.
        let digest = token.map(|token| <[u8; 32]>::from(Sha256::digest(token)));
        if digest.is_some() && digest == self.admin {
            return Ok(Client::named("admin", true));
        }
        let Some(watched) = &self.clients else { return Ok(Client::named("anonymous", false)) };
        let clients = watched.get();
        let found = match &digest {
            Some(digest) => clients.by_token.get(digest.as_slice()),
            None => peer.certificate.as_ref().and_then(|digest| clients.by_certificate.get(digest)),
        };
        found.cloned().ok_or(Error::Unauthenticated { given: token.is_some() || peer.certificate.is_some() })
    }
}

/// The bearer token of a request.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

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
        let access = Access::new(Some(file.path()), Some(Sha256::digest("own").into())).unwrap();
        let name = |token: Option<&str>, certificate| {
            let peer = Peer { address: None, certificate };
            access.identify(token, &peer).map(|client| (client.name.clone(), client.admin))
        };
        assert_eq!(name(Some("secret"), None), Ok(("pipeline".to_owned(), true)));
        assert_eq!(name(None, Some(certificate)), Ok(("lab".to_owned(), false)));
        assert_eq!(name(None, None), Err(Error::Unauthenticated { given: false }));
        assert_eq!(name(Some("other"), Some(certificate)), Err(Error::Unauthenticated { given: true }));
        assert_eq!(name(Some("own"), None), Ok(("admin".to_owned(), true)));
    }

    #[test]
    fn without_a_file_only_the_operators_token_administers() {
        let access = Access::new(None, Some(Sha256::digest("own").into())).unwrap();
        let admin = |address: &str, token: Option<&str>| {
            let address: SocketAddr = address.parse().unwrap();
            access.identify(token, &Peer { address: Some(address), certificate: None }).unwrap().admin
        };
        for address in ["127.0.0.1:9", "[::1]:9", "10.0.0.1:9"] {
            assert!(!admin(address, None) && !admin(address, Some("other")));
            assert!(admin(address, Some("own")));
        }
        let nobody = Access::new(None, None).unwrap();
        assert!(!nobody.identify(Some("own"), &Peer::default()).unwrap().admin);
    }

    #[test]
    fn bad_files_are_named() {
        fn check(text: &str, part: &str) {
            let error = format!("{:#}", Clients::parse(text).unwrap_err());
            assert!(error.contains(part), "no {part:?} in {error}");
        }
        let one = digest("a");
        check("", "names no client");
        check("[a]\n", "[a] has neither");
        check("[a]\ntoken = \"x\"\n", "unknown field `token`");
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
        quota.charge(0, start + Duration::from_secs(3_600));
        assert!(quota.at(start + Duration::from_secs(3_600)).0 <= 600.0, "no more than a minute's worth");
    }
}
