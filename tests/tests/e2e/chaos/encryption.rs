//! TLS to the database: a proxy that speaks it stands before the embedded server, which does not.

use std::{fs, net::SocketAddr, process::Command, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer},
};

use super::ground::{Ground, STAGES};
use crate::site::program;

/// What a client sends to ask for TLS: its length, and the code 1234 5679 (PostgreSQL,
/// "SSLRequest").
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// A certificate authority and what it signed for `localhost`.
struct Certificates {
    authority: String,
    acceptor: TlsAcceptor,
}

impl Certificates {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let server_key = KeyPair::generate().unwrap();
        let server = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let server = server.signed_by(&server_key, &authority).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![server.der().clone()],
                PrivateKeyDer::try_from(server_key.serialize_der()).unwrap(),
            )
            .unwrap();
        Self { authority: authority.pem(), acceptor: TlsAcceptor::from(Arc::new(config)) }
    }
}

/// A server that takes encrypted connections only.
async fn encrypted(target: SocketAddr, acceptor: TlsAcceptor) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut first = [0; 8];
                client.read_exact(&mut first).await.ok()?;
                if first != SSL_REQUEST {
                    return None;
                }
                client.write_all(b"S").await.ok()?;
                let mut client = acceptor.accept(client).await.ok()?;
                let mut server = TcpStream::connect(target).await.ok()?;
                copy_bidirectional(&mut client, &mut server).await.ok()
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_is_reached_over_tls() {
    let ground = Ground::new().await;
    let mut trial = ground.trial().await;
    let (known, foreign) = (Certificates::new(), Certificates::new());
    let address = encrypted(ground.database(), known.acceptor.clone()).await;
    let ca = ground.site.file("ca.pem", &known.authority);
    let other = ground.site.file("other.pem", &foreign.authority);
    let plain = trial.url.clone();
    let url = |host: &str, mode: &str, ca: Option<&str>| {
        let server = format!("{host}:{}", address.port());
        let ca = ca.map(|ca| format!("&sslrootcert={ca}")).unwrap_or_default();
        format!("{}?sslmode={mode}{ca}", plain.replace(&ground.database().to_string(), &server))
    };
    let check = |url: String, good: bool| {
        let mut command = Command::new(program("pipeline-services"));
        let said =
            command.args(["wait-schema", "--timeout", "0"]).env("DATABASE_URL", &url).output().unwrap();
        let text = String::from_utf8_lossy(&said.stderr).into_owned();
        assert_eq!(said.status.success(), good, "{}: {text}", url.rsplit_once('@').unwrap().1);
    };
    check(url("localhost", "disable", None), false);
    check(url("localhost", "prefer", None), true);
    check(url("localhost", "require", None), true);
    check(url("localhost", "verify-ca", Some(&ca)), true);
    check(url("127.0.0.1", "verify-ca", Some(&ca)), true);
    check(url("localhost", "verify-ca", Some(&other)), false);
    check(url("localhost", "verify-full", Some(&ca)), true);
    check(url("127.0.0.1", "verify-full", Some(&ca)), false);
    check(url("localhost", "verify-full", Some(&other)), false);
    // A server that offers none is not taken where it is demanded.
    check(format!("{plain}?sslmode=require"), false);
    check(format!("{plain}?sslmode=prefer"), true);

    trial.url = url("localhost", "verify-full", Some(&ca));
    let process = trial.start("all");
    let run_id = trial.run(&STAGES).await;
    ground.undisturbed_by("a database over TLS", &trial, run_id).await;
    drop(process);
    fs::remove_file(ca).unwrap();
}
