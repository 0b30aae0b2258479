//! The gRPC face of the server: what the services share, and how they are put together.

mod access;
mod call;
mod classification;
mod embedding;
mod encoding;
mod extras;
mod generation;
mod generation_settings;
pub(crate) mod health;
mod layer;
pub(crate) mod local;
mod models;
mod offsets;
mod ranking;
pub(crate) mod status;
mod stream;
mod tokenization;
mod vectors;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use observatory_proto::inference::v1 as pb;
use prost::Message;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tonic::codec::CompressionEncoding;
use tonic::service::Routes;
use tonic::transport::Server;
pub(crate) use tonic::transport::server::Router;
use tonic::{Response, Status};
use tower::layer::util::{Identity, Stack};

use crate::config::RequestLimits;
use crate::error::Error;
use crate::metrics::Metrics;
use crate::models::Task;
use crate::registry::Registry;
use crate::registry::loaded::LoadedModel;
use crate::registry::loader::Loader;
use crate::scheduler::admission::{Admission, TokenPermit};
use crate::scheduler::queue::{Priority, Queue, Work, WorkOutput, WorkSource};
use crate::service::access::Access;
use crate::service::embedding_cache::{Embedded, EmbeddingCache};
use crate::text::tokenizer::Truncation;
use crate::text::worker_pool::WorkerPool;
use access::AccessLayer;
use call::{Call, Caller};
use layer::ObserveLayer;

/// What one of the tokenizer's threads takes at a time: small enough that all of them have
/// something of a large request, large enough that handing it over costs little.
const SHARE_TEXTS: usize = 32;
const SHARE_BYTES: usize = 16 << 10;

/// The reflection that grpcio's and older clients ask.
const REFLECTION_V1ALPHA: &str = "grpc.reflection.v1alpha.ServerReflection";

/// How long a connection may be silent before its other end is asked whether it is there, and how
/// long that may take.
const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_ANSWER: Duration = Duration::from_secs(20);

/// What every service works with.
pub(crate) struct Shared {
    /// The models.
    pub registry: Arc<Registry>,
    /// Who loads further ones.
    pub loader: Loader,
    /// Who tells the world how they stand.
    pub health: health::Health,
    /// How much work is taken on.
    pub admission: Arc<Admission>,
    /// The threads that read texts.
    pub workers: WorkerPool,
    /// The threads that read what texts must look like.
    pub constraints: WorkerPool,
    /// The device.
    pub queue: Queue,
    /// Vectors of texts embedded before.
    pub vectors: EmbeddingCache,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// What one request may ask for.
    pub limits: RequestLimits,
    /// Cancelled when requests still in flight are to be cut off.
    pub cut_off: CancellationToken,
}

/// Implements all services of the package.
#[derive(Clone)]
pub(crate) struct Api(Arc<Shared>);

impl Api {
    /// Services over this state.
    pub(crate) fn new(shared: Shared) -> Self {
        Self(Arc::new(shared))
    }

    /// The answer as it is sent, its refusal counted.
    fn answer<T: Message>(&self, result: Result<T, Error>) -> Result<Response<T>, Status> {
        let sent = result.and_then(|message| self.check_answer(&message).map(|()| message));
        sent.map(Response::new).map_err(|error| self.refuse(&error))
    }

    fn check_answer(&self, message: &impl Message) -> Result<(), Error> {
        let (bytes, limit) = (message.encoded_len(), self.0.limits.response_bytes);
        if bytes <= limit { Ok(()) } else { Err(Error::AnswerTooLarge { bytes, limit }) }
    }

    fn refuse(&self, error: &Error) -> Status {
        self.0.metrics.refused(error.reason());
        status::to_status(error)
    }

    /// The model asked for; the caller is told its revision.
    fn resolve(
        &self,
        caller: &Caller,
        model: Option<pb::ModelRef>,
        task: Option<Task>,
    ) -> Result<Arc<LoadedModel>, Error> {
        let wanted = model.unwrap_or_default();
        let model = self.0.registry.resolve(&wanted.name, &wanted.revision, task)?;
        caller.answered_by(&model);
        Ok(model)
    }

