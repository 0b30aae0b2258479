//! Starts, stops and inspects the local stack.
//!
//! The supervisor does the work; this file launches it, waits for it and explains its failure.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::sys::signal::Signal;

use super::paths::{DataDir, variable};
use super::plan::{DatabasePlan, Plan};
use super::postgres::{
    ConnectionUrl, DEFAULT_MAJOR, Distribution, Psql, Search, check_versions, pinned_major,
};
use super::privileges::RunAs;
use super::process::ProcessId;
use super::state::{Extent, StackLock, StackState};
use super::status::{StackStatus, database_url};
use super::supervisor::{DEFAULT_HEALTH_INTERVAL, clear_leftovers, leftovers};
use super::{binaries, logs, premises};
use crate::error::{Hint, Hinted};
use crate::output::progress;

/// Polling interval while the stack starts. Not tuned.
const LOOK_INTERVAL: Duration = Duration::from_millis(40);

/// Time-out for stopping everything. The services and Postgres are stopped one after the other,
/// which takes up to 65 s before any of them is killed (`SERVICE_END` twice, then `POSTGRES_END`).
const DOWN_LIMIT: Duration = Duration::from_secs(75);

/// Options for starting the stack.
#[derive(Debug, Clone)]
pub struct UpOptions {
    /// Part of the stack to start.
    pub extent: Extent,
    /// Maximum time to wait until it is healthy.
    pub wait: Duration,
    /// Directory of PostgreSQL binaries, if the user chose one.
    pub pg_bin: Option<PathBuf>,
    /// Major version for a new cluster.
    pub pg_major: Option<u32>,
    /// External database; `None` starts an embedded one.
    pub database_url: Option<String>,
    /// Directory of the server programs; `None` is the directory of this program.
    pub bin_dir: Option<PathBuf>,
    /// Model store; `None` is the one in the data directory.
    pub models: Option<PathBuf>,
    /// Interval between health checks.
    pub health_interval: Duration,
    /// The `observatory` program, which is also the supervisor.
    pub program: PathBuf,
}

impl UpOptions {
    /// The defaults, with the database and models of the environment.
    ///
    /// # Errors
    /// If the path of this program cannot be determined.
    pub fn from_environment() -> anyhow::Result<Self> {
        Ok(Self {
            extent: Extent::All,
            wait: Duration::from_secs(60),
            pg_bin: None,
            pg_major: None,
            database_url: std::env::var("DATABASE_URL").ok().filter(|url| !url.is_empty()),
            bin_dir: None,
            models: variable("OBSERVATORY_MODELS"),
            health_interval: DEFAULT_HEALTH_INTERVAL,
            program: std::env::current_exe().context("cannot determine the path of this program")?,
        })
    }
}

/// Result of stopping the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DownOutcome {
    /// Nothing was running.
    Nothing,
    /// The supervisor stopped everything and exited.
    Stopped,
    /// There was no supervisor, and this many leftover processes were stopped.
    Cleared(usize),
}

/// The local stack of one data directory.
#[derive(Debug, Clone)]
pub struct Stack {
    data: DataDir,
}

impl Stack {
    /// The stack of `data`.
    pub fn new(data: DataDir) -> Self {
        Self { data }
    }

    /// Its data directory.
    pub fn data(&self) -> &DataDir {
        &self.data
    }

    /// Its current state.
    ///
    /// # Errors
    /// If the files of the data directory cannot be read.
    pub async fn status(&self) -> anyhow::Result<StackStatus> {
        StackStatus::look(&self.data).await
    }

    /// The URL of its database, including the password, once the stack has been up.
    pub fn database_url(&self) -> Option<ConnectionUrl> {
        database_url(&self.data)
    }

