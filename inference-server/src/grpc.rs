//! The gRPC door: decodes messages, calls the service, encodes what comes back.
//!
//! Nothing is decided here but the form of the wire. Every RPC is one file; `status` maps errors,
//! `layer` and `access` wrap every call.

mod access;
mod classification;
mod embedding;
mod encoding;
mod generation;
mod layer;
mod models;
mod ranking;
mod settings;
mod status;
mod stream;
mod tokenization;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use observatory_proto::inference::v1 as pb;
use prost::Message;
use tonic::codec::CompressionEncoding;
use tonic::service::Routes;
use tonic::transport::Server;
pub(crate) use tonic::transport::server::Router;
use tonic::{Request, Response, Status};
use tower::layer::util::{Identity, Stack};

use crate::error::Error;
use crate::health::{self, Health};
use crate::service::access::Access;
use crate::service::call::CallContext;
use crate::service::{Service, Timing};
use access::AccessLayer;

use layer::ObserveLayer;

/// The reflection that grpcio's and older clients ask for.
const REFLECTION_V1ALPHA: &str = "grpc.reflection.v1alpha.ServerReflection";

/// Silence on a connection before its other end is pinged, and time limit of the answer. Below the
/// minute after which common load balancers drop an idle connection; the limit is gRPC's default.
const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_ANSWER: Duration = Duration::from_secs(20);

/// Implements every gRPC service of the package.
#[derive(Clone)]
pub(crate) struct Api {
    service: Service,
    health: Health,
}

impl Api {
    /// The gRPC face of a service; `health` publishes changes of its models.
    pub(crate) fn new(service: Service, health: Health) -> Self {
        Self { service, health }
    }

    /// The answer as it is sent, its refusal counted.
    fn respond<T: Message>(&self, result: Result<T, Error>) -> Result<Response<T>, Status> {
        let checked = result.and_then(|message| {
            // tonic would refuse a message that is too large as well, but without details and
            // uncounted.
            self.service.check_answer(message.encoded_len())?;
            Ok(Response::new(message))
        });
        checked.map_err(|error| self.refuse(&error))
    }

    fn refuse(&self, error: &Error) -> Status {
        self.service.count_refusal(error);
        status::to_status(error)
    }
}

/// The context of the call that this request began, whose message (or, of a stream, whose header)
/// has been read.
fn context_of<T>(request: &Request<T>) -> CallContext {
    let context = request.extensions().get::<CallContext>().cloned().unwrap_or_default();
    // From here on the time to a refusal is the server's; before it the caller's network decided.
    context.record_decoded();
    context
}

/// The path of a text in a unary request.
fn text_field(index: usize) -> String {
    format!("texts[{index}]")
}

fn failed_item(error: &Error) -> pb::ItemStatus {
    pb::ItemStatus { ok: false, error: Some(status::to_item(error)), tokens: 0, truncated: false }
}

fn read_item(tokens: u32, truncated: bool) -> pb::ItemStatus {
    pb::ItemStatus { ok: true, error: None, tokens, truncated }
}

fn timing(timing: Timing) -> pb::Timing {
    pb::Timing {
        queue_ns: nanos(timing.queued),
        tokenize_ns: nanos(timing.tokenize),
        compute_ns: nanos(timing.compute),
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The layers around every service.
pub(crate) type Layered = Stack<AccessLayer, Stack<ObserveLayer, Identity>>;

/// All services behind the layers, ready to be served; connections are closed at `age` once their
/// calls are over.
///
/// # Errors
/// If the descriptor set cannot be read.
pub(crate) fn router(
    api: &Api,
    access: Access,
    health: health::Service,
    age: Option<Duration>,
) -> Result<Router<Layered>> {
    let limits = *api.service.limits();
    // A macro, as the servers that tonic generates have these methods by name but no trait in
    // common.
    macro_rules! bounded {
        ($service:expr) => {
            $service
                .max_decoding_message_size(limits.request_bytes)
                .max_encoding_message_size(limits.response_bytes)
                .accept_compressed(CompressionEncoding::Gzip)
                // Offered to all; `layer` keeps it from callers who do not compress themselves.
                .send_compressed(CompressionEncoding::Gzip)
        };
    }
    let embedding = pb::embedding_service_server::EmbeddingServiceServer::new(api.clone());
    let classification =
        pb::token_classification_service_server::TokenClassificationServiceServer::new(api.clone());
    let generation = pb::generation_service_server::GenerationServiceServer::new(api.clone());
    let ranking = pb::ranking_service_server::RankingServiceServer::new(api.clone());
    let tokenization = pb::tokenization_service_server::TokenizationServiceServer::new(api.clone());
    let models = pb::models_service_server::ModelsServiceServer::new(api.clone());
    let routes = Routes::new(bounded!(embedding))
        .add_service(bounded!(classification))
        .add_service(bounded!(generation))
        .add_service(bounded!(ranking))
        .add_service(bounded!(tokenization))
        .add_service(bounded!(models))
        .add_service(bounded!(health))
        .add_service(bounded!(reflection().build_v1().context("reflection")?))
        .add_service(bounded!(reflection().build_v1alpha().context("reflection v1alpha")?));
    let observe = ObserveLayer::new(Arc::clone(api.service.metrics()), limits.request_bytes);
    let access = AccessLayer::new(access, Arc::clone(api.service.metrics()));
    let mut server = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE_ANSWER));
    if let Some(age) = age {
        // Without a grace: given one, tonic 0.14 cuts the connection off at the end of both and
        // sends no GOAWAY before. What holds a connection are calls, and these have deadlines.
        server = server.max_connection_age(age);
    }
    // The first layer is the outermost: refusals of `access` are observed too and get a request id.
    Ok(server.layer(observe).layer(access).add_routes(routes))
}

/// Descriptors of the services of this process: the descriptor set also describes the pipeline's,
/// which run in another.
fn reflection() -> tonic_reflection::server::Builder<'static> {
    let names = ["grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", REFLECTION_V1ALPHA];
    let ours = health::SERVICES.iter().map(|service| service.0);
    let builder = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(observatory_proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
    ours.chain(names).fold(builder, |builder, name| builder.with_service_name(name))
}
