//! One call: what the doors and the service tell each other about it, and what it holds while it
//! runs.
//!
//! A [`CallContext`] exists from the first header on; a [`Call`] exists while the request is
//! admitted, and dropping it cancels its work.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio_util::sync::{CancellationToken, DropGuard};

use super::Service;
use super::access::{Client, check_quota};
use crate::error::Error;
use crate::metrics::Metrics;
use crate::registry::loaded::LoadedModel;
use crate::scheduler::admission::RequestPermit;

/// Longest request id and trace context taken over from a caller. Not tuned: room for a UUID (36
/// characters) or a W3C traceparent (55) with a prefix, too little to fill a log with.
pub(crate) const LONGEST_ID: usize = 128;

/// Context of a call, filled in as it passes: the transports set deadline, client and options, the
/// service the model. Each is set once; a clone refers to the same call.
#[derive(Debug, Clone, Default)]
pub(crate) struct CallContext(Arc<Facts>);

#[derive(Debug, Default)]
struct Facts {
    deadline: Option<Instant>,
    decoded: OnceLock<Instant>,
    options: OnceLock<Checked>,
    revision: OnceLock<String>,
    client: OnceLock<Arc<Client>>,
}

impl CallContext {
    /// The context of a caller with this deadline.
    pub(crate) fn new(deadline: Option<Instant>) -> Self {
        Self(Arc::new(Facts { deadline, ..Facts::default() }))
    }

    /// The caller's own deadline.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.0.deadline
    }

    /// Records the authenticated client.
    pub(crate) fn record_client(&self, client: Arc<Client>) {
        // A call has one client: a second record would say the same.
        let _ = self.0.client.set(client);
    }

    /// Records that the message (or, of a stream, the header) has been read.
    pub(crate) fn record_decoded(&self) {
        let _ = self.0.decoded.set(Instant::now());
    }

    /// When the message had been read; `None` if no service saw one.
    pub(crate) fn decoded(&self) -> Option<Instant> {
        self.0.decoded.get().copied()
    }

    /// Checks and records the options, which stand in `field` of the request.
    ///
    /// # Errors
    /// [`Error::InvalidValue`].
    pub(crate) fn apply_options(&self, options: CallOptions, field: &str) -> Result<(), Error> {
        let options = options.check(field)?;
        if let Some(id) = &options.request_id {
            tracing::Span::current().record("request.id", id.as_str());
        }
        let _ = self.0.options.set(options);
        Ok(())
    }

    /// The request id given in the message.
    pub(crate) fn request_id(&self) -> Option<&str> {
        self.0.options.get()?.request_id.as_deref()
    }

    /// Records the model that answers.
    pub(super) fn record_model(&self, model: &LoadedModel) {
        let _ = self.0.revision.set(model.info.revision.clone());
    }

    /// Revision of the model that answers, once resolved.
    pub(crate) fn revision(&self) -> Option<&str> {
        self.0.revision.get().map(String::as_str)
    }
}

/// Options that any call may carry.
#[derive(Debug, Clone, Default)]
pub(crate) struct CallOptions {
    /// Names the call in logs and in the answer's header; empty for none.
    pub request_id: String,
    /// Longest time in the queue; zero for no limit of its own.
    pub max_queue: Duration,
}

#[derive(Debug)]
struct Checked {
    request_id: Option<String>,
    max_queue: Option<Duration>,
}

impl CallOptions {
    fn check(self, field: &str) -> Result<Checked, Error> {
        // Printable ASCII only: the id is copied into a header and into logs, where a line break
        // would forge an entry.
        let id = self.request_id;
        if id.len() > LONGEST_ID || !id.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::InvalidValue {
                field: format!("{field}.request_id"),
                value: format!("{id:?}"),
                allowed: format!("at most {LONGEST_ID} visible ASCII characters"),
            });
        }
        Ok(Checked {
            request_id: Some(id).filter(|id| !id.is_empty()),
            max_queue: Some(self.max_queue).filter(|time| !time.is_zero()),
        })
    }
}

