//! The command line and the environment, checked whole before any port opens.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;

use crate::device::{DeviceChoice, GenerationLimits, KV_FRACTION, Precision};
use crate::registry::plan::ServePlan;
use crate::scheduler::admission::{Budget, Limits};
use observatory_server::access::parse_digest;
use observatory_server::connections::{Patience, Room};
use observatory_server::tls;

/// Serves embeddings, token labels and tokenisation over gRPC from the models of a store.
///
/// Exit status: 0 after a shutdown that finished what was in flight; 1 where requests were cut off
/// at the end of --drain-seconds, or the device was lost; 2 where the configuration is wrong, a
/// port cannot be opened, or none of the store's models can be loaded. With an empty store the
/// server starts and serves no model. OBSERVATORY_LOG chooses what is logged, RAYON_NUM_THREADS how
/// many CPU threads compute.
#[derive(Debug, Clone, Parser)]
#[command(name = "inference-server", version)]
pub struct Args {
    /// Address of the gRPC server; port 0 takes a free one.
    #[arg(long, env = "OBSERVATORY_INFERENCE_LISTEN", default_value = "127.0.0.1:50051")]
    pub listen: SocketAddr,
    /// Address of the Prometheus metrics (GET /metrics) and of health over HTTP (GET /livez, GET
    /// /readyz), always without TLS and tokens; port 0 takes a free one.
    #[arg(long, env = "OBSERVATORY_INFERENCE_METRICS_LISTEN", default_value = "127.0.0.1:9464")]
    pub metrics_listen: SocketAddr,
    /// Certificate chain in PEM: the gRPC port speaks TLS. Read again when it changes, as are the
    /// two below.
    #[arg(long, env = "OBSERVATORY_INFERENCE_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// Private key of --tls-cert in PEM.
    #[arg(long, env = "OBSERVATORY_INFERENCE_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Roots in PEM that must have signed the certificate every client has to show.
    #[arg(long, env = "OBSERVATORY_INFERENCE_TLS_CLIENT_CA", value_name = "FILE", requires = "tls_cert")]
    pub tls_client_ca: Option<PathBuf>,
    /// TOML with a table for each client that may call: token_sha256 or certificate_sha256, admin,
    /// tokens_per_minute. Read again when it changes. Without it everybody may call.
    #[arg(long, env = "OBSERVATORY_INFERENCE_CLIENTS_FILE", value_name = "FILE")]
    pub clients_file: Option<PathBuf>,
    /// SHA-256 of a bearer token, hexadecimal, that may load and unload models, beside clients with
    /// admin = true. Being on the same machine gives no rights.
    #[arg(long, env = "OBSERVATORY_INFERENCE_ADMIN_TOKEN_SHA256", value_name = "HEX")]
    pub admin_token_sha256: Option<String>,
    /// Address of OpenAI's API over HTTP (POST /v1/embeddings, /v1/chat/completions,
    /// /v1/completions), which is off unless given; port 0 takes a free one.
    #[arg(long, env = "OBSERVATORY_INFERENCE_HTTP_LISTEN", value_name = "ADDRESS")]
    pub http_listen: Option<SocketAddr>,
    /// After binding, write {"grpc", "metrics", "http", "pid"} to this file; removed on a clean
    /// exit.
    #[arg(long, env = "OBSERVATORY_INFERENCE_ANNOUNCE_FILE", value_name = "FILE")]
    pub announce_file: Option<PathBuf>,
    /// The model store: DIR/ORGANISATION/NAME/ with config.json, tokenizer.json and safetensors.
    #[arg(long, env = "OBSERVATORY_MODELS", value_name = "DIR")]
    pub models_dir: PathBuf,
    /// Model to serve, in order of preference; may be repeated. All models of the store where none
    /// is named.
    #[arg(long = "model", env = "OBSERVATORY_INFERENCE_MODEL", value_name = "NAME", value_delimiter = ',')]
    pub models: Vec<String>,
    /// Model for embeddings where a request names none; the first that embeds by default.
    #[arg(long, env = "OBSERVATORY_INFERENCE_DEFAULT_EMBEDDING", value_name = "NAME")]
    pub default_embedding: Option<String>,
    /// Mebibytes that the weights of all models may take together; a model that does not fit is
    /// listed as failed.
    #[arg(long, env = "OBSERVATORY_INFERENCE_MAX_WEIGHT_MIB", value_name = "MIB")]
    pub max_weight_mib: Option<u64>,
    /// auto, cpu, cuda or cuda:N.
    #[arg(long, env = "OBSERVATORY_INFERENCE_DEVICE", default_value = "auto")]
    pub device: DeviceChoice,
    /// How weights and activations are held; sums are f32.
    #[arg(long, env = "OBSERVATORY_INFERENCE_PRECISION", value_enum, default_value = "auto")]
    pub precision: Precision,
    /// Requests in flight at most.
    #[arg(long, env = "OBSERVATORY_INFERENCE_MAX_REQUESTS", default_value_t = 256)]
    pub max_requests: usize,
    /// Tokens waiting for the device at most; what it computes in --max-queue-seconds by default.
    #[arg(long, env = "OBSERVATORY_INFERENCE_MAX_QUEUED_TOKENS")]
    pub max_queued_tokens: Option<u64>,
    /// Seconds of work waiting for the device at most, by its measured speed.
    #[arg(long, env = "OBSERVATORY_INFERENCE_MAX_QUEUE_SECONDS", default_value_t = 30)]
    pub max_queue_seconds: u64,
    /// Threads that tokenize; one for each core by default.
    #[arg(long, env = "OBSERVATORY_INFERENCE_TOKENIZER_THREADS")]
    pub tokenizer_threads: Option<usize>,
    /// Mebibytes of vectors to remember by their texts; 0 remembers none.
    #[arg(long, env = "OBSERVATORY_INFERENCE_VECTOR_CACHE_MIB", default_value_t = 64)]
    pub vector_cache_mib: usize,
    /// Tokens of one forward pass at most; 1024 on the CPU and 16384 on a GPU by default.
    #[arg(long, env = "OBSERVATORY_INFERENCE_MAX_BATCH_TOKENS")]
    pub max_batch_tokens: Option<usize>,
    /// Mebibytes for the keys and values of one language model; 1024 on the CPU by default, and on
    /// a GPU what --kv-cache-fraction leaves.
    #[arg(long, env = "OBSERVATORY_INFERENCE_KV_CACHE_MIB", value_name = "MIB")]
    pub kv_cache_mib: Option<u64>,
    /// Part of a GPU's memory that weights, keys and values of all models may take together.
    #[arg(long, env = "OBSERVATORY_INFERENCE_KV_CACHE_FRACTION", value_name = "FRACTION", default_value_t = KV_FRACTION)]
    pub kv_cache_fraction: f64,
    /// Texts that one language model writes at the same time at most; 64 on the CPU and 256 on a
    /// GPU by default.
    #[arg(long, env = "OBSERVATORY_INFERENCE_MAX_WRITING")]
    pub max_writing: Option<usize>,
    /// Tokens of one step of a language model at most: the newest of every text, and prompts in
    /// what is left; 128 on the CPU and 2048 on a GPU by default.
    #[arg(long, env = "OBSERVATORY_INFERENCE_MAX_STEP_TOKENS")]
    pub max_step_tokens: Option<usize>,
    /// Texts of one request at most.
    #[arg(long, env = "OBSERVATORY_INFERENCE_MAX_TEXTS", default_value_t = 1_024)]
    pub max_texts: usize,
    /// Bytes of one text at most.
    #[arg(long, env = "OBSERVATORY_INFERENCE_MAX_TEXT_BYTES", default_value_t = 131_072)]
    pub max_text_bytes: usize,
    /// Items of one stream whose results have not gone out at most; the stream is not read further
    /// meanwhile.
    #[arg(long, env = "OBSERVATORY_INFERENCE_MAX_STREAM_ITEMS", default_value_t = 128)]
    pub max_stream_items: usize,
    /// Connections of the gRPC port and of the HTTP port at most, each: what the limit of open
    /// files leaves by default. Where one more comes, the one that was silent for longest is
    /// closed.
    #[arg(long, env = "OBSERVATORY_INFERENCE_MAX_CONNECTIONS", value_name = "COUNT")]
    pub max_connections: Option<usize>,
    /// Bytes of one request message at most, decompressed.
    #[arg(long, env = "OBSERVATORY_INFERENCE_MAX_REQUEST_BYTES", default_value_t = 4 << 20)]
    pub max_request_bytes: usize,
    /// Bytes of one response message at most, before compression; clients read 4 MiB unless told
    /// otherwise.
    #[arg(long, env = "OBSERVATORY_INFERENCE_MAX_RESPONSE_BYTES", default_value_t = 64 << 20)]
    pub max_response_bytes: usize,
    /// Seconds a request may take where its caller sets no shorter deadline.
    #[arg(long, env = "OBSERVATORY_INFERENCE_MAX_REQUEST_SECONDS", default_value_t = 300)]
    pub max_request_seconds: u64,
    /// Seconds that requests in flight get to finish at shutdown.
    #[arg(long, env = "OBSERVATORY_INFERENCE_DRAIN_SECONDS", default_value_t = 30)]
    pub drain_seconds: u64,
}

