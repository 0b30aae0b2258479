//! The embedded Postgres as a unit of the supervisor.
//!
//! Publishes the URL of the database whenever it changes.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::watch;

use super::hang::HangPolicy;
use super::keep::{Live, Unit};
use crate::local::paths::{DataDir, write_atomically};
use crate::local::postgres::{Answer, Cluster, ConnectionUrl, DATABASE, Postmaster, probe};
use crate::local::process::ProcessId;
use crate::local::state::{DatabaseState, POSTGRES, SharedState};

/// The embedded server as a unit.
pub(super) struct EmbeddedPostgres {
    data: DataDir,
    cluster: Cluster,
    shared: SharedState,
    url: watch::Sender<Option<ConnectionUrl>>,
    hang_policy: HangPolicy,
}

impl EmbeddedPostgres {
    /// Runs the server of `cluster` and publishes its URL to `url`.
    pub(super) fn new(
        data: DataDir,
        cluster: Cluster,
        shared: SharedState,
        url: watch::Sender<Option<ConnectionUrl>>,
        hang_policy: HangPolicy,
    ) -> Self {
        Self { data, cluster, shared, url, hang_policy }
    }
}

impl Unit for EmbeddedPostgres {
    type Live = Postmaster;

    fn name(&self) -> &'static str {
        POSTGRES
    }

    async fn start(&mut self) -> anyhow::Result<Postmaster> {
        let server = self.cluster.start(self.shared.port(POSTGRES)).await?;
        let url = server.connection_url().clone();
        write_url(&self.data, &url)?;
        let distribution = self.cluster.config().distribution.clone();
        self.shared.update(|state| {
            state.database = Some(DatabaseState { url: url.to_string(), embedded: Some(distribution) });
        });
        // Only a change may wake the pipeline, which restarts when it is woken.
        self.url.send_if_modified(|known| {
            let moved = known.as_ref() != Some(&url);
            *known = Some(url);
            moved
        });
        Ok(server)
    }

    async fn ended(&mut self, live: &mut Postmaster) -> anyhow::Result<String> {
        live.wait().await
    }

    fn hang_policy(&self) -> HangPolicy {
        self.hang_policy
    }

    async fn answers(address: SocketAddr, limit: Duration) -> Result<(), String> {
        match probe(address, DATABASE, limit).await {
            // A server that recovers or shuts down says so, which is a response.
            Answer::Accepting | Answer::Refusing(_) => Ok(()),
            Answer::Silent => Err(format!("no response within {} ms", limit.as_millis())),
        }
    }

    async fn kill(&mut self, live: Postmaster) -> anyhow::Result<()> {
        live.kill().await
    }

    async fn stop(&mut self, live: Postmaster) -> anyhow::Result<()> {
        live.stop().await
    }
}

impl Live for Postmaster {
    fn process(&self) -> ProcessId {
        self.id().clone()
    }

    fn address(&self) -> SocketAddr {
        Postmaster::address(self)
    }

    fn metrics(&self) -> Option<SocketAddr> {
        None
    }
}

/// Writes the URL, including the password, to a file that only its owner can read.
pub(super) fn write_url(data: &DataDir, url: &ConnectionUrl) -> anyhow::Result<()> {
    write_atomically(&data.secrets().join("database-url"), url.expose().as_bytes(), 0o600)
}
