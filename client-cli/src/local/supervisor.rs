//! The supervisor: one detached process that keeps the others running.
//!
//! It starts Postgres and the inference server at once, migrates the database when it is up, then
//! starts the pipeline services. A process that dies is restarted after a growing pause. One that
//! hangs is killed first: after a minute without a response, Postgres after two. One that dies
//! repeatedly is reported and does not delay the others.

mod backoff;
mod database;
mod hang;
mod keep;
mod leftovers;
mod login;
mod service;

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
use super::state::{DatabaseState, Extent, POSTGRES, SharedState, StackLock, StackState, SupervisorState};
use super::{binaries, logs, premises};
use database::{EmbeddedPostgres, write_url};
use hang::HangPolicy;
use keep::keep_alive;
use service::{Dependencies, Service};

pub(crate) use hang::DEFAULT_HEALTH_INTERVAL;

/// A task that keeps a process running, and the token that stops it.
struct SupervisedTask {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// Runs the stack until SIGTERM or SIGINT, or until its data directory is deleted.
///
/// # Errors
/// [`crate::error::AlreadyRunning`] if another supervisor runs on the data directory; otherwise the
/// problem that kept the stack from starting, which is also written to `stack.json`.
pub(crate) async fn supervise(plan: Plan) -> anyhow::Result<()> {
    // In a session of its own: Ctrl-C in the terminal that started it must not reach the stack.
    // Fails if it already leads a session, as when started by hand from some shells; that is fine.
    let _ = nix::unistd::setsid();
    plan.data.create()?;
    // Before the state is read: without the lock, it may be that of a supervisor that still runs.
    let lock = StackLock::acquire(&plan.data)?;
    let mut state = StackState::load(&plan.data).unwrap_or_default();
    // Before the new supervisor is recorded: until then the file names what has to be stopped.
    clear_leftovers(&plan.data, &state)
        .await
        .context("cannot stop the processes of an earlier supervisor")?;
    state.supervisor = Some(SupervisorState {
        process: ProcessId::current()?,
        since: Utc::now(),
        extent: plan.extent,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    });
    // Ports stay, so that peers find the new processes where the old ones were.
    state.failure = None;
    state.processes.clear();
    let shared = SharedState::new(plan.data.clone(), state);
    // At once: other commands look for the new supervisor in the file.
    shared.update(|_| {});
    // Kept, not returned at once: `stack.json` has to say why the supervisor ended.
    let ended = run(&plan, &shared, &lock).await;
    shared.update(|state| {
        state.supervisor = None;
        state.failure = ended.as_ref().err().map(|error| format!("{error:#}"));
        state.processes.clear();
    });
    ended
}

async fn run(plan: &Plan, shared: &SharedState, lock: &StackLock) -> anyhow::Result<()> {
    // Before anything is started: a signal in between would kill the supervisor and leave its
    // children running.
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let mut hangup = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
    let tasks = start(plan, shared)?;
    tracing::info!(stack.extent = ?plan.extent, "supervising");
    // Not tuned: a file that somebody changed is restored before it misleads for long.
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            // The stack must outlive the terminal it was started from.
            _ = hangup.recv() => {}
            _ = tick.tick() => {
                if !lock.is_in_place(&plan.data) {
                    tracing::warn!("the data directory was deleted; stopping");
                    break;
                }
                // Other programs read `stack.json`; somebody may have changed or deleted it.
                shared.restore();
                rotate_logs(&plan.data);
            }
        }
    }
    tracing::info!("stopping");
    for SupervisedTask { stop, task } in tasks {
        // One after the other: the pipeline uses the inference server and the database to its end.
        stop.cancel();
        task.await.context("a supervising task panicked")?;
    }
    Ok(())
}

/// Starts everything. Returns the tasks in the order in which they have to be stopped.
fn start(plan: &Plan, shared: &SharedState) -> anyhow::Result<Vec<SupervisedTask>> {
    let (url, urls) = watch::channel(None);
    let (inference, inferences) = watch::channel(None);
    let mut tasks = Vec::new();
    let cluster = match &plan.database {
        DatabasePlan::External(external) => {
            write_url(&plan.data, external)?;
            shared.update(|state| {
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
        let dependencies = Dependencies { database: urls, inference: inferences };
        let plan = Plan { bin_dir: premises::prepare(plan)?, ..plan.clone() };
        // Stopped first, since it uses the other two.
        let pipeline = Service::pipeline(&plan, shared, dependencies)?;
        let server = Service::inference(&plan, shared, inference)?;
        tasks.push(launch(|stop| keep_alive(pipeline, shared.clone(), stop)));
        tasks.push(launch(|stop| keep_alive(server, shared.clone(), stop)));
    }
    if let Some(cluster) = cluster {
        let embedded = EmbeddedPostgres::new(
            plan.data.clone(),
            cluster,
            shared.clone(),
            url,
            HangPolicy::of_postgres(plan.health_interval),
        );
        tasks.push(launch(|stop| keep_alive(embedded, shared.clone(), stop)));
    }
    Ok(tasks)
}

fn launch<F>(keep: impl FnOnce(CancellationToken) -> F) -> SupervisedTask
where
    F: Future<Output = ()> + Send + 'static,
{
    let stop = CancellationToken::new();
    SupervisedTask { task: tokio::spawn(keep(stop.clone())), stop }
}

fn rotate_logs(data: &DataDir) {
    for name in [POSTGRES, binaries::INFERENCE, binaries::PIPELINE, "migrate", "supervisor"] {
        // A log that grows is better than a stack that ends because of it.
        if let Err(error) = logs::rotate(&data.log(name), logs::MAX_BYTES) {
            tracing::warn!(error.message = format!("{error:#}"), "cannot rotate a log file");
        }
    }
}
