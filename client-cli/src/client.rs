//! Connections to the services, which start the local stack if none is running.
//!
//! Promises errors for people: the address or flag to check, and a hint that fits the gRPC code.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
pub(crate) use observatory_client::Connection;
use observatory_client::{Credentials, EndpointCredentials, Flags, HandshakeError, Wanted, wanted};
use tonic::transport::Endpoint;
pub(crate) use tonic::{Code, Status};
pub(crate) use tonic::{Response, Streaming};
use tonic_types::StatusExt;

use crate::error::Hinted;
use crate::local::{DataDir, Stack, StackStatus, UpOptions, binaries, health};
use crate::output::progress;

/// Time-out for a connection. Not tuned: local services answer at once, remote ones within a few
/// round trips, and a person waits for the error.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Largest message accepted from a service: the default of the inference server's
/// `--max-response-bytes`. gRPC's own default of 4 MiB is less than a page of exported postings.
pub(crate) const MAX_MESSAGE_BYTES: usize = 64 * 1024 * 1024;

/// Addresses of the services, and the credentials for them.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Connection")]
pub struct ClientOptions {
    /// Address of the pipeline services, http://HOST:PORT or https://HOST:PORT [default: the local
    /// stack].
    #[arg(long, global = true, env = "OBSERVATORY_ENDPOINT", hide_env_values = true, value_name = "URL")]
    pub endpoint: Option<String>,
    /// Credentials for the pipeline services.
    #[command(flatten)]
    pub endpoint_credentials: EndpointCredentials,
    /// Address of the inference server, http://HOST:PORT or https://HOST:PORT [default: the local
    /// stack].
    #[arg(long, global = true, env = "OBSERVATORY_INFERENCE", hide_env_values = true, value_name = "URL")]
    pub inference: Option<String>,
    /// Credentials for the inference server.
    #[command(flatten)]
    pub credentials: Credentials,
    /// Do not start the local stack if it is not running.
    #[arg(long, global = true)]
    pub no_start: bool,
}

/// Opens connections to the services of a local or remote stack.
#[derive(Debug, Clone)]
pub struct Client {
    options: ClientOptions,
    stack: Stack,
}

impl Client {
    /// A client for the addresses in `options`, and for the local stack of `data` if there are
    /// none.
    pub fn new(options: ClientOptions, data: DataDir) -> Self {
        Self { options, stack: Stack::new(data) }
    }

    /// Connects to the pipeline services. The local stack does not use TLS, and its token is found
    /// in the data directory.
    ///
    /// # Errors
    /// If the address does not respond, the credentials are invalid, or the local stack is not
    /// running and must not or cannot be started.
    pub async fn pipeline(&self) -> anyhow::Result<Connection> {
        let credentials = Credentials::from(self.options.endpoint_credentials.clone());
        let token = self.stack.data().token(binaries::PIPELINE);
        self.connect(binaries::PIPELINE, self.options.endpoint.as_deref(), &credentials, token).await
    }

    /// Connects to the inference server, like [`Client::pipeline`].
    ///
    /// # Errors
    /// As [`Client::pipeline`].
    pub async fn inference(&self) -> anyhow::Result<Connection> {
        let token = self.stack.data().token(binaries::INFERENCE);
        let address = self.options.inference.as_deref();
        self.connect(binaries::INFERENCE, address, &self.options.credentials, token).await
    }

    async fn connect(
        &self,
        name: &str,
        address: Option<&str>,
        credentials: &Credentials,
        token: PathBuf,
    ) -> anyhow::Result<Connection> {
        let Some(address) = address else {
            let address = self.local(name).await?;
            // Certificates in the environment are for a remote server; the local one does not use
            // TLS.
            let server = credentials.without_tls().or_token_of(token).server(&address.to_string())?;
            let connected = server.tuned(with_timeouts).connect().await;
            // Without advice about flags: no flag chose this address.
            return connected.with_context(|| no_response(name, &address));
        };
        let connected = credentials.server(address)?.tuned(with_timeouts).connect().await;
        connected.map_err(|error| connect_error(name, address, credentials.flags, error))
    }