/// What one request may ask for.
#[derive(Debug, Clone, Copy)]
pub struct RequestLimits {
    /// Texts of one request.
    pub texts: usize,
    /// Bytes of one text.
    pub text_bytes: usize,
    /// Items of one stream whose results have not gone out.
    pub stream_items: usize,
    /// Bytes of one request message.
    pub request_bytes: usize,
    /// Bytes of one response message.
    pub response_bytes: usize,
    /// Time where the caller sets no shorter deadline.
    pub time: Duration,
}

/// A checked configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where gRPC is served.
    pub listen: SocketAddr,
    /// Where metrics are served.
    pub metrics_listen: SocketAddr,
    /// What makes the gRPC port speak TLS.
    pub tls: Option<tls::Files>,
    /// Who may call.
    pub clients_file: Option<PathBuf>,
    /// SHA-256 of the operator's own token.
    pub admin_token: Option<[u8; 32]>,
    /// Where the embeddings API in OpenAI's form is served.
    pub http_listen: Option<SocketAddr>,
    /// How many connections the ports take.
    pub connections: Room,
    /// How long they may be silent.
    pub patience: Patience,
    /// Where the ports are announced.
    pub announce_file: Option<PathBuf>,
    /// What to load.
    pub plan: ServePlan,
    /// Where to compute.
    pub device: DeviceChoice,
    /// How weights and activations are held.
    pub precision: Precision,
    /// How much work to take on.
    pub admission: Limits,
    /// Tokens of one forward pass, where the device does not choose.
    pub batch_tokens: Option<usize>,
    /// Threads that tokenize.
    pub tokenizer_threads: usize,
    /// Bytes of vectors to remember.
    pub cache_bytes: usize,
    /// What language models get.
    pub text: GenerationLimits,
    /// What one request may ask for.
    pub request: RequestLimits,
    /// How long a shutdown waits for requests in flight.
    pub drain: Duration,
}

