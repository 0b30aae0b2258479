//! The tower layer before every service: who calls, whether they may, and whether there is room.
//!
//! A call keeps its room until its answer is sent or dropped. A message that does not arrive within
//! a minute ends its call, and an answer that is not taken for that long makes room for others.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use http_body::{Frame, SizeHint};
use observatory_server::{
    access::Client,
    connections::{Held, Origin, Standing},
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

/// Path of the health service: a probe cannot always be given a token, and must not wait for other
/// callers.
const OPEN: &str = "/grpc.health.v1.Health/";
/// Time to ask again after where there was no room. Not tuned: about what a short call takes.
const AGAIN: Duration = Duration::from_secs(1);
/// Longest that the message of a call may take to arrive, longest time between two of a stream, and
/// time after which a caller who does not take an answer makes room for others. Not tuned: longer
/// than any pause of a network that still works.
const SILENCE: Duration = Duration::from_secs(60);

/// Calls under way at most.
#[derive(Debug, Clone)]
pub(super) struct Room {
    calls: Arc<Semaphore>,
    /// Of those, calls that last: others keep coming through while streams are open.
    lasting: Arc<Semaphore>,
    limits: (usize, usize),
    /// Answers of those that last.
    // Weak: an answer ends with its body and must not be kept alive here.
    answers: Arc<Mutex<Vec<Weak<Answering>>>>,
}

/// An answer on its way out.
#[derive(Debug, Default)]
struct Answering {
    /// Of its connection.
    standing: Option<Arc<Standing>>,
    /// Since when a part of it waits to be taken; nothing while the next part is owed.
    offered: Mutex<Option<Instant>>,
}

impl Answering {
    fn offered(&self) -> MutexGuard<'_, Option<Instant>> {
        self.offered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Room {
    /// Room for this many calls, a quarter of them calls that last.
    pub(super) fn new(calls: usize) -> Self {
        // Not tuned: most calls are short, and streams must not keep them out.
        let lasting = (calls / 4).max(1);
        Self {
            calls: Arc::new(Semaphore::new(calls)),
            lasting: Arc::new(Semaphore::new(lasting)),
            limits: (calls, lasting),
            answers: Arc::default(),
        }
    }

    fn answers(&self) -> MutexGuard<'_, Vec<Weak<Answering>>> {
        // A panic leaves the list whole, since an entry is pushed in one step.
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers a call that lasts.
    fn watch(&self, answering: &Arc<Answering>) {
        let mut answers = self.answers();
        // Answers that are over are swept here; nothing else removes them.
        answers.retain(|answer| answer.strong_count() > 0);
        answers.push(Arc::downgrade(answering));
    }

    /// Makes room, where it can be made: closes the connection whose caller has left its answer
    /// waiting for longest.
    fn make(&self) {
        // Collected first, so that the list is not locked while each answer is.
        let answers: Vec<_> = self.answers().iter().filter_map(Weak::upgrade).collect();
        let stalled = answers.iter().filter_map(|answer| {
            let since = (*answer.offered())?;
            (since.elapsed() >= SILENCE).then_some((since, answer))
        });
        if let Some((_, answer)) = stalled.min_by_key(|(since, _)| *since)
            && let Some(standing) = &answer.standing
        {
            tracing::warn!("a connection is closed that does not take its answers, for want of room");
            standing.evict();
        }
    }

    fn enter(&self, lasts: bool) -> Result<Place, Status> {
        let lasting = match lasts {
            true => {
                let place = take(&self.lasting);
                if place.is_none() {
                    // The place is free when the connection has ended: this caller is refused and
                    // asks again.
                    self.make();
                }
                Some(place.ok_or_else(|| full("calls that last", self.limits.1))?)
            }
            false => None,
        };
        // Taken last: if there is none, the place among those that last is given back.
        let call = take(&self.calls).ok_or_else(|| full("calls", self.limits.0))?;
        Ok(Place { _call: call, _lasting: lasting })
    }
}

fn take(room: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    Arc::clone(room).try_acquire_owned().ok()
}

fn full(what: &str, limit: usize) -> Status {
    error::busy("OVERLOADED", format!("{limit} {what} are under way, as many as are taken"), AGAIN)
}

/// A call's room, given back when its answer is over.
#[derive(Debug)]
struct Place {
    _call: OwnedSemaphorePermit,
    _lasting: Option<OwnedSemaphorePermit>,
}

/// Makes [`Gate`].
#[derive(Debug, Clone)]
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
        // First, so that a stranger learns neither which methods there are nor how full it is.
        let client = self.access.caller(request);
        let client = client.map_err(|unknown| error::unauthenticated(unknown.to_string()))?;
        let path = request.uri().path();
        let method = match access::method(path) {
            Some(method) => {
                permit(&client, method.scope, path)?;
                method
            }
            // Reflection is for every client; tonic answers for any other path outside of this
            // package.
            None => Method { scope: Scope::Read, lasts: true },
        };
        // Before the room: a caller without quota must not hold a place even for a moment.
        client.check().map_err(|exhausted| {
            let message = format!("{} has used up its {} calls a minute", client.name, exhausted.limit);
            error::busy("QUOTA_EXCEEDED", message, exhausted.retry_after)
        })?;
        let place = self.room.enter(method.lasts)?;
        // After the room was found: a refused call costs nothing of a quota.
        client.charge(1);
        // Changes are logged with their caller; reads would fill the log.
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
#[derive(Debug, Clone)]
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
            // As an answer: an error of the service would reset the stream without a status.
            Err(refusal) => return Box::pin(async move { Ok(refusal.into_http()) }),
        };
        let standing = request.extensions().get::<Origin>().map(|origin| Arc::clone(&origin.standing));
        // Counted at its connection, which is not taken for a silent one as long as a call is under
        // way.
        let under_way = standing.as_ref().map(Standing::call);
        let answering = Arc::new(Answering { standing, ..Answering::default() });
        if lasts {
            self.layer.room.watch(&answering);
        }
        // The message of a short call must be complete in time; a stream may go on for hours.
        let answer = self.inner.call(request.map(|body| Body::new(Paced::new(body, !lasts))));
        Box::pin(async move {
            // Moves into the body, which is dropped when the answer is sent or its caller has left.
            let held = (place, under_way);
            Ok(answer.await?.map(|body| Body::new(Held::new(Offered { body, answering }, held))))
        })
    }
}

