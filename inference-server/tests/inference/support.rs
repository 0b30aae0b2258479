//! What the tests share: a store in a temporary folder, a model with a gate, and a running server.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::Duration;

use clap::Parser;
use observatory_inference::Stop;
use observatory_inference::config::{Args, Config};
use observatory_inference::testing::device::{OpenDevice, Precision, open};
use observatory_inference::testing::models::{
    ComputeError, Extras, Model, ModelInfo, Pooling, RowOutput, Task,
};
use observatory_inference::testing::registry::{LoadedModel, Network};
use observatory_inference::testing::scheduler::Admission;
use observatory_inference::testing::text::TextTokenizer;
use observatory_inference::{Outcome, Server};
use observatory_proto::inference::v1 as pb;
use pb::embedding_service_client::EmbeddingServiceClient;
use pb::generation_service_client::GenerationServiceClient;
use pb::models_service_client::ModelsServiceClient;
use pb::ranking_service_client::RankingServiceClient;
use pb::token_classification_service_client::TokenClassificationServiceClient;
use pb::tokenization_service_client::TokenizationServiceClient;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic_health::pb::health_client::HealthClient;

/// The committed fixtures. The variable is set where the tests run, which need not be where they
/// were built.
pub(crate) fn goldens() -> PathBuf {
    let built = || PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(built, PathBuf::from).join("tests/goldens")
}

/// Name of the device that the tests compute on: OBSERVATORY_TEST_DEVICE, the CPU by default.
pub(crate) fn device_name() -> &'static str {
    static NAME: OnceLock<String> = OnceLock::new();
    NAME.get_or_init(|| std::env::var("OBSERVATORY_TEST_DEVICE").unwrap_or_else(|_| "cpu".to_owned()))
}

/// The device that the tests compute on, in f32.
pub(crate) fn device() -> OpenDevice {
    static DEVICE: OnceLock<OpenDevice> = OnceLock::new();
    let opened = || open(device_name().parse().unwrap()).unwrap().with_precision(Precision::F32).unwrap();
    DEVICE.get_or_init(opened).clone()
}

pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

/// A store with copies of these fixtures.
pub(crate) fn store(names: &[&str]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in names {
        copy(&goldens().join("models").join(name), &dir.path().join(name));
    }
    dir
}

/// The token that permits to load and unload models.
const ADMIN: &str = "the operator's own";

/// A request that shows it.
pub(crate) fn as_admin<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {ADMIN}").parse().unwrap());
    request
}

/// The configuration a command line gives, on free ports of loopback.
pub(crate) fn config(store: &Path, flags: &[&str]) -> Config {
    let fixed = ["inference-server", "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"];
    let device = ["--device", device_name(), "--precision", "f32", "--models-dir", store.to_str().unwrap()];
    let admin = hex::encode(Sha256::digest(ADMIN));
    let admin = ["--admin-token-sha256", &admin];
    let args = fixed.iter().copied().chain(device).chain(admin).chain(flags.iter().copied());
    Args::try_parse_from(args).unwrap().check().unwrap()
}

/// Holds a model's forward passes back until the test lets them go.
pub(crate) struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
    entered: watch::Sender<usize>,
    /// First token after the special one of every row computed, in order.
    pub(crate) computed: Mutex<Vec<u32>>,
    /// Rows of every forward pass that was let through, in order, those that failed included.
    pub(crate) batches: Mutex<Vec<usize>>,
}

impl Gate {
    pub(crate) fn closed() -> Arc<Self> {
        Arc::new(Self {
            open: Mutex::new(false),
            opened: Condvar::new(),
            entered: watch::Sender::new(0),
            computed: Mutex::default(),
            batches: Mutex::default(),
        })
    }

    pub(crate) fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }

    pub(crate) fn close(&self) {
        *self.open.lock().unwrap() = false;
    }

    /// Returns once a forward pass stands at the gate.
    pub(crate) async fn entered(&self) {
        self.entered.subscribe().wait_for(|count| *count > 0).await.unwrap();
    }
}

/// Answers (length, first token) per row; fails on token 7 (the word "fault").
struct Gated(Arc<Gate>);

impl Model for Gated {
    fn run(&self, rows: &[&[u32]], _extras: Extras) -> Result<Vec<RowOutput>, ComputeError> {
        self.0.entered.send_modify(|count| *count += 1);
        let mut open = self.0.open.lock().unwrap();
        while !*open {
            open = self.0.opened.wait(open).unwrap();
        }
        drop(open);
        self.0.batches.lock().unwrap().push(rows.len());
        if rows.iter().any(|row| row.contains(&7)) {
            return Err(ComputeError::Failed("the word fault".to_owned()));
        }
        self.0.computed.lock().unwrap().extend(rows.iter().map(|row| row[1]));
        Ok(rows.iter().map(|row| vec![row.len() as f32, row[1] as f32].into()).collect())
    }
}

/// `test/gated`: words "a" to "d" are tokens 3 to 6, at most six tokens, two dimensions that may be
/// cut to one, not normalised.
pub(crate) fn gated(gate: &Arc<Gate>) -> LoadedModel {
    let json = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null, "decoder": null,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 2], "cls": ["[CLS]", 1]},
        "model": {"type": "WordLevel", "unk_token": "[UNK]", "vocab": {
            "[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "a": 3, "b": 4, "c": 5, "d": 6, "fault": 7}}
    });
    let tokenizer = tokenizers::Tokenizer::from_bytes(json.to_string()).unwrap();
    LoadedModel {
        info: ModelInfo {
            name: "test/gated".to_owned(),
            revision: "0123abcd".to_owned(),
            task: Task::Embedding,
            architecture: "bert",
            max_input_tokens: 6,
            dimensions: 2,
            pooling: Some(Pooling::Mean),
            matryoshka: vec![1],
            sparse: false,
            multi_vector_dimensions: 0,
            normalize: false,
            prompts: BTreeMap::from([("query".to_owned(), "d ".to_owned())]),
            default_prompt: None,
            labels: Vec::new(),
            languages: vec!["es".to_owned()],
            parameters: 0,
            weight_bytes: 0,
            device: "cpu".to_owned(),
        },
        tokenizer: TextTokenizer::new(tokenizer, 6, false).unwrap(),
        network: Network::Encoder(Box::new(Gated(Arc::clone(gate)))),
    }
}

