//! Clients of the project's servers: addresses, TLS, client certificates and bearer tokens.
//!
//! | step | call |
//! |---|---|
//! | flags and variables of a program | [`Credentials`] (inference server), [`EndpointCredentials`] (pipeline), both for clap |
//! | check everything, ask nothing of the network | [`Credentials::server`] |
//! | limits and intervals of the transport | [`Server::tuned`] |
//! | connect; the connection shows the token with every call | [`Connection`] |
//! | the same to every address of a name, calls spread over those that serve | [`BalancedConnection`] |
//!
//! Promises:
//!
//! - Errors name the flag at fault, and nothing has been sent by then.
//! - The files may be replaced while the program runs: certificates are read again for every
//!   connection, a token for every call.
//! - A token goes to another machine encrypted only, unless a flag says that a mesh or a tunnel
//!   encrypts; [`Secret`] never shows it in logs or errors.
//!
//! `proto/client/examples/embed.rs` is a whole program. Read on in `docs/inference-server.md`
//! ("TLS and callers").

mod balance;
mod tls;
mod token;

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use tonic::codegen::http::Uri;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};

pub use balance::{Balanced, Resolving};
pub use tls::{HandshakeError, Wanted, wanted};
pub use token::Bearer;

/// A channel whose calls carry the bearer token.
pub type Connection = InterceptedService<Channel, Bearer>;

/// The same over the servers of a name.
pub type BalancedConnection = InterceptedService<Balanced, Bearer>;

/// Reasons why a server cannot be called with the given credentials.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is not the URL of a server.
    #[error("invalid address `{0}`: expected http://HOST:PORT or https://HOST:PORT")]
    Address(String),
    /// A file cannot be read.
    #[error("cannot read {flag} {}", .file.display())]
    Unreadable {
        /// The flag that names the file.
        flag: String,
        /// The file.
        file: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A file does not contain what its flag asks for.
    #[error("{flag} {}: no PEM {expected} in it", .file.display())]
    Content {
        /// The flag that names the file.
        flag: String,
        /// The file.
        file: PathBuf,
        /// The expected kind of object.
        expected: &'static str,
    },
    /// A certificate or key that TLS cannot work with.
    #[error("invalid {flags}")]
    Unusable {
        /// The flags that name the files.
        flags: String,
        /// The cause.
        source: rustls::Error,
    },
    /// A certificate without its key, or a key without its certificate.
    #[error("{} must be given together", .0.pair())]
    Unpaired(Flags),
    /// Certificates for a connection without TLS.
    #[error("{} and {} require an https:// address, not {address}", .flags.of("ca"), .flags.of("cert"))]
    NotEncrypted {
        /// The flags.
        flags: Flags,
        /// The address.
        address: String,
    },
    /// No roots to trust.
    #[error("this machine has no root certificates; pass the roots to trust with {}", .0.of("ca"))]
    NoRoots(Flags),
    /// A token and a token file.
    #[error("{} and {} are mutually exclusive", .0.of("token"), .0.of("token-file"))]
    TwoTokens(Flags),
    /// A file without a token.
    #[error("{flag} {} is empty", .file.display())]
    EmptyToken {
        /// The flag that names the file.
        flag: String,
        /// The file.
        file: PathBuf,
    },
    /// A token that is not a valid header value.
    #[error("the bearer token contains characters that are not allowed in a header")]
    BadToken,
    /// The token could be overheard.
    #[error(
        "the bearer token would be sent to {host} unencrypted; use https://, or {} if a mesh or a tunnel encrypts",
        .flags.of("plaintext-token")
    )]
    Exposed {
        /// The flags.
        flags: Flags,
        /// The host.
        host: String,
    },
}

/// A value that is never shown in logs or errors.
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

/// The prefix of the flags that configure one server, for error messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flags(&'static str);

impl Flags {
    /// `--inference-token` and the like.
    pub const INFERENCE: Self = Self("inference");
    /// `--endpoint-token` and the like.
    pub const ENDPOINT: Self = Self("endpoint");

    /// The flag for one part of the credentials, such as "ca".
    pub fn of(self, what: &str) -> String {
        format!("--{}-{what}", self.0)
    }

    /// The flags for a certificate and its key.
    pub fn pair(self) -> String {
        format!("{} and {}", self.of("cert"), self.of("key"))
    }
}

