//! Connections of a port: their number, idle time-outs, and eviction when the port is full.
//!
//! A caller holds a file descriptor before it is identified. So each port has a limit of its own,
//! together below the process's limit. When a port is full, a new connection evicts the one that
//! has been idle longest, and first those that never sent a request. Connections with a call in
//! progress stay.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum::body::HttpBody;
use http_body::{Frame, SizeHint};
use rustls::server::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

use crate::tls::{Peer, Stream};
use crate::watched::Watched;

/// Length of the HTTP/2 connection preface (RFC 9113, section 3.4).
const PREFACE: usize = 24;
/// Pause after a failed accept, usually for lack of file descriptors. Not tuned: short enough that
/// callers hardly notice, long enough not to spin.
const PAUSE: Duration = Duration::from_millis(50);
/// Accepted connections queued for the server, which takes them as fast as it can; a buffer against
/// bursts. Not tuned.
const WAITING: usize = 64;
/// Descriptors reserved for everything else: files, models, the runtime. Not tuned: generous.
const RESERVED: usize = 192;
/// Maximum connections of the port for metrics and health. Not tuned: a few probes and scrapers.
const PROBES: usize = 64;
/// Maximum connections of other ports by default, if the limit of open files is very high. Not
/// tuned: the servers refuse calls for lack of other resources long before.
const MOST: usize = 8_192;
/// Assumed limit of descriptors if the system does not tell: the usual soft limit of Linux.
const ASSUMED: usize = 1_024;

/// Time-outs of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For a TLS handshake, and for the first bytes of HTTP/2 behind it.
    pub handshake: Duration,
    /// Between requests of HTTP/1.1, and for the head of one.
    pub head: Duration,
    /// For a whole body.
    pub body: Duration,
    /// Between two parts of a body.
    pub part: Duration,
    /// For a write of a response that the caller does not read.
    pub answer: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        // Not tuned: generous for a slow network, and short enough that callers who only hold
        // connections open do not fill a port.
        let [handshake, head, body, part, answer] = [10, 20, 60, 10, 60].map(Duration::from_secs);
        Self { handshake, head, body, part, answer }
    }
}

/// Connection limits of the ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Limit of each serving port.
    pub serving: usize,
    /// Limit of the port for metrics and health.
    pub probes: usize,
}

impl Room {
    /// Divides the process's limit of open files among the serving ports, or takes `asked` for
    /// each.
    ///
    /// # Errors
    /// If `asked` exceeds what the limit allows.
    pub fn new(asked: Option<usize>, ports: usize) -> anyhow::Result<Self> {
        Self::within(descriptors(), asked, ports)
    }

    fn within(limit: usize, asked: Option<usize>, ports: usize) -> anyhow::Result<Self> {
        // Under a low limit a quarter has to do: without connections a server is useless.
        let room = limit.saturating_sub(RESERVED).max(limit / 4);
        // An eighth at most: under a low limit callers need the room more.
        let probes = PROBES.min(room / 8).max(1);
        let most = ((room - probes.min(room)) / ports.max(1)).max(1);
        if let Some(asked) = asked {
            anyhow::ensure!(
                asked <= most,
                "invalid --max-connections `{asked}`: the limit of open files, {limit}, allows at most {most} for each port"
            );
        }
        Ok(Self { serving: asked.unwrap_or(most.min(MOST)), probes })
    }
}

/// The limit of file descriptors of the process.
#[allow(unsafe_code, reason = "a call of the C library")]
fn descriptors() -> usize {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the call writes to the place it is given and nothing else.
    let failed = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0;
    if failed { ASSUMED } else { usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX) }
}

/// State of a connection, shared with the port it belongs to.
#[derive(Debug)]
pub struct Standing {
    calls: AtomicUsize,
    asked: AtomicBool,
    silent_since: Mutex<Instant>,
    evicted: CancellationToken,
}

impl Standing {
    /// The state of a new connection.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            calls: AtomicUsize::new(0),
            asked: AtomicBool::new(false),
            silent_since: Mutex::new(Instant::now()),
            evicted: CancellationToken::new(),
        })
    }

    /// Registers a call, in progress until the value is dropped.
    pub fn call(self: &Arc<Self>) -> CallUnderWay {
        // Relaxed: nothing else is read on the strength of these values.
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.asked.store(true, Ordering::Relaxed);
        CallUnderWay(Arc::clone(self))
    }

    /// Closes the connection and cancels its calls.
    pub fn evict(&self) {
        self.evicted.cancel();
    }

    /// Returns true if the connection is to close.
    pub fn is_evicted(&self) -> bool {
        self.evicted.is_cancelled()
    }

    fn silent_since(&self) -> MutexGuard<'_, Instant> {
        self.silent_since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See [`Standing::call`].
