//! The simulated portals of the demo, and the clock that lets a week pass.
//!
//! The simulator is a child process that ends with the value.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::local::DataDir;

/// The program that serves the portals.
pub(super) const SIMULATOR: &str = "portal-simulator";
/// Time of the second visit: a week after the initial time of the simulator's clock.
const SECOND_VISIT: &str = "2026-11-27T20:00:00Z";

/// The running simulator, which ends when this is dropped.
pub(super) struct Portals {
    address: String,
    truth: PathBuf,
    _process: tokio::process::Child,
}

impl Portals {
    /// Starts the simulator and waits until it is ready.
    ///
    /// # Errors
    /// If it cannot be started or exits; names its log.
    pub(super) async fn serve(simulator: &Path, data: &DataDir, ads: u32, seed: u64) -> anyhow::Result<Self> {
        data.create()?;
        let announcement = data.announce(SIMULATOR);
        let truth = data.root().join("served.jsonl");
        let log = std::fs::File::create(data.log(SIMULATOR)).context("cannot write the simulator's log")?;
        let mut command = tokio::process::Command::new(simulator);
        // Port 0, so that two demos on a machine do not collide; the announcement names the port.
        command.args(["serve", "--written", "--listen", "127.0.0.1:0", "--announce-file"]).arg(&announcement);
        command.args(["--seed", &seed.to_string(), "--ads", &ads.to_string(), "--truth"]).arg(&truth);
        // The demo may end at any error; the simulator must not outlive it.
        command.stdin(std::process::Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
        let mut process = command.spawn().with_context(|| format!("cannot run {}", simulator.display()))?;
        // Together the 10 s of the message below.
        for _ in 0..200 {
            // It appears whole, by a rename, but not at once.
            let read = std::fs::read_to_string(&announcement).ok();
            let told: Option<Value> = read.and_then(|text| serde_json::from_str(&text).ok());
            if let Some(address) = told.as_ref().and_then(|told| told["http"].as_str()) {
                return Ok(Self { address: address.to_owned(), truth, _process: process });
            }
            if let Some(ended) = process.try_wait()? {
                bail!("{} exited with {ended}; see {}", simulator.display(), data.log(SIMULATOR).display());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("{} was not ready within 10 s", simulator.display())
    }

    /// Host and port of the portals.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// File with the advertisements of the first visit and their marks, one per line.
    pub(super) fn truth(&self) -> &Path {
        &self.truth
    }

    /// Configuration of the stack: the scraper visits these portals instead of the real ones,
    /// without pauses, and the reporter states that the advertisements are invented.
    pub(super) fn settings(&self) -> String {
        format!(
            "[modules.scraper]\nenabled = true\n\n[modules.scraper.settings]\n\
             base_url = \"http://{}/{{portal}}/{{country}}\"\ndelay = 0.0\nreread = true\n\n\
             [modules.reporter]\nenabled = true\n\n[modules.reporter.settings]\ninvented = true\n",
            self.address
        )
    }

    /// Advances the clock by a week: some advertisements disappear, some are edited, others are new
    /// or reappear under another id.
    ///
    /// # Errors
    /// If the simulator does not answer.
    pub(super) async fn let_a_week_pass(&self) -> anyhow::Result<()> {
        self.post("clock", SECOND_VISIT).await?;
        self.post("wave", "2").await
    }

    async fn post(&self, call: &str, body: &str) -> anyhow::Result<()> {
        let request = format!(
            "POST /_simulator/{call} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        );
        let answer = self.exchange(&request).await;
        let answer = answer.with_context(|| format!("the simulator at {} does not answer", self.address))?;
        let first = answer.lines().next().unwrap_or_default();
        ensure!(first.contains(" 200 "), "the simulator refused {call} {body}: {first}");
        Ok(())
    }

    /// Sends a request and reads the response until the simulator closes the connection.
    async fn exchange(&self, request: &str) -> io::Result<String> {
        // By hand: two requests do not justify an HTTP client outside of `models`, its owner in
        // `tests/tests/tidy/owners.rs`. The request asks for `connection: close`, so the response
        // ends with the stream.
        let mut stream = tokio::net::TcpStream::connect(&self.address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }
}
