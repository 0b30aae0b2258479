//! A data directory for each test, and the program that works on it.
//!
//! The stack ends with the test, and no process may be left.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use observatory_cli::testing::{
    Cluster, ClusterConfig, DataDir, Distribution, Psql, Search, Stack, StackLock, StackState,
};
use serde_json::Value;

/// Longest wait for something that happens by itself.
const PATIENCE: Duration = Duration::from_secs(30);

/// Directory of files that are slow to create, shared by all tests of this user. Unlike the target
/// directory, the unprivileged user that Postgres runs as can reach it.
fn shared_dir() -> PathBuf {
    std::env::temp_dir().join(format!("observatory-test-postgres-{}", geteuid()))
}

/// The binaries of a major version, unpacked once for all tests.
pub(crate) fn distribution(major: u32) -> Distribution {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let wheels =
        std::env::var_os("OBSERVATORY_WHEELS").map_or_else(|| root.join("data/wheels"), PathBuf::from);
    let search = Search {
        pg_bin: None,
        dist: shared_dir(),
        wheels: vec![wheels],
        fetch_into: None,
        system: false,
        major,
    };
    Distribution::find(&search)
        .unwrap_or_else(|error| panic!("no PostgreSQL {major} for the tests: {error:#}; run `make setup`"))
}

