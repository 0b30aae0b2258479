//! The tower layer before every service: who calls, whether they may, and whether there is room.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use http_body::{Frame, SizeHint};
use observatory_server::{
    access::{Client, bearer},
    connections::{Held, Origin},
    tls::Peer,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Sleep,
};
use tonic::{
    Status,
    body::Body,
    codegen::{
        BoxFuture,
        http::{Request, Response},
    },
};
use tower::{Layer, Service};

use super::{
    access::{self, Access, Method, Rights, Scope},
    error,
};

/// Whoever asks for the health of a process cannot always be given a token, and must not wait for others.
const OPEN: &str = "/grpc.health.v1.Health/";
/// When to ask again where there was no room.
const AGAIN: Duration = Duration::from_secs(1);
/// Longest that the message of a call may take to arrive, and longest time between two of a stream.
const SILENCE: Duration = Duration::from_secs(60);

/// Calls under way at most.
#[derive(Clone, Debug)]
pub(super) struct Room {
    calls: Arc<Semaphore>,
    /// Of those, calls that last: others keep coming through while streams are open.
    lasting: Arc<Semaphore>,
    limits: (usize, usize),
}

impl Room {
    /// Room for this many calls, a quarter of them calls that last.
    pub(super) fn new(calls: usize) -> Self {
        let lasting = (calls / 4).max(1);
        let semaphore = |permits| Arc::new(Semaphore::new(permits));
        Self { calls: semaphore(calls), lasting: semaphore(lasting), limits: (calls, lasting) }
    }

    fn enter(&self, lasts: bool) -> Result<Place, Status> {
        let take = |of: &Arc<Semaphore>| Arc::clone(of).try_acquire_owned().ok();
        let lasting = match lasts {
            true => {
                let place = take(&self.lasting);
                let full =
                    || format!("{} calls that last are under way, as many as are taken", self.limits.1);
                Some(place.ok_or_else(|| error::busy("OVERLOADED", full(), AGAIN))?)
            }
            false => None,
        };
        let full = || format!("{} calls are under way, as many as are taken", self.limits.0);
        let call = take(&self.calls).ok_or_else(|| error::busy("OVERLOADED", full(), AGAIN))?;
        Ok(Place { _call: call, _lasting: lasting })
    }
}

/// A call's room, given back when its answer is over.
#[derive(Debug)]
struct Place {
    _call: OwnedSemaphorePermit,
    _lasting: Option<OwnedSemaphorePermit>,
}

/// Makes [`Gate`].
#[derive(Clone, Debug)]
pub(super) struct GateLayer {
    access: Access,
    room: Room,
}

impl GateLayer {
    /// Lets in whom `access` knows, as long as there is room.
    pub(super) fn new(access: Access, room: Room) -> Self {
        Self { access, room }
    }

    /// The room of a call that may be made, and whether it lasts.
    fn admit(&self, request: &Request<Body>) -> Result<(Place, bool), Status> {
        let stranger = Peer::default();
        let peer = request.extensions().get::<Origin>().map_or(&stranger, |origin| &origin.peer);
        let client = self.access.identify(bearer(request.headers()), peer);
        let client = client.map_err(|unknown| error::unauthenticated(unknown.to_string()))?;
        let path = request.uri().path();
        // Reflection is for every client; whatever else is not of this package is told so by tonic.
        let method = access::method(path).unwrap_or(Method { scope: Scope::Read, lasts: true });
        if access::method(path).is_some() {
            permit(&client, method.scope, path)?;
        }
        client.check().map_err(|exhausted| {
            let message = format!("{} has used up its {} calls a minute", client.name, exhausted.limit);
            error::busy("QUOTA_EXCEEDED", message, exhausted.retry_after)
        })?;
        let place = self.room.enter(method.lasts)?;
        client.charge(1);
        if method.scope > Scope::Read {
            tracing::info!(client.name, rpc.method = path, "call");
        }
        Ok((place, method.lasts))
    }
}

