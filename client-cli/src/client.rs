//! Connections to the services, starting the local stack when none answers.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use observatory_client::{Connection, Credentials, HandshakeError, wanted};
pub use tonic::Response;
pub use tonic::transport::Channel;
use tonic::transport::Endpoint;
pub use tonic::{Code, Status};

use crate::error::{Hint, Hinted};
use crate::local::privileges::RunAs;
use crate::local::{DataDir, Stack, StackStatus, UpOptions, binaries, health};
use crate::output::progress;

/// Longest wait for a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Largest message that is taken: an exported page of postings is larger than gRPC's 4 MiB.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024 * 1024;

/// How to find the services.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Connection")]
pub struct ClientOptions {
    /// Address of the pipeline services, such as http://host:port; default: the local stack.
    #[arg(long, global = true, env = "OBSERVATORY_ENDPOINT", hide_env_values = true, value_name = "URL")]
    pub endpoint: Option<String>,
    /// Address of the inference server, such as http://host:port or https://host:port; default: the local stack.
    #[arg(long, global = true, env = "OBSERVATORY_INFERENCE", hide_env_values = true, value_name = "URL")]
    pub inference: Option<String>,
    /// What is shown to the inference server, and whom to trust.
    #[command(flatten)]
    pub credentials: Credentials,
    /// Do not start the local stack when it does not run.
    #[arg(long, global = true)]
    pub no_start: bool,
}

/// Opens connections to the services of a stack, here or elsewhere.
#[derive(Clone, Debug)]
pub struct Client {
    options: ClientOptions,
    stack: Stack,
}

impl Client {
    /// A client for the endpoints of `options`, else for the local stack of `data`.
    pub fn new(options: ClientOptions, data: DataDir) -> Self {
        Self { options, stack: Stack::new(data) }
    }

    /// A connection to the pipeline services.
    ///
    /// # Errors
    /// When the named endpoint does not answer, or the local stack does not run and may not or
    /// cannot be started.
    pub async fn pipeline(&self) -> anyhow::Result<Channel> {
        let Some(endpoint) = &self.options.endpoint else {
            let address = self.local(binaries::PIPELINE).await?;
            let opened = open(&format!("http://{address}")).await;
            return opened.with_context(|| silence(binaries::PIPELINE, &address));
        };
        open(&full_url(endpoint))
            .await
            .with_context(|| silence(binaries::PIPELINE, endpoint))
            .hint("check --endpoint and OBSERVATORY_ENDPOINT, or leave them away to use the local stack")
    }

    /// A connection to the inference server that shows the credentials; one of the local stack needs no TLS.
    ///
    /// # Errors
    /// As [`Client::pipeline`], or when the credentials cannot be used.
    pub async fn inference(&self) -> anyhow::Result<Connection> {
        let credentials = &self.options.credentials;
        let Some(address) = &self.options.inference else {
            let address = self.local(binaries::INFERENCE).await?;
            let server = self.local_credentials().server(&address.to_string())?;
            let connected = server.tuned(tuned).connect().await;
            return connected.with_context(|| silence(binaries::INFERENCE, &address));
        };
        let connected = credentials.server(address)?.tuned(tuned).connect().await;
        connected.map_err(|error| unreached(address, error))
    }

    /// The data directory of the local stack, where its services are asked and write files as another user than the caller.
    ///
    /// # Errors
    /// When there is no user for the stack to run as.
    pub fn another_user_writes(&self) -> anyhow::Result<Option<&DataDir>> {
        let data = self.stack.data();
        let other = self.options.endpoint.is_none() && RunAs::for_dir(&data.cluster())? != RunAs::Caller;
        Ok(other.then_some(data))
    }

    /// Credentials for the local stack's inference server: the token that its supervisor made, where none is given.
    fn local_credentials(&self) -> Credentials {
        let mut credentials = self.options.credentials.without_tls();
        let file = self.stack.data().inference_token();
        if credentials.token.is_none() && credentials.token_file.is_none() && file.exists() {
            credentials.token_file = Some(file);
        }
        credentials
    }

    /// The address of a local service that answers.
    async fn local(&self, name: &str) -> anyhow::Result<SocketAddr> {
        let status = self.stack.status().await?;
        if let Some(address) = answering(&status, name).await {
            return Ok(address);
        }
        if self.options.no_start {
            return Err(Hinted::error(
                format!("no {name} answers on {}", self.stack.data().root().display()),
                "start the local stack with `observatory up`",
            ));
        }
        if !status.is_running() {
            progress("starting the local stack");
        }
        let status = self.stack.up(&UpOptions::usual()?).await.context("cannot start the local stack")?;
        answering(&status, name).await.ok_or_else(|| {
            let problems: Vec<String> = status
                .processes
                .iter()
                .filter_map(|process| Some(format!("{}: {}", process.name, process.problem.as_ref()?)))
                .collect();
            Hinted::error(
                format!("the local stack runs but {name} does not answer ({})", problems.join("; ")),
                "see `observatory doctor`",
            )
        })
    }
}

