//! The ports of the process: binding, TLS, and the file that announces them.
//!
//! Nothing is served here; errors name the flag at fault.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use observatory_server::connections::Port;
use observatory_server::tls::Protocol;
use observatory_server::watched::Watched;
use rustls::ServerConfig;
use tokio::net::TcpListener;

use super::Server;
use crate::config::Config;
use crate::http::openai;
use crate::service::Service;
use crate::service::access::Access;

/// The bound port of OpenAI's API and what is served there.
pub(super) struct HttpPort {
    pub(super) listener: TcpListener,
    pub(super) port: Port,
    pub(super) router: axum::Router,
}

impl HttpPort {
    /// Binds the port, if one is configured.
    ///
    /// # Errors
    /// If it cannot be bound or its certificate cannot be read.
    pub(super) async fn open(config: &Config, service: Service, access: &Access) -> Result<Option<Self>> {
        let Some(address) = config.http_listen else { return Ok(None) };
        let listener = listen(address, "--http-listen").await?;
        let (room, patience) = (config.connections.serving, config.patience);
        // HTTP/1.1 is expected as well: OpenAI's clients speak it.
        let port = Port { room, tls: tls(config, Protocol::Http)?, is_http2: false, patience };
        let router = openai::router(service, access.clone(), patience);
        Ok(Some(Self { listener, port, router }))
    }

    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.listener.local_addr().ok()
    }
}

pub(super) async fn listen(address: SocketAddr, flag: &str) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("{flag} {address}"))
}

/// TLS for a port of this protocol, if certificates are configured; they are watched for changes.
pub(super) fn tls(config: &Config, protocol: Protocol) -> Result<Option<Arc<Watched<ServerConfig>>>> {
    config.tls.as_ref().map(|files| files.watched(protocol)).transpose()
}

/// Writes the bound addresses to the announce file, if there is one.
pub(super) fn announce(server: &Server) -> Result<()> {
    let Some(file) = &server.announce_file else { return Ok(()) };
    write_addresses(file, server).with_context(|| format!("--announce-file {}", file.display()))
}

fn write_addresses(file: &Path, server: &Server) -> Result<()> {
    let pid = std::process::id();
    let mut text = serde_json::json!({
        "grpc": server.grpc_addr()?.to_string(), "metrics": server.metrics_addr()?.to_string(), "pid": pid
    });
    if let Some(http) = server.http_addr() {
        text["http"] = http.to_string().into();
    }
    // Renamed into place: a process that waits for the file must never read half of it.
    let temporary = file.with_extension(format!("{pid}.tmp"));
    std::fs::write(&temporary, format!("{text}\n"))?;
    std::fs::rename(&temporary, file)?;
    Ok(())
}
