//! The embedded PostgreSQL: where its binaries come from, one cluster of it, and questions to it.

mod cluster;
mod conninfo;
mod distribution;
mod probe;
mod psql;
mod settings;
pub mod wheel;

pub use cluster::{Cluster, ClusterConfig, Postmaster};
pub(crate) use cluster::{end_server, pinned_major, postmaster_of};
pub use conninfo::ConnectionUrl;
pub use distribution::{Distribution, PG_BIN_ENV, Search, Source, WHEELS_ENV, wheel_folders};
pub use probe::{Answer, probe};
pub use psql::{Psql, ServerVersions, check_versions};
pub(crate) use settings::memory;
pub use wheel::{Pin, pinned, wheel_files};

/// Oldest and newest PostgreSQL major version that is supported.
pub const MAJORS: std::ops::RangeInclusive<u32> = 16..=18;

/// The major version of a new cluster.
pub const DEFAULT_MAJOR: u32 = 18;

/// Oldest supported pgvector, as (major, minor).
pub const MIN_VECTOR: (u32, u32) = (0, 8);

/// Database and superuser of the embedded server.
pub const DATABASE: &str = "observatory";
