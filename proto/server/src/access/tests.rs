//! The clients file: identification, permissions, quotas, and invalid files.
//!
//! Time is passed in, so nothing waits.

use std::net::SocketAddr;

use super::*;

/// Permissions of the tests' clients.
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
    let check = |anonymous: Option<Rights>, expected: Result<(&str, bool), Unknown>, token, certificate| {
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
    // Wrong credentials do not count as none.
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
    check("", "no clients in the file");
    check("a = 1\n", "invalid type");
    check("[a]\n", "[a] has neither");
    check("[a]\ntoken = \"x\"\n", "unknown field `token`");
    check("[a]\ntoken_sha256 = 7\n", "[a]: invalid type");
    check("[a]\ntoken_sha256 = \"xyz\"\n", "64 hexadecimal digits");
    check(&format!("[a]\ntoken_sha256 = \"{one}\"\n[b]\ntoken_sha256 = \"{one}\"\n"), "another client");
    check(&format!("[a]\ntoken_sha256 = \"{one}\"\ntokens_per_minute = 0\n"), "expected a positive number");
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
