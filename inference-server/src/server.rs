//! The process: binds its ports, serves, drains, and says how it ended.
//!
//! This is the composition root: every other room is handed what it needs from here, so a test can
//! start a whole server in its own process. `bind` puts the parts together, `run` serves with them.

mod ports;
mod run;
pub(crate) mod shutdown;
pub mod telemetry;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use observatory_server::connections::{Patience, Room};
use observatory_server::tls::Protocol;
use observatory_server::watched::Watched;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::device::arbiter::DeviceArbiter;
use crate::device::{self, Batches, OpenDevice};
use crate::grpc::{self, Api, Layered, Router};
use crate::health::Health;
use crate::metrics::Metrics;
use crate::registry::loaded::LoadedModel;
use crate::registry::loader::{Loader, LoaderThread};
use crate::registry::{ModelState, Registry};
use crate::scheduler::admission::Admission;
use crate::scheduler::queue::Queue;
use crate::service::access::{self, Access};
use crate::service::embedding_cache::EmbeddingCache;
use crate::service::{Parts, Service};
use crate::text::worker_pool::WorkerPool;
use ports::HttpPort;

/// Shares of texts that may wait for each of the tokenizer's threads. A request brings no more than
/// its texts, so this bounds what a burst may queue before it is refused. Not tuned: at some 3 ms a
/// share (see `service::read`) it is 0.2 s of work for each thread.
const WAITING_SHARES: usize = 64;

/// Threads that compile constraints, and constraints that may wait for them. Not tuned: few
/// threads, because a constraint is compiled once and bounded in memory but not in time, so more of
/// them would take the cores from the device on the CPU; and a queue of several seconds, as a hard
/// constraint takes one or two.
const COMPILER_THREADS: usize = 2;
const WAITING_CONSTRAINTS: usize = 64;

/// The way a server ended; the exit status follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Every in-flight request was finished.
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
    http: Option<HttpPort>,
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
    lame_duck: Duration,
    drain: Duration,
}

impl Server {
    /// Binds the ports for the models of the plan, which are loaded once [`Server::run`] runs.
    ///
    /// # Errors
    /// If the device cannot be opened, a port bound or the announce file written.
    pub async fn bind(config: &Config) -> Result<Self> {
        // The device comes first: a server that cannot compute opens no port.
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
        let metrics = Metrics::new();
        metrics.collect_with(collector(Arc::clone(&admission), Arc::clone(&registry)));
        let batch_tokens = config.batch_tokens.unwrap_or(batches.tokens);
        let queue = Queue::start(
            batch_tokens,
            batches.in_flight,
            Arc::clone(&admission),
            Arc::clone(&metrics),
            Arc::clone(arbiter),
        )
        .context("the device's threads cannot be started")?;
        let (health, health_service) = Health::new(Arc::clone(&registry), Arc::clone(&metrics));
        // The thread is not started before `run`: a port that cannot be bound must not cost a
        // model's load.
        let (loader, waiting) = Loader::new(&registry, &admission, batch_tokens);
        let (device_lost, cut_off) = (queue.device_lost(), CancellationToken::new());
        let service = Service::new(Parts {
            registry: Arc::clone(&registry),
            loader,
            admission: Arc::clone(&admission),
            tokenizers: tokenizers(config.tokenizer_threads)?,
            compilers: compilers()?,
            queue,
            cache: EmbeddingCache::new(config.cache_bytes),
            metrics: Arc::clone(&metrics),
            limits: config.request,
            cut_off: cut_off.clone(),
        });
        let access = access::rule(config.clients_file.as_deref(), config.admin_token)?;
        let api = Api::new(service.clone(), health.clone());
        let server = Self {
            grpc: ports::listen(config.listen, "--listen").await?,
            metrics_http: ports::listen(config.metrics_listen, "--metrics-listen").await?,
            http: HttpPort::open(config, service, &access).await?,
            router: grpc::router(&api, access.clone(), health_service, config.max_connection_age)?,
            tls: ports::tls(config, Protocol::Grpc)?,
            room: config.connections,
            patience: config.patience,
            access,
            health,
            registry,
            admission,
            metrics,
            device_lost,
            cut_off,
            loader: waiting,
            device: None,
            announce_file: config.announce_file.clone(),
            lame_duck: config.lame_duck,
            drain: config.drain,
        };
        // Before the first probe can come, which would find no name known.
        server.health.publish().await;
        // Announced last: a program that reads the file may call at once.
        ports::announce(&server)?;
        Ok(server)
    }

    /// Address that gRPC is served on.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn grpc_addr(&self) -> Result<SocketAddr> {
        self.grpc.local_addr().context("the gRPC port is not known")
    }

    /// Address that metrics are served on, and health over HTTP.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn metrics_addr(&self) -> Result<SocketAddr> {
        self.metrics_http.local_addr().context("the metrics port is not known")
    }

    /// Address that OpenAI's API is served on, if it is.
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.http.as_ref().and_then(HttpPort::address)
    }

    /// The admission controller, for supervisors in the same process.
    pub fn admission(&self) -> Arc<Admission> {
        Arc::clone(&self.admission)
    }
}

fn tokenizers(threads: usize) -> Result<WorkerPool> {
    WorkerPool::start("tokenizer", threads, threads * WAITING_SHARES)
        .context("the tokenizer's threads cannot be started")
}

fn compilers() -> Result<WorkerPool> {
    WorkerPool::start("constraint-reader", COMPILER_THREADS, WAITING_CONSTRAINTS)
        .context("the threads of constraints cannot be started")
}

/// Reads what other rooms hold into the gauges.
fn collector(admission: Arc<Admission>, registry: Arc<Registry>) -> impl Fn(&Metrics) + Send + Sync {
    move |metrics| {
        metrics.set_admission(admission.gauges());
        for entry in registry.entries() {
            // Counters of a model that is unloaded stay as they were at the last scrape.
            let ModelState::Ready(model) = &entry.state else { continue };
            if let Ok(generator) = model.generator() {
                metrics.set_generation(&entry.name, &generator.figures());
            }
        }
    }
}
