//! The tower layer around every call: request id, span, deadline, and what the call came to.
//!
//! It sees every call before a service does, and every answer after; services know nothing of it. A
//! stream counts by how it ended.

mod counted;

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use prost::Message;
use prost_types::FileDescriptorSet;
use tonic::body::Body;
use tonic::codegen::BoxFuture;
use tonic::codegen::http::{HeaderMap, HeaderValue, Request, Response};
use tonic::{Code, Status};
use tower::{Layer, Service};
use tracing::Instrument;

use super::access::is_open;
use super::status;
use crate::error::Error;
use crate::metrics::{Metrics, Ongoing};
use crate::service::call::{CallContext, LONGEST_ID};
use counted::Counted;
use observatory_server::connections::{Held, Origin};

/// Header of the caller's request id, by the name that proxies such as Envoy use.
const REQUEST_ID: &str = "x-request-id";
/// Header of the revision that answered; a name of this server.
const MODEL_REVISION: &str = "x-model-revision";
/// Lead over a caller's deadline at which a call ends: at the deadline itself tonic ends it as
/// CANCELLED, without details. Work that does not watch its deadline ends at half the lead. Not
/// tuned: above the millisecond in which tokio's timers fire.
const AHEAD: Duration = Duration::from_millis(2);
/// Time limit for the message of a call to arrive; nginx's `client_body_timeout` has the same
/// default.
const MESSAGE: Duration = Duration::from_secs(60);
/// Packages whose services this server offers, reflection aside.
const SERVED: [&str; 2] = ["observatory.inference.v1", "grpc.health.v1"];
/// Label of a method that does not exist.
const OTHER: &str = "other";

/// Rides on a refusal for lack of room; the transport drops it once the answer is on its way.
struct Refusal {
    decoded: Instant,
    metrics: Arc<Metrics>,
}

impl Drop for Refusal {
    fn drop(&mut self) {
        self.metrics.rejected(self.decoded.elapsed());
    }
}

/// Makes [`Observe`].
#[derive(Debug, Clone)]
pub(crate) struct ObserveLayer {
    metrics: Arc<Metrics>,
    message_bytes: usize,
}

impl ObserveLayer {
    /// Counts into `metrics`; `message_bytes` is what a request's message may have.
    pub(super) fn new(metrics: Arc<Metrics>, message_bytes: usize) -> Self {
        Self { metrics, message_bytes }
    }
}

impl<S> Layer<S> for ObserveLayer {
    type Service = Observe<S>;

    fn layer(&self, inner: S) -> Observe<S> {
        Observe { inner, layer: self.clone() }
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Observe<S> {
    inner: S,
    layer: ObserveLayer,
}

impl<S> Service<Request<Body>> for Observe<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<Response<Body>, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let started = Instant::now();
        let patience = grpc_timeout(request.headers());
        let deadline = patience.and_then(|patience| ends(started, patience, AHEAD));
        // Two deadlines: a service that watches the first one answers with details of its own, and
        // the second catches one that does not.
        let last = patience.and_then(|patience| ends(started, patience, AHEAD / 2));
        let context = CallContext::new(deadline);
        request.extensions_mut().insert(context.clone());
        // Before tonic reads the header to choose the encoding of the answer.
        answer_in_kind(request.headers_mut());
        let id = request_id(request.headers());
        let method = method_label(request.uri().path());
        let ours = method != OTHER && !is_open(request.uri().path());
        let span = tracing::info_span!(
            "call",
            rpc.method = method,
            request.id = id.to_str().unwrap_or_default(),
            trace.parent = header(request.headers(), "traceparent").unwrap_or_default(),
        );
        let metrics = Arc::clone(&self.layer.metrics);
        let ongoing = metrics.began(method, deadline);
        // A connection that only asks for health has no call under way, so it may be closed for
        // room.
        let origin = request.extensions().get::<Origin>().filter(|_| ours);
        let under_way = origin.map(|origin| origin.standing.call());
        let message_bytes = self.layer.message_bytes;
        let observed = Observed { context, ours, id, last, message_bytes, metrics, ongoing };
        let answer = self.inner.call(request);
        let answered = async move {
            let response = observed.answer(answer).await?;
            // The call lasts until its answer is sent to the last byte, which the body knows.
            Ok(match under_way {
                Some(call) => response.map(|body| Body::new(Held::new(body, call))),
                None => response,
            })
        };
        Box::pin(answered.instrument(span))
    }
}

/// A call that is being served.
struct Observed {
    context: CallContext,
    /// True for work of this server, unlike questions after its health.
    ours: bool,
    /// Request id, unless the message has one.
    id: HeaderValue,
    /// When an answer is sent at the latest.
    last: Option<Instant>,
    message_bytes: usize,
    metrics: Arc<Metrics>,
    ongoing: Ongoing,
}

impl Observed {
    /// The answer with its headers, or a refusal in its place; counted either way.
    async fn answer<E>(
        mut self,
        answer: impl Future<Output = Result<Response<Body>, E>>,
    ) -> Result<Response<Body>, E> {
        let arriving = arriving(answer, self.context.clone(), self.ours);
        let mut response = match self.last {
            Some(last) => match tokio::time::timeout_at(last.into(), arriving).await {
                Ok(answer) => answer?,
                Err(_) => status::to_status(&Error::ExpiredInQueue).into_http(),
            },
            None => arriving.await?,
        };
        if self.ours
            && self.context.decoded().is_none()
            && let Some(error) = unread(&response, self.message_bytes)
        {
            self.metrics.refused(error.reason());
            response = status::to_status(&error).into_http();
        }
        // Refusals have their code in the headers, all else in the trailers behind its messages.
        let Some(status) = Status::from_header_map(response.headers()) else {
            let ongoing = self.label(&mut response, Code::Ok);
            return Ok(response.map(|body| Body::new(Counted::new(body, ongoing))));
        };
        self.ongoing.answered(code_name(status.code()));
        self.label(&mut response, status.code());
        Ok(response)
    }

