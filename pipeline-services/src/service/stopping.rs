//! The end of a process: on request, or because a part of it broke down.
//!
//! On request it serves on for a while with no health name serving, then takes no more connections
//! and finishes what is in flight, workers and calls within one time; a second request cuts that
//! short. What is claimed and not finished is given back.

use std::{future::Future, time::Duration};

use anyhow::{Context, Result, bail};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::{JoinError, JoinHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;

/// Longest time that giving work back may take. Not tuned: with 20 s to finish, it ends within the
/// 30 s that Kubernetes leaves.
const GIVE_BACK: Duration = Duration::from_secs(3);

/// The steps of the end, each cancelled when it is reached.
#[derive(Debug, Clone, Default)]
pub(super) struct Stop {
    /// Nothing new is claimed, and no health name serves.
    pub work: CancellationToken,
    /// No connection is accepted, and streams without an end of their own are ended.
    pub closed: CancellationToken,
    /// What is being worked on is given back.
    pub cut: CancellationToken,
}

/// Requests to stop.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Listens from now on.
    pub(super) fn new() -> Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for a request.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// What `work` comes to, unless a request comes first.
    ///
    /// # Errors
    /// If the process is asked to stop.
    pub(super) async fn or_stop<T>(&mut self, work: impl Future<Output = T>) -> Result<T> {
        tokio::select! {
            done = work => Ok(done),
            () = self.next() => bail!("asked to stop while it was waiting"),
        }
    }
}

/// A part of the process that ended before its time.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Broken(&'static str, #[source] Option<JoinError>);

/// Exit status of a process that ended with this error: 1 where a part of it broke down, so that a
/// supervisor starts it again; 2 where it could not begin.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    if error.is::<Broken>() { 1 } else { 2 }
}

/// A running process.
pub(super) struct Parts {
    /// Workers, and what else has no answer to give.
    pub tasks: JoinSet<()>,
    /// The gRPC server.
    pub server: JoinHandle<Result<()>>,
    /// The steps of their end.
    pub stop: Stop,
    /// Requests to stop.
    pub signals: Signals,
}

impl Parts {
    /// Waits for a request to stop, serves on for `lame_duck`, and then waits for what is in
    /// flight: as long as `drain`, or until the second request.
    ///
    /// # Errors
    /// If a part of the process breaks down. The others are stopped then: a process that goes on
    /// without a worker looks well and does nothing.
    pub(super) async fn until_stopped(mut self, lame_duck: Duration, drain: Duration) -> Result<()> {
        let broken = tokio::select! {
            () = self.signals.next() => None,
            broken = broken(&mut self.tasks, &mut self.server) => Some(broken),
        };
        tracing::info!("stopping");
        self.stop.work.cancel();
        if let Some(broken) = broken {
            self.give_back().await;
            return Err(broken);
        }
        let (tasks, server, closed) = (&mut self.tasks, &mut self.server, &self.stop.closed);
        let finished = async {
            tokio::time::sleep(lame_duck).await;
            closed.cancel();
            all_done(tasks).await?;
            server.await.context("gRPC server panicked")?
        };
        tokio::select! {
            finished = finished => return finished,
            () = tokio::time::sleep(lame_duck + drain) => {
                tracing::warn!("the time to finish work is over: it is given back, and calls are cut off");
            }
            () = self.signals.next() => tracing::warn!("told to stop twice: work is given back"),
        }
        self.give_back().await;
        Ok(())
    }

    /// Gives back what is claimed; what is still held after this comes back when its lease ends.
    async fn give_back(&mut self) {
        self.stop.closed.cancel();
        self.stop.cut.cancel();
        let _ =
            tokio::time::timeout(GIVE_BACK, async { while self.tasks.join_next().await.is_some() {} }).await;
    }
}

/// Waits until a part ends that should go on.
async fn broken(tasks: &mut JoinSet<()>, server: &mut JoinHandle<Result<()>>) -> anyhow::Error {
    tokio::select! {
        Some(ended) = tasks.join_next() => Broken("a part of the process ended early", ended.err()).into(),
        served = server => match served {
            Ok(Ok(())) => Broken("the gRPC server ended early", None).into(),
            Ok(Err(error)) => error.context(Broken("the gRPC server failed", None)),
            Err(panic) => Broken("the gRPC server panicked", Some(panic)).into(),
        },
    }
}

/// Waits until all have ended as they should.
async fn all_done(tasks: &mut JoinSet<()>) -> Result<()> {
    while let Some(ended) = tasks.join_next().await {
        if let Err(panic) = ended {
            return Err(Broken("a part of the process panicked while it was stopping", Some(panic)).into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process whose server ends when it is closed.
    fn parts(tasks: JoinSet<()>) -> Parts {
        let (stop, signals) = (Stop::default(), Signals::new().expect("signals"));
        let closed = stop.closed.clone();
        let server = tokio::spawn(async move {
            closed.cancelled().await;
            Ok(())
        });
        Parts { tasks, server, stop, signals }
    }

    #[tokio::test]
    async fn a_worker_that_panics_ends_the_process_with_1() {
        let mut tasks = JoinSet::new();
        let parts = {
            let mut parts = parts(JoinSet::new());
            let work = parts.stop.work.clone();
            // The others hear of it, and have time to give back what they hold.
            tasks.spawn(async move { work.cancelled().await });
            tasks.spawn(async { panic!("a worker of the test") });
            parts.tasks = tasks;
            parts
        };
        let work = parts.stop.work.clone();
        let error = parts.until_stopped(Duration::ZERO, Duration::ZERO).await.expect_err("a panic");
        assert_eq!(exit_code(&error), 1, "{error:#}");
        assert!(format!("{error:#}").contains("a worker of the test"), "{error:#}");
        assert!(work.is_cancelled());
        assert_eq!(exit_code(&anyhow::anyhow!("no such file")), 2);
    }

    #[tokio::test]
    async fn a_server_that_ends_early_ends_the_process_with_1() {
        let mut parts = parts(JoinSet::new());
        parts.tasks.spawn(std::future::pending());
        parts.server = tokio::spawn(async { anyhow::bail!("the port is gone") });
        let stopped = tokio::time::timeout(
            Duration::from_secs(20),
            parts.until_stopped(Duration::ZERO, Duration::ZERO),
        );
        let error = stopped.await.expect("in time").expect_err("a failure");
        assert_eq!(exit_code(&error), 1, "{error:#}");
        assert!(format!("{error:#}").contains("the port is gone"), "{error:#}");
    }
}