    fn check_count(&self, field: &str, count: usize) -> Result<(), Error> {
        let (field, limit) = (field.to_owned(), self.0.limits.texts);
        match count {
            0 => Err(Error::EmptyBatch { field, limit }),
            _ if count > limit => Err(Error::BatchTooLarge { field, count, limit }),
            _ => Ok(()),
        }
    }

    fn check_size(&self, field: &str, text: &str) -> Result<(), Error> {
        let (bytes, limit) = (text.len(), self.0.limits.text_bytes);
        if bytes <= limit {
            return Ok(());
        }
        Err(Error::InputTooLarge { field: field.to_owned(), bytes, limit })
    }

    /// Room on the device for texts behind a prompt that were not read yet, by their length: over
    /// capacity fails at once, before any work was spent. The one rule for requests and for the
    /// items of streams.
    fn reserve<'a>(
        &self,
        model: &LoadedModel,
        prompt: &str,
        texts: impl IntoIterator<Item = &'a str>,
    ) -> Result<TokenPermit, Error> {
        // Larger texts are refused, each by itself, when they are read.
        let readable = texts.into_iter().filter(|text| text.len() <= self.0.limits.text_bytes);
        let tokens = |text: &str| {
            let tokens = model.tokenizer.estimate(prompt.len() + text.len());
            // A token classifier reads a long text in windows, the others cut it.
            let whole = model.info.task == Task::TokenClassification;
            if whole { tokens } else { tokens.min(model.info.max_input_tokens) }
        };
        self.0.admission.reserve(readable.map(|text| tokens(text) as u64).sum())
    }

    /// Runs `one` over the texts (with the path of each, for messages) on the tokenizer's threads,
    /// stopping when the caller goes away; the texts come back with the results.
    async fn each<T: Send + 'static>(
        &self,
        call: &Call,
        texts: Vec<String>,
        one: impl Fn(&str, &str) -> Result<T, Error> + Send + Sync + 'static,
    ) -> Result<(Vec<String>, Vec<Result<T, Error>>), Error> {
        let (texts, results) =
            self.each_at(call, texts.into_iter().enumerate().collect(), text_field, one).await?;
        Ok((texts.into_iter().map(|(_, text)| text).collect(), results))
    }

    /// As [`Api::each`] for texts at these places of the request; `field` is the path of a place.
    async fn each_at<T: Send + 'static>(
        &self,
        call: &Call,
        texts: Vec<(usize, String)>,
        field: fn(usize) -> String,
        one: impl Fn(&str, &str) -> Result<T, Error> + Send + Sync + 'static,
    ) -> Result<(Vec<(usize, String)>, Vec<Result<T, Error>>), Error> {
        let one = Arc::new(one);
        let jobs = shares(texts).into_iter().map(|texts| {
            let (api, cancel, one) = (self.clone(), call.cancel.clone(), Arc::clone(&one));
            move || {
                let checked = |(index, text): &(usize, String)| {
                    if cancel.is_cancelled() {
                        return Err(Error::Cancelled);
                    }
                    let field = field(*index);
                    api.check_size(&field, text)?;
                    one(&field, text)
                };
                let results: Vec<Result<T, Error>> = texts.iter().map(checked).collect();
                (texts, results)
            }
        });
        let answers = self.read(call, jobs.collect())?;
        let mut all = (Vec::new(), Vec::new());
        for answer in answers {
            let (texts, results) = answer.await.map_err(|_| Error::Backend)?;
            all.0.extend(texts);
            all.1.extend(results);
        }
        Ok(all)
    }

    /// Puts jobs in line for the tokenizer's threads.
    fn read<T: Send + 'static>(
        &self,
        call: &Call,
        jobs: Vec<impl FnOnce() -> T + Send + 'static>,
    ) -> Result<Vec<oneshot::Receiver<T>>, Error> {
        self.0.workers.submit(&call.cancel, jobs).map_err(|full| {
            self.0.admission.overloaded("texts to tokenize", full.waiting as u64, full.bound as u64)
        })
    }

    /// Counts what was refused inside an answer.
    fn refused_items<T>(&self, items: &[Result<T, Error>]) {
        for error in items.iter().filter_map(|item| item.as_ref().err()) {
            self.0.metrics.refused(error.reason());
        }
    }

    /// Computes the rows on the device, in the share of the source; `permit` is the room reserved for
    /// them.
    async fn compute(
        &self,
        call: &Call,
        source: &WorkSource<LoadedModel>,
        rows: Vec<Vec<u32>>,
        mut permit: TokenPermit,
    ) -> Result<WorkOutput, Error> {
        call.check_quota()?;
        let tokens = rows.iter().map(|row| row.len() as u64).sum();
        permit.settle(tokens);
        call.charge(tokens, &self.0.metrics);
        let ticket = self.0.queue.submit(Work {
            source: source.erased(),
            rows,
            cancel: call.cancel.clone(),
            deadline: Some(call.deadline),
            begin_by: call.begin_by,
            permit,
        });
        tokio::select! {
            done = ticket.wait() => done,
            () = self.0.cut_off.cancelled() => Err(Error::Draining),
        }
    }
}

