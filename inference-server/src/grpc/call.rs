//! One call: what the layer and the service tell each other about it, and what it holds while it
//! runs.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use observatory_proto::inference::v1 as pb;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Request;
use tonic::codegen::http::HeaderValue;

use super::Api;
use crate::error::Error;
use crate::metrics::Metrics;
use crate::registry::loaded::LoadedModel;
use crate::scheduler::admission::RequestPermit;
use crate::service::access::{Client, check_quota};

/// Longest request id and trace context taken over from a caller.
pub(super) const LONGEST_ID: usize = 128;

/// What the layer knows of a call, and what the service finds out for it; rides in the request's
/// extensions.
#[derive(Debug, Clone, Default)]
pub(super) struct Caller(Arc<Told>);

#[derive(Debug, Default)]
struct Told {
    deadline: Option<Instant>,
    decoded: OnceLock<Instant>,
    options: OnceLock<Options>,
    revision: OnceLock<HeaderValue>,
    client: OnceLock<Arc<Client>>,
}

impl Caller {
    /// A caller whose own patience ends then.
    pub(super) fn new(deadline: Option<Instant>) -> Self {
        Self(Arc::new(Told { deadline, ..Told::default() }))
    }

    /// The caller of this request, whose message (or, of a stream, whose header) has been read.
    pub(super) fn of<T>(request: &Request<T>) -> Self {
        let caller = request.extensions().get::<Self>().cloned().unwrap_or_default();
        // A second call would say the same thing again.
        let _ = caller.0.decoded.set(Instant::now());
        caller
    }

    /// When the caller's own patience ends.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.0.deadline
    }

    /// It is known who calls.
    pub(super) fn identified(&self, client: Arc<Client>) {
        // One call has one caller.
        let _ = self.0.client.set(client);
    }

    /// When the message had been read; `None` where the service never saw one.
    pub(super) fn decoded(&self) -> Option<Instant> {
        self.0.decoded.get().copied()
    }

    /// Takes note of the options, which stand in `field`.
    ///
    /// # Errors
    /// [`Error::InvalidValue`].
    pub(super) fn heed(&self, options: Option<&pb::CallOptions>, field: &str) -> Result<(), Error> {
        if let Some(options) = options {
            let options = Options::read(options, field)?;
            if let Some(id) = &options.request_id {
                tracing::Span::current().record("request.id", id.to_str().unwrap_or_default());
            }
            // One call has one set of options.
            let _ = self.0.options.set(options);
        }
        Ok(())
    }

    /// The id that the message gives the call.
    pub(super) fn request_id(&self) -> Option<HeaderValue> {
        self.0.options.get()?.request_id.clone()
    }

    /// The model that answers is known.
    pub(super) fn answered_by(&self, model: &LoadedModel) {
        if let Ok(revision) = HeaderValue::from_str(&model.info.revision) {
            // One call has one model.
            let _ = self.0.revision.set(revision);
        }
    }

    /// Revision of the model that answers, once known.
    pub(super) fn revision(&self) -> Option<HeaderValue> {
        self.0.revision.get().cloned()
    }
}

/// The checked options of a call.
#[derive(Debug)]
struct Options {
    request_id: Option<HeaderValue>,
    queue_time: Option<Duration>,
}

impl Options {
    fn read(options: &pb::CallOptions, field: &str) -> Result<Self, Error> {
        let id = options.request_id.as_str();
        let is_good = id.len() <= LONGEST_ID && id.bytes().all(|byte| byte.is_ascii_graphic());
        let request_id = HeaderValue::from_str(id).ok().filter(|_| is_good);
        if request_id.is_none() {
            return Err(Error::InvalidValue {
                field: format!("{field}.request_id"),
                value: format!("{id:?}"),
                allowed: format!("at most {LONGEST_ID} visible ASCII characters"),
            });
        }
        let wait = u64::from(options.max_queue_ms);
        Ok(Self {
            request_id: request_id.filter(|id| !id.is_empty()),
            queue_time: (wait > 0).then(|| Duration::from_millis(wait)),
        })
    }
}

/// A request that has been let in, or some items of a stream. Dropping it, which is what happens
/// when the caller goes away, cancels its work.
pub(super) struct Call {
    /// When the answer is of no use any more.
    pub(super) deadline: Instant,
    /// When work that the device has not begun is of no use any more.
    pub(super) begin_by: Option<Instant>,
    /// Cancelled when the caller goes away.
    pub(super) cancel: CancellationToken,
    _cancel_on_drop: DropGuard,
    permit: Arc<RequestPermit>,
    client: Option<Arc<Client>>,
}

impl Api {
    /// Lets a request in, or the first items of a stream.
    ///
    /// # Errors
    /// [`Error::Draining`] and [`Error::Overloaded`], at once.
    pub(super) fn enter(&self, caller: &Caller) -> Result<Call, Error> {
        Ok(self.call(caller, Arc::new(self.0.admission.enter()?)))
    }

    /// Lets further items of a stream in, which counts as one request however many items wait.
    ///
    /// # Errors
    /// [`Error::Draining`].
    pub(super) fn enter_again(&self, caller: &Caller, permit: &Arc<RequestPermit>) -> Result<Call, Error> {
        self.0.admission.check_open()?;
        Ok(self.call(caller, Arc::clone(permit)))
    }

    fn call(&self, caller: &Caller, permit: Arc<RequestPermit>) -> Call {
        let cancel = CancellationToken::new();
        let guard = cancel.clone().drop_guard();
        let now = Instant::now();
        let longest = now + self.0.limits.time;
        let deadline = caller.deadline().map_or(longest, |deadline| deadline.min(longest));
        let client = caller.0.client.get().cloned();
        let begin_by = caller.0.options.get().and_then(|options| options.queue_time).map(|time| now + time);
        Call { deadline, begin_by, cancel, _cancel_on_drop: guard, permit, client }
    }
}

impl Call {
    /// What the call counts by, to be held for further items.
    pub(super) fn permit(&self) -> Arc<RequestPermit> {
        Arc::clone(&self.permit)
    }

    /// Returns when the answer is of no use any more.
    pub(super) async fn expired(&self) {
        tokio::time::sleep_until(self.deadline.into()).await;
    }

    /// Whether its client may have more computed.
    ///
    /// # Errors
    /// [`Error::QuotaExceeded`].
    pub(super) fn check_quota(&self) -> Result<(), Error> {
        self.client.as_ref().map_or(Ok(()), |client| check_quota(client))
    }

    /// Takes note of tokens that its client has computed.
    pub(super) fn charge(&self, tokens: u64, metrics: &Metrics) {
        if let Some(client) = &self.client {
            client.charge(tokens);
            metrics.used(&client.name, tokens);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_checked() {
        let read = |id: &str, max_queue_ms| {
            let options = pb::CallOptions { request_id: id.to_owned(), max_queue_ms };
            Options::read(&options, "options").map(|read| (read.request_id, read.queue_time))
        };
        assert_eq!(read("", 0), Ok((None, None)));
        let expected = (Some(HeaderValue::from_static("a-1")), Some(Duration::from_millis(250)));
        assert_eq!(read("a-1", 250), Ok(expected));
        for bad in ["a b", "a\n", "ñ", &"a".repeat(129)] {
            assert_eq!(read(bad, 0).unwrap_err().field(), Some("options.request_id"), "{bad}");
        }
    }
}