/// A server that runs in this process.
pub(crate) struct Running {
    pub(crate) stop: Stop,
    pub(crate) admission: Arc<Admission>,
    pub(crate) grpc: std::net::SocketAddr,
    pub(crate) metrics: std::net::SocketAddr,
    pub(crate) http: Option<std::net::SocketAddr>,
    pub(crate) channel: Channel,
    pub(crate) ended: JoinHandle<anyhow::Result<Outcome>>,
    _store: Option<TempDir>,
}

impl Running {
    pub(crate) async fn start(server: Server, store: Option<TempDir>) -> Self {
        let stop = Stop::default();
        let grpc = server.grpc_addr().unwrap();
        let uri = format!("http://{grpc}");
        let (metrics, admission) = (server.metrics_addr().unwrap(), server.admission());
        let http = server.http_addr();
        let ended = tokio::spawn(server.run(stop.clone()));
        let channel = Channel::from_shared(uri).unwrap().connect().await.unwrap();
        Self { stop, admission, grpc, metrics, http, channel, ended, _store: store }
    }

    /// Fixtures, loaded as a real start loads them; returns once all have been.
    pub(crate) async fn with_fixtures(names: &[&str], flags: &[&str]) -> Self {
        let store = store(names);
        let server = Server::bind(&config(store.path(), flags)).await.unwrap();
        let running = Self::start(server, Some(store)).await;
        running.loaded().await;
        running
    }

    /// One gated model.
    pub(crate) async fn with_gate(gate: &Arc<Gate>, flags: &[&str]) -> Self {
        let empty = tempfile::tempdir().unwrap();
        let server = Server::with_models(&config(empty.path(), flags), vec![gated(gate)]).await.unwrap();
        Self::start(server, Some(empty)).await
    }

    /// Returns once no model is loading any more.
    pub(crate) async fn loaded(&self) {
        loop {
            let models =
                self.models().list_models(pb::ListModelsRequest::default()).await.unwrap().into_inner();
            if models.models.iter().all(|model| model.state() != pb::ModelState::Loading) {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    pub(crate) fn embedding(&self) -> EmbeddingServiceClient<Channel> {
        EmbeddingServiceClient::new(self.channel.clone())
    }

    pub(crate) fn classification(&self) -> TokenClassificationServiceClient<Channel> {
        TokenClassificationServiceClient::new(self.channel.clone())
    }

    pub(crate) fn generation(&self) -> GenerationServiceClient<Channel> {
        GenerationServiceClient::new(self.channel.clone())
    }

    pub(crate) fn ranking(&self) -> RankingServiceClient<Channel> {
        RankingServiceClient::new(self.channel.clone())
    }

    pub(crate) fn tokenization(&self) -> TokenizationServiceClient<Channel> {
        TokenizationServiceClient::new(self.channel.clone())
    }

    pub(crate) fn models(&self) -> ModelsServiceClient<Channel> {
        ModelsServiceClient::new(self.channel.clone())
    }

    pub(crate) fn health(&self) -> HealthClient<Channel> {
        HealthClient::new(self.channel.clone())
    }

    /// Embeds with the default settings.
    pub(crate) async fn embed(&self, texts: &[&str]) -> Result<pb::EmbedResponse, tonic::Status> {
        self.embedding().embed(request(texts)).await.map(tonic::Response::into_inner)
    }

    /// `GET /metrics`.
    pub(crate) async fn scrape(&self) -> String {
        self.get("/metrics").await
    }

    /// The answer of the metrics port.
    pub(crate) async fn get(&self, path: &str) -> String {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut socket = tokio::net::TcpStream::connect(self.metrics).await.unwrap();
        let asked = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        socket.write_all(asked.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// Asks the server to stop and returns how it ended.
    pub(crate) async fn finish(self) -> Outcome {
        self.stop.drain.cancel();
        tokio::time::timeout(Duration::from_secs(20), self.ended).await.unwrap().unwrap().unwrap()
    }
}

/// A model by name, at any revision.
pub(crate) fn reference(name: &str) -> Option<pb::ModelRef> {
    Some(pb::ModelRef { name: name.to_owned(), revision: String::new() })
}

/// Fails where two values differ by more than 1e-5.
#[track_caller]
pub(crate) fn close(got: &[f32], expected: &[f32], place: &str) {
    assert_eq!(got.len(), expected.len(), "{place}");
    let difference = got.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(difference <= 1e-5, "{place}: {difference}");
}

/// A request for the default model.
pub(crate) fn request(texts: &[&str]) -> pb::EmbedRequest {
    pb::EmbedRequest { settings: None, texts: texts.iter().map(|text| (*text).to_owned()).collect() }
}

/// The rows of an answer.
pub(crate) fn rows(answer: &pb::EmbedResponse) -> Vec<Vec<f32>> {
    let floats: Vec<f32> =
        answer.vectors.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect();
    floats.chunks_exact(answer.dimensions as usize).map(<[f32]>::to_vec).collect()
}
