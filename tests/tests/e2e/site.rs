//! A data directory with the real programs, gone when the test ends.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant},
};

use observatory_tests::simulator::{self, Config};
use serde_json::Value;
use sqlx::{Connection, PgConnection};

/// What a command said.
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Said {
    /// Fails the test unless the command ended as expected.
    #[track_caller]
    pub(crate) fn ended(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.stdout))
    }

    pub(crate) fn lines(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Root of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// A program of this workspace; they lie next to the folder of the test programs.
pub(crate) fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(Path::parent).unwrap().join(name);
    assert!(path.exists(), "{} is missing; run `cargo build --workspace --bins`", path.display());
    path
}

pub(crate) struct Site {
    pub(crate) dir: tempfile::TempDir,
}

impl Site {
    /// An empty directory that the database's unprivileged user may pass through.
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("obs-").tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self { dir }
    }

    /// A running stack that serves a tiny encoder.
    pub(crate) fn up() -> Self {
        Self::with("", &["tiny-e5"])
    }

    /// The same with module blocks.
    pub(crate) fn with_settings(settings: &str) -> Self {
        Self::with(settings, &["tiny-e5"])
    }

    /// A running stack with module blocks and some of the tiny models, as `tests/NAME`.
    pub(crate) fn with(settings: &str, models: &[&str]) -> Self {
        let folders: Vec<PathBuf> = models.iter().map(|model| Self::tiny_model(model)).collect();
        Self::with_folders(settings, &folders)
    }

    /// The folder of a tiny model.
    pub(crate) fn tiny_model(name: &str) -> PathBuf {
        root().join("inference-server/tests/goldens/models/golden").join(name)
    }

    /// A running stack with module blocks and the models of these folders, as `tests/NAME`.
    pub(crate) fn with_folders(settings: &str, models: &[PathBuf]) -> Self {
        let site = Self::new();
        fs::create_dir(site.data()).unwrap();
        fs::write(site.data().join("observatory.toml"), settings).unwrap();
        for from in models {
            let name = format!("tests/{}", from.file_name().unwrap().to_str().unwrap());
            site.run(&["models", "import", from.to_str().unwrap(), "--name", &name]).ended(0);
        }
        let up = ["up", "--wait-seconds", "120", "--no-model"];
        site.run(if models.is_empty() { &up } else { &up[..3] }).ended(0);
        site
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program("observatory"));
        for name in ["DATABASE_URL", "OBSERVATORY_ENDPOINT", "OBSERVATORY_INFERENCE", "OBSERVATORY_MODELS"] {
            command.env_remove(name);
        }
        let wheels =
            std::env::var_os("OBSERVATORY_WHEELS").unwrap_or_else(|| root().join("data/wheels").into());
        // What dies is noticed after seconds, not after half a minute.
        command.env("OBSERVATORY_LEASE_SECONDS", "5").env("OBSERVATORY_BACKOFF_SECONDS", "0.5");
        command.env("OBSERVATORY_DATA", self.data()).env("OBSERVATORY_WHEELS", wheels).args(arguments);
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Said {
        self.command(arguments).output().unwrap().into()
    }

    /// Writes a file into the site's directory and returns its path.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.dir.path().join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// A file of generated advertisements.
    pub(crate) fn ads(&self, count: usize) -> String {
        let config = Config { ads: Config::spread(count), ..Config::default() };
        let truth = simulator::generate(&config).unwrap();
        let mut lines = Vec::new();
        simulator::write_importable(&truth, "http://portals.example", &mut lines).unwrap();
        self.file("ads.jsonl", lines)
    }

    pub(crate) async fn database(&self) -> PgConnection {
        let url = fs::read_to_string(self.data().join("secrets/database-url")).unwrap();
        PgConnection::connect(url.trim()).await.unwrap()
    }

    /// Process id of a part of the stack.
    pub(crate) fn pid(&self, name: &str) -> Option<u32> {
        let status = self.run(&["status", "--json"]).json();
        let found = status["processes"].as_array()?.iter().find(|process| process["name"] == name)?.clone();
        found["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok())
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.run(&["down"]);
    }
}

/// Looks again and again until something is there, for a minute at most.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not happen within a minute");
        std::thread::sleep(Duration::from_millis(100));
    }
}