/// Texts in shares for the tokenizer's threads.
fn shares(texts: Vec<(usize, String)>) -> Vec<Vec<(usize, String)>> {
    let mut shares: Vec<Vec<(usize, String)>> = Vec::new();
    let mut bytes = 0;
    for text in texts {
        bytes += text.1.len();
        match shares.last_mut() {
            Some(share) if share.len() < SHARE_TEXTS && bytes <= SHARE_BYTES => share.push(text),
            _ => {
                bytes = text.1.len();
                shares.push(vec![text]);
            }
        }
    }
    shares
}

/// The path of a text in a unary request.
fn text_field(index: usize) -> String {
    format!("texts[{index}]")
}

fn truncation(value: i32) -> Result<Truncation, Error> {
    use pb::Truncation as Wire;
    match Wire::try_from(value) {
        Ok(Wire::Unspecified | Wire::Right) => Ok(Truncation::Right),
        Ok(Wire::Left) => Ok(Truncation::Left),
        Ok(Wire::Reject) => Ok(Truncation::Reject),
        Err(_) => Err(invalid_enum("settings.truncation", value, "0 to 3 (see Truncation)")),
    }
}

fn priority(value: i32) -> Result<Priority, Error> {
    match pb::Priority::try_from(value) {
        Ok(pb::Priority::Interactive) => Ok(Priority::Interactive),
        Ok(pb::Priority::Unspecified | pb::Priority::Bulk) => Ok(Priority::Bulk),
        Err(_) => Err(invalid_enum("settings.priority", value, "0 to 2 (see Priority)")),
    }
}

fn invalid_enum(field: &str, value: i32, allowed: &str) -> Error {
    Error::InvalidValue { field: field.to_owned(), value: value.to_string(), allowed: allowed.to_owned() }
}

/// Status of one item from how it was read.
fn item_status(item: &Result<Arc<Embedded>, Error>) -> pb::ItemStatus {
    match item {
        Ok(text) => pb::ItemStatus { ok: true, error: None, tokens: text.tokens, truncated: text.truncated },
        Err(error) => failed_item(error),
    }
}

fn failed_item(error: &Error) -> pb::ItemStatus {
    pb::ItemStatus { ok: false, error: Some(status::to_item(error)), tokens: 0, truncated: false }
}

fn nanos(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The layers around every service.
pub(crate) type Layered = Stack<AccessLayer, Stack<ObserveLayer, Identity>>;

/// All services behind the layers, ready to be served.
///
/// # Errors
/// If the descriptor set cannot be read.
pub(crate) fn router(api: &Api, access: Access, health: health::Service) -> Result<Router<Layered>> {
    let limits = api.0.limits;
    macro_rules! bounded {
        ($service:expr) => {
            $service
                .max_decoding_message_size(limits.request_bytes)
                .max_encoding_message_size(limits.response_bytes)
                .accept_compressed(CompressionEncoding::Gzip)
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
    let observe = ObserveLayer::new(Arc::clone(&api.0.metrics), limits.request_bytes);
    let access = AccessLayer::new(access, Arc::clone(&api.0.metrics));
    let server = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE_ANSWER));
    Ok(server.layer(observe).layer(access).add_routes(routes))
}

/// What this process serves: the descriptor set also describes the pipeline's services, which live
/// in another.
fn reflection() -> tonic_reflection::server::Builder<'static> {
    let names = ["grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", REFLECTION_V1ALPHA];
    let ours = health::SERVICES.iter().map(|service| service.0);
    let builder = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(observatory_proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
    ours.chain(names).fold(builder, |builder, name| builder.with_service_name(name))
}
