//! The process: binds the ports, serves, drains, and says how it ended.
//!
//! This is the composition root. Every other room is handed what it needs from here, so that tests
//! can start a whole server in their own process.

pub(crate) mod shutdown;
pub mod telemetry;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use observatory_server::connections::{self, Patience, Port, Room};
use observatory_server::http;
use observatory_server::tls::Protocol;
use observatory_server::watched::Watched;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::device::arbiter::DeviceArbiter;
use crate::device::{self, Batches, OpenDevice};
use crate::grpc::health::Health;
use crate::grpc::{self, Api, Layered, Router, Shared};
use crate::metrics::Metrics;
use crate::registry::loaded::LoadedModel;
use crate::registry::loader::{Loader, LoaderThread};
use crate::registry::{ModelState, Registry};
use crate::scheduler::admission::Admission;
use crate::scheduler::queue::Queue;
use crate::service::access::Access;
use crate::service::embedding_cache::EmbeddingCache;
use crate::text::worker_pool::WorkerPool;
use shutdown::Stop;

/// How long open streams (a health watch, for one) may keep the listener after the drain.
const STREAM_GRACE: Duration = Duration::from_millis(250);

/// Shares of texts that may wait for each of the tokenizer's threads.
const WAITING_SHARES: usize = 64;

/// Threads that read constraints, and constraints that may wait for them.
const CONSTRAINT_THREADS: usize = 2;
const WAITING_CONSTRAINTS: usize = 64;

/// How a server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Everything in flight was finished.
    Drained,
    /// Requests were cut off when the time for draining ran out, or by a second signal.
    CutOff,
    /// The device is lost; a restart may bring it back.
    DeviceLost,
    /// There were models and none could be loaded.
    NoModel,
}

impl Outcome {
    /// The exit status of the process.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Drained => 0,
            Self::CutOff | Self::DeviceLost => 1,
            Self::NoModel => 2,
        }
    }
}

/// A server that has bound its ports and does not serve yet.
pub struct Server {
    grpc: TcpListener,
    tls: Option<Arc<Watched<ServerConfig>>>,
    access: Access,
    metrics_http: TcpListener,
    openai: Option<(TcpListener, Port, axum::Router)>,
    room: Room,
    patience: Patience,
    router: Router<Layered>,
    health: Health,
    registry: Arc<Registry>,
    admission: Arc<Admission>,
    metrics: Arc<Metrics>,
    device_lost: CancellationToken,
    cut_off: CancellationToken,
    loader: LoaderThread,
    device: Option<OpenDevice>,
    announce_file: Option<PathBuf>,
    drain: Duration,
}

impl Server {
    /// Binds the ports for the models of the plan, which are loaded once [`Server::run`] runs.
    ///
    /// # Errors
    /// If the device, a port or the announce file cannot be had.
    pub async fn bind(config: &Config) -> Result<Self> {
        let mut device = device::open(config.device)?.with_precision(config.precision)?;
        device.generation = config.text;
        let registry = Registry::new(&config.plan);
        let mut server = Self::with_registry(config, registry, device.batches(), &device.arbiter).await?;
        server.device = Some(device);
        Ok(server)
    }

    /// Binds the ports for models that are loaded already; the plan is ignored.
    ///
    /// # Errors
    /// As [`Server::bind`].
    pub async fn with_models(config: &Config, models: Vec<LoadedModel>) -> Result<Self> {
        Self::with_registry(config, Registry::ready(models), device::CPU_BATCHES, &Arc::default()).await
    }