/// Defines the credentials for one server with their flags, `--PREFIX-token` and the like. The
/// variables are spelled out so that a search finds them.
macro_rules! credentials {
    (
        $(#[$documentation:meta])*
        $name:ident: $flags:expr, $prefix:literal, $server:literal,
        [$token:literal, $token_file:literal, $plaintext_token:literal, $ca:literal, $cert:literal, $key:literal $(,)?]
    ) => {
        $(#[$documentation])*
        #[derive(Debug, Clone, clap::Args)]
        pub struct $name {
            /// Flags to name in errors.
            #[arg(skip = $flags)]
            pub flags: Flags,
            /// Bearer token.
            // Global, as are the others, so that the flags may also follow a subcommand.
            #[arg(
                id = concat!($prefix, "-token"),
                long = concat!($prefix, "-token"),
                env = $token,
                hide_env_values = true,
                value_name = "TOKEN",
                global = true,
                help = concat!(
                    "Bearer token for ", $server,
                    "; prefer the variable or a file, since other users of this machine can read arguments"
                )
            )]
            pub token: Option<Secret>,
            /// File with the bearer token.
            #[arg(
                id = concat!($prefix, "-token-file"),
                long = concat!($prefix, "-token-file"),
                env = $token_file,
                hide_env_values = true,
                value_name = "FILE",
                global = true,
                help = concat!("File with the bearer token for ", $server, ", read again for every call")
            )]
            pub token_file: Option<PathBuf>,
            /// Permission to send the token to another machine without TLS.
            #[arg(
                id = concat!($prefix, "-plaintext-token"),
                long = concat!($prefix, "-plaintext-token"),
                env = $plaintext_token,
                hide_env_values = true,
                value_parser = clap::builder::FalseyValueParser::new(),
                global = true,
                help = "Allow sending the token to other machines without TLS, for use behind a mesh or a tunnel"
            )]
            pub plaintext_token: bool,
            /// Trusted roots in PEM.
            #[arg(
                id = concat!($prefix, "-ca"),
                long = concat!($prefix, "-ca"),
                env = $ca,
                hide_env_values = true,
                value_name = "FILE",
                global = true,
                help = concat!("Root certificates in PEM to verify ", $server, " with [default: those of this machine]")
            )]
            pub ca: Option<PathBuf>,
            /// Client certificate in PEM.
            #[arg(
                id = concat!($prefix, "-cert"),
                long = concat!($prefix, "-cert"),
                env = $cert,
                hide_env_values = true,
                value_name = "FILE",
                global = true,
                help = concat!(
                    "Client certificate in PEM for ", $server,
                    "; read again for every connection, as are the roots and the key"
                )
            )]
            pub certificate: Option<PathBuf>,
            /// Private key of the certificate in PEM.
            #[arg(
                id = concat!($prefix, "-key"),
                long = concat!($prefix, "-key"),
                env = $key,
                hide_env_values = true,
                value_name = "FILE",
                global = true,
                help = concat!("Private key in PEM of --", $prefix, "-cert")
            )]
            pub key: Option<PathBuf>,
        }

        impl Default for $name {
            fn default() -> Self {
                Self {
                    flags: $flags,
                    token: None,
                    token_file: None,
                    plaintext_token: false,
                    ca: None,
                    certificate: None,
                    key: None,
                }
            }
        }
    };
}

credentials! {
    /// Credentials for the inference server, and the roots to verify it with.
    Credentials: Flags::INFERENCE, "inference", "the inference server",
    [
        "OBSERVATORY_INFERENCE_TOKEN",
        "OBSERVATORY_INFERENCE_TOKEN_FILE",
        "OBSERVATORY_INFERENCE_PLAINTEXT_TOKEN",
        "OBSERVATORY_INFERENCE_CA",
        "OBSERVATORY_INFERENCE_CERT",
        "OBSERVATORY_INFERENCE_KEY",
    ]
}

credentials! {
    /// Credentials for the pipeline services, and the roots to verify them with.
    EndpointCredentials: Flags::ENDPOINT, "endpoint", "the pipeline services",
    [
        "OBSERVATORY_ENDPOINT_TOKEN",
        "OBSERVATORY_ENDPOINT_TOKEN_FILE",
        "OBSERVATORY_ENDPOINT_PLAINTEXT_TOKEN",
        "OBSERVATORY_ENDPOINT_CA",
        "OBSERVATORY_ENDPOINT_CERT",
        "OBSERVATORY_ENDPOINT_KEY",
    ]
}

impl From<EndpointCredentials> for Credentials {
    fn from(given: EndpointCredentials) -> Self {
        let EndpointCredentials { flags, token, token_file, plaintext_token, ca, certificate, key } = given;
        Self { flags, token, token_file, plaintext_token, ca, certificate, key }
    }
}

/// Installs ring as the crypto provider of the process, which reqwest requires. Does nothing if one
/// is already installed.
pub fn install_crypto_provider() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

