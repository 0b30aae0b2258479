//! Flags about callers: TLS, who they are, and how many at a time.
//!
//! Hides how flags, the clients file and the address of the listener combine into one [`Entrance`].
//! Unknown callers get rights on a loopback address only, unless a flag says what they may do.

use std::{net::SocketAddr, path::PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;
use observatory_server::{
    access::parse_digest,
    connections::{Patience, Port, Room},
    tls::{self, Protocol},
};

use crate::api::{
    Entrance,
    access::{Access, Rights, Scope},
};

/// The value of `--anonymous` that lets nobody in.
const NONE: &str = "none";

/// Flags as they are given.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// Certificate chain in PEM: the gRPC port speaks TLS. Read again when it changes, as are the
    /// two below
    #[arg(long, env = "OBSERVATORY_TLS_CERT", value_name = "FILE", requires = "tls_key", global = true)]
    tls_cert: Option<PathBuf>,
    /// Private key of --tls-cert in PEM
    #[arg(long, env = "OBSERVATORY_TLS_KEY", value_name = "FILE", requires = "tls_cert", global = true)]
    tls_key: Option<PathBuf>,
    /// Roots in PEM that must have signed the certificate every client has to show
    #[arg(
        long,
        env = "OBSERVATORY_TLS_CLIENT_CA",
        value_name = "FILE",
        requires = "tls_cert",
        global = true
    )]
    tls_client_ca: Option<PathBuf>,
    /// TOML with a table for each client that may call: token_sha256 or certificate_sha256, scopes
    /// (of read, import, run, admin), calls_per_minute. Read again when it changes
    #[arg(long, env = "OBSERVATORY_CLIENTS_FILE", value_name = "FILE", global = true)]
    clients_file: Option<PathBuf>,
    /// SHA-256 of a bearer token, hexadecimal, with the scope admin, which is every scope
    #[arg(long, env = "OBSERVATORY_ADMIN_TOKEN_SHA256", value_name = "HEX", global = true)]
    admin_token_sha256: Option<String>,
    /// Scopes of callers who show neither token nor certificate, or none [default: none where a
    /// client or an admin token is known; else read,import,run on a loopback address, and a start
    /// is refused on others]
    #[arg(long, env = "OBSERVATORY_ANONYMOUS", value_name = "SCOPES", value_delimiter = ',', global = true)]
    anonymous: Vec<String>,
    /// Connections of the gRPC port at most: what the limit of open files leaves by default. Where
    /// one more comes, the one that was silent for longest is closed
    #[arg(long, env = "OBSERVATORY_MAX_CONNECTIONS", value_name = "COUNT", global = true)]
    max_connections: Option<usize>,
    /// Calls under way at most, a quarter of them calls that last; health is outside of the limit
    #[arg(long, env = "OBSERVATORY_MAX_CALLS", value_name = "COUNT", default_value_t = 256, global = true)]
    max_calls: usize,
}

impl Options {
    /// The entrance for callers at `listen`; certificates and the clients file are read.
    ///
    /// # Errors
    /// Names the flag, its value and what is allowed, or the file at fault.
    pub(crate) fn entrance(&self, listen: SocketAddr) -> Result<Entrance> {
        ensure!(self.max_calls > 0, "--max-calls is 0, it must be positive");
        ensure!(self.max_connections != Some(0), "--max-connections is 0, it must be positive");
        // A variable that is set to nothing counts as absent, as Compose files leave one out.
        let operator = self.admin_token_sha256.as_deref().filter(|digest| !digest.trim().is_empty());
        let operator = operator.map(parse_digest).transpose().context("--admin-token-sha256")?;
        let is_known = operator.is_some() || self.clients_file.is_some();
        let anonymous = anonymous(&self.anonymous, is_known, listen)?;
        let access = Access::new(self.clients_file.as_deref(), operator, anonymous)?;
        let (room, patience) = (Room::new(self.max_connections, 1)?, Patience::default());
        let tls = self.tls().map(|files| files.watched(Protocol::Grpc)).transpose()?;
        let port = Port { room: room.serving, tls, is_http2: true, patience };
        // Probes of Kubernetes and Prometheus know neither our certificates nor tokens.
        let probes = Port { room: room.probes, tls: None, is_http2: false, patience };
        Ok(Entrance::new(port, probes, access, self.max_calls))
    }

    fn tls(&self) -> Option<tls::Files> {
        let (certificate, key) = self.tls_cert.clone().zip(self.tls_key.clone())?;
        Some(tls::Files { certificate, key, client_ca: self.tls_client_ca.clone() })
    }
}

/// Rights of callers who show nothing.
fn anonymous(asked: &[String], is_known: bool, listen: SocketAddr) -> Result<Option<Rights>> {
    let asked: Vec<&str> = asked.iter().map(|name| name.trim()).filter(|name| !name.is_empty()).collect();
    match asked.as_slice() {
        // An operator who names callers wants no others.
        [] if is_known => Ok(None),
        [] => {
            ensure!(
                listen.ip().is_loopback(),
                "--listen {listen} is open to other machines and no caller is known: name those who may call by \
                 --clients-file or --admin-token-sha256, or say by --anonymous SCOPES what everybody may do"
            );
            // Not admin: every user of this machine reaches a loopback address.
            Ok(Some(Rights::to([Scope::Read, Scope::Import, Scope::Run])))
        }
        [NONE] => Ok(None),
        names => {
            let scopes: Result<Vec<Scope>, String> = names.iter().map(|name| name.parse()).collect();
            let scopes = scopes.map_err(|unknown| anyhow::anyhow!("--anonymous: {unknown}, or {NONE}"))?;
            Ok(Some(Rights::to(scopes)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anonymous_callers_have_what_is_said() {
        let check = |asked: &[&str], is_known, listen: &str, expected: Result<&str, &str>| {
            let asked: Vec<String> = asked.iter().map(ToString::to_string).collect();
            let found = anonymous(&asked, is_known, listen.parse().unwrap());
            let found = found.map(|rights| rights.map_or("nothing".to_owned(), |rights| rights.to_string()));
            match expected {
                Ok(scopes) => assert_eq!(found.unwrap(), scopes, "{asked:?}"),
                Err(part) => {
                    let error = found.unwrap_err().to_string();
                    assert!(error.contains(part), "no {part:?} in {error}");
                }
            }
        };
        let (near, far) = ("127.0.0.1:7401", "0.0.0.0:7401");
        check(&[], false, near, Ok("read, import, run"));
        check(&[], false, "[::1]:7401", Ok("read, import, run"));
        check(&[], false, far, Err("open to other machines and no caller is known"));
        check(&[], true, far, Ok("nothing"));
        check(&[], true, near, Ok("nothing"));
        check(&["none"], false, near, Ok("nothing"));
        check(&["read"], true, far, Ok("read"));
        check(&["read", "run"], false, far, Ok("read, run"));
        check(&["rad"], false, near, Err("unknown scope `rad`; known are read, import, run, admin, or none"));
    }
}