    async fn with_registry(
        config: &Config,
        registry: Registry,
        batches: Batches,
        arbiter: &Arc<DeviceArbiter>,
    ) -> Result<Self> {
        let registry = Arc::new(registry);
        let admission = Admission::new(config.admission);
        let metrics = Metrics::new(Arc::clone(&admission), Arc::clone(&registry));
        let batch_tokens = config.batch_tokens.unwrap_or(batches.tokens);
        let queue = Queue::start(
            batch_tokens,
            batches.in_flight,
            Arc::clone(&admission),
            Arc::clone(&metrics),
            Arc::clone(arbiter),
        )
        .context("the device's threads cannot be started")?;
        let (workers, constraints) = readers(config.tokenizer_threads)?;
        let device_lost = queue.device_lost();
        let cut_off = CancellationToken::new();
        let access = crate::service::access::rule(config.clients_file.as_deref(), config.admin_token)?;
        let (health, service) = Health::new(Arc::clone(&registry), Arc::clone(&metrics));
        let (loader, loader_thread) = Loader::new(&registry, &admission, batch_tokens);
        let api = Api::new(Shared {
            registry: Arc::clone(&registry),
            loader,
            health: health.clone(),
            admission: Arc::clone(&admission),
            workers,
            constraints,
            queue,
            vectors: EmbeddingCache::new(config.cache_bytes),
            metrics: Arc::clone(&metrics),
            limits: config.request,
            cut_off: cut_off.clone(),
        });
        let server = Self {
            grpc: listen(config.listen, "--listen").await?,
            metrics_http: listen(config.metrics_listen, "--metrics-listen").await?,
            openai: http_door(config, &api, &access).await?,
            router: grpc::router(&api, access.clone(), service)?,
            tls: watched_tls(config, Protocol::Grpc)?,
            room: config.connections,
            patience: config.patience,
            access,
            health,
            registry,
            admission,
            metrics,
            device_lost,
            cut_off,
            loader: loader_thread,
            device: None,
            announce_file: config.announce_file.clone(),
            drain: config.drain,
        };
        server.health.publish().await;
        if let Some(file) = &server.announce_file {
            announce(file, &server).with_context(|| format!("--announce-file {}", file.display()))?;
        }
        Ok(server)
    }

    /// Where gRPC is served.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn grpc_addr(&self) -> Result<SocketAddr> {
        self.grpc.local_addr().context("the gRPC port is not known")
    }

    /// Where metrics are served, and health over HTTP.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn metrics_addr(&self) -> Result<SocketAddr> {
        self.metrics_http.local_addr().context("the metrics port is not known")
    }

    /// Where the embeddings API in OpenAI's form is served, if it is.
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.openai.as_ref().and_then(|(listener, ..)| listener.local_addr().ok())
    }

    /// The work in the server, for supervisors in the same process.
    pub fn admission(&self) -> Arc<Admission> {
        Arc::clone(&self.admission)
    }

    /// Serves until asked to stop: then new requests get UNAVAILABLE, every health name says
    /// NOT_SERVING, and what is in flight is finished, for at most the configured time.
    ///
    /// # Errors
    /// If the transport fails.
    pub async fn run(self, stop: Stop) -> Result<Outcome> {
        tracing::info!(grpc.addr = %self.grpc_addr()?, metrics.addr = %self.metrics_addr()?, "listening");
        let closed = CancellationToken::new();
        self.access.watch();
        let patience = self.patience;
        let port = Port { room: self.room.serving, tls: self.tls, is_http2: true, patience };
        let incoming = connections::incoming(self.grpc, port);
        let serving = self.router.serve_with_incoming_shutdown(incoming, closed.clone().cancelled_owned());
        let mut serving = tokio::spawn(serving);
        let beside = self.metrics.router().merge(crate::http::probes::router(self.health.clone()));
        let probes = Port { room: self.room.probes, tls: None, is_http2: false, patience };
        let probes = connections::incoming(self.metrics_http, probes);
        // Metrics and health are there to the end.
        let metrics_http = tokio::spawn(http::serve(probes, beside, patience.head, CancellationToken::new()));
        let openai = self.openai.map(|(listener, port, router)| {
            let incoming = connections::incoming(listener, port);
            tokio::spawn(http::serve(incoming, router, patience.head, closed.clone()))
        });
        let publish = publisher(self.health.clone());
        let mut loading = self.device.and_then(|device| self.loader.start(device, publish));

        let outcome = loop {
            tokio::select! {
                () = stop.drain.cancelled() => break None,
                () = self.device_lost.cancelled() => break Some(Outcome::DeviceLost),
                served = &mut serving => {
                    served.context("the gRPC server panicked")?.context("the gRPC server failed")?;
                    break Some(Outcome::Drained);
                }
                () = finished(&mut loading) => {
                    loading = None;
                    if none_loaded(&self.registry) {
                        break Some(Outcome::NoModel);
                    }
                }
            }
        };
        self.admission.drain();
        self.health.stop().await;
        let outcome = match outcome {
            Some(outcome) => outcome,
            None => drain(&self.admission, self.drain, &stop).await,
        };
        self.cut_off.cancel();
        closed.cancel();
        // Health watches never end by themselves, and what was cut off still has to be told so.
        if !serving.is_finished() && tokio::time::timeout(STREAM_GRACE, &mut serving).await.is_err() {
            serving.abort();
        }
        if let Some(openai) = openai {
            openai.abort();
        }
        metrics_http.abort();
        if let Some(file) = &self.announce_file
            && let Err(error) = std::fs::remove_file(file)
        {
            tracing::warn!(file.path = %file.display(), error.message = %error, "announce file not removed");
        }
        tracing::info!(outcome = ?outcome, "stopped");
        Ok(outcome)
    }
}

