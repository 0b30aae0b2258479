//! One call: what the layer and the service tell each other about it, and what it holds while it runs.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Request;
use tonic::codegen::http::HeaderValue;

use super::Api;
use crate::admission::RequestPermit;
use crate::error::Error;
use crate::model::LoadedModel;

/// What the layer knows of a call, and what the service finds out for it; rides in the request's extensions.
#[derive(Debug, Clone, Default)]
pub(super) struct Caller(Arc<Told>);

#[derive(Debug, Default)]
struct Told {
    deadline: Option<Instant>,
    decoded: OnceLock<Instant>,
    revision: OnceLock<HeaderValue>,
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

    /// When the message had been read; `None` where the service never saw one.
    pub(super) fn decoded(&self) -> Option<Instant> {
        self.0.decoded.get().copied()
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

/// A request that has been let in, or some items of a stream. Dropping it, which is what happens when the caller goes
/// away, cancels its work.
pub(super) struct Call {
    /// When the answer is of no use any more.
    pub(super) deadline: Instant,
    /// Cancelled when the caller goes away.
    pub(super) cancel: CancellationToken,
    _cancel_on_drop: DropGuard,
    permit: Arc<RequestPermit>,
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
        let longest = Instant::now() + self.0.limits.time;
        let deadline = caller.deadline().map_or(longest, |deadline| deadline.min(longest));
        Call { deadline, cancel, _cancel_on_drop: guard, permit }
    }
}

impl Call {
    /// What the call counts by, to be held for further items.
    pub(super) fn permit(&self) -> Arc<RequestPermit> {
        Arc::clone(&self.permit)
    }
}
