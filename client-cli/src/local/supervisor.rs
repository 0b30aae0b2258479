//! The supervisor: one detached process that keeps the others running.
//!
//! It starts Postgres and the inference server at once, migrates the database when it is up, then
//! starts the pipeline services. A process that dies is restarted after a growing pause. One that
//! hangs is killed first: after a minute without a response, Postgres after two. One that dies
//! repeatedly is reported and does not delay the others.

mod backoff;
mod database;
mod keep;
mod leftovers;
mod login;
mod service;
mod silence;

use std::time::Duration;

use anyhow::Context;
use chrono::Utc;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) use leftovers::{clear as clear_leftovers, found as leftovers};

use super::paths::DataDir;
use super::plan::{DatabasePlan, Plan};
use super::postgres::{Cluster, ClusterConfig};
use super::process::ProcessId;
use super::state::{Board, DatabaseState, Extent, POSTGRES, StackLock, StackState, SupervisorState};
use super::{binaries, logs, premises};
use database::{Embedded, remember_url};
use keep::keep_alive;
use service::{Service, Wiring};
use silence::Patience;

pub(crate) use silence::USUAL_INTERVAL;

/// One task that keeps a process alive, and how to end it.
struct Kept {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// Runs the stack until SIGTERM or SIGINT, or until its data directory is deleted.
///
/// # Errors
/// [`crate::error::AlreadyRunning`] when another supervisor has the data directory; otherwise what
/// kept the stack from starting, which is also written to `stack.json`.
pub(crate) async fn supervise(plan: Plan) -> anyhow::Result<()> {
    // Already a session leader when started by hand from some shells: then it stays there.
    let _ = nix::unistd::setsid();
    plan.data.create()?;
    let lock = StackLock::acquire(&plan.data)?;
    let mut state = StackState::load(&plan.data).unwrap_or_default();
    clear_leftovers(&plan.data, &state)
        .await
        .context("cannot stop the processes of an earlier supervisor")?;
    state.supervisor = Some(SupervisorState {
        process: ProcessId::current()?,
        since: Utc::now(),
        extent: plan.extent,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    });
    state.failure = None;
    state.processes.clear();
    let board = Board::new(plan.data.clone(), state);
    board.update(|_| {});
    let ended = run(&plan, &board, &lock).await;
    board.update(|state| {
        state.supervisor = None;
        state.failure = ended.as_ref().err().map(|error| format!("{error:#}"));
        state.processes.clear();
    });
    ended
}

async fn run(plan: &Plan, board: &Board, lock: &StackLock) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let mut hangup = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
    let kept = start(plan, board)?;
    tracing::info!(stack.extent = ?plan.extent, "supervising");
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            // A terminal that closes is no reason to stop.
            _ = hangup.recv() => {}
            _ = tick.tick() => {
                if !lock.is_in_place(&plan.data) {
                    tracing::warn!("the data directory was deleted; stopping");
                    break;
                }
                board.restore();
                rotate_logs(&plan.data);
            }
        }
    }
    tracing::info!("stopping");
    for Kept { stop, task } in kept {
        stop.cancel();
        task.await.context("a supervising task panicked")?;
    }
    Ok(())
}

/// Starts everything; in the order in which it has to be stopped.
fn start(plan: &Plan, board: &Board) -> anyhow::Result<Vec<Kept>> {
    let (url, urls) = watch::channel(None);
    let (inference, inferences) = watch::channel(None);
    let mut kept = Vec::new();
    let cluster = match &plan.database {
        DatabasePlan::External(external) => {
            remember_url(&plan.data, external)?;
            board.update(|state| {
                state.database = Some(DatabaseState { url: external.to_string(), embedded: None });
            });
            url.send_replace(Some(external.clone()));
            None
        }
        DatabasePlan::Embedded(distribution) => {
            let config = ClusterConfig::new(distribution.clone(), &plan.data)?;
            Some(Cluster::prepare(config).context("cannot prepare the database")?)
        }
    };
    if plan.extent == Extent::All {
        let wiring = Wiring { database: urls, inference: inferences };
        let plan = Plan { bin_dir: premises::prepare(plan)?, ..plan.clone() };
        let pipeline = Service::pipeline(&plan, board, wiring)?;
        let server = Service::inference(&plan, board, inference)?;
        kept.push(launch(|stop| keep_alive(pipeline, board.clone(), stop)));
        kept.push(launch(|stop| keep_alive(server, board.clone(), stop)));
    }
    if let Some(cluster) = cluster {
        let embedded = Embedded::new(
            plan.data.clone(),
            cluster,
            board.clone(),
            url,
            Patience::of_postgres(plan.health_interval),
        );
        kept.push(launch(|stop| keep_alive(embedded, board.clone(), stop)));
    }
    Ok(kept)
}

fn launch<F>(keep: impl FnOnce(CancellationToken) -> F) -> Kept
where
    F: Future<Output = ()> + Send + 'static,
{
    let stop = CancellationToken::new();
    Kept { task: tokio::spawn(keep(stop.clone())), stop }
}

fn rotate_logs(data: &DataDir) {
    for name in [POSTGRES, binaries::INFERENCE, binaries::PIPELINE, "migrate", "supervisor"] {
        if let Err(error) = logs::rotate(&data.log(name), logs::MAX_BYTES) {
            tracing::warn!(error.message = format!("{error:#}"), "cannot rotate a log file");
        }
    }
}
