//! Peers that connect and say little or nothing: they are closed in time, and meanwhile they are in
//! nobody's way.

use std::net::SocketAddr;
use std::time::Duration;

use observatory_inference::Server;
use observatory_inference::config::Config;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::transport::Endpoint;

use crate::support::{Gate, Running, config, gated, request};

const HTTP: [&str; 2] = ["--http-listen", "127.0.0.1:0"];

async fn serving(flags: &[&str], change: impl FnOnce(&mut Config)) -> (Running, SocketAddr) {
    let gate = Gate::closed();
    gate.open();
    let empty = tempfile::tempdir().unwrap();
    let mut config = config(empty.path(), &[&HTTP[..], flags].concat());
    change(&mut config);
    let server = Server::with_models(&config, vec![gated(&gate)]).await.unwrap();
    let grpc = server.grpc_addr().unwrap();
    (Running::start(server, Some(empty)).await, grpc)
}

/// Connections that send this and then nothing.
async fn silent(address: SocketAddr, said: &str, count: usize) -> Vec<TcpStream> {
    let mut sockets = Vec::new();
    for _ in 0..count {
        let mut socket = TcpStream::connect(address).await.unwrap();
        // One that has made room already cannot be written to.
        let _ = socket.write_all(said.as_bytes()).await;
        sockets.push(socket);
    }
    sockets
}

/// What a peer hears before the server closes.
async fn heard(mut socket: TcpStream) -> String {
    let mut text = Vec::new();
    // A reset closes too.
    let _ = socket.read_to_end(&mut text).await;
    String::from_utf8_lossy(&text).into_owned()
}

async fn asked(address: SocketAddr) -> String {
    let body = r#"{"model": "test/gated", "input": "a"}"#;
    let length = body.len();
    let mut socket = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /v1/embeddings HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
    );
    socket.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    heard(socket).await
}

/// Many more connections than there are places, on every port, in any state: the next
/// caller is served.
#[tokio::test]
async fn a_flood_of_silent_connections_is_in_nobodys_way() {
    let (running, grpc) = serving(&["--max-connections", "8"], |config| config.connections.probes = 4).await;
    let (http, metrics) = (running.http.unwrap(), running.metrics);
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let head = "POST /v1/embeddings HTTP/1.1\r\nhost: x\r\nx-a: ";
    let body = "POST /v1/embeddings HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{";
    for (address, said) in [
        (http, ""),
        (http, head),
        (metrics, ""),
        (metrics, "GET /readyz HTTP/1.1\r\n"),
        (grpc, ""),
        (grpc, "PRI"),
        (grpc, preface),
    ] {
        let flood = silent(address, said, 60).await;
        assert!(running.get("/readyz").await.starts_with("HTTP/1.1 200"), "{said:?}");
        assert!(running.get("/metrics").await.contains("observatory_"), "{said:?}");
        assert!(asked(http).await.starts_with("HTTP/1.1 200"), "{said:?}");
        let channel = Endpoint::from_shared(format!("http://{grpc}")).unwrap().connect().await.unwrap();
        let mut client =
            observatory_proto::inference::v1::embedding_service_client::EmbeddingServiceClient::new(channel);
        client.embed(request(&["a"])).await.unwrap();
        drop(flood);
    }
    // A call under way keeps its place, so bodies that do not come fill the port for as long as
    // they may.
    let flood = silent(http, body, 60).await;
    assert!(running.get("/livez").await.starts_with("HTTP/1.1 200"));
    drop(flood);
}

#[tokio::test]
async fn silent_connections_are_closed() {
    let short = Duration::from_millis(400);
    let (running, grpc) = serving(&[], |config| {
        let patience = &mut config.patience;
        (patience.handshake, patience.head, patience.part) = (short, short, short);
    })
    .await;
    let (http, metrics) = (running.http.unwrap(), running.metrics);
    for (address, said) in [
        (http, ""),
        (http, "POST /v1/embeddings HTTP/1.1\r\nhost: x\r\nx-a: "),
        (metrics, ""),
        (metrics, "GET /livez HTTP/1.1\r\nx"),
        (grpc, ""),
        (grpc, "PRI * HTTP/2.0\r\n\r\nSM"),
    ] {
        for socket in silent(address, said, 3).await {
            assert!(!heard(socket).await.contains("200 OK"), "{said:?}");
        }
    }
    let body = "POST /v1/embeddings HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{\"model\": ";
    let said = heard(silent(http, body, 1).await.remove(0)).await;
    assert!(said.starts_with("HTTP/1.1 408") && said.contains("request_timeout"), "{said}");
    // One that asks and then says no more is closed too, and was answered.
    let idle = heard(silent(metrics, "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n", 1).await.remove(0)).await;
    assert!(idle.starts_with("HTTP/1.1 200"), "{idle}");
}

/// A length that cannot be is refused before anything of the body comes.
#[tokio::test]
async fn an_impossible_length_is_refused_at_once() {
    let (running, _) = serving(&[], |_| {}).await;
    let head = "POST /v1/embeddings HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 100000000000000\r\n\r\n";
    let said = heard(silent(running.http.unwrap(), head, 1).await.remove(0)).await;
    assert!(said.starts_with("HTTP/1.1 413") && said.contains("request_too_large"), "{said}");
}
