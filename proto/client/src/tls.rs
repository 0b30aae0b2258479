//! Encrypted connections, and why one did not come about.

use std::error::Error as StdError;
use std::io;
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

/// What is spoken inside of TLS: gRPC wants HTTP/2.
const PROTOCOL: &[u8] = b"h2";

/// Files in PEM that make a client speak TLS.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    /// Flags that name them.
    pub(crate) flags: Flags,
    /// Roots to trust; those of the machine without.
    pub(crate) ca: Option<PathBuf>,
    /// Certificate and key to show.
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
}

impl Files {
    /// Whether there is one.
    pub(crate) fn any(&self) -> bool {
        self.ca.is_some() || self.identity.is_some()
    }

    /// What they make of a connection, read anew.
    pub(crate) fn config(&self) -> Result<ClientConfig, Error> {
        let unusable = |flags: String| move |source| Error::Unusable { flags, source };
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(unusable(self.flags.of("ca")))?
            .with_root_certificates(self.roots()?);
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = certificates(&self.flags.of("cert"), certificate)?;
                let key = private_key(&self.flags.of("key"), key)?;
                builder.with_client_auth_cert(chain, key).map_err(unusable(self.flags.pair()))?
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
                    let unusable = |source| Error::Unusable { flags: flag.clone(), source };
                    roots.add(certificate).map_err(unusable)?;
                }
            }
            None => {
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
    let wanted = "certificate";
    found.ok().filter(|found| !found.is_empty()).ok_or_else(|| Error::Content {
        flag: flag.to_owned(),
        file: file.to_owned(),
        wanted,
    })
}

fn private_key(flag: &str, file: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    let pem = read(flag, file)?;
    let wanted = "private key";
    PrivateKeyDer::from_pem_slice(&pem).map_err(|_| Error::Content {
        flag: flag.to_owned(),
        file: file.to_owned(),
        wanted,
    })
}

/// A server to make encrypted connections to.
#[derive(Debug, Clone)]
pub(crate) struct Dial {
    files: Files,
    name: ServerName<'static>,
    host: String,
    port: u16,
}

impl Dial {
    /// `None` where the host is neither a name nor an address.
    pub(crate) fn new(files: Files, host: &str, port: Option<u16>) -> Option<Self> {
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host.clone()).ok()?;
        Some(Self { files, name, host, port: port.unwrap_or(443) })
    }

    /// Host and port, as an address has them.
    pub(crate) fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Makes a connection whenever one is needed.
    pub(crate) fn connector(
        self,
    ) -> impl Service<Uri, Response = TokioIo<TlsStream<TcpStream>>, Error = BoxError, Future: Send> + Send
    {
        tower::service_fn(move |_: Uri| self.clone().connect())
    }

    async fn connect(self) -> Result<TokioIo<TlsStream<TcpStream>>, BoxError> {
        // Few and small files, read once a connection: not worth a thread.
        let connector = TlsConnector::from(Arc::new(self.files.config()?));
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        let handshake = connector.connect(self.name.clone(), stream).await;
        let stream = handshake.map_err(|cause| HandshakeError { advice: self.advice(&cause), cause })?;
        if stream.get_ref().1.alpn_protocol() != Some(PROTOCOL) {
            return Err(NO_GRPC.into());
        }
        Ok(TokioIo::new(stream))
    }

    /// What a failed handshake means, and what to do about it.
    fn advice(&self, error: &io::Error) -> String {
        let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<TlsError>());
        match cause {
            Some(TlsError::InvalidCertificate(
                CertificateError::UnknownIssuer | CertificateError::BadSignature,
            )) => match &self.files.ca {
                Some(file) => format!(
                    "the server's certificate is signed by none of the roots in {} {}",
                    self.files.flags.of("ca"),
                    file.display()
                ),
                None => format!(
                    "the server's certificate is signed by no root of this machine; name the roots that signed it with {}",
                    self.files.flags.of("ca")
                ),
            },
            Some(TlsError::InvalidCertificate(_)) => {
                format!("the server's certificate does not hold for {}", self.host)
            }
            Some(TlsError::InvalidMessage(_)) => {
                "the server speaks no TLS; an address without it starts with http://".to_owned()
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

const NO_GRPC: &str = "the server speaks TLS, but no gRPC at this address";

type BoxError = Box<dyn StdError + Send + Sync>;

/// No encrypted connection came about. Says the cause itself: of a lost connection the transport
/// keeps the text only.
#[derive(Debug, thiserror::Error)]
#[error("{advice} ({cause})")]
pub struct HandshakeError {
    advice: String,
    cause: io::Error,
}

/// What a server wants of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// A certificate.
    Certificate,
    /// Another one than was shown.
    Other,
}

impl Wanted {
    /// What to do about it.
    pub fn advice(self, flags: Flags) -> String {
        match self {
            Self::Certificate => {
                format!("the server wants a client certificate; give one with {}", flags.pair())
            }
            Self::Other => format!(
                "the server does not accept the certificate of {}; a root of its --tls-client-ca must have signed it",
                flags.of("cert")
            ),
        }
    }
}

/// What a server wants that ended a connection by an alert of TLS: in TLS 1.3 it judges the
/// certificate of a client only after the handshake, so that the first call fails, for a reason
/// deep among its causes.
pub fn wanted(error: &(dyn StdError + 'static)) -> Option<Wanted> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        // HTTP/2 keeps the text of the alert and not its type.
        let said = error.to_string();
        let alerts = |names: &[&str]| names.iter().any(|name| said.contains(&format!("fatal alert: {name}")));
        if alerts(&["CertificateRequired"]) {
            return Some(Wanted::Certificate);
        }
        if alerts(&[
            "UnknownCA",
            "BadCertificate",
            "DecryptError",
            "CertificateUnknown",
            "CertificateExpired",
        ]) {
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
            Some("wants a client certificate; give one with --endpoint-cert and --endpoint-key"),
        );
        check(AlertDescription::UnknownCA, Some("does not accept"));
        check(AlertDescription::DecryptError, Some("does not accept"));
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
