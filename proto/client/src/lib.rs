//! How a program reaches a server of the contract: what it trusts, what it shows, and its bearer
//! token.
//!
//! | step | call |
//! |---|---|
//! | flags and variables of a program | [`Credentials`] (inference server), [`EndpointCredentials`] (pipeline), both for clap |
//! | check everything, ask nothing of the network | [`Credentials::server`] |
//! | limits and intervals of the transport | [`Server::tuned`] |
//! | connect; the connection shows the token with every call | [`Connection`] |
//!
//! What it promises:
//!
//! - Errors name the flag at fault, and nothing has been sent by then.
//! - The files may be replaced while the program runs: certificates are read again for every
//!   connection, a token for every call.
//! - A token goes to another machine encrypted only, unless a flag says that a mesh or a tunnel
//!   encrypts; [`Secret`] never shows it in logs or errors.
//!
//! `proto/client/examples/embed.rs` is a whole program. Read on in `docs/inference-server.md`
//! ("TLS and callers").

mod tls;
mod token;

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use tonic::codegen::http::Uri;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};

pub use tls::{HandshakeError, Wanted, wanted};
pub use token::Bearer;

/// Calls over it carry the token.
pub type Connection = InterceptedService<Channel, Bearer>;

/// Why a server cannot be called with these credentials.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is no URL of a server.
    #[error("address `{0}` is not valid: expected http://HOST:PORT or https://HOST:PORT")]
    Address(String),
    /// A file cannot be read.
    #[error("cannot read {flag} {}", .file.display())]
    Unreadable {
        /// The flag that names the file.
        flag: String,
        /// The file.
        file: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file holds something else.
    #[error("{flag} {}: there is no {wanted} in PEM in it", .file.display())]
    Content {
        /// The flag that names the file.
        flag: String,
        /// The file.
        file: PathBuf,
        /// What should be in it.
        wanted: &'static str,
    },
    /// A certificate or key that TLS cannot work with.
    #[error("{flags} cannot be used")]
    Unusable {
        /// The flags that name the files.
        flags: String,
        /// Why not.
        source: rustls::Error,
    },
    /// A certificate without its key, or a key without its certificate.
    #[error("{} are needed together", .0.pair())]
    Unpaired(Flags),
    /// Certificates for a connection without TLS.
    #[error("{} and {} are for an address that starts with https://, not for {address}", .flags.of("ca"), .flags.of("cert"))]
    NotEncrypted {
        /// The flags.
        flags: Flags,
        /// The address.
        address: String,
    },
    /// Nobody said whom to trust.
    #[error("this machine has no root certificates; name the roots to trust with {}", .0.of("ca"))]
    NoRoots(Flags),
    /// Two tokens.
    #[error("{} and {} are both given", .0.of("token"), .0.of("token-file"))]
    TwoTokens(Flags),
    /// A file without a token.
    #[error("{flag} {} is empty", .file.display())]
    EmptyToken {
        /// The flag that names the file.
        flag: String,
        /// The file.
        file: PathBuf,
    },
    /// A token that is no header's value.
    #[error("the bearer token has characters that no header may have")]
    BadToken,
    /// Whoever listens on the way would have the token.
    #[error(
        "the bearer token would reach {host} unencrypted; use https://, or {} where a mesh or a tunnel encrypts",
        .flags.of("plaintext-token")
    )]
    Exposed {
        /// The flags.
        flags: Flags,
        /// The host.
        host: String,
    },
}

/// A value that never shows itself in logs or errors.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// The value.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("<hidden>")
    }
}

impl From<String> for Secret {
    fn from(value: String) -> Self {
        Self(value)
    }
}

/// Which flags say what is shown to a server: those that begin with its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flags(&'static str);

impl Flags {
    /// Of the inference server.
    pub const INFERENCE: Self = Self("inference");
    /// Of the pipeline's services.
    pub const ENDPOINT: Self = Self("endpoint");

    /// The flag for one thing, such as "ca".
    pub fn of(self, what: &str) -> String {
        format!("--{}-{what}", self.0)
    }

    /// The flags for a certificate and its key.
    pub fn pair(self) -> String {
        format!("{} and {}", self.of("cert"), self.of("key"))
    }
}

impl Default for Flags {
    fn default() -> Self {
        Self::INFERENCE
    }
}