#[derive(Debug)]
pub struct CallUnderWay(Arc<Standing>);

impl Drop for CallUnderWay {
    fn drop(&mut self) {
        // The time first: at a count of zero the door may look at it.
        *self.0.silent_since() = Instant::now();
        self.0.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The peer of a connection, and the state of the connection.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The peer.
    pub peer: Peer,
    /// The state.
    pub standing: Arc<Standing>,
}

/// Admits connections up to a limit.
#[derive(Debug)]
struct Door {
    most: usize,
    inside: Mutex<Vec<Arc<Standing>>>,
}

impl Door {
    fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, inside: Mutex::default() })
    }

    fn inside(&self) -> MutexGuard<'_, Vec<Arc<Standing>>> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place, evicting the connection that has been idle longest if there is none. Fails if
    /// all have calls in progress.
    fn enter(self: &Arc<Self>) -> Option<Place> {
        let mut inside = self.inside();
        if inside.len() >= self.most {
            let silent = inside.iter().enumerate().filter(|(_, one)| one.calls.load(Ordering::Relaxed) == 0);
            // `false` sorts first, so those that never sent a request go first.
            let (place, _) =
                silent.min_by_key(|(_, one)| (one.asked.load(Ordering::Relaxed), *one.silent_since()))?;
            // Its place is free at once, though its tasks still have to notice.
            inside.swap_remove(place).evict();
        }
        let standing = Standing::new();
        inside.push(Arc::clone(&standing));
        Some(Place { door: Arc::clone(self), standing })
    }
}

/// The place of one connection, released on drop.
#[derive(Debug)]
struct Place {
    door: Arc<Door>,
    standing: Arc<Standing>,
}

impl Drop for Place {
    fn drop(&mut self) {
        // Not there any more if it was evicted.
        self.door.inside().retain(|one| !Arc::ptr_eq(one, &self.standing));
    }
}

/// An admitted connection.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    place: Place,
    evicted: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Deadline of the preface, and how many bytes of it are missing.
    preface: Option<(Pin<Box<Sleep>>, usize)>,
    /// Deadline of a write that does not progress.
    stalled: Option<Pin<Box<Sleep>>>,
    answer: Duration,
}

impl Connection {
    fn new(stream: Stream, place: Place, port: &Port) -> Self {
        let Patience { handshake, answer, .. } = port.patience;
        Self {
            stream,
            evicted: Box::pin(place.standing.evicted.clone().cancelled_owned()),
            place,
            preface: port.is_http2.then(|| (Box::pin(tokio::time::sleep(handshake)), PREFACE)),
            stalled: None,
            answer,
        }
    }

    /// Its peer and state.
    pub fn origin(&self) -> Origin {
        Origin { peer: self.stream.peer(), standing: Arc::clone(&self.place.standing) }
    }

    /// Fails once the connection is evicted.
    fn stays(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.evicted.as_mut().poll(cx).is_ready() {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "evicted as the longest idle"));
        }
        Ok(())
    }

    /// Applies the time-out to the result of a write.
    fn written<T>(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            // The limit is on a standstill, not on the whole response.
            self.stalled = None;
            return result;
        }
        let answer = self.answer;
        let timer = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(answer)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the response is not read")))
    }
}

impl Connected for Connection {
    type ConnectInfo = Origin;

    fn connect_info(&self) -> Origin {
        self.origin()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // An idle connection waits in a read, so this is where it notices.
        this.stays(cx)?;
        let before = buffer.filled().len();
        let result = Pin::new(&mut this.stream).poll_read(cx, buffer);
        if let Some((timer, missing)) = &mut this.preface {
            *missing = missing.saturating_sub(buffer.filled().len() - before);
            if *missing == 0 {
                this.preface = None;
            } else if timer.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "no HTTP/2 preface")));
            }
        }
        result
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write(cx, buffer);
        this.written(cx, result)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write_vectored(cx, buffers);
        this.written(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_flush(cx);
        this.written(cx, result)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_shutdown(cx);
        this.written(cx, result)
    }
}

/// Connections of a listener.
pub type Incoming = ReceiverStream<io::Result<Connection>>;

