//! The inference server with TLS, client certificates and tokens, and those who call it from
//! outside.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    process::{Child, Command, Stdio},
};

use observatory_client::Credentials;
use observatory_pipeline::testing::inference::{InferenceClient, Options};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::site::{Said, Site, eventually, program, root};

const MODEL: &str = "golden/tiny-e5";

/// Signs certificates.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Its own certificate.
    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// Writes NAME.pem and NAME.key for a host; the paths.
    pub(crate) fn issue(&self, site: &Site, name: &str, host: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(vec![host.to_owned()]).unwrap().signed_by(&key, &self.0).unwrap();
        let pem = site.file(&format!("{name}.pem"), certificate.pem());
        (pem, site.file(&format!("{name}.key"), key.serialize_pem()))
    }
}

/// A server of its own, ended with the test.
struct Server {
    child: Child,
    grpc: String,
    metrics: String,
}

impl Server {
    /// With one tiny model, ready.
    fn start(site: &Site, flags: &[&str]) -> Self {
        let announced = site.dir.path().join("announced.json");
        let mut command = Command::new(program("inference-server"));
        command.arg("--models-dir").arg(root().join("inference-server/tests/goldens/models"));
        command.args(["--model", MODEL, "--device", "cpu", "--listen", "127.0.0.1:0"]);
        command.args(["--metrics-listen", "127.0.0.1:0", "--announce-file"]).arg(&announced).args(flags);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        let mut server = Self { child, grpc: String::new(), metrics: String::new() };
        let addresses: Value = eventually("the announcement of the inference server", || {
            serde_json::from_slice(&fs::read(&announced).ok()?).ok()
        });
        addresses["grpc"].as_str().unwrap().clone_into(&mut server.grpc);
        addresses["metrics"].as_str().unwrap().clone_into(&mut server.metrics);
        eventually("a ready model", || (server.probe("/readyz") == 200).then_some(()));
        server
    }

    /// The status of a probe's path.
    fn probe(&self, path: &str) -> u16 {
        probe(&self.metrics, path)
    }