/// What a program shows to the inference server, and whom it trusts.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Credentials {
    /// Flags that errors name.
    #[arg(skip)]
    pub flags: Flags,
    /// Bearer token for the inference server; others on this machine can read arguments, but not
    /// the variable or a file.
    #[arg(
        long = "inference-token",
        env = "OBSERVATORY_INFERENCE_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN",
        global = true
    )]
    pub token: Option<Secret>,
    /// File with the bearer token; read again for every call.
    #[arg(
        long = "inference-token-file",
        env = "OBSERVATORY_INFERENCE_TOKEN_FILE",
        hide_env_values = true,
        value_name = "FILE",
        global = true
    )]
    pub token_file: Option<PathBuf>,
    /// Send the token also without TLS to another machine, where a mesh or a tunnel encrypts.
    #[arg(long = "inference-plaintext-token", env = "OBSERVATORY_INFERENCE_PLAINTEXT_TOKEN",
        hide_env_values = true, value_parser = clap::builder::FalseyValueParser::new(), global = true)]
    pub plaintext_token: bool,
    /// Roots in PEM that signed the certificate of the inference server [default: those of this
    /// machine].
    #[arg(
        long = "inference-ca",
        env = "OBSERVATORY_INFERENCE_CA",
        hide_env_values = true,
        value_name = "FILE",
        global = true
    )]
    pub ca: Option<PathBuf>,
    /// Certificate in PEM to show to the inference server; read again for every connection, like
    /// the roots and the key.
    #[arg(
        long = "inference-cert",
        env = "OBSERVATORY_INFERENCE_CERT",
        hide_env_values = true,
        value_name = "FILE",
        global = true
    )]
    pub certificate: Option<PathBuf>,
    /// Private key of --inference-cert in PEM.
    #[arg(
        long = "inference-key",
        env = "OBSERVATORY_INFERENCE_KEY",
        hide_env_values = true,
        value_name = "FILE",
        global = true
    )]
    pub key: Option<PathBuf>,
}

/// What a program shows to the pipeline's services, and whom it trusts.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct EndpointCredentials {
    /// Bearer token for the pipeline's services; others on this machine can read arguments, but not
    /// the variable or a file.
    #[arg(
        long,
        env = "OBSERVATORY_ENDPOINT_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN",
        global = true
    )]
    endpoint_token: Option<Secret>,
    /// File with that token; read again for every call.
    #[arg(
        long,
        env = "OBSERVATORY_ENDPOINT_TOKEN_FILE",
        hide_env_values = true,
        value_name = "FILE",
        global = true
    )]
    endpoint_token_file: Option<PathBuf>,
    /// Send that token also without TLS to another machine, where a mesh or a tunnel encrypts.
    #[arg(long, env = "OBSERVATORY_ENDPOINT_PLAINTEXT_TOKEN",
        hide_env_values = true, value_parser = clap::builder::FalseyValueParser::new(), global = true)]
    endpoint_plaintext_token: bool,
    /// Roots in PEM that signed the certificate of the pipeline's services [default: those of this
    /// machine].
    #[arg(long, env = "OBSERVATORY_ENDPOINT_CA", hide_env_values = true, value_name = "FILE", global = true)]
    endpoint_ca: Option<PathBuf>,
    /// Certificate in PEM to show to the pipeline's services; read again for every connection, like
    /// the roots and the key.
    #[arg(
        long,
        env = "OBSERVATORY_ENDPOINT_CERT",
        hide_env_values = true,
        value_name = "FILE",
        global = true
    )]
    endpoint_cert: Option<PathBuf>,
    /// Private key of --endpoint-cert in PEM.
    #[arg(
        long,
        env = "OBSERVATORY_ENDPOINT_KEY",
        hide_env_values = true,
        value_name = "FILE",
        global = true
    )]
    endpoint_key: Option<PathBuf>,
}

impl From<&EndpointCredentials> for Credentials {
    fn from(given: &EndpointCredentials) -> Self {
        let given = given.clone();
        Self {
            flags: Flags::ENDPOINT,
            token: given.endpoint_token,
            token_file: given.endpoint_token_file,
            plaintext_token: given.endpoint_plaintext_token,
            ca: given.endpoint_ca,
            certificate: given.endpoint_cert,
            key: given.endpoint_key,
        }
    }
}

impl Credentials {
    /// The same with the token of this file, where it is there and no token was given.
    #[must_use]
    pub fn or_token_of(self, file: PathBuf) -> Self {
        let is_given = self.token.is_some() || self.token_file.is_some();
        if is_given || !file.exists() { self } else { Self { token_file: Some(file), ..self } }
    }

    /// The same without certificates: a server of this machine's own stack speaks no TLS.
    pub fn without_tls(&self) -> Self {
        Self { ca: None, certificate: None, key: None, ..self.clone() }
    }