/// A temporary directory that others may pass through, under a short path.
pub(crate) fn open_dir() -> tempfile::TempDir {
    let dir = tempfile::Builder::new().prefix("obs-").tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

/// A data directory with a cluster that was never started, made once for each build of the
/// program, for tests that are not about making one.
fn template() -> PathBuf {
    let built = fs::metadata(env!("CARGO_BIN_EXE_observatory")).unwrap().modified().unwrap();
    let built = built.duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    let template = shared_dir().join(format!("template-{built}"));
    if !template.exists() {
        let distribution = distribution(18);
        let earlier = fs::read_dir(shared_dir()).unwrap().flatten();
        earlier
            .filter(|entry| entry.file_name().to_string_lossy().starts_with("template-"))
            .for_each(|entry| drop(fs::remove_dir_all(entry.path())));
        let making = tempfile::Builder::new().prefix("making-").tempdir_in(shared_dir()).unwrap();
        fs::set_permissions(making.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let data = DataDir::new(making.path()).unwrap();
        data.create().unwrap();
        Cluster::prepare(ClusterConfig::new(distribution, &data).unwrap()).unwrap();
        // Another test may have been faster.
        if fs::rename(making.path(), &template).is_ok() {
            let _ = making.keep();
        }
    }
    template
}

/// Exit code and output of a command.
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Said {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}{}", self.stdout, self.stderr))
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// A data directory whose stack ends with the test.
pub(crate) struct Site {
    pub(crate) data: DataDir,
    dir: tempfile::TempDir,
    major: u32,
}

impl Site {
    /// One with a cluster that was never started.
    pub(crate) fn new() -> Self {
        let site = Self::empty(18, "data");
        let copied = Command::new("cp").arg("-a").arg(template()).arg(site.data.root()).status();
        assert!(copied.unwrap().success());
        site
    }

    /// One that does not exist yet, called `name`, with binaries of a major version.
    pub(crate) fn empty(major: u32, name: &str) -> Self {
        let dir = open_dir();
        let data = DataDir::new(dir.path().join(name)).unwrap();
        Self { data, dir, major }
    }

    /// Directory of the stand-ins for the server programs.
    pub(crate) fn bin_dir(&self) -> PathBuf {
        self.dir.path().join("bin")
    }

    /// Puts the stand-ins where the servers would lie.
    pub(crate) fn install_stand_ins(&self) {
        let program = Path::new(env!("CARGO_BIN_EXE_observatory"));
        let stand_in = program.parent().unwrap().join("examples/stand_in");
        assert!(stand_in.exists(), "{} is not built; run the tests of the whole package", stand_in.display());
        fs::create_dir(self.bin_dir()).unwrap();
        for name in ["inference-server", "pipeline-services"] {
            std::os::unix::fs::symlink(&stand_in, self.bin_dir().join(name)).unwrap();
        }
    }

    /// The program with these arguments, cut off from the environment that the tests run in.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_observatory"));
        // Without fetched wheels no encoder is converted; PostgreSQL is named by itself.
        for name in [
            "DATABASE_URL",
            "OBSERVATORY_ENDPOINT",
            "OBSERVATORY_INFERENCE",
            "OBSERVATORY_MODELS",
            "OBSERVATORY_WHEELS",
        ] {
            command.env_remove(name);
        }
        command.env("OBSERVATORY_DATA", self.data.root()).env("OBSERVATORY_BIN_DIR", self.bin_dir());
        command.env("OBSERVATORY_PG_BIN", distribution(self.major).bin).args(arguments);
        command
    }

    /// Runs the program and takes down what it said.
    pub(crate) fn run(&self, arguments: &[&str]) -> Said {
        self.command(arguments).output().unwrap().into()
    }

    /// Runs the program, which must succeed, and reads its JSON.
    pub(crate) fn ask(&self, arguments: &[&str]) -> Value {
        let said = self.run(&[arguments, &["--json"]].concat());
        assert_eq!(said.code, 0, "{arguments:?}: {}{}", said.stdout, said.stderr);
        said.json()
    }

    /// Brings up the database alone; its status.
    pub(crate) fn up_postgres(&self) -> Value {
        self.ask(&["up", "--only", "postgres"])
    }

    /// One process of the status.
    pub(crate) fn process(&self, name: &str) -> Value {
        process(&self.run(&["status", "--json"]).json(), name)
    }

    /// Runs a statement as the owner of the database.
    pub(crate) fn sql(&self, statement: &str) -> Vec<Vec<String>> {
        let psql = Psql::find(Some(&distribution(self.major).bin)).unwrap();
        let stack = Stack::new(self.data.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(psql.query(&stack.database_url().unwrap(), statement)).unwrap()
    }

    /// Every process that works in the cluster or carries the mark of this stack.
    pub(crate) fn processes(&self) -> Vec<i32> {
        let mark = format!("OBSERVATORY_STACK={}", self.data.root().display());
        let supervisor = format!("supervise\0--data-dir\0{}\0", self.data.root().display());
        let read = |pid: i32, file: &str| {
            String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default()).into_owned()
        };
        let pids = fs::read_dir("/proc").unwrap().flatten();
        pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|&pid| {
                fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|dir| dir == self.data.cluster())
                    || read(pid, "environ").split('\0').any(|variable| variable == mark)
                    || read(pid, "cmdline").contains(&supervisor)
            })
            .collect()
    }

    /// Content of `stack.json`.
    pub(crate) fn state(&self) -> StackState {
        StackState::load(&self.data).unwrap()
    }

    /// Checks that nothing runs and nobody holds the lock.
    pub(crate) fn assert_nothing_left(&self) {
        assert_eq!(self.processes(), Vec::<i32>::new());
        assert_eq!(StackLock::holder(&self.data).unwrap(), None);
        assert!(!self.data.cluster().join("postmaster.pid").exists());
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let ended = self.command(&["down"]).output();
        let left = self.processes();
        left.iter().for_each(|&pid| kill_hard(pid));
        if !std::thread::panicking() {
            assert!(ended.is_ok_and(|output| output.status.success()), "down failed");
            assert_eq!(left, Vec::<i32>::new(), "processes were left");
        }
    }
}

/// One process of a status.
pub(crate) fn process(status: &Value, name: &str) -> Value {
    let processes = status["processes"].as_array().unwrap();
    processes.iter().find(|process| process["name"] == name).cloned().unwrap_or(Value::Null)
}

/// The number in a JSON value.
pub(crate) fn pid(value: &Value) -> i32 {
    i32::try_from(value.as_i64().unwrap_or_else(|| panic!("no pid in {value}"))).unwrap()
}

/// kill -9.
pub(crate) fn kill_hard(pid: i32) {
    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
}

/// Stops a process without ending it; whether it was still there.
pub(crate) fn freeze(pid: i32) -> bool {
    match kill(Pid::from_raw(pid), Signal::SIGSTOP) {
        Ok(()) => true,
        Err(Errno::ESRCH) => false,
        Err(why) => panic!("process {pid} cannot be stopped: {why}"),
    }
}

/// Looks again and again until `look` finds something.
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