fn permit(client: &Client<Rights>, scope: Scope, path: &str) -> Result<(), Status> {
    if client.grants.allow(scope) {
        return Ok(());
    }
    let (method, scope) = (path.rsplit('.').next().unwrap_or(path), scope.name());
    let message = format!("{method} needs the scope {scope}; {} has {}", client.name, client.grants);
    Err(error::forbidden(message))
}

impl<S> Layer<S> for GateLayer {
    type Service = Gate<S>;

    fn layer(&self, inner: S) -> Gate<S> {
        Gate { inner, layer: self.clone() }
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Gate<S> {
    inner: S,
    layer: GateLayer,
}

impl<S> Service<Request<Body>> for Gate<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<Response<Body>, S::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if request.uri().path().starts_with(OPEN) {
            return Box::pin(self.inner.call(request));
        }
        let (place, lasts) = match self.layer.admit(&request) {
            Ok(admitted) => admitted,
            Err(refusal) => return Box::pin(async move { Ok(refusal.into_http()) }),
        };
        let under_way = request.extensions().get::<Origin>().map(|origin| origin.standing.call());
        let answer = self.inner.call(request.map(|body| Body::new(Paced::new(body, !lasts))));
        Box::pin(async move {
            let held = (place, under_way);
            Ok(answer.await?.map(|body| Body::new(Held::new(body, held))))
        })
    }
}

/// A body that may not keep its reader waiting for ever.
struct Paced {
    body: Body,
    /// Whether all of it must come in time, or each part.
    whole: bool,
    silence: Duration,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Paced {
    fn new(body: Body, whole: bool) -> Self {
        Self { body, whole, silence: SILENCE, waiting: None }
    }
}

impl http_body::Body for Paced {
    type Data = <Body as http_body::Body>::Data;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Status>>> {
        let this = self.get_mut();
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) {
            if !this.whole {
                this.waiting = None;
            }
            return Poll::Ready(frame);
        }
        let silence = this.silence;
        let waiting = this.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(silence)));
        ready!(waiting.as_mut().poll(context));
        let message = format!("no message came within {} s", silence.as_secs());
        Poll::Ready(Some(Err(Status::deadline_exceeded(message))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body::Body as _;
    use tonic::Code;
    use tonic_types::StatusExt;

    use super::*;

    #[test]
    fn calls_that_last_leave_room_for_others() {
        let room = Room::new(8);
        let lasting: Vec<Place> = (0..2).map(|_| room.enter(true).unwrap()).collect();
        let refused = room.enter(true).unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert_eq!(refused.get_details_retry_info().unwrap().retry_delay, Some(AGAIN));
        assert_eq!(refused.message(), "2 calls that last are under way, as many as are taken");
        let others: Vec<Place> = (0..6).map(|_| room.enter(false).unwrap()).collect();
        assert_eq!(room.enter(false).unwrap_err().code(), Code::ResourceExhausted);
        drop(lasting);
        assert!(room.enter(true).is_ok());
        drop(others);
    }

    /// Takes frames that come after these pauses, and then nothing more, with patience of a second.
    async fn taken(pauses: &'static [u64], whole: bool) -> (usize, Code) {
        let frames = futures::stream::unfold(0, move |next: usize| async move {
            let Some(pause) = pauses.get(next) else { return std::future::pending().await };
            tokio::time::sleep(Duration::from_millis(*pause)).await;
            Some((Ok::<_, std::convert::Infallible>("x"), next + 1))
        });
        let body = Body::new(axum::body::Body::from_stream(frames));
        let mut body = Paced { silence: Duration::from_secs(1), ..Paced::new(body, whole) };
        let mut count = 0;
        loop {
            match std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
                Some(Ok(_)) => count += 1,
                Some(Err(status)) => return (count, status.code()),
                None => return (count, Code::Ok),
            }
        }
    }

    #[tokio::test]
    async fn silence_ends_a_body() {
        let (parts, late, whole) =
            tokio::join!(taken(&[600, 600], false), taken(&[100, 1_500], false), taken(&[600, 800], true));
        assert_eq!(parts, (2, Code::DeadlineExceeded));
        assert_eq!(late, (1, Code::DeadlineExceeded));
        assert_eq!(whole, (1, Code::DeadlineExceeded), "a call's one message has to come whole in the time");
    }
}