    /// Starts the stack if it is not running, replaces what a dead supervisor left behind, and
    /// waits until everything is healthy, a process fails repeatedly, or time is up. Callers check
    /// the status.
    ///
    /// # Errors
    /// If something needed is missing, or the supervisor fails.
    pub async fn up(&self, options: &UpOptions) -> anyhow::Result<StackStatus> {
        // Only for a database of our own: for the services `premises::check` does it.
        if options.database_url.is_none() {
            self.data.check_reach(&RunAs::for_dir(&self.data.cluster())?)?;
        }
        self.data.create()?;
        if StackLock::holder(&self.data)?.is_some() {
            let state = StackState::read(&self.data).await?;
            let extent = state.supervisor.map(|supervisor| supervisor.extent);
            // Unknown while the supervisor starts, and then it is waited for, too.
            if extent.is_none_or(|extent| extent.covers(options.extent)) {
                return self.wait_healthy(options.wait, None).await;
            }
            progress("restarting the stack to include the requested services");
            // The lock has a single holder, so a larger stack cannot be started next to this one.
            self.down().await?;
        }
        let plan = self.plan(options).await?;
        match StackState::load(&self.data) {
            Ok(state) if state.failure.is_none() => {}
            // A failure of the past would be taken for one of the new supervisor.
            Ok(state) => StackState { failure: None, ..state }.save(&self.data)?,
            Err(error) => {
                // A damaged file would make every look at the stack fail until the supervisor has
                // written its own.
                progress(format_args!("{error:#}; writing a new one"));
                StackState::default().save(&self.data)?;
            }
        }
        progress(format_args!("starting the local stack on {}", self.data.root().display()));
        let supervisor = self.launch(options, &plan)?;
        self.wait_healthy(options.wait, Some(supervisor)).await
    }

    /// Stops everything gracefully, including what a dead supervisor left behind.
    ///
    /// # Errors
    /// If a process belongs to another user or does not end.
    pub async fn down(&self) -> anyhow::Result<DownOutcome> {
        let Some(pid) = StackLock::holder(&self.data)? else {
            return self.clear().await;
        };
        let supervisor =
            ProcessId::of(pid).with_context(|| format!("cannot find the supervisor, pid {pid}"))?;
        supervisor.signal(Signal::SIGTERM).hint("run this as the user who started the stack")?;
        if !supervisor.exits_within(DOWN_LIMIT).await {
            progress(format_args!("the supervisor, pid {pid}, does not stop; killing it"));
            supervisor.signal(Signal::SIGKILL)?;
            anyhow::ensure!(supervisor.exits_within(DOWN_LIMIT).await, "process {pid} survived SIGKILL");
        }
        // A supervisor that was killed leaves its processes behind.
        self.clear().await?;
        Ok(DownOutcome::Stopped)
    }

    /// Stops processes without a supervisor.
    async fn clear(&self) -> anyhow::Result<DownOutcome> {
        let known = StackState::load(&self.data);
        let state = known.as_ref().ok().cloned().unwrap_or_default();
        if leftovers(&self.data, &state).is_empty() && state.supervisor.is_none() {
            return Ok(DownOutcome::Nothing);
        }
        // So that no supervisor starts meanwhile.
        let _lock = StackLock::acquire(&self.data)?;
        let count = clear_leftovers(&self.data, &state).await?;
        let state = StackState { supervisor: None, processes: Default::default(), ..state };
        state.save(&self.data)?;
        Ok(DownOutcome::Cleared(count))
    }

    /// Finds everything that is needed, so that a missing part is reported here and not in a log.
    async fn plan(&self, options: &UpOptions) -> anyhow::Result<Plan> {
        let bin_dir = match &options.bin_dir {
            Some(dir) => dir.clone(),
            None => binaries::bin_dir()?,
        };
        if options.extent == Extent::All {
            for name in [binaries::INFERENCE, binaries::PIPELINE] {
                binaries::find(&bin_dir, name)?;
            }
        }
        let database = match &options.database_url {
            Some(url) => DatabasePlan::External(self.check_external(url).await?),
            None => DatabasePlan::Embedded(self.distribution(options)?),
        };
        let models = options.models.clone().unwrap_or_else(|| self.data.models());
        let plan = Plan {
            data: self.data.clone(),
            extent: options.extent,
            database,
            bin_dir,
            models,
            health_interval: options.health_interval,
            run_as: RunAs::for_dir(&self.data.cluster())?,
        };
        if plan.extent == Extent::All {
            premises::check(&plan)?;
        }
        Ok(plan)
    }

