//! Encrypted connections, and explanations of why one failed.
//!
//! TLS 1.3 verifies the certificate of a client only after the handshake, so that the first call
//! may carry the reason; [`wanted`] digs it out.

use std::error::Error as StdError;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{AlertDescription, CertificateError, ClientConfig, Error as TlsError, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::codegen::http::Uri;
use tower::Service;

use crate::{Error, Flags};

/// ALPN protocol of gRPC, which requires HTTP/2 (RFC 9113, section 3.2).
const PROTOCOL: &[u8] = b"h2";

/// PEM files that configure TLS for a client.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    /// Flags to name in errors.
    pub(crate) flags: Flags,
    /// Roots to trust; `None` means those of the machine.
    pub(crate) ca: Option<PathBuf>,
    /// Client certificate and its key.
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
}

impl Files {
    /// Returns true if any file is given.
    pub(crate) fn any(&self) -> bool {
        self.ca.is_some() || self.identity.is_some()
    }

    /// Reads the files and builds the TLS configuration.
    pub(crate) fn config(&self) -> Result<ClientConfig, Error> {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|source| Error::Unusable { flags: self.flags.of("ca"), source })?
            .with_root_certificates(self.roots()?);
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = certificates(&self.flags.of("cert"), certificate)?;
                let key = private_key(&self.flags.of("key"), key)?;
                let built = builder.with_client_auth_cert(chain, key);
                built.map_err(|source| Error::Unusable { flags: self.flags.pair(), source })?
            }
        };
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        Ok(config)
    }

    fn roots(&self) -> Result<RootCertStore, Error> {
        let mut roots = RootCertStore::empty();
        match &self.ca {
            Some(file) => {
                let flag = self.flags.of("ca");
                for certificate in certificates(&flag, file)? {
                    let added = roots.add(certificate);
                    added.map_err(|source| Error::Unusable { flags: flag.clone(), source })?;
                }
            }
            None => {
                // A machine may have certificates that rustls cannot parse; the others are enough.
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        if roots.is_empty() { Err(Error::NoRoots(self.flags)) } else { Ok(roots) }
    }
}

fn read(flag: &str, file: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(file).map_err(|source| Error::Unreadable {
        flag: flag.to_owned(),
        file: file.to_owned(),
        source,
    })
}

fn certificates(flag: &str, file: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let pem = read(flag, file)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let expected = "certificate";
    found.ok().filter(|found| !found.is_empty()).ok_or_else(|| Error::Content {
        flag: flag.to_owned(),
        file: file.to_owned(),
        expected,
    })
}

fn private_key(flag: &str, file: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    let pem = read(flag, file)?;
    let expected = "private key";
    PrivateKeyDer::from_pem_slice(&pem).map_err(|_| Error::Content {
        flag: flag.to_owned(),
        file: file.to_owned(),
        expected,
    })
}

/// A server to connect to over TLS.
#[derive(Debug, Clone)]
pub(crate) struct Dial {
    files: Files,
    name: ServerName<'static>,
    host: String,
    port: u16,
    /// One address of the host; `None` tries all of them.
    address: Option<SocketAddr>,
}

impl Dial {
    /// Returns `None` if the host is neither a name nor an address.
    pub(crate) fn new(files: Files, host: &str, port: Option<u16>) -> Option<Self> {
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host.clone()).ok()?;
        Some(Self { files, name, host, port: port.unwrap_or(443), address: None })
    }

    /// The same at one address of the host.
    pub(crate) fn at(self, address: SocketAddr) -> Self {
        Self { address: Some(address), ..self }
    }

    /// Host and port as in a URL.
    pub(crate) fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// A service that opens a connection whenever one is needed.
    pub(crate) fn connector(
        self,
    ) -> impl Service<Uri, Response = TokioIo<TlsStream<TcpStream>>, Error = BoxError, Future: Send> + Send
    {
        tower::service_fn(move |_: Uri| self.clone().connect())
    }

    async fn connect(self) -> Result<TokioIo<TlsStream<TcpStream>>, BoxError> {
        // The files are few and small, and read once per connection: not worth a thread.
        let connector = TlsConnector::from(Arc::new(self.files.config()?));
        let stream = match self.address {
            Some(address) => TcpStream::connect(address).await?,
            None => TcpStream::connect((self.host.as_str(), self.port)).await?,
        };
        // Calls are small messages, which would be held back to be sent together.
        stream.set_nodelay(true)?;
        let handshake = connector.connect(self.name.clone(), stream).await;
        let stream = handshake.map_err(|cause| HandshakeError { advice: self.advice(&cause), cause })?;
        // A web server without HTTP/2 would otherwise only look like a lost connection.
        if stream.get_ref().1.alpn_protocol() != Some(PROTOCOL) {
            return Err(NO_GRPC.into());
        }
        Ok(TokioIo::new(stream))
    }

    /// Explains a failed handshake and suggests a fix.
    fn advice(&self, error: &io::Error) -> String {
        let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<TlsError>());
        match cause {
            Some(TlsError::InvalidCertificate(
                CertificateError::UnknownIssuer | CertificateError::BadSignature,
            )) => match &self.files.ca {
                Some(file) => format!(
                    "the server certificate is not signed by any of the roots in {} {}",
                    self.files.flags.of("ca"),
                    file.display()
                ),
                None => format!(
                    "the server certificate is not signed by any root of this machine; pass its roots with {}",
                    self.files.flags.of("ca")
                ),
            },
            Some(TlsError::InvalidCertificate(_)) => {
                format!("the server certificate is not valid for {}", self.host)
            }
            // What a server without TLS sends back is plain text.
            Some(TlsError::InvalidMessage(_)) => {
                "the server does not use TLS; use an http:// address".to_owned()
            }
            Some(TlsError::AlertReceived(AlertDescription::NoApplicationProtocol)) => NO_GRPC.to_owned(),
            Some(other) => match wanted(other) {
                Some(wanted) => wanted.advice(self.files.flags),
                None => "the TLS handshake failed".to_owned(),
            },
            None => "the TLS handshake failed".to_owned(),
        }
    }
}