impl Credentials {
    /// Falls back to the token in `file` if it exists and no token was given.
    #[must_use]
    pub fn or_token_of(self, file: PathBuf) -> Self {
        let is_given = self.token.is_some() || self.token_file.is_some();
        if is_given || !file.exists() { self } else { Self { token_file: Some(file), ..self } }
    }

    /// Drops the certificates, for the servers of the local stack, which do not use TLS.
    pub fn without_tls(&self) -> Self {
        Self { ca: None, certificate: None, key: None, ..self.clone() }
    }

    /// Prepares calls to the server at `address`: http://HOST:PORT, HOST:PORT for short, or
    /// https://HOST:PORT.
    ///
    /// # Errors
    /// Names the invalid flag. Nothing has been sent then.
    pub fn server(&self, address: &str) -> Result<Server, Error> {
        let whole = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
        let uri: Uri = whole.parse().map_err(|_| bad_address(address))?;
        let host = uri.host().filter(|host| !host.is_empty());
        let host = host.ok_or_else(|| bad_address(address))?.to_owned();
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
                // Only to check the files now: they are read again for each connection.
                files.config()?;
                let dial =
                    tls::Dial::new(files, &host, uri.port_u16()).ok_or_else(|| bad_address(address))?;
                // The connector encrypts by itself, so the transport must not: it sees an http URL
                // and uses the real one only for the requests.
                let plain = Uri::builder().scheme("http").authority(dial.authority()).path_and_query("/");
                let endpoint = Endpoint::from(plain.build().map_err(|_| bad_address(address))?).origin(uri);
                Ok(Server { endpoint, dial: Some(dial), bearer })
            }
            Some("http") if files.any() => Err(Error::NotEncrypted { flags, address: address.to_owned() }),
            // Nobody else listens on the loopback interface.
            Some("http") if bearer.has_token() && !self.plaintext_token && !is_loopback(&host) => {
                Err(Error::Exposed { flags, host })
            }
            Some("http") => Ok(Server { endpoint: Endpoint::from(uri), dial: None, bearer }),
            _ => Err(bad_address(address)),
        }
    }
}

fn bad_address(address: &str) -> Error {
    Error::Address(address.to_owned())
}

/// Returns true if a host is this machine.
fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// A server with validated credentials, not connected yet.
#[derive(Debug, Clone)]
pub struct Server {
    endpoint: Endpoint,
    dial: Option<tls::Dial>,
    bearer: Bearer,
}

impl Server {
    /// Adjusts limits and intervals of the transport.
    #[must_use]
    pub fn tuned(self, tune: impl FnOnce(Endpoint) -> Endpoint) -> Self {
        Self { endpoint: tune(self.endpoint), ..self }
    }

    /// Connects now.
    ///
    /// # Errors
    /// If there is no response, or the handshake fails ([`HandshakeError`] among the causes).
    pub async fn connect(self) -> Result<Connection, tonic::transport::Error> {
        let channel = match self.dial {
            Some(dial) => self.endpoint.connect_with_connector(dial.connector()).await?,
            None => self.endpoint.connect().await?,
        };
        Ok(InterceptedService::new(channel, self.bearer))
    }

    /// Connects on first use, and again after the connection is lost. Must be called inside a
    /// runtime.
    pub fn connect_lazy(self) -> Connection {
        let channel = match self.dial {
            Some(dial) => self.endpoint.connect_with_connector_lazy(dial.connector()),
            None => self.endpoint.connect_lazy(),
        };
        InterceptedService::new(channel, self.bearer)
    }

    /// Connects to every address of the host's name on first use, looks the name up again every few
    /// seconds, and gives each call to the server with the fewest that says it is ready. Must be
    /// called inside a runtime.
    pub fn connect_balanced(self) -> BalancedConnection {
        let (host, port) = self.place();
        self.connect_balanced_by(move || {
            let host = host.clone();
            Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) })
        })
    }

    /// The same where something else than the system says which addresses there are.
    pub fn connect_balanced_by(
        self,
        resolve: impl Fn() -> Resolving + Send + Sync + 'static,
    ) -> BalancedConnection {
        let Self { endpoint, dial, bearer } = self;
        let connect = move |address| match &dial {
            Some(dial) => endpoint.connect_with_connector_lazy(dial.clone().at(address).connector()),
            None => endpoint.connect_with_connector_lazy(balance::plain(address)),
        };
        InterceptedService::new(Balanced::new(resolve, connect), bearer)
    }

    /// Host and port to look up.
    fn place(&self) -> (String, u16) {
        let uri = self.endpoint.uri();
        // An address of IPv6 stands in brackets in a URL alone.
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        // That of the dial has a port; a bare http:// has that of HTTP.
        (host.to_owned(), uri.port_u16().unwrap_or(80))
    }
}

#[cfg(test)]
mod tests;