    async fn check_external(&self, url: &str) -> anyhow::Result<ConnectionUrl> {
        let url = ConnectionUrl::parse(url).context("invalid DATABASE_URL")?;
        match Psql::find(None) {
            Some(psql) => {
                let versions = psql
                    .versions(&url)
                    .await
                    .context("the database at DATABASE_URL does not respond")
                    .hint("unset DATABASE_URL to use an embedded database")?;
                check_versions(&versions)?;
            }
            None => progress("psql is not on the PATH; only the migration checks the database version"),
        }
        Ok(url)
    }

    fn distribution(&self, options: &UpOptions) -> anyhow::Result<Distribution> {
        let pinned = pinned_major(&self.data.cluster())?;
        if let (Some(pinned), Some(wanted)) = (pinned, options.pg_major)
            && pinned != wanted
        {
            return Err(Hinted::error(
                format!(
                    "the database in {} was created by PostgreSQL {pinned}, not {wanted}",
                    self.data.root().display()
                ),
                "omit --pg-major, or choose another --data-dir",
            ));
        }
        let major = pinned.or(options.pg_major).unwrap_or(DEFAULT_MAJOR);
        Distribution::find(&Search::new(&self.data, options.pg_bin.clone(), major))
            .with_context(|| format!("cannot find PostgreSQL {major}"))
    }

    fn launch(&self, options: &UpOptions, plan: &Plan) -> anyhow::Result<Child> {
        let log = logs::open(&self.data.log("supervisor"))?;
        let errors = log.try_clone().context("cannot open the log file twice")?;
        let mut command = Command::new(&options.program);
        command.arg("supervise").arg("--data-dir").arg(self.data.root());
        command.arg("--bin-dir").arg(&plan.bin_dir).arg("--models-dir").arg(&plan.models);
        command.arg("--health-seconds").arg(plan.health_interval.as_secs().to_string());
        if plan.extent == Extent::Postgres {
            command.args(["--only", "postgres"]);
        }
        match &plan.database {
            // By the environment: the URL may hold a password.
            DatabasePlan::External(url) => command.env("DATABASE_URL", url.expose()),
            DatabasePlan::Embedded(distribution) => {
                command.env_remove("DATABASE_URL").arg("--pg-bin").arg(&distribution.bin)
            }
        };
        // The root directory, so that the supervisor keeps no file system from being unmounted.
        command.stdin(Stdio::null()).stdout(log).stderr(errors).current_dir("/");
        command.spawn().with_context(|| format!("cannot run {}", options.program.display()))
    }

    async fn wait_healthy(
        &self,
        limit: Duration,
        mut supervisor: Option<Child>,
    ) -> anyhow::Result<StackStatus> {
        let deadline = Instant::now() + limit;
        let mut up = BTreeSet::new();
        loop {
            // Before the state, which then includes the last words of a supervisor that has ended.
            let ended = match &mut supervisor {
                Some(child) => child.try_wait().context("cannot wait for the supervisor")?,
                None => None,
            };
            let status = self.status().await?;
            for process in status.processes.iter().filter(|process| process.healthy) {
                // A process that was up before this call is no news.
                if up.insert(process.name.clone()) && supervisor.is_some() {
                    progress(format_args!("{} is up", process.name));
                }
            }
            // A process that fails repeatedly will not recover by waiting longer.
            if status.healthy || !status.failing().is_empty() {
                return Ok(status);
            }
            // One that lost a race for the lock ends, while the stack of the other comes up.
            if ended.is_some() && !status.is_running() {
                return Err(self.startup_error(&status));
            }
            if Instant::now() >= deadline {
                return Ok(status);
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    fn startup_error(&self, status: &StackStatus) -> anyhow::Error {
        let log = self.data.log("supervisor");
        let said = logs::read_since(&log, 0);
        let last = logs::last_error_line(&said);
        let why = status.problem.as_deref().unwrap_or(last.strip_prefix("error: ").unwrap_or(last));
        Hinted::error(format!("the supervisor gave up: {why}"), format!("see {}", log.display()))
    }
}
