//! Credentials and addresses: valid ones, and the flags that errors name.
//!
//! Nothing here opens a connection.

use super::*;

use std::error::Error as _;
use std::path::Path;

use rcgen::{CertificateParams, KeyPair};

const TLS: &str = "https://server.example:1";

/// A certificate and its key in PEM.
fn pair(dir: &Path, name: &str) -> (PathBuf, PathBuf) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&key).unwrap();
    let files = (dir.join(format!("{name}.pem")), dir.join(format!("{name}.key")));
    std::fs::write(&files.0, certificate.pem()).unwrap();
    std::fs::write(&files.1, key.serialize_pem()).unwrap();
    files
}

/// The error for invalid credentials, causes included.
fn refused(address: &str, credentials: &Credentials) -> String {
    let error = credentials.server(address).expect_err("refused");
    let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    format!("{error}{cause}")
}

fn token(token: &str) -> Credentials {
    Credentials { token: Some(token.to_owned().into()), ..Credentials::default() }
}

#[test]
fn files_at_fault_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let ((ca, key), (other, _)) = (pair(dir.path(), "a"), pair(dir.path(), "b"));
    let text = dir.path().join("text");
    std::fs::write(&text, "no PEM at all").unwrap();
    let absent = PathBuf::from("/absent.pem");
    let check = |ca: Option<&PathBuf>, pair: (Option<&PathBuf>, Option<&PathBuf>), part: &str| {
        let credentials = Credentials {
            ca: ca.cloned(),
            certificate: pair.0.cloned(),
            key: pair.1.cloned(),
            ..Credentials::default()
        };
        let said = refused(TLS, &credentials);
        assert!(said.contains(part), "no {part:?} in {said:?}");
    };
    check(Some(&absent), (None, None), "cannot read --inference-ca /absent.pem: No such file");
    check(Some(&text), (None, None), "text: no PEM certificate in it");
    check(Some(&key), (None, None), "a.key: no PEM certificate in it");
    check(Some(&ca), (Some(&ca), None), "must be given together");
    check(Some(&ca), (None, Some(&key)), "must be given together");
    check(Some(&ca), (Some(&ca), Some(&absent)), "cannot read --inference-key /absent.pem");
    check(Some(&ca), (Some(&ca), Some(&ca)), "a.pem: no PEM private key in it");
    check(Some(&ca), (Some(&other), Some(&key)), "invalid --inference-cert and --inference-key");
    let good =
        Credentials { ca: Some(ca.clone()), certificate: Some(ca), key: Some(key), ..Credentials::default() };
    assert!(good.server(TLS).is_ok());
    let said = refused("http://server.example:1", &good);
    assert!(said.contains("require an https:// address, not http://server.example:1"), "{said}");
    assert!(good.without_tls().server("http://server.example:1").is_ok());
}

#[test]
fn each_server_has_flags_of_its_own() {
    let given = EndpointCredentials { ca: Some("/absent.pem".into()), ..EndpointCredentials::default() };
    let said = refused(TLS, &Credentials::from(given));
    assert!(said.starts_with("cannot read --endpoint-ca /absent.pem"), "{said}");
    let given =
        EndpointCredentials { token: Some("hush".to_owned().into()), ..EndpointCredentials::default() };
    let said = refused("http://10.0.0.1:1", &Credentials::from(given));
    assert!(said.contains("or --endpoint-plaintext-token if"), "{said}");
}

#[test]
fn a_token_that_is_given_comes_first() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_owned();
    let found = |given: Credentials, file: PathBuf| given.or_token_of(file).token_file;
    assert_eq!(found(Credentials::default(), path.clone()), Some(path.clone()));
    assert_eq!(found(Credentials::default(), "/absent".into()), None);
    assert_eq!(found(token("hush"), path.clone()), None);
    let other = Credentials { token_file: Some("/other".into()), ..Credentials::default() };
    assert_eq!(found(other, path), Some("/other".into()));
}

#[test]
fn addresses_are_checked() {
    let none = Credentials::default();
    for good in ["http://host:1", "host:1", "http://127.0.0.1:1", "http://[::1]:1"] {
        assert!(none.server(good).is_ok(), "{good}");
    }
    for bad in ["not an address", "ftp://host:1", "http://", ""] {
        assert!(refused(bad, &none).contains("`: expected http://HOST:PORT"), "{bad}");
    }
}

#[test]
fn a_token_crosses_the_network_encrypted_only() {
    let secret = token("hush");
    for near in ["localhost:1", "http://127.0.0.1:1", "http://[::1]:1", "http://LOCALHOST:1"] {
        assert!(secret.server(near).is_ok(), "{near}");
    }
    for far in ["http://10.0.0.1:1", "server.example:1", "http://localhost.example:1"] {
        let said = refused(far, &secret);
        assert!(said.contains("unencrypted; use https://") && !said.contains("hush"), "{said}");
    }
    assert!(Credentials { plaintext_token: true, ..secret }.server("http://10.0.0.1:1").is_ok());
}

#[test]
fn tokens_are_checked_and_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    let from_file = Credentials { token_file: Some(file.clone()), ..Credentials::default() };
    assert!(refused("localhost:1", &from_file).starts_with("cannot read --inference-token-file"));
    std::fs::write(&file, " \n").unwrap();
    assert!(refused("localhost:1", &from_file).ends_with("token is empty"));
    std::fs::write(&file, "hush\n").unwrap();
    let server = from_file.server("localhost:1").unwrap();
    let both = Credentials { token: token("hush").token, ..from_file };
    assert!(refused("localhost:1", &both).contains("mutually exclusive"));
    let said = refused("localhost:1", &token("hu\nsh"));
    assert!(said.contains("characters") && !said.contains("hu"), "{said}");
    assert!(token("").server("http://10.0.0.1:1").is_ok(), "an empty token counts as none");
    assert!(!format!("{both:?} {server:?}").contains("hush"));
}
