//! Connections of a port: how many there may be, how long a silent one stays, and which one goes
//! where there is no room.
//!
//! Whoever connects holds a file descriptor before anybody knows who it is. So each port has its
//! own number of connections, together below the process's limit; where one more comes, the one
//! that has been silent for longest goes, those first that never asked anything. Connections with a
//! call under way stay.

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

/// Bytes that every connection of HTTP/2 begins with.
const PREFACE: usize = 24;
/// Pause after a connection could not be taken, for want of file descriptors for one.
const PAUSE: Duration = Duration::from_millis(50);
/// Connections that wait to be served.
const WAITING: usize = 64;
/// Descriptors that are not for connections: files, the models', those of the runtime.
const RESERVED: usize = 192;
/// Connections of the port for metrics and health at most.
const PROBES: usize = 64;
/// Connections of another port at most, where nothing is asked for.
const MOST: usize = 8_192;
/// The limit of descriptors where the system does not say.
const ASSUMED: usize = 1_024;

/// How long a connection may keep the server waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For a TLS handshake, and for the first bytes of HTTP/2 behind it.
    pub handshake: Duration,
    /// Between requests of HTTP/1.1, and for the head of one.
    pub head: Duration,
    /// For a body.
    pub body: Duration,
    /// For any part of a body.
    pub part: Duration,
    /// Until something of an answer is taken.
    pub answer: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let [handshake, head, body, part, answer] = [10, 20, 60, 10, 60].map(Duration::from_secs);
        Self { handshake, head, body, part, answer }
    }
}

/// Connections that each port may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Of the ports that serve models, each.
    pub serving: usize,
    /// Of the port for metrics and health.
    pub probes: usize,
}

impl Room {
    /// What the process's limit of open files leaves to this many serving ports, or what was asked
    /// for.
    ///
    /// # Errors
    /// If that is more than the limit leaves.
    pub fn new(asked: Option<usize>, ports: usize) -> anyhow::Result<Self> {
        Self::within(descriptors(), asked, ports)
    }

    fn within(limit: usize, asked: Option<usize>, ports: usize) -> anyhow::Result<Self> {
        let room = limit.saturating_sub(RESERVED).max(limit / 4);
        let probes = PROBES.min(room / 8).max(1);
        let most = ((room - probes.min(room)) / ports.max(1)).max(1);
        if let Some(asked) = asked {
            anyhow::ensure!(
                asked <= most,
                "--max-connections is {asked}, but the limit of open files is {limit}, which leaves {most} for each port"
            );
        }
        Ok(Self { serving: asked.unwrap_or(most.min(MOST)), probes })
    }
}

/// File descriptors that the process may have.
#[allow(unsafe_code, reason = "a call of the C library")]
fn descriptors() -> usize {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the call writes to the place it is given and nothing else.
    let failed = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0;
    if failed { ASSUMED } else { usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX) }
}

/// How a connection stands.
#[derive(Debug)]
pub struct Standing {
    calls: AtomicUsize,
    asked: AtomicBool,
    silent_since: Mutex<Instant>,
    evicted: CancellationToken,
}

impl Standing {
    /// Of a connection that has not asked for anything yet.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            calls: AtomicUsize::new(0),
            asked: AtomicBool::new(false),
            silent_since: Mutex::new(Instant::now()),
            evicted: CancellationToken::new(),
        })
    }

    /// A call on the connection, under way as long as the value lives.
    pub fn call(self: &Arc<Self>) -> CallUnderWay {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.asked.store(true, Ordering::Relaxed);
        CallUnderWay(Arc::clone(self))
    }

    /// Closes the connection, with the calls on it.
    pub fn evict(&self) {
        self.evicted.cancel();
    }

    /// Whether it is told to close.
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
        *self.0.silent_since() = Instant::now();
        self.0.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Who is at the other end of a connection, and how it stands.
#[derive(Debug, Clone)]
pub struct Origin {
    /// Who.
    pub peer: Peer,
    /// How.
    pub standing: Arc<Standing>,
}

/// Lets connections in.
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

    /// A place, where need be that of the connection that was silent for longest; nothing where all
    /// have calls under way.
    fn enter(self: &Arc<Self>) -> Option<Place> {
        let mut inside = self.inside();
        if inside.len() >= self.most {
            let silent = inside.iter().enumerate().filter(|(_, one)| one.calls.load(Ordering::Relaxed) == 0);
            let (place, _) =
                silent.min_by_key(|(_, one)| (one.asked.load(Ordering::Relaxed), *one.silent_since()))?;
            inside.swap_remove(place).evict();
        }
        let standing = Standing::new();
        inside.push(Arc::clone(&standing));
        Some(Place { door: Arc::clone(self), standing })
    }
}

/// A place of one connection, given back when it ends.
#[derive(Debug)]
struct Place {
    door: Arc<Door>,
    standing: Arc<Standing>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.door.inside().retain(|one| !Arc::ptr_eq(one, &self.standing));
    }
}

/// A connection that was let in.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    place: Place,
    evicted: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Until when its first bytes must have come, and how many have not.
    preface: Option<(Pin<Box<Sleep>>, usize)>,
    /// Until when something of an answer must be taken.
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

    /// Who is at its other end.
    pub fn origin(&self) -> Origin {
        Origin { peer: self.stream.peer(), standing: Arc::clone(&self.place.standing) }
    }

    /// Ends it where it has to make room.
    fn stays(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.evicted.as_mut().poll(cx).is_ready() {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "silent for longest"));
        }
        Ok(())
    }

    /// What came of a write, which may not wait for ever.
    fn written<T>(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.stalled = None;
            return result;
        }
        let answer = self.answer;
        let timer = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(answer)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "nothing of an answer is taken")))
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
        this.stays(cx)?;
        let before = buffer.filled().len();
        let result = Pin::new(&mut this.stream).poll_read(cx, buffer);
        if let Some((timer, missing)) = &mut this.preface {
            *missing = missing.saturating_sub(buffer.filled().len() - before);
            if *missing == 0 {
                this.preface = None;
            } else if timer.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "no HTTP/2 came")));
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

/// What a port takes.
#[derive(Debug, Clone)]
pub struct Port {
    /// Connections at most.
    pub room: usize,
    /// What makes it speak TLS.
    pub tls: Option<Arc<Watched<ServerConfig>>>,
    /// Whether HTTP/2 is spoken from the first byte on.
    pub is_http2: bool,
    /// How long a connection may be silent.
    pub patience: Patience,
}

/// Connections of the listener, those with TLS after their handshake. A slow or failed handshake
/// holds nobody up.
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
                    tracing::warn!(error.message = %error, "connection not accepted");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            let Some(place) = door.enter() else {
                tracing::warn!(peer.addr = %address, connections = port.room, "no room for a connection");
                continue;
            };
            tokio::spawn(admit(stream, place, port.clone(), sender.clone()));
        }
    });
    ReceiverStream::new(receiver)
}

/// Shakes hands where TLS is spoken, and hands the connection over.
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
    // The server stopped meanwhile where nobody takes it.
    let _ = sender.send(Ok(Connection::new(stream, place, &port))).await;
}

/// A body that holds something until it is over: that its call is under way, the room of the call.
pub struct Held<B, T> {
    body: B,
    _held: T,
}

impl<B, T> Held<B, T> {
    /// The body of an answer, and what it holds.
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
        assert!(error.contains("--max-connections is 5000") && error.contains("leaves 384"), "{error}");
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
