//! A server that keeps the contract between the supervisor and its children, and does nothing
//! else: it announces its addresses, answers health checks and drains on SIGTERM. The tests of the
//! supervisor put it where the real servers lie; files next to it set how it behaves:
//! `migrate-fails` lets the migration fail, `NAME-fails` ends the server NAME at its start.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_stream::wrappers::TcpListenerStream;

#[derive(Parser)]
#[command(version)]
struct Arguments {
    role: Option<String>,
    #[arg(long)]
    listen: Option<SocketAddr>,
    #[arg(long)]
    announce_file: Option<PathBuf>,
    #[arg(long)]
    models_dir: Option<PathBuf>,
    #[arg(long, env = "DATABASE_URL")]
    database_url: Option<String>,
    #[arg(long, env = "OBSERVATORY_INFERENCE")]
    inference: Option<String>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let program = PathBuf::from(std::env::args_os().next().context("no name")?);
    // Where the tests put the files, also when the programs are started from elsewhere.
    let named = std::env::var_os("OBSERVATORY_BIN_DIR").map(PathBuf::from);
    let dir = named.or_else(|| program.parent().map(PathBuf::from)).context("no directory")?;
    let name = program.file_name().context("no name")?.to_string_lossy().into_owned();
    match arguments.role.as_deref() {
        Some("migrate") => {
            anyhow::ensure!(!dir.join("migrate-fails").exists(), "this migration was told to fail");
            anyhow::ensure!(arguments.database_url.is_some(), "no database to migrate");
            return Ok(());
        }
        Some(_) => {
            arguments.database_url.context("no database")?;
            arguments.inference.context("no inference server")?;
        }
        None => drop(arguments.models_dir.context("no model store")?),
    }
    anyhow::ensure!(!dir.join(format!("{name}-fails")).exists(), "{name} was told to fail");
    let listener = TcpListener::bind(arguments.listen.context("no address")?).await?;
    let announcement = serde_json::json!({
        "grpc": listener.local_addr()?, "metrics": null, "pid": std::process::id(),
    });
    let announce = arguments.announce_file.context("no announce file")?;
    std::fs::write(announce.with_extension("new"), announcement.to_string())?;
    std::fs::rename(announce.with_extension("new"), announce)?;
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_service_status("ready", tonic_health::ServingStatus::Serving).await;
    let mut terminate = signal(SignalKind::terminate())?;
    tonic::transport::Server::builder()
        .add_service(health)
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), async move {
            terminate.recv().await;
        })
        .await?;
    Ok(())
}
