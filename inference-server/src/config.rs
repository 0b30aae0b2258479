//! The command line and the environment, checked whole before any port opens.
//!
//! [`Args`] is what clap reads, [`Config`] what the rest of the program is handed: no flag is read
//! anywhere else.

mod renamed;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;

use crate::device::{DeviceChoice, GenerationLimits, KV_FRACTION, Precision};
use crate::registry::plan::ServePlan;
use crate::scheduler::admission::{Budget, Limits};
use crate::service::limits::RequestLimits;
use observatory_server::access::parse_digest;
use observatory_server::connections::{Patience, Room};
use observatory_server::tls;
pub use renamed::Deprecated;

/// Serves embeddings, token classification, ranking and text generation over gRPC, and OpenAI's API
/// over HTTP, from the models of a store.
///
/// Exit status: 0 after a shutdown that finished all in-flight requests; 1 if requests were cut off
/// at the end of --drain-seconds, or the device was lost; 2 if the configuration is invalid, a port
/// cannot be opened, or none of the store's models can be loaded. With an empty store the server
/// starts and serves no model. OBSERVATORY_LOG sets the log filter, RAYON_NUM_THREADS the number of
/// CPU threads that compute.
#[derive(Debug, Clone, Parser)]
#[command(name = "inference-server", version)]
pub struct Args {
    /// Address of the gRPC server; port 0 takes a free one.
    #[arg(long, env = "OBSERVATORY_INFERENCE_LISTEN", default_value = "127.0.0.1:50051", help_heading = NETWORK)]
    pub listen: SocketAddr,
    /// Address of OpenAI's API over HTTP (POST /v1/embeddings, /v1/chat/completions,
    /// /v1/completions, /v1/rerank); off unless given, port 0 takes a free one.
    #[arg(long, env = "OBSERVATORY_INFERENCE_HTTP_LISTEN", value_name = "ADDRESS", help_heading = NETWORK)]
    pub http_listen: Option<SocketAddr>,
    /// Address of Prometheus metrics (GET /metrics) and health over HTTP (GET /livez, GET /readyz),
    /// always without TLS and tokens; port 0 takes a free one.
    #[arg(long, env = "OBSERVATORY_INFERENCE_METRICS_LISTEN", default_value = "127.0.0.1:9464", help_heading = NETWORK)]
    pub metrics_listen: SocketAddr,
    /// After binding, write {"grpc", "metrics", "http", "pid"} to this file; removed on a clean
    /// exit.
    #[arg(long, env = "OBSERVATORY_INFERENCE_ANNOUNCE_FILE", value_name = "FILE", help_heading = NETWORK)]
    pub announce_file: Option<PathBuf>,
    /// Maximum number of connections, on the gRPC port and on the HTTP port each; by default what
    /// the limit of open files leaves. One more closes the connection that was silent for longest.
    #[arg(long, env = "OBSERVATORY_INFERENCE_MAX_CONNECTIONS", value_name = "COUNT", help_heading = NETWORK)]
    pub max_connections: Option<usize>,
    /// Age in seconds at which a gRPC connection is closed once its calls are over, so that callers
    /// who keep one connection reach servers that were added; 0 keeps connections for ever.
    #[arg(long, env = "OBSERVATORY_INFERENCE_MAX_CONNECTION_AGE_SECONDS", value_name = "SECONDS", default_value_t = 0, help_heading = NETWORK)]
    pub max_connection_age_seconds: u64,
    /// Certificate chain in PEM: the gRPC and HTTP ports speak TLS. Reloaded when it changes, as
    /// are the key and the roots.
    #[arg(long, env = "OBSERVATORY_INFERENCE_TLS_CERT", value_name = "FILE", requires = "tls_key", help_heading = ACCESS)]
    pub tls_cert: Option<PathBuf>,
    /// Private key of --tls-cert in PEM.
    #[arg(long, env = "OBSERVATORY_INFERENCE_TLS_KEY", value_name = "FILE", requires = "tls_cert", help_heading = ACCESS)]
    pub tls_key: Option<PathBuf>,
    /// Roots in PEM that must have signed every client's certificate (mutual TLS).
    #[arg(long, env = "OBSERVATORY_INFERENCE_TLS_CLIENT_CA", value_name = "FILE", requires = "tls_cert", help_heading = ACCESS)]
    pub tls_client_ca: Option<PathBuf>,
    /// TOML with a table for each client that may call: token_sha256 or certificate_sha256, admin,
    /// tokens_per_minute. Reloaded when it changes. Without it everybody may call.
    #[arg(long, env = "OBSERVATORY_INFERENCE_CLIENTS_FILE", value_name = "FILE", help_heading = ACCESS)]
    pub clients_file: Option<PathBuf>,
    /// SHA-256, hexadecimal, of a bearer token that may load and unload models, in addition to
    /// clients with admin = true. Being on the same machine gives no rights.
    #[arg(long, env = "OBSERVATORY_INFERENCE_ADMIN_TOKEN_SHA256", value_name = "HEX", help_heading = ACCESS)]
    pub admin_token_sha256: Option<String>,
    /// Model store: DIR/ORGANISATION/NAME/ with config.json, tokenizer.json and safetensors, or a
    /// GGUF file.
    #[arg(long, env = "OBSERVATORY_MODELS", value_name = "DIR", help_heading = MODELS)]
    pub models_dir: PathBuf,
    /// Model to serve, in order of preference; may be repeated. By default every model of the
    /// store.
    #[arg(long = "model", env = "OBSERVATORY_INFERENCE_MODEL", value_name = "NAME", value_delimiter = ',', help_heading = MODELS)]
    pub models: Vec<String>,
    /// Model for embeddings if a request names none; by default the first that embeds.
    #[arg(long, env = "OBSERVATORY_INFERENCE_DEFAULT_EMBEDDING", value_name = "NAME", help_heading = MODELS)]
    pub default_embedding: Option<String>,
    /// Memory for the weights of all models, in MiB; a model that does not fit is listed as failed.
    #[arg(long, env = "OBSERVATORY_INFERENCE_MAX_WEIGHT_MIB", value_name = "MIB", help_heading = MODELS)]
    pub max_weight_mib: Option<u64>,
    /// Device to compute on: auto, cpu, cuda or cuda:N.
    #[arg(long, env = "OBSERVATORY_INFERENCE_DEVICE", default_value = "auto", help_heading = COMPUTE)]
    pub device: DeviceChoice,
    /// Number format of weights and activations; sums are f32.
    #[arg(long, env = "OBSERVATORY_INFERENCE_PRECISION", value_enum, default_value = "auto", help_heading = COMPUTE)]
    pub precision: Precision,
    /// Number of threads that tokenize; by default one per core.
    #[arg(long, env = "OBSERVATORY_INFERENCE_TOKENIZER_THREADS", help_heading = COMPUTE)]
    pub tokenizer_threads: Option<usize>,
    /// Memory for the embedding cache, in MiB; 0 turns it off.
    #[arg(long, env = "OBSERVATORY_INFERENCE_EMBEDDING_CACHE_MIB", default_value_t = 64, help_heading = COMPUTE)]
    pub embedding_cache_mib: usize,
    /// Maximum number of tokens in one encoder batch; 1024 on the CPU and 16384 on a GPU by
    /// default.
    #[arg(long, env = "OBSERVATORY_INFERENCE_MAX_BATCH_TOKENS", help_heading = COMPUTE)]
    pub max_batch_tokens: Option<usize>,
    /// Maximum number of sequences decoded concurrently per language model; 64 on the CPU and 256
    /// on a GPU by default.
    #[arg(long, env = "OBSERVATORY_INFERENCE_MAX_RUNNING_SEQUENCES", help_heading = GENERATION)]
    pub max_running_sequences: Option<usize>,
    /// Token budget of one step of a language model: one token per running sequence, the rest for
    /// prefill; 128 on the CPU and 2048 on a GPU by default.
    #[arg(long, env = "OBSERVATORY_INFERENCE_MAX_STEP_TOKENS", help_heading = GENERATION)]
    pub max_step_tokens: Option<usize>,
    /// Size of the KV cache of one language model, in MiB; 1024 on the CPU by default, and on a GPU
    /// what --kv-cache-fraction leaves.
    #[arg(long, env = "OBSERVATORY_INFERENCE_KV_CACHE_MIB", value_name = "MIB", help_heading = GENERATION)]
    pub kv_cache_mib: Option<u64>,
    /// Fraction of a GPU's memory for the weights and KV caches of all models together.
    #[arg(long, env = "OBSERVATORY_INFERENCE_KV_CACHE_FRACTION", value_name = "FRACTION", default_value_t = KV_FRACTION, help_heading = GENERATION)]
    pub kv_cache_fraction: f64,
    /// Maximum number of in-flight requests.
    #[arg(long, env = "OBSERVATORY_INFERENCE_MAX_REQUESTS", default_value_t = 256, help_heading = ADMISSION)]
    pub max_requests: usize,
    /// Maximum number of tokens waiting for the device; by default what it computes in
    /// --max-queue-seconds.
    #[arg(long, env = "OBSERVATORY_INFERENCE_MAX_QUEUED_TOKENS", help_heading = ADMISSION)]
    pub max_queued_tokens: Option<u64>,
    /// Maximum time that work may wait for the device, in seconds, by its measured speed.
    #[arg(long, env = "OBSERVATORY_INFERENCE_MAX_QUEUE_SECONDS", default_value_t = 30, help_heading = ADMISSION)]
    pub max_queue_seconds: u64,
    /// Maximum number of texts in a request.
    #[arg(long, env = "OBSERVATORY_INFERENCE_MAX_TEXTS", default_value_t = 1_024, help_heading = REQUEST)]
    pub max_texts: usize,
    /// Maximum size of one text, in bytes.
    #[arg(long, env = "OBSERVATORY_INFERENCE_MAX_TEXT_BYTES", default_value_t = 131_072, help_heading = REQUEST)]
    pub max_text_bytes: usize,
    /// Maximum number of items of a stream whose results have not been sent; the stream is not read
    /// beyond that.
    #[arg(long, env = "OBSERVATORY_INFERENCE_MAX_STREAM_ITEMS", default_value_t = 128, help_heading = REQUEST)]
    pub max_stream_items: usize,
    /// Maximum size of a request message, in bytes after decompression.
    #[arg(long, env = "OBSERVATORY_INFERENCE_MAX_REQUEST_BYTES", default_value_t = 4 << 20, help_heading = REQUEST)]
    pub max_request_bytes: usize,
    /// Maximum size of a response message, in bytes before compression; gRPC clients read 4 MiB
    /// unless told otherwise.
    #[arg(long, env = "OBSERVATORY_INFERENCE_MAX_RESPONSE_BYTES", default_value_t = 64 << 20, help_heading = REQUEST)]
    pub max_response_bytes: usize,
    /// Maximum time of a request, in seconds, unless its caller sets an earlier deadline.
    #[arg(long, env = "OBSERVATORY_INFERENCE_MAX_REQUEST_SECONDS", default_value_t = 300, help_heading = REQUEST)]
    pub max_request_seconds: u64,
    /// Time after a request to stop in which the server goes on serving, in seconds: every health
    /// name is NOT_SERVING by then, so that callers go elsewhere before connections are refused.
    #[arg(long, env = "OBSERVATORY_INFERENCE_LAME_DUCK_SECONDS", default_value_t = 0, help_heading = REQUEST)]
    pub lame_duck_seconds: u64,
    /// Time that in-flight requests get to finish at shutdown, in seconds, after
    /// --lame-duck-seconds.
    #[arg(long, env = "OBSERVATORY_INFERENCE_DRAIN_SECONDS", default_value_t = 30, help_heading = REQUEST)]
    pub drain_seconds: u64,
}

