//! Who is let in: tokens, certificates, scopes, quotas, and their replacement while the server
//! runs.

use std::fs;
use std::path::Path;
use std::time::Duration;

use observatory_inference::Server;
use observatory_proto::inference::v1 as pb;
use pb::embedding_service_client::EmbeddingServiceClient;
use pb::models_service_client::ModelsServiceClient;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_stream::StreamExt;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt;

use crate::support::{Gate, Running, as_admin, config, gated, request};

fn clients(dir: &Path, text: &str) -> String {
    let file = dir.join("clients.toml");
    fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

fn entry(name: &str, token: &str, rest: &str) -> String {
    format!("[{name}]\ntoken_sha256 = \"{}\"\n{rest}\n", hex::encode(Sha256::digest(token)))
}

fn with_token<T>(message: T, token: &str) -> Request<T> {
    let mut asked = Request::new(message);
    asked.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    asked
}

async fn embed(channel: &Channel, token: &str, text: &str) -> Result<(), Status> {
    let mut client = EmbeddingServiceClient::new(channel.clone());
    client.embed(with_token(request(&[text]), token)).await.map(|_| ())
}

fn reason(status: &Status) -> (Code, String) {
    let details = status.get_error_details();
    (status.code(), details.error_info().map_or_else(String::new, |info| info.reason.clone()))
}

#[tokio::test]
async fn tokens_decide_who_calls_and_who_administers() {
    let dir = tempfile::tempdir().unwrap();
    let file = clients(
        dir.path(),
        &(entry("ops", "alpha", "admin = true") + &entry("lab", "beta", "tokens_per_minute = 6")),
    );
    let gate = Gate::closed();
    gate.open();
    let running = Running::with_gate(&gate, &["--clients-file", &file]).await;

    let unknown = Code::Unauthenticated;
    let anonymous = running.embed(&["a"]).await.unwrap_err();
    assert_eq!(reason(&anonymous), (unknown, "UNAUTHENTICATED".to_owned()));
    assert_eq!(embed(&running.channel, "gamma", "a").await.unwrap_err().code(), unknown);
    let asked = HealthCheckRequest { service: String::new() };
    assert!(running.health().check(asked).await.is_ok(), "health is open");

    let name = "test/gated".to_owned();
    let mut models = ModelsServiceClient::new(running.channel.clone());
    let unload = pb::UnloadModelRequest { name };
    let refused = models.unload_model(with_token(unload.clone(), "beta")).await.unwrap_err();
    assert_eq!(reason(&refused), (Code::PermissionDenied, "ADMIN_SCOPE_NEEDED".to_owned()));

    embed(&running.channel, "beta", "a b c d").await.unwrap();
    let refused = embed(&running.channel, "beta", "a").await.unwrap_err();
    assert_eq!(reason(&refused), (Code::ResourceExhausted, "QUOTA_EXCEEDED".to_owned()));
    assert!(refused.get_error_details().retry_info().is_some());
    embed(&running.channel, "alpha", "a").await.unwrap();
    let metrics = running.scrape().await;
    assert!(metrics.contains("client_tokens_total{client=\"lab\"} 6"), "{metrics}");

    models.unload_model(with_token(unload, "alpha")).await.unwrap();
}

/// A proxy, a sidecar or a forwarded port makes every caller one of this machine.
#[tokio::test]
async fn being_on_the_same_machine_makes_nobody_an_admin() {
    let gate = Gate::closed();
    gate.open();
    let running = Running::with_gate(&gate, &[]).await;
    running.embed(&["a"]).await.unwrap();
    let unload = pb::UnloadModelRequest { name: "test/gated".to_owned() };
    for request in [Request::new(unload.clone()), with_token(unload.clone(), "guessed")] {
        let refused = running.models().unload_model(request).await.unwrap_err();
        assert_eq!(reason(&refused), (Code::PermissionDenied, "ADMIN_SCOPE_NEEDED".to_owned()));
    }
    running.models().unload_model(as_admin(unload)).await.unwrap();
}

#[tokio::test]
async fn the_http_door_asks_for_the_same_tokens() {
    let dir = tempfile::tempdir().unwrap();
    let file = clients(dir.path(), &entry("lab", "beta", ""));
    let gate = Gate::closed();
    gate.open();
    let flags = ["--http-listen", "127.0.0.1:0", "--clients-file", &file];
    let running = Running::with_gate(&gate, &flags).await;
    let ask = async |authorization: &str| {
        let head = format!("POST /v1/embeddings HTTP/1.1\r\nhost: x\r\n{authorization}connection: close\r\n");
        let body = r#"{"model": "test/gated", "input": "a"}"#;
        let mut socket = tokio::net::TcpStream::connect(running.http.unwrap()).await.unwrap();
        socket
            .write_all(format!("{head}content-length: {}\r\n\r\n{body}", body.len()).as_bytes())
            .await
            .unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let refused = ask("").await;
    assert!(refused.starts_with("HTTP/1.1 401"), "{refused}");
    assert!(refused.contains("invalid_api_key") && refused.contains("authentication_error"), "{refused}");
    assert!(ask("authorization: Bearer other\r\n").await.starts_with("HTTP/1.1 401"));
    assert!(ask("authorization: Bearer beta\r\n").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_changed_clients_file_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let file = clients(dir.path(), &entry("lab", "old", ""));
    let gate = Gate::closed();
    gate.open();
    let running = Running::with_gate(&gate, &["--clients-file", &file]).await;
    embed(&running.channel, "old", "a").await.unwrap();
    clients(dir.path(), "no toml at all [");
    clients(dir.path(), &entry("lab", "new", ""));
    eventually(async || embed(&running.channel, "new", "a").await.is_ok()).await;
    assert_eq!(embed(&running.channel, "old", "a").await.unwrap_err().code(), Code::Unauthenticated);
}

/// Asks until the answer is yes, for at most 30 seconds.
pub(crate) async fn eventually(mut ask: impl AsyncFnMut() -> bool) {
    let mut ticks =
        tokio_stream::wrappers::IntervalStream::new(tokio::time::interval(Duration::from_millis(50)));
    for _ in 0..600 {
        if ask().await {
            return;
        }
        ticks.next().await;
    }
    panic!("not within 30 seconds");
}

/// A root and what it signs.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Certificate and key in PEM, and the SHA-256 of the certificate.
    fn issue(&self, host: &str) -> (String, String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let digest = hex::encode(Sha256::digest(certificate.der()));
        (certificate.pem(), key.serialize_pem(), digest)
    }

    fn pem(&self) -> String {
        self.0.pem()
    }
}

struct Tls {
    dir: TempDir,
    authority: Authority,
}

impl Tls {
    fn new() -> Self {
        let tls = Self { dir: tempfile::tempdir().unwrap(), authority: Authority::new() };
        fs::write(tls.file("ca.pem"), tls.authority.pem()).unwrap();
        tls.renew();
        tls
    }

    fn file(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    /// Writes a new server certificate.
    fn renew(&self) -> String {
        let (certificate, key, digest) = self.authority.issue("localhost");
        fs::write(self.file("server.pem"), certificate).unwrap();
        fs::write(self.file("server.key"), key).unwrap();
        digest
    }

    async fn serve(&self, flags: &[&str]) -> (std::net::SocketAddr, tokio::task::JoinHandle<()>) {
        let empty = tempfile::tempdir().unwrap();
        let (certificate, key) = (self.file("server.pem"), self.file("server.key"));
        let all: Vec<&str> = ["--tls-cert", &certificate, "--tls-key", &key]
            .into_iter()
            .chain(flags.iter().copied())
            .collect();
        let gate = Gate::closed();
        gate.open();
        let server = Server::with_models(&config(empty.path(), &all), vec![gated(&gate)]).await.unwrap();
        let address = server.grpc_addr().unwrap();
        let serving = tokio::spawn(async move {
            server.run(observatory_inference::Stop::default()).await.unwrap();
        });
        (address, serving)
    }

    async fn connect(
        &self,
        address: std::net::SocketAddr,
        identity: Option<(String, String)>,
    ) -> Result<Channel, tonic::transport::Error> {
        let mut tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(self.authority.pem()))
            .domain_name("localhost");
        if let Some((certificate, key)) = identity {
            tls = tls.identity(Identity::from_pem(certificate, key));
        }
        Endpoint::from_shared(format!("https://{address}"))?.tls_config(tls)?.connect().await
    }
}

#[tokio::test]
async fn tls_serves_and_its_certificate_is_renewed() {
    let tls = Tls::new();
    let (address, serving) = tls.serve(&[]).await;
    let channel = tls.connect(address, None).await.unwrap();
    let client = || EmbeddingServiceClient::new(channel.clone());
    client().embed(request(&["a"])).await.unwrap();
    let plain = Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await;
    if let Ok(plain) = plain {
        assert!(EmbeddingServiceClient::new(plain).embed(request(&["a"])).await.is_err());
    }
    let before = shown(address, &tls).await;
    let renewed = tls.renew();
    assert_ne!(before, renewed);
    eventually(async || shown(address, &tls).await == renewed).await;
    client().embed(request(&["a"])).await.expect("connections stay");
    serving.abort();
}

/// A connection by TLS, with a certificate in PEM and its key where there is one.
async fn dialled(
    address: std::net::SocketAddr,
    tls: &Tls,
    identity: Option<(&str, &str)>,
) -> std::io::Result<tokio_rustls::client::TlsStream<tokio::net::TcpStream>> {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let mut roots = rustls::RootCertStore::empty();
    let pem = tls.authority.pem();
    roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let stream = tokio::net::TcpStream::connect(address).await?;
    connector.connect("localhost".try_into().unwrap(), stream).await
}

/// SHA-256 of the certificate the server shows.
async fn shown(address: std::net::SocketAddr, tls: &Tls) -> String {
    let stream = dialled(address, tls, None).await.unwrap();
    hex::encode(Sha256::digest(&stream.get_ref().1.peer_certificates().unwrap()[0]))
}

#[tokio::test]
async fn a_client_certificate_is_needed_where_a_root_is_given() {
    let tls = Tls::new();
    let (certificate, key, digest) = tls.authority.issue("lab");
    let (stranger, stranger_key, _) = Authority::new().issue("lab");
    let (unlisted, unlisted_key, _) = tls.authority.issue("other");
    let file = clients(tls.dir.path(), &format!("[lab]\ncertificate_sha256 = \"{digest}\"\n"));
    let ca = tls.file("ca.pem");
    let (address, serving) = tls.serve(&["--tls-client-ca", &ca, "--clients-file", &file]).await;
    let ask = async |identity| {
        let channel =
            tls.connect(address, identity).await.map_err(|error| Status::unknown(error.to_string()))?;
        let health = HealthCheckRequest { service: String::new() };
        HealthClient::new(channel.clone()).check(health).await?;
        EmbeddingServiceClient::new(channel).embed(request(&["a"])).await.map(|_| ())
    };
    ask(Some((certificate, key))).await.unwrap();
    assert!(ask(None).await.is_err());
    assert!(ask(Some((stranger, stranger_key))).await.is_err());
    let refused = ask(Some((unlisted, unlisted_key))).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    serving.abort();
}

/// The same certificate that opens the gRPC port opens the HTTPS port.
#[tokio::test]
async fn a_client_certificate_counts_on_the_https_port() {
    let tls = Tls::new();
    let (certificate, key, digest) = tls.authority.issue("lab");
    let (unlisted, unlisted_key, _) = tls.authority.issue("other");
    let file = clients(tls.dir.path(), &format!("[lab]\ncertificate_sha256 = \"{digest}\"\n"));
    let (ca, server, server_key) = (tls.file("ca.pem"), tls.file("server.pem"), tls.file("server.key"));
    let flags = [
        "--tls-cert",
        &server,
        "--tls-key",
        &server_key,
        "--tls-client-ca",
        &ca,
        "--clients-file",
        &file,
        "--http-listen",
        "127.0.0.1:0",
    ];
    let gate = Gate::closed();
    gate.open();
    let empty = tempfile::tempdir().unwrap();
    let server = Server::with_models(&config(empty.path(), &flags), vec![gated(&gate)]).await.unwrap();
    let address = server.http_addr().unwrap();
    let serving = tokio::spawn(server.run(observatory_inference::Stop::default()));
    let ask = async |certificate: &str, key: &str| {
        let mut stream = dialled(address, &tls, Some((certificate, key))).await.unwrap();
        let body = r#"{"model": "test/gated", "input": "a"}"#;
        let head = "POST /v1/embeddings HTTP/1.1\r\nhost: x\r\nconnection: close\r\n";
        stream
            .write_all(format!("{head}content-length: {}\r\n\r\n{body}", body.len()).as_bytes())
            .await
            .unwrap();
        let mut answer = Vec::new();
        // The server closes without TLS's own farewell.
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    };
    let answer = ask(&certificate, &key).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let refused = ask(&unlisted, &unlisted_key).await;
    assert!(
        refused.starts_with("HTTP/1.1 401") && refused.contains("unknown bearer token or certificate"),
        "{refused}"
    );
    serving.abort();
}
