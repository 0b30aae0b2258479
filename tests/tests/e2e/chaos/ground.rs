//! Trials: a database with the same advertisements, processes, and what an undisturbed run makes of
//! them.

use std::{
    fs,
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use observatory_pipeline::testing::{
    domain::run::{
        RunState,
        StageName::{self, Embed, Enhance, Extract},
    },
    orchestrator::Orchestrator,
    store::{
        self, PgPool, SqlResult,
        runs::{self, Run, RunOptions},
    },
};
use uuid::Uuid;

use crate::{
    credentials::probe,
    site::{Site, eventually, program},
};

/// Advertisements of a trial: enough for every stage to be caught in the middle.
const ADS: usize = 60;
/// Of every process, in seconds.
const LEASE: Duration = Duration::from_secs(2);
/// Longest a run may take.
const LIMIT: Duration = Duration::from_secs(90);

/// Stages of most trials; the others read what these write.
pub(super) const STAGES: [StageName; 3] = [Extract, Enhance, Embed];

/// Rows without ids and times.
const ROWS: [&str; 6] = [
    "select to_jsonb(r) - 'job_id' - 'scraped_at' from raw_jobs r",
    "select to_jsonb(s) - 'sighting_id' - 'job_id' - 'first_seen' - 'last_seen' from sighting s",
    "select to_jsonb(x) - 'extraction_id' - 'job_id' - 'extracted_at' || jsonb_build_object('text', p.content_hash)
     from extracted_skills x join posting p using (job_id)",
    "select to_jsonb(e) - 'enhancement_id' - 'job_id' - 'enhanced_at' - 'duplicate_of_id' - 'skill_id'
         - 'extraction_id' || jsonb_build_object('text', p.content_hash)
     from enhanced_skills e join posting p using (job_id)",
    "select jsonb_build_object('text', p.content_hash, 'stage', s.stage, 'version', s.version, 'rows', s.rows)
     from posting_stage s join posting p using (job_id)",
    "select to_jsonb(skill_text) from skill_embeddings",
];

/// Module blocks of every process: small batches, so that a fault meets several of them.
const MODULES: &str = "[modules.extractor]\nbatch_size = 8\n[modules.enhancer]\nbatch_size = 8\n[modules.embedder]\n\
    batch_size = 40\n[modules.reporter.settings]\nformats = [\"csv\"]\n";

/// What trials share.
pub(super) struct Ground {
    pub(super) site: Site,
    /// Everything of the database's URL before its name.
    server: String,
    count: AtomicU32,
    /// Rows of an undisturbed run.
    expected: Vec<Vec<String>>,
}

impl Ground {
    /// A stack, a database with advertisements, and what an undisturbed run makes of them.
    pub(super) async fn new() -> Self {
        let mut ground = Self::bare().await;
        let calm = ground.trial().await;
        let process = calm.start("all");
        let run_id = calm.run(&STAGES).await;
        let run = calm.finish(run_id).await;
        assert_eq!(run.state, RunState::Succeeded, "{:?}", run.problems);
        drop(process);
        ground.expected = calm.rows().await;
        assert!(ground.expected.iter().all(|rows| !rows.is_empty()));
        ground
    }

    /// The same without the run, for trials of what comes before one.
    pub(super) async fn bare() -> Self {
        let site = Site::with("", &["tiny-e5"]);
        let url = fs::read_to_string(site.data().join("secrets/database-url")).unwrap();
        let (server, _) = url.trim().rsplit_once('/').unwrap();
        let ground = Self { server: server.to_owned(), site, count: AtomicU32::new(0), expected: Vec::new() };
        ground.statement("create database base").await;
        ground.migrate("base");
        // The pipeline works as a member of the role for it, which owns nothing.
        ground.statement("create role pipeline login password 'pipeline' in role obs_writer").await;
        let base = ground.open("base", MODULES);
        let process = base.start("orchestrator");
        let ads = ground.site.ads(ADS);
        ground.import(&process, &ads).ended(0);
        drop((process, base));
        ground
    }

    fn migrate(&self, name: &str) {
        let mut command = Command::new(program("pipeline-services"));
        let status =
            command.arg("migrate").env("DATABASE_URL", self.url(name)).stdout(Stdio::null()).status();
        assert!(status.unwrap().success());
    }

    /// Runs `postings import` against a process.
    pub(super) fn import(&self, process: &Process, file: &str) -> crate::site::Said {
        let mut command = self.site.command(&["postings", "import", file, "--json"]);
        command.env("OBSERVATORY_ENDPOINT", process.endpoint());
        command.output().unwrap().into()
    }

    fn url(&self, name: &str) -> String {
        format!("{}/{name}", self.server)
    }

    /// The database server's address.
    pub(super) fn database(&self) -> SocketAddr {
        let (_, address) = self.server.rsplit_once('@').unwrap();
        address.parse().unwrap()
    }

    /// The inference server's address.
    pub(super) fn inference(&self) -> SocketAddr {
        let status = self.site.run(&["status", "--json"]).json();
        let processes = status["processes"].as_array().unwrap().clone();
        let found = processes.iter().find(|process| process["name"] == "inference-server").unwrap();
        found["address"].as_str().unwrap().parse().unwrap()
    }

    async fn statement(&self, sql: &str) {
        let pool = store::open(&self.url("observatory"), 1, LEASE).unwrap();
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(&pool).await.unwrap();
    }

    /// A database of its own with the same advertisements.
    pub(super) async fn trial(&self) -> Trial {
        self.trial_with(MODULES).await
    }

    /// The same with further module blocks, in which `MODULES` are not repeated.
    pub(super) async fn trial_with(&self, modules: &str) -> Trial {
        let name = format!("trial_{}", self.count.fetch_add(1, Ordering::Relaxed));
        self.statement(&format!("create database {name} template base")).await;
        self.open(&name, modules)
    }

    fn open(&self, name: &str, modules: &str) -> Trial {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("observatory.toml"), modules).unwrap();
        Trial {
            name: name.to_owned(),
            pool: store::open(&self.url(name), 8, LEASE).unwrap(),
            url: self
                .url(name)
                .replace(self.server.rsplit_once('@').unwrap().0, "postgres://pipeline:pipeline"),
            inference: format!("http://{}", self.inference()),
            dir,
            started: AtomicU32::new(0),
        }
    }

    /// Fails unless a trial has the rows of an undisturbed run.
    #[track_caller]
    pub(super) fn compare(&self, what: &str, found: &[Vec<String>]) {
        for (expected, found) in self.expected.iter().zip(found) {
            let lost: Vec<_> = expected.iter().filter(|row| !found.contains(row)).take(2).collect();
            assert!(lost.is_empty(), "{what}: lost {lost:#?}");
            assert_eq!(found.len(), expected.len(), "{what}: rows");
        }
    }

    /// Runs the stages with `fault` in their middle and compares.
    pub(super) async fn undisturbed_by(&self, what: &str, trial: &Trial, run_id: Uuid) {
        let run = trial.finish(run_id).await;
        assert_eq!(run.state, RunState::Succeeded, "{what}: {:?}", run.problems);
        self.compare(what, &trial.rows().await);
    }
}

