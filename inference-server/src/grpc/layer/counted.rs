//! The body of an answer that counts its call when it ends.
//!
//! By the status in its trailers; a body that is dropped before these belongs to a caller who went
//! away, or whose deadline passed.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::body::Body;
use tonic::{Code, Status};

use super::code_name;
use crate::metrics::Ongoing;

/// See the module.
pub(super) struct Counted {
    body: Body,
    /// The call's, so that the line about its end has its request id.
    span: tracing::Span,
    /// Counts the call when it is dropped; `None` once it has been.
    ongoing: Option<Ongoing>,
}

impl Counted {
    /// Ties the call to the body of its answer.
    pub(super) fn new(body: Body, ongoing: Ongoing) -> Self {
        Self { body, span: tracing::Span::current(), ongoing: Some(ongoing) }
    }

    fn ended(&mut self, code: Code) {
        if let Some(mut ongoing) = self.ongoing.take() {
            let _entered = self.span.enter();
            ongoing.answered(code_name(code));
        }
    }
}

impl HttpBody for Counted {
    type Data = <Body as HttpBody>::Data;
    type Error = <Body as HttpBody>::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref() {
                    this.ended(Status::from_header_map(trailers).map_or(Code::Ok, |status| status.code()));
                }
            }
            Some(Err(status)) => this.ended(status.code()),
            // An answer without trailers has its status in the headers and is not counted here;
            // what ends like this is at fault.
            None => this.ended(Code::Unknown),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let _entered = self.span.clone().entered();
        // Without a code, which says that nobody waited for the end.
        drop(self.ongoing.take());
    }
}