    /// Its address by the name in its certificate.
    fn address(&self, scheme: &str) -> String {
        format!("{scheme}://localhost:{}", self.grpc.rsplit(':').next().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The status of a path at an address.
pub(crate) fn probe(address: &str, path: &str) -> u16 {
    let mut socket = TcpStream::connect(address).unwrap();
    write!(socket, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

/// A clients file with an administrator and one who is none.
fn clients(site: &Site) -> String {
    let entry = |name: &str, token: &str, rest: &str| {
        format!("[{name}]\ntoken_sha256 = \"{}\"\n{rest}\n", hex::encode(Sha256::digest(token)))
    };
    site.file("clients.toml", entry("ops", "alpha", "admin = true") + &entry("lab", "beta", ""))
}

/// Asks with a token in the variable, or with none.
fn ask(site: &Site, token: Option<&str>, arguments: &[&str]) -> Said {
    let mut command = site.command(arguments);
    token.iter().for_each(|token| {
        command.env("OBSERVATORY_INFERENCE_TOKEN", token);
    });
    command.output().unwrap().into()
}

#[track_caller]
fn refused(said: Said, expected: &[&str]) {
    let said = said.ended(2);
    assert_eq!(said.stdout, "");
    for words in expected {
        assert!(said.stderr.contains(words), "expected `{words}` in: {}", said.stderr);
    }
    assert!(!said.stderr.contains("beta"), "the token is shown: {}", said.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_over_tls() {
    let (site, authority) = (Site::new(), Authority::new());
    let (certificate, key) = authority.issue(&site, "server", "localhost");
    let (ca, other) = (site.file("ca.pem", authority.pem()), site.file("other.pem", Authority::new().pem()));
    let flags = ["--tls-cert", &certificate, "--tls-key", &key, "--clients-file", &clients(&site)];
    let server = Server::start(&site, &flags);
    assert_eq!((server.probe("/livez"), server.probe("/health")), (200, 404));
    let address = server.address("https");
    let at = ["--inference", &address, "--inference-ca", &ca];
    let with = |arguments: &[&'static str]| [arguments.to_vec(), at.to_vec()].concat();

    let listed = ask(&site, Some("beta"), &with(&["models", "list", "--json"])).ended(0).json();
    assert_eq!((listed[0]["name"].as_str(), listed[0]["state"].as_str()), (Some(MODEL), Some("ready")));
    let vectors = ask(&site, Some("beta"), &with(&["infer", "embed", "Excel"])).ended(0).lines();
    assert!(vectors[0]["embedding"].as_array().is_some_and(|vector| !vector.is_empty()));

    let list = with(&["models", "list"]);
    refused(ask(&site, None, &list), &["hint: pass a token with --inference-token-file"]);
    refused(ask(&site, Some("gamma"), &list), &["error: ", "hint: pass a token with --inference-token-file"]);
    let unload = with(&["models", "unload", MODEL]);
    let scope =
        ["error: lab may not load or unload models", "hint: `admin = true` in the server's clients file"];
    refused(ask(&site, Some("beta"), &unload), &scope);

    let distrusting = ["models", "list", "--inference", &address, "--inference-ca", &other];
    // Both authorities have one name, so it may also be the signature that is found wrong.
    let unknown =
        ["not signed by any of the roots in --inference-ca", "other.pem (invalid peer certificate: "];
    refused(ask(&site, Some("beta"), &distrusting), &unknown);
    let by_address = address.replace("localhost", "127.0.0.1");
    let misnamed = ["models", "list", "--inference", &by_address, "--inference-ca", &ca];
    refused(ask(&site, Some("beta"), &misnamed), &["is not valid for 127.0.0.1", "localhost"]);
    let plain = server.address("http");
    refused(ask(&site, Some("beta"), &["models", "list", "--inference", &plain]), &["error: "]);

    let token = site.file("token", "alpha\n");
    let by_file = [unload, vec!["--inference-token-file", &token, "--json"]].concat();
    assert_eq!(ask(&site, None, &by_file).ended(0).json()["state"], "unloaded");

    let credentials =
        Credentials { token_file: Some(token.into()), ca: Some(ca.into()), ..Credentials::default() };
    let client = InferenceClient::new(&Options { address: Some(address.clone()), credentials }).unwrap();
    assert_eq!(client.models().await.unwrap().len(), 1, "the pipeline's client as well");
    let credentials = Credentials { ca: Some(other.into()), ..Credentials::default() };
    let client = InferenceClient::new(&Options { address: Some(address), credentials }).unwrap();
    let error = client.models().await.unwrap_err().to_string();
    assert!(error.contains("not signed by any of the roots in --inference-ca"), "{error}");
}

#[test]
fn certificates_of_clients() {
    let (site, authority) = (Site::new(), Authority::new());
    let (certificate, key) = authority.issue(&site, "server", "localhost");
    let (mine, my_key) = authority.issue(&site, "mine", "lab");
    let (strange, strange_key) = Authority::new().issue(&site, "strange", "lab");
    let ca = site.file("ca.pem", authority.pem());
    let server =
        Server::start(&site, &["--tls-cert", &certificate, "--tls-key", &key, "--tls-client-ca", &ca]);
    let address = server.address("https");
    let ask = |more: &[&str]| {
        let all =
            [&["models", "list", "--json", "--inference", &address, "--inference-ca", &ca], more].concat();
        site.run(&all)
    };
    let listed = ask(&["--inference-cert", &mine, "--inference-key", &my_key]).ended(0).json();
    assert_eq!(listed[0]["state"], "ready");
    // Where the alert comes in time the message is the exact one; see `wanted`.
    refused(ask(&[]), &["--inference-cert"]);
    let stranger = ask(&["--inference-cert", &strange, "--inference-key", &strange_key]);
    refused(stranger, &["--inference-cert"]);
    refused(
        ask(&["--inference-cert", &mine]),
        &["--inference-cert and --inference-key must be given together"],
    );
    refused(
        ask(&["--inference-cert", &mine, "--inference-key", &strange_key]),
        &["invalid --inference-cert and --inference-key"],
    );
}

#[test]
fn tls_that_the_server_does_not_speak() {
    let site = Site::new();
    let ca = site.file("ca.pem", Authority::new().pem());
    let server = Server::start(&site, &[]);
    let encrypted = server.address("https");
    let said = site.run(&["models", "list", "--inference", &encrypted, "--inference-ca", &ca]);
    refused(said, &["the server does not use TLS; use an http:// address"]);
    site.run(&["models", "list", "--inference", &server.address("http")]).ended(0);
}
