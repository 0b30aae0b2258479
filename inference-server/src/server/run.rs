//! Serving until asked to stop, and the drain.
//!
//! On the first signal every health name says NOT_SERVING, and the server goes on serving for
//! `--lame-duck-seconds`, until callers have heard of it. Then connections get GOAWAY, no further
//! one is accepted, and in-flight requests are finished within `--drain-seconds`. A second signal
//! cuts off what is left.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use observatory_server::connections::{self, Port};
use observatory_server::http;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::ports::HttpPort;
use super::shutdown::Stop;
use super::{Outcome, Server};
use crate::health::Health;
use crate::http::probes;
use crate::registry::{ModelState, Registry};
use crate::scheduler::admission::Admission;

/// Time that open streams (a health watch, for one) keep the listener after the drain, to send
/// their last message. Not tuned: a network round trip, and too short for an operator to notice.
const STREAM_GRACE: Duration = Duration::from_millis(250);

/// Time in which calls may still arrive that were sent before their callers had read GOAWAY. Not
/// tuned: several round trips of any network between a caller and its server.
const LAST_CALLS: Duration = Duration::from_millis(500);

/// The parts of a server that has been asked to stop.
struct Stopping<'a, T> {
    stop: &'a Stop,
    device_lost: CancellationToken,
    admission: &'a Admission,
    health: &'a Health,
    /// Cancelled to send GOAWAY and to accept no further connection.
    closed: &'a CancellationToken,
    /// The gRPC server, which ends once its last connection is closed.
    serving: &'a mut JoinHandle<T>,
}

impl Server {
    /// Serves until asked to stop, or until the device is lost or no model could be loaded.
    ///
    /// # Errors
    /// If the transport fails.
    pub async fn run(self, stop: Stop) -> Result<Outcome> {
        tracing::info!(grpc.addr = %self.grpc_addr()?, metrics.addr = %self.metrics_addr()?, "listening");
        self.access.watch();
        let closed = CancellationToken::new();
        let patience = self.patience;
        let port = Port { room: self.room.serving, tls: self.tls, is_http2: true, patience };
        let incoming = connections::incoming(self.grpc, port);
        let serving = self.router.serve_with_incoming_shutdown(incoming, closed.clone().cancelled_owned());
        // Spawned, so that a panic of the transport is an error here and not the end of the
        // process.
        let mut serving = tokio::spawn(serving);
        let probes = self.metrics.router().merge(probes::router(self.health.clone()));
        let port = Port { room: self.room.probes, tls: None, is_http2: false, patience };
        let incoming = connections::incoming(self.metrics_http, port);
        // Never closed by the drain: metrics and health are there to the end.
        let metrics = tokio::spawn(http::serve(incoming, probes, patience.head, CancellationToken::new()));
        let openai = self.http.map(|http| serve_openai(http, patience.head, closed.clone()));
        let publish = publisher(self.health.clone());
        // After the ports serve: health answers, and says NOT_SERVING, while models are read.
        let mut loading = self.device.and_then(|device| self.loader.start(device, publish));

        let ended = loop {
            tokio::select! {
                () = stop.drain.cancelled() => break None,
                () = self.device_lost.cancelled() => break Some(Outcome::DeviceLost),
                served = &mut serving => {
                    served.context("the gRPC server panicked")?.context("the gRPC server failed")?;
                    break Some(Outcome::Drained);
                }
                () = finished(&mut loading) => {
                    loading = None;
                    if none_loaded(&self.registry) {
                        break Some(Outcome::NoModel);
                    }
                }
            }
        };
        // Before anything else: callers that check health go elsewhere while this one still serves.
        self.health.stop().await;
        let stopping = Stopping {
            stop: &stop,
            device_lost: self.device_lost,
            admission: &self.admission,
            health: &self.health,
            closed: &closed,
            serving: &mut serving,
        };
        let outcome = match ended {
            Some(outcome) => outcome,
            None => stopping.finish(self.lame_duck, self.drain).await,
        };
        self.admission.drain();
        // Cut off before the listener closes, so that a stream can still send why it ends.
        self.cut_off.cancel();
        closed.cancel();
        close(serving).await;
        if let Some(openai) = openai {
            close(openai).await;
        }
        metrics.abort();
        if let Some(file) = &self.announce_file {
            remove_announcement(file);
        }
        tracing::info!(outcome = ?outcome, "stopped");
        Ok(outcome)
    }
}

impl<T> Stopping<'_, T> {
    /// Goes on serving for the time `lame_duck`, and then finishes what is in flight within
    /// `drain`.
    async fn finish(self, lame_duck: Duration, drain: Duration) -> Outcome {
        tracing::info!(
            seconds = lame_duck.as_secs(),
            "health checks answer NOT_SERVING, calls are still served"
        );
        tokio::select! {
            () = tokio::time::sleep(lame_duck) => {}
            () = self.stop.now.cancelled() => return Outcome::CutOff,
            () = self.device_lost.cancelled() => return Outcome::DeviceLost,
        }
        tracing::info!(requests = self.admission.requests(), "draining");
        self.closed.cancel();
        self.health.end_watches().await;
        let admission = self.admission;
        let drained = async {
            // What was sent before its caller read GOAWAY is still answered; once every connection
            // is closed nothing comes any more.
            let _ = tokio::time::timeout(LAST_CALLS, self.serving).await;
            admission.drain();
            // Requests and not connections are waited for: clients keep idle connections for ever.
            admission.when(|count| *count == 0).await;
        };
        tokio::select! {
            () = drained => Outcome::Drained,
            // Also where no time was given: nothing is cut off if nothing is in flight.
            () = tokio::time::sleep(drain) => {
                if admission.requests() == 0 { Outcome::Drained } else { Outcome::CutOff }
            }
            () = self.stop.now.cancelled() => Outcome::CutOff,
        }
    }
}

fn serve_openai(port: HttpPort, head: Duration, closed: CancellationToken) -> JoinHandle<()> {
    let incoming = connections::incoming(port.listener, port.port);
    tokio::spawn(http::serve(incoming, port.router, head, closed))
}

/// Ends a server, which no longer accepts connections.
async fn close<T>(mut serving: JoinHandle<T>) {
    // Health watches never end by themselves, and what was cut off still has to be told so.
    if !serving.is_finished() && tokio::time::timeout(STREAM_GRACE, &mut serving).await.is_err() {
        serving.abort();
    }
}

/// Removes the announce file: a program that finds one may call the addresses in it.
fn remove_announcement(file: &Path) {
    if let Err(error) = std::fs::remove_file(file) {
        tracing::warn!(file.path = %file.display(), error.message = %error, "announce file not removed");
    }
}

/// Publishes the states of the models, from the loader's thread.
fn publisher(health: Health) -> impl Fn() + Send + 'static {
    let runtime = Handle::current();
    move || runtime.block_on(health.publish())
}

/// Completes when every model of the plan was tried; never if nothing is being loaded.
async fn finished(loading: &mut Option<JoinHandle<()>>) {
    match loading {
        Some(handle) => {
            if let Err(error) = handle.await {
                tracing::error!(error.message = %error, "the model loader stopped early");
            }
        }
        None => std::future::pending().await,
    }
}

fn none_loaded(registry: &Registry) -> bool {
    let entries = registry.entries();
    !entries.is_empty() && entries.iter().all(|entry| matches!(entry.state, ModelState::Failed(_)))
}
