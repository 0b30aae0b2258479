//! Rights and quotas of this server's clients.
//!
//! Authentication is that of `observatory-server`; the rights and the quota in tokens are this
//! server's.

use std::path::Path;

use observatory_server::access::{self, Grants};
use serde::Deserialize;

use crate::error::Error;

/// Rights of a client in the clients file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rights {
    /// Permission to load and unload models.
    #[serde(default)]
    pub admin: bool,
    /// Tokens it may have computed in a minute, all its calls together.
    #[serde(default)]
    pub tokens_per_minute: Option<u32>,
}

impl Grants for Rights {
    const QUOTA: &'static str = "tokens_per_minute";

    fn per_minute(&self) -> Option<u32> {
        self.tokens_per_minute
    }

    fn all() -> Self {
        Self { admin: true, tokens_per_minute: None }
    }
}

/// A caller.
pub(crate) type Client = access::Client<Rights>;

/// The rule for callers.
pub(crate) type Access = access::Access<Rights>;

/// The rule by a clients file and the digest of the operator's own token. Without a file everybody
/// may call; it takes a token or a certificate to administer.
///
/// # Errors
/// Names the file and the entry at fault.
pub(crate) fn rule(file: Option<&Path>, operator: Option<[u8; 32]>) -> anyhow::Result<Access> {
    Access::new(file, operator, file.is_none().then(Rights::default))
}

/// Checks that the client's quota is not exhausted.
///
/// # Errors
/// [`Error::QuotaExceeded`] with the time after which it may.
pub(crate) fn check_quota(client: &Client) -> Result<(), Error> {
    client.check().map_err(|access::Exhausted { limit, retry_after }| Error::QuotaExceeded {
        client: client.name.clone(),
        limit,
        retry_after,
    })
}

impl From<access::Unknown> for Error {
    fn from(access::Unknown { given }: access::Unknown) -> Self {
        Self::Unauthenticated { given }
    }
}