    /// Finds a local service that responds, starting the stack if necessary.
    async fn local(&self, name: &str) -> anyhow::Result<SocketAddr> {
        let status = self.stack.status().await?;
        if let Some(address) = responding_address(&status, name).await {
            return Ok(address);
        }
        if self.options.no_start {
            return Err(Hinted::error(
                format!("no {name} answers on {}", self.stack.data().root().display()),
                "start the local stack with `observatory up`",
            ));
        }
        // A stack that runs without this service answering is not started again: `up` only waits.
        if !status.is_running() {
            progress("starting the local stack");
        }
        let status =
            self.stack.up(&UpOptions::from_environment()?).await.context("cannot start the local stack")?;
        // The stack may have come up without this service, so its problem is part of the error.
        responding_address(&status, name).await.ok_or_else(|| {
            let problems: Vec<String> = status
                .processes
                .iter()
                .filter_map(|process| Some(format!("{}: {}", process.name, process.problem.as_ref()?)))
                .collect();
            Hinted::error(
                format!("the local stack is running but {name} does not answer ({})", problems.join("; ")),
                "run `observatory doctor`",
            )
        })
    }
}

/// Returns the address of a service that responds. It need not be healthy: services report missing
/// dependencies themselves, and better than a client could.
async fn responding_address(status: &StackStatus, name: &str) -> Option<SocketAddr> {
    // Without a live process the address is that of the last one, which another program may have by
    // now.
    let process = status.processes.iter().find(|process| process.name == name && process.pid.is_some())?;
    let address = process.address?;
    let silent = matches!(health::check(address, CONNECT_LIMIT).await, health::Health::Silent(_));
    (!silent).then_some(address)
}

fn with_timeouts(endpoint: Endpoint) -> Endpoint {
    endpoint
        .connect_timeout(CONNECT_LIMIT)
        .tcp_nodelay(true)
        // A call may wait for minutes; pings tell a lost machine from a busy one.
        .http2_keep_alive_interval(Duration::from_secs(10))
        .keep_alive_timeout(Duration::from_secs(5))
        .keep_alive_while_idle(true)
}

fn no_response(name: &str, address: &dyn std::fmt::Display) -> String {
    format!("no {name} answers at {address}")
}

/// Explains a failed connection. A failed handshake has an explanation of its own; otherwise the
/// address is the first suspect.
fn connect_error(name: &str, address: &str, flags: Flags, error: tonic::transport::Error) -> anyhow::Error {
    let no_response = no_response(name, &address);
    let advice = wanted(&error).map(|wanted| wanted.advice(flags));
    let error = anyhow::Error::from(error);
    let handshake = error.chain().find_map(|cause| cause.downcast_ref::<HandshakeError>());
    match handshake.map(ToString::to_string).or(advice) {
        Some(said) => anyhow::anyhow!(said).context(no_response),
        None => {
            let named = if name == binaries::PIPELINE {
                "--endpoint and OBSERVATORY_ENDPOINT"
            } else {
                "--inference and OBSERVATORY_INFERENCE"
            };
            let hint = format!("check {named}, or omit them to use the local stack");
            Hinted::wrap(error.context(no_response), hint)
        }
    }
}

/// Unwraps the response of a call, or explains its status with a hint.
///
/// # Errors
/// If the call failed.
pub(crate) fn answer<T>(result: Result<Response<T>, Status>) -> anyhow::Result<T> {
    match result {
        Ok(response) => Ok(response.into_inner()),
        Err(status) => Err(refusal(&status)),
    }
}

/// Converts the status of a failed call to an error for people.
pub(crate) fn refusal(status: &Status) -> anyhow::Error {
    let message = match (wanted(status), status.message()) {
        (Some(wanted), _) => return anyhow::anyhow!(advice(wanted, status)),
        // The texts of hyper and tonic for a connection that was closed during a call. The TLS
        // alert with the reason may arrive too late to be part of it.
        (None, "operation was canceled" | "transport error") => {
            return Hinted::error(
                "the connection was closed before the response arrived",
                "check `observatory status` and try again; a server started with --tls-client-ca also closes \
                 connections without a client certificate it accepts, see --endpoint-cert and --inference-cert",
            );
        }
        (None, "") => format!("the service responded with {:?}", status.code()),
        (None, message) => message.to_owned(),
    };
    match hint(status) {
        Some(hint) => Hinted::error(message, hint),
        None => anyhow::anyhow!(message),
    }
}