    /// The server at an address, http://HOST:PORT (which may be cut to HOST:PORT) or
    /// https://HOST:PORT, to be reached with these credentials.
    ///
    /// # Errors
    /// Names the flag at fault. Nothing was asked of the network then.
    pub fn server(&self, address: &str) -> Result<Server, Error> {
        let whole = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
        let bad = || Error::Address(address.to_owned());
        let uri: Uri = whole.parse().map_err(|_| bad())?;
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(bad)?.to_owned();
        let flags = self.flags;
        let bearer = token::bearer(flags, self.token.as_ref(), self.token_file.as_deref())?;
        let files = tls::Files {
            flags,
            ca: self.ca.clone(),
            identity: match (&self.certificate, &self.key) {
                (Some(certificate), Some(key)) => Some((certificate.clone(), key.clone())),
                (None, None) => None,
                _ => return Err(Error::Unpaired(flags)),
            },
        };
        match uri.scheme_str() {
            Some("https") => {
                files.config()?;
                let dial = tls::Dial::new(files, &host, uri.port_u16()).ok_or_else(bad)?;
                // The dialled stream is encrypted already: the transport is told of the scheme only
                // for its requests.
                let plain = Uri::builder().scheme("http").authority(dial.authority()).path_and_query("/");
                let endpoint = Endpoint::from(plain.build().map_err(|_| bad())?).origin(uri);
                Ok(Server { endpoint, dial: Some(dial), bearer })
            }
            Some("http") if files.any() => Err(Error::NotEncrypted { flags, address: address.to_owned() }),
            Some("http") if bearer.shows() && !self.plaintext_token && !is_loopback(&host) => {
                Err(Error::Exposed { flags, host })
            }
            Some("http") => Ok(Server { endpoint: Endpoint::from(uri), dial: None, bearer }),
            _ => Err(bad()),
        }
    }
}

/// Whether what is sent to a host stays on this machine.
fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// A server that may be called; nothing was asked of it yet.
#[derive(Debug, Clone)]
pub struct Server {
    endpoint: Endpoint,
    dial: Option<tls::Dial>,
    bearer: Bearer,
}

impl Server {
    /// The same with other limits and intervals of its transport.
    #[must_use]
    pub fn tuned(self, tune: impl FnOnce(Endpoint) -> Endpoint) -> Self {
        Self { endpoint: tune(self.endpoint), ..self }
    }

    /// Connects now.
    ///
    /// # Errors
    /// If nobody answers, or the handshake fails ([`HandshakeError`] among the causes).
    pub async fn connect(self) -> Result<Connection, tonic::transport::Error> {
        let channel = match self.dial {
            Some(dial) => self.endpoint.connect_with_connector(dial.connector()).await?,
            None => self.endpoint.connect().await?,
        };
        Ok(InterceptedService::new(channel, self.bearer))
    }

    /// Connects when it is first used, and again after a connection was lost. Wants a runtime.
    pub fn connect_lazy(self) -> Connection {
        let channel = match self.dial {
            Some(dial) => self.endpoint.connect_with_connector_lazy(dial.connector()),
            None => self.endpoint.connect_lazy(),
        };
        InterceptedService::new(channel, self.bearer)
    }
}

#[cfg(test)]
mod tests {
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

    /// What is said about credentials that cannot be used, causes included.
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
        check(Some(&text), (None, None), "text: there is no certificate in PEM in it");
        check(Some(&key), (None, None), "a.key: there is no certificate in PEM in it");
        check(Some(&ca), (Some(&ca), None), "needed together");
        check(Some(&ca), (None, Some(&key)), "needed together");
        check(Some(&ca), (Some(&ca), Some(&absent)), "cannot read --inference-key /absent.pem");
        check(Some(&ca), (Some(&ca), Some(&ca)), "a.pem: there is no private key in PEM in it");
        check(Some(&ca), (Some(&other), Some(&key)), "--inference-cert and --inference-key cannot be used");
        let good = Credentials {
            ca: Some(ca.clone()),
            certificate: Some(ca),
            key: Some(key),
            ..Credentials::default()
        };
        assert!(good.server(TLS).is_ok());
        let said = refused("http://server.example:1", &good);
        assert!(said.contains("starts with https://, not for http://server.example:1"), "{said}");
        assert!(good.without_tls().server("http://server.example:1").is_ok());
    }

    #[test]
    fn each_server_has_flags_of_its_own() {
        let given =
            EndpointCredentials { endpoint_ca: Some("/absent.pem".into()), ..EndpointCredentials::default() };
        let said = refused(TLS, &Credentials::from(&given));
        assert!(said.starts_with("cannot read --endpoint-ca /absent.pem"), "{said}");
        let given = EndpointCredentials {
            endpoint_token: Some("hush".to_owned().into()),
            ..EndpointCredentials::default()
        };
        let said = refused("http://10.0.0.1:1", &Credentials::from(&given));
        assert!(said.contains("or --endpoint-plaintext-token where"), "{said}");
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
            assert!(refused(bad, &none).contains("is not valid: expected http://HOST:PORT"), "{bad}");
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
        assert!(refused("localhost:1", &both).contains("both given"));
        let said = refused("localhost:1", &token("hu\nsh"));
        assert!(said.contains("characters") && !said.contains("hu"), "{said}");
        assert!(token("").server("http://10.0.0.1:1").is_ok(), "set to nothing is no token");
        assert!(!format!("{both:?} {server:?}").contains("hush"));
    }
}