/// The server completed the handshake without the protocol of gRPC.
const NO_GRPC: &str = "the server uses TLS but does not offer gRPC at this address";

type BoxError = Box<dyn StdError + Send + Sync>;

/// A TLS handshake failed. The message includes the cause, since the transport keeps only the text
/// of a lost connection.
#[derive(Debug, thiserror::Error)]
#[error("{advice} ({cause})")]
pub struct HandshakeError {
    advice: String,
    cause: io::Error,
}

/// The client certificate that a server asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Any certificate.
    Certificate,
    /// A different one than was sent.
    Other,
}

impl Wanted {
    /// A suggestion for the user.
    pub fn advice(self, flags: Flags) -> String {
        match self {
            Self::Certificate => {
                format!("the server requires a client certificate; pass one with {}", flags.pair())
            }
            Self::Other => format!(
                "the server rejected the certificate in {}; it must be signed by a root in the server's --tls-client-ca",
                flags.of("cert")
            ),
        }
    }
}

/// Alerts about a certificate that the server does not accept, by the names of rustls (RFC 8446,
/// section 6.2).
const REJECTIONS: [&str; 5] =
    ["UnknownCA", "BadCertificate", "DecryptError", "CertificateUnknown", "CertificateExpired"];

fn has_alert(said: &str, names: &[&str]) -> bool {
    names.iter().any(|name| said.contains(&format!("fatal alert: {name}")))
}

/// Detects that a server closed the connection over the client certificate. In TLS 1.3 the server
/// verifies it only after the handshake, so the first call fails, with the TLS alert deep among its
/// causes.
pub fn wanted(error: &(dyn StdError + 'static)) -> Option<Wanted> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        // HTTP/2 keeps only the text of the alert, not its type.
        let said = error.to_string();
        if has_alert(&said, &["CertificateRequired"]) {
            return Some(Wanted::Certificate);
        }
        if has_alert(&said, &REJECTIONS) {
            return Some(Wanted::Other);
        }
        cause = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_are_explained() {
        let check = |alert, part: Option<&str>| {
            let error = io::Error::other(TlsError::AlertReceived(alert));
            let said = wanted(&error).map(|wanted| wanted.advice(Flags::ENDPOINT));
            assert_eq!(said.is_some(), part.is_some(), "{said:?}");
            assert!(said.unwrap_or_default().contains(part.unwrap_or_default()));
        };
        check(
            AlertDescription::CertificateRequired,
            Some("requires a client certificate; pass one with --endpoint-cert and --endpoint-key"),
        );
        check(AlertDescription::UnknownCA, Some("rejected the certificate"));
        check(AlertDescription::DecryptError, Some("rejected the certificate"));
        check(AlertDescription::InternalError, None);
    }

    #[test]
    fn hosts_are_names_or_addresses() {
        let check = |host: &str, authority: Option<&str>| {
            let files = Files { flags: Flags::INFERENCE, ca: None, identity: None };
            let dial = Dial::new(files, host, Some(7));
            assert_eq!(dial.map(|dial| dial.authority()).as_deref(), authority, "{host}");
        };
        check("server.example", Some("server.example:7"));
        check("127.0.0.1", Some("127.0.0.1:7"));
        check("[::1]", Some("[::1]:7"));
        check("a_b!", None);
    }
}