/// The body of an answer, which notes when it waits to be taken.
struct Offered {
    body: Body,
    answering: Arc<Answering>,
}

impl http_body::Body for Offered {
    type Data = <Body as http_body::Body>::Data;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Status>>> {
        let this = self.get_mut();
        let frame = Pin::new(&mut this.body).poll_frame(context);
        // It is asked again only when this part has been taken.
        *this.answering.offered() = matches!(frame, Poll::Ready(Some(_))).then(Instant::now);
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A body that may not keep its reader waiting for ever.
struct Paced {
    body: Body,
    /// True if all of it must come in time, false if each part.
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
            // Every part of a stream has the full time; one message in many small parts does not.
            if !this.whole {
                this.waiting = None;
            }
            return Poll::Ready(frame);
        }
        let silence = this.silence;
        // Set at the first wait: a body that is there already costs no timer.
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

    #[test]
    fn whoever_takes_no_answer_makes_room() {
        let room = Room::new(8);
        let places: Vec<Place> = (0..2).map(|_| room.enter(true).unwrap()).collect();
        let ago = |seconds| Instant::now().checked_sub(Duration::from_secs(seconds));
        let answer = |offered: Option<Instant>| {
            let answering = Answering { standing: Some(Standing::new()), offered: Mutex::new(offered) };
            let answering = Arc::new(answering);
            room.watch(&answering);
            answering
        };
        let gone = |answer: &Arc<Answering>| answer.standing.as_ref().unwrap().is_evicted();
        let (owed, recent) = (answer(None), answer(ago(30)));
        room.enter(true).unwrap_err();
        assert!(!gone(&owed) && !gone(&recent), "nobody has waited for long");
        let (longest, long) = (answer(ago(90)), answer(ago(70)));
        room.enter(true).unwrap_err();
        assert!(gone(&longest) && !gone(&long) && !gone(&owed) && !gone(&recent));
        drop(longest);
        room.enter(true).unwrap_err();
        assert!(gone(&long));
        drop(places);
        assert!(room.enter(true).is_ok());
    }

    /// Takes frames that come after these pauses, and then nothing more, with patience of three
    /// seconds.
    async fn taken(pauses: &'static [u64], whole: bool) -> (usize, Code) {
        let frames = futures::stream::unfold(0, move |next: usize| async move {
            let Some(pause) = pauses.get(next) else { return std::future::pending().await };
            tokio::time::sleep(Duration::from_millis(*pause)).await;
            Some((Ok::<_, std::convert::Infallible>("x"), next + 1))
        });
        let body = Body::new(axum::body::Body::from_stream(frames));
        let mut body = Paced { silence: Duration::from_secs(3), ..Paced::new(body, whole) };
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
        let (parts, late, whole) = tokio::join!(
            taken(&[1_600, 1_600], false),
            taken(&[100, 5_000], false),
            taken(&[1_600, 2_900], true)
        );
        assert_eq!(parts, (2, Code::DeadlineExceeded));
        assert_eq!(late, (1, Code::DeadlineExceeded));
        assert_eq!(whole, (1, Code::DeadlineExceeded), "a call's one message has to come whole in the time");
    }
}
