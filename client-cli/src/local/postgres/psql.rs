//! Queries to a server through `psql`.
//!
//! `psql` understands every form of URL and TLS; passwords and statements stay out of its command
//! line, which every user of the machine can read.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::Context;
use serde::Serialize;

use super::distribution::vector_supported;
use super::{ConnectionUrl, MAJORS};
use crate::error::Hinted;

/// The ASCII unit separator, which no queried value contains.
const SEPARATOR: &str = "\x1f";

/// The `psql` program.
#[derive(Debug, Clone)]
pub struct Psql {
    program: PathBuf,
}

impl Psql {
    /// Finds `psql` in `bin`, or else on the `PATH`.
    pub fn find(bin: Option<&Path>) -> Option<Self> {
        let on_path = std::env::var_os("PATH").unwrap_or_default();
        bin.map(Path::to_owned)
            .into_iter()
            .chain(std::env::split_paths(&on_path))
            .map(|dir| dir.join("psql"))
            .find(|program| program.is_file())
            .map(|program| Self { program })
    }

    /// Runs one statement and returns its rows as text; NULL is an empty string.
    ///
    /// # Errors
    /// If the server cannot be reached within ten seconds, or refuses; includes its message.
    pub async fn query(&self, url: &ConnectionUrl, sql: &str) -> anyhow::Result<Vec<Vec<String>>> {
        let mut command = self.command(url);
        // On the command line, unlike in `run`, since queries contain no secrets.
        command.args(["--field-separator", SEPARATOR, "--command", sql]).stdin(Stdio::null());
        let output = self.finish(url, command.output()).await?;
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(text.lines().map(|line| line.split(SEPARATOR).map(str::to_owned).collect()).collect())
    }

    /// Runs statements in one transaction. They are passed by stdin, because everybody on the
    /// machine can read the command line.
    ///
    /// # Errors
    /// As [`Psql::query`].
    pub async fn run(&self, url: &ConnectionUrl, sql: &str) -> anyhow::Result<()> {
        let mut command = self.command(url);
        command.args(["--single-transaction", "--file", "-"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot run {}", self.program.display()))?;
        // Taken out of the child, so that it is closed after the write: psql reads until the end.
        if let Some(mut stdin) = child.stdin.take() {
            // A psql that exits before reading explains itself on stderr.
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stdin, sql.as_bytes()).await;
        }
        self.finish(url, child.wait_with_output()).await.map(drop)
    }

    fn command(&self, url: &ConnectionUrl) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(&self.program);
        command
            // A .psqlrc may change the format of the output, and nobody is there to type a
            // password.
            .args(["--no-psqlrc", "--no-align", "--tuples-only", "--quiet", "--no-password"])
            .args(["--set", "ON_ERROR_STOP=1", "--dbname", url.without_password()])
            // Below the limit of `finish`, so that psql itself says what did not answer.
            .env("PGCONNECT_TIMEOUT", "5")
            .kill_on_drop(true);
        // The environment of a process can be read by its own user only.
        if let Some(password) = url.password() {
            command.env("PGPASSWORD", password);
        }
        command
    }

    /// Waits until `psql` exits and checks its status.
    async fn finish(
        &self,
        url: &ConnectionUrl,
        ended: impl Future<Output = std::io::Result<Output>>,
    ) -> anyhow::Result<Output> {
        // Not tuned: a person waits for `status` and `doctor`.
        let output = tokio::time::timeout(Duration::from_secs(10), ended)
            .await
            .with_context(|| format!("no response from {url} within 10 s"))?
            .with_context(|| format!("cannot run {}", self.program.display()))?;
        if !output.status.success() {
            // The first line is the error itself; psql adds hints and positions.
            let said = String::from_utf8_lossy(&output.stderr);
            anyhow::bail!("{url}: {}", said.lines().next().unwrap_or("psql failed").trim());
        }
        Ok(output)
    }

    /// Queries the versions of the server and pgvector.
    ///
    /// # Errors
    /// As [`Psql::query`].
    pub async fn versions(&self, url: &ConnectionUrl) -> anyhow::Result<ServerVersions> {
        let rows = self
            .query(
                url,
                "select current_setting('server_version_num'), current_setting('server_version'), \
                 (select default_version from pg_available_extensions where name = 'vector'), \
                 (select extversion from pg_extension where extname = 'vector')",
            )
            .await?;
        let row = rows.into_iter().next().unwrap_or_default();
        let [number, server, available, installed] =
            row.try_into().ok().context("the server returned no version number")?;
        let number: u32 = number.parse().context("the server returned no version number")?;
        Ok(ServerVersions {
            // 180004 is 18.4 (PostgreSQL documentation, `server_version_num`).
            major: number / 10_000,
            server,
            vector_available: non_null(available),
            vector_installed: non_null(installed),
        })
    }
}

/// A value of a row, which is empty for NULL.
fn non_null(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

/// Versions of a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServerVersions {
    /// Major version.
    pub major: u32,
    /// Full version, such as `18.4`.
    pub server: String,
    /// pgvector that can be installed in this database.
    pub vector_available: Option<String>,
    /// pgvector that is installed in this database.
    pub vector_installed: Option<String>,
}

/// Checks that a server is supported.
///
/// # Errors
/// Names the unsupported version and the required one.
pub(crate) fn check_versions(versions: &ServerVersions) -> anyhow::Result<()> {
    if !MAJORS.contains(&versions.major) {
        return Err(Hinted::error(
            format!("unsupported PostgreSQL {} on the database server", versions.server),
            format!("use PostgreSQL {} to {}", MAJORS.start(), MAJORS.end()),
        ));
    }
    match versions.vector_installed.as_ref().or(versions.vector_available.as_ref()) {
        None => Err(Hinted::error(
            format!("the PostgreSQL {} server has no pgvector", versions.server),
            format!(
                "install pgvector 0.8 or later on the database server (Debian, Ubuntu: apt-get install \
                 postgresql-{}-pgvector)",
                versions.major
            ),
        )),
        Some(version) if !vector_supported(version) => Err(Hinted::error(
            format!("unsupported pgvector {version} on the database server"),
            "install pgvector 0.8 or later and run `alter extension vector update`",
        )),
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_judged() {
        let check =
            |major: u32, available: Option<&str>, installed: Option<&str>, expected: Result<(), &str>| {
                let versions = ServerVersions {
                    major,
                    server: format!("{major}.1"),
                    vector_available: available.map(str::to_owned),
                    vector_installed: installed.map(str::to_owned),
                };
                let found = check_versions(&versions).map_err(|error| error.to_string());
                assert_eq!(found, expected.map_err(str::to_owned));
            };
        check(18, Some("0.8.5"), None, Ok(()));
        check(16, Some("0.8.5"), Some("0.8.0"), Ok(()));
        check(15, Some("0.8.5"), None, Err("unsupported PostgreSQL 15.1 on the database server"));
        check(19, Some("0.8.5"), None, Err("unsupported PostgreSQL 19.1 on the database server"));
        check(17, None, None, Err("the PostgreSQL 17.1 server has no pgvector"));
        check(17, Some("0.8.5"), Some("0.5.1"), Err("unsupported pgvector 0.5.1 on the database server"));
    }
}