    /// Adds what the call came to: its id, the model's revision, and the time of a refusal. Returns
    /// the guard that counts it.
    fn label(self, response: &mut Response<Body>, code: Code) -> Ongoing {
        let given = self.context.request_id().and_then(|id| HeaderValue::from_str(id).ok());
        response.headers_mut().insert(REQUEST_ID, given.unwrap_or(self.id));
        if let Some(revision) = self.context.revision().and_then(|text| HeaderValue::from_str(text).ok()) {
            response.headers_mut().insert(MODEL_REVISION, revision);
        }
        if code == Code::ResourceExhausted
            && let Some(decoded) = self.context.decoded()
        {
            let refusal = Refusal { decoded, metrics: self.metrics };
            response.extensions_mut().insert(Arc::new(refusal));
        }
        self.ongoing
    }
}

/// The answer, unless the message has not come when its time is over.
async fn arriving<E>(
    answer: impl Future<Output = Result<Response<Body>, E>>,
    context: CallContext,
    ours: bool,
) -> Result<Response<Body>, E> {
    // Pinned here, so that the same call goes on after the time limit has passed.
    let mut answer = std::pin::pin!(answer);
    if let Ok(answer) = tokio::time::timeout(MESSAGE, &mut answer).await {
        return answer;
    }
    // A service that has its message may take as long as its deadline allows.
    if ours && context.decoded().is_none() {
        let cause = format!("it did not arrive within {} s", MESSAGE.as_secs());
        return Ok(status::to_status(&Error::Malformed { cause }).into_http());
    }
    answer.await
}

/// Why a message did not reach its service, where tonic's codec could not read it.
fn unread(response: &Response<Body>, message_bytes: usize) -> Option<Error> {
    let codec = Status::from_header_map(response.headers())?;
    // Other codes come from layers or services, whose refusals have details already.
    let codec_faults = [Code::Internal, Code::OutOfRange, Code::ResourceExhausted];
    codec_faults.contains(&codec.code()).then(|| status::undecodable(&codec, message_bytes))
}

/// The end of a call, `ahead` of the caller's deadline, or half-way if that is sooner than `ahead`.
fn ends(started: Instant, patience: Duration, ahead: Duration) -> Option<Instant> {
    // A caller may give a deadline of microseconds, which the lead would turn negative.
    started.checked_add(patience - ahead.min(patience / 2))
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    // What a caller sends goes into logs: it is bounded there, and ASCII by `to_str`.
    headers.get(name)?.to_str().ok().filter(|value| value.len() <= LONGEST_ID)
}

/// The caller's id, or one of our own.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    header(headers, REQUEST_ID)
        .filter(|id| !id.is_empty())
        .and_then(|id| HeaderValue::from_str(id).ok())
        .or_else(|| HeaderValue::from_str(&uuid::Uuid::new_v4().to_string()).ok())
        .unwrap_or_else(|| HeaderValue::from_static("unknown"))
}

/// Answers are compressed for callers that compress: most accept gzip without being asked, and
/// vectors hardly shrink.
fn answer_in_kind(headers: &mut HeaderMap) {
    if headers.get("grpc-encoding").is_none_or(|encoding| encoding == "identity") {
        headers.remove("grpc-accept-encoding");
    }
}

/// Methods that exist, as `Service/Method`, by their paths; anything else a caller invents is
/// [`OTHER`].
static METHODS: LazyLock<HashMap<String, String>> = LazyLock::new(|| {
    // From the descriptors, so that a new method has its label without a list to maintain.
    let mut methods = HashMap::new();
    for set in [observatory_proto::FILE_DESCRIPTOR_SET, tonic_health::pb::FILE_DESCRIPTOR_SET] {
        let files = FileDescriptorSet::decode(set).unwrap_or_default().file;
        for file in files.iter().filter(|file| SERVED.contains(&file.package())) {
            for service in &file.service {
                for method in &service.method {
                    let label = format!("{}/{}", service.name(), method.name());
                    methods.insert(format!("/{}.{label}", file.package()), label);
                }
            }
        }
    }
    methods
});

fn method_label(path: &str) -> &'static str {
    METHODS.get(path).map_or(OTHER, String::as_str)
}

fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// `grpc-timeout`: at most eight digits and a unit (gRPC over HTTP/2, "Timeout").
fn grpc_timeout(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_parse() {
        fn check(value: &str, expected: Option<Duration>) {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", HeaderValue::from_str(value).unwrap());
            assert_eq!(grpc_timeout(&headers), expected, "{value}");
        }
        check("250m", Some(Duration::from_millis(250)));
        check("3S", Some(Duration::from_secs(3)));
        check("2M", Some(Duration::from_secs(120)));
        check("1H", Some(Duration::from_secs(3600)));
        check("12345678n", Some(Duration::from_nanos(12_345_678)));
        check("123456789n", None);
        check("m", None);
        check("", None);
        check("+1m", None);
        check("1x", None);
    }

    #[test]
    fn labels_are_a_closed_set() {
        fn check(path: &str, expected: &str) {
            assert_eq!(method_label(path), expected);
        }
        check("/observatory.inference.v1.EmbeddingService/Embed", "EmbeddingService/Embed");
        check("/observatory.inference.v1.GenerationService/Generate", "GenerationService/Generate");
        check("/grpc.health.v1.Health/Check", "Health/Check");
        check("/observatory.pipeline.v1.OrchestratorService/StartRun", "other");
        check("/some.Other/Thing", "other");
    }
}
