//! Servers replaced one after the other under calls: none is lost, behind a proxy or without one.
//!
//! The proxy is Envoy, the one of the meshes, told by a file which servers there are, as a mesh
//! tells it: some time after a server was asked to stop. Short calls go on steadily, and texts of
//! some seconds are in flight at any time.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use observatory_client::{BalancedConnection, Credentials};
use observatory_proto::inference::v1 as pb;
use pb::embedding_service_client::EmbeddingServiceClient;
use pb::generation_service_client::GenerationServiceClient;
use prost::Message;
use serde_json::{Value, json};

use crate::{
    credentials::probe,
    site::{Site, eventually, program, root},
};

/// Calls in a second.
const RATE: u32 = 30;
/// Texts in flight at any time.
const TEXTS: u32 = 3;
/// Time of a text alone; among others it takes some seconds, and outlasts the end of its server.
const TEXT: Duration = Duration::from_secs(1);
/// As the chart has it, less what it allows for slow clusters.
const LAME_DUCK: u32 = 4;

/// A model store and the servers that serve it.
struct Fleet {
    dir: tempfile::TempDir,
    started: AtomicU32,
}

struct Server {
    child: Child,
    address: String,
    metrics: String,
}

impl Fleet {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("models/tests");
        fs::create_dir_all(&store).unwrap();
        let models = ["tiny-e5", "qwen2"].map(Site::tiny_model);
        assert!(Command::new("cp").arg("-r").args(models).arg(&store).status().unwrap().success());
        // The tiny model writes a token in a tenth of a millisecond: seconds take many of them.
        let file = store.join("qwen2/config.json");
        let mut config: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        config["max_position_embeddings"] = 200_000.into();
        fs::write(file, config.to_string()).unwrap();
        Self { dir, started: AtomicU32::new(0) }
    }

    /// A server that is ready.
    fn start(&self, listen: &str) -> Server {
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let announced = self.dir.path().join(format!("server-{number}.json"));
        let log = fs::File::create(self.dir.path().join(format!("server-{number}.log"))).unwrap();
        let mut command = Command::new(program("inference-server"));
        command
            .args(["--listen", listen, "--metrics-listen", "127.0.0.1:0", "--device", "cpu"])
            .args(["--lame-duck-seconds", &LAME_DUCK.to_string()])
            .arg("--models-dir")
            .arg(self.dir.path().join("models"))
            .arg("--announce-file")
            .arg(&announced)
            // Several servers share the cores of this machine.
            .env("RAYON_NUM_THREADS", "1")
            .env_remove("OBSERVATORY_LOG")
            .stdout(Stdio::null())
            .stderr(log);
        let child = command.spawn().unwrap();
        let said = eventually("the start of a server", || fs::read_to_string(&announced).ok());
        let said: Value = serde_json::from_str(&said).unwrap();
        let [address, metrics] = ["grpc", "metrics"].map(|port| said[port].as_str().unwrap().to_owned());
        eventually("a ready server", || (probe(&metrics, "/readyz") == 200).then_some(()));
        Server { child, address, metrics }
    }
}

impl Server {
    fn asked_to_stop(&self) {
        assert!(Command::new("kill").arg(self.child.id().to_string()).status().unwrap().success());
    }

