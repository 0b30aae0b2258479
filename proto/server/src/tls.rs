//! Streams with and without TLS, and the identity of the peer.
//!
//! A client certificate is verified by the TLS library; its digest is what `access` compares.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use anyhow::{Context, Result, ensure};
use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ServerConfig, WebPkiClientVerifier};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::watched::Watched;

/// PEM files that configure TLS for a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The certificate chain, leaf first.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
    /// Roots that must have signed client certificates; `None` requests no client certificates.
    pub client_ca: Option<PathBuf>,
}

/// Application protocol of a port, negotiated by ALPN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/2.
    Grpc,
    /// HTTP/1.1.
    Http,
}

impl Files {
    /// Builds the TLS configuration, and again when a file changes.
    ///
    /// # Errors
    /// If a file cannot be read or parsed, or the key does not match the certificate.
    pub fn watched(&self, protocol: Protocol) -> Result<Arc<Watched<ServerConfig>>> {
        // In the order of `contents` below.
        let files = [&self.certificate, &self.key].into_iter().chain(&self.client_ca).cloned().collect();
        let Self { certificate, key, client_ca } = self.clone();
        Watched::new(files, move |contents| {
            let chain = certificates(&contents[0])
                .with_context(|| format!("--tls-cert {}", certificate.display()))?;
            let key = PrivateKeyDer::from_pem_slice(&contents[1])
                .with_context(|| format!("--tls-key {}: no PEM private key in it", key.display()))?;
            // A third content is there only with a third file.
            let roots = client_ca.iter().zip(contents.get(2)).next().map(|(file, content)| {
                certificates(content).with_context(|| format!("--tls-client-ca {}", file.display()))
            });
            config(chain, key, roots.transpose()?, protocol)
        })
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let found: Vec<_> =
        CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().context("invalid PEM")?;
    ensure!(!found.is_empty(), "no PEM certificate in it");
    Ok(found)
}

fn config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    client_roots: Option<Vec<CertificateDer<'static>>>,
    protocol: Protocol,
) -> Result<ServerConfig> {
    // Passed in, since otherwise rustls wants a provider installed for the whole process.
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .context("TLS versions")?;
    let builder = match client_roots {
        None => builder.with_no_client_auth(),
        Some(certificates) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates {
                roots.add(certificate).context("--tls-client-ca")?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().context("--tls-client-ca")?)
        }
    };
    let mut config = builder.with_single_cert(chain, key).context("--tls-cert and --tls-key do not match")?;
    // One protocol per port: a client that offers only another one fails in the handshake.
    config.alpn_protocols = match protocol {
        Protocol::Grpc => vec![b"h2".to_vec()],
        Protocol::Http => vec![b"http/1.1".to_vec()],
    };
    Ok(config)
}

/// The other end of a connection.
#[derive(Debug, Clone, Default)]
pub struct Peer {
    /// Its address.
    pub address: Option<SocketAddr>,
    /// SHA-256 of its verified certificate.
    pub certificate: Option<[u8; 32]>,
}

/// A connection, encrypted or not.
#[derive(Debug)]
pub enum Stream {
    /// Without TLS.
    Plain(TcpStream),
    /// With TLS, after the handshake.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Identifies the peer.
    pub fn peer(&self) -> Peer {
        match self {
            Self::Plain(stream) => Peer { address: stream.peer_addr().ok(), certificate: None },
            Self::Tls(stream) => {
                let (tcp, tls) = stream.get_ref();
                // The leaf comes first; the others are its issuers.
                let shown = tls.peer_certificates().and_then(|chain| chain.first());
                let certificate = shown.map(|certificate| Sha256::digest(certificate.as_ref()).into());
                Peer { address: tcp.peer_addr().ok(), certificate }
            }
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut TaskContext<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buffer),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, buffers),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, buffers),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