/// Configuration of a port.
#[derive(Debug, Clone)]
pub struct Port {
    /// Maximum connections.
    pub room: usize,
    /// TLS configuration, if the port uses TLS.
    pub tls: Option<Arc<Watched<ServerConfig>>>,
    /// True if HTTP/2 is expected from the first byte on.
    pub is_http2: bool,
    /// Time-outs of its connections.
    pub patience: Patience,
}

/// Accepts connections, and completes the TLS handshake of each concurrently, so that a slow one
/// delays nobody.
pub fn incoming(listener: TcpListener, port: Port) -> Incoming {
    let (sender, receiver) = mpsc::channel(WAITING);
    if let Some(tls) = &port.tls {
        tls.watch();
    }
    let door = Door::new(port.room);
    tokio::spawn(async move {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = sender.closed() => return,
            };
            let (stream, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(error.message = %error, "cannot accept a connection");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            // Without a place the stream is dropped, which tells the caller at once.
            let Some(place) = door.enter() else {
                tracing::warn!(peer.addr = %address, connections = port.room, "no room for a connection");
                continue;
            };
            tokio::spawn(admit(stream, place, port.clone(), sender.clone()));
        }
    });
    ReceiverStream::new(receiver)
}

/// Completes the TLS handshake, if any, and hands the connection over.
async fn admit(stream: TcpStream, place: Place, port: Port, sender: mpsc::Sender<io::Result<Connection>>) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(error.message = %error, "connection lost");
        return;
    }
    let evicted = place.standing.evicted.clone();
    let stream = match &port.tls {
        None => Stream::Plain(stream),
        Some(tls) => {
            let handshake = TlsAcceptor::from(tls.get()).accept(stream);
            let shaken = tokio::select! {
                shaken = tokio::time::timeout(port.patience.handshake, handshake) => shaken,
                () = evicted.cancelled() => return,
            };
            match shaken {
                Ok(Ok(stream)) => Stream::Tls(Box::new(stream)),
                Ok(Err(error)) => return tracing::debug!(error.message = %error, "TLS handshake failed"),
                Err(_) => return tracing::debug!("TLS handshake took too long"),
            }
        }
    };
    // Fails only if the server has stopped meanwhile.
    let _ = sender.send(Ok(Connection::new(stream, place, &port))).await;
}

/// A body that keeps a value alive until it ends, such as the registration of its call.
pub struct Held<B, T> {
    body: B,
    _held: T,
}

impl<B, T> Held<B, T> {
    /// Ties `held` to the body of a response.
    pub fn new(body: B, held: T) -> Self {
        Self { body, _held: held }
    }
}

impl<B: HttpBody + Unpin, T: Unpin> HttpBody for Held<B, T> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(cx)
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
    use super::*;

    #[test]
    fn ports_share_what_the_limit_leaves() {
        fn check(limit: usize, asked: Option<usize>, ports: usize, expected: Option<(usize, usize)>) {
            let room = Room::within(limit, asked, ports).ok().map(|room| (room.serving, room.probes));
            assert_eq!(room, expected, "{limit} {asked:?} {ports}");
        }
        check(1_024, None, 2, Some((384, 64)));
        check(1_024, None, 1, Some((768, 64)));
        check(1_024, Some(384), 2, Some((384, 64)));
        check(1_024, Some(385), 2, None);
        check(64, None, 2, Some((7, 2)));
        check(1 << 20, None, 2, Some((MOST, 64)));
        check(usize::MAX, None, 2, Some((MOST, 64)));
        let error = Room::within(1_024, Some(5_000), 2).unwrap_err().to_string();
        assert!(error.contains("--max-connections `5000`") && error.contains("at most 384"), "{error}");
    }

    #[test]
    fn the_longest_silent_connection_makes_room() {
        let door = Door::new(3);
        let enter = || door.enter().unwrap();
        let (asked, calling, silent) = (enter(), enter(), enter());
        drop(asked.standing.call());
        let call = calling.standing.call();
        let gone = |place: &Place| place.standing.is_evicted();
        let next = enter();
        assert!(gone(&silent) && !gone(&asked), "one that never asked goes first");
        let last = enter();
        assert!(gone(&next) && !gone(&asked));
        let of_last = last.standing.call();
        let after = enter();
        assert!(gone(&asked));
        let of_after = after.standing.call();
        assert!(door.enter().is_none(), "calls under way stay");
        drop((call, of_last, of_after));
        assert!(door.enter().is_some());
        drop((calling, last, after, asked, silent, next));
        assert!(door.inside().len() <= 1);
    }
}
