//! The inference server and the pipeline services as units of the supervisor.
//!
//! Hides arguments, environment, migration and announcement; restarts the pipeline when an address
//! it was given changes.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::sys::signal::Signal;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use super::hang::HangPolicy;
use super::keep::{Live, Unit};
use super::leftovers::STACK_ENV;
use super::login::Login;
use crate::local::health::{self, Health};
use crate::local::paths::{DataDir, secret};
use crate::local::plan::{DatabasePlan, Plan};
use crate::local::postgres::ConnectionUrl;
use crate::local::privileges::RunAs;
use crate::local::process::{KILL_NOW, ProcessId, Running, SERVICE_END, describe_exit};
use crate::local::state::SharedState;
use crate::local::{binaries, logs, ports};

/// Time-out from start to announcement and first health response. Loading models does not count,
/// since the servers announce themselves first. Not tuned.
const START_LIMIT: Duration = Duration::from_secs(120);

/// Polling interval while a service starts. Not tuned.
const START_INTERVAL: Duration = Duration::from_millis(30);

/// Time-out for a migration. Not tuned: it may build indexes over a large database.
const MIGRATION_LIMIT: Duration = Duration::from_secs(1800);

/// TLS variables of servers and clients, which are removed because the local stack does not use
/// TLS. Variables for tokens and clients files are passed on.
const TLS_VARIABLES: [&str; 9] = [
    "OBSERVATORY_TLS_CERT",
    "OBSERVATORY_TLS_KEY",
    "OBSERVATORY_TLS_CLIENT_CA",
    "OBSERVATORY_INFERENCE_TLS_CERT",
    "OBSERVATORY_INFERENCE_TLS_KEY",
    "OBSERVATORY_INFERENCE_TLS_CLIENT_CA",
    "OBSERVATORY_INFERENCE_CA",
    "OBSERVATORY_INFERENCE_CERT",
    "OBSERVATORY_INFERENCE_KEY",
];

/// Addresses that the pipeline services depend on; they are restarted if either changes.
pub(super) struct Dependencies {
    /// URL of the database, once it is up.
    pub(super) database: watch::Receiver<Option<ConnectionUrl>>,
    /// Address of the inference server, once it is chosen.
    pub(super) inference: watch::Receiver<Option<SocketAddr>>,
}

/// Differences between the two servers.
enum Kind {
    Inference { models: PathBuf, address: watch::Sender<Option<SocketAddr>> },
    Pipeline { dependencies: Dependencies, login: Option<Login>, migrated: Option<Box<Migrated>> },
}

/// A migrated database.
#[derive(Clone)]
struct Migrated {
    /// URL for its owner.
    owner: ConnectionUrl,
    /// URL for the running pipeline.
    run: ConnectionUrl,
}

/// A server program that announces its addresses in a file.
pub(super) struct Service {
    name: &'static str,
    program: PathBuf,
    data: DataDir,
    shared: SharedState,
    run_as: RunAs,
    kind: Kind,
    hang_policy: HangPolicy,
}

/// Content of an announce file.
#[derive(Debug, Deserialize)]
struct Announcement {
    grpc: SocketAddr,
    #[serde(default)]
    metrics: Option<SocketAddr>,
    pid: i32,
}

/// A running server.
pub(super) struct Server {
    guard: ChildGuard,
    address: SocketAddr,
    metrics: Option<SocketAddr>,
}

/// A child process that is killed on drop.
struct ChildGuard {
    running: Running,
    /// Size of its log before the start.
    log_before: u64,
}

impl Drop for ChildGuard {
    fn drop(&mut self) {
        if matches!(self.running.exited(), Ok(None)) {
            let _ = self.running.id().signal(Signal::SIGKILL);
        }
    }
}

impl Service {
    /// The inference server, which publishes its address to `address` before it is ready.
    pub(super) fn inference(
        plan: &Plan,
        shared: &SharedState,
        address: watch::Sender<Option<SocketAddr>>,
    ) -> anyhow::Result<Self> {
        let kind = Kind::Inference { models: plan.models.clone(), address };
        Self::new(binaries::INFERENCE, plan, shared, kind)
    }

    /// All pipeline services in one process, after the migration. An external database is used with
    /// the login in its URL.
    pub(super) fn pipeline(
        plan: &Plan,
        shared: &SharedState,
        dependencies: Dependencies,
    ) -> anyhow::Result<Self> {
        let login = match &plan.database {
            DatabasePlan::Embedded(distribution) => Some(Login::new(&plan.data, distribution)),
            DatabasePlan::External(_) => None,
        };
        Self::new(binaries::PIPELINE, plan, shared, Kind::Pipeline { dependencies, login, migrated: None })
    }

    fn new(name: &'static str, plan: &Plan, shared: &SharedState, kind: Kind) -> anyhow::Result<Self> {
        let program = binaries::find(&plan.bin_dir, name)?;
        let hang_policy = HangPolicy::of_service(plan.health_interval);
        let (data, run_as) = (plan.data.clone(), plan.run_as.clone());
        Ok(Self { name, program, data, shared: shared.clone(), run_as, kind, hang_policy })
    }