impl Args {
    /// Checks every value and looks for the models in the store.
    ///
    /// # Errors
    /// Names the flag, its value and what is allowed.
    pub fn check(&self) -> Result<Config> {
        let whole = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
        for (flag, value) in [
            ("--max-requests", self.max_requests),
            ("--max-batch-tokens", self.max_batch_tokens.unwrap_or(1)),
            ("--kv-cache-mib", self.kv_cache_mib.map_or(1, whole)),
            ("--max-writing", self.max_writing.unwrap_or(1)),
            ("--max-step-tokens", self.max_step_tokens.unwrap_or(1)),
            ("--max-texts", self.max_texts),
            ("--max-text-bytes", self.max_text_bytes),
            ("--max-connections", self.max_connections.unwrap_or(1)),
            ("--max-stream-items", self.max_stream_items),
            ("--max-request-bytes", self.max_request_bytes),
            ("--max-response-bytes", self.max_response_bytes),
            ("--max-weight-mib", self.max_weight_mib.map_or(1, whole)),
            ("--max-queued-tokens", self.max_queued_tokens.map_or(1, whole)),
            ("--max-queue-seconds", whole(self.max_queue_seconds)),
            ("--tokenizer-threads", self.tokenizer_threads.unwrap_or(1)),
            ("--max-request-seconds", whole(self.max_request_seconds)),
        ] {
            ensure!(value > 0, "{flag} is 0, it must be positive");
        }
        let fraction = self.kv_cache_fraction;
        ensure!(fraction > 0.0 && fraction <= 1.0, "--kv-cache-fraction is {fraction}, allowed are 0 to 1");
        self.check_announce_file()?;
        let found = ServePlan::find(&self.models_dir, &self.models, self.default_embedding.as_deref())?;
        let weight_bytes = self.max_weight_mib.map_or(u64::MAX, |mib| mib.saturating_mul(1 << 20));
        let plan = ServePlan { weight_bytes, ..found };
        Ok(Config {
            listen: self.listen,
            metrics_listen: self.metrics_listen,
            tls: self.tls(),
            clients_file: self.clients_file.clone(),
            admin_token: self.admin_token()?,
            http_listen: self.http_listen,
            connections: Room::new(self.max_connections, 1 + usize::from(self.http_listen.is_some()))?,
            patience: Patience::default(),
            announce_file: self.announce_file.clone(),
            plan,
            device: self.device,
            precision: self.precision,
            admission: Limits { requests: self.max_requests, budget: self.budget() },
            batch_tokens: self.max_batch_tokens,
            tokenizer_threads: self.tokenizer_threads.unwrap_or_else(cores),
            cache_bytes: self.vector_cache_mib << 20,
            text: self.text(),
            request: RequestLimits {
                texts: self.max_texts,
                text_bytes: self.max_text_bytes,
                stream_items: self.max_stream_items,
                request_bytes: self.max_request_bytes,
                response_bytes: self.max_response_bytes,
                time: Duration::from_secs(self.max_request_seconds),
            },
            drain: Duration::from_secs(self.drain_seconds),
        })
    }

