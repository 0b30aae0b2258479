//! The embedded PostgreSQL: its binaries, its cluster, and queries through `psql`.
//!
//! Hides the wheel it comes from; promises a supported version with pgvector.

mod cluster;
mod conninfo;
mod distribution;
mod postmaster;
mod probe;
mod psql;
mod settings;
pub(crate) mod wheel;

pub(crate) use cluster::pinned_major;
pub use cluster::{Cluster, ClusterConfig};
pub use conninfo::ConnectionUrl;
pub use distribution::{Distribution, Search};
pub(crate) use distribution::{PG_BIN_ENV, Source, wheel_folders};
pub(crate) use postmaster::{Postmaster, end_server, postmaster_of};
pub(crate) use probe::{Answer, probe};
pub use psql::Psql;
pub(crate) use psql::check_versions;
pub(crate) use settings::memory;
pub(crate) use wheel::{Pin, pinned, wheel_files};

/// Supported PostgreSQL major versions: those that `docs/configuration.md` promises.
pub(crate) const MAJORS: std::ops::RangeInclusive<u32> = 16..=18;

/// The major version of a new cluster: the newest in the pinned wheel.
pub(crate) const DEFAULT_MAJOR: u32 = 18;

/// Oldest supported pgvector as (major, minor): the first with iterative index scans (its
/// changelog, 0.8.0).
pub(crate) const MIN_VECTOR: (u32, u32) = (0, 8);

/// Name of the database and the superuser of the embedded server.
pub(crate) const DATABASE: &str = "observatory";