    /// A command of this program, marked as part of the stack and logging to `log`.
    fn command(&self, log: &str) -> anyhow::Result<Command> {
        let file = logs::open(&self.data.log(log))?;
        let errors = file.try_clone().context("cannot open the log file twice")?;
        let mut command = Command::new(&self.program);
        // Everything else of the environment is passed on: users configure the services by it.
        command.env(STACK_ENV, self.data.root()).env_remove("DATABASE_URL").current_dir("/");
        TLS_VARIABLES.iter().for_each(|name| {
            command.env_remove(name);
        });
        command.stdin(Stdio::null()).stdout(file).stderr(errors);
        self.run_as.apply(&mut command);
        Ok(command)
    }

    /// Prepares arguments and environment of the server, once its dependencies are known.
    async fn prepare(&mut self, listen: SocketAddr) -> anyhow::Result<Command> {
        let mut command = self.command(self.name)?;
        // The server gets only the digest; the token stays in a file that its owner alone can read.
        let digest = hex::encode(Sha256::digest(secret(&self.data.token(self.name))?));
        match &mut self.kind {
            Kind::Inference { models, address } => {
                // Only a change is sent, because the pipeline restarts at each.
                address.send_if_modified(|known| known.replace(listen) != Some(listen));
                command.arg("--models-dir").arg(models);
                command.env("OBSERVATORY_INFERENCE_ADMIN_TOKEN_SHA256", digest);
                // Any free port, since a second stack on the machine would need the same default
                // port.
                if std::env::var_os("OBSERVATORY_INFERENCE_METRICS_LISTEN").is_none() {
                    command.env("OBSERVATORY_INFERENCE_METRICS_LISTEN", "127.0.0.1:0");
                }
            }
            Kind::Pipeline { dependencies, .. } => {
                let url = known(&mut dependencies.database).await?;
                let inference = known(&mut dependencies.inference).await?;
                let migrated = self.migrate(&url).await?;
                command.arg("all").env("DATABASE_URL", migrated.run.expose());
                command.env("OBSERVATORY_INFERENCE", format!("http://{inference}"));
                command.env("OBSERVATORY_ADMIN_TOKEN_SHA256", digest);
                let config = self.data.config();
                if std::env::var_os("OBSERVATORY_CONFIG").is_none() && config.exists() {
                    command.env("OBSERVATORY_CONFIG", config);
                }
                if std::env::var_os("OBSERVATORY_REPORTS").is_none() {
                    command.env("OBSERVATORY_REPORTS", self.data.reports());
                }
                if std::env::var_os("OBSERVATORY_CACHE").is_none() {
                    command.env("OBSERVATORY_CACHE", self.data.embedding_cache());
                }
            }
        }
        command.arg("--listen").arg(listen.to_string());
        command.arg("--announce-file").arg(self.data.announce(self.name));
        Ok(command)
    }

    /// Migrates the database as its owner, once per database.
    async fn migrate(&mut self, owner: &ConnectionUrl) -> anyhow::Result<Migrated> {
        if let Kind::Pipeline { migrated: Some(migrated), .. } = &self.kind
            && migrated.owner == *owner
        {
            return Ok(migrated.as_ref().clone());
        }
        self.run_migration(owner).await?;
        let mut done = Migrated { owner: owner.clone(), run: owner.clone() };
        if let Kind::Pipeline { login, migrated, .. } = &mut self.kind {
            if let Some(login) = login {
                done.run = login.establish(owner).await?;
            }
            *migrated = Some(Box::new(done.clone()));
        }
        Ok(done)
    }

    async fn run_migration(&self, owner: &ConnectionUrl) -> anyhow::Result<()> {
        let mut command = self.command("migrate")?;
        command.arg("migrate").env("DATABASE_URL", owner.expose());
        let log = self.data.log("migrate");
        // Before the start, so that an earlier failure in the log is not taken for the cause.
        let before = logs::size(&log);
        let child = command.spawn().with_context(|| format!("cannot run {}", self.program.display()))?;
        let mut guard = ChildGuard { running: Running::new(child), log_before: before };
        // Each migration is a transaction: one that the guard kills is not half done.
        let status = tokio::time::timeout(MIGRATION_LIMIT, guard.running.wait())
            .await
            .context("the migration did not finish within half an hour")??;
        if !status.success() {
            let said = logs::read_since(&log, guard.log_before);
            let (end, said) = (describe_exit(status), logs::last_error_line(&said));
            anyhow::bail!("the migration failed ({end}): {said} (see {})", log.display());
        }
        tracing::info!("migrated the database");
        Ok(())
    }