    fn admin_token(&self) -> Result<Option<[u8; 32]>> {
        let digest = self.admin_token_sha256.as_deref().map(parse_digest);
        digest.transpose().context("--admin-token-sha256")
    }

    fn tls(&self) -> Option<tls::Files> {
        let (certificate, key) = self.tls_cert.clone().zip(self.tls_key.clone())?;
        Some(tls::Files { certificate, key, client_ca: self.tls_client_ca.clone() })
    }

    fn check_announce_file(&self) -> Result<()> {
        if let Some(file) = &self.announce_file {
            let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
            ensure!(
                parent.is_none_or(std::path::Path::is_dir),
                "--announce-file {}: its directory does not exist",
                file.display()
            );
        }
        Ok(())
    }

    fn text(&self) -> GenerationLimits {
        GenerationLimits {
            kv_bytes: self.kv_cache_mib.map(|mib| mib.saturating_mul(1 << 20)),
            kv_fraction: self.kv_cache_fraction,
            running_sequences: self.max_writing,
            step_tokens: self.max_step_tokens,
            max_wait: Duration::from_secs(self.max_queue_seconds),
        }
    }

    fn budget(&self) -> Budget {
        let time = Budget::Wait(Duration::from_secs(self.max_queue_seconds));
        self.max_queued_tokens.map_or(time, Budget::Tokens)
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
