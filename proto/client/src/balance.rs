//! Calls spread over all servers of a name.
//!
//! Without a mesh a channel keeps to one connection, so one server gets every call however many
//! there are. Here each address has a connection of its own; the name is looked up again every few
//! seconds, servers are asked for their health every second, and a call goes to the server with the
//! fewest calls among those that serve. If none says that it serves, all are tried: their own
//! errors say most.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tonic::Code;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response, Uri};
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tower::{Service, ServiceExt};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A look-up of addresses under way.
pub type Resolving = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// Pause between two rounds of health checks, and time limit of a check. Not tuned: a server that
/// says NOT_SERVING goes on serving for some seconds, in which each of its callers has to notice.
const CHECK: Duration = Duration::from_secs(1);

/// Rounds of health checks for each look-up of the name: five seconds, for which CoreDNS lets an
/// address of Kubernetes be kept by default.
const ROUNDS: u32 = 5;

/// The health name that says whether a server answers calls.
const READY: &str = "ready";

/// States of a member.
const UNKNOWN: u8 = 0;
const SERVING: u8 = 1;
const AWAY: u8 = 2;

/// A channel to every server of a name; cheap to clone, and ends with its last clone.
#[derive(Clone)]
pub struct Balanced(Arc<Shared>);

struct Shared {
    members: Mutex<Vec<Member>>,
    /// Whose turn it is among servers with equally many calls.
    turn: AtomicUsize,
    resolve: Box<dyn Fn() -> Resolving + Send + Sync>,
    connect: Box<dyn Fn(SocketAddr) -> Channel + Send + Sync>,
}

/// One server.
#[derive(Clone)]
struct Member {
    address: SocketAddr,
    channel: Channel,
    standing: Arc<Standing>,
}

#[derive(Default)]
struct Standing {
    state: AtomicU8,
    calls: AtomicUsize,
}

impl Member {
    fn state(&self) -> u8 {
        // Relaxed, as for the calls: nothing else is read on the strength of these values.
        self.standing.state.load(Ordering::Relaxed)
    }

    fn calls(&self) -> usize {
        self.standing.calls.load(Ordering::Relaxed)
    }

    fn is(&self, state: u8) {
        self.standing.state.store(state, Ordering::Relaxed);
    }

    /// Asks the server whether it is ready.
    async fn check(self) {
        let mut client = HealthClient::new(self.channel.clone());
        let asked = client.check(HealthCheckRequest { service: READY.to_owned() });
        let serves = match tokio::time::timeout(CHECK, asked).await {
            Ok(Ok(answer)) => answer.get_ref().status() == ServingStatus::Serving,
            // A server that does not know the question answers calls nevertheless.
            Ok(Err(status)) => matches!(status.code(), Code::NotFound | Code::Unimplemented),
            Err(_) => false,
        };
        self.is(if serves { SERVING } else { AWAY });
    }
}

/// A call under way.
struct Calling(Arc<Standing>);

impl Drop for Calling {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Balanced {
    /// Over what `resolve` finds, each address with a channel of `connect`.
    pub(crate) fn new(
        resolve: impl Fn() -> Resolving + Send + Sync + 'static,
        connect: impl Fn(SocketAddr) -> Channel + Send + Sync + 'static,
    ) -> Self {
        let shared = Arc::new(Shared {
            members: Mutex::default(),
            turn: AtomicUsize::new(0),
            resolve: Box::new(resolve),
            connect: Box::new(connect),
        });
        tokio::spawn(watch(Arc::downgrade(&shared)));
        Self(shared)
    }
}

impl fmt::Debug for Balanced {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let members = self.0.members();
        formatter.debug_list().entries(members.iter().map(|member| member.address)).finish()
    }
}

/// Looks the name up and asks for health, until nobody holds the channel any longer.
async fn watch(shared: Weak<Shared>) {
    for round in 0_u32.. {
        let Some(shared) = shared.upgrade() else { return };
        // The first look-up is that of the first call: a program may never make one.
        if round > 0 && round % ROUNDS == 0 && !shared.members().is_empty() {
            // Without an answer the known addresses stay.
            let _ = shared.look_up().await;
        }
        shared.check().await;
        drop(shared);
        tokio::time::sleep(CHECK).await;
    }
}

impl Shared {
    fn members(&self) -> MutexGuard<'_, Vec<Member>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over the addresses of the name: those that stay keep their connections.
    async fn look_up(&self) -> io::Result<()> {
        let mut addresses = (self.resolve)().await?;
        addresses.sort_unstable();
        addresses.dedup();
        if addresses.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
        }
        let mut members = self.members();
        members.retain(|member| addresses.contains(&member.address));
        for address in addresses {
            if members.iter().all(|member| member.address != address) {
                let channel = (self.connect)(address);
                members.push(Member { address, channel, standing: Arc::default() });
            }
        }
        Ok(())
    }

    /// Asks every server; a single one is not asked, since there is no other.
    async fn check(&self) {
        let members = self.members().clone();
        if members.len() > 1 {
            members.into_iter().map(Member::check).collect::<JoinSet<()>>().join_all().await;
        }
    }

    /// The server for the next call, which counts from now on.
    async fn take(&self) -> Result<(Member, Calling), BoxError> {
        if self.members().is_empty() {
            self.look_up().await?;
        }
        if self.members().iter().all(|member| member.state() == UNKNOWN) {
            // Before the first call, which would otherwise go to an address where nobody listens.
            self.check().await;
        }
        // Chosen and counted under the lock: calls that begin together go to different servers.
        let members = self.members();
        let some_serve = members.iter().any(|member| member.state() == SERVING);
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let (before, after) = members.split_at(turn % members.len().max(1));
        let candidates = after.iter().chain(before).filter(|member| !some_serve || member.state() == SERVING);
        let member = candidates.min_by_key(|member| member.calls()).ok_or("the name has no address")?;
        member.standing.calls.fetch_add(1, Ordering::Relaxed);
        Ok((member.clone(), Calling(Arc::clone(&member.standing))))
    }
}

impl Service<Request<Body>> for Balanced {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let shared = Arc::clone(&self.0);
        Box::pin(async move {
            // Until the answer begins, which for a unary call is when its work is done.
            let (member, _calling) = shared.take().await?;
            let mut channel = member.channel.clone();
            let answered = match channel.ready().await {
                Ok(channel) => channel.call(request).await,
                Err(error) => Err(error),
            };
            // Until its next check: what cannot be reached, or refuses because it stops, gets no
            // more.
            if answered.as_ref().is_ok_and(refuses) || answered.is_err() {
                member.is(AWAY);
            }
            Ok(answered?)
        })
    }
}

/// True of an answer with the status UNAVAILABLE.
fn refuses(answer: &Response<Body>) -> bool {
    let unavailable = (Code::Unavailable as i32).to_string();
    answer.headers().get("grpc-status").is_some_and(|status| status == unavailable.as_str())
}

/// A service that opens connections to one address, without TLS.
pub(crate) fn plain(
    address: SocketAddr,
) -> impl Service<Uri, Response = TokioIo<TcpStream>, Error = BoxError, Future: Send> + Send {
    tower::service_fn(move |_: Uri| async move {
        let stream = TcpStream::connect(address).await?;
        // Calls are small messages, which would be held back to be sent together.
        stream.set_nodelay(true)?;
        Ok(TokioIo::new(stream))
    })
}

#[cfg(test)]
mod tests;