    /// Waits for the announcement and the first health response of the process in `guard`.
    async fn wait_ready(&self, guard: &mut ChildGuard) -> anyhow::Result<Announcement> {
        let log = self.data.log(self.name);
        let deadline = Instant::now() + START_LIMIT;
        let mut waits_for = "no announce file".to_owned();
        loop {
            if let Some(status) = guard.running.exited()? {
                let said = logs::read_since(&log, guard.log_before);
                let said = self.run_as.explain_permissions(logs::last_error_line(&said));
                anyhow::bail!("{} during startup: {said}", describe_exit(status));
            }
            if let Some(announcement) = self.announcement(guard.running.id().pid) {
                match health::check(announcement.grpc, Duration::from_secs(2)).await {
                    // Not ready is up: models may still be loading, a dependency may be down.
                    Health::Serving | Health::NotReady(_) => return Ok(announcement),
                    Health::Silent(why) => waits_for = why,
                }
            }
            anyhow::ensure!(
                Instant::now() < deadline,
                "not ready after {} s: {waits_for}",
                START_LIMIT.as_secs()
            );
            tokio::time::sleep(START_INTERVAL).await;
        }
    }

    fn announcement(&self, pid: i32) -> Option<Announcement> {
        let text = fs::read(self.data.announce(self.name)).ok()?;
        // By pid: the file may be that of a predecessor.
        serde_json::from_slice(&text).ok().filter(|announcement: &Announcement| announcement.pid == pid)
    }
}

impl Unit for Service {
    type Live = Server;

    fn name(&self) -> &'static str {
        self.name
    }

    async fn start(&mut self) -> anyhow::Result<Server> {
        let port = ports::choose(self.shared.port(self.name))?;
        // Recorded before the start: after a failed one, the next attempt and the peers keep the
        // port.
        self.shared.update(|state| {
            state.ports.insert(self.name.to_owned(), port);
        });
        let mut command = self.prepare(ports::loopback(port)).await?;
        // An announcement of the predecessor could be taken for that of the new process.
        match fs::remove_file(self.data.announce(self.name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).context("cannot remove the old announce file");
            }
            _ => {}
        }
        let before = logs::size(&self.data.log(self.name));
        let child = command.spawn().with_context(|| format!("cannot run {}", self.program.display()))?;
        let mut guard = ChildGuard { running: Running::new(child), log_before: before };
        // Before it is ready, so that it is found if the supervisor dies meanwhile.
        self.shared.update_process(self.name, |process| process.process = Some(guard.running.id().clone()));
        let announcement = self.wait_ready(&mut guard).await?;
        Ok(Server { guard, address: announcement.grpc, metrics: announcement.metrics })
    }

    async fn ended(&mut self, live: &mut Server) -> anyhow::Result<String> {
        let Kind::Pipeline { dependencies, .. } = &mut self.kind else {
            return Ok(describe_exit(live.guard.running.wait().await?));
        };
        let moved = tokio::select! {
            ended = live.guard.running.wait() => return Ok(describe_exit(ended?)),
            Ok(()) = dependencies.database.changed() => "the database moved",
            Ok(()) = dependencies.inference.changed() => "the inference server moved",
        };
        // The address was passed as an argument, so only a restart changes it.
        live.guard.running.end(&SERVICE_END).await?;
        Ok(moved.to_owned())
    }

    fn hang_policy(&self) -> HangPolicy {
        self.hang_policy
    }

    async fn answers(address: SocketAddr, limit: Duration) -> Result<(), String> {
        match health::check(address, limit).await {
            Health::Serving | Health::NotReady(_) => Ok(()),
            Health::Silent(why) => Err(why),
        }
    }

    async fn kill(&mut self, mut live: Server) -> anyhow::Result<()> {
        live.guard.running.end(&KILL_NOW).await?;
        Ok(())
    }

    async fn stop(&mut self, mut live: Server) -> anyhow::Result<()> {
        live.guard.running.end(&SERVICE_END).await?;
        Ok(())
    }
}

impl Live for Server {
    fn process(&self) -> ProcessId {
        self.guard.running.id().clone()
    }

    fn address(&self) -> SocketAddr {
        self.address
    }

    fn metrics(&self) -> Option<SocketAddr> {
        self.metrics
    }
}

/// Waits until the channel has a value.
async fn known<T: Clone>(channel: &mut watch::Receiver<Option<T>>) -> anyhow::Result<T> {
    let value = channel.wait_for(Option::is_some).await.context("the supervisor is shutting down")?;
    value.clone().context("the supervisor is shutting down")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announcements() {
        let check = |text: &str, expected: Option<(&str, Option<&str>, i32)>| {
            let read = serde_json::from_str::<Announcement>(text).ok();
            let read =
                read.map(|it| (it.grpc.to_string(), it.metrics.map(|metrics| metrics.to_string()), it.pid));
            let expected =
                expected.map(|(grpc, metrics, pid)| (grpc.to_owned(), metrics.map(str::to_owned), pid));
            assert_eq!(read, expected, "{text}");
        };
        let both = r#"{"grpc":"127.0.0.1:5","metrics":"127.0.0.1:6","pid":7}"#;
        check(both, Some(("127.0.0.1:5", Some("127.0.0.1:6"), 7)));
        check(r#"{"grpc":"127.0.0.1:5","metrics":null,"pid":7}"#, Some(("127.0.0.1:5", None, 7)));
        check(r#"{"grpc":"127.0.0.1:5","pid":7,"new":1}"#, Some(("127.0.0.1:5", None, 7)));
        check(r#"{"grpc":"127.0.0.1:5"}"#, None);
        check("", None);
    }
}
