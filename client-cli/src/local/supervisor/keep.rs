//! Keeps one process running: start, watch, restart, stop.
//!
//! Knows nothing about the process but the trait `Unit`.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use chrono::Utc;
use tokio_util::sync::CancellationToken;

use super::backoff::Backoff;
use super::hang::{HangPolicy, detect_hang};
use crate::local::process::ProcessId;
use crate::local::state::{Phase, SharedState};

/// A process that can be started again and again.
pub(super) trait Unit: Send + 'static {
    /// The process while it runs. Dropping it ends it.
    type Live: Live;

    /// Its name in the state and in messages.
    fn name(&self) -> &'static str;

    /// Starts it and waits until it is ready. Dropping the future ends what was started.
    fn start(&mut self) -> impl Future<Output = anyhow::Result<Self::Live>> + Send;

    /// Waits until it ends; says why.
    fn ended(&mut self, live: &mut Self::Live) -> impl Future<Output = anyhow::Result<String>> + Send;

    /// How long it may stay silent while it runs.
    fn hang_policy(&self) -> HangPolicy;

    /// Whether a process at `address` answers within `limit`; what it says of itself does not
    /// matter. Why not, else.
    fn answers(address: SocketAddr, limit: Duration) -> impl Future<Output = Result<(), String>> + Send;

    /// Ends one that hangs, and waits until it is gone.
    fn kill(&mut self, live: Self::Live) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Stops it gracefully.
    fn stop(&mut self, live: Self::Live) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// What the state says about a running process.
pub(super) trait Live: Send {
    /// Which process it is.
    fn process(&self) -> ProcessId;

    /// Where it listens.
    fn address(&self) -> SocketAddr;

    /// Where its metrics are.
    fn metrics(&self) -> Option<SocketAddr>;
}

/// How a run of a process came to its end.
enum End {
    /// By itself, or because it could not be started; why, and how long it was well.
    Ended(String, Duration),
    /// On purpose.
    Stopped,
}

/// Starts the unit, and again whenever it ends or hangs, until `stop`.
pub(super) async fn keep_alive<U: Unit>(mut unit: U, shared: SharedState, stop: CancellationToken) {
    let name = unit.name();
    let mut backoff = Backoff::default();
    loop {
        shared.update_process(name, |process| process.phase = Phase::Starting);
        let started = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            started = unit.start() => started,
        };
        let (why, lived) = match started {
            Err(error) => (format!("{error:#}"), Duration::ZERO),
            Ok(live) => {
                record_running(&shared, name, &live);
                match watch(&mut unit, live, &stop).await {
                    End::Ended(why, lived) => (why, lived),
                    End::Stopped => break,
                }
            }
        };
        let pause = record_exit(&shared, name, &why, lived, &mut backoff);
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(pause) => {}
        }
    }
    shared.update_process(name, |process| {
        process.phase = Phase::Stopped;
        process.process = None;
    });
}

/// Waits for the end of a running process, and brings it about where it hangs or `stop` asks for
/// it.
async fn watch<U: Unit>(unit: &mut U, mut live: U::Live, stop: &CancellationToken) -> End {
    let name = unit.name();
    let started_at = Instant::now();
    let hang = detect_hang(live.address(), unit.hang_policy(), U::answers);
    let hung = tokio::select! {
        biased;
        () = stop.cancelled() => None,
        ended = unit.ended(&mut live) => {
            let why = ended.unwrap_or_else(|error| format!("{error:#}"));
            return End::Ended(why, started_at.elapsed());
        }
        hung = hang => Some(hung),
    };
    let Some(hung) = hung else {
        if let Err(error) = unit.stop(live).await {
            tracing::error!(process.name = name, error.message = format!("{error:#}"), "cannot stop");
        }
        return End::Stopped;
    };
    let reason = hung.reason();
    tracing::error!(process.name = name, process.pid = live.process().pid, reason, "killing a hung process");
    let killed = unit.kill(live).await.err().map(|error| format!("; {error:#}"));
    // A process that never answered after its start was never well.
    End::Ended(
        format!("{reason}{}", killed.unwrap_or_default()),
        hung.since.saturating_duration_since(started_at),
    )
}

fn record_running(shared: &SharedState, name: &'static str, live: &impl Live) {
    let id = live.process();
    tracing::info!(process.name = name, process.pid = id.pid, "running");
    let (address, metrics) = (live.address(), live.metrics());
    shared.update(|state| {
        state.ports.insert(name.to_owned(), address.port());
        let process = state.processes.entry(name.to_owned()).or_default();
        process.phase = Phase::Running;
        process.process = Some(id);
        process.address = Some(address);
        process.metrics = metrics;
        process.since = Some(Utc::now());
    });
}

fn record_exit(
    shared: &SharedState,
    name: &'static str,
    end: &str,
    lived: Duration,
    backoff: &mut Backoff,
) -> Duration {
    let pause = backoff.after(lived);
    let failures = backoff.failures();
    tracing::warn!(
        process.name = name,
        process.end = end,
        process.failures = failures,
        pause_ms = pause.as_millis() as u64,
        "exited; restarting"
    );
    shared.update_process(name, |process| {
        process.phase = Phase::Restarting;
        process.process = None;
        process.since = None;
        process.restarts += 1;
        process.failures = failures;
        process.last_end = Some(end.to_owned());
    });
    pause
}
