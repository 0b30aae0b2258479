//! The gRPC services of the pipeline.
//!
//! It hides the port, its layers and health; the services translate between messages and the
//! modules that do the work, and errors become statuses in one place.

pub(crate) mod access;
mod error;
mod evidence;
mod exports;
mod extractor;
mod filters;
mod gate;
mod insights;
mod linking;
mod nearness;
mod orchestrator;
mod postings;
mod privacy;
mod reports;
mod review;
mod stages;
mod taxonomies;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use observatory_proto::pipeline::v1::{
    export_service_server::ExportServiceServer, extractor_service_server::ExtractorServiceServer,
    insight_service_server::InsightServiceServer, orchestrator_service_server::OrchestratorServiceServer,
    posting_service_server::PostingServiceServer, privacy_service_server::PrivacyServiceServer,
    report_service_server::ReportServiceServer, review_service_server::ReviewServiceServer,
    stage_service_server::StageServiceServer, taxonomy_service_server::TaxonomyServiceServer,
};
use observatory_server::connections::{self, Port};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{codec::CompressionEncoding, service::Routes};
use tonic_health::server::HealthReporter;

use crate::{
    cache::CachedEmbeddings,
    domain::run::StageName,
    extractor::{stage::ExtractorSource, tagger::Taggers},
    orchestrator::Orchestrator,
    reporter::stage::ReporterStage,
    stage::Stage,
    store::{Connection, PgPool},
    worker::{Counters, Worker},
};

use gate::{GateLayer, Room};
pub(crate) use stages::StageEntry;

/// Largest message in either direction, decompressed. Not tuned: four times tonic's default, for
/// the longest advertisement with all that was found in it.
const MESSAGE_LIMIT: usize = 16 << 20;

/// State that the services share.
#[derive(Clone)]
pub(crate) struct Services {
    /// Database.
    pub pool: PgPool,
    /// Vectors of search texts.
    pub embeddings: CachedEmbeddings,
    /// Current extractor.
    pub extractor: Arc<ExtractorSource>,
    /// Served token classifiers.
    pub taggers: Taggers,
    /// Driver of runs; absent in a process that only works on stages.
    pub orchestrator: Option<Orchestrator>,
    /// Writer of reports; absent in a process that does not have that stage.
    pub reporter: Option<Arc<ReporterStage>>,
    /// Names of the portals that runs visit.
    pub portals: Arc<[String]>,
    /// Stages of this process.
    pub stages: Arc<BTreeMap<StageName, StageEntry>>,
    /// Cancelled when streams that have no end of their own are to end.
    pub closed: CancellationToken,
}

/// Entrance of callers: the port's connections, and the rule for its calls.
#[derive(Debug, Clone)]
pub(crate) struct Entrance {
    port: Port,
    probes: Port,
    gate: GateLayer,
    access: access::Access,
    ready: Arc<AtomicBool>,
}

impl Entrance {
    /// The gRPC port's connections and those of the port for probes, and as many calls as may be
    /// under way.
    pub(crate) fn new(port: Port, probes: Port, access: access::Access, calls: usize) -> Self {
        let gate = GateLayer::new(access.clone(), Room::new(calls));
        Self { port, probes, gate, access, ready: Arc::default() }
    }

    /// The connections of the port for metrics and health.
    pub(crate) fn probes(&self) -> Port {
        self.probes.clone()
    }

    /// The flag that says whether the dependencies of the process answer.
    pub(crate) fn ready(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.ready)
    }
}

/// Names that `grpc.health.v1` answers for, besides "" for the process.
const READY: &str = "ready";