/// A database and the processes that work on it.
pub(super) struct Trial {
    pub(super) name: String,
    pub(super) pool: PgPool,
    /// Where processes find the database and the inference server; a proxy may stand before either.
    pub(super) url: String,
    pub(super) inference: String,
    dir: tempfile::TempDir,
    started: AtomicU32,
}

impl Trial {
    /// A process of the pipeline.
    pub(super) fn start(&self, role: &str) -> Process {
        self.start_with(role, &[])
    }

    /// The same with flags.
    pub(super) fn start_with(&self, role: &str, flags: &[&str]) -> Process {
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let announced = self.dir.path().join(format!("{role}-{number}.json"));
        let log = fs::File::create(self.dir.path().join(format!("{role}-{number}.log"))).unwrap();
        let mut command = Command::new(program("pipeline-services"));
        command
            .args([role, "--listen", "127.0.0.1:0", "--lease-seconds", "2", "--backoff-seconds", "0.2"])
            .args(flags)
            .arg("--announce-file")
            .arg(&announced)
            .arg("--config")
            .arg(self.dir.path().join("observatory.toml"))
            .env("DATABASE_URL", &self.url)
            // Not as a flag, which none of `flags` could change.
            .env("OBSERVATORY_DRAIN_SECONDS", "2")
            .env("OBSERVATORY_INFERENCE", &self.inference)
            .env("OBSERVATORY_REPORTS", self.reports())
            .env_remove("OBSERVATORY_CACHE")
            .stdout(Stdio::null())
            .stderr(log);
        let child = command.spawn().unwrap();
        let mut process = Process { child, announced };
        eventually("the start of a process", || process.is_ready().then_some(()));
        process
    }

    /// Where its processes write reports.
    pub(super) fn reports(&self) -> std::path::PathBuf {
        self.dir.path().join("reports")
    }