/// Headings of `--help`.
const NETWORK: &str = "Network";
const ACCESS: &str = "TLS and access";
const MODELS: &str = "Models";
const COMPUTE: &str = "Device and encoders";
const GENERATION: &str = "Language models";
const ADMISSION: &str = "Admission";
const REQUEST: &str = "Limits of a request";

/// A checked configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Address of gRPC.
    pub listen: SocketAddr,
    /// Address of metrics and probes.
    pub metrics_listen: SocketAddr,
    /// Certificate, key and client roots; `None` serves plain text.
    pub tls: Option<tls::Files>,
    /// The clients file.
    pub clients_file: Option<PathBuf>,
    /// SHA-256 of the operator's token.
    pub admin_token: Option<[u8; 32]>,
    /// Address of OpenAI's API.
    pub http_listen: Option<SocketAddr>,
    /// Bounds of open connections.
    pub connections: Room,
    /// Time-outs of connections.
    pub patience: Patience,
    /// Age at which a gRPC connection is closed; `None` for never.
    pub max_connection_age: Option<Duration>,
    /// File that the bound ports are written to.
    pub announce_file: Option<PathBuf>,
    /// Models to load.
    pub plan: ServePlan,
    /// Device to compute on.
    pub device: DeviceChoice,
    /// Number format of weights and activations.
    pub precision: Precision,
    /// Bounds of admission.
    pub admission: Limits,
    /// Tokens of an encoder batch; `None` picks the device's default.
    pub batch_tokens: Option<usize>,
    /// Number of threads that tokenize.
    pub tokenizer_threads: usize,
    /// Bytes of the embedding cache.
    pub cache_bytes: usize,
    /// Bounds of language models.
    pub text: GenerationLimits,
    /// Bounds of a request.
    pub request: RequestLimits,
    /// Time for which a server that was asked to stop goes on serving.
    pub lame_duck: Duration,
    /// Longest time a shutdown waits for in-flight requests after that.
    pub drain: Duration,
}