/// An admitted request, or some items of a stream. Dropping it, which is what happens when the
/// caller goes away, cancels its work.
pub(crate) struct Call {
    /// When the answer is too late.
    pub(super) deadline: Instant,
    /// When it is too late to begin on the device.
    pub(super) begin_by: Option<Instant>,
    /// Cancelled when the caller goes away.
    pub(super) cancel: CancellationToken,
    // A guard and no method: a call is dropped wherever its future is, which no code of ours would
    // notice.
    _cancel_on_drop: DropGuard,
    cut_off: CancellationToken,
    permit: Arc<RequestPermit>,
    client: Option<Arc<Client>>,
}

impl Service {
    /// Admits a request, or the first items of a stream.
    ///
    /// # Errors
    /// [`Error::Draining`] and [`Error::Overloaded`], at once.
    pub(crate) fn admit(&self, context: &CallContext) -> Result<Call, Error> {
        Ok(self.call(context, Arc::new(self.0.admission.enter()?)))
    }

    /// Admits further items of a stream, which counts as one request however many items wait.
    ///
    /// # Errors
    /// [`Error::Draining`].
    pub(crate) fn admit_more(
        &self,
        context: &CallContext,
        permit: &Arc<RequestPermit>,
    ) -> Result<Call, Error> {
        self.0.admission.check_open()?;
        Ok(self.call(context, Arc::clone(permit)))
    }

    fn call(&self, context: &CallContext, permit: Arc<RequestPermit>) -> Call {
        let cancel = CancellationToken::new();
        let now = Instant::now();
        let latest = now + self.limits().time;
        let max_queue = context.0.options.get().and_then(|options| options.max_queue);
        Call {
            // The server's own limit holds for callers without a deadline, and for those with one
            // of a year.
            deadline: context.deadline().map_or(latest, |deadline| deadline.min(latest)),
            begin_by: max_queue.map(|time| now + time),
            _cancel_on_drop: cancel.clone().drop_guard(),
            cancel,
            cut_off: self.0.cut_off.clone(),
            permit,
            client: context.0.client.get().cloned(),
        }
    }
}

impl Call {
    /// The permit of the request, to be held for further items of a stream.
    pub(crate) fn permit(&self) -> Arc<RequestPermit> {
        Arc::clone(&self.permit)
    }

    /// When the call must end.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Completes when the call must end before its answer: at its deadline with `late`, or with
    /// [`Error::Draining`] when the server cuts it off. Borrows nothing.
    pub(crate) fn interruption(&self, late: Error) -> impl Future<Output = Error> + Send + use<> {
        let (deadline, cut_off) = (self.deadline, self.cut_off.clone());
        async move {
            tokio::select! {
                () = tokio::time::sleep_until(deadline.into()) => late,
                () = cut_off.cancelled() => Error::Draining,
            }
        }
    }

    /// Checks that the client may have more computed.
    ///
    /// # Errors
    /// [`Error::QuotaExceeded`].
    pub(super) fn check_quota(&self) -> Result<(), Error> {
        self.client.as_ref().map_or(Ok(()), |client| check_quota(client))
    }

    /// Charges tokens to the client's quota.
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
        let check = |id: &str, max_queue_ms| {
            let max_queue = Duration::from_millis(max_queue_ms);
            let options = CallOptions { request_id: id.to_owned(), max_queue };
            options.check("options").map(|checked| (checked.request_id, checked.max_queue))
        };
        assert_eq!(check("", 0), Ok((None, None)));
        let expected = (Some("a-1".to_owned()), Some(Duration::from_millis(250)));
        assert_eq!(check("a-1", 250), Ok(expected));
        for bad in ["a b", "a\n", "ñ", &"a".repeat(129)] {
            assert_eq!(check(bad, 0).unwrap_err().field(), Some("options.request_id"), "{bad}");
        }
    }
}