/// Publishes the states of the models from a thread outside of the runtime.
fn publisher(health: Health) -> impl Fn() + Send + 'static {
    let runtime = tokio::runtime::Handle::current();
    move || runtime.block_on(health.publish())
}

async fn drain(admission: &Admission, time: Duration, stop: &Stop) -> Outcome {
    tracing::info!(requests = admission.requests(), "draining");
    tokio::select! {
        () = admission.when(|count| *count == 0) => Outcome::Drained,
        () = tokio::time::sleep(time) => Outcome::CutOff,
        () = stop.now.cancelled() => Outcome::CutOff,
    }
}

async fn finished(loading: &mut Option<JoinHandle<()>>) {
    match loading {
        Some(handle) => {
            if let Err(error) = handle.await {
                tracing::error!(error.message = %error, "the model loader stopped early");
            }
        }
        None => std::future::pending().await,
    }
}

fn none_loaded(registry: &Registry) -> bool {
    let entries = registry.entries();
    !entries.is_empty() && entries.iter().all(|entry| matches!(entry.state, ModelState::Failed(_)))
}

/// The threads that read texts, and those that read what texts must look like.
fn readers(threads: usize) -> Result<(WorkerPool, WorkerPool)> {
    // A request brings at most its texts, so this bounds what a burst may queue up before it is
    // refused.
    let workers = WorkerPool::start("tokenizer", threads, threads * WAITING_SHARES)
        .context("the tokenizer's threads cannot be started")?;
    let constraints = WorkerPool::start("constraint-reader", CONSTRAINT_THREADS, WAITING_CONSTRAINTS)
        .context("the threads of constraints cannot be started")?;
    Ok((workers, constraints))
}

/// What makes a port of this protocol speak TLS, where certificates are configured.
fn watched_tls(config: &Config, protocol: Protocol) -> Result<Option<Arc<Watched<ServerConfig>>>> {
    config.tls.as_ref().map(|files| files.watched(protocol)).transpose()
}

/// The port of OpenAI's API and what is served there, where one is configured.
async fn http_door(
    config: &Config,
    api: &Api,
    access: &Access,
) -> Result<Option<(TcpListener, Port, axum::Router)>> {
    let Some(address) = config.http_listen else { return Ok(None) };
    let listener = listen(address, "--http-listen").await?;
    let tls = watched_tls(config, Protocol::Http)?;
    let (room, patience) = (config.connections.serving, config.patience);
    let port = Port { room, tls, is_http2: false, patience };
    Ok(Some((listener, port, crate::http::openai::router(api.clone(), access.clone(), patience))))
}

async fn listen(address: SocketAddr, flag: &str) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("{flag} {address}"))
}

/// Writes where the server listens, whole or not at all.
fn announce(file: &Path, server: &Server) -> Result<()> {
    let pid = std::process::id();
    let mut text = serde_json::json!({
        "grpc": server.grpc_addr()?.to_string(), "metrics": server.metrics_addr()?.to_string(), "pid": pid
    });
    if let Some(http) = server.http_addr() {
        text["http"] = http.to_string().into();
    }
    let temporary = file.with_extension(format!("{pid}.tmp"));
    std::fs::write(&temporary, format!("{text}\n"))?;
    std::fs::rename(&temporary, file)?;
    Ok(())
}