/// A service may be used while another is not healthy: the services say themselves what they lack.
async fn answering(status: &StackStatus, name: &str) -> Option<SocketAddr> {
    let process = status.processes.iter().find(|process| process.name == name && process.pid.is_some())?;
    let address = process.address?;
    let silent = matches!(health::check(address, CONNECT_LIMIT).await, health::Health::Silent(_));
    (!silent).then_some(address)
}

async fn open(url: &str) -> anyhow::Result<Channel> {
    let endpoint = Endpoint::try_from(url.to_owned()).with_context(|| format!("{url} is no address"))?;
    Ok(tuned(endpoint).connect().await?)
}

fn tuned(endpoint: Endpoint) -> Endpoint {
    endpoint
        .connect_timeout(CONNECT_LIMIT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(10))
        .keep_alive_timeout(Duration::from_secs(5))
        .keep_alive_while_idle(true)
}

fn silence(name: &str, address: &dyn std::fmt::Display) -> String {
    format!("no {name} answers at {address}")
}

/// A failed handshake says itself what to do; otherwise the address is the first suspect.
fn unreached(address: &str, error: tonic::transport::Error) -> anyhow::Error {
    let silence = silence(binaries::INFERENCE, &address);
    let advice = wanted(&error).map(str::to_owned);
    let error = anyhow::Error::from(error);
    let handshake = error.chain().find_map(|cause| cause.downcast_ref::<HandshakeError>());
    match handshake.map(ToString::to_string).or(advice) {
        Some(said) => anyhow::anyhow!(said).context(silence),
        None => Hinted::on(
            error.context(silence),
            "check --inference and OBSERVATORY_INFERENCE, or leave them away to use the local stack",
        ),
    }
}

/// An address with its scheme; plain `host:port` is taken for http.
fn full_url(endpoint: &str) -> String {
    if endpoint.contains("://") { endpoint.to_owned() } else { format!("http://{endpoint}") }
}

/// The answer of a call, or its refusal in one sentence with a hint where the code gives one.
///
/// # Errors
/// When the service refused.
pub fn answer<T>(result: Result<Response<T>, Status>) -> anyhow::Result<T> {
    match result {
        Ok(response) => Ok(response.into_inner()),
        Err(status) => Err(refusal(&status)),
    }
}

/// A refusal of a service as an error for people.
pub fn refusal(status: &Status) -> anyhow::Error {
    let message = match (wanted(status), status.message()) {
        (Some(wanted), _) => return anyhow::anyhow!(wanted),
        // Words of hyper and tonic for a connection that ended under a call: the alert with the reason may come too late.
        (None, "operation was canceled" | "transport error") => {
            return Hinted::error(
                "the connection ended before the answer",
                "see `observatory status`, then try again; a server with --tls-client-ca also ends it where it is shown \
                 no certificate that it accepts, see --inference-cert and --inference-key",
            );
        }
        (None, "") => format!("the service answered {:?}", status.code()),
        (None, message) => message.to_owned(),
    };
    match status.code() {
        Code::Unavailable => {
            Hinted::error(message, "see `observatory status` and `observatory doctor`, then try again")
        }
        Code::ResourceExhausted => Hinted::error(message, "the service is busy; try again later"),
        Code::Unauthenticated => Hinted::error(
            message,
            "OBSERVATORY_INFERENCE_TOKEN or --inference-token-file give the token, --inference-cert and \
             --inference-key the certificate; the server knows those in its clients file",
        ),
        Code::PermissionDenied => Hinted::error(
            message,
            "`admin = true` in the server's clients file gives the admin scope, or the token of its --admin-token-sha256",
        ),
        _ => anyhow::anyhow!(message),
    }
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

    #[test]
    fn addresses_get_a_scheme() {
        let check = |endpoint: &str, expected: &str| assert_eq!(full_url(endpoint), expected);
        check("host:1", "http://host:1");
        check("https://host:1", "https://host:1");
    }

    #[test]
    fn the_local_stacks_token_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let mut client = client(None, &dir);
        assert_eq!(client.local_credentials().token_file, None);
        let file = client.stack.data().inference_token();
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, "made").unwrap();
        assert_eq!(client.local_credentials().token_file, Some(file));
        client.options.credentials.token = Some("given".to_owned().into());
        assert_eq!(client.local_credentials().token_file, None, "what is given comes first");
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
        assert!(format!("{error:#}").contains("is no address"), "{error:#}");
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
        check("http://192.0.2.1:1", token, "would reach 192.0.2.1 unencrypted; use https://").await;
        let ca = Credentials { ca: Some("/absent.pem".into()), ..Credentials::default() };
        check("https://192.0.2.1:1", ca.clone(), "cannot read --inference-ca /absent.pem: No such file")
            .await;
        check("192.0.2.1:1", ca, "starts with https://, not for 192.0.2.1:1").await;
    }
}