/// Advice for a code that users can do something about.
fn hint(status: &Status) -> Option<String> {
    match status.code() {
        Code::Unavailable => {
            Some("check `observatory status` and `observatory doctor`, then try again".to_owned())
        }
        Code::ResourceExhausted => Some("the service is busy; try again later".to_owned()),
        Code::Unauthenticated => {
            let flags = flags(status);
            let (token, pair) = (flags.of("token-file"), flags.pair());
            Some(format!(
                "pass a token with {token} or a certificate with {pair}; the server accepts those in its clients file"
            ))
        }
        Code::PermissionDenied if flags(status) == Flags::ENDPOINT => Some(
            "the server's clients file sets the `scopes` of a client; the token of its --admin-token-sha256 has all of \
             them"
                .to_owned(),
        ),
        Code::PermissionDenied => Some(
            "`admin = true` in the server's clients file grants the admin scope, as does the token of its \
             --admin-token-sha256"
                .to_owned(),
        ),
        _ => None,
    }
}

/// The flags for the server that returned the status.
fn flags(status: &Status) -> Flags {
    let info = status.get_details_error_info();
    let is_inference = info.is_some_and(|info| info.domain.starts_with("inference."));
    if is_inference { Flags::INFERENCE } else { Flags::ENDPOINT }
}

/// Advice about client certificates. The status does not tell which server closed the connection,
/// so the flags of both are named.
fn advice(wanted: Wanted, status: &Status) -> String {
    let advice = wanted.advice(flags(status));
    format!("{advice} ({} for the inference server)", Flags::INFERENCE.pair())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(endpoint: Option<&str>, dir: &tempfile::TempDir) -> Client {
        let options = ClientOptions {
            endpoint: endpoint.map(str::to_owned),
            no_start: true,
            ..ClientOptions::default()
        };
        Client::new(options, DataDir::new(dir.path()).unwrap())
    }

    #[tokio::test]
    async fn what_does_not_answer_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let port = crate::local::ports::choose(None).unwrap();
        let endpoint = format!("127.0.0.1:{port}");
        let error = client(Some(&endpoint), &dir).pipeline().await.unwrap_err();
        assert!(
            error.to_string().starts_with(&format!("no pipeline-services answers at {endpoint}")),
            "{error}"
        );
        let error = client(Some("http://a b"), &dir).pipeline().await.unwrap_err();
        assert!(format!("{error:#}").contains("invalid address `http://a b`"), "{error:#}");
        let error = client(None, &dir).pipeline().await.unwrap_err();
        assert_eq!(crate::error::hint_of(&error), Some("start the local stack with `observatory up`"));
    }

    #[tokio::test]
    async fn credentials_at_fault_are_named_before_anything_is_asked() {
        let dir = tempfile::tempdir().unwrap();
        let check = async |address: &str, credentials: Credentials, expected: &str| {
            let options = ClientOptions {
                inference: Some(address.to_owned()),
                credentials,
                no_start: true,
                ..ClientOptions::default()
            };
            let client = Client::new(options, DataDir::new(dir.path()).unwrap());
            let error = format!("{:#}", client.inference().await.unwrap_err());
            assert!(error.contains(expected), "no {expected:?} in {error:?}");
        };
        let token = Credentials { token: Some("hush".to_owned().into()), ..Credentials::default() };
        check("http://192.0.2.1:1", token, "would be sent to 192.0.2.1 unencrypted; use https://").await;
        let ca = Credentials { ca: Some("/absent.pem".into()), ..Credentials::default() };
        check("https://192.0.2.1:1", ca.clone(), "cannot read --inference-ca /absent.pem: No such file")
            .await;
        check("192.0.2.1:1", ca, "require an https:// address, not 192.0.2.1:1").await;
    }
}