    /// Starts a run.
    pub(super) async fn run(&self, stages: &[StageName]) -> Uuid {
        let orchestrator = Orchestrator::new(self.pool.clone(), StageName::ALL.to_vec(), 10);
        let options = RunOptions { stages: stages.to_vec(), ..RunOptions::default() };
        orchestrator.start(options).await.unwrap()
    }

    /// Waits until `done` tasks of a stage are done.
    pub(super) async fn until(&self, stage: StageName, done: i64) {
        let query =
            "select count(*) from task where stage = $1 and state = 'done' and message_type = 'process'";
        self.wait_for("the middle of a stage", async || {
            let count: i64 = sqlx::query_scalar(query).bind(stage.name()).fetch_one(&self.pool).await?;
            Ok((count >= done).then_some(()))
        })
        .await;
    }

    /// Waits until a run is over.
    pub(super) async fn finish(&self, run_id: Uuid) -> Run {
        self.wait_for("the end of a run", async || {
            let run = runs::get(&mut *self.pool.acquire().await?, run_id).await?;
            Ok(run.filter(|run| run.state != RunState::Running))
        })
        .await
    }

    /// Looks until something is there; a database that is away is looked for again.
    pub(super) async fn wait_for<T>(&self, what: &str, look: impl AsyncFn() -> SqlResult<Option<T>>) -> T {
        let deadline = Instant::now() + LIMIT;
        let mut last = None;
        while Instant::now() < deadline {
            match look().await {
                Ok(Some(found)) => return found,
                Ok(None) => {}
                Err(error) => last = Some(error),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let progress = sqlx::query_as::<_, (String, String, i64)>(
            "select stage, concat_ws(' ', state, last_error), count(*) from task group by 1, 2 order by 1, 2",
        );
        let progress = progress.fetch_all(&self.pool).await;
        panic!("{what} did not come within {LIMIT:?}: {last:?}; {progress:#?}; {}", self.logs());
    }

    /// The last lines that the processes wrote.
    fn logs(&self) -> String {
        let mut text = String::new();
        for entry in fs::read_dir(self.dir.path()).into_iter().flatten().flatten() {
            if entry.path().extension().is_some_and(|end| end == "log") {
                let log = fs::read_to_string(entry.path()).unwrap_or_default();
                let lines: Vec<&str> = log.lines().rev().take(5).collect();
                text.push_str(&format!("\n{}: {lines:#?}", entry.path().display()));
            }
        }
        text
    }

    /// Domain rows in one order.
    pub(super) async fn rows(&self) -> Vec<Vec<String>> {
        let mut found = Vec::new();
        for query in ROWS {
            let query = format!("select row::text from ({query}) as rows (row) order by 1");
            found.push(sqlx::query_scalar(sqlx::AssertSqlSafe(query)).fetch_all(&self.pool).await.unwrap());
        }
        found
    }

    /// Runs statements.
    pub(super) async fn execute(&self, sql: &str) {
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(&self.pool).await.unwrap();
    }
}

/// A process, killed when it is dropped.
pub(super) struct Process {
    child: Child,
    announced: std::path::PathBuf,
}

impl Process {
    fn is_ready(&mut self) -> bool {
        assert!(self.child.try_wait().unwrap().is_none(), "a process ended at its start");
        self.announced.exists()
    }

    /// Its gRPC address.
    pub(super) fn endpoint(&self) -> String {
        format!("http://{}", self.address("grpc"))
    }

    /// The status of a path on the port of its metrics.
    pub(super) fn probe(&self, path: &str) -> u16 {
        probe(&self.address("metrics"), path)
    }

    fn address(&self, port: &str) -> String {
        let text = fs::read_to_string(&self.announced).unwrap();
        let said: serde_json::Value = serde_json::from_str(&text).unwrap();
        said[port].as_str().unwrap().to_owned()
    }

    /// Sends a signal, such as `-STOP`.
    pub(super) fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// kill -9.
    pub(super) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its own end and returns how long that took; fails unless it ends well.
    pub(super) fn ended(mut self) -> Duration {
        let began = Instant::now();
        let status = eventually("the end of a process", || self.child.try_wait().unwrap());
        assert!(status.success(), "{status}");
        began.elapsed()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal to any process.
pub(super) fn signal(pid: u32, name: &str) {
    assert!(Command::new("kill").args([name, &pid.to_string()]).status().unwrap().success());
}

/// How many kill points are drawn.
pub(super) fn kill_points() -> u32 {
    std::env::var("OBSERVATORY_CHAOS").ok().and_then(|count| count.parse().ok()).unwrap_or(10)
}

pub(super) async fn pause(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}
