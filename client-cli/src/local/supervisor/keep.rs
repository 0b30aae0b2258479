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

/// A process that can be restarted.
pub(super) trait Unit: Send + 'static {
    /// The running process. Dropping it ends it.
    type Live: Live;

    /// Name in the state and in messages.
    fn name(&self) -> &'static str;

    /// Starts the process and waits until it is ready. Dropping the future ends it.
    fn start(&mut self) -> impl Future<Output = anyhow::Result<Self::Live>> + Send;

    /// Waits until the process exits; returns the reason.
    fn ended(&mut self, live: &mut Self::Live) -> impl Future<Output = anyhow::Result<String>> + Send;

    /// Policy for detecting that the process hangs.
    fn hang_policy(&self) -> HangPolicy;

    /// Checks that the process at `address` responds within `limit`, whatever it says about itself;
    /// returns the problem otherwise.
    fn answers(address: SocketAddr, limit: Duration) -> impl Future<Output = Result<(), String>> + Send;

    /// Kills a hung process and waits until it is gone.
    fn kill(&mut self, live: Self::Live) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Stops the process gracefully.
    fn stop(&mut self, live: Self::Live) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// Facts about a running process, for the state.
pub(super) trait Live: Send {
    /// Identity of the process.
    fn process(&self) -> ProcessId;

    /// Its address.
    fn address(&self) -> SocketAddr;

    /// Address of its metrics.
    fn metrics(&self) -> Option<SocketAddr>;
}

/// End of a process.
enum End {
    /// By itself, or it could not be started; with the reason and the time it was healthy.
    Ended(String, Duration),
    /// On purpose.
    Stopped,
}

/// Runs the unit, restarting it whenever it exits or hangs, until `stop`.
pub(super) async fn keep_alive<U: Unit>(mut unit: U, shared: SharedState, stop: CancellationToken) {
    let name = unit.name();
    let mut backoff = Backoff::default();
    loop {
        shared.update_process(name, |process| process.phase = Phase::Starting);
        let started = tokio::select! {
            // Stopping wins over a start that completes at the same time.
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
            // Stopping does not wait for the end of a pause.
            () = stop.cancelled() => break,
            () = tokio::time::sleep(pause) => {}
        }
    }
    shared.update_process(name, |process| {
        process.phase = Phase::Stopped;
        process.process = None;
    });
}

/// Waits until a running process exits, and ends it if it hangs or `stop` is cancelled.
async fn watch<U: Unit>(unit: &mut U, mut live: U::Live, stop: &CancellationToken) -> End {
    let name = unit.name();
    let started_at = Instant::now();
    let hang = detect_hang(live.address(), unit.hang_policy(), U::answers);
    let hung = tokio::select! {
        // A process that dies while the stack stops has not failed.
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
    // The time until the last response: a process that never responded was never healthy.
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