    /// Embeddings that it has answered.
    fn answered(&self) -> i64 {
        let mut socket = TcpStream::connect(&self.metrics).unwrap();
        write!(socket, "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut page = String::new();
        socket.read_to_string(&mut page).unwrap();
        let name = "observatory_inference_requests_total{method=\"EmbeddingService/Embed\",code=\"OK\"} ";
        page.lines().find_map(|line| line.strip_prefix(name)).map_or(0, |count| count.parse().unwrap())
    }

    /// Waits for its end, in which nothing was cut off.
    fn ended(mut self) -> String {
        let status = eventually("the end of a server", || self.child.try_wait().unwrap());
        assert_eq!(status.code(), Some(0), "{status}");
        self.address.clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Envoy before servers that a file lists.
struct Proxy {
    child: Child,
    dir: PathBuf,
}

impl Proxy {
    fn start(dir: &Path, servers: &[&str]) -> Self {
        let envoy = root().join(".venv/bin/envoy");
        assert!(
            envoy.is_file(),
            "{} is not there: run `make setup` (or scripts/setup-python)",
            envoy.display()
        );
        let dir = dir.join("envoy");
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("envoy.json"), configuration(&dir).to_string()).unwrap();
        // Before it starts, which would wait for a first list.
        list(&dir, servers);
        let log = fs::File::create(dir.join("envoy.log")).unwrap();
        let mut command = Command::new(envoy);
        command.arg("-c").arg(dir.join("envoy.json"));
        command.args(["--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"]);
        let child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        Self { child, dir }
    }

    fn target(&self) -> String {
        format!("unix:{}", self.dir.join("socket").display())
    }

    fn send_to(&self, servers: &[&str]) {
        list(&self.dir, servers);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Listens on a socket file, which nobody else can have taken, and knows no retry.
fn configuration(dir: &Path) -> Value {
    let api = "type.googleapis.com/envoy";
    let route = json!({"match": {"prefix": "/"}, "route": {"cluster": "inference", "timeout": "0s"}});
    json!({
        "node": {"id": "test", "cluster": "test"},
        "static_resources": {
            "listeners": [{
                "name": "calls",
                "address": {"pipe": {"path": dir.join("socket")}},
                "filter_chains": [{"filters": [{
                    "name": "http",
                    "typed_config": {
                        "@type": format!("{api}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"),
                        "codec_type": "HTTP2",
                        "stat_prefix": "calls",
                        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
                        "http_filters": [{"name": "router", "typed_config": {
                            "@type": format!("{api}.extensions.filters.http.router.v3.Router")}}],
                    },
                }]}],
            }],
            "clusters": [{
                "name": "inference",
                "type": "EDS",
                "connect_timeout": "1s",
                "eds_cluster_config": {"eds_config": {
                    "resource_api_version": "V3",
                    "path_config_source": {"path": dir.join("servers.json"), "watched_directory": {"path": dir}},
                }},
                "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": format!("{api}.extensions.upstreams.http.v3.HttpProtocolOptions"),
                    "explicit_http_config": {"http2_protocol_options": {}},
                }},
            }],
        },
    })
}

/// Renamed into place: Envoy takes notice of moves alone, and must not read half of it.
fn list(dir: &Path, servers: &[&str]) {
    let endpoint = |server: &&str| {
        let (host, port) = server.rsplit_once(':').unwrap();
        let port: u16 = port.parse().unwrap();
        json!({"endpoint": {"address": {"socket_address": {"address": host, "port_value": port}}}})
    };
    let endpoints: Vec<Value> = servers.iter().map(endpoint).collect();
    let assignment = json!({
        "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
        "cluster_name": "inference",
        "endpoints": [{"lb_endpoints": endpoints}],
    });
    fs::write(dir.join("new.json"), json!({"resources": [assignment]}).to_string()).unwrap();
    fs::rename(dir.join("new.json"), dir.join("servers.json")).unwrap();
}

/// Calls of grpcio, which go on until they are asked for their report.
struct Calls {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Calls {
    fn begin(target: &str, text: &pb::GenerateRequest) -> Self {
        let plan = json!({
            "rate": RATE,
            "texts": TEXTS,
            "call": ["/observatory.inference.v1.EmbeddingService/Embed", hex::encode(embedding().encode_to_vec())],
            "text": ["/observatory.inference.v1.GenerationService/Generate", hex::encode(text.encode_to_vec())],
        });
        let mut command = Command::new(root().join(".venv/bin/python"));
        command.arg("-B").arg(root().join("tests/tests/e2e/rollout.py")).arg(target).arg(plan.to_string());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        assert_eq!(line, "answered\n");
        Self { child, said }
    }

    /// Ends them; fails unless every one was answered and there were texts in flight all the time.
    fn none_lost(mut self, what: &str) {
        drop(self.child.stdin.take());
        let mut report = String::new();
        self.said.read_to_string(&mut report).unwrap();
        assert!(self.child.wait().unwrap().success());
        let report: Value = serde_json::from_str(&report).unwrap();
        assert_eq!(report["errors"], json!({}), "{what}: {report}");
        assert!(report["calls"].as_u64().unwrap() >= 150, "{what}: {report}");
        assert!(report["longest_text_seconds"].as_f64().unwrap() >= TEXT.as_secs_f64(), "{what}: {report}");
        // For the record of those who run it by hand with --no-capture.
        println!("{what}: {report}");
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn embedding() -> pb::EmbedRequest {
    pb::EmbedRequest { texts: vec!["programación en Python".to_owned()], settings: None }
}

/// A request for a text that takes [`TEXT`] on this machine as it is now.
async fn long_text(server: &Server) -> pb::GenerateRequest {
    let asked = |max_new_tokens: u32| {
        let limits = pb::GenerationLimits { max_new_tokens, ignore_end: true, ..Default::default() };
        let settings = pb::GenerationSettings { limits: Some(limits), ..Default::default() };
        let prompt = pb::Prompt { kind: Some(pb::prompt::Kind::Text("Buscamos".to_owned())) };
        pb::GenerateRequest { settings: Some(settings), prompt: Some(prompt) }
    };
    const TRIED: u32 = 4_000;
    let mut client = GenerationServiceClient::connect(format!("http://{}", server.address)).await.unwrap();
    let began = Instant::now();
    let mut events = client.generate(asked(TRIED)).await.unwrap().into_inner();
    while events.message().await.unwrap().is_some() {}
    // A token takes longer the more there are before it, so this is the least.
    let scale = TEXT.as_secs_f64() / began.elapsed().as_secs_f64();
    asked(((f64::from(TRIED) * scale) as u32).clamp(TRIED, 100_000))
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_envoy_no_call_is_lost() {
    let fleet = Fleet::new();
    let mut servers = [fleet.start("127.0.0.1:0"), fleet.start("127.0.0.1:0")];
    let text = long_text(&servers[0]).await;
    let proxy = Proxy::start(fleet.dir.path(), &[&servers[0].address, &servers[1].address]);
    let calls = Calls::begin(&proxy.target(), &text);
    for removed_after in [0, 1, 3] {
        for place in 0..2 {
            let new = fleet.start("127.0.0.1:0");
            let old = std::mem::replace(&mut servers[place], new);
            let [one, two] = [0, 1].map(|place| servers[place].address.as_str());
            proxy.send_to(&[one, two, &old.address]);
            old.asked_to_stop();
            tokio::time::sleep(Duration::from_secs(removed_after)).await;
            proxy.send_to(&[one, two]);
            old.ended();
        }
    }
    calls.none_lost("behind Envoy, removed after 0, 1 and 3 s");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_proxy_no_call_is_lost() {
    let fleet = Fleet::new();
    let servers = [fleet.start("127.0.0.1:0"), fleet.start("127.0.0.1:0")];
    let text = long_text(&servers[0]).await;
    let target = format!("ipv4:{},{}", servers[0].address, servers[1].address);
    let calls = Calls::begin(&target, &text);
    let mut new = Vec::new();
    for old in servers {
        old.asked_to_stop();
        new.push(fleet.start(&old.ended()));
        // grpcio tries an address again after a second or so.
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    calls.none_lost("without a proxy");
}

/// The client of the pipeline over a name whose addresses a test decides.
fn spread(name: &Arc<Mutex<Vec<SocketAddr>>>) -> EmbeddingServiceClient<BalancedConnection> {
    let name = Arc::clone(name);
    let server = Credentials::default().server("http://inference.test:50051").unwrap();
    EmbeddingServiceClient::new(server.connect_balanced_by(move || {
        let found = name.lock().unwrap().clone();
        Box::pin(async move { Ok(found) })
    }))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pipelines_client_spreads_its_calls_and_loses_none() {
    let fleet = Fleet::new();
    let mut servers = [(); 3].map(|()| fleet.start("127.0.0.1:0"));
    let addresses =
        |servers: &[Server]| servers.iter().map(|server| server.address.parse().unwrap()).collect();
    let name = Arc::new(Mutex::new(addresses(&servers)));
    let mut client = spread(&name);
    for place in 0..3 {
        let before = servers.each_ref().map(Server::answered);
        for _ in 0..300 {
            client.embed(embedding()).await.unwrap();
        }
        let calls: Vec<i64> =
            servers.iter().zip(before).map(|(server, before)| server.answered() - before).collect();
        assert!(calls.iter().all(|calls| (85..=115).contains(calls)), "{calls:?}");

        let old = std::mem::replace(&mut servers[place], fleet.start("127.0.0.1:0"));
        *name.lock().unwrap() = addresses(&servers);
        old.asked_to_stop();
        let ended = tokio::task::spawn_blocking(|| old.ended());
        // Also until the new one is found, which takes as long as the name is kept.
        while !ended.is_finished() || servers[place].answered() == 0 {
            client.embed(embedding()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        ended.await.unwrap();
    }
}