/// Serves until the services are closed, and then what is in flight, as long as it takes; from
/// `stop` on no health name serves.
///
/// # Errors
/// If the address cannot be bound or the transport fails.
pub(crate) async fn serve(
    services: Services,
    listener: TcpListener,
    entrance: Entrance,
    stop: CancellationToken,
) -> Result<()> {
    let (reporter, health) = tonic_health::server::health_reporter();
    // Alive before it is ready: a liveness probe must not restart a process whose database is away.
    reporter.set_service_status("", tonic_health::ServingStatus::Serving).await;
    let closed = services.closed.clone();
    let pool = services.pool.clone();
    tokio::spawn(watch_readiness(reporter, entrance.ready(), pool, (stop, closed.clone())));
    entrance.access.watch();
    let reflection = tonic_reflection::server::Builder::configure()
        // Reflection lists registered files alone, and the health service brings its own.
        .register_encoded_file_descriptor_set(observatory_proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .context("cannot build server reflection")?;
    let routes = routes(services).add_service(health).add_service(reflection);
    tonic::transport::Server::builder()
        // Around every route, so that a service that is added later cannot be left open.
        .layer(entrance.gate)
        // A peer that is gone without a word would hold the room of its calls for ever.
        .http2_keepalive_interval(Some(Duration::from_secs(20)))
        .add_routes(routes)
        .serve_with_incoming_shutdown(
            connections::incoming(listener, entrance.port),
            closed.cancelled_owned(),
        )
        .await
        .context("gRPC server failed")
}

fn routes(services: Services) -> Routes {
    // A macro, since the generated servers share no trait that has these limits.
    macro_rules! limited {
        ($server:ident) => {
            $server::new(services.clone())
                .max_decoding_message_size(MESSAGE_LIMIT)
                .max_encoding_message_size(MESSAGE_LIMIT)
                .accept_compressed(CompressionEncoding::Gzip)
        };
    }
    let routes = Routes::new(limited!(StageServiceServer));
    // A process that drives no runs answers for its stages alone; callers find the rest at the
    // orchestrator.
    if services.orchestrator.is_none() {
        return routes;
    }
    routes
        .add_service(limited!(OrchestratorServiceServer))
        .add_service(limited!(ExtractorServiceServer))
        .add_service(limited!(PostingServiceServer))
        .add_service(limited!(PrivacyServiceServer))
        .add_service(limited!(TaxonomyServiceServer))
        .add_service(limited!(InsightServiceServer))
        .add_service(limited!(ReportServiceServer))
        .add_service(limited!(ReviewServiceServer))
        .add_service(limited!(ExportServiceServer))
}

/// Keeps the health name "ready" and the flag true to whether the database answers, until `stop`;
/// ends the watches of health when the process is `closed`.
async fn watch_readiness(
    mut reporter: HealthReporter,
    ready: Arc<AtomicBool>,
    pool: PgPool,
    (stop, closed): (CancellationToken, CancellationToken),
) {
    while !stop.is_cancelled() {
        // Asked and not concluded from the pool: a connection that lies there may be dead.
        let asked = async {
            match pool.acquire().await {
                Ok(mut connection) => connection.ping().await.is_ok(),
                Err(_) => false,
            }
        };
        // A pool that has no connection to give keeps its callers for half a minute.
        let answers = tokio::select! {
            answers = asked => answers,
            () = stop.cancelled() => break,
        };
        let status = if answers {
            tonic_health::ServingStatus::Serving
        } else {
            tonic_health::ServingStatus::NotServing
        };
        // Relaxed: nothing else is read on the strength of this flag.
        ready.store(answers, Ordering::Relaxed);
        reporter.set_service_status(READY, status).await;
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(2)) => {}
            () = stop.cancelled() => {}
        }
    }
    // Said while requests are still being finished, so that nobody sends new ones.
    ready.store(false, Ordering::Relaxed);
    reporter.set_service_status("", tonic_health::ServingStatus::NotServing).await;
    reporter.set_service_status(READY, tonic_health::ServingStatus::NotServing).await;
    closed.cancelled().await;
    // A watch has no end of its own and would hold the drain.
    for name in ["", READY] {
        reporter.clear_service_status(name).await;
    }
}

/// Opens a port.
///
/// # Errors
/// If the address is in use or not allowed; the text names it.
pub(crate) async fn bind(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}

/// A page size as asked for: 0 means 50, the maximum is 500.
fn page_size(asked: i32) -> Result<i64, tonic::Status> {
    match asked {
        0 => Ok(50),
        1..=500 => Ok(i64::from(asked)),
        _ => Err(error::invalid("page_size", format!("{asked} is outside 0 to 500"))),
    }
}

fn non_empty(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}