impl Args {
    /// Reads the command line and the environment of the process, or ends it with a message as clap
    /// does; also the warnings about old names.
    pub fn read() -> (Self, Vec<Deprecated>) {
        let (arguments, warnings) = renamed::resolve(std::env::args_os(), |name| std::env::var_os(name));
        (Self::parse_from(arguments), warnings)
    }

    /// Checks every value and looks for the models in the store.
    ///
    /// # Errors
    /// Names the flag, its value and what is allowed.
    pub fn check(&self) -> Result<Config> {
        self.check_positive()?;
        let fraction = self.kv_cache_fraction;
        ensure!(
            fraction > 0.0 && fraction <= 1.0,
            "invalid --kv-cache-fraction `{fraction}`: expected a fraction above 0, at most 1"
        );
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
            // By default the open files that are left are divided among the ports that serve.
            connections: Room::new(self.max_connections, 1 + usize::from(self.http_listen.is_some()))?,
            patience: Patience::default(),
            max_connection_age: seconds(self.max_connection_age_seconds),
            announce_file: self.announce_file.clone(),
            plan,
            device: self.device,
            precision: self.precision,
            admission: Limits { requests: self.max_requests, budget: self.budget() },
            batch_tokens: self.max_batch_tokens,
            tokenizer_threads: self.tokenizer_threads.unwrap_or_else(cores),
            cache_bytes: self.embedding_cache_mib << 20,
            text: self.text(),
            request: RequestLimits {
                texts: self.max_texts,
                text_bytes: self.max_text_bytes,
                stream_items: self.max_stream_items,
                request_bytes: self.max_request_bytes,
                response_bytes: self.max_response_bytes,
                time: Duration::from_secs(self.max_request_seconds),
            },
            lame_duck: Duration::from_secs(self.lame_duck_seconds),
            drain: Duration::from_secs(self.drain_seconds),
        })
    }

    /// Refuses a 0 where the server could do nothing with it.
    fn check_positive(&self) -> Result<()> {
        // An option that is unset passes as 1: its default is worked out later and is positive.
        for (flag, value) in [
            ("--max-requests", self.max_requests),
            ("--max-batch-tokens", self.max_batch_tokens.unwrap_or(1)),
            ("--kv-cache-mib", self.kv_cache_mib.map_or(1, whole)),
            ("--max-running-sequences", self.max_running_sequences.unwrap_or(1)),
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
            ensure!(value > 0, "invalid {flag} `0`: expected a positive number");
        }
        Ok(())
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
        // Checked early, so that a wrong path is reported by its flag before a port opens.
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
            running_sequences: self.max_running_sequences,
            step_tokens: self.max_step_tokens,
            max_wait: Duration::from_secs(self.max_queue_seconds),
        }
    }

    fn budget(&self) -> Budget {
        let time = Budget::Wait(Duration::from_secs(self.max_queue_seconds));
        self.max_queued_tokens.map_or(time, Budget::Tokens)
    }
}

/// A time of which zero means none.
fn seconds(value: u64) -> Option<Duration> {
    Some(Duration::from_secs(value)).filter(|time| !time.is_zero())
}

/// A number as a size; one that is too large stays too large.
fn whole(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
