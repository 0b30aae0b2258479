//! Items that the tests of this package use.
//!
//! Not an interface: each item is here because some test under `tests/` needs it.

pub use crate::client::{Client, ClientOptions};
pub use crate::local::postgres::{Cluster, ClusterConfig, ConnectionUrl, Distribution, Psql, Search};
pub use crate::local::process::ProcessId;
pub use crate::local::state::{StackLock, StackState};
pub use crate::local::{DataDir, Stack};
pub use crate::models::{
    HubOptions, Pulled, Record, Request, RetryPolicy, Secret, Source, is_not_found, pull, stored,
};
